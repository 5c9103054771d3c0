//! A range of rows of one schema and source, and its storage.

use dichroic_model::{Batch, EventSchema, Source};
use dichroic_wire::frame;
use std::sync::Arc;

/// Overhead of an entry in the byte count.
const ENTRY_BYTES: usize = 128;

/// Rows that were selected out of one or more batches of a schema and source.
#[derive(Debug)]
pub struct Selected {
    /// Their columns.
    pub schema: Arc<EventSchema>,
    /// Their source.
    pub source: Arc<Source>,
    /// An EVENTS frame, header included; its schema, source and position are not filled in.
    pub frame: Box<[u8]>,
    /// Stream position of each row.
    pub positions: Box<[u64]>,
}

/// Storage of rows.
#[derive(Debug, Clone)]
pub enum Held {
    /// All rows of a batch wanted: shared.
    Shared(Arc<Batch>),
    /// Some rows: copied out.
    Selected(Arc<Selected>),
}

/// A range of rows of one schema and source. Never empty.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Their storage.
    pub held: Held,
    /// First row.
    pub from: u32,
    /// One past the last row.
    pub to: u32,
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Whether it is the whole storage.
    pub fn is_whole(&self) -> bool {
        let all = match &self.held {
            Held::Shared(batch) => batch.rows,
            Held::Selected(selected) => selected.positions.len() as u32,
        };
        (self.from, self.to) == (0, all)
    }

    /// Stream position of a row.
    pub fn position(&self, row: u32) -> u64 {
        match &self.held {
            Held::Shared(batch) => batch.position + u64::from(row),
            Held::Selected(selected) => selected.positions[row as usize],
        }
    }

    /// Their columns.
    pub fn schema(&self) -> &Arc<EventSchema> {
        match &self.held {
            Held::Shared(batch) => &batch.schema,
            Held::Selected(selected) => &selected.schema,
        }
    }

    /// Their source.
    pub fn source(&self) -> &Arc<Source> {
        match &self.held {
            Held::Shared(batch) => &batch.source,
            Held::Selected(selected) => &selected.source,
        }
    }

    /// The body of the EVENTS frame that contains them, and possibly others.
    pub fn body(&self) -> &[u8] {
        match &self.held {
            Held::Shared(batch) => &batch.body,
            Held::Selected(selected) => frame::body(&selected.frame),
        }
    }

    /// Bytes in a ring's account.
    pub fn bytes(&self) -> usize {
        ENTRY_BYTES
            + match &self.held {
                Held::Shared(batch) => batch.size(),
                Held::Selected(selected) => selected.frame.len() + 8 * selected.positions.len(),
            }
    }
}
