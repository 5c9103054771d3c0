//! The series store: sources, series, cells, admission, leaving. Owned by the ingest thread alone.
//!
//! A point costs a hash, a look into the table and a write into a slot. Everything that is learned about a series (its canonical
//! key, its meaning, its page labels) is learned once, in [`Store::define`], when its fingerprint is not known. The fingerprint
//! is a cache of the key: on a miss the key is compared in full, and the new fingerprint becomes an alias of the series it
//! turned out to be.

mod cell;
mod family;
mod point;
mod table;

use crate::ledger::{DropReason, Ledger};
use crate::stream::{Interest, Streams, Subscription, Wanted};
use cell::Cell;
pub use cell::{ExponentialCell, HistogramCell, SummaryCell};
use dichroic_model::{
    AttributeValue, Attributes, Batch, EventKind, EventSchema, Exemplar, Factor, Fingerprint, Fingerprinter,
    GapReason, Leaving, Limits, Query, Resolver, Scope, Seed, SeriesDef, Source, SourceId, SourceSpec,
    Temporality, UnixNanos, attributes::cut, labels,
};
use family::Families;
pub(crate) use family::GONE;
pub use family::{Family, Metric};
pub use point::{Buckets, ExponentialPoint, HistogramPoint, SummaryPoint};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use table::Table;

/// A series' place. Stale once the series has left: every use says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SeriesRef {
    index: u32,
    generation: u32,
}

/// A series was not admitted; the reason is what the point is to be counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub DropReason);

/// What stays true of a series while it lives. Shared with exporters.
#[derive(Debug)]
pub struct SeriesMeta {
    /// Its metric.
    pub metric: Arc<Metric>,
    /// Its source.
    pub source: Arc<Source>,
    /// Its instrumentation scope.
    pub scope: Arc<Scope>,
    /// How its points relate as they came in.
    pub temporality: Temporality,
    /// Raw values times this are in the metric's unit.
    pub factor: Factor,
    /// Attributes after renaming, typed.
    pub attributes: Attributes,
    /// The same as page labels, source labels included: `a="x",b="y"`.
    pub labels: Box<str>,
}

pub(crate) struct Slot {
    pub(crate) cell: Cell,
    pub(crate) meta: Option<Arc<SeriesMeta>>,
    pub(crate) start: UnixNanos,
    pub(crate) time: UnixNanos,
    generation: u32,
    /// Milliseconds since the store began, of the last change.
    pub(crate) touched: u32,
    place: u32,
    /// Another series has the same labels on the page and goes first.
    pub(crate) hidden: bool,
    monotonic: bool,
    pub(crate) start_told: bool,
    /// Low halves of the fingerprints under which it is found, beside the page one.
    aliases: Vec<Fingerprint>,
}

/// Kind, name, measurements, metadata.
type SchemaKey = (EventKind, String, Vec<(String, String)>, Vec<String>);

/// What one source holds.
struct Tenant {
    source: Arc<Source>,
    series: usize,
    by_metric: HashMap<(String, u8), usize>,
    ended: Option<UnixNanos>,
}

/// The store. See the module's page.
pub struct Store {
    limits: Limits,
    resolver: Arc<dyn Resolver>,
    resolver_generation: u64,
    epoch: UnixNanos,
    seed: Seed,
    pages: Fingerprinter,
    table: Table,
    pub(crate) slots: Vec<Slot>,
    free: Vec<u32>,
    pub(crate) families: Families,
    sources: BTreeMap<SourceId, Tenant>,
    source_keys: HashMap<(dichroic_model::Protocol, Vec<u8>), SourceId>,
    next_source: u32,
    scopes: HashSet<Arc<Scope>>,
    bounds: HashSet<BoundsKey>,
    bytes: usize,
    exemplars: HashMap<u32, Arc<Exemplar>>,
    schemas: HashMap<SchemaKey, Arc<EventSchema>>,
    next_schema: u32,
    streams: Streams,
    ledger: Ledger,
    warnings: Warnings,
    pub(crate) copies: usize,
    sweep: u32,
}

/// Conditions that lose nothing but deserve a look; shown in the catalog and as the collector's own counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Warnings {
    /// Series whose labels on the page equal those of another series, which goes first.
    pub label_collisions: u64,
    /// Metrics whose page name is taken by a family of another type.
    pub name_conflicts: u64,
    /// Deltas whose start lies after the end of the last one: something is missing between.
    pub delta_gaps: u64,
    /// Deltas whose start lies before the end of the last one.
    pub delta_overlaps: u64,
    /// Cumulative counters that dropped: the program restarted.
    pub resets: u64,
    /// Label values that were cut.
    pub cut_values: u64,
}

