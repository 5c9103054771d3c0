//! The stop signals of both threads and the deadline of a shutdown.

use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Receivers stop before exporters, so that exporters send the last data received.
#[derive(Clone)]
pub struct Stop {
    /// True: receivers stop.
    pub receivers: watch::Receiver<bool>,
    /// True: exporters stop, and with them both threads.
    pub exporters: watch::Receiver<bool>,
}

/// The sending half of [`Stop`].
pub struct StopSender {
    receivers: watch::Sender<bool>,
    exporters: watch::Sender<bool>,
}

impl StopSender {
    /// Both halves.
    pub fn new() -> (Self, Stop) {
        let (stop_receivers, receivers) = watch::channel(false);
        let (stop_exporters, exporters) = watch::channel(false);
        let sender = StopSender {
            receivers: stop_receivers,
            exporters: stop_exporters,
        };
        (sender, Stop { receivers, exporters })
    }

    /// Stops the receivers.
    pub fn stop_receivers(&self) {
        self.receivers.send_replace(true);
    }

    /// Stops everything.
    pub fn stop_all(&self) {
        self.stop_receivers();
        self.exporters.send_replace(true);
    }
}

/// The end of a shutdown, `limits.shutdown` after the signal.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    begun: Instant,
    limit: Duration,
}

impl Deadline {
    /// Starts the time limit now.
    pub fn new(limit: Duration) -> Self {
        Deadline {
            begun: Instant::now(),
            limit,
        }
    }

    /// When the shutdown began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Time left.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }
}
