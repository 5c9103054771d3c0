//! EVENTS of a relay → batches of the stream: checked, rewritten to the collector's schema, source and position, published as bytes.

use crate::stream_spec::StreamSpec;
use dichroic_model::{Batch, EventKind, EventSchema, SECOND, Source, UnixNanos, clock};
use dichroic_pipeline::{Core, Signal};
use dichroic_wire::limits::SCHEMAS_PER_RELAY;
use dichroic_wire::{Cell, Events, EventsHeader, EventsScratch, StreamEntry, events};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A stream of this relay, with its schema in the store.
#[derive(Debug)]
struct RelayStream {
    schema: Arc<EventSchema>,
    /// It is in the latest plan.
    requested: bool,
    /// It was in a plan of this connection: rows may be in flight.
    planned_before: bool,
    /// The relay sends its rows: its latest reply is to a plan with the stream.
    flows: bool,
    /// When the relay ended it, after the reply to a plan without it.
    until: UnixNanos,
    /// Time of the latest row.
    last: UnixNanos,
    /// Time of the latest row before the relay ended it.
    last_before: UnixNanos,
}

/// Rows of an ended stream that are later than its end by more than this were not in flight.
pub(crate) const IN_FLIGHT: UnixNanos = SECOND;

/// Result of a frame of rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Published to the stream.
    Yes,
    /// Not requested any more.
    Withdrawn,
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
                        flows: false,
                        until: 0,
                        last: 0,
                        last_before: 0,
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
                (stream.requested, stream.planned_before) = (true, true);
                entries.push(spec.entry());
            }
        }
        entries
    }

    /// From now on the relay sends these streams and no others. `until`: when the others ended.
    pub(crate) fn switch(&mut self, sent: &HashSet<u32>, until: UnixNanos) {
        for (id, stream) in &mut self.by_schema {
            let flowed = std::mem::replace(&mut stream.flows, sent.contains(id));
            if flowed && !stream.flows {
                (stream.until, stream.last_before) = (until, stream.last);
            }
        }
    }

    /// The relay may have ended these streams.
    pub(crate) fn withdraw(&mut self, ended: impl Fn(u32) -> bool) {
        for (_, stream) in self.by_schema.iter_mut().filter(|(id, _)| ended(**id)) {
            if std::mem::replace(&mut stream.flows, false) {
                stream.last_before = stream.last;
            }
        }
    }

    /// The streams of the blueprint that are registered, whether the relay sends them, and the latest row before they ended.
    pub(crate) fn sent<'s>(
        &'s self,
        specs: &'s [StreamSpec],
    ) -> impl Iterator<Item = (&'s Arc<EventSchema>, bool, UnixNanos)> {
        let streams = specs.iter().filter_map(|spec| self.by_schema.get(&spec.schema));
        streams.map(|stream| (&stream.schema, stream.flows, stream.last_before))
    }

    /// The times of the last rows.
    pub(crate) fn last_rows(&self) -> impl Iterator<Item = (&Arc<EventSchema>, UnixNanos)> {
        self.by_schema
            .values()
            .map(|stream| (&stream.schema, stream.last))
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

    /// Publishes a frame. `planned`: whether a plan without a reply has the stream, whose rows may be ahead of the reply. Returns its
    /// schema id of the plan, its number of rows, and the result.
    pub(crate) fn publish(
        &mut self,
        store: &mut Core,
        source: &Arc<Source>,
        body: &[u8],
        planned: impl Fn(u32) -> bool,
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
        let latest = latest(&events);
        // Rows that were in flight when the stream ended are rows of its time.
        let late = latest > stream.until.saturating_add(IN_FLIGHT);
        if !stream.flows && !planned(header.schema) {
            if late {
                return Ok((header.schema, rows as u64, Published::Withdrawn));
            }
            stream.last_before = stream.last_before.max(latest);
        }
        stream.last = stream.last.max(latest);
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
            received: clock::steady(now),
            body,
        });
        Ok((header.schema, rows as u64, Published::Yes))
    }
}

/// The time of the latest row: the first or the last of a frame.
fn latest(events: &Events<'_>) -> UnixNanos {
    let time = |row| match events.cell(row, 0) {
        Cell::Int(time) => u64::try_from(time).unwrap_or(0),
        _ => 0,
    };
    time(0).max(time(events.rows() - 1))
}

/// An EVENTS frame that ends the connection.
#[derive(Debug)]
pub(crate) enum EventsError {
    /// The bytes violate the format.
    Format(dichroic_wire::Error),
    /// The frame does not match the plan: message, and number of rows dropped.
    Violation(String, u64),
}
