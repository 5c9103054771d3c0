//! Finds likely problems in received metrics: events that never occurred, unsuitable units and bounds, unbounded labels, name
//! conflicts, pages that violate their format.
//!
//! The admin API passes a snapshot of all series to [`Seen::note`] and calls [`findings`](Seen::findings). The checks read names,
//! labels and bucket counts only; memory is bounded by [`VALUES`] per label. A finding states its reason and what to do. A
//! *warning* is wrong now or will be soon; a *note* may be intended.

use crate::limit_drops;
use dichroic_model::text::{plural, plural_of};
use dichroic_model::{NameStyle, Pattern, Protocol, SourceId};
use dichroic_packs::compile::application_name;
use dichroic_packs::{Metric, Pack, Packs, Selection, Variables};
use dichroic_pipeline::{ClassicBounds, DropReason, HiddenReason, Row, RowValue, Signal};
use dichroic_receiver_beam::RelayStatus;
use dichroic_receiver_prometheus::parse::Violation;
use dichroic_receiver_prometheus::scrape::TargetStatus;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

mod heuristics;
pub mod unsubscribed;

/// Values that are recorded for each label of a metric.
const VALUES: usize = 10_000;
/// More values of a label than this are reported.
const MANY: usize = 200;
/// Least number of values that look like ids for a report.
const IDS: usize = 3;
/// Least number of values in a histogram for a report about its bounds.
const POINTS: u64 = 20;
/// Lists of bounds that are recorded for each family.
const LISTS: usize = 4;
/// A worker of Snakepit may well live longer than this.
const SNAKEPIT_STREAM_MS: u64 = 3_600_000;
/// Default bounds of OpenTelemetry SDKs, meant for milliseconds.
const DEFAULT_BOUNDS: &[f64] = &[
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10_000.0,
];

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Wrong now, or will be soon.
    Warning,
    /// May be intended.
    Note,
}

/// A likely problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Severity.
    pub level: Level,
    /// Name of the check; stable, so that scripts can filter by it.
    pub check: &'static str,
    /// The metric, event, pack or pattern.
    pub subject: String,
    /// The source; empty if the finding is about no single one.
    pub source: String,
    /// The reason, and what to do.
    pub message: String,
    /// What the message counts.
    pub details: Vec<String>,
}

impl Finding {
    /// The JSON of the admin API and of `--format json`.
    pub fn document(&self) -> Value {
        let level = match self.level {
            Level::Warning => "warning",
            Level::Note => "note",
        };
        json!({
            "level": level, "check": self.check, "subject": self.subject, "source": self.source, "message": self.message,
            "details": self.details,
        })
    }
}

#[derive(Default)]
struct Label {
    values: HashSet<String>,
    ids: BTreeMap<&'static str, usize>,
}

#[derive(Default)]
struct Family {
    unit: String,
    verbatim: bool,
    /// A verbatim name from a pack or a definition.
    named_here: bool,
    hidden: BTreeMap<HiddenReason, u64>,
    /// Most processes that write one of its series.
    writers: usize,
    share_start: bool,
    lost_bounds: bool,
    bounds: Option<Arc<[f64]>>,
    /// Of exponential histograms.
    classic: Option<ClassicBounds>,
    below: u64,
    above: u64,
    points: u64,
    sum: f64,
    labels: BTreeMap<String, Label>,
}

/// Attributes of each series, by the name of its metric.
type Fired = BTreeMap<String, Vec<Vec<(String, String)>>>;

/// The data of one snapshot of all series.
#[derive(Default)]
pub struct Seen {
    /// By metric and source.
    families: BTreeMap<(String, String), Family>,
    /// Different explicit bounds, by the name of the family on the page; at most [`LISTS`] each.
    lists: BTreeMap<String, Vec<Arc<[f64]>>>,
    /// Series of relays.
    fired: BTreeMap<SourceId, Fired>,
}

/// The parts of the configuration that the checks need.
#[derive(Debug, Clone)]
pub struct Config {
    /// Packs and definitions in use.
    pub selection: Selection,
    /// Whether the configuration lists the packs; otherwise all are in use.
    pub chosen: bool,
    /// `exporters.stream.retain`.
    pub retain: Vec<Pattern>,
}

