//! The series of all metric subscriptions, shared by their subscribers: where a series is known, and the text of its points in JSON.
//!
//! A slot has one series at a time. Its generation changes with the series, its start and its buckets: a subscriber that has sent a
//! definition of another generation must replace it.

use crate::json::PointText;
use crate::series::{BucketLayout, SeriesPart};
use dichroic_model::UnixNanos;
use dichroic_pipeline::SeriesMeta;
use dichroic_pipeline::budget::{Budget, Part, Reservation};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Time between two searches for removed series.
pub(crate) const SWEEP: Duration = Duration::from_secs(2);
/// Reservations are multiples of this.
const STEP_BYTES: usize = 256 << 10;
/// Memory of a slot and of its entry in the index, both in tables that may be half empty.
const SLOT_BYTES: usize = 2 * (size_of::<Slot>() + size_of::<(Key, u32)>() + 1);

/// By the address of the meta, which is not reused while a slot has a weak reference.
type Key = (usize, SeriesPart);

/// The series of all metric subscriptions.
#[derive(Default)]
pub(crate) struct SeriesTable(Mutex<Slots>);

/// One subscription's use of the table. The table is freed with the last.
pub(crate) struct TableUse {
    table: Arc<SeriesTable>,
    budget: Budget,
}

/// The slots of the table.
#[derive(Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    index: HashMap<Key, u32>,
    free: Vec<u32>,
    text_bytes: usize,
    memory: Option<Reservation>,
    uses: usize,
    next_sweep: Option<Instant>,
}

#[derive(Default)]
struct Slot {
    /// Starts at 1 with the first series.
    generation: u32,
    series: Option<SharedSeries>,
}

struct SharedSeries {
    meta: Weak<SeriesMeta>,
    part: SeriesPart,
    start: UnixNanos,
    layout: BucketLayout,
    /// For subscribers that read JSON.
    text: Option<PointText>,
}

impl SeriesTable {
    /// The table for one more subscription.
    pub fn join(self: &Arc<Self>, budget: Budget) -> TableUse {
        let table = self.clone();
        let joined = TableUse { table, budget };
        joined.lock().uses += 1;
        joined
    }
}

impl TableUse {
    /// The slots, for a few rows at a time.
    pub fn lock(&self) -> MutexGuard<'_, Slots> {
        // A slot that a panic has left half changed has another generation, or none, and is defined anew.
        self.table.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves memory for more slots and their texts. `false`: there is none.
    pub fn reserve(&self, slots: usize) -> bool {
        let mut table = self.lock();
        let wanted = table.bytes() + slots * SLOT_BYTES;
        let memory = table
            .memory
            .get_or_insert_with(|| self.budget.reserve_nothing(Part::Subscribers));
        wanted <= memory.bytes() || memory.try_resize(wanted.next_multiple_of(STEP_BYTES))
    }
}

impl Drop for TableUse {
    fn drop(&mut self) {
        let mut table = self.lock();
        table.uses -= 1;
        if table.uses == 0 {
            *table = Slots::default();
        }
    }
}

impl Slots {
    fn bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES + self.text_bytes
    }

    /// The slot of a series with this start and layout, and its generation.
    pub fn find(
        &mut self,
        meta: &Arc<SeriesMeta>,
        part: SeriesPart,
        start: UnixNanos,
        layout: &BucketLayout,
    ) -> (u32, u32) {
        let key = (Arc::as_ptr(meta) as usize, part);
        if let Some(at) = self.index.get(&key).copied() {
            let slot = &mut self.slots[at as usize];
            if let Some(series) = &mut slot.series
                && (series.start != start || series.layout != *layout)
            {
                (series.start, series.layout) = (start, layout.clone());
                self.text_bytes -= series.text.take().map_or(0, |text| text.bytes());
                slot.generation = slot.generation.wrapping_add(1);
            }
            return (at, slot.generation);
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[at as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.series = Some(SharedSeries {
            meta: Arc::downgrade(meta),
            part,
            start,
            layout: layout.clone(),
            text: None,
        });
        self.index.insert(key, at);
        (at, slot.generation)
    }

    /// Whether the slot still has the series of this generation.
    pub fn is_current(&self, at: usize, generation: u32) -> bool {
        let slot = self.slots.get(at);
        slot.is_some_and(|slot| slot.series.is_some() && slot.generation == generation)
    }

    /// The text of the points of a slot's series.
    pub fn text(&mut self, at: u32, make: impl FnOnce() -> PointText) -> Option<&PointText> {
        let series = self.slots[at as usize].series.as_mut()?;
        if series.text.is_none() {
            let text = make();
            self.text_bytes += text.bytes();
            series.text = Some(text);
        }
        series.text.as_ref()
    }

    /// Frees the slots of removed series, if it is time. Subscribers release their ids afterwards ([`Slots::is_current`]).
    pub fn sweep(&mut self, now: Instant) {
        if self.next_sweep.is_some_and(|next| now < next) {
            return;
        }
        self.next_sweep = Some(now + SWEEP);
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let removed = |series: &mut SharedSeries| series.meta.strong_count() == 0;
            if let Some(series) = slot.series.take_if(removed) {
                self.index.remove(&(series.meta.as_ptr() as usize, series.part));
                self.text_bytes -= series.text.map_or(0, |text| text.bytes());
                self.free.push(at as u32);
            }
        }
    }
}
