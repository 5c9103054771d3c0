//! Serializes definitions in the form in which they are read, for `dichroic check --print`.
//!
//! The output parses to an equal definition. It is the long form, not the text as written.

use crate::definition::{Buckets, Carry, Definition, DefinitionType, EventName, Unit};
use crate::expression::{Comparison, Condition, Expression, Root, Scalar, Step, Transform};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

impl Serialize for EventName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Serialize for Unit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self == Unit::of(&self.from) {
            true => serializer.serialize_str(&self.from),
            false => [&self.from, &self.to].serialize(serializer),
        }
    }
}

impl Serialize for Buckets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Buckets::Bounds(bounds) => bounds.serialize(serializer),
            Buckets::Exponential {
                scale: None,
                octaves: None,
            } => serializer.serialize_str("exponential"),
            Buckets::Exponential { scale, octaves } => {
                let mut map = serializer.serialize_map(None)?;
                if let Some(scale) = scale {
                    map.serialize_entry("scale", scale)?;
                }
                if let Some((lo, hi)) = octaves {
                    map.serialize_entry("octaves", &[lo, hi])?;
                }
                map.end()
            }
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Scalar::Bool(flag) => serializer.serialize_bool(*flag),
            Scalar::Int(int) => serializer.serialize_i64(*int),
            Scalar::Float(float) => serializer.serialize_f64(*float),
            Scalar::Str(text) => serializer.serialize_str(text),
        }
    }
}

struct Printed<'t>(&'t Transform);

impl Serialize for Printed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = self.0.name();
        match self.0 {
            Transform::Cut(bytes) => one(serializer, name, bytes),
            Transform::Before(text) => one(serializer, name, text),
            Transform::Allow(values) => one(serializer, name, values),
            Transform::Rename(names) => {
                let names: std::collections::BTreeMap<_, _> = names.iter().cloned().collect();
                one(serializer, name, &names)
            }
            Transform::Default(value) => one(serializer, name, value),
            _ => serializer.serialize_str(name),
        }
    }
}

fn one<S: Serializer>(serializer: S, key: &str, value: &impl Serialize) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(key, value)?;
    map.end()
}

/// Writes the keys of an expression into a map that may have other keys.
fn expression_keys<M: SerializeMap>(map: &mut M, expression: &Expression) -> Result<(), M::Error> {
    let step = |step: &Step| match step {
        Step::Key(key) => key.clone(),
        Step::Element(at) => at.to_string(),
    };
    match expression.carried() {
        Some(name) => map.serialize_entry("carry", name)?,
        None => {
            let path: Vec<String> = expression.path.iter().map(step).collect();
            map.serialize_entry("path", &path.join("."))?;
        }
    }
    match expression.root {
        Some(Root::Measurements) => map.serialize_entry("from", "measurements")?,
        Some(Root::Metadata) => map.serialize_entry("from", "metadata")?,
        Some(Root::Carry) | None => {}
    }
    if !expression.transforms.is_empty() {
        let transforms: Vec<_> = expression.transforms.iter().map(Printed).collect();
        map.serialize_entry("transform", &transforms)?;
    }
    Ok(())
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        expression_keys(&mut map, self)?;
        map.end()
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        expression_keys(&mut map, &self.expression)?;
        match &self.comparison {
            Comparison::Eq(value) => map.serialize_entry("eq", value)?,
            Comparison::Ne(value) => map.serialize_entry("ne", value)?,
            Comparison::Lt(value) => map.serialize_entry("lt", value)?,
            Comparison::Gt(value) => map.serialize_entry("gt", value)?,
            Comparison::In(values) => map.serialize_entry("in", values)?,
            Comparison::Has => map.serialize_entry("has", &true)?,
            Comparison::Lacks => map.serialize_entry("lacks", &true)?,
        }
        map.end()
    }
}

impl Serialize for Carry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("event", &self.event)?;
        map.serialize_entry("path", &self.expression)?;
        if !self.clear.is_empty() {
            map.serialize_entry("clear", &self.clear)?;
        }
        map.end()
    }
}

impl Serialize for DefinitionType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            DefinitionType::Counter => "counter",
            DefinitionType::Sum => "sum",
            DefinitionType::LastValue => "last_value",
            DefinitionType::Summary => "summary",
            DefinitionType::Distribution => "distribution",
        })
    }
}

/// A list; one item is written without brackets.
struct Short<'a, T>(&'a [T]);

impl<T: Serialize> Serialize for Short<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let [one] = self.0 {
            return one.serialize(serializer);
        }
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|item| list.serialize_element(item))?;
        list.end()
    }
}

impl Serialize for Definition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("event", &self.event)?;
        if !self.measurements.is_empty() {
            map.serialize_entry("measurement", &Short(&self.measurements))?;
        }
        if let Some(tag) = &self.measurement_tag {
            map.serialize_entry("measurement_tag", tag)?;
        }
        if let Some(unit) = &self.unit {
            map.serialize_entry("unit", unit)?;
        }
        if !self.tags.is_empty() {
            map.serialize_entry("tags", &self.tags)?;
        }
        if !self.labels.is_empty() {
            map.serialize_entry("labels", &self.labels)?;
        }
        if !self.keep.is_empty() {
            map.serialize_entry("keep", &self.keep)?;
        }
        if let Some(buckets) = &self.buckets {
            map.serialize_entry("buckets", buckets)?;
        }
        if !self.help.is_empty() {
            map.serialize_entry("help", &self.help)?;
        }
        map.serialize_entry("series", &self.series)?;
        map.serialize_entry("expire_s", &self.expire_s)?;
        if self.kind == DefinitionType::Sum {
            map.serialize_entry("monotonic", &self.monotonic)?;
        }
        if !self.carry.is_empty() {
            map.serialize_entry("carry", &self.carry)?;
        }
        if self.verbatim {
            map.serialize_entry("verbatim", &true)?;
        }
        if !self.unless.is_empty() {
            map.serialize_entry("unless", &self.unless)?;
        }
        map.end()
    }
}
