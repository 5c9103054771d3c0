//! One metric, in the vocabulary of `Telemetry.Metrics`: what packs and `metrics.definitions` are made of.

use crate::expression::{Comparison, Condition, Expression};
use crate::shorthand::{self, Shapes};
use dichroic_model::units;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess};
use std::collections::BTreeMap;
use std::fmt;

/// The five types of `Telemetry.Metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefinitionType {
    /// How many events; with a measurement named, how many that carry it.
    Counter,
    /// The running sum of a measurement.
    Sum,
    /// The last measurement.
    LastValue,
    /// The distribution of a measurement in exponential buckets, of which quantiles can be asked.
    Summary,
    /// The distribution of a measurement.
    Distribution,
}

/// The unit of the raw measurement and that of the metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// As it is emitted: `native`, or UCUM, or a word of `Telemetry.Metrics`.
    pub from: String,
    /// As buckets are given and a reader is told; exported in its base unit.
    pub to: String,
}

/// Where a distribution counts.
#[derive(Debug, Clone, PartialEq)]
pub enum Buckets {
    /// Upper bounds, ascending, in the definition's `to` unit.
    Bounds(Vec<f64>),
    /// Base-2 exponential buckets; `None` takes what suits the unit.
    Exponential {
        /// −4 to 4: 2^scale buckets for each doubling.
        scale: Option<i64>,
        /// Values below 2^lo and above 2^hi (base unit) go to the outermost buckets.
        octaves: Option<(i64, i64)>,
    },
}

/// An event's dotted name, perhaps with a template such as `${ecto_prefix}.query`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName(pub String);

/// A value that one event leaves for a later one in the same process.
#[derive(Debug, Clone, PartialEq)]
pub struct Carry {
    /// The event that has the value.
    pub event: EventName,
    /// Where it is in that event.
    pub expression: Expression,
    /// Events at which what was left is forgotten: the beginning of the next unit of work.
    pub clear: Vec<EventName>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Dotted name.
    pub name: String,
    /// What is kept.
    pub kind: DefinitionType,
    /// The event.
    pub event: EventName,
    /// What is measured; several become one metric with a tag that tells them apart.
    pub measurements: Vec<Expression>,
    /// That tag.
    pub measurement_tag: Option<String>,
    /// Units; `None` asks the pack's `event_units`, else there is none.
    pub unit: Option<Unit>,
    /// Label → where its value is.
    pub tags: BTreeMap<String, Expression>,
    /// Labels that are always the same; `${prefix}` is the event's name without its last part, a template of the event what it was
    /// filled with.
    pub labels: BTreeMap<String, String>,
    /// What must all hold for an event to count.
    pub keep: Vec<Condition>,
    /// How a distribution is cut.
    pub buckets: Option<Buckets>,
    /// For people.
    pub help: String,
    /// Series before the overflow series.
    pub series: u32,
    /// Idle time before the VM may forget a series, in seconds.
    pub expire_s: u32,
    /// Of a sum: whether it only grows.
    pub monotonic: bool,
    /// Values from other events, by name, for `{carry: NAME}`.
    pub carry: BTreeMap<String, Carry>,
    /// The name is as a page shows it, unit word included, and values are in the `to` unit instead of its base unit.
    pub verbatim: bool,
    /// Packs with which this would count the same thing twice: it is left out when one of them is chosen.
    pub unless: Vec<String>,
}

/// Series that a definition may have unless it says otherwise.
pub const SERIES_DEFAULT: u32 = 2_000;
/// Idle time before the VM may forget a series unless the definition says otherwise.
pub const EXPIRE_S_DEFAULT: u32 = 3_600;
/// Shortest idle time: exporters need it to show the old incarnation.
pub const EXPIRE_S_MIN: u32 = 300;
/// Bounds that a distribution may have.
pub const BOUNDS: usize = 160;
/// Labels that a definition may have.
pub const LABELS: usize = 32;

impl EventName {
    /// Its parts.
    pub fn parts(&self) -> Vec<String> {
        self.0.split('.').map(str::to_owned).collect()
    }

