//! Encodes MIXED: rows of received frames in, in their order, one frame out.
//!
//! Contexts and strings are numbered by first use; strings and values that are equal have one entry of the pool, integers and
//! floats one for each cell.

use crate::error::{Error, ErrorKind, Result};
use crate::events::{Column, Events, Reference};
use crate::events_builder::Pushed;
use crate::frame;
use crate::frame_type::FrameType;
use crate::limits::{BODY_BYTES_MAX, EVENT_ROWS, POOL_ENTRIES, VALUES_PER_FRAME};
use crate::mixed::{CONTEXT_BYTES, Context, Entry, FIXED_BYTES, Mixed};
use crate::tables::Tables;
use crate::value::{Cell, float_bits};

/// A cell: an entry of one of the tables, whose place in the pool is known at the end.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Null,
    Int(u16),
    Float(u16),
    Str(u16),
    Value(u16),
}

/// The received frames that rows are copied from.
trait Rows {
    fn columns(&self, row: usize) -> usize;
    fn strings(&self) -> usize;
    fn string(&self, index: usize) -> &str;
    fn entry(&self, row: usize, column: usize) -> Entry<'_>;
}

impl Rows for Events<'_> {
    fn columns(&self, _: usize) -> usize {
        self.columns()
    }

    fn strings(&self) -> usize {
        self.strings()
    }

    fn string(&self, index: usize) -> &str {
        self.string(index)
    }

    fn entry(&self, row: usize, column: usize) -> Entry<'_> {
        match self.column(column) {
            Column::Reference(references) => match references.get(row) {
                Reference::String(index) => Entry::String(index),
                Reference::Value(index) => Entry::Cell(self.value(index)),
            },
            _ => Entry::Cell(self.cell(row, column)),
        }
    }
}

impl Rows for Mixed<'_> {
    fn columns(&self, row: usize) -> usize {
        self.columns(row)
    }

    fn strings(&self) -> usize {
        self.pool()[2]
    }

    fn string(&self, index: usize) -> &str {
        self.string(index)
    }

    fn entry(&self, row: usize, column: usize) -> Entry<'_> {
        self.entry(self.reference(row, column))
    }
}

/// The sizes of a builder before a row, to remove the row again.
struct Mark {
    contexts: usize,
    slots: usize,
    ints: usize,
    floats: usize,
    strings: usize,
    values: usize,
    nested: usize,
}

/// Collects rows of any schemas and sources and writes them as one frame. It can then be reused for the next.
#[derive(Debug)]
pub struct MixedBuilder {
    max_body: usize,
    contexts: Vec<Context>,
    /// The context of each row.
    rows: Vec<u16>,
    slots: Vec<Slot>,
    ints: Vec<i64>,
    floats: Vec<f64>,
    tables: Tables,
}

impl MixedBuilder {
    /// An empty builder for bodies of at most `max_body` bytes: the receiver's `max_frame`.
    pub fn new(max_body: u32) -> Self {
        Self {
            max_body: max_body.min(BODY_BYTES_MAX) as usize,
            contexts: Vec::new(),
            rows: Vec::new(),
            slots: Vec::new(),
            ints: Vec::new(),
            floats: Vec::new(),
            tables: Tables::default(),
        }
    }

    /// Rows collected.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Their contexts, each once. The number of a context remains the same until the frame is finished.
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// Adds rows of a received frame in the given order, under these ids, and returns their number. If the frame is full, it is
    /// lower than given: then [`finish`](Self::finish) it and append the rest.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] for a row that does not fit into an empty frame; the rows before it are in the frame.
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn append(
        &mut self,
        schema: u32,
        source: u32,
        from: &Events<'_>,
        rows: impl IntoIterator<Item = usize>,
    ) -> Result<usize> {
        let context = Context {
            schema,
            source,
            columns: from.columns() as u8,
        };
        self.copy(from, rows, |_| context)
    }

