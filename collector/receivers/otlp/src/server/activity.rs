//! Whether a connection has requests, so that an idle one is closed at once when the receiver stops.

use std::cell::Cell;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The requests of a connection.
#[derive(Default)]
pub(super) struct Activity {
    requests: Cell<usize>,
    changed: Notify,
}

/// A request, until it is dropped.
pub(super) struct Active<'a>(&'a Activity);

impl Activity {
    pub(super) fn begin(&self) -> Active<'_> {
        self.requests.set(self.requests.get() + 1);
        self.changed.notify_one();
        Active(self)
    }

    /// Completes when there has been no request for this time.
    pub(super) async fn idle_for(&self, grace: Duration) {
        loop {
            let changed = self.changed.notified();
            if self.requests.get() > 0 {
                changed.await;
            } else if timeout(grace, changed).await.is_err() && self.requests.get() == 0 {
                return;
            }
        }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    #[tokio::test]
    async fn a_connection_is_idle_some_time_after_its_last_request() {
        let (activity, grace) = (Activity::default(), Duration::from_millis(40));
        let started = Instant::now();
        let request = async {
            let active = activity.begin();
            sleep(Duration::from_millis(80)).await;
            drop(active);
        };
        tokio::join!(request, activity.idle_for(grace));
        assert!(started.elapsed() >= Duration::from_millis(120));
    }
}
