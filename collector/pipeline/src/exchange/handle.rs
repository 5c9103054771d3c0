//! The handle through which other threads reach the core.
//!
//! Its queue is bounded: when it is full, the call fails with [`Busy`].

use super::channel;
use super::job::{Inbox, Job, JobQueue, Progress};
use super::snapshot::{Chunk, Snapshot, SnapshotRequest};
use crate::core::Core;
use crate::events::request::{StreamRequest, Subscription};
use crate::ledger::Ledger;
use crate::sync::Arc;
use std::task::Context;

/// Access to the core from any thread. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<JobQueue>);

/// The queue of jobs is full, or the core was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the collector is busy: too many queued reads; retry later")
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
    /// Queues a job. It is dropped without running if the core is dropped first.
    pub fn submit(&self, job: Box<dyn Job>) -> Result<(), Busy> {
        if self.0.push(job) { Ok(()) } else { Err(Busy) }
    }

    /// Runs `function` on the ingest thread and returns its result. It runs as one step, so it must be quick.
    pub async fn call<A, Q>(&self, function: Q) -> Result<A, Busy>
    where
        A: Send + 'static,
        Q: FnOnce(&mut Core) -> A + Send + 'static,
    {
        let (reply, result) = channel::channel(1);
        self.submit(Box::new(Call {
            function: Some(function),
            reply,
        }))?;
        result.recv().await.ok_or(Busy)
    }

    /// A consistent copy of the ledger, taken between two requests.
    pub async fn ledger(&self) -> Result<Ledger, Busy> {
        self.call(|core| core.ledger().clone()).await
    }

    /// Starts copying series in family order, one chunk at a time.
    pub fn snapshot(&self, request: SnapshotRequest) -> Result<channel::Receiver<Chunk>, Busy> {
        let (job, chunks) = Snapshot::new(request);
        self.submit(Box::new(job))?;
        Ok(chunks)
    }

    /// Subscribes to raw events or logs, starting with the requested replay. `None` at the limit of subscribers.
    pub async fn subscribe(&self, request: StreamRequest) -> Result<Option<Subscription>, Busy> {
        let now = dichroic_model::clock::now();
        self.call(move |core| core.subscribe(request, now)).await
    }
}

struct Call<A, Q> {
    function: Option<Q>,
    reply: channel::Sender<A>,
}

impl<A: Send, Q: FnOnce(&mut Core) -> A + Send> Job for Call<A, Q> {
    fn step(&mut self, core: &mut Core, _: &mut Context<'_>) -> Progress {
        if let Some(function) = self.function.take() {
            // A caller that no longer waits has closed the channel.
            let _ = self.reply.try_send(function(core));
        }
        Progress::Done
    }
}
