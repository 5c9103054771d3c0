//! Expiry: by the receiver's word, when idle, after a source's end, after a reload; always in bounded parts.

use super::cell::Cell;
use super::define::{ALIAS_BYTES, series_bytes};
use super::explicit::Explicit;
use super::meta::Parts;
use super::point::{exemplar_bytes, release};
use super::{Core, GONE, Places, SeriesRef, TENTH, Tenant};
use dichroic_model::{Expiry, SECOND, SourceId, UnixNanos};
use std::sync::Arc;

/// Slots looked at per tick: some tens of microseconds.
const SWEEP: u32 = 16_384;

/// Series that leave per tick: about half a millisecond.
const LEAVE: usize = 1_024;

/// A copy that takes longer is given up, so that holes in families can be closed.
const COPY: UnixNanos = 30 * SECOND;

/// How long series stay that were not met after a reload. One that is quiet, a counter of the BEAM for example, may still be right.
const STALE: UnixNanos = 600 * SECOND;

impl Core {
    /// The series leaves now: it is on no page and in no copy that starts after this. That a reload came since it was met changes
    /// nothing.
    pub fn expire(&mut self, series: SeriesRef) {
        if self.is_there(series) {
            self.remove(series.index);
        }
    }

    /// The series stays after a reload though nobody will meet it again, with the meaning that it has.
    pub fn retain(&mut self, series: SeriesRef) {
        if self.is_there(series) {
            self.slots[series.index as usize].meaning = self.meaning;
        }
    }

    /// Another incarnation of the series begins: its next point is its first, whatever was held and whenever that was.
    pub fn reset(&mut self, series: SeriesRef) {
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

    /// Lets series leave that are due, a bounded part of them per call. Call ten times a second while it says that there is more to do
    /// soon, else twice or more.
    pub fn sweep(&mut self, now: UnixNanos) -> bool {
        self.clock = self.clock.max(now);
        self.events.sweep();
        let mut budget = LEAVE;
        self.leave_with_sources(now, &mut budget);
        self.leave_idle(now, &mut budget);
        self.copies.retain(|_, began| *began + COPY >= now);
        if self.copies.is_empty() {
            self.fresh.clear();
            let (slots, standing) = (&mut self.slots, &mut self.standing);
            self.families
                .tidy(|slot, place| standing[slot as usize].family = place);
            let (rivals, streams) = (&self.wanted_places, &mut self.metric_streams);
            self.families.reveal(|members, metrics| {
                for index in members.iter().filter(|index| **index != GONE) {
                    let slot = &mut slots[*index as usize];
                    let Some(meta) = &slot.meta else { continue };
                    if let Some(metric) = metrics.get(&meta.metric.id) {
                        let parts = Parts {
                            metric: metric.clone(),
                            ..meta.stream.parts()
                        };
                        let stream = streams.meet(parts, &meta.source_labels);
                        streams.hold(&stream);
                        streams.release(&meta.stream);
                        slot.meta = Some(Arc::new(meta.of(stream)));
                        slot.hidden = rivals.contains_key(index);
                    }
                }
            });
        }
        if self.resolver.generation() != self.resolver_generation {
            self.resolver_generation = self.resolver.generation();
            self.mean_anew(now);
        }
        budget == 0 || !self.copies.is_empty()
    }

    fn leave_with_sources(&mut self, now: UnixNanos, budget: &mut usize) {
        let due: Vec<SourceId> = self
            .sources
            .values()
            .filter(|t| t.due(now))
            .map(|t| t.source.id)
            .collect();
        for id in due {
            while *budget > 0
                && let Some(last) = self.sources.get(&id).and_then(|t| t.slots.last().copied())
            {
                self.remove(last);
                *budget -= 1;
            }
            if self.sources.get(&id).is_some_and(|t| t.slots.is_empty()) {
                self.drop_source(id);
            }
        }
    }

    fn leave_idle(&mut self, now: UnixNanos, budget: &mut usize) {
        let stale = self.stale_at.is_some_and(|at| now >= at);
        let slots = self.slots.len() as u32;
        let end = self.sweep.saturating_add(SWEEP).min(slots);
        let mut index = self.sweep.min(end);
        while index < end && *budget > 0 {
            if self.is_due(index, now, stale) {
                self.remove(index);
                *budget -= 1;
            }
            index += 1;
        }
        self.sweep = if index == slots { 0 } else { index };
    }

    fn is_due(&self, index: u32, now: UnixNanos, stale: bool) -> bool {
        let slot = &self.slots[index as usize];
        let Some(meta) = &slot.meta else { return false };
        if stale && slot.meaning != self.meaning {
            return true;
        }
        // The slot alone answers for nearly all; the source is looked up only for those that may be due.
        let touched = self.epoch + u64::from(slot.touched) * TENTH + (TENTH - 1);
        slot.idles
            && touched.saturating_add(self.shortest_idle) < now
            && matches!(meta.source.spec.expiry, Expiry::AfterIdle(idle) if touched.saturating_add(idle) < now)
    }

    /// The meaning of everything may have changed. Every series keeps its state but is met anew: references are stale and
    /// fingerprints unknown, until its next point finds it again by what it is. What is not met again leaves after a while.
    fn mean_anew(&mut self, now: UnixNanos) {
        self.meaning = self.meaning.wrapping_add(1);
        self.stale_at = Some(now + STALE);
        self.table.clear();
        for index in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[index as usize];
            if slot.meta.is_none() {
                continue;
            }
            slot.generation = slot.generation.after_reload();
            let standing = &mut self.standing[index as usize];
            standing.alias = standing.key;
        }
        let dropped: usize = self.aliases.drain().map(|(_, all)| all.len()).sum();
        self.bytes -= dropped * ALIAS_BYTES;
    }

