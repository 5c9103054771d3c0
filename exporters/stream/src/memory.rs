//! The memory of subscribers, reserved in the budget of data in flight (`limits.in_flight`).
//!
//! Every subscriber has a base for its connection. Its queue and its tables are reserved as they grow. When there is no room, a queue is
//! as full as it is, and its policy applies. If the subscriber has less than an equal share, the one with the most gets a GOODBYE, so
//! that some that do not read cannot take the memory of all.

use crate::error::SubscribeError;
use crate::registry::{Admission, Registry};
use dichroic_pipeline::budget::{Budget, Part, Reservation};
use dichroic_wire::GoodbyeCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Reserved for each subscriber: its write buffers, and the rows that are in work.
const BASE_BYTES: usize = 256 << 10;
/// Reservations beyond the base are multiples of this.
const STEP_BYTES: usize = 64 << 10;
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

/// The memory of one subscriber.
#[derive(Debug)]
pub(crate) struct Memory {
    reservation: Reservation,
    /// The most of all subscribers together.
    largest: usize,
    registry: Arc<Registry>,
    share: Arc<Share>,
}

impl Memory {
    /// Reserves the base.
    pub fn new(budget: &Budget, admission: &Admission) -> Result<Self, SubscribeError> {
        let mut memory = Memory {
            reservation: budget.reserve_nothing(Part::Subscribers),
            largest: Part::Subscribers.largest(budget.limit()),
            registry: admission.registry.clone(),
            share: admission.share.clone(),
        };
        match memory.resize(BASE_BYTES) {
            true => Ok(memory),
            false => Err(no_memory("the memory for subscribers is used up")),
        }
    }

    /// Reserves so many bytes beside the base. `false`: there is no room to grow; then the reservation is as before.
    #[must_use]
    pub fn hold(&mut self, bytes: usize) -> bool {
        let wanted = BASE_BYTES + bytes.next_multiple_of(STEP_BYTES);
        let has = self.reservation.bytes();
        // Some slack, so that a queue that shrinks and grows does not reserve for each batch.
        wanted == has || (wanted < has && wanted + 4 * STEP_BYTES > has && bytes > 0) || self.resize(wanted)
    }

    /// Reserved bytes beside the base.
    pub fn held(&self) -> usize {
        self.reservation.bytes().saturating_sub(BASE_BYTES)
    }

    fn resize(&mut self, bytes: usize) -> bool {
        let resized = self.reservation.try_resize(bytes);
        if resized {
            self.share
                .bytes
                .store(self.reservation.bytes(), Ordering::Relaxed);
        } else {
            self.registry.displace_largest(bytes, self.largest);
        }
        resized
    }
}

/// The refusal of a subscriber for which there is no memory.
pub(crate) fn no_memory(what: &str) -> SubscribeError {
    let message = format!("{what}; retry later, read faster, or raise limits.in_flight");
    SubscribeError::new(GoodbyeCode::Limit, RETRY_MS, message)
}
