//! Expiry: by the receiver, when idle, after the end of a source, or after a reload; in bounded parts.

use super::Core;
use crate::series::slot::SeriesRef;
use dichroic_model::clock::steady;
use dichroic_model::{SourceId, UnixNanos};

/// Series that expire per sweep: about half a millisecond.
const PER_SWEEP: usize = 1_024;

impl Core {
    /// Removes a series now: no page and no copy that starts later contains it. Also valid for a series that has not been resolved
    /// since the last reload.
    pub fn expire(&mut self, series: SeriesRef) {
        if self.series.exists(series) {
            self.remove(series.index);
        }
    }

    /// As [`Core::expire`], for a series that nothing has refreshed for its idle time: counted in [`Core::warnings`].
    pub fn expire_idle_series(&mut self, series: SeriesRef) {
        if self.series.exists(series) {
            self.series.count_idle(series.index);
            self.remove(series.index);
        }
    }

    /// Keeps a series after a reload with its current resolution, for series that get no more points.
    pub fn retain(&mut self, series: SeriesRef) {
        self.series.retain(series);
    }

    /// Resets a series: its next point starts a new incarnation, whatever its times.
    pub fn reset(&mut self, series: SeriesRef) {
        self.series.reset(series);
    }

    /// Expires series that are due, a bounded number per call. Call it at least twice a second; ten times a second while it returns
    /// `true`, because more is due.
    pub fn sweep(&mut self, now: UnixNanos) -> bool {
        let now = steady(now);
        self.clock = self.clock.max(now);
        self.events.sweep(now);
        let mut budget = PER_SWEEP;
        self.expire_with_sources(now, &mut budget);
        self.expire_idle(now, &mut budget);
        self.exposition.copies.abort_late(now);
        if self.exposition.copies.is_empty() {
            self.exposition.tidy(&mut self.series);
        }
        if self.resolver.generation() != self.resolver_generation {
            self.resolver_generation = self.resolver.generation();
            self.series.start_resolution(now);
        }
        budget == 0 || !self.exposition.copies.is_empty()
    }

    fn expire_with_sources(&mut self, now: UnixNanos, budget: &mut usize) {
        for id in self.sources.due(now) {
            while *budget > 0
                && let Some(last) = self.last_of(id)
            {
                self.remove(last);
                *budget -= 1;
            }
            if self.sources.get(id).is_some_and(|state| state.slots.is_empty()) {
                self.remove_source(id);
            }
        }
    }

    fn expire_idle(&mut self, now: UnixNanos, budget: &mut usize) {
        let (stale, shortest_idle) = (self.series.stale_are_due(now), self.sources.shortest_idle());
        let range = self.series.sweep_range();
        let mut index = range.start;
        while index < range.end && *budget > 0 {
            if self.series.slots[index as usize].composite {
                self.series.retire_idle_writers(index, now);
            }
            if self.series.is_due(index, now, stale, shortest_idle) {
                self.series.count_idle(index);
                self.remove(index);
                *budget -= 1;
            }
            index += 1;
        }
        self.series.end_sweep(index);
    }

    fn last_of(&self, id: SourceId) -> Option<u32> {
        self.sources.get(id).and_then(|state| state.slots.last().copied())
    }

    /// Removes a source and all its series.
    pub fn remove_source(&mut self, id: SourceId) {
        while let Some(last) = self.last_of(id) {
            self.remove(last);
        }
        self.events.remove_source(id);
        if let Some(labels) = self.sources.remove(id) {
            for labels in labels {
                self.exposition.groups.leave(labels, id);
            }
            self.ledger.retire(id);
        }
    }

    fn remove(&mut self, index: u32) {
        let Some(removed) = self.series.vacate(index) else {
            return;
        };
        let waiting = self.exposition.remove(index, &removed, &mut self.series);
        let (source, metric) = (removed.meta.source.id, removed.meta.metric.id);
        let position = removed.placement.source;
        if let Some(moved) = self
            .sources
            .remove_series(source, metric, removed.quota, position)
        {
            self.series.placements[moved as usize].source = position;
        }
        self.series.free(index);
        if !waiting.is_empty() {
            self.claim_again(&waiting);
        }
        self.settle();
    }
}