    fn check(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.split('.').any(str::is_empty) {
            return Err(format!(
                "event {text:?} has an empty part; write it dotted, such as my_app.checkout.stop"
            ));
        }
        if text.contains('*') {
            return Err(format!(
                "event {text:?}: a definition names one event; wildcards are for subscriptions"
            ));
        }
        Ok(EventName(text.to_owned()))
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        EventName::check(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

const UNIT: &str = "a unit such as ms or By, or [from, to] such as [native, s]";
const WORDS: &str = "native, ns, us, ms, s, min, h, By, kBy, MBy, GBy, KiBy, MiBy, GiBy, %, 1, or the words of Telemetry.Metrics";

impl Unit {
    /// Checks that the one converts to the other.
    pub fn new(from: &str, to: &str) -> Result<Self, String> {
        let known = match from {
            "native" => units::conversion("s", to).is_some(),
            from => units::conversion(from, to).is_some(),
        };
        if !known {
            return Err(format!(
                "unit: {from:?} does not convert to {to:?}; known are {WORDS}"
            ));
        }
        Ok(Unit {
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }

    /// One unit, exported in its base unit.
    pub fn of(from: &str) -> Self {
        Unit {
            from: from.to_owned(),
            to: if from == "native" { "s" } else { units::base(from) }.to_owned(),
        }
    }

    /// The unit of what is exported.
    pub fn base(&self) -> &str {
        units::base(&self.to)
    }
}

impl<'de> Shapes<'de> for Unit {
    const EXPECTED: &'static str = UNIT;

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        Ok(Unit::of(text))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let pair: Vec<String> = shorthand::from_list(list)?;
        match pair.as_slice() {
            [from, to] => Unit::new(from, to).map_err(de::Error::custom),
            _ => Err(de::Error::custom(format!("unit: write {UNIT}"))),
        }
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shorthand::any(deserializer)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LongBuckets {
    scale: Option<i64>,
    octaves: Option<(i64, i64)>,
}

const BUCKETS: &str =
    "ascending bounds such as [0.1, 0.5, 1], or exponential, or {scale: 3, octaves: [-20, 14]}";

impl<'de> Shapes<'de> for Buckets {
    const EXPECTED: &'static str = BUCKETS;

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        match text {
            "exponential" => Ok(Buckets::Exponential {
                scale: None,
                octaves: None,
            }),
            _ => Err(E::custom(format!("unknown buckets {text:?}; write {BUCKETS}"))),
        }
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let bounds: Vec<f64> = shorthand::from_list(list)?;
        let ascending =
            bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|b| b.is_finite());
        if bounds.is_empty() || bounds.len() > BOUNDS || !ascending {
            return Err(de::Error::custom(format!(
                "buckets: write 1 to {BOUNDS} finite bounds in ascending order, without +Inf"
            )));
        }
        Ok(Buckets::Bounds(bounds))
    }

    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let LongBuckets { scale, octaves } = shorthand::from_map(map)?;
        if scale.is_some_and(|scale| !(-4..=4).contains(&scale)) {
            return Err(de::Error::custom("buckets: scale is -4 to 4"));
        }
        if octaves.is_some_and(|(lo, hi)| lo >= hi || lo < -64 || hi > 64) {
            return Err(de::Error::custom(
                "buckets: octaves is [lo, hi], ascending, between -64 and 64",
            ));
        }
        Ok(Buckets::Exponential { scale, octaves })
    }
}

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shorthand::any(deserializer)
    }
}

/// One or several.
struct Several<T>(Vec<T>);

impl<'de, T: Shapes<'de> + Deserialize<'de>> Shapes<'de> for Several<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        T::text(text).map(|one| Several(vec![one]))
    }

    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::map(map).map(|one| Several(vec![one]))
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        shorthand::from_list(list).map(Several)
    }
}

impl<'de, T: Shapes<'de> + Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shorthand::any(deserializer)
    }
}

impl<'de> Shapes<'de> for EventName {
    const EXPECTED: &'static str = "a dotted event name, or a list of them";

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        EventName::check(text).map_err(E::custom)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LongCarry {
    event: EventName,
    path: Expression,
    clear: Option<Several<EventName>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct LongDefinition {
    name: String,
    r#type: DefinitionType,
    event: Option<EventName>,
    measurement: Option<Several<Expression>>,
    measurement_tag: Option<String>,
    unit: Option<Unit>,
    tags: Option<Tags>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    keep: Vec<Condition>,
    #[serde(default)]
    drop: Vec<Condition>,
    buckets: Option<Buckets>,
    #[serde(default)]
    help: String,
    series: Option<u32>,
    expire_s: Option<u32>,
    monotonic: Option<bool>,
    #[serde(default)]
    carry: BTreeMap<String, Carry>,
    #[serde(default)]
    verbatim: bool,
    #[serde(default)]
    unless: Vec<String>,
}

/// `{label: path}`, or a list of metadata keys that are labels of the same name.
struct Tags(BTreeMap<String, Expression>);

impl<'de> Shapes<'de> for Tags {
    const EXPECTED: &'static str = "{label: path}, or a list of metadata keys";

    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        shorthand::from_map(map).map(Tags)
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let keys: Vec<String> = shorthand::from_list(list)?;
        let tag = |key: String| match Expression::path(&key) {
            Ok(path) => Ok((key, path)),
            Err(message) => Err(de::Error::custom(message)),
        };
        keys.into_iter().map(tag).collect::<Result<_, _>>().map(Tags)
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shorthand::any(deserializer)
    }
}

impl<'de> Deserialize<'de> for Carry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let long = LongCarry::deserialize(deserializer)?;
        Ok(Carry {
            event: long.event,
            expression: long.path,
            clear: long.clear.map(|Several(events)| events).unwrap_or_default(),
        })
    }
}

impl<'de> Deserialize<'de> for Definition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let long = LongDefinition::deserialize(deserializer)?;
        let name = long.name.clone();
        check(long).map_err(|message| de::Error::custom(format!("definition {name:?}: {message}")))
    }
}

