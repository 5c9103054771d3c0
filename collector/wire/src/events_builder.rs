//! Encodes EVENTS: rows of cells in, one canonical frame out. The stream exporter encodes the rows that a subscription
//! selects; [`EventsBuilder::append`] copies rows of a received frame and interns each of its strings once.
//!
//! Canonical: strings and values are numbered in the order in which the columns, left to right and top to bottom,
//! first use them; no table entry is repeated or unused; a column has the first kind that can represent it: absent, i64,
//! f64 (if f64 represents its integers exactly), reference.

use crate::error::{Error, ErrorKind, Result};
use crate::events::{Column, ColumnKind, Events, EventsHeader, FIXED_BYTES, Reference};
use crate::frame;
use crate::frame_type::FrameType;
use crate::interner::Order;
use crate::limits::{
    BODY_BYTES_MAX, EVENT_COLUMNS, EVENT_ROWS, EVENT_VALUES, STRING_BYTES, VALUES_PER_FRAME,
};
use crate::tables::Tables;
use crate::value::{Cell, bounded, float_bits};

/// Result of adding a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The row was added.
    Added,
    /// The frame is full: [`finish`](EventsBuilder::finish) it and push the row again.
    Full,
}

/// Integers up to this magnitude are exact as f64.
const EXACT: i64 = 1 << 53;
/// Bytes of a number in the value table.
const NUMBER_BYTES: usize = 9;

/// A cell before the kind of its column is decided.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Null,
    Int(i64),
    Float(f64),
    Str(u16),
    Value(u16),
}

#[derive(Debug, Default)]
struct PendingColumn {
    slots: Vec<Slot>,
    nulls: usize,
    ints: usize,
    /// Integers that f64 cannot represent exactly.
    inexact: usize,
    floats: usize,
}

impl PendingColumn {
    fn add(&mut self, slot: Slot) {
        self.count(slot, 1);
        self.slots.push(slot);
    }

    fn remove_last(&mut self) {
        if let Some(slot) = self.slots.pop() {
            self.count(slot, usize::MAX);
        }
    }

    fn count(&mut self, slot: Slot, by: usize) {
        let counter = match slot {
            Slot::Null => &mut self.nulls,
            Slot::Int(_) => &mut self.ints,
            Slot::Float(_) => &mut self.floats,
            Slot::Str(_) | Slot::Value(_) => return,
        };
        *counter = counter.wrapping_add(by);
        if let Slot::Int(int) = slot
            && !(-EXACT..=EXACT).contains(&int)
        {
            self.inexact = self.inexact.wrapping_add(by);
        }
    }

    fn kind(&self) -> ColumnKind {
        let rows = self.slots.len();
        if self.nulls == rows {
            ColumnKind::Absent
        } else if self.ints == rows {
            ColumnKind::Int
        } else if self.ints + self.floats == rows && self.inexact == 0 {
            ColumnKind::Float
        } else {
            ColumnKind::Reference
        }
    }

    /// Upper bound of the numbers that need an entry in the value table.
    fn tabled_numbers(&self) -> usize {
        if self.kind() == ColumnKind::Reference {
            self.ints + self.floats
        } else {
            0
        }
    }
}

/// Collects rows of one schema and source and writes them as one frame. It can then be reused for the next.
#[derive(Debug)]
pub struct EventsBuilder {
    schema: u32,
    source: u32,
    max_body: usize,
    times: Vec<i64>,
    columns: Vec<PendingColumn>,
    tables: Tables,
    string_order: Order,
    value_order: Order,
}

impl EventsBuilder {
    /// An empty builder for rows of `columns` cells besides the time, and bodies of at most `max_body` bytes: the
    /// receiver's `max_frame`.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] for more than 63 columns.
    pub fn new(schema: u32, source: u32, columns: usize, max_body: u32) -> Result<Self> {
        bounded("columns", columns + 1, EVENT_COLUMNS).map_err(in_events)?;
        Ok(Self {
            schema,
            source,
            max_body: max_body.min(BODY_BYTES_MAX) as usize,
            times: Vec::new(),
            columns: (0..columns).map(|_| PendingColumn::default()).collect(),
            tables: Tables::default(),
            string_order: Order::default(),
            value_order: Order::default(),
        })
    }

