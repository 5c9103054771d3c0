//! From a row to its cell: the ids of one connection and their series in the store.
//!
//! A row is the whole total of its series and replaces the stored one. Per id the table has 32 bytes that the hit path reads (the
//! cell and the incarnation), and separately the data to define the series again after it left the store. A series is defined in the
//! store on its first row, never on DEFINE.

mod histograms;
mod replan;
mod resolve;
mod retained;

use crate::plan::Measure;
use dichroic_model::attributes::Attributes;
use dichroic_model::{Fingerprinter, MetricKind, Number, Scope, Source, UnixNanos};
use dichroic_pipeline::{Core, DropReason, HiddenReason, SeriesRef, Times, Written};
use dichroic_wire::NumberRow;
use dichroic_wire::limits::PENDING_LABEL_BYTES_PER_ID;
pub use retained::RetainedSeries;
use retained::{Evicted, Retained};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// State of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not defined.
    Free,
    /// Defined, no row yet.
    Waiting,
    /// In the store.
    Live,
    /// A term of the relay's account of itself.
    Account,
    /// Its entry is no longer in the plan.
    Withdrawn,
    /// Not admitted by the store.
    Refused(DropReason),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowKind {
    Gauge,
    Counter,
    UpDown,
    Histogram,
    Exponential,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    series: Option<SeriesRef>,
    start: UnixNanos,
    /// Index of its measure.
    measure: u32,
    state: State,
    kind: RowKind,
}

/// No measure.
const UNPLANNED: u32 = u32::MAX;

const FREE: Entry = Entry {
    series: None,
    start: 0,
    measure: UNPLANNED,
    state: State::Free,
    kind: RowKind::Gauge,
};

/// Data of a series that the hit path does not need.
#[derive(Debug)]
struct SeriesDetail {
    labels: Attributes,
    retry: UnixNanos,
    /// It has had a row: the store accounts for its labels.
    resolved: bool,
}

/// Bytes of labels that the table accounts for: those of a series before its first row.
fn pending_label_bytes(detail: &SeriesDetail) -> usize {
    if detail.resolved {
        0
    } else {
        detail.labels.as_bytes().len()
    }
}

/// An entry of a plan. A withdrawn one is kept for definitions in flight; it may return with a later plan.
#[derive(Debug)]
struct Planned {
    measure: Rc<Measure>,
    withdrawn: bool,
}

/// Result of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// In a cell that pages show.
    Yes,
    /// In a cell that no page shows.
    Hidden(HiddenReason),
    /// Not applied.
    Dropped(DropReason),
    /// A row of the relay's account.
    Account,
}

impl From<Result<Written, DropReason>> for Applied {
    fn from(written: Result<Written, DropReason>) -> Self {
        match written {
            Ok(Written::Applied) => Applied::Yes,
            Ok(Written::Hidden(reason)) => Applied::Hidden(reason),
            Err(reason) => Applied::Dropped(reason),
        }
    }
}

/// A row that violates the protocol, with the message of the GOODBYE that ends the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRow(pub String);

/// The series of one connection.
#[derive(Debug)]
pub struct SeriesTable {
    source: Arc<Source>,
    fingerprints: Fingerprinter,
    scope: Scope,
    limit: u32,
    entries: Vec<Entry>,
    details: Vec<Option<Box<SeriesDetail>>>,
    /// Entries of the plans of this connection.
    measures: Vec<Planned>,
    measure_indexes: HashMap<u64, u32>,
    alive: usize,
    /// Bytes of the labels of series without a row.
    pending_bytes: usize,
    /// The id that writes a series: two ids of the same series would overwrite each other.
    owners: HashMap<SeriesRef, u32>,
    /// From earlier connections.
    retained: HashMap<SeriesRef, Retained>,
    /// Counters that the relay released: they remain in the exposition, within a limit.
    evicted: Evicted,
    /// The resolver's generation for which series are resolved again, and the number of entries done.
    resolver_generation: Option<u64>,
    resolved_up_to: usize,
    counts: Vec<u64>,
    /// Rows ignored because a total decreased.
    pub backwards: u64,
}

fn kind_of(measure: &Measure) -> RowKind {
    match measure.kind {
        MetricKind::Sum { monotonic: true } => RowKind::Counter,
        MetricKind::Sum { monotonic: false } => RowKind::UpDown,
        MetricKind::Histogram => RowKind::Histogram,
        MetricKind::ExponentialHistogram => RowKind::Exponential,
        _ => RowKind::Gauge,
    }
}

