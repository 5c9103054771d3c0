//! The core: all rooms, and the operations that use several of them. Owned by the ingest thread.

mod claim;
mod define;
mod expiry;

use crate::budget::Budget;
use crate::events::request::{Interest, StreamRequest, Subscription};
use crate::events::{Events, NodeStart};
use crate::exposition::Exposition;
use crate::ledger::{DropReason, Ledger, Written};
use crate::series::Series;
use crate::series::admission::NotAdmitted;
use crate::series::explicit::Explicit;
use crate::series::lookup::FoundSeries;
use crate::series::meta::SeriesMeta;
use crate::series::metric::Metric;
use crate::series::points::{ExponentialPoint, HistogramPoint, SummaryPoint};
use crate::series::slot::SeriesRef;
use crate::series::sources::{Sources, same_identity};
use crate::series::times::Times;
use crate::series::values::ExponentialCell;
use dichroic_model::clock::{steady, unix};
use dichroic_model::{
    Batch, EventKind, EventSchema, Exemplar, Expiry, Fingerprint, Fingerprinter, GapReason, KnownNames,
    Limits, Number, Protocol, Resolver, Seed, Source, SourceId, SourceSpec, TimeRange, UnixNanos,
    attributes::cut,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The state of the collector: series, exposition, events and ledger.
///
/// ```
/// use dichroic_model::*;
/// use dichroic_pipeline::{Core, Times};
/// use std::sync::Arc;
///
/// let mut core = Core::new(Limits::default(), Arc::new(Identity), 1);
/// let source = core.open_source(SourceSpec::new(Protocol::Otlp, "shop"), 1).unwrap();
/// let fingerprint = core.fingerprinter(source.id).of(b"orders");
/// // A receiver looks a point's series up by its fingerprint, and defines it on a miss.
/// let series = core.find(fingerprint).unwrap_or_else(|| {
///     let def = SeriesDef {
///         source: source.id,
///         scope: &Scope::default(),
///         name: "orders",
///         style: NameStyle::OpenTelemetry,
///         unit: "1",
///         help: "",
///         kind: MetricKind::COUNTER,
///         temporality: Temporality::Cumulative,
///         factor: Factor::ONE,
///         attributes: vec![("shop".into(), "north".into())],
///         start: 0,
///         bounds: None,
///     };
///     core.define(fingerprint, def).unwrap()
/// });
/// core.set_number(series, Number::int(3), Times::at(2)).unwrap();
/// assert_eq!(core.number(series), Some(Number::int(3)));
/// assert_eq!(core.find(fingerprint), Some(series));
/// ```
pub struct Core {
    resolver: Arc<dyn Resolver>,
    resolver_generation: u64,
    epoch: UnixNanos,
    seed: Seed,
    /// The latest time seen.
    clock: UnixNanos,
    sources: Sources,
    pub(crate) series: Series,
    pub(crate) exposition: Exposition,
    events: Events,
    ledger: Ledger,
    budget: Budget,
}

/// Conditions that lose nothing but need attention; shown in the catalog and as counters of the collector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Warnings {
    /// Series hidden because another series has the same labels on the page.
    pub label_collisions: u64,
    /// Series that several processes write, whose totals are added up.
    pub several_writers: u64,
    /// Series that several processes write with one start, so that their totals cannot be added up.
    pub shared_starts: u64,
    /// Deltas whose start lies after the end of the last one: something is missing between.
    pub delta_gaps: u64,
    /// Deltas that start before the end of the previous one.
    pub delta_overlaps: u64,
    /// Cumulative counters that decreased: the program restarted.
    pub resets: u64,
    /// Label values that were cut.
    pub cut_values: u64,
    /// Idle series with delta temporality that expired, and with them their totals.
    pub expired_deltas: u64,
    /// Gauges that expired because nothing refreshed them.
    pub expired_gauges: u64,
    /// Points of delta histograms with other bounds than earlier ones. They are added at the bounds that all have in common.
    pub changed_bounds: u64,
}

/// Salt of exposition identities; sources salt with their id, which is smaller.
const PAGE_SALT: u64 = u64::MAX;

