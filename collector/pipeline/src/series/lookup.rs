//! Looking up a group of series at once, so that the cache misses of all of them are one wait.
//!
//! A table and cells of many series lie in memory that is far away: asked for one after another, each point waits for its entry, then
//! for its slot, then for its cell. Receivers that have several points in hand ask for all of them, and find them near when they write.

use super::Series;
use super::cell::Cell;
use super::slot::SeriesRef;
use dichroic_model::Fingerprint;
use std::hint::black_box;

/// Series looked up at once, at most.
pub const LOOKUP_BATCH: usize = 16;

/// What [`crate::Core::find_batch`] found.
pub struct FoundSeries {
    series: [Option<SeriesRef>; LOOKUP_BATCH],
    changes: u64,
}

impl Series {
    /// The series of a fingerprint, if it is known.
    #[inline]
    pub(crate) fn find(&self, fp: Fingerprint) -> Option<SeriesRef> {
        let index = self.table.find(fp)?;
        Some(SeriesRef {
            index,
            generation: self.slots[index as usize].generation,
        })
    }

    /// Looks up to [`LOOKUP_BATCH`] series up, and at their cells, all together.
    pub(crate) fn find_batch(&self, prints: &[Fingerprint]) -> FoundSeries {
        let mut found = FoundSeries {
            series: [None; LOOKUP_BATCH],
            changes: self.table.changes(),
        };
        let mut indexes = [u32::MAX; LOOKUP_BATCH];
        for (index, print) in indexes.iter_mut().zip(prints) {
            *index = self.table.find(*print).unwrap_or(u32::MAX);
        }
        let mut seen = 0;
        for (series, index) in found.series.iter_mut().zip(indexes) {
            let Some(slot) = self.slots.get(index as usize) else {
                continue;
            };
            let generation = slot.generation;
            seen ^= slot.time ^ u64::from(slot.touched);
            *series = Some(SeriesRef { index, generation });
        }
        for index in indexes {
            if let Some(slot) = self.slots.get(index as usize)
                && let Cell::Histogram(cell) = &slot.cell
            {
                seen ^= cell.touch();
            }
        }
        // What was read for its own sake must not be found useless.
        black_box(seen);
        found
    }

    /// What [`crate::Core::find`] says of the fingerprint now, without looking again unless something changed since.
    #[inline]
    pub(crate) fn find_in(&self, found: &FoundSeries, at: usize, print: Fingerprint) -> Option<SeriesRef> {
        if found.changes == self.table.changes() {
            found.series[at]
        } else {
            self.find(print)
        }
    }
}
