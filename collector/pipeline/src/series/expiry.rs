//! Which series expire, and what resets them.

use super::cell::Cell;
use super::explicit::Explicit;
use super::slot::SeriesRef;
use super::{Series, TENTH};
use dichroic_model::{Expiry, SECOND, UnixNanos};
use std::ops::Range;

/// Slots checked per sweep: some tens of microseconds.
const SWEEP: u32 = 16_384;

/// How long series are kept that were not resolved again after a reload. A quiet one, a counter of the BEAM for example, may still be
/// right.
const STALE: UnixNanos = 600 * SECOND;

impl Series {
    /// Keeps the series after a reload, with its current resolution, although no point resolves it again.
    pub(crate) fn retain(&mut self, series: SeriesRef) {
        if self.exists(series) {
            self.slots[series.index as usize].epoch = self.resolution;
        }
    }

    /// Empties the cell: the next point is the first of another incarnation, whatever its times.
    pub(crate) fn reset(&mut self, series: SeriesRef) {
        if self.slot(series).is_none() {
            return;
        }
        let slot = &mut self.slots[series.index as usize];
        let empty = match &slot.cell {
            Cell::Histogram(held) => Cell::Histogram(Explicit::new(held.buckets(), held.bounds)),
            _ => Cell::Empty,
        };
        let old = std::mem::replace(&mut slot.cell, empty);
        self.bytes = (self.bytes + slot.cell.heap_bytes()).saturating_sub(old.heap_bytes());
        (slot.start, slot.start_explicit, slot.time) = (0, false, 0);
    }

    /// The slots of the next sweep.
    pub(crate) fn sweep_range(&self) -> Range<u32> {
        let end = self.cursor.saturating_add(SWEEP).min(self.slots.len() as u32);
        self.cursor.min(end)..end
    }

    /// The sweep ended before this slot.
    pub(crate) fn end_sweep(&mut self, next: u32) {
        self.cursor = if next == self.slots.len() as u32 { 0 } else { next };
    }

    /// Whether series expire now that were not resolved again since the last reload.
    pub(crate) fn stale_expire(&self, now: UnixNanos) -> bool {
        self.stale_at.is_some_and(|at| now >= at)
    }

    pub(crate) fn is_due(&self, index: u32, now: UnixNanos, stale: bool, shortest_idle: UnixNanos) -> bool {
        let slot = &self.slots[index as usize];
        let Some(meta) = &slot.meta else { return false };
        if stale && slot.epoch != self.resolution {
            return true;
        }
        // The slot alone answers for nearly all; the source is read only for those that may be due.
        let touched = self.epoch + u64::from(slot.touched) * TENTH + (TENTH - 1);
        slot.idles
            && touched.saturating_add(shortest_idle) < now
            && matches!(meta.source.spec.expiry, Expiry::AfterIdle(idle) if touched.saturating_add(idle) < now)
    }

    /// After a reload the resolution of any series may differ. Every series keeps its state, but its references are stale and its
    /// fingerprints unknown until the next point finds it by its key. A series without one expires after a while.
    pub(crate) fn bump_epoch(&mut self, now: UnixNanos) {
        self.resolution = self.resolution.wrapping_add(1);
        self.stale_at = Some(now + STALE);
        for slot in self.slots.iter_mut().filter(|slot| slot.meta.is_some()) {
            slot.generation = slot.generation.after_reload();
        }
        self.clear_aliases();
    }
}
