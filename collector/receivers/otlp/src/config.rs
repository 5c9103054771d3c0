//! What the receiver can be told, with its defaults. The daemon fills it from `receivers.otlp` of its configuration.

use std::net::SocketAddr;
use std::time::Duration;

/// Settings of the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where gRPC is expected; `None` does not listen. Port 0 takes a free one.
    pub grpc: Option<SocketAddr>,
    /// Where HTTP is expected; `None` does not listen. Port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// Bounds on what senders may take.
    pub limits: Limits,
}

/// Bounds on requests and connections, with the answer to what is beyond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request after decompression (413, RESOURCE_EXHAUSTED).
    pub request_bytes: usize,
    /// Bytes of all requests in flight (503 or RESOURCE_EXHAUSTED, with the time to come again).
    pub in_flight_bytes: usize,
    /// Connections on each port; more are closed at once. A connection takes memory of its own, up to its HTTP/2 window.
    pub connections: usize,
    /// Streams at once on one HTTP/2 connection.
    pub streams: u32,
    /// Time for the head of a request, which on HTTP/1 begins when the last one was answered: an idle connection ends then.
    pub head_timeout: Duration,
    /// Time without a byte of a body that has begun (408, DEADLINE_EXCEEDED).
    pub stall_timeout: Duration,
    /// Time for a whole body (408, DEADLINE_EXCEEDED).
    pub body_timeout: Duration,
    /// Time that requests in flight get when the receiver stops.
    pub stop_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            grpc: Some(([127, 0, 0, 1], 4317).into()),
            http: Some(([127, 0, 0, 1], 4318).into()),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_bytes: 64 << 20,
            in_flight_bytes: 128 << 20,
            connections: 256,
            streams: 128,
            head_timeout: Duration::from_secs(90),
            stall_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(5),
        }
    }
}
