//! Compiles packs and definitions for one relay: fills templates, resolves units, makes carried names unique.
//!
//! The receiver of relays calls [`Selection::compile`] once per relay, since templates depend on the node, and turns the result into a
//! plan. Two metrics with the same name and labels would overwrite each other: packs add a label that distinguishes theirs, and
//! the receiver drops and counts rows of the second.

use crate::definition::{Buckets, Carry, Definition, DefinitionType, EventName, Unit};
use crate::expression::{Condition, Expression, Root, Step};
use crate::pack::Packs;
use std::collections::BTreeMap;

/// Bounds of the semantic conventions for HTTP durations, in seconds.
pub const DURATION_BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Values of templates, by name.
pub type Variables = BTreeMap<String, Vec<String>>;

/// The packs, definitions and template values that a configuration selects.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selection {
    /// Packs in use.
    pub packs: Packs,
    /// `metrics.definitions`.
    pub definitions: Vec<Definition>,
    /// Values of templates such as `ecto_prefix`; they take precedence over those of packs.
    pub variables: Variables,
}

/// How a metric aggregates events. Bounds and octaves are in the exported unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Aggregation {
    /// The number of events.
    Counter,
    /// The sum of a measurement.
    Sum {
        /// Whether it never decreases.
        monotonic: bool,
    },
    /// The last value.
    LastValue,
    /// Base-2 exponential buckets.
    Exponential {
        /// 2^scale buckets for each doubling.
        scale: i64,
        /// Values outside [2^lo, 2^hi) go to the outermost buckets.
        octaves: (i64, i64),
    },
    /// Upper bounds in `unit`.
    Buckets(Vec<f64>),
}

/// One metric from one measurement of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Dotted name.
    pub name: String,
    /// Whether the exposition shows the name unchanged, without suffixes for unit and type.
    pub verbatim: bool,
    /// Help text.
    pub help: String,
    /// Its aggregation.
    pub aggregation: Aggregation,
    /// The parts of the event name.
    pub event: Vec<String>,
    /// The measurement; `None` counts events.
    pub value: Option<Expression>,
    /// Unit of the raw measurement: `native`, UCUM, or empty.
    pub raw_unit: String,
    /// Unit of exported values: UCUM, or empty.
    pub unit: String,
    /// Labels with the expressions of their values, sorted by label.
    pub labels: Vec<(String, Expression)>,
    /// Labels with constant values.
    pub fixed: Vec<(String, String)>,
    /// Conditions of which all must hold.
    pub keep: Vec<Condition>,
    /// Largest number of series; more go to the overflow series.
    pub series: u32,
    /// Idle time after which the VM may remove a series, in seconds.
    pub expire_s: u32,
}

/// A stream of raw events.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// The parts of the event name.
    pub event: Vec<String>,
    /// Name, unit (`native`, UCUM or empty) and expression of each measurement.
    pub measurements: Vec<(String, String, Expression)>,
    /// Name and expression of each metadata column.
    pub metadata: Vec<(String, Expression)>,
}

/// A value that an event sets or clears, for later events of the same process.
#[derive(Debug, Clone, PartialEq)]
pub struct CarrySlot {
    /// The parts of the event name.
    pub event: Vec<String>,
    /// Name of the slot, unique in the compiled selection.
    pub name: String,
    /// The value; `None` clears the slot.
    pub expression: Option<Expression>,
}

/// A selection compiled for one relay.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compiled {
    /// Aggregated in the VM.
    pub metrics: Vec<Metric>,
    /// Sent row by row while there is a subscriber.
    pub streams: Vec<Stream>,
    /// Values carried between events.
    pub carries: Vec<CarrySlot>,
}

impl Stream {
    /// Dotted name.
    pub fn name(&self) -> String {
        self.event.join(".")
    }
}

/// `My-App` → `my_app`: the name of an OTP application for a service name.
pub fn application_name(service: &str) -> String {
    let mut name = String::with_capacity(service.len());
    for c in service.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    name.trim_matches('_').to_owned()
}

