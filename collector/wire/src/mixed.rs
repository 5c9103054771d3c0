//! MIXED, read in place: rows of several schemas and sources in the order of the subscription. Each cell refers to an entry of one
//! pool: null, then the integers, floats, strings and values of the frame.
//!
//! [`Mixed::decode`] checks everything once; later reads cannot fail. Only [`MixedScratch`] allocates.

use crate::error::{Error, ErrorKind, Result};
use crate::events::{check_strings, check_values, count};
use crate::frame;
use crate::frame_type::FrameType;
use crate::input::Input;
use crate::limits::{EVENT_COLUMNS, EVENT_ROWS, EVENT_STRINGS, EVENT_VALUES, HEADER_BYTES, POOL_ENTRIES};
use crate::value::{self, Budget, Cell};

/// Bytes of a body before its contexts.
pub const FIXED_BYTES: usize = 20;
/// Bytes of a context.
pub const CONTEXT_BYTES: usize = 9;

/// The schema and source of some rows of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Id of the schema.
    pub schema: u32,
    /// Id of the source.
    pub source: u32,
    /// Columns of the schema, including the time.
    pub columns: u8,
}

impl Context {
    fn read(bytes: &[u8; CONTEXT_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, columns] = *bytes;
        Self {
            schema: u32::from_le_bytes([a, b, c, d]),
            source: u32::from_le_bytes([e, f, g, h]),
            columns,
        }
    }

    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.source.to_le_bytes());
        out.push(self.columns);
    }
}

/// Offsets of the rows and table entries of a frame. Can be reused for the next frame.
#[derive(Clone, Debug, Default)]
pub struct MixedScratch {
    /// Number of the first reference of each row.
    rows: Vec<u32>,
    /// Start of each string in the bytes of the strings, and their end.
    strings: Vec<u32>,
    /// Start of each value in the bytes of the values.
    values: Vec<u32>,
}

/// A checked MIXED body.
#[derive(Clone, Copy, Debug)]
pub struct Mixed<'a> {
    position: u64,
    body: &'a [u8],
    contexts: &'a [[u8; CONTEXT_BYTES]],
    /// Number of the context of each row.
    row_contexts: &'a [[u8; 2]],
    row_starts: &'a [u32],
    references: &'a [[u8; 2]],
    ints: &'a [[u8; 8]],
    floats: &'a [[u8; 8]],
    string_starts: &'a [u32],
    string_bytes: &'a str,
    value_starts: &'a [u32],
    value_bytes: &'a [u8],
}

/// The content of a cell: a string of the frame by its number, or a value.
pub(crate) enum Entry<'a> {
    String(usize),
    Cell(Cell<'a>),
}

impl<'a> Mixed<'a> {
    /// Checks a whole body: counts, contexts, references, UTF-8, values.
    ///
    /// # Errors
    /// A body that violates the layout. The caller must check that the schemas and sources are defined and that the schemas have
    /// the number of columns of their [`context`](Self::context).
    pub fn decode(body: &'a [u8], scratch: &'a mut MixedScratch) -> Result<Self> {
        let mut input = Input::new(body, Some(FrameType::Mixed));
        let position = input.u64()?;
        let rows = count(&mut input, "rows", 2, 1, EVENT_ROWS)?;
        let contexts = count(&mut input, "contexts", 2, 1, EVENT_ROWS)?;
        let ints = count(&mut input, "integers", 2, 0, POOL_ENTRIES)?;
        let floats = count(&mut input, "floats", 2, 0, POOL_ENTRIES)?;
        let strings = count(&mut input, "strings", 2, 0, EVENT_STRINGS)?;
        let values = count(&mut input, "values", 2, 0, EVENT_VALUES)?;
        let entries = ints + floats + strings + values;
        input.within(12, "pool entries", entries, 0, POOL_ENTRIES)?;
        let at = input.at();
        let (contexts, _) = input.take(CONTEXT_BYTES * contexts)?.as_chunks::<CONTEXT_BYTES>();
        for (number, context) in contexts.iter().enumerate() {
            let columns = Context::read(context).columns.into();
            let at = at + CONTEXT_BYTES * number + 8;
            input.within(at, "columns", columns, 1, EVENT_COLUMNS)?;
        }
        let at = input.at();
        let (row_contexts, _) = input.take(2 * rows)?.as_chunks::<2>();
        scratch.rows.clear();
        let mut cells = 0u32;
        for (row, number) in row_contexts.iter().enumerate() {
            let number = usize::from(u16::from_le_bytes(*number));
            input.within(at + 2 * row, "context", number, 0, contexts.len() - 1)?;
            scratch.rows.push(cells);
            cells += u32::from(Context::read(&contexts[number]).columns);
        }
        let at = input.at();
        let (references, _) = input.take(2 * cells as usize)?.as_chunks::<2>();
        // The maximum first: that loop has no branches and compiles to vector instructions.
        let highest = references.iter().map(|bytes| u16::from_le_bytes(*bytes)).max();
        if usize::from(highest.unwrap_or(0)) > entries {
            for (cell, bytes) in references.iter().enumerate() {
                input.within(at + 2 * cell, "reference", reference(*bytes), 0, entries)?;
            }
        }
        for start in &scratch.rows {
            let start = *start as usize;
            let got = reference(references[start]);
            input.within(at + 2 * start, "reference of the time", got, 1, ints)?;
        }
        let (ints, _) = input.take(8 * ints)?.as_chunks::<8>();
        let (floats, _) = input.take(8 * floats)?.as_chunks::<8>();
        let string_bytes = check_strings(&mut input, &mut scratch.strings, strings)?;
        let value_bytes = check_values(&mut input, &mut scratch.values, values)?;
        input.finish()?;
        Ok(Self {
            position,
            body,
            contexts,
            row_contexts,
            row_starts: &scratch.rows,
            references,
            ints,
            floats,
            string_starts: &scratch.strings,
            string_bytes,
            value_starts: &scratch.values,
            value_bytes,
        })
    }

