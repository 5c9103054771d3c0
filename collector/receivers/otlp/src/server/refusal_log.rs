//! The log of refused requests: one line for each sender, endpoint and reason in [`INTERVAL`].

use super::sender::Sender;
use dichroic_pipeline::{Endpoint, RefusedReason};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Shortest time between two lines about the same.
const INTERVAL: Duration = Duration::from_secs(600);
/// Most entries. Further ones replace the oldest.
const ENTRIES: usize = 256;

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Refusal {
    pub(super) sender: Sender,
    pub(super) endpoint: Endpoint,
    /// `None`: accepted in part.
    pub(super) reason: Option<RefusedReason>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    written: Instant,
    /// Requests since then.
    suppressed: u64,
}

/// When each line was last written.
#[derive(Debug, Default)]
pub(super) struct RefusalLog(HashMap<Refusal, Entry>);

impl RefusalLog {
    /// Writes a line, unless one about the same is recent.
    pub(super) fn log(&mut self, refusal: Refusal, error: &str, now: Instant) {
        let (sender, endpoint, reason) = (refusal.sender.clone(), refusal.endpoint, refusal.reason);
        let Some(suppressed) = self.due(refusal, now) else {
            return;
        };
        let (peer, user_agent) = (sender.peer, sender.user_agent);
        let Endpoint { transport, signal } = endpoint;
        match reason {
            Some(reason) => {
                let reason = reason.as_str();
                tracing::warn!(%peer, user_agent, transport, signal, reason, error, suppressed, "request refused");
            }
            None => {
                tracing::warn!(%peer, user_agent, transport, signal, error, suppressed, "request accepted in part");
            }
        }
    }

    /// The number of suppressed lines when one is due; `None` while one is recent.
    fn due(&mut self, refusal: Refusal, now: Instant) -> Option<u64> {
        if let Some(entry) = self.0.get_mut(&refusal) {
            if now.duration_since(entry.written) < INTERVAL {
                entry.suppressed += 1;
                return None;
            }
            let suppressed = entry.suppressed;
            *entry = Entry {
                written: now,
                suppressed: 0,
            };
            return Some(suppressed);
        }
        if self.0.len() >= ENTRIES
            && let Some(oldest) = self.0.iter().min_by_key(|(_, entry)| entry.written)
        {
            let oldest = oldest.0.clone();
            self.0.remove(&oldest);
        }
        self.0.insert(
            refusal,
            Entry {
                written: now,
                suppressed: 0,
            },
        );
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(user_agent: &str, reason: Option<RefusedReason>) -> Refusal {
        Refusal {
            sender: Sender {
                peer: [127, 0, 0, 1].into(),
                user_agent: user_agent.to_owned(),
            },
            endpoint: Endpoint {
                transport: "http",
                signal: "metrics",
            },
            reason,
        }
    }

    #[test]
    fn each_sender_and_reason_is_logged_once_in_an_interval_with_what_was_suppressed() {
        let (mut log, start) = (RefusalLog::default(), Instant::now());
        let busy = || refusal("a", Some(RefusedReason::Busy));
        assert_eq!(log.due(busy(), start), Some(0));
        assert_eq!(log.due(busy(), start), None);
        assert_eq!(log.due(busy(), start + INTERVAL / 2), None);
        assert_eq!(log.due(refusal("b", Some(RefusedReason::Busy)), start), Some(0));
        assert_eq!(log.due(refusal("a", None), start), Some(0));
        assert_eq!(log.due(busy(), start + INTERVAL), Some(2));
        assert_eq!(log.due(busy(), start + 2 * INTERVAL), Some(0));
    }

    #[test]
    fn the_table_is_bounded() {
        let (mut log, start) = (RefusalLog::default(), Instant::now());
        for n in 0..1_000u32 {
            let now = start + Duration::from_millis(n.into());
            assert_eq!(log.due(refusal(&n.to_string(), None), now), Some(0));
        }
        assert_eq!(log.0.len(), ENTRIES);
        assert_eq!(log.due(refusal("999", None), start), None, "the newest are kept");
    }
}