impl Core {
    /// An empty core that starts at `epoch`.
    pub fn new(limits: Limits, resolver: Arc<dyn Resolver>, epoch: UnixNanos) -> Self {
        let seed = Seed::random();
        let hasher = Fingerprinter::new(seed, PAGE_SALT);
        let budget = Budget::new(limits.in_flight_bytes);
        Core {
            resolver_generation: resolver.generation(),
            resolver,
            epoch,
            seed,
            clock: epoch,
            sources: Sources::new(),
            events: Events::new(&limits, &budget),
            series: Series::new(limits, epoch, &hasher),
            exposition: Exposition::new(hasher),
            ledger: Ledger::new(epoch),
            budget,
        }
    }

    /// The memory budget of data in flight.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Replaces the resolver from the next sweep on. Series keep their state and are resolved again at their next point.
    pub fn set_resolver(&mut self, resolver: Arc<dyn Resolver>) {
        self.resolver = resolver;
    }

    /// Number of the resolver's reload in use. When it changes, series must be defined again.
    pub fn resolver_generation(&self) -> u64 {
        self.resolver_generation
    }

    /// Gives every series labels of its instrumentation scope. Call it before the first definition.
    pub fn always_show_scopes(&mut self) {
        self.exposition.groups.always_show_scopes();
    }

    /// Names that the resolver knows before anything arrives under them.
    pub fn known_names(&self) -> Arc<KnownNames> {
        self.resolver.known()
    }

    /// When this process started to count.
    pub fn epoch(&self) -> UnixNanos {
        self.epoch
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.series.limits
    }

    /// The ledger, for writing.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Conditions seen so far.
    pub fn warnings(&self) -> Warnings {
        let counters = &self.series.counters;
        Warnings {
            label_collisions: self.exposition.claims.collisions,
            several_writers: self.series.writers.seen(),
            shared_starts: self.series.writers.shared_starts(),
            delta_gaps: counters.delta_gaps,
            delta_overlaps: counters.delta_overlaps,
            resets: counters.resets,
            cut_values: counters.cut_values,
            expired_deltas: counters.expired_deltas,
            expired_gauges: counters.expired_gauges,
            changed_bounds: counters.changed_bounds,
        }
    }

    /// Number of live series.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Accounted bytes: series, labels, names, sources, tables. Tables do not shrink when series are removed.
    pub fn bytes(&self) -> usize {
        self.live_bytes() + self.series.table_bytes() + self.exposition.claims.bytes()
    }

    /// The part of [`Core::bytes`] that is freed with the series.
    pub fn live_bytes(&self) -> usize {
        self.series.live_bytes() + self.sources.bytes() + self.exposition.families.bytes()
    }

    /// Number of subscribers.
    pub fn subscribers(&self) -> usize {
        self.events.subscribers()
    }

    /// All metrics, for the catalog.
    pub fn metrics(&self) -> impl Iterator<Item = &Arc<Metric>> {
        self.exposition.families.metrics()
    }

    /// Names of the attributes of a metric's series and of the labels of their sources; `None` if its family has more than `most` series.
    pub fn attribute_names(&self, metric: &Metric, most: usize) -> Option<BTreeSet<String>> {
        let slots = self.exposition.families.slots(metric.family_id);
        if slots.len() > most {
            return None;
        }
        let series = slots
            .iter()
            .filter_map(|slot| self.series.slots.get(*slot as usize));
        let metas = series.filter_map(|slot| slot.meta.as_ref());
        let of_metric = metas.filter(|meta| meta.metric.id == metric.id);
        let mut names = BTreeSet::new();
        for meta in of_metric {
            let of_source = meta.source.spec.labels.iter();
            names.extend(meta.pairs().chain(of_source).map(|(name, _)| name.to_owned()));
        }
        Some(names)
    }

    pub(crate) fn begin_copy(&mut self) -> u64 {
        self.exposition.copies.begin(self.clock)
    }

    // ---- sources ----------------------------------------------------------------------------------------------------------

