//! EVENTS, read in place: a checked view of the columns and the tables of strings and values of a frame.
//!
//! [`Events::decode`] checks everything once; later reads cannot fail. Only [`EventsScratch`] allocates: a connection
//! reuses one for all frames.

use crate::error::{Error, ErrorKind, Result};
use crate::frame;
use crate::frame_type::FrameType;
use crate::input::Input;
use crate::limits::{EVENT_COLUMNS, EVENT_ROWS, EVENT_STRINGS, EVENT_VALUES, HEADER_BYTES};
use crate::value::{self, Budget, Cell};

/// Bytes of a body before the kinds of its columns.
pub const FIXED_BYTES: usize = 23;

/// Identity of the rows of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsHeader {
    /// Id of the schema.
    pub schema: u32,
    /// Id of the source; 0 from a relay, whose connection is the source.
    pub source: u32,
    /// Position of the first row in the collector's order; 0 from a relay.
    pub position: u64,
}

/// The kind of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ColumnKind {
    /// No cells: all rows are null.
    Absent = 0,
    /// i64.
    Int = 1,
    /// f64.
    Float = 2,
    /// References into the tables.
    Reference = 3,
}

impl ColumnKind {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Absent,
            1 => Self::Int,
            2 => Self::Float,
            3 => Self::Reference,
            _ => return None,
        })
    }

    /// Bytes of a row.
    pub fn row_bytes(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Int | Self::Float => 8,
            Self::Reference => 2,
        }
    }
}

/// Offsets of the table entries of a frame. Keep one per connection.
#[derive(Clone, Debug, Default)]
pub struct EventsScratch {
    /// Start of each column.
    columns: Vec<u32>,
    /// Start of each string in the bytes of the strings, and their end.
    strings: Vec<u32>,
    /// Start of each value in the bytes of the values.
    values: Vec<u32>,
}

/// A checked EVENTS body.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a> {
    header: EventsHeader,
    rows: usize,
    body: &'a [u8],
    /// One code per column.
    kinds: &'a [u8],
    column_starts: &'a [u32],
    string_starts: &'a [u32],
    string_bytes: &'a str,
    value_starts: &'a [u32],
    value_bytes: &'a [u8],
}

impl<'a> Events<'a> {
    /// Checks a whole body: counts, kinds, references, UTF-8, values.
    ///
    /// # Errors
    /// A body that violates the layout. The caller must check that the schema is defined and has this number of
    /// [`columns`](Self::columns).
    pub fn decode(body: &'a [u8], scratch: &'a mut EventsScratch) -> Result<Self> {
        let mut input = Input::new(body, Some(FrameType::Events));
        let header = EventsHeader {
            schema: input.u32()?,
            source: input.u32()?,
            position: input.u64()?,
        };
        let rows = count(&mut input, "rows", 2, 1, EVENT_ROWS)?;
        let columns = count(&mut input, "columns", 1, 1, EVENT_COLUMNS)?;
        let strings = count(&mut input, "strings", 2, 0, EVENT_STRINGS)?;
        let values = count(&mut input, "values", 2, 0, EVENT_VALUES)?;
        let kinds = input.take(columns)?;
        check_columns(&mut input, scratch, kinds, rows, strings, values)?;
        let string_bytes = check_strings(&mut input, &mut scratch.strings, strings)?;
        let value_bytes = check_values(&mut input, &mut scratch.values, values)?;
        input.finish()?;
        Ok(Self {
            header,
            rows,
            body,
            kinds,
            column_starts: &scratch.columns,
            string_starts: &scratch.strings,
            string_bytes,
            value_starts: &scratch.values,
            value_bytes,
        })
    }

    /// Schema, source and position.
    pub fn header(&self) -> EventsHeader {
        self.header
    }

    /// Number of rows, 1 to 4,096.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns, 1 to 64, including the time.
    pub fn columns(&self) -> usize {
        self.kinds.len()
    }

    /// Number of strings in the table.
    pub fn strings(&self) -> usize {
        self.string_starts.len() - 1
    }

    /// Number of values in the table.
    pub fn values(&self) -> usize {
        self.value_starts.len()
    }

