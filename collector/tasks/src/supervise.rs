//! Restarts with backoff.

use crate::caught::{self, Panicked};
use crate::fault;
use crate::kind::{Kind, Rule};
use crate::table;
use std::time::{Duration, Instant};

/// Pause before the first restart.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A task that ran for this time is restarted after the shortest pause again.
const STABLE: Duration = Duration::from_secs(60);

/// The result of a task that runs until it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

struct Backoff(Duration);

impl Backoff {
    const fn new() -> Self {
        Backoff(BACKOFF_MIN)
    }

    /// The pause after a run.
    fn next(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.0 = BACKOFF_MIN;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(BACKOFF_MAX);
        pause
    }
}

/// Runs a task of rule [`Rule::Restart`] until it is stopped. What must outlive a panic, such as a listening socket, is captured by
/// `run`; its local state is dropped.
pub async fn restarting(kind: Kind, detail: String, mut run: impl AsyncFnMut() -> Stopped) {
    debug_assert_eq!(kind.rule(), Rule::Restart, "{kind}");
    let mut backoff = Backoff::new();
    loop {
        let started = Instant::now();
        let panicked = match caught::future(fault::injected(kind, run())).await {
            Ok(Stopped) => return,
            Err(panicked) => panicked,
        };
        let pause = backoff.next(started.elapsed());
        restart(kind, &detail, &panicked, pause);
        tokio::time::sleep(pause).await;
    }
}

/// [`restarting`] for a thread without a runtime.
pub fn restarting_thread(kind: Kind, mut run: impl FnMut() -> Stopped) {
    debug_assert_eq!(kind.rule(), Rule::Restart, "{kind}");
    let mut backoff = Backoff::new();
    loop {
        let started = Instant::now();
        let panicked = match caught::call(&mut run) {
            Ok(Stopped) => return,
            Err(panicked) => panicked,
        };
        let pause = backoff.next(started.elapsed());
        restart(kind, "", &panicked, pause);
        std::thread::sleep(pause);
    }
}

fn restart(kind: Kind, detail: &str, panicked: &Panicked, pause: Duration) {
    table::count(kind);
    tracing::error!(
        task = kind.as_str(),
        detail = (!detail.is_empty()).then_some(detail),
        reason = %panicked,
        restart_in_ms = pause.as_millis() as u64,
        "task panicked and is restarted: this is a bug, please report it"
    );
}

/// Runs a future of another rule once.
pub(crate) async fn once<T>(kind: Kind, run: impl Future<Output = T>) -> Result<T, Panicked> {
    let result = caught::future(fault::injected(kind, run)).await;
    result.inspect_err(|panicked| table::record(kind, panicked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_start_again_after_a_stable_run() {
        let mut backoff = Backoff::new();
        let short = Duration::from_millis(1);
        let mut pauses: Vec<Duration> = (0..10).map(|_| backoff.next(short)).collect();
        assert_eq!(pauses[..3], [BACKOFF_MIN, BACKOFF_MIN * 2, BACKOFF_MIN * 4]);
        assert_eq!(pauses.pop(), Some(BACKOFF_MAX));
        assert_eq!(backoff.next(STABLE), BACKOFF_MIN);
    }
}
