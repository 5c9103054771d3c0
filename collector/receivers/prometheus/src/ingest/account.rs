//! The account of one page: every sample is either applied or dropped.

use dichroic_model::SourceId;
use dichroic_pipeline::{Core, DropReason, Signal};

/// What came of a page that was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Samples on the page.
    pub samples: u64,
    /// Samples that reached a cell.
    pub applied: u64,
    /// Series that were not there before.
    pub added: u64,
    /// Whether the page was replayed, not parsed.
    pub replayed: bool,
}

/// What came of applying a page, in samples.
#[derive(Default)]
pub(super) struct PageAccount {
    pub applied: u64,
    dropped: Vec<(DropReason, u64)>,
    pub added: u64,
    pub replayed: bool,
    /// The store no longer knows a series that memory points to: it must be met again.
    pub must_rebuild: bool,
}

impl PageAccount {
    pub(super) fn drop(&mut self, reason: DropReason, samples: u64) {
        match self.dropped.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += samples,
            None => self.dropped.push((reason, samples)),
        }
    }

    /// Writes the account: every sample was either applied or dropped.
    pub(super) fn account(mut self, store: &mut Core, source: SourceId, duplicates: u64) -> Ingested {
        if duplicates > 0 {
            self.drop(DropReason::Duplicate, duplicates);
        }
        let samples = self.applied + self.dropped.iter().map(|(_, count)| count).sum::<u64>();
        let ledger = store.ledger_mut();
        ledger.received(source, Signal::Metrics, samples);
        ledger.applied(source, Signal::Metrics, self.applied);
        for (reason, count) in self.dropped {
            ledger.dropped(source, Signal::Metrics, reason, count);
        }
        Ingested {
            samples,
            applied: self.applied,
            added: self.added,
            replayed: self.replayed,
        }
    }
}