    /// Opens a source, or returns the one with this key. A source that returns with another identity (job, instance, resource, labels)
    /// replaces the old one and removes its series.
    pub fn open_source(&mut self, mut spec: SourceSpec, now: UnixNanos) -> Result<Arc<Source>, NotAdmitted> {
        self.clock = self.clock.max(steady(now));
        if let Some(state) = self.sources.find(&spec) {
            if same_identity(&state.source.spec, &spec) {
                state.ended = None;
                return Ok(state.source.clone());
            }
            let id = state.source.id;
            self.remove_source(id);
        }
        if self.sources.len() >= self.limits().sources {
            return Err(NotAdmitted(DropReason::SourceLimit));
        }
        // The number of targets is configured, and each reports whether it was scraped.
        let configured = matches!(spec.protocol, Protocol::Prometheus | Protocol::Internal);
        if !configured && self.bytes() + Sources::cost(&spec) > self.limits().memory_bytes {
            return Err(NotAdmitted(DropReason::MemoryLimit));
        }
        spec.name = cut(&spec.name, 256).to_owned();
        let source = self.sources.add(spec);
        if let Some(state) = self.sources.get_mut(source.id) {
            let hasher = &self.exposition.claims.hasher;
            state.labels = [false, true].map(|mapped| define::source_labels(hasher, &source, mapped));
        }
        self.ledger
            .name(source.id, source.spec.protocol.as_str(), source.name());
        Ok(source)
    }

    /// Ends a source. Its series expire by its rule: at once, when idle, or some time after the end.
    pub fn end_source(&mut self, id: SourceId, now: UnixNanos) {
        let Some(state) = self.sources.get_mut(id) else {
            return;
        };
        state.ended = Some(steady(now));
        if state.source.spec.expiry == Expiry::ByReceiver {
            self.remove_source(id);
        }
    }

    /// Open and lingering sources, each with its number of series and when it ended.
    pub fn sources(&self) -> impl Iterator<Item = (&Arc<Source>, usize, Option<UnixNanos>)> {
        self.sources
            .iter()
            .map(|state| (&state.source, state.slots.len(), state.ended.map(unix)))
    }

    /// Seeds the fingerprints of a source.
    pub fn fingerprinter(&self, source: SourceId) -> Fingerprinter {
        Fingerprinter::new(self.seed, u64::from(source.0))
    }

    // ---- series and points ------------------------------------------------------------------------------------------------

    /// The series of a fingerprint, if there is one.
    #[inline]
    pub fn find(&self, fp: Fingerprint) -> Option<SeriesRef> {
        self.series.find(fp)
    }

    /// Looks up a batch of at most [`crate::LOOKUP_BATCH`] series and prefetches their cells.
    #[inline]
    pub fn find_batch(&self, fingerprints: &[Fingerprint]) -> FoundSeries {
        self.series.find_batch(fingerprints)
    }

    /// The same result as [`Core::find`], without another lookup unless series changed since [`Core::find_batch`].
    #[inline]
    pub fn find_in(&self, found: &FoundSeries, at: usize, fp: Fingerprint) -> Option<SeriesRef> {
        self.series.find_in(found, at, fp)
    }

    /// The metadata of a live series.
    pub fn meta(&self, series: SeriesRef) -> Option<&Arc<SeriesMeta>> {
        self.series.meta(series)
    }

    /// Whether the series exists but has not been resolved since the last reload.
    pub fn is_unresolved(&self, series: SeriesRef) -> bool {
        self.series.exists(series) && self.series.slot(series).is_none()
    }

    /// Replaces a gauge or a cumulative sum. A monotonic sum that decreases is a reset (its start becomes its time) unless the point
    /// states a new start.
    pub fn set_number(
        &mut self,
        series: SeriesRef,
        value: Number,
        times: Times,
    ) -> Result<Written, DropReason> {
        let written = self.series.set_number(series, value, times);
        self.wrote(series, written)
    }

    /// Adds a delta to a sum.
    pub fn add_number(
        &mut self,
        series: SeriesRef,
        value: Number,
        times: Times,
    ) -> Result<Written, DropReason> {
        let written = self.series.add_number(series, value, times);
        self.wrote(series, written)
    }

    /// Replaces a cumulative histogram. A count that decreases is a reset.
    pub fn set_histogram(
        &mut self,
        series: SeriesRef,
        point: &HistogramPoint<'_>,
        times: Times,
    ) -> Result<Written, DropReason> {
        let written = self.series.set_histogram(series, point, times);
        self.wrote(series, written)
    }

