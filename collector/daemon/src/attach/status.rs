//! The state of each configured node, for the admin API and for lint.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::time::Instant;

/// Whether a node is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// An attempt is in progress.
    Connecting,
    /// The relay runs on the node.
    Attached,
    /// The last attempt failed; the next one follows within seconds.
    Retrying,
    /// The node refuses; the next attempt follows within an hour, or when a file or the node changes.
    Refused,
}

impl State {
    /// Its name in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Attached => "attached",
            State::Retrying => "retrying",
            State::Refused => "refused",
        }
    }
}

/// The state of a node of `receivers.beam.attach`.
#[derive(Debug, Clone)]
pub struct AttachStatus {
    /// Name of the node.
    pub node: String,
    /// Whether it is attached.
    pub state: State,
    /// Why the last attempt failed; empty unless it did.
    pub reason: String,
    /// What to do about that; may be empty.
    pub help: String,
    /// Time of the next attempt, if it is known.
    pub next: Option<Instant>,
}

impl AttachStatus {
    /// A state without a failure.
    pub fn of(node: String, state: State) -> Self {
        AttachStatus {
            node,
            state,
            reason: String::new(),
            help: String::new(),
            next: None,
        }
    }

    /// Seconds until the next attempt.
    pub fn next_seconds(&self) -> Option<u64> {
        let next = self.next?;
        Some(next.saturating_duration_since(Instant::now()).as_secs())
    }
}

/// The states of all configured nodes, by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct AttachBoard(Rc<RefCell<BTreeMap<String, AttachStatus>>>);

impl AttachBoard {
    /// All states.
    pub fn read(&self) -> Vec<AttachStatus> {
        self.0.borrow().values().cloned().collect()
    }

    pub(super) fn write(&self, status: AttachStatus) {
        self.0.borrow_mut().insert(status.node.clone(), status);
    }

    pub(super) fn remove(&self, node: &str) {
        self.0.borrow_mut().remove(node);
    }
}