/// What the series are compared with.
pub struct Inputs<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Relays, with the service name of each.
    pub relays: &'a [(RelayStatus, String)],
    /// Scrape targets.
    pub targets: &'a [TargetStatus],
    /// What was dropped at the ingest hop.
    pub drops: &'a [Drops],
}

/// What was dropped of one source and signal for one reason.
#[derive(Debug, Clone)]
pub struct Drops {
    /// The source.
    pub source: SourceId,
    /// Its name.
    pub name: String,
    /// The signal.
    pub signal: Signal,
    /// The reason.
    pub reason: DropReason,
    /// Number of points, events, log records or spans since the start.
    pub count: u64,
}

impl Inputs<'_> {
    /// A selection of one pack, without the definitions that another selected pack replaces.
    fn only(&self, pack: &Pack, node: &Variables) -> Selection {
        let mut pack = pack.clone();
        let packs = &self.config.selection.packs;
        pack.definitions
            .retain(|d| !d.unless.iter().any(|other| packs.in_use(other, node)));
        Selection {
            packs: Packs::of(vec![pack]),
            definitions: Vec::new(),
            variables: self.config.selection.variables.clone(),
        }
    }

    /// The number of events from which a pack has metrics on this node, and those that have given no value.
    fn silent_events(
        &self,
        pack: &Pack,
        relay: &RelayStatus,
        app: &str,
        fired: &Fired,
    ) -> (usize, BTreeSet<String>) {
        let metrics = self
            .only(pack, &relay.variables)
            .compile(app, &relay.variables)
            .metrics;
        let all: BTreeSet<String> = metrics.iter().map(|m| m.event.join(".")).collect();
        let mut silent = all.clone();
        for metric in metrics.iter().filter(|m| has_fired(m, fired)) {
            silent.remove(&metric.event.join("."));
        }
        (all.len(), silent)
    }
}

impl Seen {
    /// Records one series. Self telemetry is skipped.
    pub fn note(&mut self, row: &Row) {
        let (metric, source) = (&row.meta.metric, &row.meta.source);
        if source.spec.protocol == Protocol::Internal {
            return;
        }
        let key = (metric.name.clone(), source.name().to_owned());
        let family = self.families.entry(key).or_default();
        family.unit.clone_from(&metric.unit);
        family.verbatim = metric.style != NameStyle::OpenTelemetry;
        family.named_here = family.verbatim && source.spec.protocol == Protocol::Beam;
        if let Some(reason) = row.hidden.filter(|reason| *reason != HiddenReason::Superseded) {
            *family.hidden.entry(reason).or_default() += 1;
        }
        family.writers = family.writers.max(row.writers);
        family.share_start |= row.share_start;
        family.lost_bounds |= row.lost_bounds;
        if let RowValue::Histogram(cell) = &row.value {
            family.below += cell.counts.first().copied().unwrap_or(0);
            family.above += cell.counts.last().copied().unwrap_or(0);
            family.points += cell.count();
            family.sum += cell.sum.map_or(0.0, |sum| row.meta.factor.apply(sum.to_f64()));
            family.bounds = Some(cell.bounds.clone());
            let page = metric.family.page.base.clone();
            let lists = self.lists.entry(page).or_default();
            if lists.len() < LISTS && !lists.contains(&cell.bounds) {
                lists.push(cell.bounds.clone());
            }
        }
        if let RowValue::Exponential(_) = &row.value {
            family.classic = metric.family.classic_bounds();
        }
        for (name, value) in row.meta.pairs() {
            let label = family.labels.entry(name.to_owned()).or_default();
            let value = value.render();
            if label.values.len() >= VALUES || !label.values.insert(value.as_ref().to_owned()) {
                continue;
            }
            if let Some(kind) = heuristics::id(&value) {
                *label.ids.entry(kind).or_default() += 1;
            }
        }
        self.note_fired(row);
    }

