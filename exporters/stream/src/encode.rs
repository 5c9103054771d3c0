//! Encodes HELLO, rows and gaps in a subscriber's format: frames, lines of JSON, or server-sent events.
//!
//! Sans-I/O: everything is appended to a buffer. The frames of one connection share its ids; a definition precedes the first
//! frame that uses it.

use crate::dictionary::{Id, Ids};
use crate::json;
use crate::ring::Gap;
use crate::rows::Rows;
use dichroic_model::{AttributeValue, Attributes, EventKind, EventSchema, Source};
use dichroic_wire::StreamKind;
use dichroic_wire::define::{self, DefineKind, DefineWriter};
use dichroic_wire::events::{self, EventsHeader};
use dichroic_wire::{
    CollectorHello, Events, EventsBuilder, EventsScratch, GapReason, Goodbye, Map, Ping, Value, limits,
};
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

/// One call writes about this many bytes of JSON at most: a string that a frame contains once is repeated for each row.
const LINES_BYTES: usize = 64 << 10;

/// Result of encoding rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Rows encoded or lost; the rest must be passed again after these are written.
    pub rows: u32,
    /// Rows among these that exceed the subscriber's frame size. A gap replaces them.
    pub lost: u64,
}

/// One subscriber's encoder.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// Wire frames.
    Frames(Box<Frames>),
    /// JSON objects, each a line or a server-sent event.
    Json(Box<Json>),
}

impl Encoder {
    pub fn frames(max_frame: u32) -> Self {
        Encoder::Frames(Box::new(Frames {
            max_frame,
            schemas: Ids::new(limits::SCHEMAS),
            sources: Ids::new(limits::SOURCES),
            scratch: EventsScratch::default(),
        }))
    }

    pub fn json(sse: bool, epoch: u64) -> Self {
        Encoder::Json(Box::new(Json {
            sse,
            epoch,
            scratch: EventsScratch::default(),
            columns: HashMap::new(),
        }))
    }

    pub fn hello(&mut self, out: &mut Vec<u8>, hello: &CollectorHello) {
        match self {
            Encoder::Frames(_) => written(hello.to_hello().write(out)),
            Encoder::Json(json) => json.object(out, "hello", |out| json::hello(out, hello)),
        }
    }

    /// Appends rows, starting with the first.
    pub fn rows(&mut self, out: &mut Vec<u8>, rows: &Rows) -> Encoded {
        match self {
            Encoder::Frames(frames) => frames.rows(out, rows),
            Encoder::Json(json) => json.rows(out, rows),
        }
    }

    pub fn gap(&mut self, out: &mut Vec<u8>, gap: &Gap) {
        let reason = GapReason::from_code(gap.reason as u8);
        match self {
            Encoder::Frames(frames) => {
                let schema = match &gap.schema {
                    Some(schema) => frames.schema(out, schema),
                    None => 0,
                };
                let lost = gap.lost;
                dichroic_wire::Gap { schema, reason, lost }.write(out);
            }
            Encoder::Json(json) => {
                let name = gap.schema.as_ref().map(|schema| schema.name.as_str());
                json.object(out, "gap", |out| json::gap(out, name, reason, gap.lost));
            }
        }
    }

    /// Writes a keep-alive. `ndjson` has none.
    pub fn keep_alive(&mut self, out: &mut Vec<u8>, token: u64) {
        match self {
            Encoder::Frames(_) => Ping(token).write(out),
            Encoder::Json(json) if json.sse => out.extend_from_slice(b": heartbeat\n\n"),
            Encoder::Json(_) => {}
        }
    }

    pub fn goodbye(&mut self, out: &mut Vec<u8>, goodbye: &Goodbye) {
        match self {
            Encoder::Frames(_) => written(goodbye.write(out)),
            Encoder::Json(json) => {
                json.object(out, "goodbye", |out| {
                    json::goodbye(out, goodbye.code.code(), &goodbye.message);
                });
            }
        }
    }
}

/// Logs a frame that the codec rejects. This cannot happen: this crate builds frames within the limits of the format.
pub(crate) fn written(result: dichroic_wire::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "cannot encode a frame; this is a bug, please report it");
    }
}