    /// A string of the table.
    ///
    /// # Panics
    /// If the index is out of range.
    pub fn string(&self, index: usize) -> &'a str {
        &self.string_bytes[self.string_starts[index] as usize..self.string_starts[index + 1] as usize]
    }

    /// A value of the table.
    ///
    /// # Panics
    /// If the index is out of range.
    pub fn value(&self, index: usize) -> Cell<'a> {
        let start = self.value_starts[index] as usize;
        let mut input = Input::new(&self.value_bytes[start..], Some(FrameType::Events));
        value::check(&mut input, &mut Budget::new()).unwrap_or(Cell::Null)
    }

    /// The times of the rows, unix ns.
    pub fn times(&self) -> impl ExactSizeIterator<Item = i64> + use<'a> {
        self.words(0).iter().map(|bytes| i64::from_le_bytes(*bytes))
    }

    /// The cells of a column.
    ///
    /// # Panics
    /// If the column is out of range.
    pub fn column(&self, column: usize) -> Column<'a> {
        match self.kind(column) {
            ColumnKind::Absent => Column::Absent,
            ColumnKind::Int => Column::Int(self.words(column)),
            ColumnKind::Float => Column::Float(self.words(column)),
            ColumnKind::Reference => Column::Reference(self.references(column)),
        }
    }

    /// One cell.
    ///
    /// # Panics
    /// If the row or the column is out of range.
    pub fn cell(&self, row: usize, column: usize) -> Cell<'a> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        match self.column(column) {
            Column::Absent => Cell::Null,
            Column::Int(cells) => Cell::Int(i64::from_le_bytes(cells[row])),
            Column::Float(cells) => Cell::Float(f64::from_le_bytes(cells[row])),
            Column::Reference(cells) => self.resolve(cells.get(row)),
        }
    }

    /// The cells of a column, row by row.
    ///
    /// # Panics
    /// If the column is out of range.
    pub fn cells(&self, column: usize) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let view = *self;
        let column = self.column(column);
        (0..self.rows).map(move |row| match column {
            Column::Absent => Cell::Null,
            Column::Int(cells) => Cell::Int(i64::from_le_bytes(cells[row])),
            Column::Float(cells) => Cell::Float(f64::from_le_bytes(cells[row])),
            Column::Reference(cells) => view.resolve(cells.get(row)),
        })
    }

    /// The cell of a reference in a [`Column::Reference`].
    ///
    /// # Panics
    /// If the reference is not of this frame.
    pub fn resolve(&self, reference: Reference) -> Cell<'a> {
        match reference {
            Reference::String(index) => Cell::Str(self.string(index)),
            Reference::Value(index) => self.value(index),
        }
    }

    /// The encoded body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    fn kind(&self, column: usize) -> ColumnKind {
        ColumnKind::from_code(self.kinds[column]).unwrap_or(ColumnKind::Absent)
    }

    fn bytes(&self, column: usize) -> &'a [u8] {
        let start = self.column_starts[column] as usize;
        &self.body[start..start + self.rows * self.kind(column).row_bytes()]
    }

    fn words(&self, column: usize) -> &'a [[u8; 8]] {
        self.bytes(column).as_chunks().0
    }

    fn references(&self, column: usize) -> References<'a> {
        References(self.bytes(column).as_chunks().0)
    }
}

/// The cells of a column as little-endian bytes, one item per row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column<'a> {
    /// All null.
    Absent,
    /// `i64::from_le_bytes` of each.
    Int(&'a [[u8; 8]]),
    /// `f64::from_le_bytes` of each.
    Float(&'a [[u8; 8]]),
    /// Each resolved by [`Events::resolve`].
    Reference(References<'a>),
}

/// An entry of a frame's tables: string k is sent as k, value k as −1−k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Index into the strings.
    String(usize),
    /// Index into the values.
    Value(usize),
}

/// The cells of a reference column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct References<'a>(&'a [[u8; 2]]);

impl<'a> References<'a> {
    /// The reference of a row.
    ///
    /// # Panics
    /// If the row is out of range.
    #[inline]
    pub fn get(self, row: usize) -> Reference {
        let reference = i16::from_le_bytes(self.0[row]);
        match usize::try_from(reference) {
            Ok(index) => Reference::String(index),
            Err(_) => Reference::Value((-1 - i32::from(reference)) as usize),
        }
    }

    /// The encoded cells, one `i16` per row.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0.as_flattened()
    }
}

/// A count in one or two bytes.
pub(crate) fn count(
    input: &mut Input<'_>,
    what: &'static str,
    bytes: usize,
    min: usize,
    max: usize,
) -> Result<usize> {
    let at = input.at();
    let got = if bytes == 1 {
        input.u8()?.into()
    } else {
        input.u16()?.into()
    };
    input.within(at, what, got, min, max)?;
    Ok(got)
}

