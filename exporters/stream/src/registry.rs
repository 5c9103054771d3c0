//! ClientInfo is subscribed: admission by number, a listing for `top` and the API, and the shutdown that waits for all to be gone.

use dichroic_model::UnixNanos;
use dichroic_pipeline::Hop;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// How a subscriber is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Frames on a socket.
    Socket,
    /// Frames over HTTP.
    Frames,
    /// Lines of JSON over HTTP.
    Ndjson,
    /// Server-sent events over HTTP.
    Sse,
}

impl Format {
    /// The word of the listing.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Socket => "socket",
            Format::Frames => "frames",
            Format::Ndjson => "ndjson",
            Format::Sse => "sse",
        }
    }
}

/// One subscriber, as the listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberInfo {
    /// Its number in this process.
    pub id: u64,
    /// Program and version, as it says.
    pub agent: String,
    /// How it is spoken to.
    pub format: Format,
    /// `event`, `log` or `metric`; empty for one that only greeted.
    pub kind: &'static str,
    /// Its patterns.
    pub patterns: Vec<String>,
    /// Since when, unix ns.
    pub since: UnixNanos,
    /// Rows or points that were for it.
    pub offered: u64,
    /// Those that left.
    pub sent: u64,
    /// Those it lost.
    pub dropped: u64,
    /// Those that wait.
    pub queued: u64,
}

#[derive(Debug)]
struct Entry {
    info: SubscriberInfo,
    hop: Arc<Hop>,
}

/// All subscribers.
#[derive(Debug)]
pub(crate) struct Registry {
    limit: usize,
    state: Mutex<State>,
    stop: watch::Sender<bool>,
    gone: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

/// A place among the subscribers, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    registry: Arc<Registry>,
    id: u64,
    pub hop: Arc<Hop>,
}

impl Registry {
    pub fn new(limit: usize) -> Self {
        Registry {
            limit,
            state: Mutex::default(),
            stop: watch::Sender::new(false),
            gone: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one insert or remove: there is no half of it to fear.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A admission, or `None` when there are as many subscribers as allowed. Number and counts of `info` are filled in here.
    pub fn admit(self: &Arc<Self>, mut info: SubscriberInfo) -> Option<Admission> {
        let mut state = self.state();
        if state.entries.len() >= self.limit {
            return None;
        }
        state.next += 1;
        let id = state.next;
        info.id = id;
        let hop = Arc::new(Hop::default());
        let entry = Entry {
            info,
            hop: hop.clone(),
        };
        state.entries.insert(id, entry);
        Some(Admission {
            registry: self.clone(),
            id,
            hop,
        })
    }

    /// Everyone at present, in order of arrival.
    pub fn list(&self) -> Vec<SubscriberInfo> {
        let show = |entry: &Entry| {
            let (offered, sent, dropped, queued) = entry.hop.read();
            SubscriberInfo {
                offered,
                sent,
                dropped,
                queued,
                ..entry.info.clone()
            }
        };
        self.state().entries.values().map(show).collect()
    }

    /// Tells when everything is to stop.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Asks all to stop and waits until they are gone.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        loop {
            let gone = self.gone.notified();
            if self.state().entries.is_empty() {
                return;
            }
            gone.await;
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.registry.state().entries.remove(&self.id);
        // `notify_one` keeps a permit for a waiter that is just about to wait.
        self.registry.gone.notify_one();
    }
}
