//! The series store: sources, series, cells, admission, leaving. Owned by the ingest thread alone.
//!
//! A point costs a hash, a look into the table and a write into a slot. Everything that is learned about a series (its canonical
//! key, its meaning, its page labels) is learned once, in [`Core::define`], when its fingerprint is not known. The fingerprint
//! is a cache of the key: on a miss the key is compared in full, and the new fingerprint becomes an alias of the series it
//! turned out to be.

mod attribute_encoding;
mod bounds;
mod cell;
mod define;
mod expiry;
mod explicit;
mod family;
mod lookup;
mod meta;
mod point;
mod table;
mod times;

use crate::events::Events;
use crate::events::request::{Interest, StreamRequest, Subscription};
use crate::ledger::{DropReason, Ledger};
use attribute_encoding::Shared;
use bounds::BoundLists;
use cell::Cell;
pub use cell::{ExponentialCell, HistogramCell, SummaryCell, total};
use dichroic_model::{
    Batch, EventKind, EventSchema, Exemplar, Expiry, Fingerprint, Fingerprinter, GapReason, Limits, Resolver,
    Scope, Seed, Source, SourceId, SourceSpec, UnixNanos, attributes::cut,
};
pub use explicit::Explicit;
pub(crate) use family::GONE;
use family::{Families, MetricId};
pub use family::{Family, Metric};
pub use lookup::{Found, LOOKUP_BATCH};
use meta::MetricStreams;
pub use meta::{MetricStream, SeriesMeta};
pub use point::{Buckets, EXEMPLAR_BYTES, ExponentialPoint, HistogramPoint, SummaryPoint};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use table::{Key, Table};
pub use times::Times;

/// Tables are seeded as fingerprints are: fast, and nobody can choose what meets in them.
type Seeded = foldhash::quality::RandomState;
type HashMap<K, V> = std::collections::HashMap<K, V, Seeded>;
type HashSet<K> = std::collections::HashSet<K, Seeded>;

/// A series' place. Stale once the series has left, and after a reload until it is met again: every use says so.
///
/// Two are equal that are of the same series, even when a reload lies between them.
#[derive(Debug, Clone, Copy)]
pub struct SeriesRef {
    index: u32,
    generation: Generation,
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
struct Generation(u32);

impl Generation {
    fn series(self) -> u32 {
        self.0 >> 8
    }

    fn of_next_series(self) -> Self {
        Generation(self.0.wrapping_add(1 << 8))
    }

