//! The handle through which other threads reach the core.
//!
//! The queue behind it is bounded: when it is full, the call fails with [`Busy`] and the caller answers "busy" instead of growing a queue.

use super::channel;
use super::job::{Inbox, Job, JobQueue, Progress};
use super::snapshot::{Chunk, Snapshot, SnapshotRequest};
use crate::core::Core;
use crate::events::request::{StreamRequest, Subscription};
use crate::ledger::Ledger;
use crate::sync::Arc;
use std::task::Context;

/// Reaches the core from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<JobQueue>);

/// The queue of jobs is full, or the core is gone; try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the collector is busy: too many reads wait for the store; try again")
    }
}

impl std::error::Error for Busy {}

/// A handle and its inbox.
///
/// ```
/// use dichroic_model::{Identity, Limits};
/// use dichroic_pipeline::{Core, inbox, serve};
/// use std::{cell::RefCell, rc::Rc, sync::Arc};
///
/// # async fn run() -> Result<(), dichroic_pipeline::Busy> {
/// let (handle, inbox) = inbox();
/// // On the ingest thread: runs until it is dropped.
/// let core = Rc::new(RefCell::new(Core::new(Limits::default(), Arc::new(Identity), 1)));
/// let serving = serve(core, inbox);
/// // On any other thread:
/// let series = handle.call(|core| core.series()).await?;
/// # drop(serving);
/// # let _ = series;
/// # Ok(())
/// # }
/// ```
pub fn inbox() -> (Handle, Inbox) {
    let queue = JobQueue::new();
    (Handle(queue.clone()), Inbox(queue))
}

impl Handle {
    /// Queues a job. It is dropped if the core goes away before its turn.
    pub fn submit(&self, job: Box<dyn Job>) -> Result<(), Busy> {
        if self.0.push(job) { Ok(()) } else { Err(Busy) }
    }

    /// Runs `question` on the ingest thread and returns its answer. The question must be quick: it is one step.
    pub async fn call<A, Q>(&self, question: Q) -> Result<A, Busy>
    where
        A: Send + 'static,
        Q: FnOnce(&mut Core) -> A + Send + 'static,
    {
        let (reply, answer) = channel::channel(1);
        self.submit(Box::new(Call {
            question: Some(question),
            reply,
        }))?;
        answer.recv().await.ok_or(Busy)
    }

    /// A consistent copy of the ledger: taken between two requests.
    pub async fn ledger(&self) -> Result<Ledger, Busy> {
        self.call(|core| core.ledger().clone()).await
    }

    /// Starts copying series in family order, one chunk at a time.
    pub fn snapshot(&self, request: SnapshotRequest) -> Result<channel::Receiver<Chunk>, Busy> {
        let (job, chunks) = Snapshot::new(request);
        self.submit(Box::new(job))?;
        Ok(chunks)
    }

    /// Subscribes to raw events or logs; the replay, if requested, comes first. `None` when the limit of subscribers is reached.
    pub async fn subscribe(&self, request: StreamRequest) -> Result<Option<Subscription>, Busy> {
        self.call(move |core| core.subscribe(request)).await
    }
}

struct Call<A, Q> {
    question: Option<Q>,
    reply: channel::Sender<A>,
}

impl<A: Send, Q: FnOnce(&mut Core) -> A + Send> Job for Call<A, Q> {
    fn step(&mut self, core: &mut Core, _: &mut Context<'_>) -> Progress {
        if let Some(question) = self.question.take() {
            // The caller may have given up: then the answer is dropped.
            let _ = self.reply.try_send(question(core));
        }
        Progress::Done
    }
}
