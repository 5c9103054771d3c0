//! Starts every task and thread of the collector that outlives its caller. Nothing else in the workspace spawns one; a test checks that.
//!
//! The runtime catches the panic of a task and discards it: a scrape loop or a listener would be gone while the process looks healthy.
//! Here each task has a [`Kind`], and its kind has a [`Rule`]: it is restarted, or its end is contained, or the process stops. Every
//! panic is an error in the log and is counted by kind. A task that runs until it is stopped returns [`Stopped`], so that no early
//! `return` can end it unnoticed.
//!
//! The table of panics is one for the process, like the panic hook.

#![forbid(unsafe_code)]

mod caught;
pub mod fault;
mod kind;
mod stop;
mod supervise;
mod table;

pub use caught::Panicked;
pub use kind::{Kind, Rule};
pub use stop::stopped;
pub use supervise::{Stopped, restarting, restarting_thread};
pub use table::{failed, failure, panics};

use std::io;
use tokio::task::{JoinHandle, JoinSet, spawn_local};

/// Starts a task of rule [`Rule::Restart`] on this thread. `detail` distinguishes tasks of one kind in the log. Aborting the handle
/// ends the task for good.
pub fn restart(kind: Kind, detail: String, run: impl AsyncFnMut() -> Stopped + 'static) -> JoinHandle<()> {
    spawn_local(restarting(kind, detail, run))
}

/// Starts a task of rule [`Rule::Essential`] on this thread.
pub fn essential(kind: Kind, run: impl Future<Output = Stopped> + 'static) -> JoinHandle<()> {
    debug_assert_eq!(kind.rule(), Rule::Essential, "{kind}");
    spawn_local(async move { drop(supervise::once(kind, run).await) })
}

/// Starts a task of rule [`Rule::Contain`] on this thread, for as long as a connection or a request lasts.
pub fn contained(kind: Kind, run: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
    spawn_local(containing(kind, run))
}

/// [`contained`], for a caller that has no `LocalSet`.
pub fn contained_send(kind: Kind, run: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(containing(kind, run))
}

/// [`contained`], in a set that aborts it when it is dropped.
pub fn contained_in(set: &mut JoinSet<()>, kind: Kind, run: impl Future<Output = ()> + 'static) {
    set.spawn_local(containing(kind, run));
}

async fn containing(kind: Kind, run: impl Future<Output = ()>) {
    debug_assert_eq!(kind.rule(), Rule::Contain, "{kind}");
    let _ = supervise::once(kind, run).await;
}

/// Calls a function of rule [`Rule::Essential`] on this thread.
///
/// # Errors
/// It panicked.
pub fn call<T>(kind: Kind, run: impl FnOnce() -> T) -> Result<T, Panicked> {
    caught::call(run).inspect_err(|panicked| table::record(kind, panicked))
}

/// Starts a thread with the name of its kind. A panic is reported by the rule of the kind, and is the result of the thread.
///
/// # Errors
/// The operating system refuses another thread.
pub fn thread<T: Send + 'static>(
    kind: Kind,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<std::thread::JoinHandle<Result<T, Panicked>>> {
    let builder = std::thread::Builder::new().name(kind.as_str().to_owned());
    builder.spawn(move || {
        call(kind, || {
            fault::point(kind.as_str());
            run()
        })
    })
}

/// Runs blocking work on a thread of its own, which the exit of the process does not wait for. `Err`: the work panicked.
///
/// # Errors
/// The operating system refuses another thread.
pub async fn blocking<T: Send + 'static>(
    kind: Kind,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Result<T, Panicked>> {
    let (done, result) = tokio::sync::oneshot::channel();
    let running = move || {
        let _ = done.send(work());
    };
    thread(kind, running)?;
    Ok(result.await.map_err(|_| Panicked::unknown()))
}
