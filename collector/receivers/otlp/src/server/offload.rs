//! Moves long work on one body off the ingest thread.
//!
//! A body of many mebibytes takes tenths of a second to decompress, to convert from JSON and to validate; on the ingest thread it
//! would block all other receivers. Long work runs on a separate thread, one body at a time, so it uses at most one core and the
//! memory for one body. Short work stays on the ingest thread, where it costs less than two thread switches.

use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// The offload thread and its queue.
#[derive(Debug)]
pub(super) struct Offload(Arc<Semaphore>);

impl Offload {
    pub(super) fn new() -> Self {
        Offload(Arc::new(Semaphore::new(1)))
    }

    /// Occupies the offload thread until the permit is dropped.
    #[cfg(test)]
    pub(super) async fn occupy(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.0.clone().acquire_owned().await.expect("never closed")
    }

    /// Runs `work` here if it is `short`, otherwise on the offload thread in turn. Work that has started runs to its end, even if the
    /// caller is dropped, and the next waits for it.
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
        // The task is never cancelled, so the only error is a panic of `work`, which continues here.
        done.await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}