    /// Records which metrics of a relay have a value.
    pub fn note_fired(&mut self, row: &Row) {
        let (metric, source) = (&row.meta.metric, &row.meta.source);
        if source.spec.protocol != Protocol::Beam {
            return;
        }
        let attributes = row.meta.pairs();
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.render().into_owned()));
        let series = self.fired.entry(source.id).or_default();
        let series = series.entry(metric.name.clone()).or_default();
        // This many suffice to distinguish the definitions of one name.
        if series.len() < MANY {
            series.push(attributes.collect());
        }
    }

    /// Events of packs of which no event has occurred on any node: their library may not be in use.
    pub fn unused_events(&self, inputs: &Inputs<'_>) -> BTreeSet<String> {
        let (mut used, mut unused) = (BTreeSet::new(), BTreeSet::new());
        let none = BTreeMap::new();
        for (relay, service) in inputs.relays {
            let app = application_name(service);
            let fired = relay
                .source
                .and_then(|source| self.fired.get(&source))
                .unwrap_or(&none);
            for pack in inputs.config.selection.packs.iter() {
                let (all, silent) = inputs.silent_events(pack, relay, &app, fired);
                let compiled = inputs
                    .only(pack, &relay.variables)
                    .compile(&app, &relay.variables);
                let streams = compiled.streams.iter().map(|stream| stream.name());
                let metrics = compiled.metrics.iter().map(|metric| metric.event.join("."));
                let is_used = of_the_relay(pack) || all == 0 || silent.len() < all;
                let events = if is_used { &mut used } else { &mut unused };
                events.extend(streams.chain(metrics));
            }
        }
        unused.retain(|event| !used.contains(event));
        unused
    }

    /// All findings: warnings first, then by check and subject.
    pub fn findings(&self, inputs: &Inputs<'_>) -> Vec<Finding> {
        let mut found = BTreeSet::new();
        for ((name, source), family) in &self.families {
            for (level, check, message) in family.problems(name) {
                found.insert(Finding {
                    level,
                    check,
                    subject: name.clone(),
                    source: source.clone(),
                    message,
                    details: Vec::new(),
                });
            }
        }
        for (page, _) in self.lists.iter().filter(|(_, lists)| lists.len() > 1) {
            found.insert(Finding {
                level: Level::Note,
                check: "mixed_bounds",
                subject: page.clone(),
                source: String::new(),
                message: "its histograms have different bounds, so that a sum over `le` is wrong; give all of them the same bounds".to_owned(),
                details: Vec::new(),
            });
        }
        for (relay, service) in inputs.relays {
            self.of_relay(inputs, relay, service, &mut found);
        }
        for target in inputs.targets {
            found.extend(of_target(target));
        }
        found.extend(inputs.drops.iter().filter_map(of_drops));
        totals(inputs, &mut found);
        found.into_iter().collect()
    }

    fn of_relay(
        &self,
        inputs: &Inputs<'_>,
        relay: &RelayStatus,
        service: &str,
        found: &mut BTreeSet<Finding>,
    ) {
        let mut add = |level, check, subject: &str, message: String| {
            found.insert(Finding {
                level,
                check,
                subject: subject.to_owned(),
                source: relay.node.clone(),
                message,
                details: Vec::new(),
            });
        };
        for (what, message) in &relay.refused {
            add(
                Level::Warning,
                "refused",
                what,
                format!("rejected by the relay: {message}"),
            );
        }
        let Some(source) = relay
            .source
            .filter(|_| relay.ended.is_none() && relay.flushes > 0)
        else {
            return;
        };
        let app = application_name(service);
        let none = BTreeMap::new();
        let fired = self.fired.get(&source).unwrap_or(&none);
        snakepit_stream(relay, &mut add);
        // A series that a limit refused has no value either.
        let limited = |drops: &Drops| drops.source == source && limit_drops::key(drops.reason).is_some();
        if inputs.drops.iter().any(limited) {
            return;
        }
        silent_definitions(inputs, relay, &app, fired, &mut add);
        found.extend(silent_packs(inputs, relay, &app, fired));
    }
}

