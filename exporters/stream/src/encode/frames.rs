//! Rows as wire frames.

use super::definitions::{release, schema_map, source_map};
use super::{Encoded, written};
use crate::dictionary::{Id, Ids};
use crate::rows::{Gathered, RowStorage, Rows};
use dichroic_model::{Batch, EventSchema, Source};
use dichroic_wire::define::{self, DefineKind};
use dichroic_wire::events::{self, EventsHeader};
use dichroic_wire::{
    Cell, Events, EventsBuilder, EventsScratch, GapReason, Mixed, MixedBuilder, MixedScratch, Pushed, frame,
    limits, mixed,
};
use std::sync::Arc;

/// Encodes wire frames.
#[derive(Debug)]
pub(crate) struct Frames {
    pub max_frame: u32,
    pub(super) mixes: bool,
    schemas: Ids,
    sources: Ids,
    scratch: EventsScratch,
    mixed_scratch: MixedScratch,
}

impl Frames {
    pub(super) fn new(max_frame: u32, mixes: bool) -> Self {
        Self {
            max_frame,
            mixes,
            schemas: Ids::new(limits::SCHEMAS),
            sources: Ids::new(limits::SOURCES),
            scratch: EventsScratch::default(),
            mixed_scratch: MixedScratch::default(),
        }
    }

    pub(super) fn rows(&mut self, out: &mut Vec<u8>, rows: &Rows) -> Encoded {
        let lost = match &rows.storage {
            RowStorage::Shared(batch) => self.batch(out, rows, batch),
            RowStorage::Gathered(gathered) if self.mixes => self.mixed(out, rows, gathered),
            RowStorage::Gathered(gathered) => self.separated(out, rows, gathered),
        };
        let rows = rows.to - rows.from;
        Encoded { rows, lost }
    }

    fn batch(&mut self, out: &mut Vec<u8>, rows: &Rows, batch: &Batch) -> u64 {
        let schema = self.schema(out, &batch.schema);
        let source = self.source(out, &batch.source);
        if rows.is_whole() && batch.body.len() <= self.max_frame as usize {
            forward(out, batch, schema, source);
            return 0;
        }
        self.copy_rows(out, rows, batch, schema, source)
    }

    /// Copies rows of a body that cannot be forwarded unchanged: only a range of it is needed, or it is too large for this
    /// subscriber. Returns the number of lost rows.
    fn copy_rows(&mut self, out: &mut Vec<u8>, rows: &Rows, batch: &Batch, schema: u32, source: u32) -> u64 {
        let Frames {
            max_frame, scratch, ..
        } = self;
        let events = match Events::decode(&batch.body, scratch) {
            Ok(events) => events,
            Err(error) => return unreadable(out, rows, schema, &error),
        };
        let mut builder = match EventsBuilder::new(schema, source, events.columns() - 1, *max_frame) {
            Ok(builder) => builder,
            Err(error) => return unreadable(out, rows, schema, &error),
        };
        let mut too_large = 0;
        let (mut first, mut next) = (rows.from, rows.from);
        while next < rows.to {
            let had = builder.rows();
            let appended = builder.append(&events, (next..rows.to).map(|row| row as usize));
            next += (builder.rows() - had) as u32;
            if appended.is_err() || next < rows.to {
                written(builder.finish(rows.position(first), out).map(drop));
            }
            if appended.is_err() {
                too_large += 1;
                next += 1;
                row_too_large(out, schema);
            }
            if builder.rows() == 0 {
                first = next;
            }
        }
        if builder.rows() > 0 {
            written(builder.finish(rows.position(first), out).map(drop));
        }
        too_large
    }

    /// Sends gathered rows in one frame: unchanged except for the connection's ids, or, of a range, copied.
    fn mixed(&mut self, out: &mut Vec<u8>, rows: &Rows, gathered: &Gathered) -> u64 {
        if rows.is_whole() {
            let ids = self.context_ids(out, gathered.contexts.iter());
            written(mixed::forward(out, gathered.body(), &ids));
            return 0;
        }
        let mut builder = MixedBuilder::new(self.max_frame);
        let range = (rows.from..rows.to).map(|row| row as usize);
        let copied = Mixed::decode(gathered.body(), &mut self.mixed_scratch)
            .and_then(|mixed| builder.append_mixed(&mixed, range));
        if let Err(error) = copied {
            return unreadable(out, rows, 0, &error);
        }
        // Contexts have the ids of the store until they are forwarded.
        let contexts = builder.contexts().iter().filter_map(|context| {
            let mut known = gathered.contexts.iter();
            known.find(|(schema, source)| (schema.id, source.id.0) == (context.schema, context.source))
        });
        let ids = self.context_ids(out, contexts);
        let mut copy = Vec::new();
        written(builder.finish(rows.position(rows.from), &mut copy).map(drop));
        written(mixed::forward(out, frame::body(&copy), &ids));
        0
    }