/// Encodes wire frames.
#[derive(Debug)]
pub(crate) struct Frames {
    pub max_frame: u32,
    schemas: Ids,
    sources: Ids,
    scratch: EventsScratch,
}

impl Frames {
    fn rows(&mut self, out: &mut Vec<u8>, rows: &Rows) -> Encoded {
        let schema = self.schema(out, rows.schema());
        let source = self.source(out, rows.source());
        let lost = if rows.is_whole() && rows.body().len() <= self.max_frame as usize {
            forward(out, rows, schema, source);
            0
        } else {
            self.copy_rows(out, rows, schema, source)
        };
        let rows = rows.to - rows.from;
        Encoded { rows, lost }
    }

    /// Copies rows of a body that cannot be forwarded unchanged: only a range of it is needed, or it is too large for this
    /// subscriber. Returns the number of lost rows.
    fn copy_rows(&mut self, out: &mut Vec<u8>, rows: &Rows, schema: u32, source: u32) -> u64 {
        let Frames {
            max_frame, scratch, ..
        } = self;
        let events = match Events::decode(rows.body(), scratch) {
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

    /// The id of a schema on this connection; defines it if needed.
    fn schema(&mut self, out: &mut Vec<u8>, schema: &EventSchema) -> u32 {
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
fn forward(out: &mut Vec<u8>, rows: &Rows, schema: u32, source: u32) {
    let header = EventsHeader {
        schema,
        source,
        position: rows.position(rows.from),
    };
    written(events::forward(out, rows.body(), header));
}

fn row_too_large(out: &mut Vec<u8>, schema: u32) {
    let gap = dichroic_wire::Gap {
        schema,
        reason: GapReason::RowTooLarge,
        lost: Some(1),
    };
    gap.write(out);
}

/// Reports the rows of a body as lost. This cannot happen: the receiver has validated the body.
fn unreadable(out: &mut Vec<u8>, rows: &Rows, schema: u32, error: &dichroic_wire::Error) -> u64 {
    tracing::error!(%error, schema = %rows.schema().name, "cannot decode a batch; this is a bug, please report it");
    let lost = rows.len() as u64;
    let gap = dichroic_wire::Gap {
        schema,
        reason: GapReason::RowTooLarge,
        lost: Some(lost),
    };
    gap.write(out);
    lost
}

fn release(out: &mut Vec<u8>, kind: DefineKind, id: u32) {
    let mut writer = DefineWriter::begin(out, kind, limits::BODY_BYTES_BEFORE_HELLO);
    written(writer.release(id).map(drop));
    written(writer.finish());
}

fn schema_map(schema: &EventSchema) -> Map {
    let kind = match schema.kind {
        EventKind::Event => StreamKind::Event,
        EventKind::Log => StreamKind::Log,
    };
    define::Schema {
        name: schema.name.clone(),
        kind,
        measurements: schema.measurements.clone(),
        metadata: schema.metadata.clone(),
    }
    .to_map()
}

fn source_map(source: &Source, with_resource: bool) -> Map {
    let resource = if with_resource {
        attribute_map(&source.spec.resource)
    } else {
        Map::new()
    };
    define::Source {
        name: source.name().to_owned(),
        runtime: source.spec.runtime.as_str().to_owned(),
        resource,
    }
    .to_map()
}

/// Attributes as a wire map, without names that it cannot represent.
pub(crate) fn attribute_map(attributes: &Attributes) -> Map {
    let fits = |name: &str| (1..=limits::KEY_BYTES).contains(&name.len());
    attributes
        .iter()
        .filter(|(name, _)| fits(name))
        .map(|(name, value)| (name.to_owned(), attribute_value(value)))
        .collect()
}

fn attribute_value(value: AttributeValue<'_>) -> Value {
    match value {
        AttributeValue::Null => Value::Null,
        AttributeValue::Bool(flag) => Value::Bool(flag),
        AttributeValue::Int(int) => Value::Int(int),
        AttributeValue::Float(float) => Value::Float(float),
        AttributeValue::Str(text) => Value::cut(&text, limits::STRING_BYTES),
    }
}

/// Encodes JSON objects, each as a line or a server-sent event.
#[derive(Debug)]
pub(crate) struct Json {
    sse: bool,
    epoch: u64,
    scratch: EventsScratch,
    columns: HashMap<u32, Arc<json::Columns>>,
}

impl Json {
    fn rows(&mut self, out: &mut Vec<u8>, rows: &Rows) -> Encoded {
        let schema = rows.schema();
        let columns = self
            .columns
            .entry(schema.id)
            .or_insert_with(|| Arc::new(json::Columns::from(&**schema)))
            .clone();
        let mut scratch = std::mem::take(&mut self.scratch);
        let kind = schema.kind.as_str();
        let start = out.len();
        let encoded = match Events::decode(rows.body(), &mut scratch) {
            Ok(events) => {
                let mut row = rows.from;
                while row < rows.to && out.len() - start < LINES_BYTES {
                    self.begin(out, kind, Some(rows.position(row)));
                    json::row(out, &columns, rows.source().name(), &events, row as usize);
                    self.end(out);
                    row += 1;
                }
                let rows = row - rows.from;
                Encoded { rows, lost: 0 }
            }
            Err(error) => {
                tracing::error!(%error, schema = %schema.name, "cannot decode a batch; this is a bug, please report it");
                let lost = rows.len() as u64;
                self.object(out, "gap", |out| {
                    json::gap(out, Some(&schema.name), GapReason::RowTooLarge, Some(lost));
                });
                let rows = rows.to - rows.from;
                Encoded { rows, lost }
            }
        };
        self.scratch = scratch;
        encoded
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{RowStorage, Selected};
    use dichroic_model::{Protocol, Runtime, SourceId, SourceSpec};
    use dichroic_wire::Cell;

    fn rows(text: &str, count: u32) -> Rows {
        let spec = SourceSpec {
            name: "shop@a".into(),
            runtime: Runtime::Beam,
            ..SourceSpec::new(Protocol::Beam, "")
        };
        let schema = EventSchema {
            id: 1,
            name: "a.b".into(),
            kind: EventKind::Event,
            measurements: Vec::new(),
            metadata: vec!["route".into()],
        };
        let mut builder = EventsBuilder::new(1, 0, 1, limits::BODY_BYTES_MAX).unwrap();
        for _ in 0..count {
            builder.push(0, &[Cell::Str(text)]).unwrap();
        }
        let mut frame = Vec::new();
        builder.finish(0, &mut frame).unwrap();
        let selected = Selected {
            schema: Arc::new(schema),
            source: Arc::new(Source {
                id: SourceId(0),
                spec,
            }),
            frame: frame.into(),
            positions: (0..u64::from(count)).collect(),
        };
        let storage = RowStorage::Selected(Arc::new(selected));
        Rows {
            storage,
            from: 0,
            to: count,
        }
    }

    #[test]
    fn a_small_frame_that_becomes_large_json_is_written_in_parts() {
        let mut rows = rows(&"x".repeat(10_000), 4_096);
        let mut encoder = Encoder::json(false, 7);
        let mut left = 4_096;
        while left > 0 {
            let mut out = Vec::new();
            let encoded = encoder.rows(&mut out, &rows);
            assert!(out.len() < LINES_BYTES + 11_000, "{}", out.len());
            assert!(encoded.rows > 0 && encoded.lost == 0);
            rows.from += encoded.rows;
            left -= encoded.rows;
        }
        assert!(rows.is_empty());
    }

    #[test]
    fn a_range_of_a_frame_starts_at_the_position_of_its_first_row() {
        let mut rows = rows("/users/:id", 10);
        (rows.from, rows.to) = (4, 7);
        let mut out = Vec::new();
        let encoded = Encoder::frames(limits::BODY_BYTES_DEFAULT).rows(&mut out, &rows);
        assert_eq!(encoded, Encoded { rows: 3, lost: 0 });
        let mut reader = dichroic_wire::FrameReader::new();
        reader.hello_accepted(limits::BODY_BYTES_DEFAULT);
        reader.push(&out);
        let mut last = None;
        while let Some(frame) = reader.next().unwrap() {
            last = Some((frame.frame_type, frame.body.to_vec()));
        }
        let (kind, body) = last.unwrap();
        assert_eq!(kind, dichroic_wire::FrameType::Events);
        let mut scratch = EventsScratch::default();
        let events = Events::decode(&body, &mut scratch).unwrap();
        assert_eq!((events.header().position, events.rows()), (4, 3));
    }
}