#[derive(PartialEq)]
struct BoundsKey(Arc<[f64]>);

impl Eq for BoundsKey {}

impl std::hash::Hash for BoundsKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|b| b.to_bits().hash(state));
    }
}

/// Salt of page fingerprints; sources salt with their id, which is smaller.
const PAGE_SALT: u64 = u64::MAX;

impl Store {
    /// An empty store that begins at `epoch`.
    pub fn new(limits: Limits, resolver: Arc<dyn Resolver>, epoch: UnixNanos) -> Self {
        let seed = Seed::random();
        Store {
            streams: Streams::new(&limits),
            resolver_generation: resolver.generation(),
            limits,
            resolver,
            epoch,
            seed,
            pages: Fingerprinter::new(seed, PAGE_SALT),
            table: Table::default(),
            slots: Vec::new(),
            free: Vec::new(),
            families: Families::default(),
            sources: BTreeMap::new(),
            source_keys: HashMap::new(),
            next_source: 0,
            scopes: HashSet::new(),
            bounds: HashSet::new(),
            bytes: 0,
            exemplars: HashMap::new(),
            schemas: HashMap::new(),
            next_schema: 1,
            ledger: Ledger::new(epoch),
            warnings: Warnings::default(),
            copies: 0,
            sweep: 0,
        }
    }

