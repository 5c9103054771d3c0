//! Schemas and sources as the wire's definitions.

use super::written;
use dichroic_model::{AttributeValue, Attributes, EventKind, EventSchema, Source};
use dichroic_wire::define::{self, DefineKind, DefineWriter};
use dichroic_wire::{Map, StreamKind, Value, limits};

pub(super) fn release(out: &mut Vec<u8>, kind: DefineKind, id: u32) {
    let mut writer = DefineWriter::begin(out, kind, limits::BODY_BYTES_BEFORE_HELLO);
    written(writer.release(id).map(drop));
    written(writer.finish());
}

pub(super) fn schema_map(schema: &EventSchema) -> Map {
    let kind = match schema.kind {
        EventKind::Event => StreamKind::Event,
        EventKind::Log => StreamKind::Log,
    };
    define::Schema {
        name: schema.name.clone(),
        kind,
        measurements: schema.measurements.clone(),
        metadata: schema.metadata.clone(),
    }
    .to_map()
}

pub(super) fn source_map(source: &Source, with_resource: bool) -> Map {
    let resource = if with_resource {
        attribute_map(&source.spec.resource)
    } else {
        Map::new()
    };
    define::Source {
        name: source.name().to_owned(),
        runtime: source.spec.runtime.as_str().to_owned(),
        resource,
    }
    .to_map()
}

/// Attributes as a wire map, without names that it cannot represent.
pub(crate) fn attribute_map(attributes: &Attributes) -> Map {
    let fits = |name: &str| (1..=limits::KEY_BYTES).contains(&name.len());
    attributes
        .iter()
        .filter(|(name, _)| fits(name))
        .map(|(name, value)| (name.to_owned(), attribute_value(value)))
        .collect()
}

pub(crate) fn attribute_value(value: AttributeValue<'_>) -> Value {
    match value {
        AttributeValue::Null => Value::Null,
        AttributeValue::Bool(flag) => Value::Bool(flag),
        AttributeValue::Int(int) => Value::Int(int),
        AttributeValue::Float(float) => Value::Float(float),
        AttributeValue::Str(text) => Value::cut(&text, limits::STRING_BYTES),
    }
}