impl SeriesTable {
    /// An empty table for ids below `limit`.
    pub fn new(source: Arc<Source>, store: &Core, limit: u32, retained: RetainedSeries) -> Self {
        SeriesTable {
            fingerprints: store.fingerprinter(source.id),
            source,
            scope: Scope {
                name: "dichroic.relay".to_owned(),
                ..Scope::default()
            },
            limit,
            entries: Vec::new(),
            details: Vec::new(),
            measures: Vec::new(),
            measure_indexes: HashMap::new(),
            alive: 0,
            pending_bytes: 0,
            owners: HashMap::new(),
            retained: retained.series,
            evicted: retained.evicted,
            resolver_generation: None,
            resolved_up_to: 0,
            counts: Vec::new(),
            backwards: 0,
        }
    }

    /// Ids defined at present.
    pub fn alive(&self) -> usize {
        self.alive
    }

    /// The first id that may not be used.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Raises the limit to that of a new plan; it never decreases.
    pub fn allow(&mut self, limit: u32) {
        self.limit = self.limit.max(limit);
    }

    /// Whether the id is defined.
    pub fn is_defined(&self, id: u32) -> bool {
        self.entries
            .get(id as usize)
            .is_some_and(|entry| entry.state != State::Free)
    }

    /// The measure of a key, withdrawn ones included.
    pub fn measure(&self, key: u64) -> Option<&Rc<Measure>> {
        let index = *self.measure_indexes.get(&key)?;
        Some(&self.measures[index as usize].measure)
    }

    /// The measure of an entry of the current plan.
    fn planned(&self, index: u32) -> Option<&Rc<Measure>> {
        let planned = self.measures.get(index as usize)?;
        (!planned.withdrawn).then_some(&planned.measure)
    }

    /// Defines a free id below the limit. Rows of a key that is not in the current plan are only counted.
    pub fn define(&mut self, id: u32, key: u64, labels: Attributes, start: UnixNanos) {
        let bytes = labels.as_bytes().len();
        if bytes > 0 && self.pending_bytes + bytes > self.limit as usize * PENDING_LABEL_BYTES_PER_ID {
            let state = State::Refused(DropReason::MemoryLimit);
            return self.put(id, Entry { state, ..FREE }, None);
        }
        let measure = self.measure_indexes.get(&key).copied().unwrap_or(UNPLANNED);
        let entry = Entry {
            start,
            measure,
            state: match self.planned(measure) {
                Some(_) => State::Waiting,
                None => State::Withdrawn,
            },
            kind: self
                .measure(key)
                .map_or(RowKind::Gauge, |measure| kind_of(measure)),
            ..FREE
        };
        self.put(
            id,
            entry,
            Some(Box::new(SeriesDetail {
                labels,
                retry: 0,
                resolved: false,
            })),
        );
    }

    /// Defines an id as a term of the relay's account.
    pub fn define_account(&mut self, id: u32) {
        self.put(
            id,
            Entry {
                state: State::Account,
                ..FREE
            },
            None,
        );
    }

