//! The room of series: their slots, the index from fingerprints to slots, and their accounted bytes.
//!
//! A point costs a hash, a lookup in the table and a write into a slot. The fingerprint is a cache of the series' key: on a miss the key
//! is compared in full, and the new fingerprint becomes an alias of the series that has this key.

pub(crate) mod admission;
mod aliases;
pub(crate) mod attribute_encoding;
pub(crate) mod bounds;
pub(crate) mod cell;
mod expiry;
pub(crate) mod explicit;
pub(crate) mod lookup;
pub(crate) mod meta;
pub(crate) mod metric;
pub(crate) mod points;
pub(crate) mod quota;
mod rebin;
pub(crate) mod scopes;
pub(crate) mod slot;
pub(crate) mod sources;
mod switch;
pub(crate) mod table;
pub(crate) mod times;
pub(crate) mod values;
pub(crate) mod write;
pub(crate) mod writers;

use crate::hash::HashMap;
use crate::ledger::HiddenReason;
use crate::row::RowValue;
use attribute_encoding::AttributeNameSets;
use bounds::BoundLists;
use dichroic_model::clock::steady;
use dichroic_model::{Exemplar, Fingerprinter, Limits, UnixNanos};
use meta::{MetricStreams, SeriesMeta};
use scopes::Scopes;
use slot::{Placement, SeriesRef, Slot};
use std::sync::Arc;
use table::{Key, Table};
use writers::Writers;

/// Unit of [`Slot::touched`].
pub(crate) const TENTH: UnixNanos = 100_000_000;

/// All series, shown or hidden.
pub(crate) struct Series {
    pub(crate) limits: Limits,
    epoch: UnixNanos,
    /// Fingerprint → slot: the lookup of every point.
    table: Table,
    pub(crate) slots: Vec<Slot>,
    /// Parallel to `slots`.
    pub(crate) placements: Vec<Placement>,
    /// Earlier fingerprints of series, before the last one; oldest first. Most series have none.
    aliases: HashMap<u32, Vec<Key>>,
    free: Vec<u32>,
    pub(crate) scopes: Scopes,
    pub(crate) streams: MetricStreams,
    pub(crate) attribute_names: AttributeNameSets,
    pub(crate) bounds: BoundLists,
    /// Bytes of live series and exemplars besides their slots.
    bytes: usize,
    /// Number of overflow series.
    overflows: usize,
    exemplars: HashMap<u32, Arc<Exemplar>>,
    pub(crate) writers: Writers,
    /// Totals that a reset ended, of series that are part of a sum. The core takes them after each write.
    pub(crate) ended_totals: Vec<(u32, RowValue)>,
    /// Series with points that pages do not show any more, or show again, with the reason before and after. The core takes them.
    pub(crate) moves: Vec<(u32, Option<HiddenReason>, Option<HiddenReason>)>,
    pub(crate) counters: SeriesCounters,
    /// Where the next sweep starts.
    cursor: u32,
    /// Number of the resolver's current reload.
    resolution: u8,
    /// When series not resolved since the last reload expire.
    stale_at: Option<UnixNanos>,
}

/// Counters of [`crate::Warnings`].
#[derive(Default)]
pub(crate) struct SeriesCounters {
    pub(crate) delta_gaps: u64,
    pub(crate) delta_overlaps: u64,
    pub(crate) resets: u64,
    pub(crate) cut_values: u64,
    pub(crate) expired_deltas: u64,
    pub(crate) expired_gauges: u64,
    pub(crate) changed_bounds: u64,
}

impl Series {
    pub(crate) fn new(limits: Limits, epoch: UnixNanos, hasher: &Fingerprinter) -> Self {
        Series {
            limits,
            epoch,
            table: Table::default(),
            slots: Vec::new(),
            placements: Vec::new(),
            aliases: HashMap::default(),
            free: Vec::new(),
            scopes: Scopes::default(),
            streams: MetricStreams::new(hasher.clone()),
            attribute_names: AttributeNameSets::new(hasher.clone()),
            bounds: BoundLists::default(),
            bytes: 0,
            overflows: 0,
            exemplars: HashMap::default(),
            writers: Writers::default(),
            ended_totals: Vec::new(),
            moves: Vec::new(),
            counters: SeriesCounters::default(),
            cursor: 0,
            resolution: 0,
            stale_at: None,
        }
    }

    /// Live series.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Bytes that are freed with the series.
    pub(crate) fn live_bytes(&self) -> usize {
        self.bytes + self.bounds.bytes() + self.streams.bytes()
    }

    /// Bytes of the tables, which do not shrink when series are removed.
    pub(crate) fn table_bytes(&self) -> usize {
        self.table.bytes()
            + self.slots.capacity() * size_of::<Slot>()
            + self.placements.capacity() * size_of::<Placement>()
    }

    /// The metadata of a live series.
    pub(crate) fn meta(&self, series: SeriesRef) -> Option<&Arc<SeriesMeta>> {
        self.slot(series).and_then(|slot| slot.meta.as_ref())
    }

    /// Whether the series exists, also if it has not been resolved since the last reload.
    pub(crate) fn exists(&self, series: SeriesRef) -> bool {
        let slot = self.slots.get(series.index as usize);
        slot.is_some_and(|slot| slot.generation.series() == series.generation.series() && slot.meta.is_some())
    }

    pub(crate) fn slot(&self, series: SeriesRef) -> Option<&Slot> {
        let slot = self.slots.get(series.index as usize)?;
        (slot.generation == series.generation && slot.meta.is_some()).then_some(slot)
    }

    /// When a point arrived, as its series records it: on the steady clock.
    #[inline]
    pub(crate) fn touched(&self, now: UnixNanos) -> u32 {
        self.tenths(steady(now))
    }

    #[inline]
    pub(crate) fn tenths(&self, steady: UnixNanos) -> u32 {
        (steady.saturating_sub(self.epoch) / TENTH) as u32
    }

    /// What the series holds: its slot and its other writers.
    pub(crate) fn value(&self, index: u32) -> Option<RowValue> {
        let slot = &self.slots[index as usize];
        let mut value = slot.copy(&self.bounds);
        if slot.composite {
            self.add_writers(index, &mut value);
        }
        value
    }

    pub(crate) fn exemplar(&self, index: u32) -> Option<&Arc<Exemplar>> {
        self.exemplars.get(&index)
    }
}
