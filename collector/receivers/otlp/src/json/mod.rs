//! Converts OTLP's JSON to protobuf, so that both formats take the same path into the store.
//!
//! The rules are those of ProtoJSON with OTLP's exceptions: field names in lowerCamelCase (the names of the schema are accepted
//! too), unknown fields skipped, `null` the same as absent, 64-bit integers as strings or numbers, enums as numbers or names, NaN and
//! infinities as strings, ids in hexadecimal. The output is larger than the input by a small factor at most. Nesting is bounded by
//! `serde_json`'s limit of 128. Source: OTLP specification 1.x, "JSON Protobuf Encoding".

mod schema;

use crate::protobuf::put_varint;
use crate::service::Service;
use dichroic_model::text::{decode_base64, decode_hex};
use schema::{Field, Kind, Message};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// JSON that is not a request of its service.
#[derive(Debug, thiserror::Error)]
#[error("not an OTLP {} request in JSON: {source}", .service.noun())]
pub struct JsonError {
    /// The service the body was sent to.
    service: Service,
    source: serde_json::Error,
}

/// Converts a request to protobuf. An empty body is an empty request.
///
/// # Errors
/// [`JsonError`] with line and column.
pub fn to_protobuf(service: Service, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::with_capacity(json.len() / 2);
    if json.trim_ascii().is_empty() {
        return Ok(out);
    }
    let message = match service {
        Service::Metrics => &schema::METRICS,
        Service::Logs => &schema::LOGS,
        Service::Traces => &schema::TRACES,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = deserializer
        .deserialize_map(Fields {
            message,
            out: &mut out,
        })
        .and_then(|()| deserializer.end());
    read.map_err(|source| JsonError { service, source })?;
    Ok(out)
}

/// The service of a request, by its first top-level key that identifies one.
pub fn service_of(json: &[u8]) -> Option<Service> {
    struct First<'f>(&'f mut Option<Service>);

    impl<'de> Visitor<'de> for First<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<String>()? {
                *self.0 = match key.as_str() {
                    "resourceMetrics" | "resource_metrics" => Some(Service::Metrics),
                    "resourceLogs" | "resource_logs" => Some(Service::Logs),
                    "resourceSpans" | "resource_spans" => Some(Service::Traces),
                    _ => None,
                };
                if self.0.is_some() {
                    // Stops here; the body is read again with the schema of the service.
                    return Err(A::Error::custom("found"));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }

    let mut found = None;
    let _ = serde_json::Deserializer::from_slice(json).deserialize_map(First(&mut found));
    found
}

/// Writes the fields of an object as those of a message.
struct Fields<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(FieldName(self.message))? {
            match field {
                Some(field) if field.repeated => map.next_value_seed(List {
                    field,
                    out: &mut *self.out,
                })?,
                Some(field) => map.next_value_seed(One {
                    field,
                    out: &mut *self.out,
                })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Resolves a key to its field.
struct FieldName(&'static Message);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.0.iter().find(|field| same(field.name, key)))
    }
}

/// Whether a key is the field's JSON name (`dataPoints`) or its name in the schema (`data_points`).
fn same(name: &str, key: &str) -> bool {
    if name == key {
        return true;
    }
    let mut key = key.bytes();
    for byte in name.bytes() {
        if byte.is_ascii_uppercase() && key.next() != Some(b'_') {
            return false;
        }
        if key.next() != Some(byte.to_ascii_lowercase()) {
            return false;
        }
    }
    key.next().is_none()
}

/// One value of a field, with its tag.
struct One<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl One<'_> {
    fn tag(&mut self) {
        let wire = match self.field.kind {
            Kind::Message(_) | Kind::Text | Kind::Bytes | Kind::Hex => 2,
            Kind::Fixed | Kind::SignedFixed | Kind::Double => 1,
            Kind::Fixed32 => 5,
            Kind::Bool | Kind::Int | Kind::Unsigned | Kind::Signed | Kind::Enum(_) => 0,
        };
        put_varint(self.out, u64::from(self.field.number) << 3 | wire);
    }

    fn fixed(mut self, bits: u64) {
        self.tag();
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn varint(mut self, value: u64) {
        self.tag();
        put_varint(self.out, value);
    }

    fn bytes(mut self, bytes: &[u8]) {
        self.tag();
        put_varint(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn wrong<E: Error>(&self, got: &str) -> E {
        E::custom(format_args!(
            "{}: invalid value {got}; expected {}",
            self.field.name,
            Expected(self.field.kind)
        ))
    }

    /// An integer of any size.
    fn integer<E: Error>(self, n: i128) -> Result<(), E> {
        let fits = |min: i128, max: i128| (min..=max).contains(&n);
        match self.field.kind {
            Kind::Double => self.fixed((n as f64).to_bits()),
            Kind::Fixed if fits(0, u64::MAX.into()) => self.fixed(n as u64),
            Kind::SignedFixed if fits(i64::MIN.into(), i64::MAX.into()) => self.fixed(n as i64 as u64),
            Kind::Int if fits(i64::MIN.into(), i64::MAX.into()) => self.varint(n as i64 as u64),
            Kind::Unsigned if fits(0, u64::MAX.into()) => self.varint(n as u64),
            Kind::Signed if fits(i32::MIN.into(), i32::MAX.into()) => {
                let n = n as i32;
                self.varint(u64::from((n << 1 ^ n >> 31) as u32));
            }
            Kind::Fixed32 if fits(0, u32::MAX.into()) => {
                let mut this = self;
                this.tag();
                this.out.extend_from_slice(&(n as u32).to_le_bytes());
            }
            Kind::Enum(_) if fits(i32::MIN.into(), i32::MAX.into()) => self.varint(n as i64 as u64),
            _ => return Err(self.wrong(&n.to_string())),
        }
        Ok(())
    }
}

/// The JSON that a kind accepts, for error messages.
struct Expected(Kind);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Message(_) => "an object",
            Kind::Text => "a string",
            Kind::Bytes => "a base64 string",
            Kind::Hex => "a hexadecimal string",
            Kind::Bool => "a boolean",
            Kind::Double => "a number",
            Kind::Enum(_) => "a number or name of the enum",
            Kind::Int | Kind::SignedFixed => "a 64-bit integer",
            Kind::Unsigned | Kind::Fixed => "a non-negative 64-bit integer",
            Kind::Signed => "a 32-bit integer",
            Kind::Fixed32 => "a non-negative 32-bit integer",
        })
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", Expected(self.field.kind), self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => {
                self.varint(value.into());
                Ok(())
            }
            _ => Err(self.wrong(if value { "true" } else { "false" })),
        }
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        self.integer(n.into())
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        self.integer(n.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => {
                self.fixed(value.to_bits());
                Ok(())
            }
            // ProtoJSON accepts 5.0 and 5e0 as integers.
            _ if value.fract() == 0.0 && value.abs() < 2f64.powi(64) => self.integer(value as i128),
            _ => Err(self.wrong(&value.to_string())),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::Text => self.bytes(text.as_bytes()),
            Kind::Bytes => match decode_base64(text) {
                Some(bytes) => self.bytes(&bytes),
                None => return Err(self.wrong("a string")),
            },
            Kind::Hex => match decode_hex(text) {
                Some(bytes) => self.bytes(&bytes),
                None => return Err(self.wrong(&format!("{text:?}"))),
            },
            Kind::Double => match double(text) {
                Some(value) => self.fixed(value.to_bits()),
                None => return Err(self.wrong(&format!("{text:?}"))),
            },
            Kind::Enum(names) if names.iter().any(|(name, _)| *name == text) => {
                let number = names
                    .iter()
                    .find(|(name, _)| *name == text)
                    .map_or(0, |(_, n)| *n);
                self.varint(number);
            }
            Kind::Message(_) | Kind::Bool => return Err(self.wrong("a string")),
            _ => match text.parse::<i128>() {
                Ok(n) if !text.starts_with('+') => return self.integer(n),
                _ => return Err(self.wrong(&format!("{text:?}"))),
            },
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else {
            return Err(self.wrong("an object"));
        };
        self.tag();
        nested(self.out, |out| Fields { message, out }.visit_map(map))
    }
}

