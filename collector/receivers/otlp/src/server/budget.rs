//! The budget for bytes of requests in flight, counted on one thread, within the memory budget of the process. Bytes over a budget are
//! rejected before they are buffered.

use super::request_error::RequestError;
use dichroic_pipeline::budget::{Budget as Memory, Part, Reservation};
use std::cell::Cell;
use std::rc::Rc;

/// A budget of bytes, shared by all requests.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Rc<Cell<usize>>,
    memory: Memory,
}

/// Bytes taken from a [`Budget`], returned on drop.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    bytes: usize,
    memory: Reservation,
}

impl Budget {
    /// A budget of `bytes` within `memory`.
    pub(super) fn new(bytes: usize, memory: Memory) -> Self {
        Budget {
            left: Rc::new(Cell::new(bytes)),
            memory,
        }
    }

    /// An empty share.
    pub(super) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
            memory: self.memory.reserve_nothing(Part::OtlpBodies),
        }
    }
}

impl Share {
    /// Takes `bytes` more. Returns `false` and takes nothing when a budget has fewer left.
    #[must_use]
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        match self.budget.left.get().checked_sub(bytes) {
            Some(left) if self.memory.try_grow(bytes) => {
                self.budget.left.set(left);
                self.bytes += bytes;
                true
            }
            _ => false,
        }
    }

    /// As [`Share::grow`], with the error for the sender.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), RequestError> {
        if self.grow(bytes) {
            Ok(())
        } else {
            Err(RequestError::busy())
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.set(self.budget.left.get() + self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_shares_return_to_the_budget() {
        let budget = Budget::new(10, Memory::new(100));
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.grow(6) && b.grow(4) && !b.grow(1));
        drop(a);
        assert!(b.grow(6) && !b.grow(1));
        drop(b);
        assert!(budget.share().grow(10));
    }

    #[test]
    fn the_memory_of_the_process_is_a_limit_too() {
        let memory = Memory::new(16);
        let budget = Budget::new(100, memory.clone());
        let mut share = budget.share();
        assert!(share.grow(8) && !share.grow(1));
        assert_eq!(memory.usage(Part::OtlpBodies).used, 8);
        drop(share);
        assert_eq!(memory.used(), 0);
        assert_eq!(budget.left.get(), 100);
    }
}
