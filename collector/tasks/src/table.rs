//! The panics of this process by kind, and the essential task that ended.

use crate::caught::Panicked;
use crate::kind::{Kind, Rule};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

static PANICS: [AtomicU64; Kind::ALL.len()] = [const { AtomicU64::new(0) }; Kind::ALL.len()];
static FAILED: LazyLock<watch::Sender<Option<Kind>>> = LazyLock::new(|| watch::channel(None).0);

/// Panics since the start, of every kind.
pub fn panics() -> impl Iterator<Item = (Kind, u64)> {
    let count = |kind: &Kind| (*kind, PANICS[*kind as usize].load(Ordering::Relaxed));
    Kind::ALL.iter().map(count)
}

/// The essential task that ended, if one did.
pub fn failed() -> Option<Kind> {
    *FAILED.borrow()
}

/// Completes when an essential task has ended.
pub async fn failure() -> Kind {
    let mut failed = FAILED.subscribe();
    match failed.wait_for(Option::is_some).await.map(|kind| *kind) {
        Ok(Some(kind)) => kind,
        // The sender is static.
        _ => std::future::pending().await,
    }
}

/// Counts and logs a panic after which the task is not started again.
pub(crate) fn record(kind: Kind, panicked: &Panicked) {
    count(kind);
    match kind.rule() {
        Rule::Essential => {
            tracing::error!(task = kind.as_str(), reason = %panicked, "task panicked; the collector stops: this is a bug, please report it");
            FAILED.send_if_modified(|failed| failed.replace(kind).is_none());
        }
        _ => {
            tracing::error!(task = kind.as_str(), reason = %panicked, "task panicked: this is a bug, please report it")
        }
    }
}

pub(crate) fn count(kind: Kind) {
    PANICS[kind as usize].fetch_add(1, Ordering::Relaxed);
}