/// Snakepit up to 0.13 takes the timeout for opening a worker's stream of telemetry for that of the whole stream.
fn snakepit_stream(relay: &RelayStatus, add: &mut impl FnMut(Level, &'static str, &str, String)) {
    let limits = relay.variables.get("snakepit_stream_ms").into_iter().flatten();
    let shortest = limits.filter_map(|text| text.parse::<u64>().ok()).min();
    let Some(ms) = shortest.filter(|ms| *ms < SNAKEPIT_STREAM_MS) else {
        return;
    };
    let message = format!(
        "Snakepit ends the telemetry of a Python worker {} s after its start, and snakepit.python.* events of Python end with it; set `config :snakepit, grpc_stream_open_timeout_ms: 86_400_000`, or more than the lifetime of a worker",
        ms as f64 / 1000.0
    );
    add(Level::Warning, "snakepit_stream", "snakepit.python", message);
}

/// What a limit dropped, and spans.
fn of_drops(drops: &Drops) -> Option<Finding> {
    let n = drops.count;
    let (check, subject, message) = if let Some(key) = limit_drops::key(drops.reason) {
        let what = match drops.reason {
            DropReason::LabelLimit => {
                "a series has more labels, or a longer name, than the limits allow; remove the labels, or raise"
            }
            DropReason::SourceLimit => "no source is opened at this limit; remove senders, or raise",
            _ => "no series is defined at this limit; remove a label that has many values, or raise",
        };
        let message = format!("{} dropped: {what} {key}", plural(n, item(drops.signal)));
        ("limit_reached", key, message)
    } else if drops.signal == Signal::Traces {
        let message = format!(
            "{} discarded; set OTEL_TRACES_EXPORTER=none or send spans elsewhere",
            plural(n, "span")
        );
        ("traces", "traces", message)
    } else {
        return None;
    };
    Some(Finding {
        level: Level::Warning,
        check,
        subject: subject.to_owned(),
        source: drops.name.clone(),
        message,
        details: Vec::new(),
    })
}

fn item(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "point",
        Signal::Events => "event",
        Signal::Logs => "log record",
        Signal::Traces => "span",
    }
}

/// What the last page of a scrape target does that OpenMetrics forbids.
fn of_target(target: &TargetStatus) -> impl Iterator<Item = Finding> + '_ {
    target.violations.iter().map(|violation| Finding {
        level: Level::Warning,
        check: "openmetrics",
        subject: target.url.clone(),
        source: format!("{}/{}", target.job, target.instance),
        message: {
            // Incomplete points are allowed.
            let refuse = match violation.reason {
                Violation::Incomplete => "",
                _ => " (`strict: true` refuses such pages)",
            };
            format!(
                "{} on its page: {}, first at {}; the page is kept, as Prometheus keeps it{refuse}",
                violation.reason.as_str(),
                plural(violation.count, "time"),
                violation.first,
            )
        },
        details: Vec::new(),
    })
}

/// Packs of which no event has occurred, and packs of which some events have not occurred.
fn silent_packs(inputs: &Inputs<'_>, relay: &RelayStatus, app: &str, fired: &Fired) -> Vec<Finding> {
    let packs = inputs.config.selection.packs.iter();
    let mut found = Vec::new();
    for pack in packs.filter(|pack| !of_the_relay(pack)) {
        let (all, silent) = inputs.silent_events(pack, relay, app, fired);
        if all == 0 || silent.is_empty() {
            continue;
        }
        let (level, message, details) = if silent.len() == all {
            if !inputs.config.chosen {
                continue;
            }
            let message = format!(
                "none of its {} has occurred since the relay started; check that the library is in use and that its event prefix is the default",
                plural(all, "event")
            );
            (Level::Warning, message, Vec::new())
        } else {
            // Events of failures are expected to be absent.
            let details: Vec<String> = silent.into_iter().filter(|event| !rare(event)).collect();
            if details.is_empty() {
                continue;
            }
            let message = format!(
                "{} not occurred yet, while others of the pack have",
                plural_of(details.len(), "event has", "events have")
            );
            (Level::Note, message, details)
        };
        found.push(Finding {
            level,
            check: "never_fired",
            subject: pack.name.clone(),
            source: relay.node.clone(),
            message,
            details,
        });
    }
    found
}

