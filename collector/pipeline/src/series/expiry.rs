//! Expiry and reset of series.

use super::cell::Cell;
use super::explicit::Explicit;
use super::meta::SeriesMeta;
use super::slot::SeriesRef;
use super::{Series, TENTH};
use dichroic_model::{Expiry, MetricKind, SECOND, Temporality, UnixNanos};
use std::ops::Range;

/// Slots checked per sweep: some tens of microseconds.
const SWEEP: u32 = 16_384;

/// Lifetime after a reload of series that are not resolved again. A series without new points, such as a BEAM counter, may still be
/// correct.
const STALE: UnixNanos = 600 * SECOND;

impl Series {
    /// Keeps a series after a reload with its current resolution, for series that get no more points.
    pub(crate) fn retain(&mut self, series: SeriesRef) {
        if self.exists(series) {
            self.slots[series.index as usize].resolution = self.resolution;
        }
    }

    /// Empties the cell: the next point starts a new incarnation, whatever its times.
    pub(crate) fn reset(&mut self, series: SeriesRef) {
        if self.slot(series).is_none() {
            return;
        }
        self.remove_writers(series.index);
        let slot = &mut self.slots[series.index as usize];
        let empty = match &slot.cell {
            Cell::Histogram(old) => Cell::Histogram(Explicit::new(old.buckets(), old.bounds)),
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

    /// Records that the sweep ended before this slot.
    pub(crate) fn end_sweep(&mut self, next: u32) {
        self.cursor = if next == self.slots.len() as u32 { 0 } else { next };
    }

    /// Whether series not resolved since the last reload expire now.
    pub(crate) fn stale_are_due(&self, now: UnixNanos) -> bool {
        self.stale_at.is_some_and(|at| now >= at)
    }

    pub(crate) fn is_due(&self, index: u32, now: UnixNanos, stale: bool, shortest_idle: UnixNanos) -> bool {
        let slot = &self.slots[index as usize];
        let Some(meta) = &slot.meta else { return false };
        if stale && slot.resolution != self.resolution {
            return true;
        }
        // The slot alone decides nearly all; the source is read only for series that may be due.
        let touched = self.epoch + u64::from(slot.touched) * TENTH + (TENTH - 1);
        slot.expires_idle
            && touched.saturating_add(shortest_idle) < now
            && idle_time(meta).is_some_and(|idle| touched.saturating_add(idle) < now)
    }

    /// Counts the end of an idle series, if something is lost with it.
    pub(crate) fn count_idle(&mut self, index: u32) {
        let Some(meta) = &self.slots[index as usize].meta else {
            return;
        };
        if meta.temporality == Temporality::Delta {
            self.counters.expired_deltas += 1;
        } else if meta.metric.kind == MetricKind::Gauge {
            self.counters.expired_gauges += 1;
        }
    }

    /// Starts a new resolution after a reload. Every series keeps its state, but its references become stale and its fingerprints are
    /// removed until the next point finds it by its key. A series without points expires after [`STALE`].
    pub(crate) fn start_resolution(&mut self, now: UnixNanos) {
        self.resolution = self.resolution.wrapping_add(1);
        self.stale_at = Some(now + STALE);
        for slot in self.slots.iter_mut().filter(|slot| slot.meta.is_some()) {
            slot.generation = slot.generation.after_reload();
        }
        self.clear_aliases();
    }
}

/// How long a series may be idle.
pub(super) fn idle_time(meta: &SeriesMeta) -> Option<UnixNanos> {
    let spec = &meta.source.spec;
    match (spec.expiry, meta.temporality) {
        (Expiry::AfterIdle(idle), Temporality::Delta) => {
            Some(idle.max(spec.expire_deltas_after.unwrap_or(0)))
        }
        (Expiry::AfterIdle(idle), Temporality::Cumulative) => Some(idle),
        _ => None,
    }
}