    fn context_ids<'g>(
        &mut self,
        out: &mut Vec<u8>,
        contexts: impl Iterator<Item = &'g (Arc<EventSchema>, Arc<Source>)>,
    ) -> Vec<(u32, u32)> {
        contexts
            .map(|(schema, source)| (self.schema(out, schema), self.source(out, source)))
            .collect()
    }

    /// Sends gathered rows to a subscriber that does not read MIXED frames: a frame for each run of rows of one schema and source.
    /// Returns the number of lost rows.
    fn separated(&mut self, out: &mut Vec<u8>, rows: &Rows, gathered: &Gathered) -> u64 {
        let mut scratch = std::mem::take(&mut self.mixed_scratch);
        let lost = match Mixed::decode(gathered.body(), &mut scratch) {
            Ok(mixed) => self.runs(out, rows, gathered, &mixed),
            Err(error) => unreadable(out, rows, 0, &error),
        };
        self.mixed_scratch = scratch;
        lost
    }

    fn runs(&mut self, out: &mut Vec<u8>, rows: &Rows, gathered: &Gathered, mixed: &Mixed<'_>) -> u64 {
        let (mut row, mut too_large) = (rows.from, 0);
        let mut cells = Vec::new();
        while row < rows.to {
            let context = mixed.context_number(row as usize);
            let (schema, source) = &gathered.contexts[context];
            let (schema, source) = (self.schema(out, schema), self.source(out, source));
            let columns = mixed.columns(row as usize);
            let Ok(mut builder) = EventsBuilder::new(schema, source, columns - 1, self.max_frame) else {
                return too_large;
            };
            let first = row;
            while row < rows.to && mixed.context_number(row as usize) == context {
                let time = match mixed.cell(row as usize, 0) {
                    Cell::Int(time) => time,
                    _ => 0,
                };
                cells.clear();
                cells.extend((1..columns).map(|column| mixed.cell(row as usize, column)));
                match builder.push(time, &cells) {
                    Ok(Pushed::Added) => row += 1,
                    Ok(Pushed::Full) => break,
                    // Only the first row of a frame can be too large, so this frame has no rows.
                    Err(_) => {
                        too_large += 1;
                        row += 1;
                        row_too_large(out, schema);
                        break;
                    }
                }
            }
            written(builder.finish(rows.position(first), out).map(drop));
        }
        too_large
    }

    /// The id of a schema on this connection; defines it if needed.
    pub(super) fn schema(&mut self, out: &mut Vec<u8>, schema: &EventSchema) -> u32 {
        match self.schemas.id(schema.id) {
            Id::Defined(id) => id,
            Id::New { id, release_first } => {
                if release_first {
                    release(out, DefineKind::Schema, id);
                }
                written(define::write_one(
                    out,
                    DefineKind::Schema,
                    id,
                    &schema_map(schema),
                ));
                id
            }
        }
    }

    /// The id of a source on this connection; defines it if needed.
    pub fn source(&mut self, out: &mut Vec<u8>, source: &Source) -> u32 {
        match self.sources.id(source.id.0) {
            Id::Defined(id) => id,
            Id::New { id, release_first } => {
                if release_first {
                    release(out, DefineKind::Source, id);
                }
                let start = out.len();
                let whole = define::write_one(out, DefineKind::Source, id, &source_map(source, true));
                if whole.is_err() || out.len() - start > self.max_frame as usize {
                    // A resource larger than the subscriber's frames is omitted; the source is still defined.
                    out.truncate(start);
                    written(define::write_one(
                        out,
                        DefineKind::Source,
                        id,
                        &source_map(source, false),
                    ));
                }
                id
            }
        }
    }
}

/// Sends the received body unchanged except for the connection's ids and the position.
fn forward(out: &mut Vec<u8>, batch: &Batch, schema: u32, source: u32) {
    let header = EventsHeader {
        schema,
        source,
        position: batch.position,
    };
    written(events::forward(out, &batch.body, header));
}

fn row_too_large(out: &mut Vec<u8>, schema: u32) {
    let gap = dichroic_wire::Gap {
        schema,
        reason: GapReason::RowTooLarge,
        lost: Some(1),
        time: None,
    };
    gap.write(out);
}

/// Reports the rows of a body as lost; `schema` 0: of several. This cannot happen: the receiver has validated the body.
fn unreadable(out: &mut Vec<u8>, rows: &Rows, schema: u32, error: &dichroic_wire::Error) -> u64 {
    tracing::error!(%error, position = rows.position(rows.from), "cannot decode rows; this is a bug, please report it");
    let lost = rows.len() as u64;
    let gap = dichroic_wire::Gap {
        schema,
        reason: GapReason::RowTooLarge,
        lost: Some(lost),
        time: None,
    };
    gap.write(out);
    lost
}
