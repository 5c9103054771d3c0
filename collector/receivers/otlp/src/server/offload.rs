//! Long work on one body, done beside the ingest thread.
//!
//! A body of many mebibytes takes tenths of a second to inflate, to read as JSON and to check; meanwhile nothing else would be
//! received. What is that long goes to a thread of its own, one body at a time: so it takes one core and room for one body at most,
//! whatever comes. What is short stays on the ingest thread, where it costs less than the way to another and back.

use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// The thread beside, and the queue before it.
#[derive(Debug)]
pub(super) struct Offload(Arc<Semaphore>);

impl Offload {
    pub(super) fn new() -> Self {
        Offload(Arc::new(Semaphore::new(1)))
    }

    /// Occupies the thread beside until what is returned goes.
    #[cfg(test)]
    pub(super) async fn occupy(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.0.clone().acquire_owned().await.expect("never closed")
    }

    /// Does `work` here if it is short, else aside, when its turn has come. Work that has begun goes on to its end, also when nobody
    /// waits for it any more, and keeps the next from beginning.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        short: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if short {
            return work();
        }
        let turn = self.0.clone().acquire_owned().await;
        let done = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        // Nobody cancels it: what fails is the work, and it fails here as it would have failed above.
        done.await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}
