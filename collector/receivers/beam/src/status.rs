//! Status of relays for `/api/v1/sources`, `ledger` and the logs. Readable from any thread.

use dichroic_model::{Source, SourceId, UnixNanos};
use dichroic_wire::hello::RelayMode;
use dichroic_wire::{RelayHello, Variables};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One relay, connected or recently disconnected.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayStatus {
    /// The source in the store.
    pub source: Option<SourceId>,
    /// Name of the node.
    pub node: String,
    /// OS process id.
    pub os_pid: i64,
    /// Program and version of the relay.
    pub agent: String,
    /// OTP release.
    pub otp: String,
    /// Version of `telemetry`; empty when the node has none.
    pub telemetry: String,
    /// Whether it was loaded into a running node.
    pub attached_mode: bool,
    /// Values of the templates in event names.
    pub variables: Variables,
    /// Start of the relay's totals, unix ns.
    pub epoch: i64,
    /// Number of the connection within the epoch.
    pub attempt: i64,
    /// Since when it is connected.
    pub since: UnixNanos,
    /// When the connection ended; `None` while it is up.
    pub ended: Option<UnixNanos>,
    /// How it ended; empty while it is up.
    pub end: String,
    /// Generation of the plan that the relay has accepted; 0 before the first.
    pub generation: i64,
    /// Events that have a handler in the node.
    pub attached: u32,
    /// Refused entries: metric or event, and the reason.
    pub refused: Vec<(String, String)>,
    /// Series defined at present.
    pub series: usize,
    /// Rows of totals received.
    pub rows: u64,
    /// Rows ignored because a total decreased.
    pub backwards: u64,
    /// Rows of streams received.
    pub events: u64,
    /// Complete flushes applied.
    pub flushes: u64,
    /// Frames of an unknown type.
    pub unknown_frames: u64,
}

impl RelayStatus {
    /// The status after the handshake.
    pub(crate) fn new(source: &Source, hello: &RelayHello, now: UnixNanos) -> Self {
        RelayStatus {
            source: Some(source.id),
            node: hello.node.clone(),
            os_pid: hello.os_pid,
            agent: hello.agent.clone(),
            otp: hello.otp.clone(),
            telemetry: hello.telemetry.clone(),
            attached_mode: hello.mode == RelayMode::Attached,
            variables: hello.variables.clone(),
            epoch: hello.epoch,
            attempt: hello.attempt,
            since: now,
            ended: None,
            end: String::new(),
            generation: 0,
            attached: 0,
            refused: Vec::new(),
            series: 0,
            rows: 0,
            backwards: 0,
            events: 0,
            flushes: 0,
            unknown_frames: 0,
        }
    }
}

/// The shared status of all relays. Sessions write it once a second; any thread may read it. It is not on the path of rows.
#[derive(Debug, Clone, Default)]
pub struct StatusBoard(Arc<Mutex<BTreeMap<String, RelayStatus>>>);

impl StatusBoard {
    /// All relays, by node.
    pub fn read(&self) -> Vec<RelayStatus> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn write(&self, key: &str, status: RelayStatus) {
        self.lock().insert(key.to_owned(), status);
    }

    pub(crate) fn remove(&self, key: &str) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, RelayStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