    fn after_reload(self) -> Self {
        Generation(self.0 & !0xff | u32::from((self.0 as u8).wrapping_add(1)))
    }
}

/// A series was not admitted; the reason is what the point is to be counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAdmitted(pub DropReason);

/// What points and copies read and write: one cache line, because most of what a point costs is waiting for memory.
#[repr(align(64))]
pub(crate) struct Slot {
    pub(crate) cell: Cell,
    pub(crate) meta: Option<Arc<SeriesMeta>>,
    pub(crate) start: UnixNanos,
    pub(crate) time: UnixNanos,
    /// Tenths of seconds since the store began, of the last change: enough for thirteen years.
    pub(crate) touched: u32,
    generation: Generation,
    /// Another series has the same labels on the page and goes first, or the family has no place there.
    pub(crate) hidden: bool,
    /// Others want the same place on the page, or have it.
    contested: bool,
    monotonic: bool,
    /// Its source's series leave when idle.
    idles: bool,
    pub(crate) start_explicit: bool,
    /// An example of it is kept.
    pub(crate) exemplified: bool,
    /// It takes what has no room.
    overflow: bool,
    /// Which reload of the resolver gave it its meaning.
    meaning: u8,
}

const _: () = assert!(size_of::<Slot>() == 64);

/// Where a series stands in lists and tables: read when it comes and when it leaves.
struct Places {
    /// Place among the members of the family.
    family: u32,
    /// Place among the series of the source.
    tenant: u32,
    /// Where the series is found by what it is: its place on the page, or its own key where that place is taken.
    key: Key,
    /// The fingerprint under which it was met last; `key` where there is none.
    alias: Key,
}

/// What one source holds.
struct Tenant {
    source: Arc<Source>,
    /// Slots of its series, in any order.
    slots: Vec<u32>,
    by_metric: HashMap<MetricId, usize>,
    ended: Option<UnixNanos>,
    bytes: usize,
}

/// The store. See the module's page.
pub struct Core {
    limits: Limits,
    resolver: Arc<dyn Resolver>,
    resolver_generation: u64,
    epoch: UnixNanos,
    seed: Seed,
    pages: Fingerprinter,
    /// Fingerprint → slot: what every point is looked up in.
    table: Table,
    /// Where a series is found by what it is, on a miss.
    places: Table,
    pub(crate) slots: Vec<Slot>,
    /// Of the slot with the same index.
    standing: Vec<Places>,
    /// Fingerprints under which series were met before the last one, oldest first. Most have none.
    aliases: HashMap<u32, Vec<Key>>,
    free: Vec<u32>,
    pub(crate) families: Families,
    sources: BTreeMap<SourceId, Tenant>,
    source_keys: HashMap<(dichroic_model::Protocol, Vec<u8>), SourceId>,
    next_source: u32,
    scopes: HashSet<Arc<Scope>>,
    metric_streams: MetricStreams,
    names: Shared,
    pub(crate) bounds: BoundLists,
    /// Bytes of live series beside their slots, of exemplars and of sources.
    bytes: usize,
    /// Series that stand outside the caps, to take what has no room.
    overflows: usize,
    exemplars: HashMap<u32, Arc<Exemplar>>,
    /// Series that want a place on the page that another has, by that place.
    rivals: HashMap<Key, Vec<u32>>,
    /// The place that each of them wants.
    wanted_places: HashMap<u32, Key>,
    events: Events,
    ledger: Ledger,
    warnings: Warnings,
    /// The time, as the last tick said.
    clock: UnixNanos,
    copies: BTreeMap<u64, UnixNanos>,
    next_copy: u64,
    /// Series that became visible while somebody copies: (when, in copies begun before). They wait for the next copy.
    fresh: HashMap<u32, u64>,
    sweep: u32,
    shortest_idle: UnixNanos,
    meaning: u8,
    /// When series leave that were not met since the last reload.
    stale_at: Option<UnixNanos>,
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

/// Unit of [`Slot::touched`].
const TENTH: UnixNanos = 100_000_000;

/// Scopes that are shared between series; others are kept by each series for itself.
const INTERNED: usize = 4_096;

/// Salt of page fingerprints; sources salt with their id, which is smaller.
const PAGE_SALT: u64 = u64::MAX;

impl Core {
    /// Meaning is given by this resolver from the next tick on: series keep their state and are met again.
    pub fn set_resolver(&mut self, resolver: Arc<dyn Resolver>) {
        self.resolver = resolver;
    }

