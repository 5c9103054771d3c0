//! EVENTS of a relay → batches of the stream: checked, rewritten to the collector's schema, source and position, published as bytes.

use crate::stream_spec::StreamSpec;
use dichroic_model::{Batch, EventKind, EventSchema, SECOND, Source, UnixNanos};
use dichroic_pipeline::{Core, Signal};
use dichroic_wire::limits::SCHEMAS_PER_RELAY;
use dichroic_wire::{Cell, Events, EventsHeader, EventsScratch, StreamEntry, events};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A stream of this relay, with its schema in the store.
#[derive(Debug)]
struct RelayStream {
    schema: Arc<EventSchema>,
    /// It is in the current plan.
    requested: bool,
    /// It was in a plan of this connection: rows may be in flight.
    planned_before: bool,
    /// The current plan had no room for it.
    left_out: bool,
    /// The relay sends its rows: it has confirmed the plan, or rows have arrived.
    flows: bool,
    /// Time of the first row of the last frame.
    last: UnixNanos,
}

/// A withdrawn stream ends in the relay this long before, or earlier if its last rows were: a relay drops rows that it still holds.
const WITHDRAWN_ROWS: UnixNanos = SECOND / 10;
/// Rows older than this were not held by the relay when the stream was withdrawn.
const WITHDRAWN_ROWS_MOST: UnixNanos = 10 * SECOND;

impl RelayStream {
    /// Since when its rows are missing, if it is withdrawn now.
    fn ends(&self, now: UnixNanos) -> UnixNanos {
        let last = if self.last + WITHDRAWN_ROWS_MOST < now {
            now
        } else {
            self.last.min(now)
        };
        last.saturating_sub(WITHDRAWN_ROWS)
    }
}

/// Result of a frame of rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Published to the stream.
    Yes,
    /// Not requested any more.
    Withdrawn,
    /// Not published: the plan was not confirmed yet. Call [`RelayStreams::confirm`], and publish again.
    Unconfirmed,
}

/// The raw events of one connection, by the schema of the plan.
#[derive(Debug, Default)]
pub(crate) struct RelayStreams {
    by_schema: HashMap<u32, RelayStream>,
    /// Streams of earlier plans were removed: rows of them may be in flight.
    some_removed: bool,
    scratch: EventsScratch,
}

impl RelayStreams {
    /// Registers every stream of the blueprint in the store, so that subscribers see what can match. Returns the number of streams
    /// without room, here or in the store. Streams of earlier plans are kept while there is room.
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
        let mut unregistered = 0;
        // The stream of logs is the last one of the blueprint.
        for spec in specs.iter().rev() {
            if self.by_schema.len() >= SCHEMAS_PER_RELAY && !self.by_schema.contains_key(&spec.schema) {
                unregistered += 1;
                continue;
            }
            let (measurements, metadata) = (spec.measurements.clone(), spec.metadata.clone());
            match store.schema(spec.kind, &spec.name, measurements, metadata) {
                Ok(schema) => {
                    self.by_schema.entry(spec.schema).or_insert(RelayStream {
                        schema,
                        requested: false,
                        planned_before: false,
                        left_out: false,
                        flows: false,
                        last: 0,
                    });
                }
                Err(_) => unregistered += 1,
            }
        }
        unregistered
    }

    /// The entries of the wanted streams. Others are withdrawn.
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
                (stream.requested, stream.planned_before, stream.left_out) = (true, true, false);
                entries.push(spec.entry());
            }
        }
        self.by_schema
            .values_mut()
            .for_each(|stream| stream.flows &= stream.requested);
        entries
    }

    /// The plan has only these of the requested streams.
    pub(crate) fn cut(&mut self, planned: &[StreamEntry]) {
        let planned: HashSet<u32> = planned.iter().map(|entry| entry.schema).collect();
        for (id, stream) in &mut self.by_schema {
            stream.left_out = stream.requested && !planned.contains(id);
            stream.flows &= !stream.left_out;
        }
    }

    /// The relay sends the requested streams, except these.
    pub(crate) fn confirm(&mut self, refused: &HashSet<u32>) {
        for (id, stream) in &mut self.by_schema {
            stream.flows = stream.requested && !stream.left_out && !refused.contains(id);
        }
    }

    /// The streams of the blueprint that are registered. Of those that the relay does not send, when they ended if they end now.
    pub(crate) fn sent<'s>(
        &'s self,
        specs: &'s [StreamSpec],
        now: UnixNanos,
    ) -> impl Iterator<Item = (&'s Arc<EventSchema>, Option<UnixNanos>)> {
        let streams = specs.iter().filter_map(|spec| self.by_schema.get(&spec.schema));
        streams.map(move |stream| (&stream.schema, (!stream.flows).then(|| stream.ends(now))))
    }

    /// Whether [`RelayStreams::request`] would return other entries than the last time.
    pub(crate) fn differs(&self, specs: &[StreamSpec], wanted: impl Fn(&StreamSpec) -> bool) -> bool {
        specs.iter().any(|spec| {
            let requested = self.by_schema.get(&spec.schema).map(|stream| stream.requested);
            requested.is_some_and(|requested| requested != wanted(spec))
        })
    }

    /// The store's schema for a schema id of the plan.
    pub(crate) fn schema(&self, id: u32) -> Option<&Arc<EventSchema>> {
        self.by_schema.get(&id).map(|stream| &stream.schema)
    }

    /// The signal under which its rows are counted.
    pub(crate) fn signal(&self, id: u32) -> Signal {
        match self.schema(id).map(|schema| schema.kind) {
            Some(EventKind::Log) => Signal::Logs,
            _ => Signal::Events,
        }
    }

    /// Publishes a frame. Returns its schema id of the plan, its number of rows, and the result.
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
        let violation = |message| Err(EventsError::Violation(message, rows as u64));
        let Some(stream) = self
            .by_schema
            .get_mut(&header.schema)
            .filter(|stream| stream.planned_before)
        else {
            if self.some_removed {
                return Ok((header.schema, rows as u64, Published::Withdrawn));
            }
            return violation(format!(
                "schema {} is not in a plan of this connection",
                header.schema
            ));
        };
        let schema = &stream.schema;
        let columns = 1 + schema.measurements.len() + schema.metadata.len();
        if events.columns() != columns {
            return violation(format!(
                "EVENTS of schema {} has {} columns, the plan {columns}",
                header.schema,
                events.columns()
            ));
        }
        if header.source != 0 || header.position != 0 {
            return violation("EVENTS of a relay must have source 0 and position 0".to_owned());
        }
        if !stream.requested {
            if let Some(earliest) = earliest(&events) {
                store.node_rows_dropped(source.id, schema, earliest);
            }
            return Ok((header.schema, rows as u64, Published::Withdrawn));
        }
        if !stream.flows {
            return Ok((header.schema, rows as u64, Published::Unconfirmed));
        }
        if let Cell::Int(time) = events.cell(0, 0) {
            stream.last = u64::try_from(time).unwrap_or(0);
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

/// The time of the earliest row.
fn earliest(events: &Events<'_>) -> Option<UnixNanos> {
    let time = |row| match events.cell(row, 0) {
        Cell::Int(time) => u64::try_from(time).ok(),
        _ => None,
    };
    (0..events.rows()).filter_map(time).min()
}

/// An EVENTS frame that ends the connection.
#[derive(Debug)]
pub(crate) enum EventsError {
    /// The bytes violate the format.
    Format(dichroic_wire::Error),
    /// The frame does not match the plan: message, and number of rows dropped.
    Violation(String, u64),
}
