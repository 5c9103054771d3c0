//! The budget for bytes of requests in flight, counted on one thread. Bytes over the budget are rejected before they are buffered.

use super::request_error::RequestError;
use std::cell::Cell;
use std::rc::Rc;

/// A budget of bytes, shared by all requests.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Rc<Cell<usize>>,
}

/// Bytes taken from a [`Budget`], returned on drop.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Budget {
            left: Rc::new(Cell::new(bytes)),
        }
    }

    /// An empty share.
    pub(super) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Share {
    /// Takes `bytes` more. Returns `false` and takes nothing when the budget has fewer left.
    #[must_use]
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        match self.budget.left.get().checked_sub(bytes) {
            Some(left) => {
                self.budget.left.set(left);
                self.bytes += bytes;
                true
            }
            None => false,
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
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.grow(6) && b.grow(4) && !b.grow(1));
        drop(a);
        assert!(b.grow(6) && !b.grow(1));
        drop(b);
        assert!(budget.share().grow(10));
    }
}
