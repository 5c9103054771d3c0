//! A bounded channel from one thread to another, lock-free, with a waker at both ends.
//!
//! The sender never waits: a full channel returns the item ([`TrySendError::Full`]). To prefer new items, the sender removes the oldest
//! ([`Sender::pop_oldest`]). The receiver sleeps in a future and is woken only when an item arrives. Dropping either end closes the
//! channel; items sent before the close are still received.
//!
//! Orderings. The queue itself synchronizes items (crossbeam: Release on push, Acquire on pop). `closed` is stored with Release
//! before the last wake and loaded with Acquire before the last pop, so a receiver that sees the close also sees every item pushed
//! before it. A sleeper registers its waker *before* it pops again; a sender wakes *after* its push: one of the two sees the other.

use crate::sync::{Arc, ArrayQueue, AtomicBool, AtomicWaker, Ordering, register};
use std::task::{Context, Poll, Waker};

struct ChannelState<T> {
    queue: ArrayQueue<T>,
    closed: AtomicBool,
    /// The sender called [`Sender::finish`].
    finished: AtomicBool,
    /// Woken when an item arrives or the sender closes.
    arrival: AtomicWaker,
    /// Woken when there is room or the receiver closes.
    room: AtomicWaker,
}

/// The sending end. Not cloneable: one thread sends.
pub struct Sender<T>(Arc<ChannelState<T>>);

/// The receiving end.
pub struct Receiver<T>(Arc<ChannelState<T>>);

/// Why an item was not sent.
#[derive(Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// No room now.
    Full(T),
    /// The receiver was dropped.
    Closed(T),
}

/// A channel for at most `capacity` items, at least one.
///
/// ```
/// use dichroic_pipeline::channel::{TrySendError, channel};
/// let (sender, receiver) = channel(1);
/// assert_eq!(sender.try_send(1), Ok(()));
/// assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
/// assert_eq!(receiver.try_recv(), Some(1));
/// drop(receiver);
/// assert_eq!(sender.try_send(3), Err(TrySendError::Closed(3)));
/// ```
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(ChannelState {
        queue: ArrayQueue::new(capacity.max(1)),
        closed: AtomicBool::new(false),
        finished: AtomicBool::new(false),
        arrival: AtomicWaker::new(),
        room: AtomicWaker::new(),
    });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Sends, or returns the item.
    #[inline]
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        if self.is_closed() {
            return Err(TrySendError::Closed(item));
        }
        self.0.queue.push(item).map_err(TrySendError::Full)?;
        self.0.arrival.wake();
        Ok(())
    }

    /// Marks the items as complete. A channel that closes without this is incomplete.
    pub fn finish(&self) {
        self.0.finished.store(true, Ordering::Release);
    }

    /// Removes the oldest item to make room for a newer one; `None` if the receiver was faster.
    pub fn pop_oldest(&self) -> Option<T> {
        self.0.queue.pop()
    }

    /// Registers a waker for free room. Try to send once more after the call, before waiting.
    pub fn register(&self, waker: &Waker) {
        register(&self.0.room, waker);
    }

    /// Whether the receiver was dropped.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// Number of queued items.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether no item is queued.
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
    /// The next item, if one is queued.
    pub fn try_recv(&self) -> Option<T> {
        let item = self.0.queue.pop()?;
        self.0.room.wake();
        Some(item)
    }

    /// The next item; `None` once the sender was dropped and all items were received. Cancel-safe: an item is taken only when the future
    /// returns it.
    pub async fn recv(&self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Whether the items were complete when the channel closed. Valid after [`Receiver::recv`] returned `None`.
    pub fn is_finished(&self) -> bool {
        self.0.finished.load(Ordering::Acquire)
    }

    /// The poll function of [`Receiver::recv`].
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

    /// Number of queued items.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether no item is queued.
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
