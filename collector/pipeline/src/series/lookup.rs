//! Batched lookup, so that the cache misses of several series overlap.
//!
//! With many series, table, slots and cells are not in the cache. A single lookup waits for the entry, the slot and the cell in turn. A
//! receiver with several points looks all of them up first, so that they are cached when it writes.

use super::Series;
use super::cell::Cell;
use super::slot::SeriesRef;
use dichroic_model::Fingerprint;
use std::hint::black_box;

/// Largest number of series in a batch.
pub const LOOKUP_BATCH: usize = 16;

/// The result of [`crate::Core::find_batch`].
pub struct FoundSeries {
    series: [Option<SeriesRef>; LOOKUP_BATCH],
    changes: u64,
}

impl Series {
    /// The series of a fingerprint, if there is one.
    #[inline]
    pub(crate) fn find(&self, fp: Fingerprint) -> Option<SeriesRef> {
        let index = self.table.find(fp)?;
        Some(SeriesRef {
            index,
            generation: self.slots[index as usize].generation,
        })
    }

    /// Looks up a batch of at most [`LOOKUP_BATCH`] series and reads their cells.
    pub(crate) fn find_batch(&self, fingerprints: &[Fingerprint]) -> FoundSeries {
        let mut found = FoundSeries {
            series: [None; LOOKUP_BATCH],
            changes: self.table.changes(),
        };
        let mut indexes = [u32::MAX; LOOKUP_BATCH];
        for (index, fingerprint) in indexes.iter_mut().zip(fingerprints) {
            *index = self.table.find(*fingerprint).unwrap_or(u32::MAX);
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
        // Keeps the compiler from removing the reads.
        black_box(seen);
        found
    }

    /// The same result as [`crate::Core::find`], without another lookup unless the table has changed.
    #[inline]
    pub(crate) fn find_in(
        &self,
        found: &FoundSeries,
        at: usize,
        fingerprint: Fingerprint,
    ) -> Option<SeriesRef> {
        if found.changes == self.table.changes() {
            found.series[at]
        } else {
            self.find(fingerprint)
        }
    }
}