impl Selection {
    /// Compiles for a node with the main application `app` and the template values `node` that its relay found. If `app` is empty,
    /// templates that use it have no value. Values of the configuration replace those of the node; values of packs are added to them.
    pub fn compile(&self, app: &str, node: &Variables) -> Compiled {
        let mut compiled = Compiled::default();
        let units = self.event_units(app, node);
        for pack in self.packs.iter() {
            let defaults = &merged(&pack.variables, node);
            let scope = Scope {
                name: &pack.name,
                carry: &pack.carry,
                selection: self,
                defaults,
                node,
                app,
                units: &units,
            };
            scope.carries(&pack.carry, &mut compiled);
            for definition in self.included(&pack.definitions, node) {
                scope.metrics(definition, &mut compiled);
            }
            for stream in &pack.streams {
                for event in scope.events(&stream.event) {
                    compiled
                        .streams
                        .push(scope.stream(&event, &stream.measurements, &stream.metadata));
                }
            }
            self.included(&pack.definitions, node)
                .for_each(|d| scope.implied_stream(d, &mut compiled));
        }
        for (number, definition) in self.included(&self.definitions, node).enumerate() {
            let scope = Scope {
                name: &format!("definition{number}"),
                carry: &definition.carry,
                selection: self,
                defaults: node,
                node,
                app,
                units: &units,
            };
            scope.carries(&definition.carry, &mut compiled);
            scope.metrics(definition, &mut compiled);
            scope.implied_stream(definition, &mut compiled);
        }
        compiled
    }

    /// The definitions that no pack in use on the node excludes.
    fn included<'d>(
        &'d self,
        definitions: &'d [Definition],
        node: &'d Variables,
    ) -> impl Iterator<Item = &'d Definition> {
        let chosen = |name: &String| self.packs.in_use(name, node);
        definitions
            .iter()
            .filter(move |definition| !definition.unless.iter().any(chosen))
    }

    /// Event → measurement → unit, of all packs.
    fn event_units(&self, app: &str, node: &Variables) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut units = BTreeMap::new();
        for pack in self.packs.iter() {
            let defaults = merged(&pack.variables, node);
            for (event, of_event) in &pack.event_units {
                for event in self.fill(event, &defaults, app) {
                    units.insert(event, of_event.clone());
                }
            }
        }
        units
    }

    /// A name with each template replaced by its first value; a template without a value is removed from the name.
    fn fill_one(&self, name: &str, defaults: &Variables, app: &str) -> String {
        if !name.contains("${") {
            return name.to_owned();
        }
        let filled = self.fill(name, defaults, app).into_iter().next();
        filled.unwrap_or_else(|| name.replace("${app}.", "").replace(['$', '{', '}'], ""))
    }

    /// All values of a text with templates; none when a template has no value.
    fn fill(&self, text: &str, defaults: &Variables, app: &str) -> Vec<String> {
        let filled = self.filled(text, defaults, app);
        filled.into_iter().map(|filled| filled.text).collect()
    }

    /// As [`Selection::fill`], with the value of each template, which is the same at every place in a text.
    fn filled(&self, text: &str, defaults: &Variables, app: &str) -> Vec<Filled> {
        self.filled_within(&[], text, defaults, app)
    }

    /// As [`Selection::filled`], within the values of the templates `outer`. A template inside its own value has no value, so that
    /// cyclic configuration terminates.
    fn filled_within(&self, outer: &[&str], text: &str, defaults: &Variables, app: &str) -> Vec<Filled> {
        let Some(name) = template(text) else {
            return vec![Filled {
                text: text.to_owned(),
                with: Vec::new(),
            }];
        };
        let app_values = vec![app.to_owned()];
        let values = match name {
            name if outer.contains(&name) => return Vec::new(),
            "app" if app.is_empty() => return Vec::new(),
            "app" => &app_values,
            name => match self.variables.get(name).or_else(|| defaults.get(name)) {
                Some(values) => values,
                None => return Vec::new(),
            },
        };
        let (placeholder, inner) = (format!("${{{name}}}"), [outer, &[name]].concat());
        let values = values
            .iter()
            .flat_map(|value| self.filled_within(&inner, value, defaults, app));
        let mut filled = BTreeMap::new();
        for Filled { text: value, .. } in values.filter(|value| !value.text.contains("${")) {
            for mut each in self.filled_within(outer, &text.replace(&placeholder, &value), defaults, app) {
                each.with.push((placeholder.clone(), value.clone()));
                filled.entry(each.text.clone()).or_insert(each);
            }
        }
        filled.into_values().collect()
    }
}

/// A text whose templates were replaced.
struct Filled {
    text: String,
    /// Each template as written, `${name}`, with its value.
    with: Vec<(String, String)>,
}

/// The name of the first template of a text.
fn template(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("${")?;
    Some(rest.split_once('}')?.0)
}

/// The variables of a pack, with the values that the node reported for them.
fn merged(defaults: &Variables, node: &Variables) -> Variables {
    let mut all = defaults.clone();
    for (name, values) in &mut all {
        for value in node.get(name).into_iter().flatten() {
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
    }
    all
}

/// The context of a definition: its pack, or the configuration.
struct Scope<'a> {
    name: &'a str,
    carry: &'a BTreeMap<String, Carry>,
    selection: &'a Selection,
    defaults: &'a Variables,
    node: &'a Variables,
    app: &'a str,
    units: &'a BTreeMap<String, BTreeMap<String, String>>,
}

