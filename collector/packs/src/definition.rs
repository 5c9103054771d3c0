//! The definition of a metric, in the vocabulary of `Telemetry.Metrics`, as packs and `metrics.definitions` contain it.

use crate::error::DefinitionError;
use crate::expression::{Comparison, Condition, Expression};
pub use crate::limits::{BOUNDS, EXPIRE_S_MIN, LABELS};
use crate::shorthand::{self, Shapes};
use dichroic_model::units;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The five types of `Telemetry.Metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum DefinitionType {
    /// The number of events; with a measurement, the number of events that have it.
    Counter,
    /// The sum of a measurement.
    Sum,
    /// The last measurement.
    LastValue,
    /// The distribution of a measurement in exponential buckets, suitable for quantiles.
    Summary,
    /// The distribution of a measurement.
    Distribution,
}

/// The unit of the raw measurement and that of the metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Unit of the measurement: `native`, UCUM, or a unit of `Telemetry.Metrics`.
    pub from: String,
    /// Unit of the metric and its buckets; exported in its base unit.
    pub to: String,
}

/// The buckets of a distribution.
#[derive(Debug, Clone, PartialEq)]
pub enum Buckets {
    /// Upper bounds, ascending, in the definition's `to` unit.
    Bounds(Vec<f64>),
    /// Base-2 exponential buckets; `None` is the default of the unit.
    Exponential {
        /// −4 to 4: 2^scale buckets for each doubling.
        scale: Option<i64>,
        /// Values outside [2^lo, 2^hi), in the base unit, go to the outermost buckets.
        octaves: Option<(i64, i64)>,
    },
}

/// Dotted name of an event; may contain templates, as in `${ecto_prefix}.query`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName(pub String);

/// A value of one event that a later event of the same process reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Carry {
    /// The event that has the value.
    pub event: EventName,
    /// The value in that event.
    pub expression: Expression,
    /// Events that clear the value, such as the start of the next request.
    pub clear: Vec<EventName>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Dotted name.
    pub name: String,
    /// Type of the metric.
    pub kind: DefinitionType,
    /// The event.
    pub event: EventName,
    /// Measurements; several become one metric, distinguished by `measurement_tag`.
    pub measurements: Vec<Expression>,
    /// Label with the name of the measurement.
    pub measurement_tag: Option<String>,
    /// Units; `None` uses the pack's `event_units`, if they have one.
    pub unit: Option<Unit>,
    /// Labels with the expressions of their values.
    pub tags: BTreeMap<String, Expression>,
    /// Labels with constant values. `${prefix}` is the event name without its last part; a template of the event is replaced by its
    /// value.
    pub labels: BTreeMap<String, String>,
    /// Conditions of which all must hold for an event to be counted.
    pub keep: Vec<Condition>,
    /// Buckets of a distribution or summary.
    pub buckets: Option<Buckets>,
    /// Help text.
    pub help: String,
    /// Largest number of series; more go to the overflow series.
    pub series: u32,
    /// Idle time after which the VM may remove a series, in seconds.
    pub expire_s: u32,
    /// Whether a sum never decreases.
    pub monotonic: bool,
    /// Values of other events, by name, for `{carry: NAME}`.
    pub carry: BTreeMap<String, Carry>,
    /// The exposition shows the name unchanged, unit included, and values are in the `to` unit instead of its base unit.
    pub verbatim: bool,
    /// Packs that measure the same: the definition is left out when one of them is chosen.
    pub unless: Vec<String>,
}

/// Default of `series`.
pub const SERIES_DEFAULT: u32 = 2_000;
/// Default of `expire_s`.
pub const EXPIRE_S_DEFAULT: u32 = 3_600;

impl EventName {
    /// Its parts.
    pub fn parts(&self) -> Vec<String> {
        self.0.split('.').map(str::to_owned).collect()
    }

    fn check(text: &str) -> Result<Self, DefinitionError> {
        if text.is_empty() || text.split('.').any(str::is_empty) {
            return Err(DefinitionError::Event(text.to_owned()));
        }
        if text.contains('*') {
            return Err(DefinitionError::Wildcard(text.to_owned()));
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

pub(crate) const UNIT: &str = "a unit such as ms or By, or [from, to] such as [native, s]";

impl Unit {
    /// A pair of units, if `from` converts to `to`.
    pub fn new(from: &str, to: &str) -> Result<Self, DefinitionError> {
        let converts = match from {
            "native" => units::conversion("s", to).is_some(),
            from => units::conversion(from, to).is_some(),
        };
        if !converts {
            return Err(DefinitionError::Unit {
                from: from.to_owned(),
                to: to.to_owned(),
            });
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

    /// The exported unit.
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
            _ => Err(de::Error::invalid_length(pair.len(), &UNIT)),
        }
    }
}

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shorthand::any(deserializer)
    }
}

/// Base-2 exponential buckets.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LongBuckets {
    /// 2^scale buckets for each doubling.
    #[schemars(range(min = -4, max = 4))]
    scale: Option<i64>,
    /// Values outside [2^lo, 2^hi) go to the outermost buckets.
    octaves: Option<(i64, i64)>,
}

pub(crate) const BUCKETS: &str =
    "ascending bounds such as [0.1, 0.5, 1], or exponential, or {scale: 3, octaves: [-20, 14]}";

impl<'de> Shapes<'de> for Buckets {
    const EXPECTED: &'static str = BUCKETS;

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        match text {
            "exponential" => Ok(Buckets::Exponential {
                scale: None,
                octaves: None,
            }),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &BUCKETS)),
        }
    }

    fn list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let bounds: Vec<f64> = shorthand::from_list(list)?;
        let ascending =
            bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|b| b.is_finite());
        if bounds.is_empty() || bounds.len() > BOUNDS || !ascending {
            return Err(de::Error::custom(DefinitionError::Bounds));
        }
        Ok(Buckets::Bounds(bounds))
    }

    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let LongBuckets { scale, octaves } = shorthand::from_map(map)?;
        if scale.is_some_and(|scale| !(-4..=4).contains(&scale)) {
            return Err(de::Error::custom(DefinitionError::Scale));
        }
        if octaves.is_some_and(|(lo, hi)| lo >= hi || lo < -64 || hi > 64) {
            return Err(de::Error::custom(DefinitionError::Octaves));
        }
        Ok(Buckets::Exponential { scale, octaves })
    }
}

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shorthand::any(deserializer)
    }
}

/// One value or a list of values.
pub(crate) struct Several<T>(Vec<T>);

impl<T: JsonSchema> JsonSchema for Several<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Several{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}

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

/// A value of one event that a later event of the same process reads.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LongCarry {
    /// Event that has the value.
    event: EventName,
    /// Where the value is in that event.
    path: Expression,
    /// Events that clear the value.
    clear: Option<Several<EventName>>,
}

/// A metric of events, in the vocabulary of `Telemetry.Metrics`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LongDefinition {
    /// Dotted name of the metric, without its unit.
    #[schemars(example = &"shop.checkout.duration")]
    name: String,
    /// Type of the metric.
    #[schemars(example = DefinitionType::Distribution)]
    r#type: DefinitionType,
    /// Dotted name of the event. Default: `name` without its last part, which is then the measurement.
    #[schemars(example = &"shop.checkout.stop")]
    event: Option<EventName>,
    /// Measurement, or a list of them; a counter without one counts events.
    #[schemars(example = &"duration")]
    measurement: Option<Several<Expression>>,
    /// Label with the name of the measurement, where there are several.
    #[schemars(example = &"phase")]
    measurement_tag: Option<String>,
    /// Unit of the measurement, or `[unit of the measurement, unit of the metric]`.
    #[schemars(example = examples::unit())]
    unit: Option<Unit>,
    /// Labels with the paths of their values, or a list of metadata keys.
    #[schemars(example = examples::tags())]
    tags: Option<Tags>,
    /// Labels with constant values; `${prefix}` is the event without its last part.
    #[serde(default)]
    #[schemars(example = examples::labels())]
    labels: BTreeMap<String, String>,
    /// Conditions, all of which an event must meet to be counted: each has a `path` into the metadata and one of `eq`, `ne`, `lt`,
    /// `gt`, `in`, `has` and `lacks`. See "Writing one" in `collector/packs/README.md`.
    #[serde(default)]
    #[schemars(example = examples::keep())]
    keep: Vec<Condition>,
    /// Conditions as in `keep`, of which none may hold; excludes `keep`.
    #[serde(default)]
    #[schemars(example = examples::drop())]
    drop: Vec<Condition>,
    /// Buckets of a distribution, in the unit of the metric.
    #[schemars(example = examples::buckets())]
    buckets: Option<Buckets>,
    /// Help text of the metric.
    #[serde(default)]
    #[schemars(example = &"Duration of a checkout.")]
    help: String,
    /// Largest number of series. Default: 2000.
    #[schemars(range(min = 1), example = 500)]
    series: Option<u32>,
    /// Seconds without an event after which a node may remove a series. Default: 3600.
    #[schemars(range(min = 300), example = 3600)]
    expire_s: Option<u32>,
    /// Whether a sum only grows. Default: true.
    #[schemars(example = false)]
    monotonic: Option<bool>,
    /// Values of earlier events of the same process, by name, that tags read as `{carry: NAME}`: each has the `event`, the `path` of
    /// the value in it and, optionally, the events that `clear` it. See "Writing one" in `collector/packs/README.md`.
    #[serde(default)]
    #[schemars(example = examples::carry())]
    carry: BTreeMap<String, Carry>,
    /// Whether the name is used on pages as it is, without suffixes for unit and type.
    #[serde(default)]
    verbatim: bool,
    /// Packs that measure the same; if one of them is in use and the node has loaded its library, this definition is left out.
    #[serde(default)]
    #[schemars(example = examples::unless())]
    unless: Vec<String>,
}

/// `{label: path}`, or a list of metadata keys that are labels of the same name.
pub(crate) struct Tags(BTreeMap<String, Expression>);

impl JsonSchema for Tags {
    fn schema_name() -> Cow<'static, str> {
        "Tags".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<BTreeMap<String, Expression>>();
        let list = generator.subschema_for::<Vec<String>>();
        schemars::json_schema!({"oneOf": [map, list], "x-expected": Self::EXPECTED})
    }
}

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
        long.check()
            .map_err(|error| de::Error::custom(format!("definition {name:?}: {error}")))
    }
}

impl LongDefinition {
    fn check(self) -> Result<Definition, DefinitionError> {
        if self.name.is_empty() || self.name.split('.').any(str::is_empty) {
            return Err(DefinitionError::Name);
        }
        self.check_type()?;
        if self.expire_s.is_some_and(|s| s < EXPIRE_S_MIN) {
            return Err(DefinitionError::Expire);
        }
        if self.series == Some(0) {
            return Err(DefinitionError::Series);
        }
        let tag = self.measurement_tag.as_deref();
        let (event, measurements) = measured(&self.name, self.r#type, self.event, self.measurement, tag)?;
        let tags = self.tags.map(|Tags(tags)| tags).unwrap_or_default();
        check_labels(&event, &tags, &self.labels)?;
        Ok(Definition {
            name: self.name,
            kind: self.r#type,
            event,
            measurements,
            measurement_tag: self.measurement_tag,
            unit: self.unit,
            tags,
            labels: self.labels,
            keep: conditions(self.keep, self.drop)?,
            buckets: self.buckets,
            help: self.help,
            series: self.series.unwrap_or(SERIES_DEFAULT),
            expire_s: self.expire_s.unwrap_or(EXPIRE_S_DEFAULT),
            monotonic: self.monotonic.unwrap_or(true),
            carry: self.carry,
            verbatim: self.verbatim,
            unless: self.unless,
        })
    }

    /// Rejects keys that the type does not have.
    fn check_type(&self) -> Result<(), DefinitionError> {
        let kind = self.r#type;
        if self.buckets.is_some() && !matches!(kind, DefinitionType::Distribution | DefinitionType::Summary) {
            return Err(DefinitionError::BucketsOfType);
        }
        if kind == DefinitionType::Summary && matches!(self.buckets, Some(Buckets::Bounds(_))) {
            return Err(DefinitionError::SummaryBounds);
        }
        if self.monotonic.is_some() && kind != DefinitionType::Sum {
            return Err(DefinitionError::MonotonicOfType);
        }
        Ok(())
    }
}

/// The event and its measurements.
fn measured(
    name: &str,
    kind: DefinitionType,
    event: Option<EventName>,
    measurement: Option<Several<Expression>>,
    tag: Option<&str>,
) -> Result<(EventName, Vec<Expression>), DefinitionError> {
    let (event, mut measurements) = match (event, measurement) {
        (Some(event), measurement) => (event, measurement.map(|Several(m)| m).unwrap_or_default()),
        (None, Some(_)) => return Err(DefinitionError::MeasurementWithoutEvent),
        (None, None) => by_name(name)?,
    };
    match (measurements.len(), kind) {
        (0, DefinitionType::Counter) => {}
        (0, _) => return Err(DefinitionError::NoMeasurement),
        (2.., DefinitionType::Counter) if tag.is_none() => return Err(DefinitionError::CounterMeasurements),
        (2.., _) if tag.is_none() => return Err(DefinitionError::NoMeasurementTag),
        _ => {}
    }
    for measurement in &mut measurements {
        measurement.root.get_or_insert(crate::Root::Measurements);
    }
    Ok((event, measurements))
}

/// The event and measurement in a name: `http.request.stop.duration` is `duration` of `http.request.stop`.
fn by_name(name: &str) -> Result<(EventName, Vec<Expression>), DefinitionError> {
    match name.rsplit_once('.') {
        Some((event, measurement)) => Ok((
            EventName::check(event)?,
            vec![Expression::key(crate::Root::Measurements, measurement)],
        )),
        None => Err(DefinitionError::NoEvent),
    }
}

fn check_labels(
    event: &EventName,
    tags: &BTreeMap<String, Expression>,
    labels: &BTreeMap<String, String>,
) -> Result<(), DefinitionError> {
    if tags.len() + labels.len() > LABELS {
        return Err(DefinitionError::Labels);
    }
    if let Some(label) = tags.keys().find(|label| labels.contains_key(*label)) {
        return Err(DefinitionError::LabelTwice(label.clone()));
    }
    let unknown = |text: &String| {
        let mut templates = text
            .split("${")
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('}')?.0));
        templates.any(|name| name != "prefix" && !event.0.contains(&format!("${{{name}}}")))
    };
    match labels.iter().find(|(_, text)| unknown(text)) {
        Some((label, value)) => Err(DefinitionError::LabelTemplate {
            label: label.clone(),
            value: value.clone(),
        }),
        None => Ok(()),
    }
}

/// The conditions of `keep`, or the negated conditions of `drop`.
fn conditions(keep: Vec<Condition>, drop: Vec<Condition>) -> Result<Vec<Condition>, DefinitionError> {
    if !keep.is_empty() && !drop.is_empty() {
        return Err(DefinitionError::KeepAndDrop);
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
                return Err(DefinitionError::DropOrder);
            }
        }
    }
    Ok(all)
}

/// Examples of the JSON Schema. Functions, because the derive macro accepts array expressions only with a feature of another crate.
mod examples {
    use std::collections::BTreeMap;

    pub fn unit() -> [&'static str; 2] {
        ["native", "s"]
    }

    pub fn tags() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([("plan", "account.plan")])
    }

    pub fn labels() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([("step", "checkout")])
    }

    pub fn keep() -> [BTreeMap<&'static str, &'static str>; 1] {
        [BTreeMap::from([("path", "plan"), ("eq", "free")])]
    }

    pub fn drop() -> serde_json::Value {
        serde_json::json!([{"path": "test_mode", "has": true}])
    }

    pub fn carry() -> serde_json::Value {
        serde_json::json!({"route": {"event": "shop.router.start", "path": "route", "clear": "shop.request.start"}})
    }

    pub fn buckets() -> [f64; 3] {
        [0.1, 0.5, 1.0]
    }

    pub fn unless() -> [&'static str; 1] {
        ["phoenix"]
    }
}
