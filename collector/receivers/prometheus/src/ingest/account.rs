//! The account of one page: every sample is either applied or dropped.

use dichroic_model::SourceId;
use dichroic_pipeline::{Core, DropReason, Signal};

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
}

/// Samples of a page that were applied or dropped.
#[derive(Default)]
pub(super) struct PageAccount {
    pub applied: u64,
    dropped: Vec<(DropReason, u64)>,
    pub added: u64,
    pub replayed: bool,
    /// A series in memory has expired in the store, so the page must be rebuilt.
    pub must_rebuild: bool,
}

impl PageAccount {
    pub(super) fn drop(&mut self, reason: DropReason, samples: u64) {
        match self.dropped.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += samples,
            None => self.dropped.push((reason, samples)),
        }
    }

    /// Writes the account into the ledger.
    pub(super) fn flush_to(mut self, store: &mut Core, source: SourceId, duplicates: u64) -> Ingested {
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
