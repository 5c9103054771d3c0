//! Tagged values: what HELLO, PLAN, DEFINE and the value table of EVENTS are made of. [`Value`] owns its content;
//! [`Cell`] is the same read in place. One encoding per value: whatever else the bytes say is refused.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::input::Input;
use crate::limits::{ELEMENTS, KEY_BYTES, STRING_BYTES, VALUE_DEPTH, VALUES_PER_FRAME};

/// The one NaN of the format.
pub const CANONICAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

/// A map: keys of 1 to 255 bytes, in the order in which they are sent.
pub type Map = BTreeMap<String, Value>;

/// A value that owns its content.
///
/// Equality is that of the encoding: every NaN equals every other (they encode alike), 0.0 differs from −0.0.
#[derive(Clone, Debug)]
pub enum Value {
    /// Absent.
    Null,
    /// True or false.
    Bool(bool),
    /// A 64-bit integer; larger ones travel as floats.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(String),
    /// The beginning of a string that was too long.
    Cut {
        /// Bytes of the whole string, more than are kept.
        whole_len: u32,
        /// What was kept, ending on a code point.
        kept: String,
    },
    /// Bytes that are not text.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A map.
    Map(Map),
}

/// A value read in place. Lists and maps were checked as a whole and are walked by their iterators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Absent.
    Null,
    /// True or false.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(&'a str),
    /// The beginning of a string that was too long.
    CutStr {
        /// Bytes of the whole string, more than are kept.
        whole_len: u32,
        /// What was kept.
        kept: &'a str,
    },
    /// Bytes that are not text.
    Bytes(&'a [u8]),
    /// A list.
    List(ListRef<'a>),
    /// A map.
    Map(MapRef<'a>),
}

/// A checked list, in place. Equal when its bytes are, which the canonical form makes the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRef<'a> {
    len: u16,
    items: &'a [u8],
}

/// A checked map, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRef<'a> {
    len: u16,
    entries: &'a [u8],
}

mod tag {
    pub const NULL: u8 = 0;
    pub const FALSE: u8 = 1;
    pub const TRUE: u8 = 2;
    pub const INT: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const STR: u8 = 5;
    pub const CUT: u8 = 6;
    pub const BYTES: u8 = 7;
    pub const LIST: u8 = 8;
    pub const MAP: u8 = 9;
}

/// What a frame may still hold: the count of values left.
pub(crate) struct Budget(usize);

impl Budget {
    pub fn new() -> Self {
        Self(VALUES_PER_FRAME)
    }

    fn spend(&mut self, input: &Input<'_>, values: usize) -> Result<()> {
        match self.0.checked_sub(values) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(input.error(ErrorKind::TooManyValues)),
        }
    }
}

/// A scalar, or the count of what follows.
enum Head<'a> {
    Scalar(Cell<'a>),
    List(u16),
    Map(u16),
}

fn head<'a>(input: &mut Input<'a>) -> Result<Head<'a>> {
    let at = input.at();
    Ok(Head::Scalar(match input.u8()? {
        tag::NULL => Cell::Null,
        tag::FALSE => Cell::Bool(false),
        tag::TRUE => Cell::Bool(true),
        tag::INT => Cell::Int(input.i64()?),
        tag::FLOAT => Cell::Float(float(input)?),
        tag::STR => Cell::Str(string(input)?),
        tag::CUT => {
            let whole_len = input.u32()?;
            let kept = string(input)?;
            if whole_len as usize <= kept.len() {
                return Err(input.error_at(
                    at,
                    ErrorKind::NotCut {
                        whole: whole_len,
                        kept: kept.len(),
                    },
                ));
            }
            Cell::CutStr { whole_len, kept }
        }
        tag::BYTES => {
            let len = input.u16()?;
            Cell::Bytes(input.take(len.into())?)
        }
        tag::LIST => return Ok(Head::List(input.u16()?)),
        tag::MAP => return Ok(Head::Map(input.u16()?)),
        code => return Err(input.error_at(at, ErrorKind::UnknownCode { what: "tag", code })),
    }))
}

fn float(input: &mut Input<'_>) -> Result<f64> {
    let at = input.at();
    let float = f64::from_bits(input.u64()?);
    if float.is_nan() && float.to_bits() != CANONICAL_NAN_BITS {
        return Err(input.error_at(at, ErrorKind::NotCanonicalNan));
    }
    Ok(float)
}

