//! The memory of subscribers, reserved in the budget of data in flight (`limits.in_flight`).
//!
//! Every subscriber has a base for its connection. Its queue and its tables are reserved as they grow. When there is no room, a queue is
//! as full as it is, and its policy applies. If the subscriber has less than an equal share, the one with the most gets a GOODBYE, so
//! that some that do not read cannot take the memory of all.

use crate::error::SubscribeError;
use crate::registry::{Admission, Registry};
use crate::share::{Share, no_memory};
use dichroic_pipeline::budget::{Budget, Part, Reservation};
use std::sync::Arc;

/// Reserved for each subscriber: its write buffers, and the rows that are in work.
const BASE_BYTES: usize = 256 << 10;
/// Reservations beyond the base are multiples of this.
const STEP_BYTES: usize = 64 << 10;

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
            self.share.set_bytes(self.reservation.bytes());
        } else {
            self.registry.displace_largest(bytes, self.largest);
        }
        resized
    }
}
