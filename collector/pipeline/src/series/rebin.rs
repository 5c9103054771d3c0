//! Histograms whose bounds change: no count is lost.
//!
//! A cumulative point has all that its writer counted, so its bounds replace those of the cell. Deltas are added at the bounds that all
//! have in common, where cumulative counts are exact. Without common bounds one bucket remains.

use super::Series;
use super::bounds::BoundsId;
use super::cell::Cell;
use super::explicit::Explicit;
use super::points::HistogramPoint;
use super::slot::SeriesRef;
use super::times::Times;
use super::values::{HistogramCell, common_bounds, counts_at};
use crate::ledger::DropReason;
use dichroic_model::{Temporality, UnixNanos};
use std::sync::Arc;

impl Series {
    /// Prepares the cell of a histogram for a point with other bounds than its own. Returns whether it has those bounds now; otherwise
    /// the counts of the point must be [`Series::rebin`]ned. `start`: the start of the point, or 0.
    #[cold]
    pub(super) fn change_bounds(
        &mut self,
        index: u32,
        bounds: &Arc<[f64]>,
        start: UnixNanos,
    ) -> Result<bool, DropReason> {
        let slot = &self.slots[index as usize];
        let temporality = slot.meta.as_ref().map(|meta| meta.temporality);
        if temporality == Some(Temporality::Delta) {
            return Ok(self.coarsen(index, bounds));
        }
        let times = Times {
            start,
            time: 0,
            now: 0,
        };
        if super::write::is_other_start(slot, times) {
            self.switch_writer(index, times)?;
        }
        let id = self.bounds.retain(bounds.clone());
        let slot = &self.slots[index as usize];
        if slot.composite && slot.time != 0 && start > slot.start && slot.start_explicit {
            let total = slot.copy(&self.bounds);
            self.ended_totals.extend(total.map(|total| (index, total)));
        }
        self.set_bounds(index, id);
        let slot = &mut self.slots[index as usize];
        if start == 0 {
            (slot.start, slot.start_explicit) = (slot.time, false);
        }
        self.remove_aliases(index);
        Ok(true)
    }

    /// Gives the cell the bounds that it has in common with these. Returns whether these are its bounds now.
    fn coarsen(&mut self, index: u32, bounds: &Arc<[f64]>) -> bool {
        self.counters.changed_bounds += 1;
        self.writers.coarsened(index);
        let Cell::Histogram(held) = &self.slots[index as usize].cell else {
            return true;
        };
        let cell = held.cell(self.bounds.get(held.bounds));
        let common = common_bounds(&cell.bounds, bounds);
        if common != cell.bounds {
            let HistogramCell { sum, min_max, .. } = cell;
            let counts: Vec<u64> = counts_at(&cell.bounds, &cell.counts, &common).collect();
            let id = self.bounds.retain(common.clone());
            self.set_bounds(index, id);
            let slot = &mut self.slots[index as usize];
            if let Cell::Histogram(coarse) = &mut slot.cell {
                let before = coarse.heap_bytes();
                coarse.set(&HistogramPoint {
                    counts: &counts,
                    sum,
                    min_max,
                });
                self.bytes += coarse.heap_bytes() - before;
            }
            self.remove_aliases(index);
        }
        common == *bounds
    }

    /// Empties a histogram and gives it bounds, which the caller has retained for it. Those it has are kept.
    fn set_bounds(&mut self, index: u32, bounds: BoundsId) {
        let slot = &mut self.slots[index as usize];
        let Cell::Histogram(held) = &slot.cell else {
            return;
        };
        if held.bounds == bounds {
            self.bounds.release(bounds);
            return;
        }
        let buckets = self.bounds.get(bounds).len() + 1;
        let empty = Cell::Histogram(Explicit::new(buckets, bounds));
        let old = std::mem::replace(&mut slot.cell, empty);
        self.bytes = (self.bytes + slot.cell.heap_bytes()).saturating_sub(old.heap_bytes());
        old.release(&mut self.bounds);
    }

    /// After another writer was put into the slot: its cell gets the bounds that the point was resolved with.
    #[cold]
    pub(super) fn keep_bounds(&mut self, index: u32, bounds: Option<BoundsId>) {
        if let (Some(id), Cell::Histogram(held)) = (bounds, &self.slots[index as usize].cell)
            && held.bounds != id
        {
            let list = self.bounds.get(id).clone();
            let id = self.bounds.retain(list);
            self.set_bounds(index, id);
        }
    }

    /// Adds up the counts of a point with these bounds, in the raw unit, between the bounds that the series has.
    pub(crate) fn rebin(&self, series: SeriesRef, bounds: &[f64], counts: &mut Vec<u64>) {
        let Some((slot, meta)) = self
            .slot(series)
            .and_then(|slot| Some((slot, slot.meta.as_ref()?)))
        else {
            return;
        };
        let Cell::Histogram(held) = &slot.cell else { return };
        let (from, to) = (
            bounds.iter().map(|bound| meta.factor.apply(*bound)),
            self.bounds.get(held.bounds),
        );
        let from: Vec<f64> = from.collect();
        if from[..] != to[..] && counts.len() == from.len() + 1 {
            *counts = counts_at(&from, counts, to).collect();
        }
    }
}