    /// As [`append`](Self::append), for rows of a MIXED frame, which keep their ids.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn append_mixed(&mut self, from: &Mixed<'_>, rows: impl IntoIterator<Item = usize>) -> Result<usize> {
        self.copy(from, rows, |row| from.context(row))
    }

    fn copy(
        &mut self,
        from: &impl Rows,
        rows: impl IntoIterator<Item = usize>,
        context: impl Fn(usize) -> Context,
    ) -> Result<usize> {
        self.tables.begin_copy(from.strings());
        let mut added = 0;
        for row in rows {
            match self.copy_row(from, row, context(row))? {
                Pushed::Added => added += 1,
                Pushed::Full => break,
            }
        }
        Ok(added)
    }

    fn copy_row(&mut self, from: &impl Rows, row: usize, context: Context) -> Result<Pushed> {
        if self.rows() == EVENT_ROWS {
            return Ok(Pushed::Full);
        }
        let mark = self.mark();
        let number = self.context_number(context);
        let complete = self.copy_cells(from, row);
        if complete == Ok(true) && self.fits() {
            self.rows.push(number);
            return Ok(Pushed::Added);
        }
        let got = self.body_bytes();
        self.reset(&mark);
        complete?;
        if self.rows() > 0 {
            return Ok(Pushed::Full);
        }
        let kind = ErrorKind::Unwritable {
            what: "row",
            got,
            max: self.max_body,
        };
        Err(Error::new(Some(FrameType::Mixed), 0, kind))
    }

    /// Adds the cells of a row; false if a table is full.
    fn copy_cells(&mut self, from: &impl Rows, row: usize) -> Result<bool> {
        for column in 0..from.columns(row) {
            match self.slot(from, row, column)? {
                Some(slot) => self.slots.push(slot),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn context_number(&mut self, context: Context) -> u16 {
        // Few: consecutive rows are of few schemas. The latest is the most likely.
        let known = self.contexts.iter().rposition(|known| *known == context);
        let number = known.unwrap_or_else(|| {
            self.contexts.push(context);
            self.contexts.len() - 1
        });
        number as u16
    }

    /// The pending form of a cell; `None` if a table is full.
    fn slot(&mut self, from: &impl Rows, row: usize, column: usize) -> Result<Option<Slot>> {
        let cell = match from.entry(row, column) {
            Entry::Cell(cell) => cell,
            Entry::String(index) => {
                let number = self.tables.copied_string(index, || from.string(index));
                return Ok(number.map(Slot::Str));
            }
        };
        Ok(match cell {
            Cell::Null => Some(Slot::Null),
            Cell::Int(int) => number(&mut self.ints, int).map(Slot::Int),
            Cell::Float(float) => number(&mut self.floats, float).map(Slot::Float),
            Cell::Str(text) => self.tables.string(text).map(Slot::Str),
            other => self.tables.value(other)?.map(Slot::Value),
        })
    }

    fn entries(&self) -> usize {
        self.ints.len() + self.floats.len() + self.tables.strings.len() + self.tables.values.len()
    }

    /// Whether the frame is within its limits with one more row, whose cells were added.
    fn fits(&self) -> bool {
        self.entries() <= POOL_ENTRIES
            && self.tables.nested <= VALUES_PER_FRAME
            && self.body_bytes() <= self.max_body
    }

    /// Size of the body with one more row.
    fn body_bytes(&self) -> usize {
        FIXED_BYTES
            + CONTEXT_BYTES * self.contexts.len()
            + 2 * (self.rows.len() + 1)
            + 2 * self.slots.len()
            + 8 * (self.ints.len() + self.floats.len())
            + 2 * self.tables.strings.len()
            + self.tables.strings.bytes.len()
            + self.tables.values.bytes.len()
    }

    fn mark(&self) -> Mark {
        Mark {
            contexts: self.contexts.len(),
            slots: self.slots.len(),
            ints: self.ints.len(),
            floats: self.floats.len(),
            strings: self.tables.strings.len(),
            values: self.tables.values.len(),
            nested: self.tables.nested,
        }
    }

    /// Removes the cells of a row that does not fit, with its table entries.
    fn reset(&mut self, mark: &Mark) {
        self.contexts.truncate(mark.contexts);
        self.slots.truncate(mark.slots);
        self.ints.truncate(mark.ints);
        self.floats.truncate(mark.floats);
        self.tables.truncate(mark.strings, mark.values, mark.nested);
    }

    /// Appends the frame of the collected rows, the first at `position`, and clears the builder. Returns the number of rows; without
    /// rows nothing is written.
    pub fn finish(&mut self, position: u64, out: &mut Vec<u8>) -> Result<usize> {
        let rows = self.rows();
        if rows > 0 {
            frame::write(out, FrameType::Mixed, |out| {
                self.write_body(position, out);
                Ok(())
            })?;
        }
        self.clear();
        Ok(rows)
    }

    fn write_body(&self, position: u64, out: &mut Vec<u8>) {
        out.reserve(self.body_bytes());
        out.extend_from_slice(&position.to_le_bytes());
        for count in [
            self.rows.len(),
            self.contexts.len(),
            self.ints.len(),
            self.floats.len(),
            self.tables.strings.len(),
            self.tables.values.len(),
        ] {
            out.extend_from_slice(&(count as u16).to_le_bytes());
        }
        for context in &self.contexts {
            context.write(out);
        }
        for context in &self.rows {
            out.extend_from_slice(&context.to_le_bytes());
        }
        let floats = 1 + self.ints.len();
        let strings = floats + self.floats.len();
        let values = strings + self.tables.strings.len();
        for slot in &self.slots {
            let reference = match *slot {
                Slot::Null => 0,
                Slot::Int(index) => 1 + usize::from(index),
                Slot::Float(index) => floats + usize::from(index),
                Slot::Str(index) => strings + usize::from(index),
                Slot::Value(index) => values + usize::from(index),
            };
            out.extend_from_slice(&(reference as u16).to_le_bytes());
        }
        for int in &self.ints {
            out.extend_from_slice(&int.to_le_bytes());
        }
        for float in &self.floats {
            out.extend_from_slice(&float_bits(*float).to_le_bytes());
        }
        for string in 0..self.tables.strings.len() {
            out.extend_from_slice(&(self.tables.strings.get(string as u16).len() as u16).to_le_bytes());
        }
        out.extend_from_slice(&self.tables.strings.bytes);
        out.extend_from_slice(&self.tables.values.bytes);
    }

    fn clear(&mut self) {
        self.contexts.clear();
        self.rows.clear();
        self.slots.clear();
        self.ints.clear();
        self.floats.clear();
        self.tables.clear();
    }
}

/// Adds a number; `None` if its table is full.
fn number<N>(table: &mut Vec<N>, value: N) -> Option<u16> {
    if table.len() >= POOL_ENTRIES {
        return None;
    }
    table.push(value);
    Some((table.len() - 1) as u16)
}
