//! The shared-memory primitives. Under `cfg(loom)` all are loom's, so that the models in `tests` explore the orderings of the code that
//! ships.
//!
//! Run the models with `RUSTFLAGS="--cfg loom" cargo test -p dichroic-pipeline --test 'loom_*' --release --target-dir target/loom`

#[cfg(not(loom))]
pub(crate) use atomic_waker::AtomicWaker;
#[cfg(not(loom))]
pub(crate) use crossbeam_queue::ArrayQueue;
#[cfg(not(loom))]
pub(crate) use std::sync::Arc;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::future::AtomicWaker;
#[cfg(loom)]
pub(crate) use loom::sync::Arc;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub(crate) use modeled::ArrayQueue;

/// Registers the waker of a waiting task.
pub(crate) fn register(slot: &AtomicWaker, waker: &std::task::Waker) {
    #[cfg(not(loom))]
    slot.register(waker);
    #[cfg(loom)]
    slot.register_by_ref(waker);
}

/// Replaces crossbeam's queue, which loom cannot instrument: the same contract, linearized by a lock.
#[cfg(loom)]
mod modeled {
    use std::collections::VecDeque;

    pub(crate) struct ArrayQueue<T> {
        items: loom::sync::Mutex<VecDeque<T>>,
        capacity: usize,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            ArrayQueue {
                items: loom::sync::Mutex::new(VecDeque::new()),
                capacity,
            }
        }

        pub(crate) fn push(&self, item: T) -> Result<(), T> {
            let mut items = self.items.lock().unwrap();
            if items.len() == self.capacity {
                return Err(item);
            }
            items.push_back(item);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.items.lock().unwrap().pop_front()
        }

        pub(crate) fn len(&self) -> usize {
            self.items.lock().unwrap().len()
        }
    }
}
