//! Publishes log records as event batches for subscribers.
//!
//! A record with an event name is an event of that name; a record without one is a log named `log`. Both have the same columns:
//! `severity` (1 to 24, or null), `body` (any value), `trace_id`, `span_id` (bytes, or null), `attributes` (a map). One schema per
//! event name is therefore enough, whatever attributes the records have.

use super::attributes::{wire_map, wire_value};
use super::resource_scope::ResourceScope;
use super::tally::Tally;
use crate::protobuf::{Content, Cursor, ProtobufError, text};
use dichroic_model::{Batch, EventKind, EventSchema, Source, UnixNanos, clock};
use dichroic_pipeline::{Core, DropReason, NotAdmitted, Signal};
use dichroic_wire::{self as wire, Cell, EventsBuilder, Pushed};
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of one record; larger records are dropped.
const RECORD_BYTES: usize = 1 << 20;
/// Most bytes of an event's name.
const NAME_BYTES: usize = 256;
/// Most event names that get a schema through OTLP, so that senders cannot use up the schemas of other receivers.
const NAMES: usize = 1_024;
/// Most bytes of a batch: it must fit into a frame of every subscriber.
const BATCH_BYTES: u32 = wire::limits::BODY_BYTES_DEFAULT;
/// Columns after the time.
const COLUMNS: [&str; 5] = ["severity", "body", "trace_id", "span_id", "attributes"];

/// Rows that are not published yet, by schema.
#[derive(Default)]
pub(super) struct Logs {
    schemas: HashMap<(EventKind, String), Arc<EventSchema>>,
    /// All of one source: they are published before records of another source are added.
    pending: Vec<Pending>,
    spare: Vec<u8>,
}

struct Pending {
    schema: Arc<EventSchema>,
    rows: EventsBuilder,
}

/// A decoded `LogRecord`.
#[derive(Default)]
struct Record<'a> {
    time: UnixNanos,
    observed: UnixNanos,
    severity: Option<i64>,
    name: &'a str,
    trace_id: &'a [u8],
    span_id: &'a [u8],
    body: Option<wire::Value>,
}

impl Logs {
    /// Adds a `LogRecord` to the rows of its schema.
    pub(super) fn record(
        &mut self,
        store: &mut Core,
        resource: &ResourceScope,
        tally: &mut Tally,
        message: &[u8],
        now: UnixNanos,
    ) {
        let added = match (&resource.open, resource.refused) {
            (Some(open), None) => self.add(store, &open.source, tally, message, now),
            (_, reason) => Err((Signal::Logs, reason.unwrap_or(DropReason::Malformed))),
        };
        match added {
            Ok(()) => {}
            Err((signal, reason)) => tally.dropped(signal, reason, 1),
        }
    }

    /// Adds a row; it counts as applied when it is published.
    fn add(
        &mut self,
        store: &mut Core,
        source: &Arc<Source>,
        tally: &mut Tally,
        message: &[u8],
        now: UnixNanos,
    ) -> Result<(), (Signal, DropReason)> {
        if message.len() > RECORD_BYTES {
            return Err((Signal::Logs, DropReason::TooLarge));
        }
        let record = read(message).map_err(|_| (Signal::Logs, DropReason::Malformed))?;
        let (kind, signal) = if record.name.is_empty() {
            (EventKind::Log, Signal::Logs)
        } else {
            (EventKind::Event, Signal::Events)
        };
        let attributes = wire_map(message, 6, 2).map_err(|_| (signal, DropReason::Malformed))?;
        let schema = self
            .schema(store, kind, record.name)
            .map_err(|reason| (signal, reason))?;
        let values = Values::new(record.body.unwrap_or(wire::Value::Null), attributes)
            .map_err(|_| (signal, DropReason::TooLarge))?;
        let (body, attributes) = values.cells();
        let id = |id: &'_ [u8]| !id.is_empty();
        let cells = [
            record.severity.map_or(Cell::Null, Cell::Int),
            body,
            if id(record.trace_id) {
                Cell::Bytes(record.trace_id)
            } else {
                Cell::Null
            },
            if id(record.span_id) {
                Cell::Bytes(record.span_id)
            } else {
                Cell::Null
            },
            attributes,
        ];
        let time = [record.time, record.observed, now]
            .into_iter()
            .find(|time| *time != 0);
        let time = i64::try_from(time.unwrap_or(0)).unwrap_or(i64::MAX);
        self.push(store, source, &schema, tally, time, &cells, now)
            .map_err(|_| (signal, DropReason::TooLarge))
    }

