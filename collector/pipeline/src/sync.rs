//! The shared-memory primitives, real or modelled: under `cfg(loom)` every one is loom's, so that the models in `tests` explore
//! the orderings of exactly the code that ships.
//!
//! The models: `RUSTFLAGS="--cfg loom" cargo test -p dichroic-pipeline --test 'loom_*' --release --target-dir target/loom`

#[cfg(not(loom))]
pub(crate) use atomic_waker::AtomicWaker;
#[cfg(not(loom))]
pub(crate) use crossbeam_queue::ArrayQueue;
#[cfg(not(loom))]
pub(crate) use std::sync::Arc;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::future::AtomicWaker;
#[cfg(loom)]
pub(crate) use loom::sync::Arc;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use modelled::ArrayQueue;

/// Registers the waker of a sleeper.
pub(crate) fn register(bell: &AtomicWaker, waker: &std::task::Waker) {
    #[cfg(not(loom))]
    bell.register(waker);
    #[cfg(loom)]
    bell.register_by_ref(waker);
}

/// A stand-in for crossbeam's queue, which loom cannot see into: the same contract, linearised by a lock.
#[cfg(loom)]
mod modelled {
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
