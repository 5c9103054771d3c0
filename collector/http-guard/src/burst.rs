//! One line in the log for a burst of refused requests.

use super::refused::Refused;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Shortest time between two lines about one reason.
const INTERVAL: Duration = Duration::from_secs(60);

/// For each reason, when its line was last written and how many requests were refused since then.
#[derive(Debug, Default)]
pub struct Bursts(Mutex<[Option<(Instant, u64)>; Refused::ALL.len()]>);

impl Bursts {
    /// The number of requests that were refused without a line, when one is due.
    pub fn due(&self, refused: Refused, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &mut all[refused as usize];
        match last {
            Some((written, suppressed)) if now.duration_since(*written) < INTERVAL => {
                *suppressed += 1;
                None
            }
            _ => last
                .replace((now, 0))
                .map_or(Some(0), |(_, suppressed)| Some(suppressed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_has_one_line_for_each_reason() {
        let (bursts, start) = (Bursts::default(), Instant::now());
        assert_eq!(bursts.due(Refused::Host, start), Some(0));
        assert_eq!(bursts.due(Refused::CrossSite, start), Some(0));
        assert_eq!(bursts.due(Refused::Host, start), None);
        assert_eq!(bursts.due(Refused::Host, start + INTERVAL / 2), None);
        assert_eq!(bursts.due(Refused::Host, start + INTERVAL), Some(2));
        assert_eq!(bursts.due(Refused::Host, start + INTERVAL * 2), Some(0));
    }
}
