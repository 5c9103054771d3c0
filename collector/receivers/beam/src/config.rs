//! Options of the receiver: what relays extract, and their limits.

use dichroic_model::Pattern;
use dichroic_packs::Selection;
use dichroic_wire::limits;
use std::time::Duration;

/// Options of the receiver.
#[derive(Debug, Clone)]
pub struct Config {
    /// Packs, definitions and values of templates.
    pub selection: Selection,
    /// Raw events that are sent without a subscriber (`stream.retain`), so that replay has them.
    pub retain: Vec<Pattern>,
    /// Log records.
    pub logs: Logs,
    /// Time between two flushes of a relay.
    pub flush_interval: Duration,
    /// Series of one relay; ids are below it.
    pub series: u32,
    /// Bytes of a string before the relay cuts it.
    pub string: u32,
    /// Rows in flight inside a VM.
    pub credit: u32,
    /// Events per second of one relay; log records have an eighth of it in addition.
    pub max_events_per_second: u32,
    /// Seconds for which an attached relay counts without a collector. An installed one has no limit.
    pub attached_linger_s: u32,
    /// Most relays connected at a time.
    pub relays: usize,
    /// Largest body of a relay's frame, in bytes.
    pub max_frame: u32,
    /// Silence after which a relay is disconnected; at least three flushes.
    pub silence: Duration,
    /// Time to complete a started frame, and to read sent data.
    pub frame_timeout: Duration,
    /// Time for the last flush after GOODBYE.
    pub goodbye_timeout: Duration,
    /// How often subscriptions and configuration are checked for a new plan.
    pub check_every: Duration,
    /// Shortest time between two plans caused by changed variables of a relay.
    pub replan_every: Duration,
    /// Program and version, sent in HELLO.
    pub agent: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            selection: Selection::default(),
            retain: Vec::new(),
            logs: Logs::default(),
            flush_interval: Duration::from_secs(1),
            series: limits::SERIES_DEFAULT,
            string: limits::LABEL_BYTES as u32,
            credit: 20_000,
            max_events_per_second: limits::EVENTS_PER_SECOND_DEFAULT,
            attached_linger_s: 30,
            relays: limits::RELAYS,
            max_frame: limits::BODY_BYTES_DEFAULT,
            silence: Duration::from_secs(15),
            frame_timeout: limits::FRAME_TIMEOUT,
            goodbye_timeout: Duration::from_secs(2),
            check_every: Duration::from_millis(100),
            replan_every: limits::REPLAN_INTERVAL,
            agent: concat!("dichroic/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Which log records are requested while there is a subscriber for logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Sent without a subscriber, so that replay has them (`exporters.stream.retain_logs`).
    pub retain: bool,
    /// Lowest severity, 1 to 24.
    pub severity: i64,
    /// Domains of `logger`, joined by dots, whose messages are not sent.
    pub exclude_domains: Vec<String>,
    /// Metadata keys that become attributes; no other metadata leaves the node.
    pub attributes: Vec<String>,
    /// Bytes of a message before it is cut.
    pub max_body: u32,
}

impl Default for Logs {
    fn default() -> Self {
        let attributes = [
            "mfa",
            "file",
            "line",
            "pid",
            "domain",
            "application",
            "registered_name",
            "initial_call",
            "crash_reason",
            "request_id",
            "correlation_id",
        ];
        Logs {
            retain: false,
            severity: 9,
            exclude_domains: Vec::new(),
            attributes: attributes.map(str::to_owned).to_vec(),
            max_body: 2048,
        }
    }
}