fn string<'a>(input: &mut Input<'a>) -> Result<&'a str> {
    let len = input.u16()?;
    input.str(len.into())
}

fn key<'a>(input: &mut Input<'a>, previous: &mut &'a str) -> Result<&'a str> {
    let at = input.at();
    let len = input.u8()?;
    let key = input.str(len.into())?;
    // An empty key is never above the empty string that `previous` starts as, so this refuses it too.
    if key <= *previous {
        return Err(input.error_at(at, ErrorKind::KeysNotAscending));
    }
    *previous = key;
    Ok(key)
}

/// Refuses counts that the remaining bytes cannot hold or the budget does not allow, before anything is reserved.
fn admit(input: &Input<'_>, budget: &mut Budget, count: u16, smallest: usize) -> Result<()> {
    let needed = usize::from(count) * smallest;
    if needed > input.left() {
        return Err(input.error(ErrorKind::Truncated {
            needed,
            left: input.left(),
        }));
    }
    budget.spend(input, count.into())
}

const SMALLEST_ITEM: usize = 1;
const SMALLEST_ENTRY: usize = 3;

/// Checks one value and says what it is, without allocating.
pub(crate) fn check<'a>(input: &mut Input<'a>, budget: &mut Budget) -> Result<Cell<'a>> {
    budget.spend(input, 1)?;
    check_at(input, budget, 1)
}

fn check_at<'a>(input: &mut Input<'a>, budget: &mut Budget, depth: usize) -> Result<Cell<'a>> {
    let at = input.at();
    match head(input)? {
        Head::Scalar(scalar) => Ok(scalar),
        Head::List(_) | Head::Map(_) if depth > VALUE_DEPTH => Err(input.error_at(at, ErrorKind::TooDeep)),
        Head::List(len) => {
            admit(input, budget, len, SMALLEST_ITEM)?;
            let from = input.at();
            for _ in 0..len {
                check_at(input, budget, depth + 1)?;
            }
            Ok(Cell::List(ListRef {
                len,
                items: input.between(from, input.at()),
            }))
        }
        Head::Map(len) => {
            admit(input, budget, len, SMALLEST_ENTRY)?;
            let from = input.at();
            let mut previous = "";
            for _ in 0..len {
                key(input, &mut previous)?;
                check_at(input, budget, depth + 1)?;
            }
            Ok(Cell::Map(MapRef {
                len,
                entries: input.between(from, input.at()),
            }))
        }
    }
}

/// Walks over bytes that [`check`] accepted; what cannot happen any more reads as null.
fn walk<'a>(input: &mut Input<'a>) -> Cell<'a> {
    check_at(input, &mut Budget(usize::MAX), 1).unwrap_or(Cell::Null)
}

impl Value {
    /// Decodes bytes that are one value and nothing else.
    ///
    /// # Errors
    /// Whatever is not the one encoding of a value within the limits.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Cell::decode(bytes).map(Cell::to_value)
    }

    /// Appends the encoding.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] when a string, key, list, map or the nesting is larger than the format holds;
    /// `out` is then as it was. A float that is NaN is written as the one NaN.
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

    /// Cuts a string that is longer than `max_bytes` on a code point; shorter ones stay whole.
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

/// Values in a map, counting itself and every element within.
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

fn put_map_head(out: &mut Vec<u8>, len: usize) -> Result<()> {
    out.push(tag::MAP);
    put_count(out, len)
}

