//! Types that the main thread and the ingest thread exchange.

use crate::listen::stream::DetachedStream;
use dichroic_wire::Hello;
use std::net::SocketAddr;

/// A relay after its handshake on the main thread; the ingest thread serves it.
pub struct RelayConnection {
    /// The connection, registered with no runtime.
    pub stream: DetachedStream,
    /// Its HELLO.
    pub hello: Hello,
    /// Bytes read after the HELLO.
    pub read_ahead: Vec<u8>,
}

/// Largest number of relays that wait for the ingest thread.
pub const PENDING_RELAYS: usize = 64;

/// Real addresses of the OTLP listeners, after port 0 was resolved. `None`: off.
#[derive(Debug, Clone, Copy, Default)]
pub struct OtlpAddresses {
    /// `receivers.otlp.grpc`.
    pub grpc: Option<SocketAddr>,
    /// `receivers.otlp.http`.
    pub http: Option<SocketAddr>,
}
