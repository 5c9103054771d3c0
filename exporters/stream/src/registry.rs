//! The current subscribers: admission up to a limit, a listing for the API, and a shutdown that waits for all to end.

use crate::share::Share;
use dichroic_model::UnixNanos;
use dichroic_pipeline::Hop;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// A subscriber's format and transport.
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
    /// Its name in the listing.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Socket => "socket",
            Format::Frames => "frames",
            Format::Ndjson => "ndjson",
            Format::Sse => "sse",
        }
    }
}

/// One subscriber in the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberInfo {
    /// Its number in this process.
    pub id: u64,
    /// Program and version, as sent by the client.
    pub agent: String,
    /// Format and transport.
    pub format: Format,
    /// `event`, `log` or `metric`; empty without a subscription.
    pub kind: &'static str,
    /// Its patterns.
    pub patterns: Vec<String>,
    /// Start of the subscription, ns since the Unix epoch.
    pub since: UnixNanos,
    /// Rows or points offered to it.
    pub offered: u64,
    /// Rows or points written to it.
    pub sent: u64,
    /// Rows or points lost.
    pub dropped: u64,
    /// Rows or points waiting to be written.
    pub queued: u64,
}

#[derive(Debug)]
struct Entry {
    info: SubscriberInfo,
    hop: Arc<Hop>,
    share: Arc<Share>,
}

/// All subscribers.
#[derive(Debug)]
pub(crate) struct Registry {
    limit: usize,
    state: Mutex<State>,
    stop: watch::Sender<bool>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

/// A subscriber's entry; removed when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    pub registry: Arc<Registry>,
    id: u64,
    pub hop: Arc<Hop>,
    pub share: Arc<Share>,
}

impl Registry {
    pub fn new(limit: usize) -> Self {
        Registry {
            limit,
            state: Mutex::default(),
            stop: watch::Sender::new(false),
            ended: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one insert or remove, so a panic leaves no partial state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a subscriber; `None` at the limit. Sets the number in `info`.
    pub fn admit(self: &Arc<Self>, mut info: SubscriberInfo) -> Option<Admission> {
        let mut state = self.state();
        if state.entries.len() >= self.limit {
            return None;
        }
        state.next += 1;
        let id = state.next;
        info.id = id;
        let (hop, share) = (Arc::new(Hop::default()), Arc::new(Share::default()));
        let entry = Entry {
            info,
            hop: hop.clone(),
            share: share.clone(),
        };
        state.entries.insert(id, entry);
        Some(Admission {
            registry: self.clone(),
            id,
            hop,
            share,
        })
    }

    /// For a subscriber that gets no room to have `wanted` bytes: if this is less than an equal share of `largest`, the subscriber with
    /// the most has to leave.
    pub fn displace_largest(&self, wanted: usize, largest: usize) {
        let state = self.state();
        let equal = largest / state.entries.len().max(1);
        let most = state.entries.values().max_by_key(|entry| entry.share.bytes());
        if let Some(most) = most
            && wanted <= equal
            && most.share.bytes() > equal
        {
            most.share.displace();
        }
    }

    /// Current subscribers, oldest first.
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

    /// Becomes true at shutdown.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Stops all subscribers and waits for their end.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        loop {
            let ended = self.ended.notified();
            if self.state().entries.is_empty() {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.registry.state().entries.remove(&self.id);
        // `notify_one` stores a permit for a waiter that has not polled yet.
        self.registry.ended.notify_one();
    }
}