fn put_count(out: &mut Vec<u8>, len: usize) -> Result<()> {
    bounded("elements", len, ELEMENTS)?;
    out.extend_from_slice(&(len as u16).to_le_bytes());
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    bounded("string", bytes.len(), STRING_BYTES)?;
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_key(out: &mut Vec<u8>, key: &str) -> Result<()> {
    bounded("key", key.len(), KEY_BYTES)?;
    if key.is_empty() {
        return Err(Error::new(
            None,
            0,
            ErrorKind::Unwritable {
                what: "empty key",
                got: 0,
                max: KEY_BYTES,
            },
        ));
    }
    out.push(key.len() as u8);
    out.extend_from_slice(key.as_bytes());
    Ok(())
}

fn put_cut(out: &mut Vec<u8>, whole_len: u32, kept: &str) -> Result<()> {
    out.push(tag::CUT);
    bounded(
        "kept part of a cut string",
        kept.len(),
        (whole_len as usize).saturating_sub(1),
    )?;
    out.extend_from_slice(&whole_len.to_le_bytes());
    put_bytes(out, kept.as_bytes())
}

pub(crate) fn bounded(what: &'static str, got: usize, max: usize) -> Result<()> {
    if got > max {
        return Err(Error::new(None, 0, ErrorKind::Unwritable { what, got, max }));
    }
    Ok(())
}

pub(crate) fn float_bits(value: f64) -> u64 {
    if value.is_nan() {
        CANONICAL_NAN_BITS
    } else {
        value.to_bits()
    }
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

impl<'a> Cell<'a> {
    /// Cuts a string that is longer than `max_bytes` on a code point; shorter ones stay whole.
    pub fn cut(text: &'a str, max_bytes: usize) -> Self {
        let max_bytes = max_bytes.min(STRING_BYTES);
        if text.len() <= max_bytes {
            return Self::Str(text);
        }
        let whole_len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Self::CutStr {
            whole_len,
            kept: cut_at(text, max_bytes),
        }
    }

    /// Checks bytes that are one value and nothing else, and reads them in place.
    ///
    /// # Errors
    /// Whatever is not the one encoding of a value within the limits.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let mut input = Input::new(bytes, None);
        let cell = check(&mut input, &mut Budget::new())?;
        input.finish()?;
        Ok(cell)
    }

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

    /// Values in this one, counting itself and every element within.
    pub(crate) fn count_values(self) -> usize {
        match self {
            Self::List(list) => 1 + list.iter().map(Cell::count_values).sum::<usize>(),
            Self::Map(map) => 1 + map.iter().map(|(_, cell)| cell.count_values()).sum::<usize>(),
            _ => 1,
        }
    }

    /// Appends the encoding.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] when a string is longer than the format holds.
    pub fn encode(self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Null => out.push(tag::NULL),
            Self::Bool(value) => out.push(tag::FALSE + u8::from(value)),
            Self::Int(value) => {
                out.push(tag::INT);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Float(value) => {
                out.push(tag::FLOAT);
                out.extend_from_slice(&float_bits(value).to_le_bytes());
            }
            Self::Str(value) => {
                out.push(tag::STR);
                put_bytes(out, value.as_bytes())?;
            }
            Self::CutStr { whole_len, kept } => put_cut(out, whole_len, kept)?,
            Self::Bytes(value) => {
                out.push(tag::BYTES);
                put_bytes(out, value)?;
            }
            Self::List(list) => {
                out.push(tag::LIST);
                out.extend_from_slice(&list.len.to_le_bytes());
                out.extend_from_slice(list.items);
            }
            Self::Map(map) => {
                out.push(tag::MAP);
                out.extend_from_slice(&map.len.to_le_bytes());
                out.extend_from_slice(map.entries);
            }
        }
        Ok(())
    }
}

/// The longest beginning of at most `max_bytes` that ends on a code point.
pub(crate) fn cut_at(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

impl<'a> ListRef<'a> {
    /// Count of items.
    pub fn len(self) -> usize {
        self.len.into()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The items in order.
    pub fn iter(self) -> impl Iterator<Item = Cell<'a>> {
        let mut input = Input::new(self.items, None);
        (0..self.len).map(move |_| walk(&mut input))
    }
}

impl<'a> MapRef<'a> {
    /// Count of entries.
    pub fn len(self) -> usize {
        self.len.into()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The entries, keys ascending.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Cell<'a>)> {
        let mut input = Input::new(self.entries, None);
        (0..self.len).map(move |_| {
            let name = key(&mut input, &mut "").unwrap_or("");
            (name, walk(&mut input))
        })
    }

    /// The value of a key.
    pub fn get(self, wanted: &str) -> Option<Cell<'a>> {
        self.iter().find(|(key, _)| *key == wanted).map(|(_, cell)| cell)
    }

    /// A copy that owns its content.
    pub fn to_map(self) -> Map {
        self.iter()
            .map(|(key, cell)| (key.to_owned(), cell.to_value()))
            .collect()
    }
}