    #[expect(clippy::too_many_arguments, reason = "a row and its destination")]
    fn push(
        &mut self,
        store: &mut Core,
        source: &Arc<Source>,
        schema: &Arc<EventSchema>,
        tally: &mut Tally,
        time: i64,
        cells: &[Cell<'_>],
        now: UnixNanos,
    ) -> wire::Result<()> {
        let index = match self.pending.iter().position(|p| p.schema.id == schema.id) {
            Some(index) => index,
            None => {
                let rows = EventsBuilder::new(schema.id, source.id.0, COLUMNS.len(), BATCH_BYTES)?;
                let schema = schema.clone();
                self.pending.push(Pending { schema, rows });
                self.pending.len() - 1
            }
        };
        let pending = &mut self.pending[index];
        if pending.rows.push(time, cells)? == Pushed::Full {
            publish(store, source, pending, &mut self.spare, tally, now);
            pending.rows.push(time, cells)?;
        }
        Ok(())
    }

    fn schema(
        &mut self,
        store: &mut Core,
        kind: EventKind,
        name: &str,
    ) -> Result<Arc<EventSchema>, DropReason> {
        let name = if kind == EventKind::Log { "log" } else { name };
        if let Some(schema) = self.schemas.get(&(kind, name.to_owned())) {
            return Ok(schema.clone());
        }
        if name.len() > NAME_BYTES {
            return Err(DropReason::LabelLimit);
        }
        if self.schemas.len() >= NAMES {
            return Err(DropReason::SchemaLimit);
        }
        let columns = COLUMNS.map(str::to_owned).to_vec();
        let schema = store
            .schema(kind, name, Vec::new(), columns)
            .map_err(|NotAdmitted(reason)| reason)?;
        self.schemas.insert((kind, name.to_owned()), schema.clone());
        Ok(schema)
    }

    /// Publishes all pending rows.
    pub(super) fn publish(
        &mut self,
        store: &mut Core,
        source: &Arc<Source>,
        tally: &mut Tally,
        now: UnixNanos,
    ) {
        for mut pending in self.pending.drain(..) {
            publish(store, source, &mut pending, &mut self.spare, tally, now);
        }
    }
}

fn publish(
    store: &mut Core,
    source: &Arc<Source>,
    pending: &mut Pending,
    frame: &mut Vec<u8>,
    tally: &mut Tally,
    now: UnixNanos,
) {
    let schema = &pending.schema;
    let signal = match schema.kind {
        EventKind::Event => Signal::Events,
        EventKind::Log => Signal::Logs,
    };
    let waiting = pending.rows.rows() as u64;
    let position = store.next_position(schema.kind);
    frame.clear();
    match pending.rows.finish(position, frame) {
        Ok(0) => {}
        Ok(rows) => {
            let body = wire::frame::split_body(frame).into_boxed_slice();
            store.publish(Batch {
                schema: schema.clone(),
                source: source.clone(),
                position,
                rows: rows as u32,
                received: clock::steady(now),
                body,
            });
            tally.applied(signal, rows as u64);
        }
        Err(_) => tally.dropped(signal, DropReason::TooLarge, waiting),
    }
}

fn read(message: &[u8]) -> Result<Record<'_>, ProtobufError> {
    let mut record = Record::default();
    let mut body = None;
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.field()? {
        match field {
            (1, Content::Fixed64(time)) => record.time = time,
            (11, Content::Fixed64(time)) => record.observed = time,
            // 0 is "unspecified", and above 24 no severity is defined.
            (2, Content::Varint(n)) => record.severity = (1..=24).contains(&n).then_some(n as i64),
            (5, Content::Bytes(value)) => body = Some(value),
            (9, Content::Bytes(id)) => record.trace_id = &id[..id.len().min(16)],
            (10, Content::Bytes(id)) => record.span_id = &id[..id.len().min(8)],
            (12, Content::Bytes(name)) => record.name = text(name)?,
            (1 | 2 | 5 | 9..=12, _) => return Err(ProtobufError::Type),
            _ => {}
        }
    }
    if let Some(body) = body {
        record.body = Some(wire_value(body, 2)?);
    }
    Ok(record)
}

/// Body and attributes in wire encoding, as a row takes lists and maps.
struct Values(Vec<u8>);

impl Values {
    fn new(body: wire::Value, attributes: wire::Map) -> wire::Result<Self> {
        let mut both = wire::Map::new();
        both.insert("attributes".to_owned(), wire::Value::Map(attributes));
        both.insert("body".to_owned(), body);
        let mut frame = Vec::new();
        wire::define::write_one(&mut frame, wire::DefineKind::Schema, 0, &both)?;
        Ok(Values(wire::frame::split_body(&mut frame)))
    }

    fn cells(&self) -> (Cell<'_>, Cell<'_>) {
        let map = wire::Define::decode(&self.0)
            .ok()
            .and_then(|define| define.entries().next()?.1);
        let cell = |key| map.and_then(|map| map.get(key)).unwrap_or(Cell::Null);
        (cell("body"), cell("attributes"))
    }
}
