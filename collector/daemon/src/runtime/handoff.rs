//! What the ingest thread passes to the main thread.

use crate::listen::stream::Parked;
use dichroic_wire::Hello;
use std::net::SocketAddr;

/// A subscriber on its way to the export thread.
pub struct Arrival {
    pub stream: Parked,
    pub hello: Hello,
    pub leftover: Vec<u8>,
}

/// Real addresses of the OTLP listeners.
#[derive(Debug, Clone, Copy, Default)]
pub struct OtlpAddresses {
    pub grpc: Option<SocketAddr>,
    pub http: Option<SocketAddr>,
}
