//! Settings of the receiver, with their defaults. The daemon fills them from `receivers.otlp` of its configuration.

use std::net::SocketAddr;
use std::time::Duration;

/// Settings of the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address of the gRPC port; `None` does not listen. Port 0 picks a free port.
    pub grpc: Option<SocketAddr>,
    /// Address of the HTTP port; `None` does not listen. Port 0 picks a free port.
    pub http: Option<SocketAddr>,
    /// Host names that senders may use beside `localhost` and addresses.
    pub allowed_hosts: Vec<String>,
    /// Bounds on the resources that senders can use.
    pub limits: Limits,
    /// How resources become sources.
    pub sources: SourceRules,
}

/// How resources become sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRules {
    /// Resource attributes that become labels of every series.
    pub promote_resource_attributes: Vec<String>,
    /// Time after the last point of a series, and after the last request of a source, until it expires.
    pub expire_after: Duration,
    /// The same for series with delta temporality: their totals are in the collector alone. Not shorter than `expire_after`.
    pub expire_deltas_after: Duration,
}

impl Default for SourceRules {
    fn default() -> Self {
        SourceRules {
            promote_resource_attributes: Vec::new(),
            expire_after: Duration::from_secs(300),
            expire_deltas_after: Duration::from_secs(3600),
        }
    }
}

/// Bounds on requests and connections, each with the response to what exceeds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request after decompression (413, RESOURCE_EXHAUSTED).
    pub max_request_bytes: usize,
    /// Bytes of all requests in flight (503 or RESOURCE_EXHAUSTED, with a retry delay).
    pub in_flight_bytes: usize,
    /// Connections on each port; more are closed at once. Each connection uses memory outside the other limits, up to its HTTP/2 window.
    pub connections: usize,
    /// Concurrent streams on one HTTP/2 connection.
    pub streams: u32,
    /// Time for the head of a request. On HTTP/1 it starts with the previous response, so it also ends idle connections.
    pub head_timeout: Duration,
    /// Longest pause within a body (408, DEADLINE_EXCEEDED).
    pub stall_timeout: Duration,
    /// Time for a whole body (408, DEADLINE_EXCEEDED).
    pub body_timeout: Duration,
    /// Time for requests in flight to finish when the receiver stops.
    pub stop_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            grpc: Some(([127, 0, 0, 1], 4317).into()),
            http: Some(([127, 0, 0, 1], 4318).into()),
            allowed_hosts: Vec::new(),
            limits: Limits::default(),
            sources: SourceRules::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_request_bytes: 64 << 20,
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
