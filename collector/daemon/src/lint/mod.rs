//! What looks wrong in what came in: metrics that never fired, units and bounds that do not fit, labels that grow, names that clash.
//!
//! The admin API walks one copy of all series through [`Seen::note`] and asks for [`findings`](Seen::findings). Everything here
//! looks at names, labels and bucket counts alone, in memory bounded by [`VALUES`] per label, and is a suspicion, told with its
//! reason and what to do. A *warning* is wrong or soon will be; a *note* may well be meant.

use dichroic_model::{NameStyle, Pattern, Protocol, SourceId};
use dichroic_packs::compile::application_name;
use dichroic_packs::{Metric, Pack, Packs, Selection};
use dichroic_pipeline::Warnings;
use dichroic_pipeline::{Row, RowValue};
use dichroic_receiver_beam::RelayStatus;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};

mod heuristics;
pub mod unsubscribed;

/// Values of one label of one metric that are looked at.
const VALUES: usize = 10_000;
/// Values of one label beyond which it is suspected.
const MANY: usize = 200;
/// Values of a label that look like ids before it is suspected.
const IDS: usize = 3;
/// Points of a histogram before its bounds are judged.
const POINTS: u64 = 20;
/// Bounds that SDKs of OpenTelemetry take when nothing is said. They are meant for milliseconds.
const DEFAULT_BOUNDS: &[f64] = &[
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10_000.0,
];

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Wrong, or soon will be.
    Warning,
    /// May well be meant.
    Note,
}

/// One suspicion.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How sure it is.
    pub level: Level,
    /// Which check found it; stable, for filters.
    pub check: &'static str,
    /// The metric, pack or pattern.
    pub subject: String,
    /// Who sends it; empty when it is nobody in particular.
    pub source: String,
    /// What is suspected, and what to do.
    pub message: String,
}