/// Metrics of `metrics.definitions` without a value.
fn silent_definitions(
    inputs: &Inputs<'_>,
    relay: &RelayStatus,
    app: &str,
    fired: &Fired,
    add: &mut impl FnMut(Level, &'static str, &str, String),
) {
    let own = Selection {
        packs: Packs::of(Vec::new()),
        definitions: inputs.config.selection.definitions.clone(),
        variables: inputs.config.selection.variables.clone(),
    };
    for metric in own
        .compile(app, &relay.variables)
        .metrics
        .iter()
        .filter(|m| !has_fired(m, fired))
    {
        let message = format!(
            "event {} of metrics.definitions has given no value; check with `dichroic tap '{}.**'` that it occurs, then check measurement and keep of the definition",
            metric.event.join("."),
            metric.event.first().map_or("", String::as_str),
        );
        add(Level::Warning, "never_fired", &metric.name, message);
    }
}

/// Whether the metric has a series: one with its name and all its fixed labels.
fn has_fired(metric: &Metric, fired: &Fired) -> bool {
    fired.get(&metric.name).is_some_and(|series| {
        series
            .iter()
            .any(|labels| metric.fixed.iter().all(|fixed| labels.contains(fixed)))
    })
}

/// Whether the relay itself emits the events of the pack. Some need conditions of the node, such as other nodes.
fn of_the_relay(pack: &Pack) -> bool {
    !pack.events.is_empty() && pack.events.iter().all(|event| event.starts_with("dichroic."))
}

/// Whether the name is that of a failure, which healthy programs do not emit.
fn rare(event: &str) -> bool {
    let failures = [
        "exception",
        "error",
        "fail",
        "timeout",
        "crash",
        "oom",
        "cancelled",
        "disconnect",
        "saturated",
        "tainted",
        "unmapped",
        "mismatch",
        "emfile",
        "econnaborted",
    ];
    failures.iter().any(|word| event.contains(word))
}

/// Findings about the collector as a whole.
fn totals(inputs: &Inputs<'_>, found: &mut BTreeSet<Finding>) {
    let mut add = |level, check, subject: &str, message: String| {
        found.insert(Finding {
            level,
            check,
            subject: subject.to_owned(),
            source: String::new(),
            message,
            details: Vec::new(),
        });
    };
    if inputs.relays.is_empty() {
        return;
    }
    let events: BTreeSet<String> = inputs
        .relays
        .iter()
        .flat_map(|(relay, service)| {
            let app = application_name(service);
            inputs.config.selection.compile(&app, &relay.variables).streams
        })
        .map(|stream| stream.name())
        .collect();
    for pattern in inputs
        .config
        .retain
        .iter()
        .filter(|p| !events.iter().any(|event| p.matches(event)))
    {
        let message = "pattern of exporters.stream.retain that matches no event of a pack or a definition; correct it, or define the event".to_owned();
        add(
            Level::Warning,
            "retain_matches_nothing",
            &pattern.to_string(),
            message,
        );
    }
}

/// Why a series is not on the page.
pub fn hidden_because(reason: HiddenReason) -> &'static str {
    match reason {
        HiddenReason::LabelText => "another series differs only in the types of its attributes",
        HiddenReason::MetricName => "another metric has the same name and labels there",
        HiddenReason::Source => "another source has a series with the same name and labels",
        HiddenReason::Superseded => "a process with the same identity has replaced theirs",
    }
}

