//! From a row to its cell: the ids of one connection, and what each means in the store.
//!
//! A row is the whole total of its series: it replaces. Per id the table holds 32 bytes that the hit path reads (where the cell is,
//! which incarnation, how often the integer part wrapped), and apart from them what is needed to define the series again
//! after it left the store. A series is resolved in the store by its first row, never by its DEFINE.

mod compact;
mod histograms;
mod retained;

use crate::plan::Measure;
use dichroic_model::attributes::Attributes;
use dichroic_model::{
    AttributeValue, Fingerprinter, MetricKind, NameStyle, Number, Scope, SeriesDef, Source, Temporality,
    UnixNanos,
};
use dichroic_pipeline::{Core, DropReason, SeriesRef, Times};
use dichroic_wire::NumberRow;
use dichroic_wire::limits::PENDING_LABEL_BYTES_PER_ID;
pub use retained::RetainedSeries;
use retained::{Evicted, Retained};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// 2^64: what one wrap of the integer part is worth.
const WRAP: f64 = 18_446_744_073_709_551_616.0;
/// Ids looked at per call after a reload, to meet their series again: about a millisecond, and 100,000 of them within half a minute.
const RESOLVE_BATCH: usize = 1_024;
/// Time before a series that was not admitted is tried again.
const ADMISSION_RETRY: UnixNanos = 10 * dichroic_model::SECOND;

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not defined.
    Free,
    /// Defined, no row yet.
    Waiting,
    /// In the store.
    Live,
    /// A row of the relay's own account.
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
    wraps: i32,
    start: UnixNanos,
    /// Place of its measure.
    measure: u32,
    state: State,
    kind: RowKind,
}

/// No measure.
const UNPLANNED: u32 = u32::MAX;

const FREE: Entry = Entry {
    series: None,
    wraps: 0,
    start: 0,
    measure: UNPLANNED,
    state: State::Free,
    kind: RowKind::Gauge,
};

/// What the hit path does not need.
#[derive(Debug)]
struct SeriesDetail {
    labels: Attributes,
    retry: UnixNanos,
    /// It has had a row, so the store accounts for its labels.
    resolved: bool,
}

/// What it holds before its first row.
fn pending_label_bytes(detail: &SeriesDetail) -> usize {
    if detail.resolved {
        0
    } else {
        detail.labels.as_bytes().len()
    }
}

/// An entry of a plan. One that was withdrawn still says what definitions mean that were on their way: it may come back.
#[derive(Debug)]
struct Planned {
    measure: Rc<Measure>,
    withdrawn: bool,
}

/// What one row came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// In its cell.
    Yes,
    /// Not, and why.
    Dropped(DropReason),
    /// It belongs to the relay's account.
    Account,
}