impl Finding {
    /// As the API and `--format json` show it.
    pub fn document(&self) -> Value {
        let level = match self.level {
            Level::Warning => "warning",
            Level::Note => "note",
        };
        json!({
            "level": level, "check": self.check, "subject": self.subject, "source": self.source, "message": self.message,
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
    /// Its name is what packs or configuration say.
    named_here: bool,
    hidden: u64,
    no_family: bool,
    bounds: Option<std::sync::Arc<[f64]>>,
    below: u64,
    above: u64,
    points: u64,
    sum: f64,
    labels: BTreeMap<String, Label>,
}

/// Series by name of their metric: the attributes of each.
type Fired = BTreeMap<String, Vec<Vec<(String, String)>>>;

/// What one copy of all series showed.
#[derive(Default)]
pub struct Seen {
    /// By metric and source.
    families: BTreeMap<(String, String), Family>,
    /// Metrics of relays: name and attributes of each series.
    fired: BTreeMap<SourceId, Fired>,
}

/// What configuration asks for.
#[derive(Debug, Clone)]
pub struct Config {
    /// Packs and definitions in use.
    pub selection: Selection,
    /// Whether configuration names the packs, instead of taking all.
    pub chosen: bool,
    /// `exporters.stream.retain`.
    pub retain: Vec<Pattern>,
}

/// What is asked of relays, and what they say.
pub struct Asked<'a> {
    /// What configuration asks for.
    pub config: &'a Config,
    /// Relays, with the service name of each.
    pub relays: &'a [(RelayStatus, String)],
    /// Conditions that the store counts.
    pub warnings: Warnings,
}

impl Asked<'_> {
    /// One pack, without what others make it leave out.
    fn alone(&self, pack: &Pack) -> Selection {
        let mut pack = pack.clone();
        let packs = &self.config.selection.packs;
        pack.definitions.retain(|d| {
            !d.unless
                .iter()
                .any(|other| packs.names().any(|name| name == other))
        });
        Selection {
            packs: Packs::of(vec![pack]),
            definitions: Vec::new(),
            variables: self.config.selection.variables.clone(),
        }
    }
}

impl Seen {
    /// Takes in one series. The collector's own are its own business.
    pub fn note(&mut self, row: &Row) {
        let (metric, source) = (&row.meta.metric, &row.meta.source);
        if source.spec.protocol == Protocol::Internal {
            return;
        }
        let key = (metric.name.clone(), source.name().to_owned());
        let family = self.families.entry(key).or_default();
        family.unit.clone_from(&metric.unit);
        family.verbatim = metric.style == NameStyle::Verbatim;
        family.named_here = family.verbatim && source.spec.protocol == Protocol::Beam;
        family.hidden += u64::from(row.hidden);
        family.no_family |= metric.family.is_none();
        if let RowValue::Histogram(cell) = &row.value {
            family.below += cell.counts.first().copied().unwrap_or(0);
            family.above += cell.counts.last().copied().unwrap_or(0);
            family.points += cell.count();
            family.sum += cell.sum.map_or(0.0, |sum| row.meta.factor.apply(sum.to_f64()));
            family.bounds = Some(cell.bounds.clone());
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
        if source.spec.protocol == Protocol::Beam {
            let attributes = row.meta.pairs();
            let attributes = attributes.map(|(name, value)| (name.to_owned(), value.render().into_owned()));
            let series = self.fired.entry(source.id).or_default();
            let series = series.entry(metric.name.clone()).or_default();
            // Enough to tell definitions of one name apart.
            if series.len() < MANY {
                series.push(attributes.collect());
            }
        }
    }

    /// All suspicions: warnings first, then by check and subject.
    pub fn findings(&self, asked: &Asked<'_>) -> Vec<Finding> {
        let mut found = BTreeSet::new();
        for ((name, source), family) in &self.families {
            for (level, check, message) in family.suspicions(name) {
                found.insert(Finding {
                    level,
                    check,
                    subject: name.clone(),
                    source: source.clone(),
                    message,
                });
            }
        }
        for (relay, service) in asked.relays {
            self.of_relay(asked, relay, service, &mut found);
        }
        totals(asked, &mut found);
        found.into_iter().collect()
    }

    fn of_relay(&self, asked: &Asked<'_>, relay: &RelayStatus, service: &str, found: &mut BTreeSet<Finding>) {
        let mut add = |level, check, subject: &str, message: String| {
            found.insert(Finding {
                level,
                check,
                subject: subject.to_owned(),
                source: relay.node.clone(),
                message,
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
        silent_packs(asked, relay, &app, fired, &mut add);
        silent_definitions(asked, relay, &app, fired, &mut add);
    }
}

/// Packs without any event, and single events without occurrence in packs that are in use.
fn silent_packs(
    asked: &Asked<'_>,
    relay: &RelayStatus,
    app: &str,
    fired: &Fired,
    add: &mut impl FnMut(Level, &'static str, &str, String),
) {
    for pack in asked.config.selection.packs.iter() {
        let metrics = asked.alone(pack).compile(app, &relay.variables).metrics;
        let all: BTreeSet<String> = metrics.iter().map(|m| m.event.join(".")).collect();
        let mut silent = all.clone();
        for metric in metrics.iter().filter(|m| has_fired(m, fired)) {
            silent.remove(&metric.event.join("."));
        }
        if all.is_empty() || silent.is_empty() {
            continue;
        }
        if silent.len() == all.len() {
            if asked.config.chosen {
                let message = format!(
                    "none of its {} events has occurred since the relay started; check that the library is in use and that its event prefix is the default",
                    all.len()
                );
                add(Level::Warning, "never_fired", &pack.name, message);
            }
            continue;
        }
        // Events of failures are expected to be absent.
        for event in silent.iter().filter(|event| !rare(event)) {
            add(
                Level::Note,
                "never_fired",
                event,
                format!(
                    "pack {}: other events of the library have occurred, this one has not",
                    pack.name
                ),
            );
        }
    }
}

/// Metrics of `metrics.definitions` without a value.
fn silent_definitions(
    asked: &Asked<'_>,
    relay: &RelayStatus,
    app: &str,
    fired: &Fired,
    add: &mut impl FnMut(Level, &'static str, &str, String),
) {
    let own = Selection {
        packs: Packs::of(Vec::new()),
        definitions: asked.config.selection.definitions.clone(),
        variables: asked.config.selection.variables.clone(),
    };
    for metric in own
        .compile(app, &relay.variables)
        .metrics
        .iter()
        .filter(|m| !has_fired(m, fired))
    {
        let message = format!(
            "no value from event {} of metrics.definitions: look for the event with dichroic tap '{}.**', then check measurement and keep",
            metric.event.join("."),
            metric.event.first().map_or("", String::as_str),
        );
        add(Level::Warning, "never_fired", &metric.name, message);
    }
}

/// Whether there is a series of this metric: same name, and all its fixed labels.
fn has_fired(metric: &Metric, fired: &Fired) -> bool {
    fired.get(&metric.name).is_some_and(|series| {
        series
            .iter()
            .any(|labels| metric.fixed.iter().all(|fixed| labels.contains(fixed)))
    })
}

/// Events that healthy programs do without.
fn rare(event: &str) -> bool {
    let message = [
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
    message.iter().any(|word| event.contains(word))
}

fn totals(asked: &Asked<'_>, found: &mut BTreeSet<Finding>) {
    let mut add = |level, check, subject: &str, message: String| {
        found.insert(Finding {
            level,
            check,
            subject: subject.to_owned(),
            source: String::new(),
            message,
        });
    };
    let warnings = asked.warnings;
    if warnings.name_conflicts > 0 {
        let message = format!(
            "{} metrics have a page name that a metric of another type has; rename one of them",
            warnings.name_conflicts
        );
        add(Level::Warning, "name_conflict", "(all)", message);
    }
    if warnings.label_collisions > 0 {
        let message = format!(
            "{} series would look like another one on the page and are hidden; give them a label that differs",
            warnings.label_collisions
        );
        add(Level::Warning, "label_collision", "(all)", message);
    }
    if asked.relays.is_empty() {
        return;
    }
    let events: BTreeSet<String> = asked
        .relays
        .iter()
        .flat_map(|(relay, service)| {
            let app = application_name(service);
            asked.config.selection.compile(&app, &relay.variables).streams
        })
        .map(|stream| stream.name())
        .collect();
    for pattern in asked
        .config
        .retain
        .iter()
        .filter(|p| !events.iter().any(|event| p.matches(event)))
    {
        let message = "exporters.stream.retain: no event that packs or definitions know matches".to_owned();
        add(
            Level::Warning,
            "retain_matches_nothing",
            &pattern.to_string(),
            message,
        );
    }
}

type Suspicion = (Level, &'static str, String);

impl Family {
    fn suspicions(&self, name: &str) -> Vec<Suspicion> {
        let mut all = Vec::new();
        all.extend(self.bounds());
        all.extend(self.unit(name));
        all.extend(
            self.labels
                .iter()
                .filter_map(|(label, seen)| seen.suspicion(label)),
        );
        if self.no_family {
            let message =
                "is on no page: a metric of another type has its page name; rename one of them".to_owned();
            all.push((Level::Warning, "name_conflict", message));
        } else if self.hidden > 0 {
            let message = format!(
                "{} series are on no page: others look the same there; give them a label that differs",
                self.hidden
            );
            all.push((Level::Warning, "label_collision", message));
        }
        all
    }

    fn bounds(&self) -> Option<Suspicion> {
        let bounds = self.bounds.as_deref()?;
        let default = bounds == DEFAULT_BOUNDS || bounds == &DEFAULT_BOUNDS[1..];
        if default && self.unit == "s" {
            let message = "seconds in the SDK's default bounds, which are for milliseconds: all below 5 s is one bucket; set explicit bounds, or a view with exponential buckets".to_owned();
            return Some((Level::Warning, "default_bounds", message));
        }
        if self.points < POINTS {
            return None;
        }
        let (first, last) = (*bounds.first()?, *bounds.last()?);
        let mean = self.sum / self.points as f64;
        if self.above == self.points {
            let message = format!(
                "all {} values are above the last bound, {last}{}; is the unit right?",
                self.points, self.unit
            );
            return Some((Level::Warning, "outside_bounds", message));
        }
        // Fast is no suspicion; a thousandth of the lowest bound is one.
        if self.below == self.points && first > 0.0 && mean < first / 1000.0 {
            let message = format!(
                "all {} values are far below the first bound, {first}{}: their mean is {mean:e}; is the unit right?",
                self.points, self.unit
            );
            return Some((Level::Warning, "outside_bounds", message));
        }
        None
    }

    fn unit(&self, name: &str) -> Option<Suspicion> {
        let word = heuristics::unit_in_name(name).filter(|_| !self.named_here)?;
        if self.verbatim {
            let message = format!(
                "its name ends with {word}: base units (seconds, bytes) let panels and rules be shared"
            );
            return Some((Level::Note, "unit_in_name", message));
        }
        let message = match self.unit.as_str() {
            "" => format!(
                "its name ends with {word} and it has no unit: declare the unit and leave it out of the name"
            ),
            unit => format!(
                "its name ends with {word} and it is exported in {unit}: leave the unit out of the name"
            ),
        };
        Some((Level::Warning, "unit_in_name", message))
    }
}

impl Label {
    fn suspicion(&self, name: &str) -> Option<Suspicion> {
        let ids: usize = self.ids.values().sum();
        if ids >= IDS && ids * 2 >= self.values.len() {
            let kind = self
                .ids
                .iter()
                .max_by_key(|(_, n)| **n)
                .map_or("ids", |(kind, _)| *kind);
            let example = self.values.iter().filter(|v| heuristics::id(v).is_some()).min()?;
            let message = format!(
                "label {name} looks like {kind} ({} values, such as {example:?}): it grows without end; leave it out, or allow a list",
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
                "label {name} has {at_least}{} values; every one is a series, every histogram a dozen",
                self.values.len()
            );
            return Some((Level::Warning, "cardinality", message));
        }
        None
    }
}

#[cfg(test)]
mod tests;