    /// All series of a source, and the source.
    pub(super) fn drop_source(&mut self, id: SourceId) {
        while let Some(last) = self.sources.get(&id).and_then(|t| t.slots.last().copied()) {
            self.remove(last);
        }
        if let Some(tenant) = self.sources.remove(&id) {
            self.bytes -= tenant.bytes;
            let spec = &tenant.source.spec;
            self.source_keys.remove(&(spec.protocol, spec.key.clone()));
            self.ledger.retire(id);
        }
    }

    pub(super) fn remove(&mut self, index: u32) {
        self.forget_aliases(index);
        let slot = &mut self.slots[index as usize];
        let Some(meta) = slot.meta.take() else { return };
        let cell = std::mem::replace(&mut slot.cell, Cell::Empty);
        slot.generation = slot.generation.of_next_series();
        let contested = slot.contested;
        self.overflows -= usize::from(slot.overflow);
        let Places {
            family,
            tenant: at,
            key,
            ..
        } = self.standing[index as usize];
        self.places.remove(key, index);
        if contested {
            self.leave_place(index, key);
        }
        self.families.remove(&meta.metric, family);
        self.fresh.remove(&index);
        self.bytes -= series_bytes(&meta) + cell.heap_bytes();
        release(&mut self.bounds, &cell);
        self.metric_streams.release(&meta.stream);
        if self.slots[index as usize].exemplified
            && let Some(exemplar) = self.exemplars.remove(&index)
        {
            self.bytes -= exemplar_bytes(&exemplar);
        }
        if let Some(tenant) = self.sources.get_mut(&meta.source.id) {
            tenant.slots.swap_remove(at as usize);
            if let Some(moved) = tenant.slots.get(at as usize) {
                self.standing[*moved as usize].tenant = at;
            }
            if let Some(n) = tenant.by_metric.get_mut(&meta.metric.id) {
                *n -= 1;
                if *n == 0 {
                    tenant.by_metric.remove(&meta.metric.id);
                }
            }
        }
        self.free.push(index);
    }
}

impl Tenant {
    fn due(&self, now: UnixNanos) -> bool {
        let Some(ended) = self.ended else { return false };
        match self.source.spec.expiry {
            Expiry::ByReceiver => true,
            Expiry::AfterEnd(wait) => ended + wait < now,
            Expiry::AfterIdle(_) => self.slots.is_empty(),
        }
    }
}