/// Severity, check and message of a finding.
type Problem = (Level, &'static str, String);

impl Family {
    fn problems(&self, name: &str) -> Vec<Problem> {
        let mut all = Vec::new();
        all.extend(self.bounds());
        all.extend(self.classic());
        all.extend(self.unit(name));
        all.extend(self.labels.iter().filter_map(|(label, seen)| seen.problem(label)));
        for (reason, series) in &self.hidden {
            let message = format!(
                "{} not on the page: {}; add a label that distinguishes them",
                plural_of(*series, "series is", "series are"),
                hidden_because(*reason)
            );
            all.push((Level::Warning, "label_collision", message));
        }
        if self.lost_bounds {
            let message = "points of one histogram have several lists of bounds, so only the bounds that all have in common are kept; set one list, in the SDK or in a view".to_owned();
            all.push((Level::Warning, "changed_bounds", message));
        }
        if self.share_start {
            let message = "several processes write one series with one start time, so each point replaces the total of another process; give each process its own `service.instance.id`, and set the SDK up after the fork".to_owned();
            all.push((Level::Warning, "shared_start", message));
        }
        if self.writers > 1 {
            let message = format!(
                "{} processes write one series, whose totals are added up; give each process its own `service.instance.id`",
                self.writers
            );
            all.push((Level::Warning, "several_writers", message));
        }
        all
    }

    fn bounds(&self) -> Option<Problem> {
        let bounds = self.bounds.as_deref()?;
        let default = bounds == DEFAULT_BOUNDS || bounds == &DEFAULT_BOUNDS[1..];
        if default && self.unit == "s" {
            let message = "recorded in seconds with the SDK's default bounds, which are meant for milliseconds: all values below 5 s are in one bucket; set explicit bounds, or a view with exponential buckets".to_owned();
            return Some((Level::Warning, "default_bounds", message));
        }
        if self.points < POINTS {
            return None;
        }
        let (first, last) = (*bounds.first()?, *bounds.last()?);
        let mean = self.sum / self.points as f64;
        if self.above == self.points {
            let message = format!(
                "all {} values are above the last bound, {}; check the unit, or raise the bounds",
                self.points,
                self.with_unit(last)
            );
            return Some((Level::Warning, "outside_bounds", message));
        }
        // Values below the first bound can be intended; values a thousand times smaller are not.
        if self.below == self.points && first > 0.0 && mean < first / 1000.0 {
            let message = format!(
                "all {} values are far below the first bound, {}: their mean is {mean:e}; check the unit, or lower the bounds",
                self.points,
                self.with_unit(first)
            );
            return Some((Level::Warning, "outside_bounds", message));
        }
        None
    }

    fn classic(&self) -> Option<Problem> {
        let ClassicBounds { bounds, standard } = self.classic.as_ref()?;
        let added = bounds.len() - standard;
        let (first, last) = (self.with_unit(*bounds.first()?), self.with_unit(*bounds.last()?));
        let message = format!(
            "exponential histogram, shown with {} bounds from {first} to {last}: {added} were added because values lie outside of the standard ones; check the unit if these values are not expected",
            bounds.len()
        );
        (added > 0).then_some((Level::Note, "added_bounds", message))
    }

    fn with_unit(&self, bound: f64) -> String {
        format!("{bound} {}", self.unit).trim_end().to_owned()
    }

    fn unit(&self, name: &str) -> Option<Problem> {
        let word = heuristics::unit_in_name(name).filter(|_| !self.named_here)?;
        if self.verbatim {
            let message = format!(
                "the name ends with the unit {word}; use base units (seconds, bytes), so that dashboards and rules can be shared"
            );
            return Some((Level::Note, "unit_in_name", message));
        }
        let message = match self.unit.as_str() {
            "" => format!(
                "the name ends with the unit {word}, but the metric has no unit; declare the unit, and remove it from the name"
            ),
            unit => format!(
                "the name ends with the unit {word}, but the metric is exported in {unit}; remove the unit from the name"
            ),
        };
        Some((Level::Warning, "unit_in_name", message))
    }
}

impl Label {
    fn problem(&self, name: &str) -> Option<Problem> {
        let ids: usize = self.ids.values().sum();
        if ids >= IDS && ids * 2 >= self.values.len() {
            let kind = self
                .ids
                .iter()
                .max_by_key(|(_, n)| **n)
                .map_or("ids", |(kind, _)| *kind);
            let example = self.values.iter().filter(|v| heuristics::id(v).is_some()).min()?;
            let message = format!(
                "values of label {name} look like {kind} ({} values, such as {example:?}), so the number of series is unbounded; remove the label, or limit it to a list of values",
                self.values.len()
            );
            return Some((Level::Warning, "cardinality", message));
        }
        if self.values.len() > MANY {
            let at_least = if self.values.len() >= VALUES {
                "at least "
            } else {
                ""
            };
            let message = format!(
                "label {name} has {at_least}{} values; each adds a series, and a dozen to a histogram; remove the label, or limit it to a list of values",
                self.values.len()
            );
            return Some((Level::Warning, "cardinality", message));
        }
        None
    }
}

#[cfg(test)]
mod tests;
