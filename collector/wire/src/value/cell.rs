//! Values read in place: checked once as a whole, then iterated without allocating.

use crate::error::{ErrorKind, Result};
use crate::input::Input;
use crate::limits::{STRING_BYTES, VALUE_DEPTH, VALUES_PER_FRAME};
use crate::value::encoding::{CANONICAL_NAN_BITS, cut_at, float_bits, put_bytes, put_cut};
use crate::value::tag;

/// A value read in place. Lists and maps are checked as a whole before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A 64-bit integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(&'a str),
    /// The prefix of a string that exceeded a limit.
    CutStr {
        /// Length of the whole string in bytes, above that of `kept`.
        whole_len: u32,
        /// The prefix, cut at a code point boundary.
        kept: &'a str,
    },
    /// Bytes that are not text.
    Bytes(&'a [u8]),
    /// A list.
    List(ListRef<'a>),
    /// A map.
    Map(MapRef<'a>),
}

/// A checked list, read in place. Lists are equal if their bytes are, because each has one encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRef<'a> {
    len: u16,
    items: &'a [u8],
}

/// A checked map, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRef<'a> {
    len: u16,
    entries: &'a [u8],
}

/// Number of values that the frame may still contain.
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

/// A scalar, or the number of elements that follow.
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
    // `previous` starts as the empty string, so this rejects an empty key too.
    if key <= *previous {
        return Err(input.error_at(at, ErrorKind::KeysNotAscending));
    }
    *previous = key;
    Ok(key)
}

/// Rejects counts that exceed the remaining bytes or the budget, before memory is reserved.
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

/// Checks one value and returns it, without allocating.
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

/// Reads a value that [`check`] has accepted, so an error cannot happen.
fn walk<'a>(input: &mut Input<'a>) -> Cell<'a> {
    check_at(input, &mut Budget(usize::MAX), 1).unwrap_or(Cell::Null)
}

impl<'a> Cell<'a> {
    /// The string, cut at a code point boundary if it is longer than `max_bytes`.
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
    /// Bytes that are not the canonical encoding of a value within the limits.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let mut input = Input::new(bytes, None);
        let cell = check(&mut input, &mut Budget::new())?;
        input.finish()?;
        Ok(cell)
    }

    /// Number of values, counting this one and all nested elements.
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
    /// [`ErrorKind::Unwritable`] if a string exceeds the limit of the format.
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

impl<'a> ListRef<'a> {
    /// Number of items.
    pub fn len(self) -> usize {
        self.len.into()
    }

    /// Whether it is empty.
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
    /// Number of entries.
    pub fn len(self) -> usize {
        self.len.into()
    }

    /// Whether it is empty.
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
    pub fn get(self, key: &str) -> Option<Cell<'a>> {
        self.iter().find(|(name, _)| *name == key).map(|(_, cell)| cell)
    }
}
