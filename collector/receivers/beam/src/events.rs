//! EVENTS of a relay → batches of the stream: checked, given the collector's schema, source and position, published as bytes.

use crate::stream_spec::StreamSpec;
use dichroic_model::{Batch, EventKind, EventSchema, Source, UnixNanos};
use dichroic_pipeline::{Core, Signal};
use dichroic_wire::limits::SCHEMAS_PER_RELAY;
use dichroic_wire::{Events, EventsHeader, EventsScratch, StreamEntry, events};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A raw event of this relay under the schema that the store gave it.
#[derive(Debug)]
struct RelayStream {
    schema: Arc<EventSchema>,
    /// It is in the present plan.
    requested: bool,
    /// It was in a plan of this connection: rows may still be on their way.
    planned_before: bool,
}

/// What a frame of rows came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Handed to the stream.
    Yes,
    /// Nobody asks for it any more.
    Withdrawn,
}

/// The raw events of one connection, by the schema of the plan.
#[derive(Debug, Default)]
pub(crate) struct RelayStreams {
    by_schema: HashMap<u32, RelayStream>,
    /// Some of plans before the present one were let go of: rows of them may still be on their way.
    some_removed: bool,
    scratch: EventsScratch,
}

impl RelayStreams {
    /// Makes every stream of the blueprint planned_before to the store, so that a subscriber learns what can match. Returns for how many
    /// there is no room, here or there. Those of plans before it are kept while there is.
    pub(crate) fn register(&mut self, store: &mut Core, specs: &[StreamSpec]) -> usize {
        self.by_schema
            .values_mut()
            .for_each(|stream| stream.requested = false);
        let planned: HashSet<u32> = specs.iter().map(|spec| spec.schema).collect();
        let new = |spec: &&u32| !self.by_schema.contains_key(spec);
        if self.by_schema.len() + planned.iter().filter(new).count() > SCHEMAS_PER_RELAY {
            self.by_schema.retain(|id, _| planned.contains(id));
            self.some_removed = true;
        }
        let mut without = 0;
        // The stream of logs is one, and the last of the blueprint.
        for spec in specs.iter().rev() {
            if self.by_schema.len() >= SCHEMAS_PER_RELAY && !self.by_schema.contains_key(&spec.schema) {
                without += 1;
                continue;
            }
            let (measurements, metadata) = (spec.measurements.clone(), spec.metadata.clone());
            match store.schema(spec.kind, &spec.name, measurements, metadata) {
                Ok(schema) => {
                    self.by_schema.entry(spec.schema).or_insert(RelayStream {
                        schema,
                        requested: false,
                        planned_before: false,
                    });
                }
                Err(_) => without += 1,
            }
        }
        without
    }

    /// The entries of those that are wanted. Others that were requested for are withdrawn.
    pub(crate) fn request(
        &mut self,
        specs: &[StreamSpec],
        wanted: impl Fn(&StreamSpec) -> bool,
    ) -> Vec<StreamEntry> {
        self.by_schema
            .values_mut()
            .for_each(|stream| stream.requested = false);
        let mut entries = Vec::new();
        for spec in specs.iter().filter(|spec| wanted(spec)) {
            if let Some(stream) = self.by_schema.get_mut(&spec.schema) {
                (stream.requested, stream.planned_before) = (true, true);
                entries.push(spec.entry());
            }
        }
        entries
    }

    /// Whether [`RelayStreams::ask`] would ask for others than it did last.
    pub(crate) fn differs(&self, specs: &[StreamSpec], wanted: impl Fn(&StreamSpec) -> bool) -> bool {
        specs.iter().any(|spec| {
            let requested = self.by_schema.get(&spec.schema).map(|stream| stream.requested);
            requested.is_some_and(|requested| requested != wanted(spec))
        })
    }

    /// The store's schema of a schema of the plan.
    pub(crate) fn schema(&self, id: u32) -> Option<&Arc<EventSchema>> {
        self.by_schema.get(&id).map(|stream| &stream.schema)
    }

    /// What its rows count as.
    pub(crate) fn signal(&self, id: u32) -> Signal {
        match self.schema(id).map(|schema| schema.kind) {
            Some(EventKind::Log) => Signal::Logs,
            _ => Signal::Events,
        }
    }

    /// Publishes a frame: its schema, its count of rows, and what became of them.
    pub(crate) fn publish(
        &mut self,
        store: &mut Core,
        source: &Arc<Source>,
        body: &[u8],
        now: UnixNanos,
    ) -> Result<(u32, u64, Published), EventsError> {
        let events = Events::decode(body, &mut self.scratch).map_err(EventsError::Format)?;
        let header = events.header();
        let rows = events.rows();
        let wrong = |message| Err(EventsError::Violation(message, rows as u64));
        let Some(stream) = self
            .by_schema
            .get(&header.schema)
            .filter(|stream| stream.planned_before)
        else {
            if self.some_removed {
                return Ok((header.schema, rows as u64, Published::Withdrawn));
            }
            return wrong(format!(
                "schema {} is not in a plan of this connection",
                header.schema
            ));
        };
        let schema = &stream.schema;
        let columns = 1 + schema.measurements.len() + schema.metadata.len();
        if events.columns() != columns {
            return wrong(format!(
                "EVENTS of schema {} has {} columns, the plan {columns}",
                header.schema,
                events.columns()
            ));
        }
        if header.source != 0 || header.position != 0 {
            return wrong("EVENTS of a relay has source 0 and position 0".to_owned());
        }
        if !stream.requested {
            return Ok((header.schema, rows as u64, Published::Withdrawn));
        }
        let position = store.next_position(schema.kind);
        let mut body: Box<[u8]> = body.into();
        let placed = EventsHeader {
            schema: schema.id,
            source: source.id.0,
            position,
        };
        events::patch_body(&mut body, placed).map_err(EventsError::Format)?;
        store.publish(Batch {
            schema: schema.clone(),
            source: source.clone(),
            position,
            rows: rows as u32,
            received: now,
            body,
        });
        Ok((header.schema, rows as u64, Published::Yes))
    }
}

/// Why a frame of rows ends the connection.
#[derive(Debug)]
pub(crate) enum EventsError {
    /// Its bytes are no EVENTS.
    Format(dichroic_wire::Error),
    /// They are, but not what was agreed: words, and the rows that are dropped.
    Violation(String, u64),
}