    /// Adds a delta to a histogram.
    pub fn add_histogram(
        &mut self,
        series: SeriesRef,
        point: &HistogramPoint<'_>,
        times: Times,
    ) -> Result<Written, DropReason> {
        let written = self.series.add_histogram(series, point, times);
        self.wrote(series, written)
    }

    /// Adds up the counts of a point between the bounds that the series has, if they are not those that it was defined with. For deltas,
    /// after [`Core::define`] with `bounds`, in the unit of the definition, whose factor must be one.
    pub fn rebin(&self, series: SeriesRef, bounds: &[f64], counts: &mut Vec<u64>) {
        self.series.rebin(series, bounds, counts);
    }

    /// Replaces a cumulative exponential histogram. A count that decreases is a reset.
    pub fn set_exponential(
        &mut self,
        series: SeriesRef,
        point: &ExponentialPoint<'_>,
        times: Times,
    ) -> Result<Written, DropReason> {
        let written = self.series.set_exponential(series, point, times);
        self.wrote(series, written)
    }

    /// Adds a delta to an exponential histogram, at the coarser scale of both.
    pub fn add_exponential(
        &mut self,
        series: SeriesRef,
        point: &ExponentialPoint<'_>,
        times: Times,
    ) -> Result<Written, DropReason> {
        let written = self.series.add_exponential(series, point, times);
        self.wrote(series, written)
    }

    /// Replaces a summary. A count that decreases is a reset.
    pub fn set_summary(
        &mut self,
        series: SeriesRef,
        point: &SummaryPoint<'_>,
        times: Times,
    ) -> Result<Written, DropReason> {
        let written = self.series.set_summary(series, point, times);
        self.wrote(series, written)
    }

    /// Stores the newest exemplar of a series, unless its attributes are too long.
    pub fn set_exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) {
        self.series.set_exemplar(series, exemplar);
    }

    /// The raw number of a live series.
    pub fn number(&self, series: SeriesRef) -> Option<Number> {
        self.series.number(series)
    }

    /// The raw explicit histogram of a live series.
    pub fn histogram(&self, series: SeriesRef) -> Option<&Explicit> {
        self.series.histogram(series)
    }

    /// The raw exponential histogram of a live series.
    pub fn exponential(&self, series: SeriesRef) -> Option<&ExponentialCell> {
        self.series.exponential(series)
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

    /// Reports to subscribers that rows of a schema are missing at this position.
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
    pub fn subscribe(&mut self, request: StreamRequest, now: UnixNanos) -> Option<Subscription> {
        self.events.subscribe(request, now)
    }

    /// The patterns of all subscribers, and of those that have ended within [`Limits::lease_seconds`].
    pub fn interest(&mut self, now: UnixNanos) -> &Interest {
        self.events.interest(now)
    }

    // ---- what nodes are requested to send ---------------------------------------------------------------------------------

    /// A node that sends events on request has connected.
    pub fn node_connected(&mut self, source: &Arc<Source>, start: NodeStart) {
        self.events.node_connected(source, start);
    }

    /// All streams that the node can be requested to send, whether it sends them, and the time of the last row before it did not, or
    /// 0. `off`: the time between the end of those that it does not send any more and the start of those that it sends now. A time in
    /// which a stream was not sent becomes a gap [`GapReason::NotSubscribed`] for the subscribers that claim it: it starts after the
    /// last row, because a sender may pass rows on until a moment after the time that it reports.
    pub fn node_sends<'s>(
        &mut self,
        source: SourceId,
        streams: impl Iterator<Item = (&'s Arc<EventSchema>, bool, UnixNanos)>,
        off: TimeRange,
    ) {
        self.events.node_sends(source, streams, off);
    }

    /// The node sends what it can of the [`Interest`] of this generation. Call it after [`Core::node_sends`].
    pub fn node_answered(&mut self, source: SourceId, generation: u64, now: UnixNanos) {
        self.events.node_answered(source, generation, now);
    }

    /// The node has disconnected. `heard`: when its last data arrived. `last`: the times of the last rows of its streams.
    pub fn node_disconnected<'s>(
        &mut self,
        source: SourceId,
        heard: UnixNanos,
        last: impl Iterator<Item = (&'s Arc<EventSchema>, UnixNanos)>,
        now: UnixNanos,
    ) {
        self.events.node_disconnected(source, heard, last, now);
    }
}
