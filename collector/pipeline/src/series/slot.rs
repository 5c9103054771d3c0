//! Slots: one cache line per series, and the references to them.

use super::bounds::BoundLists;
use super::cell::Cell;
use super::meta::SeriesMeta;
use super::table::Key;
use crate::row::RowValue;
use dichroic_model::UnixNanos;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A series' place. Stale once the series has left, and after a reload until it is met again: every use says so.
///
/// Two are equal that are of the same series, even when a reload lies between them.
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

/// Which series a slot holds: the upper 24 bits change from series to series; and when it was met: the lower 8 change with each reload.
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

/// What points and copies read and write: one cache line, because most of what a point costs is waiting for memory.
#[repr(align(64))]
pub(crate) struct Slot {
    pub(crate) cell: Cell,
    pub(crate) meta: Option<Arc<SeriesMeta>>,
    pub(crate) start: UnixNanos,
    pub(crate) time: UnixNanos,
    /// Tenths of seconds since the store began, of the last change: enough for thirteen years.
    pub(crate) touched: u32,
    pub(crate) generation: Generation,
    /// Another series has the same labels on the page and goes first, or the family has no place there.
    pub(crate) hidden: bool,
    /// Others want the same place on the page, or have it.
    pub(crate) contested: bool,
    pub(crate) monotonic: bool,
    /// Its source's series leave when idle.
    pub(crate) idles: bool,
    pub(crate) start_explicit: bool,
    /// An example of it is kept.
    pub(crate) exemplified: bool,
    /// It takes what has no room.
    pub(crate) overflow: bool,
    /// Which reload of the resolver gave it its meaning.
    pub(crate) epoch: u8,
}

const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    /// A copy for exporters; `None` before the first point.
    #[inline]
    pub(crate) fn copy(&self, bounds: &BoundLists) -> Option<RowValue> {
        if self.time == 0 {
            return None;
        }
        self.cell.copy(bounds)
    }
}

/// Where a series stands in lists and tables: read when it comes and when it leaves.
#[derive(Clone, Copy)]
pub(crate) struct Placement {
    /// Place among the members of the family.
    pub(crate) family: u32,
    /// Place among the series of the source.
    pub(crate) source: u32,
    /// Where the series is found by what it is: its place on the page, or its own key where that place is taken.
    pub(crate) key: Key,
    /// The fingerprint under which it was met last; `key` where there is none.
    pub(crate) alias: Key,
}
