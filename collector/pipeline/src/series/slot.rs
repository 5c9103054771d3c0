//! Slots: one cache line per series, and the references to them.

use super::bounds::BoundLists;
use super::cell::Cell;
use super::meta::SeriesMeta;
use super::quota::Quota;
use super::table::Key;
use crate::ledger::{HiddenReason, Written};
use crate::row::RowValue;
use dichroic_model::UnixNanos;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A reference to a series. It is stale once the series is removed, and after a reload until the series is resolved again. Every use
/// checks this.
///
/// References to one series are equal, also across a reload.
#[derive(Debug, Clone, Copy)]
pub struct SeriesRef {
    pub(crate) index: u32,
    pub(crate) generation: Generation,
}

impl PartialEq for SeriesRef {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation.series() == other.generation.series()
    }
}

impl Eq for SeriesRef {}

impl Hash for SeriesRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.index, self.generation.series()).hash(state);
    }
}

/// The upper 24 bits change with each series in the slot, the lower 8 with each reload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    pub(crate) fn series(self) -> u32 {
        self.0 >> 8
    }

    pub(crate) fn of_next_series(self) -> Self {
        Generation(self.0.wrapping_add(1 << 8))
    }

    pub(crate) fn after_reload(self) -> Self {
        Generation(self.0 & !0xff | u32::from((self.0 as u8).wrapping_add(1)))
    }
}

/// The part of a series that points and copies use: one cache line, because the main cost of a point is cache misses.
#[repr(align(64))]
pub(crate) struct Slot {
    pub(crate) cell: Cell,
    pub(crate) meta: Option<Arc<SeriesMeta>>,
    pub(crate) start: UnixNanos,
    pub(crate) time: UnixNanos,
    /// Time of the last change, in tenths of a second since the epoch of the core; overflows after thirteen years.
    pub(crate) touched: u32,
    pub(crate) generation: Generation,
    /// What pages show of it.
    pub(crate) shown: Shown,
    /// Its row combines several slots: other series have its exposition identity, or it has several writers.
    pub(crate) composite: bool,
    pub(crate) monotonic: bool,
    /// Series of its source expire when idle.
    pub(crate) expires_idle: bool,
    pub(crate) start_explicit: bool,
    /// Whether it has an exemplar.
    pub(crate) has_exemplar: bool,
    /// Which limits applied to it.
    pub(crate) quota: Quota,
    /// Number of the reload by which it was last resolved.
    pub(crate) resolution: u8,
}

/// What pages and copies show of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// A row with its name and labels.
    Row,
    /// Its value is added to the row of the series that has its exposition identity.
    Added,
    /// Nothing on pages; copies have a row that is marked as hidden.
    Hidden(HiddenReason),
}

const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    /// Where a written point ends up.
    #[inline]
    pub(crate) fn written(&self) -> Written {
        match self.shown {
            Shown::Hidden(reason) => Written::Hidden(reason),
            Shown::Row | Shown::Added => Written::Applied,
        }
    }

    pub(crate) fn hidden(&self) -> Option<HiddenReason> {
        match self.shown {
            Shown::Hidden(reason) => Some(reason),
            Shown::Row | Shown::Added => None,
        }
    }

    /// A copy for exporters; `None` before the first point.
    #[inline]
    pub(crate) fn copy(&self, bounds: &BoundLists) -> Option<RowValue> {
        if self.time == 0 {
            return None;
        }
        match &self.cell {
            // Most series: without a call.
            Cell::Number(number) => Some(RowValue::Number(*number)),
            cell => cell.copy(bounds),
        }
    }
}

/// The positions of a series in lists and tables: used when it is added and removed.
#[derive(Clone, Copy)]
pub(crate) struct Placement {
    /// Position among the members of the family.
    pub(crate) family: u32,
    /// Position among the series of the source.
    pub(crate) source: u32,
    /// The key that finds it in the table of claims: its exposition identity, or its series key while it is hidden.
    pub(crate) key: Key,
    /// Its last fingerprint; `key` if it has none.
    pub(crate) alias: Key,
}