    /// Position of the first row in the collector's order.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Number of rows, 1 to 4,096.
    pub fn rows(&self) -> usize {
        self.row_contexts.len()
    }

    /// The contexts of the frame.
    pub fn contexts(&self) -> impl ExactSizeIterator<Item = Context> + use<'a> {
        self.contexts.iter().map(Context::read)
    }

    /// The number of a row's context.
    ///
    /// # Panics
    /// If the row is out of range.
    pub fn context_number(&self, row: usize) -> usize {
        u16::from_le_bytes(self.row_contexts[row]).into()
    }

    /// The context of a row.
    ///
    /// # Panics
    /// If the row is out of range.
    pub fn context(&self, row: usize) -> Context {
        Context::read(&self.contexts[self.context_number(row)])
    }

    /// Number of columns of a row, including the time.
    ///
    /// # Panics
    /// If the row is out of range.
    pub fn columns(&self, row: usize) -> usize {
        self.context(row).columns.into()
    }

    /// One cell; that of column 0 is an integer.
    ///
    /// # Panics
    /// If the row or the column is out of range.
    pub fn cell(&self, row: usize, column: usize) -> Cell<'a> {
        self.pool_entry(self.reference(row, column))
    }

    /// The reference of a cell to the pool.
    ///
    /// # Panics
    /// If the row or the column is out of range.
    pub fn reference(&self, row: usize, column: usize) -> usize {
        let columns = self.columns(row);
        assert!(column < columns, "column {column} of {columns}");
        reference(self.references[self.row_starts[row] as usize + column])
    }

    /// Entries of the pool: integers, floats, strings and values, in this order from reference 1 on.
    pub fn pool(&self) -> [usize; 4] {
        let strings = self.string_starts.len() - 1;
        [
            self.ints.len(),
            self.floats.len(),
            strings,
            self.value_starts.len(),
        ]
    }

    /// The entry of the pool that a reference refers to; that of 0 is null.
    ///
    /// # Panics
    /// If the reference is outside the pool.
    pub fn pool_entry(&self, reference: usize) -> Cell<'a> {
        match self.entry(reference) {
            Entry::String(index) => Cell::Str(self.string(index)),
            Entry::Cell(cell) => cell,
        }
    }

    pub(crate) fn entry(&self, reference: usize) -> Entry<'a> {
        let [ints, floats, strings, _] = self.pool();
        let Some(int) = reference.checked_sub(1) else {
            return Entry::Cell(Cell::Null);
        };
        let Some(float) = int.checked_sub(ints) else {
            return Entry::Cell(Cell::Int(i64::from_le_bytes(self.ints[int])));
        };
        let Some(string) = float.checked_sub(floats) else {
            return Entry::Cell(Cell::Float(f64::from_le_bytes(self.floats[float])));
        };
        match string.checked_sub(strings) {
            None => Entry::String(string),
            Some(value) => Entry::Cell(self.value(value)),
        }
    }

    pub(crate) fn string(&self, index: usize) -> &'a str {
        &self.string_bytes[self.string_starts[index] as usize..self.string_starts[index + 1] as usize]
    }

    fn value(&self, index: usize) -> Cell<'a> {
        let start = self.value_starts[index] as usize;
        let mut input = Input::new(&self.value_bytes[start..], Some(FrameType::Mixed));
        value::check(&mut input, &mut Budget::new()).unwrap_or(Cell::Null)
    }

    /// The encoded body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}

fn reference(bytes: [u8; 2]) -> usize {
    u16::from_le_bytes(bytes).into()
}

/// Appends a frame with an encoded MIXED body under other ids: schema and source of each context, in order.
///
/// # Errors
/// [`ErrorKind::Truncated`] if the body has fewer contexts, [`ErrorKind::Unwritable`] if it is longer than the largest body; `out` is
/// then unchanged. Nothing else is checked.
pub fn forward(out: &mut Vec<u8>, body: &[u8], ids: &[(u32, u32)]) -> Result<()> {
    let needed = FIXED_BYTES + CONTEXT_BYTES * ids.len();
    if body.len() < needed {
        let left = body.len();
        let kind = ErrorKind::Truncated { needed, left };
        return Err(Error::new(Some(FrameType::Mixed), 0, kind));
    }
    out.reserve(HEADER_BYTES + body.len());
    frame::write(out, FrameType::Mixed, |out| {
        let start = out.len() + FIXED_BYTES;
        out.extend_from_slice(body);
        for (context, (schema, source)) in out[start..].chunks_mut(CONTEXT_BYTES).zip(ids) {
            context[..4].copy_from_slice(&schema.to_le_bytes());
            context[4..8].copy_from_slice(&source.to_le_bytes());
        }
        Ok(())
    })
}
