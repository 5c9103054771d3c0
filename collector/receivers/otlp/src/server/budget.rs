//! The bytes of requests in flight, counted on one thread: what is over the budget is refused before it is held.

use super::request_error::RequestError;
use std::cell::Cell;
use std::rc::Rc;

/// A budget of bytes, shared by all requests.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Rc<Cell<usize>>,
}

/// Bytes taken from a [`Budget`]; they go back when this is dropped.
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

    /// A share of nothing yet.
    pub(super) fn share(&self) -> Share {
        Share {
            budget: self.clone(),
            bytes: 0,
        }
    }
}

impl Share {
    /// Takes `bytes` more; `false`, and nothing taken, when there are not that many left.
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
}

impl Share {
    /// The same, with the refusal that the sender is told.
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
    fn what_was_taken_comes_back() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.grow(6) && b.grow(4) && !b.grow(1));
        drop(a);
        assert!(b.grow(6) && !b.grow(1));
        drop(b);
        assert!(budget.share().grow(10));
    }
}
