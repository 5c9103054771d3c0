//! A range of rows of one schema and source, and its storage.

use dichroic_model::{Batch, EventSchema, Source};
use dichroic_wire::frame;
use std::sync::Arc;

/// Overhead of a range of rows in a ring's byte count.
const OVERHEAD_BYTES: usize = 128;

/// Rows copied from one or more batches of one schema and source.
#[derive(Debug)]
pub struct Selected {
    /// The columns.
    pub schema: Arc<EventSchema>,
    /// Their source.
    pub source: Arc<Source>,
    /// An EVENTS frame, header included; its schema, source and position are not set.
    pub frame: Box<[u8]>,
    /// Stream position of each row.
    pub positions: Box<[u64]>,
}

/// Storage of rows.
#[derive(Debug, Clone)]
pub enum RowStorage {
    /// A whole batch: shared.
    Shared(Arc<Batch>),
    /// Some rows: copied.
    Selected(Arc<Selected>),
}

/// A range of rows of one schema and source. Never empty.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Their storage.
    pub storage: RowStorage,
    /// First row.
    pub from: u32,
    /// One past the last row.
    pub to: u32,
}

impl Rows {
    /// The number of rows.
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Whether the range is the whole storage.
    pub fn is_whole(&self) -> bool {
        let all = match &self.storage {
            RowStorage::Shared(batch) => batch.rows,
            RowStorage::Selected(selected) => selected.positions.len() as u32,
        };
        (self.from, self.to) == (0, all)
    }

    /// Stream position of a row.
    pub fn position(&self, row: u32) -> u64 {
        match &self.storage {
            RowStorage::Shared(batch) => batch.position + u64::from(row),
            RowStorage::Selected(selected) => selected.positions[row as usize],
        }
    }

    /// Their columns.
    pub fn schema(&self) -> &Arc<EventSchema> {
        match &self.storage {
            RowStorage::Shared(batch) => &batch.schema,
            RowStorage::Selected(selected) => &selected.schema,
        }
    }

    /// Their source.
    pub fn source(&self) -> &Arc<Source> {
        match &self.storage {
            RowStorage::Shared(batch) => &batch.source,
            RowStorage::Selected(selected) => &selected.source,
        }
    }

    /// The body of the EVENTS frame that contains them, and possibly others.
    pub fn body(&self) -> &[u8] {
        match &self.storage {
            RowStorage::Shared(batch) => &batch.body,
            RowStorage::Selected(selected) => frame::body(&selected.frame),
        }
    }

    /// Bytes that a ring counts for them.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match &self.storage {
                RowStorage::Shared(batch) => batch.size(),
                RowStorage::Selected(selected) => selected.frame.len() + 8 * selected.positions.len(),
            }
    }
}
