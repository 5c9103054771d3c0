//! The account of an exporter or a subscriber.

use std::sync::atomic::{AtomicU64, Ordering};

/// The account of one exporter or subscriber. Shared between threads: each counter has one writer and takes only additions and
/// subtractions, so relaxed ordering suffices. A reader may see the terms at slightly different times; at rest they balance.
#[derive(Debug, Default)]
pub struct Hop {
    /// Passed to it.
    pub offered: AtomicU64,
    /// Sent by it.
    pub sent: AtomicU64,
    /// Dropped by it.
    pub dropped: AtomicU64,
    /// Queued in it.
    pub queued: AtomicU64,
}

impl Hop {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// (offered, sent, dropped, queued)
    pub fn read(&self) -> (u64, u64, u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (
            read(&self.offered),
            read(&self.sent),
            read(&self.dropped),
            read(&self.queued),
        )
    }
}
