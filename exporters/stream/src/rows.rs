//! A range of rows in the order of the subscription, and its storage.

use dichroic_model::{Batch, EventSchema, Source};
use dichroic_wire::frame;
use std::sync::Arc;

/// Overhead of a range of rows in a ring's byte count.
const OVERHEAD_BYTES: usize = 128;

/// Rows copied from batches of any schemas and sources.
#[derive(Debug)]
pub struct Gathered {
    /// A MIXED frame, header included; its contexts have the store's ids.
    pub frame: Box<[u8]>,
    /// Schema and source of each context of the frame.
    pub contexts: Box<[(Arc<EventSchema>, Arc<Source>)]>,
    /// Stream position of each row.
    pub positions: Box<[u64]>,
}

impl Gathered {
    /// The body of the frame.
    pub fn body(&self) -> &[u8] {
        frame::body(&self.frame)
    }
}

/// Storage of rows.
#[derive(Debug, Clone)]
pub enum RowStorage {
    /// A whole batch: shared.
    Shared(Arc<Batch>),
    /// Some rows: copied.
    Gathered(Arc<Gathered>),
}

/// A range of rows. Never empty.
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
            RowStorage::Gathered(gathered) => gathered.positions.len() as u32,
        };
        (self.from, self.to) == (0, all)
    }

    /// Stream position of a row.
    pub fn position(&self, row: u32) -> u64 {
        match &self.storage {
            RowStorage::Shared(batch) => batch.position + u64::from(row),
            RowStorage::Gathered(gathered) => gathered.positions[row as usize],
        }
    }

    /// Bytes that a ring counts for them.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match &self.storage {
                RowStorage::Shared(batch) => batch.size(),
                RowStorage::Gathered(gathered) => {
                    gathered.frame.len() + 8 * gathered.positions.len() + 16 * gathered.contexts.len()
                }
            }
    }
}