/// A row that breaks the agreement; the connection ends with these words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong(pub String);

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
    /// Bytes of the labels of those that have had no row.
    pending_bytes: usize,
    /// Which id writes a series: two that mean the same would overwrite one another.
    owners: HashMap<SeriesRef, u32>,
    /// Of connections before this one.
    retained: HashMap<SeriesRef, Retained>,
    /// Counters that the relay forgot: they stay on the page, within bounds.
    evicted: Evicted,
    /// The reload after which series were resolved again, and how many entries were looked at since.
    resolver_epoch: Option<u64>,
    resolved_up_to: usize,
    counts: Vec<u64>,
    /// Totals that went backwards.
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
                version: String::new(),
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
            resolver_epoch: None,
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

    /// A plan may allow more; what it allowed before stays allowed.
    pub fn allow(&mut self, limit: u32) {
        self.limit = self.limit.max(limit);
    }

    /// Whether the id is defined.
    pub fn is_defined(&self, id: u32) -> bool {
        self.entries
            .get(id as usize)
            .is_some_and(|entry| entry.state != State::Free)
    }

    /// What a key means, or meant before it was withdrawn.
    pub fn measure(&self, key: u64) -> Option<&Rc<Measure>> {
        let index = *self.measure_indexes.get(&key)?;
        Some(&self.measures[index as usize].measure)
    }

    /// What an entry of the present plan means.
    fn planned(&self, index: u32) -> Option<&Rc<Measure>> {
        let planned = self.measures.get(index as usize)?;
        (!planned.withdrawn).then_some(&planned.measure)
    }

    /// Gives a free id, below the limit, its resolver_epoch. A key that the plan does not have (any more) is counted and no more.
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

    /// The id is of the relay's account.
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

    /// The relay forgot the series: a gauge leaves, a counter stays with its last total.
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
            RowKind::Gauge | RowKind::UpDown => store.expire(series),
            _ => self.evicted.add(series, self.limit as usize, store),
        }
    }

    /// Brings the cell of an id into the cache. The answer means nothing.
    #[inline]
    pub fn prefetch(&self, store: &Core, id: u32) -> u64 {
        let series = self.entries.get(id as usize).and_then(|entry| entry.series);
        series
            .and_then(|series| store.number(series))
            .map_or(0, |held| held.int as u64 & 1)
    }

    /// A number's total. `time` is when it was read, `now` when it came.
    #[inline]
    pub fn number(
        &mut self,
        store: &mut Core,
        row: NumberRow,
        time: UnixNanos,
        now: UnixNanos,
    ) -> Result<Applied, Wrong> {
        let Some(entry) = self.entries.get_mut(row.series as usize) else {
            return Err(undefined(row.series));
        };
        if let (State::Live, Some(series)) = (entry.state, entry.series)
            && let Some(held) = store.number(series)
        {
            match entry.kind {
                RowKind::Gauge => {}
                RowKind::Counter => {
                    let float_back = entry.wraps == 0 && row.float < held.float;
                    if row.int.wrapping_sub(held.int) < 0 || float_back {
                        self.backwards += 1;
                        return Ok(Applied::Dropped(DropReason::Backwards));
                    }
                    entry.wraps += wrapped(held.int, row.int);
                }
                _ => entry.wraps += wrapped(held.int, row.int),
            }
            let value = unwrapped(row.int, row.float, entry.wraps);
            return Ok(
                match store.set_number(
                    series,
                    value,
                    Times {
                        start: entry.start,
                        time,
                        now,
                    },
                ) {
                    Ok(()) => Applied::Yes,
                    Err(reason) => Applied::Dropped(reason),
                },
            );
        }
        self.number_slow(store, row, time, now)
    }

    /// A number's first row, or one that is no number's.
    #[cold]
    fn number_slow(
        &mut self,
        store: &mut Core,
        row: NumberRow,
        time: UnixNanos,
        now: UnixNanos,
    ) -> Result<Applied, Wrong> {
        let (series, resolved) = match self.resolve(store, row.series, now)? {
            Ok(resolved) => resolved,
            Err(applied) => return Ok(applied),
        };
        let entry = &mut self.entries[row.series as usize];
        if matches!(entry.kind, RowKind::Histogram | RowKind::Exponential) {
            return Err(Wrong(format!(
                "series {} is a histogram, NUMBERS has a row for it",
                row.series
            )));
        }
        if resolved == Continuity::Continues && store.number(series).is_some() {
            // The next look takes the hit path.
            return self.number(store, row, time, now);
        }
        // Without a past, the integer part of a counter is what it is modulo 2^64.
        entry.wraps = i32::from(entry.kind == RowKind::Counter && row.int < 0);
        let value = unwrapped(row.int, row.float, entry.wraps);
        Ok(
            match store.set_number(
                series,
                value,
                Times {
                    start: entry.start,
                    time,
                    now,
                },
            ) {
                Ok(()) => Applied::Yes,
                Err(reason) => Applied::Dropped(reason),
            },
        )
    }

    /// Finds or defines the series of an id. The inner error is a row that is not applied.
    fn resolve(
        &mut self,
        store: &mut Core,
        id: u32,
        now: UnixNanos,
    ) -> Result<Result<(SeriesRef, Continuity), Applied>, Wrong> {
        let index = id as usize;
        let Some(entry) = self.entries.get(index).copied() else {
            return Err(undefined(id));
        };
        match entry.state {
            State::Free => return Err(undefined(id)),
            State::Account => return Ok(Err(Applied::Account)),
            State::Withdrawn => return Ok(Err(Applied::Dropped(DropReason::Withdrawn))),
            State::Refused(reason) if self.details[index].as_ref().is_none_or(|k| k.retry > now) => {
                return Ok(Err(Applied::Dropped(reason)));
            }
            State::Live => {
                if let Some(series) = entry.series.filter(|series| store.meta(*series).is_some()) {
                    return Ok(Ok((series, Continuity::Continues)));
                }
            }
            State::Waiting | State::Refused(_) => {}
        }
        Ok(self.define_in(store, id, now))
    }

    /// After a reload, series of which no row comes are resolved again as well, a part of them per call.
    pub fn resolve_again(&mut self, store: &mut Core, now: UnixNanos) {
        if self.resolver_epoch != Some(store.resolver_epoch()) {
            (self.resolver_epoch, self.resolved_up_to) = (Some(store.resolver_epoch()), 0);
            for series in &self.evicted.members {
                store.retain(*series);
            }
        }
        let end = self.entries.len().min(self.resolved_up_to + RESOLVE_BATCH);
        for index in self.resolved_up_to.min(end)..end {
            let series = self.entries[index].series;
            if series.is_some_and(|series| store.is_unresolved(series)) {
                // What is refused now says so with its next row.
                let _ = self.define_in(store, index as u32, now);
            }
        }
        self.resolved_up_to = end;
    }

    fn define_in(
        &mut self,
        store: &mut Core,
        id: u32,
        now: UnixNanos,
    ) -> Result<(SeriesRef, Continuity), Applied> {
        let index = id as usize;
        let before = self.entries[index].series;
        if let Some(before) = before {
            self.owners.remove(&before);
        }
        let found = match self.admit(store, index) {
            Ok(series) => match self.owners.get(&series) {
                Some(owner) if *owner != id => Err(DropReason::Duplicate),
                _ => Ok(series),
            },
            Err(reason) => Err(reason),
        };
        if let Some(before) = before.filter(|before| found != Ok(*before)) {
            store.expire(before);
        }
        let entry = &mut self.entries[index];
        let series = match found {
            Ok(series) => series,
            Err(reason) => {
                (entry.state, entry.series) = (State::Refused(reason), None);
                if let Some(detail) = &mut self.details[index] {
                    detail.retry = now + ADMISSION_RETRY;
                }
                return Err(Applied::Dropped(reason));
            }
        };
        (entry.state, entry.series) = (State::Live, Some(series));
        if let Some(detail) = &mut self.details[index] {
            self.pending_bytes -= pending_label_bytes(detail);
            detail.resolved = true;
        }
        self.owners.insert(series, id);
        self.evicted.remove(series);
        if before == Some(series) {
            return Ok((series, Continuity::Continues));
        }
        match self.retained.remove(&series) {
            Some(held) if held.start == entry.start => {
                entry.wraps = held.wraps;
                Ok((series, Continuity::Continues))
            }
            _ => {
                entry.wraps = 0;
                store.reset(series);
                Ok((series, Continuity::Begins))
            }
        }
    }

    fn admit(&self, store: &mut Core, index: usize) -> Result<SeriesRef, DropReason> {
        let measure = self.planned(self.entries[index].measure);
        let (Some(detail), Some(measure)) = (self.details[index].as_deref(), measure) else {
            return Err(DropReason::Withdrawn);
        };
        let fingerprint = self.fingerprints.of(&identity(measure.key, &detail.labels));
        if let Some(series) = store.find(fingerprint) {
            return Ok(series);
        }
        let fixed = measure.fixed.iter().map(|(label, value)| {
            (
                Cow::Borrowed(label.as_str()),
                AttributeValue::from(value.as_str()),
            )
        });
        let def = SeriesDef {
            source: self.source.id,
            scope: &self.scope,
            name: &measure.name,
            style: if measure.verbatim {
                NameStyle::Verbatim
            } else {
                NameStyle::OpenTelemetry
            },
            unit: &measure.unit,
            help: &measure.help,
            kind: measure.kind,
            temporality: Temporality::Cumulative,
            factor: measure.factor,
            attributes: detail
                .labels
                .iter()
                .map(|(label, value)| (Cow::Borrowed(label), value))
                .chain(fixed)
                .collect(),
            bounds: measure.bounds.clone(),
        };
        store.define(fingerprint, def).map_err(|refused| refused.0)
    }

    /// A plan: series whose entry is released, or means something else than before, leave.
    pub fn replan(&mut self, store: &mut Core, measures: &HashMap<u64, Rc<Measure>>) {
        self.compact(measures);
        let mut changed = HashSet::new();
        for (key, index) in &self.measure_indexes {
            let planned = &mut self.measures[*index as usize];
            let before = (!planned.withdrawn).then_some(&planned.measure);
            let after = measures.get(key);
            if before != after {
                planned.withdrawn = after.is_none();
                if let Some(measure) = after {
                    planned.measure = measure.clone();
                }
                changed.insert(*index);
            }
        }
        for (key, measure) in measures {
            let next = self.measures.len() as u32;
            if *self.measure_indexes.entry(*key).or_insert(next) == next {
                self.measures.push(Planned {
                    measure: measure.clone(),
                    withdrawn: false,
                });
            }
        }
        for entry in &mut self.entries {
            let of_plan = matches!(
                entry.state,
                State::Waiting | State::Live | State::Refused(_) | State::Withdrawn
            );
            if !of_plan || !changed.contains(&entry.measure) {
                continue;
            }
            let planned = &self.measures[entry.measure as usize];
            entry.kind = kind_of(&planned.measure);
            entry.state = match planned.withdrawn {
                false => State::Waiting,
                true => State::Withdrawn,
            };
            if let Some(series) = entry.series.take() {
                self.owners.remove(&series);
                store.expire(series);
            }
        }
    }

    /// The first flush is in: what it did not define is of an incarnation that has ended.
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

    /// What the next connection of this node needs.
    pub fn retain(&mut self) -> RetainedSeries {
        let mut retained = std::mem::take(&mut self.retained);
        for entry in &self.entries {
            if let Some(series) = entry.series {
                let (start, wraps) = (entry.start, entry.wraps);
                retained.insert(series, Retained { start, wraps });
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
    /// Another: whatever is held is replaced.
    Begins,
}

/// What makes two definitions one series: key and labels as a page shows them. A label may be a number in one incarnation and its text in
/// the next; and an empty one is none.
fn identity(key: u64, labels: &Attributes) -> Vec<u8> {
    let mut identity = key.to_le_bytes().to_vec();
    for (label, value) in labels.iter() {
        let text = value.render();
        if !text.is_empty() {
            for part in [label, &*text] {
                identity.extend_from_slice(&(part.len() as u32).to_le_bytes());
                identity.extend_from_slice(part.as_bytes());
            }
        }
    }
    identity
}

/// +1 or -1 when the integer part went over the edge of 64 bits, by the shorter way round.
#[inline]
fn wrapped(held: i64, new: i64) -> i32 {
    let up = new.wrapping_sub(held) >= 0;
    i32::from(up && new < held) - i32::from(!up && new > held)
}

#[inline]
fn unwrapped(int: i64, float: f64, wraps: i32) -> Number {
    let float = if wraps == 0 {
        float
    } else {
        float + f64::from(wraps) * WRAP
    };
    Number { int, float }
}

fn undefined(id: u32) -> Wrong {
    Wrong(format!("series {id} is not defined"))
}