    /// When this process began to count.
    pub fn epoch(&self) -> UnixNanos {
        self.epoch
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The accounts, to add to.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// The accounts.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Conditions seen.
    pub fn warnings(&self) -> Warnings {
        self.warnings
    }

    /// Live series.
    pub fn series(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Accounted bytes: series, labels, tables.
    pub fn bytes(&self) -> usize {
        self.bytes + self.table.bytes() + self.slots.capacity() * size_of::<Slot>()
    }

    /// Subscribers at present.
    pub fn subscribers(&self) -> usize {
        self.streams.subscribers()
    }

    // ---- sources ----------------------------------------------------------------------------------------------------------

    /// Opens a source, or finds the one that has this key. A source that comes back with another identity (job, instance,
    /// resource, labels) replaces the old one, whose series leave.
    pub fn open_source(&mut self, spec: SourceSpec, now: UnixNanos) -> Result<Arc<Source>, Refused> {
        let key = (spec.protocol, spec.key.clone());
        if let Some(id) = self.source_keys.get(&key).copied() {
            let tenant = self.sources.get_mut(&id).expect("keys point to open sources");
            let old = &tenant.source.spec;
            if (&old.job, &old.instance, &old.resource, &old.labels, old.runtime)
                == (
                    &spec.job,
                    &spec.instance,
                    &spec.resource,
                    &spec.labels,
                    spec.runtime,
                )
            {
                tenant.ended = None;
                return Ok(tenant.source.clone());
            }
            self.drop_source(id);
        }
        if self.sources.len() >= self.limits.sources {
            return Err(Refused(DropReason::SourceLimit));
        }
        let id = SourceId(self.next_source);
        self.next_source += 1;
        self.ledger.name(id, spec.protocol.as_str(), cut(&spec.name, 256));
        let source = Arc::new(Source { id, spec });
        let tenant = Tenant {
            source: source.clone(),
            series: 0,
            by_metric: HashMap::new(),
            ended: None,
        };
        let _ = now;
        self.sources.insert(id, tenant);
        self.source_keys.insert(key, id);
        Ok(source)
    }

    /// The source has gone. Its series leave by its rule: at once, when idle, or some time after this.
    pub fn end_source(&mut self, id: SourceId, now: UnixNanos) {
        let Some(tenant) = self.sources.get_mut(&id) else {
            return;
        };
        tenant.ended = Some(now);
        if tenant.source.spec.leaving == Leaving::ByReceiver {
            self.drop_source(id);
        }
    }

    /// Open and lingering sources, each with its number of series and when it ended.
    pub fn sources(&self) -> impl Iterator<Item = (&Arc<Source>, usize, Option<UnixNanos>)> {
        self.sources.values().map(|t| (&t.source, t.series, t.ended))
    }

    /// Seeds the fingerprints of a source.
    pub fn fingerprinter(&self, source: SourceId) -> Fingerprinter {
        Fingerprinter::new(self.seed, u64::from(source.0))
    }

    fn drop_source(&mut self, id: SourceId) {
        let Some(tenant) = self.sources.get(&id) else {
            return;
        };
        if tenant.series > 0 {
            let mine = |slot: &Slot| slot.meta.as_ref().is_some_and(|meta| meta.source.id == id);
            let indexes: Vec<u32> = (0..self.slots.len() as u32)
                .filter(|i| mine(&self.slots[*i as usize]))
                .collect();
            indexes.into_iter().for_each(|index| self.remove(index));
        }
        if let Some(tenant) = self.sources.remove(&id) {
            self.source_keys
                .remove(&(tenant.source.spec.protocol, tenant.source.spec.key.clone()));
        }
    }

    // ---- series -----------------------------------------------------------------------------------------------------------

    /// The series of a fingerprint, if it is known.
    #[inline]
    pub fn find(&self, fp: Fingerprint) -> Option<SeriesRef> {
        let index = self.table.find(fp)?;
        Some(SeriesRef {
            index,
            generation: self.slots[index as usize].generation,
        })
    }

    /// What is known of a live series.
    pub fn meta(&self, series: SeriesRef) -> Option<&Arc<SeriesMeta>> {
        self.slot(series).and_then(|slot| slot.meta.as_ref())
    }

    /// One allocation per distinct list of bounds.
    pub fn intern_bounds(&mut self, bounds: &[f64]) -> Arc<[f64]> {
        let key = BoundsKey(bounds.into());
        match self.bounds.get(&key) {
            Some(known) => known.0.clone(),
            None => {
                let bounds = key.0.clone();
                self.bounds.insert(key);
                bounds
            }
        }
    }

    /// Meets a series: finds the one with this key, or admits it. The fingerprint finds it from now on.
    ///
    /// A series is visible from its first point, not from here. A delta that has no room is folded into the metric's overflow
    /// series (`otel_metric_overflow="true"`), under no fingerprint of its own.
    pub fn define(&mut self, fp: Fingerprint, mut def: SeriesDef<'_>) -> Result<SeriesRef, Refused> {
        self.check_labels(&mut def)?;
        let source = self
            .sources
            .get(&def.source)
            .ok_or(Refused(DropReason::SeriesGone))?
            .source
            .clone();
        let meaning = self.resolver.resolve(&Query {
            source: &source,
            def: &def,
        });
        let factor = def.factor.then(meaning.factor).unwrap_or(def.factor);
        let bounds = self.bounds_of(&def, meaning.factor)?;
        for (from, to) in &meaning.rename {
            def.attributes
                .iter_mut()
                .filter(|(key, _)| key == from)
                .for_each(|(key, _)| *key = to.clone().into());
        }
        let attributes = Attributes::pack(&mut def.attributes);
        let metric = self
            .families
            .metric(&meaning.name, &meaning.unit, def.kind, def.style, &meaning.help);
        let rendered = labels::render(&labels::page_labels(&source, meaning.mapped, &attributes));
        let wanted = SeriesMeta {
            metric,
            source,
            scope: self.scope(def.scope),
            temporality: def.temporality,
            factor,
            attributes,
            labels: rendered.into_boxed_str(),
        };
        let page = self.page_fingerprint(&wanted, 0);
        let (page, taken) = match self.table.find(page) {
            None => (page, false),
            Some(other) if self.same_key(other, &wanted) => return Ok(self.meet_again(other, fp, bounds)),
            Some(_) => (self.page_fingerprint(&wanted, 1), true),
        };
        if taken && let Some(other) = self.table.find(page) {
            return if self.same_key(other, &wanted) {
                Ok(self.meet_again(other, fp, bounds))
            } else {
                Err(Refused(DropReason::Duplicate))
            };
        }
        match self.room(&wanted) {
            Ok(bytes) => Ok(self.admit(fp, page, taken, wanted, bounds, bytes)),
            Err(reason) => self.fold(&def, &wanted, bounds, reason),
        }
    }

    /// The series leaves now: it is on no page and in no copy that starts after this.
    pub fn leave(&mut self, series: SeriesRef) {
        if self.slot(series).is_some() {
            self.remove(series.index);
        }
    }

    fn check_labels(&mut self, def: &mut SeriesDef<'_>) -> Result<(), Refused> {
        let too_long =
            |(name, _): &(Cow<'_, str>, AttributeValue<'_>)| name.len() > self.limits.label_name_bytes;
        if def.attributes.len() > self.limits.labels || def.attributes.iter().any(too_long) {
            return Err(Refused(DropReason::LabelLimit));
        }
        for (_, value) in &mut def.attributes {
            if let AttributeValue::Str(text) = value
                && text.len() > self.limits.label_value_bytes
            {
                *text = Cow::Owned(cut(text, self.limits.label_value_bytes).to_owned());
                self.warnings.cut_values += 1;
            }
        }
        Ok(())
    }

    fn bounds_of(&mut self, def: &SeriesDef<'_>, factor: Factor) -> Result<Option<Arc<[f64]>>, Refused> {
        let Some(bounds) = &def.bounds else {
            return Ok(None);
        };
        let ascending = bounds.windows(2).all(|w| w[0] < w[1]);
        if bounds.len() > self.limits.buckets || !ascending {
            return Err(Refused(DropReason::Buckets));
        }
        if factor.is_one() {
            return Ok(Some(self.intern_bounds(bounds)));
        }
        let scaled: Vec<f64> = bounds.iter().map(|b| factor.apply(*b)).collect();
        Ok(Some(self.intern_bounds(&scaled)))
    }

    fn scope(&mut self, scope: &Scope) -> Arc<Scope> {
        if let Some(known) = self.scopes.get(scope) {
            return known.clone();
        }
        let scope = Arc::new(scope.clone());
        // Scopes are few; a sender that makes them up is not helped to fill memory with them.
        if self.scopes.len() < self.limits.sources {
            self.scopes.insert(scope.clone());
        }
        scope
    }

    /// Where a series is found by what it looks like on the page. `rank` 1 is for those whose place there is taken.
    fn page_fingerprint(&self, meta: &SeriesMeta, rank: u8) -> Fingerprint {
        let mut bytes = Vec::with_capacity(meta.labels.len() + 16);
        bytes.extend_from_slice(&meta.metric.family_id.to_le_bytes());
        bytes.push(rank);
        bytes.extend_from_slice(meta.labels.as_bytes());
        if rank > 0 {
            bytes.extend_from_slice(&meta.source.id.0.to_le_bytes());
            bytes.extend_from_slice(meta.metric.name.as_bytes());
            bytes.extend_from_slice(meta.scope.name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(meta.scope.version.as_bytes());
            bytes.push(meta.temporality as u8);
            bytes.extend_from_slice(meta.attributes.as_bytes());
        }
        self.pages.of(&bytes)
    }

    fn same_key(&self, index: u32, wanted: &SeriesMeta) -> bool {
        let Some(have) = &self.slots[index as usize].meta else {
            return false;
        };
        Arc::ptr_eq(&have.metric, &wanted.metric)
            && have.source.id == wanted.source.id
            && have.temporality == wanted.temporality
            && have.scope == wanted.scope
            && have.attributes == wanted.attributes
    }

    /// Another spelling of a series we have: an alias, or other bounds.
    fn meet_again(&mut self, index: u32, fp: Fingerprint, bounds: Option<Arc<[f64]>>) -> SeriesRef {
        let slot = &mut self.slots[index as usize];
        if let (Cell::Histogram(cell), Some(bounds)) = (&mut slot.cell, bounds)
            && !Arc::ptr_eq(&cell.bounds, &bounds)
        {
            // Other bounds begin a new count. Old fingerprints included the old bounds: they must miss, and be met again.
            cell.counts = vec![0; bounds.len() + 1].into();
            (cell.sum, cell.min_max) = (cell.sum.map(|_| Default::default()), None);
            cell.bounds = bounds;
            slot.start = slot.time;
            let old = std::mem::take(&mut slot.aliases);
            old.into_iter().for_each(|alias| self.table.remove(alias, index));
        }
        let slot = &mut self.slots[index as usize];
        if slot.aliases.len() >= self.limits.aliases_per_series {
            let oldest = slot.aliases.remove(0);
            self.table.remove(oldest, index);
        }
        slot.aliases.push(fp);
        let generation = slot.generation;
        self.table.insert(fp, index);
        SeriesRef { index, generation }
    }

    /// Whether there is room, and for how many bytes to account.
    fn room(&self, meta: &SeriesMeta) -> Result<usize, DropReason> {
        let bytes = size_of::<SeriesMeta>() + 16 + meta.labels.len() + meta.attributes.as_bytes().len() + 48;
        let tenant = self.sources.get(&meta.source.id).ok_or(DropReason::SeriesGone)?;
        let of_metric = tenant.by_metric.get(&metric_key(meta)).copied().unwrap_or(0);
        if self.series() >= self.limits.series {
            Err(DropReason::SeriesLimit)
        } else if tenant.series >= self.limits.series_per_source {
            Err(DropReason::SeriesPerSource)
        } else if of_metric >= self.limits.series_per_metric {
            Err(DropReason::SeriesPerMetric)
        } else if self.bytes() + bytes > self.limits.memory_bytes {
            Err(DropReason::MemoryLimit)
        } else {
            Ok(bytes)
        }
    }

    fn fold(
        &mut self,
        def: &SeriesDef<'_>,
        wanted: &SeriesMeta,
        bounds: Option<Arc<[f64]>>,
        reason: DropReason,
    ) -> Result<SeriesRef, Refused> {
        if def.temporality != Temporality::Delta {
            return Err(Refused(reason));
        }
        let attributes = Attributes::of(&[("otel_metric_overflow", "true")]);
        let mapped = wanted.labels.contains("runtime=\"");
        let meta = SeriesMeta {
            metric: wanted.metric.clone(),
            source: wanted.source.clone(),
            scope: wanted.scope.clone(),
            temporality: wanted.temporality,
            factor: wanted.factor,
            labels: labels::render(&labels::page_labels(&wanted.source, mapped, &attributes)).into(),
            attributes,
        };
        let page = self.page_fingerprint(&meta, 0);
        match self.table.find(page) {
            Some(index) if self.same_key(index, &meta) => Ok(SeriesRef {
                index,
                generation: self.slots[index as usize].generation,
            }),
            Some(_) => Err(Refused(reason)),
            // One overflow series per metric and source stands outside the caps, else it could never be made.
            None => Ok(self.admit(page, page, false, meta, bounds, 0)),
        }
    }

    fn admit(
        &mut self,
        fp: Fingerprint,
        page: Fingerprint,
        hidden: bool,
        meta: SeriesMeta,
        bounds: Option<Arc<[f64]>>,
        bytes: usize,
    ) -> SeriesRef {
        let cell = point::empty_cell(&meta, bounds);
        self.bytes += bytes + cell.heap_bytes();
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        let hidden = hidden || meta.metric.family.is_none();
        self.warnings.label_collisions += u64::from(hidden && meta.metric.family.is_some());
        self.warnings.name_conflicts += u64::from(meta.metric.family.is_none());
        let tenant = self
            .sources
            .get_mut(&meta.source.id)
            .expect("checked by the caller");
        tenant.series += 1;
        *tenant.by_metric.entry(metric_key(&meta)).or_default() += 1;
        let slot = Slot {
            place: self.families.add(meta.metric.family_id, index),
            monotonic: meta.metric.kind == dichroic_model::MetricKind::COUNTER,
            cell,
            meta: Some(Arc::new(meta)),
            start: 0,
            start_told: false,
            time: 0,
            generation,
            touched: 0,
            hidden,
            aliases: if fp == page { vec![page] } else { vec![page, fp] },
        };
        match self.slots.get_mut(index as usize) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        self.table.insert(page, index);
        if fp != page {
            self.table.insert(fp, index);
        }
        SeriesRef { index, generation }
    }

    fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let Some(meta) = slot.meta.take() else { return };
        let aliases = std::mem::take(&mut slot.aliases);
        let cell = std::mem::replace(&mut slot.cell, Cell::Empty);
        slot.generation = slot.generation.wrapping_add(1);
        let place = slot.place;
        aliases.into_iter().for_each(|fp| self.table.remove(fp, index));
        self.families.remove(meta.metric.family_id, place);
        self.exemplars.remove(&index);
        let bytes = size_of::<SeriesMeta>() + 16 + meta.labels.len() + meta.attributes.as_bytes().len() + 48;
        self.bytes = self.bytes.saturating_sub(bytes + cell.heap_bytes());
        if let Some(tenant) = self.sources.get_mut(&meta.source.id) {
            tenant.series -= 1;
            let key = metric_key(&meta);
            if let Some(n) = tenant.by_metric.get_mut(&key) {
                *n -= 1;
                if *n == 0 {
                    tenant.by_metric.remove(&key);
                }
            }
        }
        self.free.push(index);
    }

    fn slot(&self, series: SeriesRef) -> Option<&Slot> {
        let slot = self.slots.get(series.index as usize)?;
        (slot.generation == series.generation && slot.meta.is_some()).then_some(slot)
    }

    // ---- time -------------------------------------------------------------------------------------------------------------

    /// Lets series leave that are due, a bounded part of them per call. Call about ten times a second.
    pub fn tick(&mut self, now: UnixNanos) {
        const SWEEP: u32 = 16_384;
        self.streams.sweep();
        let due: Vec<SourceId> = self
            .sources
            .values()
            .filter(|t| t.due(now))
            .map(|t| t.source.id)
            .collect();
        due.into_iter().for_each(|id| self.drop_source(id));
        let end = (self.sweep + SWEEP).min(self.slots.len() as u32);
        for index in self.sweep..end {
            let slot = &self.slots[index as usize];
            let Some(meta) = &slot.meta else { continue };
            if let Leaving::AfterIdle(idle) = meta.source.spec.leaving
                && self.touched_at(slot) + idle < now
            {
                self.remove(index);
            }
        }
        self.sweep = if end == self.slots.len() as u32 { 0 } else { end };
        if self.copies == 0 && self.sweep == 0 {
            let slots = &mut self.slots;
            self.families
                .compact(|slot, place| slots[slot as usize].place = place);
        }
        let generation = self.resolver.generation();
        if generation != self.resolver_generation {
            // The meaning of everything may have changed: all series are met anew with their next point.
            self.resolver_generation = generation;
            (0..self.slots.len() as u32).for_each(|index| self.remove(index));
        }
    }

    fn touched_at(&self, slot: &Slot) -> UnixNanos {
        self.epoch + u64::from(slot.touched) * 1_000_000
    }

    pub(crate) fn millis(&self, now: UnixNanos) -> u32 {
        (now.saturating_sub(self.epoch) / 1_000_000) as u32
    }

    // ---- raw events -------------------------------------------------------------------------------------------------------

    /// The schema with these columns; the same columns get the same schema.
    pub fn schema(
        &mut self,
        kind: EventKind,
        name: &str,
        measurements: Vec<(String, String)>,
        metadata: Vec<String>,
    ) -> Result<Arc<EventSchema>, Refused> {
        let key = (kind, name.to_owned(), measurements, metadata);
        if let Some(schema) = self.schemas.get(&key) {
            return Ok(schema.clone());
        }
        if self.schemas.len() >= self.limits.schemas {
            return Err(Refused(DropReason::SchemaLimit));
        }
        let id = self.next_schema;
        self.next_schema += 1;
        let schema = Arc::new(EventSchema {
            id,
            name: key.1.clone(),
            kind,
            measurements: key.2.clone(),
            metadata: key.3.clone(),
        });
        self.schemas.insert(key, schema.clone());
        Ok(schema)
    }

    /// Schemas known.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<EventSchema>> {
        self.schemas.values()
    }

    /// Position that the next row of a kind will have: write it into the body before [`Store::publish`].
    pub fn next_position(&self, kind: EventKind) -> u64 {
        self.streams.next_position(kind)
    }

    /// Hands a batch to everyone who wants it and to the replay. Its position must be [`Store::next_position`].
    pub fn publish(&mut self, batch: Batch) {
        let now = batch.received;
        self.streams.publish(batch, now);
    }

    /// Tells subscribers that rows of a schema are missing here.
    pub fn publish_gap(
        &mut self,
        schema: &Arc<EventSchema>,
        source: &Arc<Source>,
        reason: GapReason,
        lost: Option<u64>,
    ) {
        self.streams.publish_gap(schema, source, reason, lost);
    }

    /// Subscribes; `None` when there are as many subscribers as allowed.
    pub fn subscribe(&mut self, wanted: Wanted) -> Option<Subscription> {
        self.streams.subscribe(wanted)
    }

    /// What subscribers want at present.
    pub fn interest(&mut self) -> &Interest {
        self.streams.interest()
    }

    /// Metrics known, for the catalog.
    pub fn metrics(&self) -> impl Iterator<Item = &Arc<Metric>> {
        self.families.metrics()
    }

    pub(crate) fn exemplar(&self, index: u32) -> Option<&Arc<Exemplar>> {
        self.exemplars.get(&index)
    }
}

impl Tenant {
    fn due(&self, now: UnixNanos) -> bool {
        let Some(ended) = self.ended else { return false };
        match self.source.spec.leaving {
            Leaving::ByReceiver => true,
            Leaving::AfterEnd(wait) => ended + wait < now,
            Leaving::AfterIdle(_) => self.series == 0,
        }
    }
}

fn metric_key(meta: &SeriesMeta) -> (String, u8) {
    (meta.metric.name.clone(), meta.metric.kind.page_type() as u8)
}
