//! Jobs for the ingest thread, run in steps between its requests.
//!
//! A step must take less than a millisecond; the thread serves its sockets after each.

use crate::core::Core;
use crate::sync::{Arc, ArrayQueue, AtomicBool, AtomicWaker, Ordering, fence, register};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Capacity of the queue.
const INBOX: usize = 256;

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Finished; the job is dropped.
    Done,
    /// More to do; step again soon.
    More,
    /// Waiting for its reader, which wakes the context's waker.
    Blocked,
}

/// A job on the core, in steps of less than a millisecond.
pub trait Job: Send {
    /// Runs one step.
    fn step(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Progress;
}

/// The queue of jobs, shared by the inbox and its handles.
pub(crate) struct JobQueue {
    queue: ArrayQueue<Box<dyn Job>>,
    waker: AtomicWaker,
    /// The inbox was dropped: no more jobs run.
    closed: AtomicBool,
}

impl JobQueue {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(JobQueue {
            queue: ArrayQueue::new(INBOX),
            waker: AtomicWaker::new(),
            closed: AtomicBool::new(false),
        })
    }

    /// Queues a job; `false` when the queue is full or closed.
    #[must_use]
    pub(crate) fn push(&self, job: Box<dyn Job>) -> bool {
        if self.queue.push(job).is_err() {
            return false;
        }
        fence(Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            self.drain();
            return false;
        }
        self.waker.wake();
        true
    }

    fn drain(&self) {
        while self.queue.pop().is_some() {}
    }
}

/// The receiving end of the queue, for [`serve`].
pub struct Inbox(pub(crate) Arc<JobQueue>);

/// Drops the queued jobs, so that their callers get an error.
///
/// Orderings. `closed` is stored, then the queue is drained; a sender pushes, then loads `closed`. With a fence between the two steps
/// on both sides one of them sees the other, so every job is run, drained here, or drained by its sender.
impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.0.drain();
    }
}

/// Runs jobs until it is dropped, one step at a time, and yields to other tasks of the thread after each.
pub async fn serve(core: Rc<RefCell<Core>>, inbox: Inbox) {
    match run_jobs(&core, &inbox).await {}
}

/// As [`serve`]. After a panic it can be called again: the jobs that were running are lost, and their callers get [`Busy`](crate::Busy).
pub async fn run_jobs(core: &RefCell<Core>, inbox: &Inbox) -> Infallible {
    let mut running: VecDeque<Box<dyn Job>> = VecDeque::new();
    std::future::poll_fn(move |cx| -> Poll<Infallible> {
        register(&inbox.0.waker, cx.waker());
        while let Some(job) = inbox.0.queue.pop() {
            running.push_back(job);
        }
        for _ in 0..running.len() {
            let Some(mut job) = running.pop_front() else { break };
            match job.step(&mut core.borrow_mut(), cx) {
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
