//! Several writers on one series: prefork workers that export the same resource, each with its own total.
//!
//! A cumulative point states the start of its count. Points whose starts alternate come from several processes: each of them has its own
//! total, and the series is their sum. The slot holds the writer of the last point, this table the others. A start that was never seen
//! before may also be a restart, or the start of a sender that estimates it anew for each point; so nothing is added up until a start
//! returns.

use super::cell::Cell;
use super::meta::SeriesMeta;
use super::times::Times;
use crate::hash::{HashMap, HashSet};
use crate::row::RowValue;
use dichroic_model::{MetricKind, SECOND, UnixNanos};

/// Largest number of writers of one series.
pub(crate) const MAX_WRITERS: usize = 64;

/// A writer that is not the last one.
pub(super) struct Writer {
    pub(super) cell: Cell,
    pub(super) start: UnixNanos,
    pub(super) time: UnixNanos,
    pub(super) touched: u32,
}

/// The writers of one series, without the one in its slot.
#[derive(Default)]
pub(super) struct WriterSet {
    pub(super) others: Vec<Writer>,
    /// A start has returned.
    pub(super) confirmed: bool,
    /// Too many starts were seen and none returned: the sender estimates it for each point.
    pub(super) sliding: bool,
    /// The totals of removed writers.
    pub(super) retired: Option<RowValue>,
}

#[derive(Default)]
pub(crate) struct Writers {
    pub(super) sets: HashMap<u32, WriterSet>,
    pub(super) seen: u64,
    /// Decreases of the total of a series although its stated start did not change, or was not stated.
    falls: HashMap<u32, Falls>,
    shared_starts: u64,
    /// Series of deltas that lost bounds, because points had others.
    coarse: HashSet<u32>,
}

#[derive(Default)]
struct Falls {
    count: u32,
    last: UnixNanos,
}

/// Decreases of one series with an unchanged start after which several processes are the only explanation.
const FALLS: u32 = 3;

/// Longest time between decreases without a stated start: those of a program that restarts are rarer.
const FALLS_WITHIN: UnixNanos = 300 * SECOND;

impl Writers {
    /// Series that had several writers so far.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether the series is the sum of several writers.
    pub(crate) fn is_sum(&self, index: u32) -> bool {
        self.sets.get(&index).is_some_and(|set| set.confirmed)
    }

    /// Writers of the series.
    pub(crate) fn count(&self, index: u32) -> usize {
        let set = self.sets.get(&index).filter(|set| set.confirmed);
        1 + set.map_or(0, |set| set.others.len())
    }

    /// Series so far whose writers state one start or none, so that they cannot be told apart.
    pub(crate) fn shared_starts(&self) -> u64 {
        self.shared_starts
    }

    /// Whether several writers of the series state one start or none.
    pub(crate) fn share_start(&self, index: u32) -> bool {
        self.falls.get(&index).is_some_and(|falls| falls.count >= FALLS)
    }

    /// Records that the total of the series decreased while its stated start stayed the same, or was not stated.
    pub(super) fn fell(&mut self, index: u32, times: Times) {
        let falls = self.falls.entry(index).or_default();
        let rare = times.start == 0 && times.now.saturating_sub(falls.last) > FALLS_WITHIN;
        if rare && falls.count < FALLS {
            falls.count = 0;
        }
        falls.last = times.now;
        falls.count = falls.count.saturating_add(1);
        self.shared_starts += u64::from(falls.count == FALLS);
    }

    /// The series lost bounds.
    pub(super) fn coarsened(&mut self, index: u32) {
        self.coarse.insert(index);
    }

    /// Whether the series lost bounds, because points had others.
    pub(crate) fn is_coarse(&self, index: u32) -> bool {
        self.coarse.contains(&index)
    }

    /// Whether a series has a finding of its own.
    pub(crate) fn any_finding(&self) -> bool {
        self.shared_starts > 0 || !self.coarse.is_empty()
    }

    /// Whether the series has one.
    pub(crate) fn has_finding(&self, index: u32) -> bool {
        self.share_start(index) || self.is_coarse(index)
    }

    pub(super) fn remove_findings(&mut self, index: u32) {
        if !self.falls.is_empty() {
            self.falls.remove(&index);
        }
        if !self.coarse.is_empty() {
            self.coarse.remove(&index);
        }
    }

    /// Adds what one writer lost by a reset.
    pub(crate) fn retire(&mut self, index: u32, value: RowValue, max_buckets: usize, meta: &SeriesMeta) {
        if let Some(set) = self.sets.get_mut(&index) {
            retire(&mut set.retired, value, max_buckets, meta);
        }
    }
}

/// Adds to the totals of removed writers or series, which stay in the sum.
pub(crate) fn retire(retired: &mut Option<RowValue>, value: RowValue, max_buckets: usize, meta: &SeriesMeta) {
    match retired {
        Some(sum) => sum.add(&value, max_buckets, meta),
        None => *retired = Some(value),
    }
}

/// Whether values of the kind can be added up.
pub(crate) fn adds_up(kind: MetricKind) -> bool {
    matches!(
        kind,
        MetricKind::Sum { .. } | MetricKind::Histogram | MetricKind::ExponentialHistogram
    )
}
