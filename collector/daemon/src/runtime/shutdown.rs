//! The signals by which both threads stop, receivers before exporters.

use tokio::sync::watch;

/// Tells both threads to stop, receivers before exporters.
#[derive(Clone)]
pub struct Stop {
    pub receivers: watch::Receiver<bool>,
    pub exporters: watch::Receiver<bool>,
}
