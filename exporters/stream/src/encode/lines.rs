//! Rows as JSON objects, each a line or a server-sent event.

use super::Encoded;
use crate::json;
use crate::rows::{RowStorage, Rows};
use dichroic_model::{EventSchema, Source};
use dichroic_wire::{Cell, Events, EventsScratch, GapReason, Mixed, MixedScratch};
use std::collections::HashMap;
use std::io::Write;

/// One call writes about this many bytes of JSON at most: a string that a frame contains once is repeated for each row.
pub(super) const LINES_BYTES: usize = 64 << 10;

/// Encodes JSON objects, each as a line or a server-sent event.
#[derive(Debug)]
pub(crate) struct Json {
    pub(super) sse: bool,
    epoch: u64,
    scratch: EventsScratch,
    mixed_scratch: MixedScratch,
    columns: HashMap<u32, json::Columns>,
}

impl Json {
    pub(super) fn new(sse: bool, epoch: u64) -> Self {
        Self {
            sse,
            epoch,
            scratch: EventsScratch::default(),
            mixed_scratch: MixedScratch::default(),
            columns: HashMap::new(),
        }
    }

    pub(super) fn rows(&mut self, out: &mut Vec<u8>, rows: &Rows) -> Encoded {
        let (mut scratch, mut mixed_scratch) = (
            std::mem::take(&mut self.scratch),
            std::mem::take(&mut self.mixed_scratch),
        );
        let encoded = match &rows.storage {
            RowStorage::Shared(batch) => Events::decode(&batch.body, &mut scratch).map(|events| {
                let columns = events.columns();
                self.lines(out, rows, |json, out, row| {
                    let cell = |column| {
                        if column < columns {
                            events.cell(row as usize, column)
                        } else {
                            Cell::Null
                        }
                    };
                    json.line(out, rows.position(row), (&batch.schema, &batch.source), cell);
                })
            }),
            RowStorage::Gathered(gathered) => {
                Mixed::decode(gathered.body(), &mut mixed_scratch).map(|mixed| {
                    self.lines(out, rows, |json, out, row| {
                        let (schema, source) = &gathered.contexts[mixed.context_number(row as usize)];
                        let columns = mixed.columns(row as usize);
                        let cell = |column| {
                            if column < columns {
                                mixed.cell(row as usize, column)
                            } else {
                                Cell::Null
                            }
                        };
                        json.line(out, rows.position(row), (schema, source), cell);
                    })
                })
            }
        };
        (self.scratch, self.mixed_scratch) = (scratch, mixed_scratch);
        encoded.unwrap_or_else(|error| {
            tracing::error!(%error, position = rows.position(rows.from), "cannot decode rows; this is a bug, please report it");
            let lost = rows.len() as u64;
            self.object(out, "gap", |out| {
                json::gap(out, None, GapReason::RowTooLarge, Some(lost), None);
            });
            let rows = rows.to - rows.from;
            Encoded { rows, lost }
        })
    }

    /// Writes rows until they are enough for one call.
    fn lines(
        &mut self,
        out: &mut Vec<u8>,
        rows: &Rows,
        line: impl Fn(&mut Self, &mut Vec<u8>, u32),
    ) -> Encoded {
        let (start, mut row) = (out.len(), rows.from);
        while row < rows.to && out.len() - start < LINES_BYTES {
            line(self, out, row);
            row += 1;
        }
        let rows = row - rows.from;
        Encoded { rows, lost: 0 }
    }

    fn line<'a>(
        &mut self,
        out: &mut Vec<u8>,
        position: u64,
        (schema, source): (&EventSchema, &Source),
        cell: impl Fn(usize) -> Cell<'a>,
    ) {
        self.begin(out, schema.kind.as_str(), Some(position));
        let columns = self
            .columns
            .entry(schema.id)
            .or_insert_with(|| json::Columns::from(schema));
        json::row(out, columns, source.name(), cell);
        self.end(out);
    }

    /// Writes one object with its framing.
    pub fn object(&self, out: &mut Vec<u8>, kind: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.begin(out, kind, None);
        write(out);
        self.end(out);
    }

    /// The id of a server-sent event is the cursor after it: one row consumed from this row's position on.
    fn begin(&self, out: &mut Vec<u8>, kind: &str, position: Option<u64>) {
        if self.sse {
            let _ = writeln!(out, "event: {kind}");
            if let Some(position) = position {
                let _ = writeln!(out, "id: {},{position},1", self.epoch);
            }
            out.extend_from_slice(b"data: ");
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.sse { b"\n\n" } else { b"\n" });
    }
}
