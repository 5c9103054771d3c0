//! How other threads reach the store: they hand in a [`Job`], the ingest thread runs it in steps between requests.
//!
//! A step must stay under a millisecond; after each the sockets get their turn. The inbox is bounded: when it is full the job
//! comes back ([`Busy`]) and its sender answers "busy" instead of growing a queue.

use super::channel;
use super::snapshot::{Chunk, Snapshot, SnapshotRequest};
use crate::core::Core;
use crate::events::subscribers::{StreamRequest, Subscription};
use crate::ledger::Ledger;
use crate::sync::{Arc, ArrayQueue, AtomicBool, AtomicWaker, Ordering, fence, register};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Jobs that may wait at once.
const INBOX: usize = 256;

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Finished; the job is dropped.
    Done,
    /// More to do; step again soon.
    More,
    /// Waits for its reader; the waker of the context was registered.
    Blocked,
}

/// Work on the store, in steps of less than a millisecond.
pub trait Job: Send {
    /// Does a step.
    fn step(&mut self, store: &mut Core, cx: &mut Context<'_>) -> Progress;
}

struct Shared {
    queue: ArrayQueue<Box<dyn Job>>,
    bell: AtomicWaker,
    /// The inbox is gone: nobody will run a job any more.
    closed: AtomicBool,
}

impl Shared {
    fn drain(&self) {
        while self.queue.pop().is_some() {}
    }
}

/// Reaches the store from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// The store's end: given to [`serve`].
pub struct Inbox(Arc<Shared>);

/// Jobs that wait when the store goes are dropped, so that nobody waits for their answers.
///
/// Orderings. `closed` is stored, then the queue is drained; a sender pushes, then loads `closed`. With a fence between the two steps
/// on both sides one of them sees the other, so a job is run, drained here, or drained by its sender.
impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.0.drain();
    }
}

/// The inbox is full, or the store is gone; try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the collector is busy: too many reads wait for the store; try again")
    }
}

impl std::error::Error for Busy {}

/// A handle and its inbox.
pub fn inbox() -> (Handle, Inbox) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(INBOX),
        bell: AtomicWaker::new(),
        closed: AtomicBool::new(false),
    });
    (Handle(shared.clone()), Inbox(shared))
}

impl Handle {
    /// Hands in a job. One whose store goes before its turn is dropped.
    pub fn submit(&self, job: Box<dyn Job>) -> Result<(), Busy> {
        self.0.queue.push(job).map_err(|_| Busy)?;
        fence(Ordering::SeqCst);
        if self.0.closed.load(Ordering::SeqCst) {
            self.0.drain();
            return Err(Busy);
        }
        self.0.bell.wake();
        Ok(())
    }

    /// Runs `question` on the ingest thread and returns its answer. The question must be quick: it is one step.
    pub async fn call<A, Q>(&self, question: Q) -> Result<A, Busy>
    where
        A: Send + 'static,
        Q: FnOnce(&mut Core) -> A + Send + 'static,
    {
        let (reply, answer) = channel::channel(1);
        self.submit(Box::new(Ask {
            question: Some(question),
            reply,
        }))?;
        answer.recv().await.ok_or(Busy)
    }

    /// A copy of the ledger, consistent: taken between two requests.
    pub async fn ledger(&self) -> Result<Ledger, Busy> {
        self.call(|store| store.ledger().clone()).await
    }

    /// Starts copying series out, in family order, a chunk at a time.
    pub fn snapshot(&self, request: SnapshotRequest) -> Result<channel::Receiver<Chunk>, Busy> {
        let (job, chunks) = Snapshot::new(request);
        self.submit(Box::new(job))?;
        Ok(chunks)
    }

    /// Subscribes to raw events or logs. Replay, if asked for, comes first.
    pub async fn subscribe(&self, wanted: StreamRequest) -> Result<Option<Subscription>, Busy> {
        self.call(move |store| store.subscribe(wanted)).await
    }
}

struct Ask<A, Q> {
    question: Option<Q>,
    reply: channel::Sender<A>,
}

impl<A: Send, Q: FnOnce(&mut Core) -> A + Send> Job for Ask<A, Q> {
    fn step(&mut self, store: &mut Core, _: &mut Context<'_>) -> Progress {
        if let Some(question) = self.question.take() {
            // A reader that has gone away is no error: the answer is dropped.
            let _ = self.reply.try_send(question(store));
        }
        Progress::Done
    }
}

/// Runs jobs for ever, a step at a time, giving way to other tasks of the thread after each.
pub async fn serve(store: Rc<RefCell<Core>>, inbox: Inbox) {
    let mut running: VecDeque<Box<dyn Job>> = VecDeque::new();
    std::future::poll_fn(move |cx| -> Poll<()> {
        register(&inbox.0.bell, cx.waker());
        while let Some(job) = inbox.0.queue.pop() {
            running.push_back(job);
        }
        for _ in 0..running.len() {
            let Some(mut job) = running.pop_front() else { break };
            match job.step(&mut store.borrow_mut(), cx) {
                Progress::Done => {}
                Progress::Blocked => running.push_back(job),
                Progress::More => {
                    running.push_back(job);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Pending
    })
    .await
}