/// Writes a length-delimited message: the output of `write` after its length.
fn nested<E>(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let at = out.len();
    // Most lengths take one byte; a longer one moves the message.
    out.push(0);
    write(out)?;
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
    } else {
        let mut prefix = Vec::with_capacity(5);
        put_varint(&mut prefix, len as u64);
        out.splice(at..=at, prefix);
    }
    Ok(())
}

/// The elements of a repeated field.
struct List<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list in {}", self.field.name)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        loop {
            let (field, before) = (self.field, self.out.len());
            match elements.next_element_seed(One {
                field,
                out: &mut *self.out,
            })? {
                None => return Ok(()),
                // ProtoJSON does not allow null as an element.
                Some(()) if self.out.len() == before => {
                    return Err(A::Error::custom(format_args!(
                        "{}: invalid element null; remove it from the list",
                        field.name
                    )));
                }
                Some(()) => {}
            }
        }
    }
}

fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Rust's parser accepts words that JSON does not.
        _ if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_field_name_are_accepted() {
        for (name, key, expected) in [
            ("dataPoints", "dataPoints", true),
            ("dataPoints", "data_points", true),
            ("dataPoints", "datapoints", false),
            ("dataPoints", "data__points", false),
            ("startTimeUnixNano", "start_time_unix_nano", true),
            ("name", "name", true),
            ("name", "names", false),
        ] {
            assert_eq!(same(name, key), expected, "{key}");
        }
    }
}
