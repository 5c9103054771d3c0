//! A lane: a bounded hand-over from one thread to another, lock-free, with a doorbell on both ends.
//!
//! The sender never waits: a full lane gives the item back ([`Full`]) or, where the newest matters, displaces the oldest and says
//! so. The receiver sleeps in a future and is woken only when something came. Dropping either end closes the lane; what was
//! sent before the close is still received.
//!
//! Orderings. The queue itself synchronises items (crossbeam: Release on push, Acquire on pop). `closed` is stored with Release
//! before the last ring and loaded with Acquire before the last look into the queue, so a receiver that sees the close also sees
//! every item pushed before it. A sleeper registers its waker *before* it looks again; a pusher rings *after* it pushed: one of
//! the two sees the other.

use crate::sync::{Arc, ArrayQueue, AtomicBool, AtomicWaker, Ordering, register};
use std::task::{Context, Poll, Waker};

struct Shared<T> {
    queue: ArrayQueue<T>,
    closed: AtomicBool,
    /// The sender has sent all that it had to.
    finished: AtomicBool,
    /// Rung when an item came or the sender closed.
    arrival: AtomicWaker,
    /// Rung when room came or the receiver closed.
    room: AtomicWaker,
}

/// The sending end. Not cloneable: one thread sends.
pub struct Sender<T>(Arc<Shared<T>>);

/// The receiving end.
pub struct Receiver<T>(Arc<Shared<T>>);

/// Why an item came back.
#[derive(Debug, PartialEq, Eq)]
pub enum TrySend<T> {
    /// No room now.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

/// A lane for at most `capacity` items, at least one.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        closed: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        arrival: AtomicWaker::new(),
        room: AtomicWaker::new(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Sends, or gives the item back.
    pub fn try_send(&self, item: T) -> Result<(), TrySend<T>> {
        if self.is_closed() {
            return Err(TrySend::Closed(item));
        }
        self.0.queue.push(item).map_err(TrySend::Full)?;
        self.0.arrival.wake();
        Ok(())
    }

    /// Says that everything was sent. A lane that closes without this was cut short.
    pub fn finish(&self) {
        self.0.finished.store(true, Ordering::Release);
    }

    /// Takes the oldest item back, to make room for a newer one. The receiver may win the race for it.
    pub fn pop_oldest(&self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Asks to be woken when there is room. Try once more after the call, before sleeping.
    pub fn register(&self, waker: &Waker) {
        register(&self.0.room, waker);
    }

    /// Whether the receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.arrival.wake();
    }
}

impl<T> Receiver<T> {
    /// The next item if one waits.
    pub fn try_recv(&self) -> Option<T> {
        let item = self.0.queue.pop()?;
        self.0.room.wake();
        Some(item)
    }

    /// The next item, `None` when the sender is gone and everything was received. Cancel-safe: nothing is taken before it returns.
    pub async fn recv(&self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Whether the sender had sent everything when the lane closed. Ask after [`Receiver::recv`] has said `None`.
    pub fn is_finished(&self) -> bool {
        self.0.finished.load(Ordering::Acquire)
    }

    /// [`Receiver::recv`] by hand.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = self.try_recv() {
            return Poll::Ready(Some(item));
        }
        register(&self.0.arrival, cx.waker());
        let closed = self.0.closed.load(Ordering::Acquire);
        match self.try_recv() {
            Some(item) => Poll::Ready(Some(item)),
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.room.wake();
    }
}
