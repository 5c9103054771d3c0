//! The limit on the time of a write: a peer that sends requests but never reads responses loses its connection.

use dichroic_http_guard::WriteLimit;
use std::time::Duration;
use tokio::time::Instant;

/// Longest time of a write without progress.
pub(super) struct Stall(pub(super) Duration);

impl WriteLimit for Stall {
    fn deadline(&self) -> Option<Instant> {
        Some(Instant::now() + self.0)
    }
}