    /// Rows collected.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    /// Adds a row: its time in unix ns and the cells of columns 1….
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] if the row has another width, a string is longer than 65,535 bytes, or the row does not fit into an
    /// empty frame. The row is then not added.
    pub fn push(&mut self, time: i64, cells: &[Cell<'_>]) -> Result<Pushed> {
        if cells.len() != self.columns.len() {
            let kind = ErrorKind::Unwritable {
                what: "cells",
                got: cells.len(),
                max: self.columns.len(),
            };
            return Err(in_events(Error::new(None, 0, kind)));
        }
        if self.rows() == EVENT_ROWS {
            return Ok(Pushed::Full);
        }
        for (column, cell) in cells.iter().enumerate() {
            match self.slot(*cell) {
                Ok(Some(slot)) => self.columns[column].add(slot),
                Ok(None) => return self.reject(column),
                Err(error) => {
                    self.abandon(column);
                    return Err(in_events(error));
                }
            }
        }
        self.commit(time)
    }

    /// Adds rows of a received frame in the given order and returns their number. If the frame is full, it is lower than given: then
    /// [`finish`](Self::finish) it and append the rest.
    ///
    /// # Errors
    /// As [`push`](Self::push), for the first row that was not added; the rows before it are in the frame.
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn append(&mut self, from: &Events<'_>, rows: impl IntoIterator<Item = usize>) -> Result<usize> {
        if from.columns() != self.columns.len() + 1 {
            let kind = ErrorKind::Unwritable {
                what: "columns",
                got: from.columns(),
                max: self.columns.len() + 1,
            };
            return Err(in_events(Error::new(None, 0, kind)));
        }
        self.tables.begin_copy(from.strings());
        let mut added = 0;
        for row in rows {
            match self.append_row(from, row)? {
                Pushed::Added => added += 1,
                Pushed::Full => break,
            }
        }
        Ok(added)
    }

    fn append_row(&mut self, from: &Events<'_>, row: usize) -> Result<Pushed> {
        if self.rows() == EVENT_ROWS {
            return Ok(Pushed::Full);
        }
        for column in 0..self.columns.len() {
            match self.slot_from(from, row, column + 1) {
                Ok(Some(slot)) => self.columns[column].add(slot),
                Ok(None) => return self.reject(column),
                Err(error) => {
                    self.abandon(column);
                    return Err(in_events(error));
                }
            }
        }
        match from.cell(row, 0) {
            Cell::Int(time) => self.commit(time),
            _ => self.reject(self.columns.len()),
        }
    }

    fn slot_from(&mut self, from: &Events<'_>, row: usize, column: usize) -> Result<Option<Slot>> {
        let Column::Reference(references) = from.column(column) else {
            return self.slot(from.cell(row, column));
        };
        let string = match references.get(row) {
            Reference::String(index) => index,
            Reference::Value(index) => return self.slot(from.value(index)),
        };
        let number = self.tables.copied_string(string, || from.string(string));
        Ok(number.map(Slot::Str))
    }

    /// The pending form of a cell; `None` if a table is full.
    fn slot(&mut self, cell: Cell<'_>) -> Result<Option<Slot>> {
        Ok(match cell {
            Cell::Null => Some(Slot::Null),
            Cell::Int(int) => Some(Slot::Int(int)),
            Cell::Float(float) => Some(Slot::Float(float)),
            Cell::Str(text) => {
                bounded("string", text.len(), STRING_BYTES)?;
                self.tables.string(text).map(Slot::Str)
            }
            other => self.tables.value(other)?.map(Slot::Value),
        })
    }

    /// Completes the row whose cells were added, unless the frame would be too large.
    fn commit(&mut self, time: i64) -> Result<Pushed> {
        self.times.push(time);
        // One more entry for null.
        let tabled = 1 + self.tabled_numbers();
        let Tables { values, nested, .. } = &self.tables;
        let fits = values.len() + tabled <= EVENT_VALUES && nested + tabled <= VALUES_PER_FRAME;
        if fits && self.body_bytes() <= self.max_body {
            return Ok(Pushed::Added);
        }
        self.times.pop();
        self.reject(self.columns.len())
    }

    /// Removes the first `columns` cells of a row that does not fit.
    fn reject(&mut self, columns: usize) -> Result<Pushed> {
        let got = self.body_bytes();
        self.abandon(columns);
        if self.rows() > 0 {
            return Ok(Pushed::Full);
        }
        let kind = ErrorKind::Unwritable {
            what: "row",
            got,
            max: self.max_body,
        };
        Err(in_events(Error::new(None, 0, kind)))
    }

    /// Removes the first `columns` cells of a row that is not added. Its table entries have no reference count, so they remain until the
    /// frame is finished; without other rows they are removed at once.
    fn abandon(&mut self, columns: usize) {
        self.columns[..columns]
            .iter_mut()
            .for_each(PendingColumn::remove_last);
        if self.rows() == 0 {
            self.clear();
        }
    }

    fn tabled_numbers(&self) -> usize {
        self.columns.iter().map(PendingColumn::tabled_numbers).sum()
    }

    /// Upper bound of the body's size: assumes that all numbers in the value table differ.
    fn body_bytes(&self) -> usize {
        let rows = self.times.len();
        let columns: usize = self
            .columns
            .iter()
            .map(|column| column.kind().row_bytes() * rows)
            .sum();
        let Tables { strings, values, .. } = &self.tables;
        let strings = 2 * strings.len() + strings.bytes.len();
        let values = 1 + values.bytes.len() + self.tabled_numbers() * NUMBER_BYTES;
        FIXED_BYTES + 1 + self.columns.len() + 8 * rows + columns + strings + values
    }

    /// Appends the frame of the collected rows, the first at `position`, and clears the builder. Returns the number of rows; without
    /// rows nothing is written.
    pub fn finish(&mut self, position: u64, out: &mut Vec<u8>) -> Result<usize> {
        let rows = self.rows();
        if rows > 0 {
            let header = EventsHeader {
                schema: self.schema,
                source: self.source,
                position,
            };
            frame::write(out, FrameType::Events, |out| self.write_body(header, out))?;
        }
        self.clear();
        Ok(rows)
    }

    fn write_body(&mut self, header: EventsHeader, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.extend_from_slice(&header.schema.to_le_bytes());
        out.extend_from_slice(&header.source.to_le_bytes());
        out.extend_from_slice(&header.position.to_le_bytes());
        out.extend_from_slice(&(self.rows() as u16).to_le_bytes());
        out.push(1 + self.columns.len() as u8);
        // Strings and values are counted while the columns are written.
        out.extend_from_slice(&[0; 4]);
        out.push(ColumnKind::Int as u8);
        out.extend(self.columns.iter().map(|column| column.kind() as u8));
        for time in &self.times {
            out.extend_from_slice(&time.to_le_bytes());
        }
        self.string_order.reset(self.tables.strings.len());
        self.value_order.reset(self.tables.values.len());
        for column in 0..self.columns.len() {
            self.write_column(column, out)?;
        }
        let (strings, values) = (&self.string_order.entries, &self.value_order.entries);
        out[start + 19..start + 21].copy_from_slice(&(strings.len() as u16).to_le_bytes());
        out[start + 21..start + 23].copy_from_slice(&(values.len() as u16).to_le_bytes());
        for string in strings {
            out.extend_from_slice(&(self.tables.strings.get(*string).len() as u16).to_le_bytes());
        }
        for string in strings {
            out.extend_from_slice(self.tables.strings.get(*string));
        }
        for value in values {
            out.extend_from_slice(self.tables.values.get(*value));
        }
        Ok(())
    }

    fn write_column(&mut self, column: usize, out: &mut Vec<u8>) -> Result<()> {
        let kind = self.columns[column].kind();
        for row in 0..self.columns[column].slots.len() {
            match (kind, self.columns[column].slots[row]) {
                (ColumnKind::Absent, _) => return Ok(()),
                (ColumnKind::Int, Slot::Int(int)) => out.extend_from_slice(&int.to_le_bytes()),
                (ColumnKind::Float, Slot::Int(int)) => out.extend_from_slice(&(int as f64).to_le_bytes()),
                (ColumnKind::Float, Slot::Float(float)) => {
                    out.extend_from_slice(&float_bits(float).to_le_bytes());
                }
                (_, slot) => {
                    let reference = self.reference(slot)?;
                    out.extend_from_slice(&reference.to_le_bytes());
                }
            }
        }
        Ok(())
    }

    fn reference(&mut self, slot: Slot) -> Result<i16> {
        let value = match slot {
            Slot::Str(string) => return Ok(self.string_order.number(string) as i16),
            Slot::Value(value) => value,
            Slot::Null => self.tabled(Cell::Null)?,
            Slot::Int(int) => self.tabled(Cell::Int(int))?,
            Slot::Float(float) => self.tabled(Cell::Float(float))?,
        };
        Ok(-1 - self.value_order.number(value) as i16)
    }

    /// The entry of a null or number in the value table.
    fn tabled(&mut self, cell: Cell<'_>) -> Result<u16> {
        let number = self.tables.value(cell)?;
        // Cannot happen: `commit` has counted them.
        let full = ErrorKind::Unwritable {
            what: "values",
            got: self.tables.values.len() + 1,
            max: EVENT_VALUES,
        };
        number.ok_or_else(|| Error::new(None, 0, full))
    }

    fn clear(&mut self) {
        self.times.clear();
        for column in &mut self.columns {
            let mut slots = std::mem::take(&mut column.slots);
            slots.clear();
            *column = PendingColumn {
                slots,
                ..PendingColumn::default()
            };
        }
        self.tables.clear();
    }
}

fn in_events(mut error: Error) -> Error {
    error.frame = Some(FrameType::Events);
    error
}