fn check_columns(
    input: &mut Input<'_>,
    scratch: &mut EventsScratch,
    kinds: &[u8],
    rows: usize,
    strings: usize,
    values: usize,
) -> Result<()> {
    scratch.columns.clear();
    if kinds[0] != ColumnKind::Int as u8 {
        return Err(input.error_at(FIXED_BYTES, ErrorKind::TimeColumn(kinds[0])));
    }
    for (number, code) in kinds.iter().enumerate() {
        let unknown = ErrorKind::UnknownCode {
            what: "column kind",
            code: *code,
        };
        let kind =
            ColumnKind::from_code(*code).ok_or_else(|| input.error_at(FIXED_BYTES + number, unknown))?;
        let at = input.at();
        let bytes = input.take(rows * kind.row_bytes())?;
        if kind == ColumnKind::Reference
            && let Some(row) = reference_outside(bytes, strings, values)
        {
            let reference = i16::from_le_bytes([bytes[2 * row], bytes[2 * row + 1]]);
            let kind = ErrorKind::Reference {
                reference,
                strings: strings as u16,
                values: values as u16,
            };
            return Err(input.error_at(at + 2 * row, kind));
        }
        scratch.columns.push(at as u32);
    }
    Ok(())
}

/// The first row whose reference is outside the tables.
fn reference_outside(bytes: &[u8], strings: usize, values: usize) -> Option<usize> {
    let (references, _) = bytes.as_chunks::<2>();
    // Minimum and maximum first: that loop has no branches and compiles to vector instructions.
    let (mut low, mut high) = (i16::MAX, i16::MIN);
    for reference in references {
        let reference = i16::from_le_bytes(*reference);
        low = low.min(reference);
        high = high.max(reference);
    }
    let inside = |reference: i16| {
        let reference = i32::from(reference);
        -(values as i32) <= reference && reference < strings as i32
    };
    if inside(low) && inside(high) {
        return None;
    }
    references
        .iter()
        .position(|reference| !inside(i16::from_le_bytes(*reference)))
}

/// Checks the strings and collects the start of each, and their end.
pub(crate) fn check_strings<'a>(
    input: &mut Input<'a>,
    starts: &mut Vec<u32>,
    strings: usize,
) -> Result<&'a str> {
    starts.clear();
    let (lengths, _) = input.take(2 * strings)?.as_chunks::<2>();
    let mut end = 0u32;
    starts.push(0);
    starts.extend(lengths.iter().map(|length| {
        end += u32::from(u16::from_le_bytes(*length));
        end
    }));
    let from = input.at();
    // Checking all strings at once is faster; then no string may start inside a code point.
    let text = input.str(end as usize)?;
    match starts
        .iter()
        .find(|start| !text.is_char_boundary(**start as usize))
    {
        Some(start) => Err(input.error_at(from + *start as usize, ErrorKind::NotUtf8)),
        None => Ok(text),
    }
}

/// Checks the values and collects the start of each.
pub(crate) fn check_values<'a>(
    input: &mut Input<'a>,
    starts: &mut Vec<u32>,
    values: usize,
) -> Result<&'a [u8]> {
    starts.clear();
    let from = input.at();
    let mut budget = Budget::new();
    for _ in 0..values {
        starts.push((input.at() - from) as u32);
        value::check(input, &mut budget)?;
    }
    Ok(input.between(from, input.at()))
}

/// Replaces schema, source and position of an encoded EVENTS body, in place.
///
/// # Errors
/// [`ErrorKind::Truncated`] if it is shorter than the fixed fields; nothing else is checked.
pub fn patch_body(body: &mut [u8], header: EventsHeader) -> Result<()> {
    let left = body.len();
    let Some(fixed) = body.first_chunk_mut::<FIXED_BYTES>() else {
        let needed = FIXED_BYTES;
        let kind = ErrorKind::Truncated { needed, left };
        return Err(Error::new(Some(FrameType::Events), 0, kind));
    };
    fixed[0..4].copy_from_slice(&header.schema.to_le_bytes());
    fixed[4..8].copy_from_slice(&header.source.to_le_bytes());
    fixed[8..16].copy_from_slice(&header.position.to_le_bytes());
    Ok(())
}

/// Appends a frame with an encoded EVENTS body under another schema, source and position.
///
/// # Errors
/// [`ErrorKind::Truncated`] if it is shorter than the fixed fields, [`ErrorKind::Unwritable`] if it is longer than the largest
/// body; `out` is then unchanged. Nothing else is checked.
pub fn forward(out: &mut Vec<u8>, body: &[u8], header: EventsHeader) -> Result<()> {
    out.reserve(HEADER_BYTES + body.len());
    frame::write(out, FrameType::Events, |out| {
        let start = out.len();
        out.extend_from_slice(body);
        patch_body(&mut out[start..], header)
    })
}
