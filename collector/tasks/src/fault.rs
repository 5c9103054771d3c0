//! Panics on request, for the tests of the rules. Compiled into debug builds only.
//!
//! A file named after a task or a point in the folder `DICHROIC_PANIC_DIR` makes the next task that looks for it remove it and panic.

use crate::kind::Kind;

/// Awaits `run`; panics when the task's file appears.
#[cfg(not(debug_assertions))]
pub async fn injected<T>(_kind: Kind, run: impl Future<Output = T>) -> T {
    run.await
}

/// Panics if the point's file exists.
#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}

#[cfg(debug_assertions)]
pub use debug::{injected, point};

#[cfg(debug_assertions)]
mod debug {
    use super::Kind;
    use std::path::PathBuf;
    use std::pin::pin;
    use std::sync::LazyLock;
    use std::task::Poll;
    use std::time::Duration;

    /// How often a running task looks for its file.
    const INTERVAL: Duration = Duration::from_millis(20);

    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("DICHROIC_PANIC_DIR").map(PathBuf::from));

    /// Panics if the point's file exists.
    pub fn point(name: &str) {
        let Some(folder) = FOLDER.as_ref() else { return };
        if std::fs::remove_file(folder.join(name)).is_ok() {
            panic!("injected into {name}");
        }
    }

    /// Awaits `run`; panics when the task's file appears.
    pub async fn injected<T>(kind: Kind, run: impl Future<Output = T>) -> T {
        if FOLDER.is_none() {
            return run.await;
        }
        let mut run = pin!(run);
        let mut fuse = pin!(async {
            loop {
                point(kind.as_str());
                tokio::time::sleep(INTERVAL).await;
            }
        });
        std::future::poll_fn(|cx| {
            let _: Poll<()> = fuse.as_mut().poll(cx);
            run.as_mut().poll(cx)
        })
        .await
    }
}
