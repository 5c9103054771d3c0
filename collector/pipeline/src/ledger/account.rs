//! The account of one source and signal.

use super::terms::{DropReason, HiddenReason};
use dichroic_model::UnixNanos;

/// The account of one source and signal at the ingest hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAccount {
    /// Start of the account.
    pub since: UnixNanos,
    /// Received.
    pub received: u64,
    /// Reached a cell that pages show, or a stream.
    pub applied: u64,
    /// Pending: neither applied nor dropped yet.
    pub staged: u64,
    pub(super) hidden: Vec<u64>,
    pub(super) dropped: Vec<u64>,
    /// The largest values of `applied` and of each of `hidden`.
    peaks: Vec<u64>,
    /// Points that became hidden or visible before they were counted, from one term to another.
    pub(super) unsettled: Vec<(Moved, u64)>,
}

/// Why a point was hidden, and why it is.
pub(super) type Moved = (Option<HiddenReason>, Option<HiddenReason>);

impl SourceAccount {
    pub(super) fn new(since: UnixNanos) -> Self {
        SourceAccount {
            since,
            received: 0,
            applied: 0,
            staged: 0,
            hidden: vec![0; HiddenReason::ALL.len()],
            dropped: vec![0; DropReason::ALL.len()],
            peaks: vec![0; 1 + HiddenReason::ALL.len()],
            unsettled: Vec::new(),
        }
    }

    /// Reached a series that no page shows, for one reason.
    pub fn hidden(&self, reason: HiddenReason) -> u64 {
        self.hidden[reason as usize]
    }

    /// The reasons for hidden points, each with their number.
    pub fn hides(&self) -> impl Iterator<Item = (HiddenReason, u64)> + '_ {
        HiddenReason::ALL
            .iter()
            .map(|r| (*r, self.hidden(*r)))
            .filter(|(_, n)| *n > 0)
    }

    /// The largest value that `applied` had: a counter that does not fall when points become hidden.
    pub fn applied_peak(&self) -> u64 {
        self.peaks[0]
    }

    /// As [`SourceAccount::hides`], with the largest value that each had.
    pub fn hidden_peaks(&self) -> impl Iterator<Item = (HiddenReason, u64)> + '_ {
        HiddenReason::ALL
            .iter()
            .map(|reason| (*reason, self.peaks[1 + *reason as usize]))
            .filter(|(_, n)| *n > 0)
    }

    fn term(&mut self, hidden: Option<HiddenReason>) -> &mut u64 {
        match hidden {
            Some(reason) => &mut self.hidden[reason as usize],
            None => &mut self.applied,
        }
    }

    /// Moves points between the terms as far as they are counted. A receiver may count its points later than it writes them.
    pub(super) fn settle(&mut self) {
        if !self.unsettled.is_empty() {
            let mut unsettled = std::mem::take(&mut self.unsettled);
            for ((before, after), points) in &mut unsettled {
                let counted = (*points).min(*self.term(*before));
                *points -= counted;
                *self.term(*before) -= counted;
                add(self.term(*after), counted);
            }
            unsettled.retain(|(_, points)| *points > 0);
            self.unsettled = unsettled;
        }
        self.raise_peaks();
    }

    pub(super) fn raise_peaks(&mut self) {
        let terms = std::iter::once(&self.applied).chain(&self.hidden);
        for (peak, term) in self.peaks.iter_mut().zip(terms) {
            *peak = (*peak).max(*term);
        }
    }

    /// Dropped for one reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Number of dropped items by reason, without zeros.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|r| (*r, self.dropped(*r)))
            .filter(|(_, n)| *n > 0)
    }

    /// Whether received = applied + hidden + dropped + staged.
    pub fn balances(&self) -> bool {
        let parts = [self.applied, self.staged]
            .into_iter()
            .chain(self.hidden.iter().copied())
            .chain(self.dropped.iter().copied());
        self.received == parts.fold(0, u64::saturating_add)
    }
}

/// Saturates: a peer may report any number as lost.
pub(super) fn add(term: &mut u64, n: u64) {
    *term = term.saturating_add(n);
}