impl Scope<'_> {
    fn events(&self, event: &EventName) -> Vec<String> {
        self.selection.fill(&event.0, self.defaults, self.app)
    }

    /// Sets the default root, and prefixes a carried name with its pack, so that two packs may use the same name.
    fn local(&self, expression: &Expression, root: Root) -> Expression {
        let mut expression = expression.clone();
        match expression.carried() {
            Some(name) if self.carry.contains_key(name) => {
                expression.path = vec![Step::Key(format!("{}.{name}", self.name))];
            }
            _ => {
                expression.root.get_or_insert(root);
            }
        }
        expression
    }

    fn conditions(&self, conditions: &[Condition]) -> Vec<Condition> {
        let local = |condition: &Condition| Condition {
            expression: self.local(&condition.expression, Root::Metadata),
            comparison: condition.comparison.clone(),
        };
        conditions.iter().map(local).collect()
    }

    fn carries(&self, carries: &BTreeMap<String, Carry>, compiled: &mut Compiled) {
        for (name, carry) in carries {
            let mut slot = |event: &EventName, expression: Option<Expression>| {
                for event in self.events(event) {
                    compiled.carries.push(CarrySlot {
                        event: EventName(event).parts(),
                        name: format!("{}.{name}", self.name),
                        expression: expression.clone(),
                    });
                }
            };
            carry.clear.iter().for_each(|event| slot(event, None));
            slot(&carry.event, Some(self.local(&carry.expression, Root::Metadata)));
        }
    }

    fn metrics(&self, definition: &Definition, compiled: &mut Compiled) {
        let events = self
            .selection
            .filled(&definition.event.0, self.defaults, self.app);
        for event in events {
            if definition.measurements.is_empty() {
                compiled.metrics.push(self.metric(definition, &event, None));
            }
            for measurement in &definition.measurements {
                compiled
                    .metrics
                    .push(self.metric(definition, &event, Some(measurement)));
            }
        }
    }

    fn unit(&self, definition: &Definition, event: &str, measurement: Option<&Expression>) -> Option<Unit> {
        if definition.unit.is_some() {
            return definition.unit.clone();
        }
        let key = key_of(measurement?)?;
        self.units.get(event)?.get(key).map(|unit| Unit::of(unit))
    }

    fn metric(&self, definition: &Definition, filled: &Filled, measurement: Option<&Expression>) -> Metric {
        let event = filled.text.as_str();
        let counter = definition.kind == DefinitionType::Counter;
        let unit = self.unit(definition, event, measurement);
        let mut keep = self.conditions(&definition.keep);
        let value = measurement.map(|m| self.local(m, Root::Measurements));
        if counter && let Some(value) = &value {
            keep.push(Condition {
                expression: value.clone(),
                comparison: crate::Comparison::Has,
            });
        }
        let prefix = event.rsplit_once('.').map_or(event, |(prefix, _)| prefix);
        let fill = |(label, value): (&String, &String)| {
            let value = value.replace("${prefix}", prefix);
            let value = filled.with.iter().fold(value, |value, (placeholder, with)| {
                value.replace(placeholder, with)
            });
            (label.clone(), value)
        };
        let mut fixed: Vec<_> = definition.labels.iter().map(fill).collect();
        if let (Some(label), Some(measurement)) = (&definition.measurement_tag, measurement) {
            fixed.push((label.clone(), key_of(measurement).unwrap_or_default().to_owned()));
        }
        Metric {
            name: self.selection.fill_one(&definition.name, self.defaults, self.app),
            help: definition.help.clone(),
            aggregation: aggregation(definition, unit.as_ref()),
            verbatim: definition.verbatim,
            event: EventName(event.to_owned()).parts(),
            value: value.filter(|_| !counter),
            raw_unit: unit
                .as_ref()
                .filter(|_| !counter)
                .map(|u| u.from.clone())
                .unwrap_or_default(),
            unit: match &unit {
                Some(unit) if definition.verbatim => unit.to.clone(),
                Some(unit) => unit.base().to_owned(),
                None => String::new(),
            },
            labels: definition
                .tags
                .iter()
                .map(|(label, expression)| (label.clone(), self.local(expression, Root::Metadata)))
                .collect(),
            fixed,
            keep,
            series: definition.series,
            expire_s: definition.expire_s,
        }
    }

    fn stream(
        &self,
        event: &str,
        measurements: &BTreeMap<String, String>,
        metadata: &BTreeMap<String, Expression>,
    ) -> Stream {
        let no_units = BTreeMap::new();
        let measurements = match measurements.is_empty() {
            true => self.units.get(event).unwrap_or(&no_units),
            false => measurements,
        };
        Stream {
            event: EventName(event.to_owned()).parts(),
            measurements: measurements
                .iter()
                .map(|(name, unit)| {
                    (
                        name.clone(),
                        unit.clone(),
                        Expression::key(Root::Measurements, name),
                    )
                })
                .collect(),
            metadata: metadata
                .iter()
                .map(|(name, expression)| (name.clone(), self.local(expression, Root::Metadata)))
                .collect(),
        }
    }

    /// Adds the stream of a definition's event, with the definition's names. Definitions of one event share one stream; a stream
    /// that a pack declares is not changed.
    fn implied_stream(&self, definition: &Definition, compiled: &mut Compiled) {
        for event in self.events(&definition.event) {
            if self.declared(&event) {
                continue;
            }
            let parts = EventName(event.clone()).parts();
            let at = match compiled.streams.iter().position(|stream| stream.event == parts) {
                Some(at) => at,
                None => {
                    let (none, no_metadata) = (BTreeMap::new(), BTreeMap::new());
                    compiled.streams.push(self.stream(&event, &none, &no_metadata));
                    compiled.streams.len() - 1
                }
            };
            for measurement in &definition.measurements {
                self.imply_measurement(&mut compiled.streams[at], definition, &event, measurement);
            }
            let stream = &mut compiled.streams[at];
            for (label, expression) in &definition.tags {
                if !stream.metadata.iter().any(|(name, _)| name == label) {
                    stream
                        .metadata
                        .push((label.clone(), self.local(expression, Root::Metadata)));
                }
            }
        }
    }

    fn imply_measurement(&self, stream: &mut Stream, definition: &Definition, event: &str, m: &Expression) {
        let Some(key) = key_of(m).filter(|_| m.root == Some(Root::Measurements)) else {
            return;
        };
        if stream.measurements.iter().any(|(name, ..)| name == key) {
            return;
        }
        let unit = self
            .unit(definition, event, Some(m))
            .map(|u| u.from)
            .unwrap_or_default();
        stream
            .measurements
            .push((key.to_owned(), unit, Expression::key(Root::Measurements, key)));
    }

    fn declared(&self, event: &str) -> bool {
        self.selection.packs.iter().any(|pack| {
            let variables = merged(&pack.variables, self.node);
            pack.streams.iter().any(|s| {
                self.selection
                    .fill(&s.event.0, &variables, self.app)
                    .iter()
                    .any(|e| e == event)
            })
        })
    }
}

