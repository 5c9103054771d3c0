//! Limits and times of the exporter. The defaults are from the wire specification.

use std::time::Duration;

/// The exporter's settings, equal for all subscribers.
#[derive(Debug, Clone)]
pub struct Config {
    /// Program and version for HELLO.
    pub agent: String,
    /// Maximum of concurrent subscribers, of every kind and transport.
    pub subscribers: usize,
    /// Largest body that a subscriber may send, in bytes; announced in HELLO.
    pub max_frame: u32,
    /// Rows buffered for a subscriber without `buffer`.
    pub buffer_rows: usize,
    /// Bytes buffered for one subscriber, independent of `buffer`.
    pub buffer_bytes: usize,
    /// Series of one metric subscription; beyond this number it ends with a GOODBYE.
    pub series: usize,
    /// Shortest time between two scans for one metric subscription; a shorter `every_ms` is raised to this.
    pub min_every: Duration,
    /// Rows of a frame that the exporter builds.
    pub batch_rows: usize,
    /// How long rows wait for a fuller frame, for a subscriber without `within_ms`.
    pub batch_delay: Duration,
    /// Silence after which a PING is sent.
    pub ping_after: Duration,
    /// How long a subscriber may read nothing while rows are queued.
    pub stall: Duration,
    /// Time limit to write a GOODBYE and the rows before it.
    pub close_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            agent: concat!("dichroic/", env!("CARGO_PKG_VERSION")).to_owned(),
            subscribers: dichroic_wire::limits::SUBSCRIBERS,
            max_frame: dichroic_wire::limits::BODY_BYTES_DEFAULT,
            buffer_rows: 8_192,
            buffer_bytes: 16 << 20,
            series: 100_000,
            min_every: Duration::from_millis(100),
            batch_rows: 256,
            batch_delay: Duration::from_millis(5),
            ping_after: Duration::from_secs(15),
            stall: Duration::from_secs(300),
            close_timeout: Duration::from_secs(2),
        }
    }
}