    fn put(&mut self, id: u32, entry: Entry, detail: Option<Box<SeriesDetail>>) {
        let index = id as usize;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, FREE);
            self.details.resize_with(index + 1, || None);
        }
        self.alive += 1;
        self.pending_bytes += detail.as_deref().map_or(0, pending_label_bytes);
        self.entries[index] = entry;
        self.details[index] = detail;
    }

    /// Releases an id: a gauge expires, a counter remains with its last total.
    pub fn release(&mut self, id: u32, store: &mut Core) {
        let index = id as usize;
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        let released = std::mem::replace(entry, FREE);
        self.pending_bytes -= self.details[index]
            .take()
            .map_or(0, |detail| pending_label_bytes(&detail));
        self.alive = self.alive.saturating_sub(1);
        let Some(series) = released.series else { return };
        self.owners.remove(&series);
        match released.kind {
            // The relay releases a series of its plan when it is idle, else because a new plan lacks it.
            RowKind::Gauge if self.planned(released.measure).is_some() => store.expire_idle_series(series),
            RowKind::Gauge | RowKind::UpDown => store.expire(series),
            _ => self.evicted.add(series, self.limit as usize, store),
        }
    }

    /// Loads the cell of an id into the cache. The result has no meaning.
    #[inline]
    pub fn prefetch(&self, store: &Core, id: u32) -> u64 {
        let series = self.entries.get(id as usize).and_then(|entry| entry.series);
        series
            .and_then(|series| store.number(series))
            .map_or(0, |held| held.int as u64 & 1)
    }

    /// Applies a row of a number. `time` is when it was read, `now` when it was received.
    #[inline]
    pub fn number(
        &mut self,
        store: &mut Core,
        row: NumberRow,
        time: UnixNanos,
        now: UnixNanos,
    ) -> Result<Applied, InvalidRow> {
        let Some(entry) = self.entries.get_mut(row.series as usize) else {
            return Err(undefined(row.series));
        };
        if let (State::Live, Some(series)) = (entry.state, entry.series)
            && let Some(held) = store.number(series)
        {
            if entry.kind == RowKind::Counter && below(row, held) {
                self.backwards += 1;
                return Ok(Applied::Dropped(DropReason::Backwards));
            }
            return Ok(set_number(store, series, entry, row, (time, now)));
        }
        self.number_slow(store, row, time, now)
    }

    /// The first row of a number, or a row that is not of a live number.
    #[cold]
    fn number_slow(
        &mut self,
        store: &mut Core,
        row: NumberRow,
        time: UnixNanos,
        now: UnixNanos,
    ) -> Result<Applied, InvalidRow> {
        let entry = self.entries[row.series as usize];
        if entry.state == State::Waiting && entry.kind == RowKind::Counter && below(row, Number::default()) {
            // A sum that may only grow is negative at present: there is no series before it has a value.
            self.backwards += 1;
            return Ok(Applied::Dropped(DropReason::Backwards));
        }
        let (series, continuity) = match self.resolve(store, row.series, now)? {
            Ok(resolved) => resolved,
            Err(applied) => return Ok(applied),
        };
        let entry = &self.entries[row.series as usize];
        if matches!(entry.kind, RowKind::Histogram | RowKind::Exponential) {
            return Err(InvalidRow(format!(
                "series {} is a histogram, but NUMBERS has a row for it",
                row.series
            )));
        }
        if continuity == Continuity::Continues && store.number(series).is_some() {
            // This call takes the hit path.
            return self.number(store, row, time, now);
        }
        Ok(set_number(store, series, entry, row, (time, now)))
    }

    /// Call after the first flush: series that it did not define belong to an ended incarnation and expire.
    pub fn settle(&mut self, store: &mut Core) {
        for (series, _) in self.retained.drain() {
            if !self.owners.contains_key(&series) {
                store.expire(series);
            }
        }
        if self.evicted.order.len() > 2 * self.evicted.members.len() {
            let members = &self.evicted.members;
            self.evicted.order.retain(|series| members.contains(series));
        }
    }

    /// Takes the state that the next connection of this node needs.
    pub fn retain(&mut self) -> RetainedSeries {
        let mut retained = std::mem::take(&mut self.retained);
        for entry in &self.entries {
            if let Some(series) = entry.series {
                retained.insert(series, Retained { start: entry.start });
            }
        }
        (self.entries, self.details) = (Vec::new(), Vec::new());
        self.pending_bytes = 0;
        self.owners.clear();
        RetainedSeries {
            series: retained,
            evicted: std::mem::take(&mut self.evicted),
        }
    }
}

/// Whether a series continues what the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Continuity {
    /// The same incarnation: it may only grow.
    Continues,
    /// A new incarnation: the stored state is replaced.
    Begins,
}

/// Writes a number to the cell of its series.
#[inline]
fn set_number(
    store: &mut Core,
    series: SeriesRef,
    entry: &Entry,
    row: NumberRow,
    (time, now): (UnixNanos, UnixNanos),
) -> Applied {
    let value = Number {
        int: row.int,
        float: row.float,
    };
    let start = entry.start;
    store.set_number(series, value, Times { start, time, now }).into()
}

/// Whether a total is below the stored one. The parts of a total may change in opposite directions: relays move integers into the
/// float part before they overflow.
#[inline]
fn below(row: NumberRow, held: Number) -> bool {
    if row.int >= held.int && row.float >= held.float {
        return false;
    }
    let int = i128::from(row.int) - i128::from(held.int);
    int as f64 + (row.float - held.float) < 0.0
}

fn undefined(id: u32) -> InvalidRow {
    InvalidRow(format!("series {id} is not defined"))
}