fn check(long: LongDefinition) -> Result<Definition, String> {
    if long.name.is_empty() || long.name.split('.').any(str::is_empty) {
        return Err("name is dotted words, such as checkout.duration".to_owned());
    }
    let kind = long.r#type;
    let (event, mut measurements) = match (long.event, long.measurement) {
        (Some(event), measurement) => (event, measurement.map(|Several(m)| m).unwrap_or_default()),
        (None, Some(_)) => return Err("measurement without event; write event: NAME".to_owned()),
        (None, None) => by_name(&long.name)?,
    };
    if kind == DefinitionType::Counter && long.measurement_tag.is_none() && measurements.len() > 1 {
        return Err("a counter counts events; name one measurement or none".to_owned());
    }
    if measurements.is_empty() && kind != DefinitionType::Counter {
        return Err("measurement is missing; write measurement: KEY".to_owned());
    }
    if measurements.len() > 1 && long.measurement_tag.is_none() {
        return Err(
            "several measurements need measurement_tag: LABEL, by which their series differ".to_owned(),
        );
    }
    for measurement in &mut measurements {
        measurement.root.get_or_insert(crate::Root::Measurements);
    }
    if long.buckets.is_some() && !matches!(kind, DefinitionType::Distribution | DefinitionType::Summary) {
        return Err("buckets are for type: distribution or summary".to_owned());
    }
    if kind == DefinitionType::Summary && matches!(long.buckets, Some(Buckets::Bounds(_))) {
        return Err("a summary has exponential buckets; write type: distribution for bounds".to_owned());
    }
    if long.monotonic.is_some() && kind != DefinitionType::Sum {
        return Err("monotonic is for type: sum".to_owned());
    }
    let tags = long.tags.map(|Tags(tags)| tags).unwrap_or_default();
    if tags.len() + long.labels.len() > LABELS {
        return Err(format!("more than {LABELS} tags"));
    }
    if let Some(label) = tags.keys().find(|label| long.labels.contains_key(*label)) {
        return Err(format!("{label:?} is in tags and in labels; write it once"));
    }
    let unknown = |text: &String| {
        let mut places = text
            .split("${")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('}')?.0));
        places.any(|name| name != "prefix" && !event.0.contains(&format!("${{{name}}}")))
    };
    if let Some((label, text)) = long.labels.iter().find(|(_, text)| unknown(text)) {
        return Err(format!(
            "label {label:?} is {text:?}; write ${{prefix}} or a template that the event has"
        ));
    }
    if long.expire_s.is_some_and(|s| s < EXPIRE_S_MIN) {
        return Err(format!("expire_s is at least {EXPIRE_S_MIN}"));
    }
    if long.series == Some(0) {
        return Err("series is at least 1".to_owned());
    }
    Ok(Definition {
        name: long.name,
        kind,
        event,
        measurements,
        measurement_tag: long.measurement_tag,
        unit: long.unit,
        tags,
        labels: long.labels,
        keep: conditions(long.keep, long.drop)?,
        buckets: long.buckets,
        help: long.help,
        series: long.series.unwrap_or(SERIES_DEFAULT),
        expire_s: long.expire_s.unwrap_or(EXPIRE_S_DEFAULT),
        monotonic: long.monotonic.unwrap_or(true),
        carry: long.carry,
        verbatim: long.verbatim,
        unless: long.unless,
    })
}

/// `http.request.stop.duration` is the measurement `duration` of the event `http.request.stop`.
fn by_name(name: &str) -> Result<(EventName, Vec<Expression>), String> {
    match name.rsplit_once('.') {
        Some((event, measurement)) => Ok((
            EventName::check(event)?,
            vec![Expression::key(crate::Root::Measurements, measurement)],
        )),
        None => Err("event is missing; write event: NAME and measurement: KEY".to_owned()),
    }
}

/// `drop` is `keep` turned round, where that can be said.
fn conditions(keep: Vec<Condition>, drop: Vec<Condition>) -> Result<Vec<Condition>, String> {
    if !keep.is_empty() && !drop.is_empty() {
        return Err("keep and drop exclude each other; write one of them".to_owned());
    }
    let mut all = keep;
    for condition in drop {
        let expression = condition.expression;
        let mut not = |comparison| {
            all.push(Condition {
                expression: expression.clone(),
                comparison,
            });
        };
        match condition.comparison {
            Comparison::Eq(value) => not(Comparison::Ne(value)),
            Comparison::Ne(value) => not(Comparison::Eq(value)),
            Comparison::In(values) => values.into_iter().for_each(|value| not(Comparison::Ne(value))),
            Comparison::Has => not(Comparison::Lacks),
            Comparison::Lacks => not(Comparison::Has),
            Comparison::Lt(_) | Comparison::Gt(_) => {
                return Err("drop cannot compare with lt or gt; write keep with the opposite".to_owned());
            }
        }
    }
    Ok(all)
}