fn key_of(expression: &Expression) -> Option<&str> {
    match expression.path.last()? {
        Step::Key(key) => Some(key),
        Step::Element(_) => None,
    }
}

fn aggregation(definition: &Definition, unit: Option<&Unit>) -> Aggregation {
    let base = match unit {
        Some(unit) if definition.verbatim => &unit.to,
        Some(unit) => unit.base(),
        None => "",
    };
    match (definition.kind, &definition.buckets) {
        (DefinitionType::Counter, _) => Aggregation::Counter,
        (DefinitionType::Sum, _) => Aggregation::Sum {
            monotonic: definition.monotonic,
        },
        (DefinitionType::LastValue, _) => Aggregation::LastValue,
        (DefinitionType::Distribution, Some(Buckets::Bounds(bounds))) => {
            let factor = unit
                .and_then(|unit| dichroic_model::units::conversion(&unit.to, base))
                .unwrap_or(dichroic_model::Factor::ONE);
            Aggregation::Buckets(bounds.iter().map(|bound| factor.apply(*bound)).collect())
        }
        (DefinitionType::Distribution, None) if base == "s" => Aggregation::Buckets(DURATION_BOUNDS.to_vec()),
        (_, Some(Buckets::Exponential { scale, octaves })) => exponential(base, *scale, *octaves),
        (DefinitionType::Summary | DefinitionType::Distribution, _) => exponential(base, None, None),
    }
}

/// Exponential buckets. The defaults use at most 272 buckets in the VM: from a microsecond to four hours, or from 1 to 2^40 bytes.
fn exponential(base: &str, scale: Option<i64>, octaves: Option<(i64, i64)>) -> Aggregation {
    let (default_scale, default_octaves) = match base {
        "s" => (3, (-20, 14)),
        "By" => (2, (0, 40)),
        _ => (2, (-20, 40)),
    };
    let octaves = octaves.unwrap_or(default_octaves);
    // The VM refuses more than 768 buckets: a wide range gets a coarser scale.
    let mut scale = scale.unwrap_or(default_scale);
    while scale > -4 && scale_buckets(scale, octaves) > 512 {
        scale -= 1;
    }
    Aggregation::Exponential { scale, octaves }
}

fn scale_buckets(scale: i64, (lo, hi): (i64, i64)) -> i64 {
    match scale {
        0.. => (hi - lo) << scale,
        _ => (hi - lo) >> -scale,
    }
}
