//! Limits that are reached: the key that sets each, and a line of the log for each source and reason.

use dichroic_model::SourceId;
use dichroic_pipeline::{DropReason, Ledger, Signal};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Shortest time between two lines about the same.
const INTERVAL: Duration = Duration::from_secs(600);

/// The key of the configuration that sets the limit; `None` if the reason is not a limit that can be set.
pub fn key(reason: DropReason) -> Option<&'static str> {
    match reason {
        DropReason::SeriesLimit => Some("limits.series"),
        DropReason::SeriesPerSource => Some("limits.series_per_source"),
        DropReason::SeriesPerMetric => Some("limits.series_per_metric"),
        DropReason::MemoryLimit => Some("limits.memory"),
        DropReason::SourceLimit => Some("limits.sources"),
        DropReason::LabelLimit => Some("limits.labels"),
        _ => None,
    }
}

/// What one limit dropped of one source.
type Subject = (SourceId, Signal, DropReason);

#[derive(Debug, Clone, Copy)]
struct Written {
    at: Instant,
    dropped: u64,
}

/// The log of what limits drop. Has an entry for each source and reason of the ledger, which is bounded.
#[derive(Debug, Default)]
pub struct LimitLog(HashMap<Subject, Written>);

impl LimitLog {
    /// Writes a line for each source and limit that has dropped more since its last line, unless that is recent.
    pub fn log(&mut self, ledger: &Ledger, now: Instant) {
        for ((source, signal, reason), dropped) in self.due(ledger, now) {
            let (protocol, source) = ledger.source_name(source).unwrap_or(("internal", "collector"));
            tracing::warn!(
                source,
                protocol,
                signal = signal.as_str(),
                reason = reason.as_str(),
                limit = key(reason),
                dropped,
                "limit reached; series are dropped"
            );
        }
    }

    /// The lines to write, each with the number of items dropped since the last one.
    fn due(&mut self, ledger: &Ledger, now: Instant) -> Vec<(Subject, u64)> {
        let mut due = Vec::new();
        for (source, signal, account) in ledger.accounts() {
            for (reason, total) in account.drops().filter(|(reason, _)| key(*reason).is_some()) {
                let subject = (source, signal, reason);
                let last = self.0.get(&subject);
                let dropped = total.saturating_sub(last.map_or(0, |last| last.dropped));
                if dropped == 0 || last.is_some_and(|last| now.duration_since(last.at) < INTERVAL) {
                    continue;
                }
                let written = Written {
                    at: now,
                    dropped: total,
                };
                self.0.insert(subject, written);
                due.push((subject, dropped));
            }
        }
        if self.0.len() > due.len() {
            self.0
                .retain(|(source, signal, _), _| ledger.account(*source, *signal).is_some());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_source_and_limit_in_ten_minutes() {
        let mut ledger = Ledger::new(0);
        let mut log = LimitLog::default();
        let start = Instant::now();
        let drop = |ledger: &mut Ledger, source, reason, n| {
            ledger.dropped(SourceId(source), Signal::Metrics, reason, n);
        };
        let mut at = |ledger: &Ledger, seconds| {
            let lines = log.due(ledger, start + Duration::from_secs(seconds));
            let short = |((source, _, reason), n): (Subject, u64)| (source.0, reason, n);
            lines.into_iter().map(short).collect::<Vec<_>>()
        };
        assert_eq!(at(&ledger, 0), []);
        drop(&mut ledger, 1, DropReason::SeriesLimit, 3);
        drop(&mut ledger, 1, DropReason::Malformed, 3);
        assert_eq!(at(&ledger, 1), [(1, DropReason::SeriesLimit, 3)]);
        drop(&mut ledger, 1, DropReason::SeriesLimit, 4);
        drop(&mut ledger, 1, DropReason::MemoryLimit, 1);
        drop(&mut ledger, 2, DropReason::SeriesLimit, 2);
        assert_eq!(
            at(&ledger, 2),
            [(1, DropReason::MemoryLimit, 1), (2, DropReason::SeriesLimit, 2)]
        );
        drop(&mut ledger, 1, DropReason::SeriesLimit, 5);
        assert_eq!(at(&ledger, 600), []);
        assert_eq!(at(&ledger, 601), [(1, DropReason::SeriesLimit, 9)]);
        assert_eq!(at(&ledger, 6_000), []);
    }
}
