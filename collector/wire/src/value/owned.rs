//! Values that own their content.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::limits::{VALUE_DEPTH, VALUES_PER_FRAME};
use crate::value::cell::{Cell, MapRef};
use crate::value::encoding::{bounded, float_bits, put_bytes, put_count, put_cut, put_key, put_map_head};
use crate::value::tag;

/// A map: keys of 1 to 255 bytes, in wire order.
pub type Map = BTreeMap<String, Value>;

/// A value that owns its content.
///
/// Values are equal if their encodings are: all NaNs are equal, 0.0 differs from −0.0.
#[derive(Clone, Debug)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A 64-bit integer; larger ones are sent as floats.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(String),
    /// The prefix of a string that exceeded a limit.
    Cut {
        /// Length of the whole string in bytes, above that of `kept`.
        whole_len: u32,
        /// The prefix, cut at a code point boundary.
        kept: String,
    },
    /// Bytes that are not text.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(Map),
}

impl Value {
    /// Decodes bytes that are one value and nothing else.
    ///
    /// # Errors
    /// Bytes that are not the canonical encoding of a value within the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Cell::decode(bytes).map(Cell::to_value)
    }

    /// Appends the encoding.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] if a string, key, list, map or the nesting exceeds a limit of the format; `out` is then unchanged.
    /// Every NaN is written as the canonical NaN.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let written = self.encode_at(out, 1);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn encode_at(&self, out: &mut Vec<u8>, depth: usize) -> Result<()> {
        if matches!(self, Self::List(_) | Self::Map(_)) {
            bounded("depth", depth, VALUE_DEPTH)?;
        }
        match self {
            Self::Null => out.push(tag::NULL),
            Self::Bool(value) => out.push(tag::FALSE + u8::from(*value)),
            Self::Int(value) => {
                out.push(tag::INT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Float(value) => {
                out.push(tag::FLOAT);
                out.extend_from_slice(&float_bits(*value).to_le_bytes());
            }
            Self::Str(value) => {
                out.push(tag::STR);
                put_bytes(out, value.as_bytes())?;
            }
            Self::Cut { whole_len, kept } => put_cut(out, *whole_len, kept)?,
            Self::Bytes(value) => {
                out.push(tag::BYTES);
                put_bytes(out, value)?;
            }
            Self::List(items) => {
                out.push(tag::LIST);
                put_count(out, items.len())?;
                for item in items {
                    item.encode_at(out, depth + 1)?;
                }
            }
            Self::Map(map) => {
                put_map_head(out, map.len())?;
                for (key, value) in map {
                    put_key(out, key)?;
                    value.encode_at(out, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// The string, cut at a code point boundary if it is longer than `max_bytes`.
    pub fn cut(text: &str, max_bytes: usize) -> Self {
        Cell::cut(text, max_bytes).to_value()
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The whole string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(value) => Some(value),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }
}

/// Number of values in a map, counting the map and all nested elements.
pub(crate) fn count_values(map: &Map) -> usize {
    fn count(value: &Value) -> usize {
        match value {
            Value::List(items) => 1 + items.iter().map(count).sum::<usize>(),
            Value::Map(map) => count_values(map),
            _ => 1,
        }
    }
    1 + map.values().map(count).sum::<usize>()
}

/// Appends a map as a value.
pub(crate) fn encode_map(map: &Map, out: &mut Vec<u8>) -> Result<()> {
    bounded("values of a map", count_values(map), VALUES_PER_FRAME)?;
    put_map_head(out, map.len())?;
    for (key, value) in map {
        put_key(out, key)?;
        value.encode_at(out, 2)?;
    }
    Ok(())
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => float_bits(*a) == float_bits(*b),
            (Self::Str(a), Self::Str(b)) => a == b,
            (
                Self::Cut {
                    whole_len: a,
                    kept: b,
                },
                Self::Cut {
                    whole_len: c,
                    kept: d,
                },
            ) => a == c && b == d,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Str(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Str(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(value: Vec<Value>) -> Self {
        Self::List(value)
    }
}

impl From<Map> for Value {
    fn from(value: Map) -> Self {
        Self::Map(value)
    }
}

impl Cell<'_> {
    /// A copy that owns its content.
    pub fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Float(value) => Value::Float(value),
            Self::Str(value) => Value::Str(value.to_owned()),
            Self::CutStr { whole_len, kept } => Value::Cut {
                whole_len,
                kept: kept.to_owned(),
            },
            Self::Bytes(value) => Value::Bytes(value.to_vec()),
            Self::List(list) => {
                let mut items = Vec::with_capacity(list.len());
                items.extend(list.iter().map(Cell::to_value));
                Value::List(items)
            }
            Self::Map(map) => Value::Map(map.to_map()),
        }
    }
}

impl MapRef<'_> {
    /// A copy that owns its content.
    pub fn to_map(self) -> Map {
        self.iter()
            .map(|(key, cell)| (key.to_owned(), cell.to_value()))
            .collect()
    }
}
