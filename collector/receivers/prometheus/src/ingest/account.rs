//! The account of one page: every sample is applied, hidden or dropped.

use dichroic_model::SourceId;
use dichroic_pipeline::ledger::count_reason;
use dichroic_pipeline::{Core, DropReason, HiddenReason, Signal, Written};

use super::points::PageViolation;

/// The result of a page that was applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Samples on the page.
    pub samples: u64,
    /// Samples that reached a cell.
    pub applied: u64,
    /// New series.
    pub added: u64,
    /// Whether the page was replayed instead of parsed.
    pub replayed: bool,
    /// Violations of OpenMetrics on the page, which is kept all the same.
    pub violations: u64,
}

/// Samples of a page that were applied or dropped.
#[derive(Default)]
pub(super) struct PageAccount {
    pub applied: u64,
    hidden: Vec<(HiddenReason, u64)>,
    dropped: Vec<(DropReason, u64)>,
    pub added: u64,
    pub replayed: bool,
    /// A series in memory has expired in the store, so the page must be rebuilt.
    pub must_rebuild: bool,
}

impl PageAccount {
    pub(super) fn drop(&mut self, reason: DropReason, samples: u64) {
        count_reason(&mut self.dropped, reason, samples);
    }

    pub(super) fn written(&mut self, written: Written, samples: u64) {
        match written {
            Written::Applied => self.applied += samples,
            Written::Hidden(reason) => count_reason(&mut self.hidden, reason, samples),
        }
    }

    /// Writes the account into the ledger.
    pub(super) fn flush_to(
        mut self,
        store: &mut Core,
        source: SourceId,
        duplicates: u64,
        violations: &[PageViolation],
    ) -> Ingested {
        if duplicates > 0 {
            self.drop(DropReason::Duplicate, duplicates);
        }
        let hidden: u64 = self.hidden.iter().map(|(_, count)| count).sum();
        let dropped: u64 = self.dropped.iter().map(|(_, count)| count).sum();
        let samples = self.applied + hidden + dropped;
        let ledger = store.ledger_mut();
        ledger.received(source, Signal::Metrics, samples);
        ledger.applied(source, Signal::Metrics, self.applied);
        for (reason, count) in self.hidden {
            ledger.hidden(source, Signal::Metrics, reason, count);
        }
        for (reason, count) in self.dropped {
            ledger.dropped(source, Signal::Metrics, reason, count);
        }
        for violation in violations {
            ledger.violated(source, violation.reason.as_str(), violation.count);
        }
        Ingested {
            samples,
            applied: self.applied,
            added: self.added,
            replayed: self.replayed,
            violations: violations.iter().map(|violation| violation.count).sum(),
        }
    }
}