    /// An empty store that begins at `epoch`.
    pub fn new(limits: Limits, resolver: Arc<dyn Resolver>, epoch: UnixNanos) -> Self {
        let seed = Seed::random();
        Core {
            events: Events::new(&limits),
            resolver_generation: resolver.generation(),
            limits,
            resolver,
            epoch,
            seed,
            pages: Fingerprinter::new(seed, PAGE_SALT),
            table: Table::default(),
            places: Table::default(),
            slots: Vec::new(),
            standing: Vec::new(),
            aliases: HashMap::default(),
            free: Vec::new(),
            families: Families::default(),
            sources: BTreeMap::new(),
            source_keys: HashMap::default(),
            next_source: 0,
            scopes: HashSet::default(),
            metric_streams: MetricStreams::new(Fingerprinter::new(seed, PAGE_SALT)),
            names: Shared::default(),
            bounds: BoundLists::default(),
            bytes: 0,
            overflows: 0,
            exemplars: HashMap::default(),
            rivals: HashMap::default(),
            wanted_places: HashMap::default(),
            ledger: Ledger::new(epoch),
            warnings: Warnings::default(),
            clock: epoch,
            copies: BTreeMap::new(),
            next_copy: 0,
            fresh: HashMap::default(),
            sweep: 0,
            shortest_idle: UnixNanos::MAX,
            meaning: 0,
            stale_at: None,
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

    /// Accounted bytes: series, labels, names, sources, tables. Tables keep their size when series leave.
    pub fn bytes(&self) -> usize {
        self.live_bytes()
            + self.table.bytes()
            + self.places.bytes()
            + self.slots.capacity() * size_of::<Slot>()
            + self.standing.capacity() * size_of::<Places>()
    }

    /// The part of [`Core::bytes`] that leaves with the series.
    pub fn live_bytes(&self) -> usize {
        self.bytes + self.families.bytes() + self.bounds.bytes() + self.metric_streams.bytes()
    }

    /// Subscribers at present.
    pub fn subscribers(&self) -> usize {
        self.events.subscribers()
    }

    // ---- sources ----------------------------------------------------------------------------------------------------------

    /// Opens a source, or finds the one that has this key. A source that comes back with another identity (job, instance,
    /// resource, labels) replaces the old one, whose series leave.
    pub fn open_source(&mut self, mut spec: SourceSpec, now: UnixNanos) -> Result<Arc<Source>, NotAdmitted> {
        self.clock = self.clock.max(now);
        let key = (spec.protocol, spec.key.clone());
        if let Some(id) = self.source_keys.get(&key).copied()
            && let Some(tenant) = self.sources.get_mut(&id)
        {
            if same_identity(&tenant.source.spec, &spec) {
                tenant.ended = None;
                return Ok(tenant.source.clone());
            }
            self.drop_source(id);
        }
        if self.sources.len() >= self.limits.sources {
            return Err(NotAdmitted(DropReason::SourceLimit));
        }
        let bytes = size_of::<Tenant>() + 512 + 2 * spec.key.len() + spec.resource.as_bytes().len();
        if self.bytes() + bytes > self.limits.memory_bytes {
            return Err(NotAdmitted(DropReason::MemoryLimit));
        }
        let id = SourceId(self.next_source);
        self.next_source += 1;
        spec.name = cut(&spec.name, 256).to_owned();
        self.ledger.name(id, spec.protocol.as_str(), &spec.name);
        if let Expiry::AfterIdle(idle) = spec.expiry {
            self.shortest_idle = self.shortest_idle.min(idle);
        }
        let source = Arc::new(Source { id, spec });
        let tenant = Tenant {
            source: source.clone(),
            slots: Vec::new(),
            by_metric: HashMap::default(),
            ended: None,
            bytes,
        };
        self.bytes += bytes;
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
        if tenant.source.spec.expiry == Expiry::ByReceiver {
            self.drop_source(id);
        }
    }

    /// Open and lingering sources, each with its number of series and when it ended.
    pub fn sources(&self) -> impl Iterator<Item = (&Arc<Source>, usize, Option<UnixNanos>)> {
        self.sources.values().map(|t| (&t.source, t.slots.len(), t.ended))
    }

    /// Seeds the fingerprints of a source.
    pub fn fingerprinter(&self, source: SourceId) -> Fingerprinter {
        Fingerprinter::new(self.seed, u64::from(source.0))
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

    fn scope(&mut self, scope: &Scope) -> Arc<Scope> {
        if let Some(known) = self.scopes.get(scope) {
            return known.clone();
        }
        let scope = Arc::new(scope.clone());
        if self.scopes.len() >= INTERNED {
            self.scopes.retain(|scope| Arc::strong_count(scope) > 1);
        }
        if self.scopes.len() < INTERNED {
            self.scopes.insert(scope.clone());
        }
        scope
    }

    /// The reload from which meaning comes. When it changes, series want to be met again.
    pub fn resolver_epoch(&self) -> u64 {
        self.resolver_generation
    }

    /// Whether the series is there but was not met since the last reload.
    pub fn is_unresolved(&self, series: SeriesRef) -> bool {
        self.is_there(series) && self.slot(series).is_none()
    }

    /// Whether the series has not left, met again or not.
    fn is_there(&self, series: SeriesRef) -> bool {
        let slot = self.slots.get(series.index as usize);
        slot.is_some_and(|slot| slot.generation.series() == series.generation.series() && slot.meta.is_some())
    }

    fn slot(&self, series: SeriesRef) -> Option<&Slot> {
        let slot = self.slots.get(series.index as usize)?;
        (slot.generation == series.generation && slot.meta.is_some()).then_some(slot)
    }

    pub(crate) fn tenths(&self, now: UnixNanos) -> u32 {
        (now.saturating_sub(self.epoch) / TENTH) as u32
    }

    // ---- events -----------------------------------------------------------------------------------------------------------

    /// The schema with these columns; equal columns get the same schema.
    pub fn schema(
        &mut self,
        kind: EventKind,
        name: &str,
        measurements: Vec<(String, String)>,
        metadata: Vec<String>,
    ) -> Result<Arc<EventSchema>, NotAdmitted> {
        self.events
            .schema(kind, name, measurements, metadata)
            .ok_or(NotAdmitted(DropReason::SchemaLimit))
    }

    /// All schemas.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<EventSchema>> {
        self.events.schemas()
    }

    /// Position of the next row of a kind: write it into the body before [`Core::publish`].
    pub fn next_position(&self, kind: EventKind) -> u64 {
        self.events.next_position(kind)
    }

    /// Sends a batch to the replay and to all subscribers that match it. Its position must be [`Core::next_position`].
    pub fn publish(&mut self, batch: Batch) {
        self.events.publish(batch);
    }

    /// Reports to subscribers that rows of a schema are missing here.
    pub fn publish_gap(
        &mut self,
        schema: &Arc<EventSchema>,
        source: &Arc<Source>,
        reason: GapReason,
        lost: Option<u64>,
    ) {
        self.events.publish_gap(schema, source, reason, lost);
    }

    /// Subscribes; `None` at the limit of subscribers.
    pub fn subscribe(&mut self, request: StreamRequest) -> Option<Subscription> {
        self.events.subscribe(request)
    }

    /// The patterns of all subscribers.
    pub fn interest(&mut self) -> &Interest {
        self.events.interest()
    }

    // ---- copies -----------------------------------------------------------------------------------------------------------

    /// A copy begins: what becomes visible from here on waits for the next one, so that no copy shows a series twice.
    pub(crate) fn begin_copy(&mut self) -> u64 {
        self.next_copy += 1;
        self.copies.insert(self.next_copy, self.clock);
        self.next_copy
    }

    /// Whether the copy may go on: one that takes too long is given up.
    pub(crate) fn copying(&self, copy: u64) -> bool {
        self.copies.contains_key(&copy)
    }

    pub(crate) fn end_copy(&mut self, copy: u64) {
        self.copies.remove(&copy);
        if self.copies.is_empty() {
            self.fresh.clear();
        }
    }

    /// Whether the series became visible after the copy began.
    #[inline]
    pub(crate) fn is_fresh(&self, index: u32, copy: u64) -> bool {
        !self.fresh.is_empty() && self.fresh.get(&index).is_some_and(|since| *since >= copy)
    }

    fn note_fresh(&mut self, index: u32) {
        if !self.copies.is_empty() {
            self.fresh.insert(index, self.next_copy);
        }
    }

    /// Metrics known, for the catalog.
    pub fn metrics(&self) -> impl Iterator<Item = &Arc<Metric>> {
        self.families.metrics()
    }

    pub(crate) fn exemplar(&self, index: u32) -> Option<&Arc<Exemplar>> {
        self.exemplars.get(&index)
    }
}

fn same_identity(a: &SourceSpec, b: &SourceSpec) -> bool {
    (&a.job, &a.instance, &a.resource, &a.labels) == (&b.job, &b.instance, &b.resource, &b.labels)
        && (a.runtime, a.honor_labels) == (b.runtime, b.honor_labels)
}
