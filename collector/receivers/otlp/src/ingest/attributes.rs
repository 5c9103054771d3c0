//! OTLP attributes: as labels, where lists, maps and bytes become text, and as values of log records, where they keep their type.
//!
//! Decoded only for a new series, a resource or a log record; a known series' attributes are hashed, not decoded.

use crate::protobuf::{Content, Cursor, ProtobufError, merge, submessage, text};
use dichroic_model::AttributeValue;
use dichroic_model::text::encode_base64;
use dichroic_wire as wire;
use std::borrow::Cow;
use std::fmt::Write;

/// Most levels of nested lists and maps.
const DEPTH: usize = 32;

/// A key and its value.
pub(super) type Pair<'a> = (Cow<'a, str>, AttributeValue<'a>);

/// One level of an OTLP `AnyValue`.
enum Any<'a> {
    Nothing,
    Str(&'a str),
    Bool(bool),
    Int(i64),
    Double(f64),
    Array(Cow<'a, [u8]>),
    Map(Cow<'a, [u8]>),
    Bytes(&'a [u8]),
}

fn any(message: &[u8]) -> Result<Any<'_>, ProtobufError> {
    let mut value = Any::Nothing;
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.field()? {
        value = match (field, value) {
            ((1, Content::Bytes(bytes)), _) => Any::Str(text(bytes)?),
            ((2, Content::Varint(n)), _) => Any::Bool(n != 0),
            ((3, Content::Varint(n)), _) => Any::Int(n as i64),
            ((4, Content::Fixed64(bits)), _) => Any::Double(f64::from_bits(bits)),
            // protobuf merges the parts of a list or map.
            ((5, Content::Bytes(part)), Any::Array(mut whole)) => {
                merge(&mut whole, part);
                Any::Array(whole)
            }
            ((5, Content::Bytes(whole)), _) => Any::Array(Cow::Borrowed(whole)),
            ((6, Content::Bytes(part)), Any::Map(mut whole)) => {
                merge(&mut whole, part);
                Any::Map(whole)
            }
            ((6, Content::Bytes(whole)), _) => Any::Map(Cow::Borrowed(whole)),
            ((7, Content::Bytes(bytes)), _) => Any::Bytes(bytes),
            ((1..=7, _), _) => return Err(ProtobufError::Type),
            (_, value) => value,
        };
    }
    Ok(value)
}

/// Key and `AnyValue` of a `KeyValue`.
fn key_value(message: &[u8]) -> Result<(&str, Cow<'_, [u8]>), ProtobufError> {
    let mut key = "";
    let mut cursor = Cursor::new(message);
    while let Some((number, content)) = cursor.field()? {
        match (number, content) {
            (1, Content::Bytes(bytes)) => key = text(bytes)?,
            (1, _) => return Err(ProtobufError::Type),
            _ => {}
        }
    }
    Ok((key, submessage(message, 2)?))
}

/// Calls `each` for every message in the fields `number` of `fields`.
fn messages<'a>(
    fields: &'a [u8],
    number: u32,
    mut each: impl FnMut(&'a [u8]) -> Result<(), ProtobufError>,
) -> Result<(), ProtobufError> {
    let mut cursor = Cursor::new(fields);
    while let Some((field, content)) = cursor.field()? {
        match content {
            Content::Bytes(bytes) if field == number => each(bytes)?,
            _ if field == number => return Err(ProtobufError::Type),
            _ => {}
        }
    }
    Ok(())
}

/// The attributes in the fields `number` of `fields`. A pair with an empty key is skipped.
pub(super) fn pairs(fields: &[u8], number: u32) -> Result<Vec<Pair<'_>>, ProtobufError> {
    let mut pairs = Vec::new();
    messages(fields, number, |message| {
        let (key, value) = key_value(message)?;
        if !key.is_empty() {
            let value = match value {
                Cow::Borrowed(value) => label(any(value)?)?,
                Cow::Owned(value) => owned(label(any(&value)?)?),
            };
            pairs.push((Cow::Borrowed(key), value));
        }
        Ok(())
    })?;
    Ok(pairs)
}

fn label(value: Any<'_>) -> Result<AttributeValue<'_>, ProtobufError> {
    Ok(match value {
        Any::Nothing => AttributeValue::Null,
        Any::Str(text) => AttributeValue::Str(Cow::Borrowed(text)),
        Any::Bool(value) => AttributeValue::Bool(value),
        Any::Int(value) => AttributeValue::Int(value),
        Any::Double(value) => AttributeValue::Float(value),
        Any::Bytes(bytes) => AttributeValue::Str(Cow::Owned(encode_base64(bytes))),
        Any::Array(_) | Any::Map(_) => {
            let mut json = String::new();
            render(&value, &mut json, 1)?;
            AttributeValue::Str(Cow::Owned(json))
        }
    })
}

fn owned(value: AttributeValue<'_>) -> AttributeValue<'static> {
    match value {
        AttributeValue::Null => AttributeValue::Null,
        AttributeValue::Bool(value) => AttributeValue::Bool(value),
        AttributeValue::Int(value) => AttributeValue::Int(value),
        AttributeValue::Float(value) => AttributeValue::Float(value),
        AttributeValue::Str(text) => AttributeValue::Str(Cow::Owned(text.into_owned())),
    }
}

/// Writes a value as JSON. Source: OpenTelemetry specification, "AnyValue representation for non-OTLP protocols".
fn render(value: &Any<'_>, out: &mut String, depth: usize) -> Result<(), ProtobufError> {
    if depth > DEPTH {
        return Err(ProtobufError::Depth);
    }
    match value {
        Any::Nothing => out.push_str("null"),
        Any::Str(text) => quote(text, out),
        Any::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Any::Int(value) => write!(out, "{value}").expect("writing to a string cannot fail"),
        Any::Double(value) if value.is_finite() => {
            write!(out, "{value}").expect("writing to a string cannot fail")
        }
        Any::Double(value) => quote(non_finite(*value), out),
        Any::Bytes(bytes) => quote(&encode_base64(bytes), out),
        Any::Array(items) => {
            out.push('[');
            let mut first = true;
            messages(items, 1, |item| {
                comma(&mut first, out);
                render(&any(item)?, out, depth + 1)
            })?;
            out.push(']');
        }
        Any::Map(entries) => {
            out.push('{');
            let mut first = true;
            messages(entries, 1, |entry| {
                let (key, value) = key_value(entry)?;
                comma(&mut first, out);
                quote(key, out);
                out.push(':');
                render(&any(&value)?, out, depth + 1)
            })?;
            out.push('}');
        }
    }
    Ok(())
}

fn comma(first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

fn non_finite(value: f64) -> &'static str {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32).expect("writing to a string cannot fail"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Bytes of a log record's text; the rest is cut.
const LOG_TEXT_BYTES: usize = 32 * 1024;
/// Most elements of a list or map in a log record; the rest is left out.
const LOG_ELEMENTS: usize = 4_096;

/// The attributes in the fields `number` as a wire map; of equal keys the last wins.
pub(super) fn wire_map(fields: &[u8], number: u32, depth: usize) -> Result<wire::Map, ProtobufError> {
    let mut map = wire::Map::new();
    messages(fields, number, |message| {
        let (key, value) = key_value(message)?;
        let key = dichroic_model::attributes::cut(key, wire::limits::KEY_BYTES);
        if !key.is_empty() && (map.len() < LOG_ELEMENTS || map.contains_key(key)) {
            map.insert(key.to_owned(), wire_value(&value, depth + 1)?);
        }
        Ok(())
    })?;
    Ok(map)
}

/// A value as the wire encodes it; nesting beyond the wire's limit becomes JSON text.
pub(super) fn wire_value(message: &[u8], depth: usize) -> Result<wire::Value, ProtobufError> {
    let value = any(message)?;
    Ok(match value {
        Any::Nothing => wire::Value::Null,
        Any::Str(text) => wire::Value::cut(text, LOG_TEXT_BYTES),
        Any::Bool(value) => wire::Value::Bool(value),
        Any::Int(value) => wire::Value::Int(value),
        Any::Double(value) => wire::Value::Float(value),
        Any::Bytes(bytes) => wire::Value::Bytes(bytes[..bytes.len().min(LOG_TEXT_BYTES)].to_vec()),
        // One level is reserved for the scalars inside.
        Any::Array(_) | Any::Map(_) if depth + 1 > wire::limits::VALUE_DEPTH => {
            let mut json = String::new();
            render(&value, &mut json, depth)?;
            wire::Value::cut(&json, LOG_TEXT_BYTES)
        }
        Any::Array(items) => {
            let mut list = Vec::new();
            messages(&items, 1, |item| {
                if list.len() < LOG_ELEMENTS {
                    list.push(wire_value(item, depth + 1)?);
                }
                Ok(())
            })?;
            wire::Value::List(list)
        }
        Any::Map(entries) => wire::Value::Map(wire_map(&entries, 1, depth)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
    };
    use prost::Message;

    fn some(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn pair(key: &str, value: Option<Value>) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.map(some),
            ..Default::default()
        }
    }

    #[test]
    fn values_become_labels() {
        let check = |value: Option<Value>, expected: &str| {
            let holder = KeyValueList {
                values: vec![pair("k", value)],
            };
            let bytes = holder.encode_to_vec();
            let pairs = pairs(&bytes, 1).unwrap();
            assert_eq!(pairs[0].1.render(), expected);
        };
        let list = |values: Vec<Value>| {
            Value::ArrayValue(ArrayValue {
                values: values.into_iter().map(some).collect(),
            })
        };
        check(None, "");
        check(Some(Value::StringValue("x".into())), "x");
        check(Some(Value::BoolValue(true)), "true");
        check(Some(Value::IntValue(-1)), "-1");
        check(Some(Value::DoubleValue(0.5)), "0.5");
        check(Some(Value::BytesValue(b"hello".to_vec())), "aGVsbG8=");
        check(
            Some(list(vec![Value::StringValue("a\"\n".into()), Value::IntValue(1)])),
            r#"["a\"\n",1]"#,
        );
        check(
            Some(list(vec![Value::DoubleValue(f64::NEG_INFINITY)])),
            r#"["-Infinity"]"#,
        );
        let map = Value::KvlistValue(KeyValueList {
            values: vec![pair("a", Some(list(vec![]))), pair("b", None)],
        });
        check(Some(map), r#"{"a":[],"b":null}"#);
    }
}
