//! The memory of one subscriber as the others see it, and the GOODBYE of one that has to leave.

use crate::error::SubscribeError;
use dichroic_wire::GoodbyeCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Retry time after a refusal for lack of memory.
const RETRY_MS: u32 = 5_000;

/// The memory of one subscriber, as others see it.
#[derive(Debug, Default)]
pub(crate) struct Share {
    bytes: AtomicUsize,
    leave: Notify,
}

impl Share {
    /// Reserved bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records the reserved bytes.
    pub fn set_bytes(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Asks the subscriber to leave. Its memory counts as free from now on, so that it is asked once.
    pub fn displace(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.leave.notify_one();
    }

    /// Returns when the subscriber has to leave. Cancel-safe.
    pub async fn displaced(&self) -> SubscribeError {
        self.leave.notified().await;
        no_memory("this subscriber had the most of the memory for subscribers, which is used up")
    }
}

/// The refusal of a subscriber for which there is no memory.
pub(crate) fn no_memory(what: &str) -> SubscribeError {
    let message = format!("{what}; retry later, read faster, or raise limits.in_flight");
    SubscribeError::new(GoodbyeCode::Limit, RETRY_MS, message)
}
