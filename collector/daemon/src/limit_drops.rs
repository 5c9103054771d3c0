//! Limits that are reached: the key that sets each, and a line of the log for each source and reason.

use dichroic_model::SourceId;
use dichroic_pipeline::budget::{Budget, Part};
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
    total: u64,
}

/// What was added to a total since its last line; 0 if that line is recent.
fn since(last: Option<Written>, total: u64, now: Instant) -> u64 {
    match last {
        Some(last) if now.duration_since(last.at) < INTERVAL => 0,
        last => total.saturating_sub(last.map_or(0, |last| last.total)),
    }
}

/// The log of what limits drop and refuse. Has an entry for each source and reason of the ledger, which is bounded.
#[derive(Debug, Default)]
pub struct LimitLog {
    drops: HashMap<Subject, Written>,
    refused: [Option<Written>; Part::ALL.len()],
}

impl LimitLog {
    /// Writes a line for each source and limit, and for each part of the budget, that has dropped or refused more since its last line,
    /// unless that is recent.
    pub fn log(&mut self, ledger: &Ledger, budget: &Budget, now: Instant) {
        for (part, refused) in self.refused_due(budget, now) {
            tracing::warn!(
                part = part.as_str(),
                limit = "limits.in_flight",
                limit_bytes = budget.limit(),
                bytes = budget.usage(part).used,
                refused,
                "limit reached; data in flight is refused"
            );
        }
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

    /// Parts of the budget for which a line is due, each with the number of reservations refused since the last one.
    fn refused_due(&mut self, budget: &Budget, now: Instant) -> Vec<(Part, u64)> {
        let mut due = Vec::new();
        for (part, last) in Part::ALL.into_iter().zip(&mut self.refused) {
            let total = budget.usage(part).refused.iter().sum();
            let new = since(*last, total, now);
            if new > 0 {
                *last = Some(Written { at: now, total });
                due.push((part, new));
            }
        }
        due
    }

    /// The lines to write, each with the number of items dropped since the last one.
    fn due(&mut self, ledger: &Ledger, now: Instant) -> Vec<(Subject, u64)> {
        let mut due = Vec::new();
        for (source, signal, account) in ledger.accounts() {
            for (reason, total) in account.drops().filter(|(reason, _)| key(*reason).is_some()) {
                let subject = (source, signal, reason);
                let dropped = since(self.drops.get(&subject).copied(), total, now);
                if dropped > 0 {
                    self.drops.insert(subject, Written { at: now, total });
                    due.push((subject, dropped));
                }
            }
        }
        if self.drops.len() > due.len() {
            self.drops
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

    #[test]
    fn a_line_for_each_part_of_the_budget_in_ten_minutes() {
        let budget = Budget::new(100);
        let mut log = LimitLog::default();
        let start = Instant::now();
        let mut at = |seconds| log.refused_due(&budget, start + Duration::from_secs(seconds));
        assert_eq!(at(0), []);
        assert!(budget.try_reserve(Part::OtlpBodies, 60).is_none());
        assert!(budget.try_reserve(Part::OtlpBodies, 70).is_none());
        assert_eq!(at(1), [(Part::OtlpBodies, 2)]);
        assert!(budget.try_reserve(Part::OtlpBodies, 80).is_none());
        assert!(budget.try_reserve(Part::Pages, 101).is_none());
        assert_eq!(at(2), [(Part::Pages, 1)]);
        assert_eq!(at(601), [(Part::OtlpBodies, 1)]);
    }
}
