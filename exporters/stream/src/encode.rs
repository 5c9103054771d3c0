//! Encodes HELLO, rows and gaps in a subscriber's format: frames, lines of JSON, or server-sent events.
//!
//! Sans-I/O: everything is appended to a buffer. The frames of one connection share its ids; a definition precedes the first
//! frame that uses it.

use crate::dictionary::{Id, Ids};
use crate::json;
use crate::ring::Gap;
use crate::rows::{Gathered, RowStorage, Rows};
use dichroic_model::{AttributeValue, Attributes, Batch, EventKind, EventSchema, Source};
use dichroic_wire::StreamKind;
use dichroic_wire::define::{self, DefineKind, DefineWriter};
use dichroic_wire::events::{self, EventsHeader};
use dichroic_wire::{
    Cell, CollectorHello, Events, EventsBuilder, EventsScratch, GapReason, Goodbye, Map, Mixed, MixedBuilder,
    MixedScratch, Ping, Pushed, Value, frame, limits, mixed,
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
    /// `mixes`: the subscriber reads MIXED frames.
    pub fn frames(max_frame: u32, mixes: bool) -> Self {
        Encoder::Frames(Box::new(Frames {
            max_frame,
            mixes,
            schemas: Ids::new(limits::SCHEMAS),
            sources: Ids::new(limits::SOURCES),
            scratch: EventsScratch::default(),
            mixed_scratch: MixedScratch::default(),
        }))
    }

    pub fn json(sse: bool, epoch: u64) -> Self {
        Encoder::Json(Box::new(Json {
            sse,
            epoch,
            scratch: EventsScratch::default(),
            mixed_scratch: MixedScratch::default(),
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
        let time = gap.time.map(|time| (time.start as i64, time.end as i64));
        match self {
            Encoder::Frames(frames) => {
                let schema = match &gap.schema {
                    Some(schema) => frames.schema(out, schema),
                    None => 0,
                };
                let reason = match reason {
                    // The version before MIXED has no time in a gap.
                    GapReason::NotSubscribed if !frames.mixes => GapReason::Other(reason.code()),
                    reason => reason,
                };
                let frame = dichroic_wire::Gap {
                    schema,
                    reason,
                    lost: gap.lost,
                    time,
                };
                frame.write(out);
            }
            Encoder::Json(json) => {
                let name = gap.schema.as_ref().map(|schema| schema.name.as_str());
                json.object(out, "gap", |out| json::gap(out, name, reason, gap.lost, time));
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
    mixes: bool,
    schemas: Ids,
    sources: Ids,
    scratch: EventsScratch,
    mixed_scratch: MixedScratch,
}

impl Frames {
    fn rows(&mut self, out: &mut Vec<u8>, rows: &Rows) -> Encoded {
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

pub(crate) fn attribute_value(value: AttributeValue<'_>) -> Value {
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
    mixed_scratch: MixedScratch,
    columns: HashMap<u32, json::Columns>,
}

impl Json {
    fn rows(&mut self, out: &mut Vec<u8>, rows: &Rows) -> Encoded {
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

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_model::{Protocol, Runtime, SourceId, SourceSpec};
    use dichroic_wire::{FrameReader, FrameType};

    fn schema(id: u32, name: &str) -> Arc<EventSchema> {
        Arc::new(EventSchema {
            id,
            name: name.into(),
            kind: EventKind::Event,
            measurements: Vec::new(),
            metadata: vec!["route".into()],
        })
    }

    fn source() -> Arc<Source> {
        let spec = SourceSpec {
            name: "shop@a".into(),
            runtime: Runtime::Beam,
            ..SourceSpec::new(Protocol::Beam, "")
        };
        Arc::new(Source {
            id: SourceId(0),
            spec,
        })
    }

    fn rows(text: &str, count: u32) -> Rows {
        let mut builder = EventsBuilder::new(1, 0, 1, limits::BODY_BYTES_MAX).unwrap();
        for _ in 0..count {
            builder.push(0, &[Cell::Str(text)]).unwrap();
        }
        let mut frame = Vec::new();
        builder.finish(0, &mut frame).unwrap();
        let batch = Batch {
            schema: schema(1, "a.b"),
            source: source(),
            position: 0,
            rows: count,
            received: 0,
            body: frame::body(&frame).into(),
        };
        let storage = RowStorage::Shared(Arc::new(batch));
        Rows {
            storage,
            from: 0,
            to: count,
        }
    }

    /// Rows of two schemas in turns, with every tenth position.
    fn gathered(text: &str, count: u32) -> Rows {
        let RowStorage::Shared(batch) = rows(text, 1).storage else {
            unreachable!()
        };
        let mut scratch = EventsScratch::default();
        let events = Events::decode(&batch.body, &mut scratch).unwrap();
        let mut builder = MixedBuilder::new(limits::BODY_BYTES_MAX);
        for row in 0..count {
            builder.append(1 + row % 2, 0, &events, [0]).unwrap();
        }
        let mut frame = Vec::new();
        builder.finish(0, &mut frame).unwrap();
        let gathered = Gathered {
            frame: frame.into(),
            contexts: [(schema(1, "a.b"), source()), (schema(2, "c.d"), source())].into(),
            positions: (0..u64::from(count)).map(|row| 10 * row).collect(),
        };
        let storage = RowStorage::Gathered(Arc::new(gathered));
        Rows {
            storage,
            from: 0,
            to: count,
        }
    }

    /// Type and body of each frame.
    fn frames(out: &[u8]) -> Vec<(FrameType, Vec<u8>)> {
        let mut reader = FrameReader::new();
        reader.hello_accepted(limits::BODY_BYTES_DEFAULT);
        reader.push(out);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().unwrap() {
            frames.push((frame.frame_type, frame.body.to_vec()));
        }
        frames
    }

    #[test]
    fn a_small_frame_that_becomes_large_json_is_written_in_parts() {
        for mut rows in [
            rows(&"x".repeat(10_000), 4_096),
            gathered(&"x".repeat(10_000), 4_096),
        ] {
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
    }

    #[test]
    fn a_range_of_gathered_rows_is_one_frame_for_a_subscriber_that_mixes() {
        let mut encoder = Encoder::frames(limits::BODY_BYTES_DEFAULT, true);
        for (from, to) in [(3, 7), (0, 10), (9, 10)] {
            let mut rows = gathered("/users/:id", 10);
            (rows.from, rows.to) = (from, to);
            let mut out = Vec::new();
            let encoded = encoder.rows(&mut out, &rows);
            assert_eq!((encoded.rows, encoded.lost), (to - from, 0));
            let (kind, body) = frames(&out).pop().unwrap();
            assert_eq!(kind, FrameType::Mixed);
            let mut scratch = MixedScratch::default();
            let mixed = Mixed::decode(&body, &mut scratch).unwrap();
            // Row 3 is of the second schema, which the connection defines first.
            let schemas: Vec<_> = (0..mixed.rows()).map(|row| mixed.context(row).schema).collect();
            let expected: Vec<_> = (from..to).map(|row| if row % 2 == 1 { 1 } else { 2 }).collect();
            assert_eq!(schemas, expected);
            assert_eq!(mixed.cell(0, 1), Cell::Str("/users/:id"));
            assert_eq!(mixed.position(), u64::from(10 * from));
        }
    }

    #[test]
    fn gathered_rows_are_frames_of_one_schema_for_a_subscriber_that_does_not_mix() {
        let mut rows = gathered("/users/:id", 10);
        (rows.from, rows.to) = (3, 7);
        let mut out = Vec::new();
        let encoded = Encoder::frames(limits::BODY_BYTES_DEFAULT, false).rows(&mut out, &rows);
        assert_eq!(encoded, Encoded { rows: 4, lost: 0 });
        let mut scratch = EventsScratch::default();
        let frames = frames(&out);
        let events = frames.iter().filter(|(kind, _)| *kind == FrameType::Events);
        let headers: Vec<_> = events
            .map(|(_, body)| {
                let events = Events::decode(body, &mut scratch).unwrap();
                (events.header().schema, events.header().position, events.rows())
            })
            .collect();
        assert_eq!(headers, [(1, 30, 1), (2, 40, 1), (1, 50, 1), (2, 60, 1)]);
    }

    #[test]
    fn gathered_rows_are_lines_of_their_names() {
        let mut rows = gathered("/users/:id", 10);
        (rows.from, rows.to) = (3, 5);
        let mut out = Vec::new();
        Encoder::json(true, 7).rows(&mut out, &rows);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!((lines[1], lines[4]), ("id: 7,30,1", "id: 7,40,1"));
        assert!(
            lines[2].contains("\"c.d\"") && lines[5].contains("\"a.b\""),
            "{lines:?}"
        );
    }

    #[test]
    fn a_range_of_a_frame_starts_at_the_position_of_its_first_row() {
        let mut rows = rows("/users/:id", 10);
        (rows.from, rows.to) = (4, 7);
        let mut out = Vec::new();
        let encoded = Encoder::frames(limits::BODY_BYTES_DEFAULT, true).rows(&mut out, &rows);
        assert_eq!(encoded, Encoded { rows: 3, lost: 0 });
        let (kind, body) = frames(&out).pop().unwrap();
        assert_eq!(kind, FrameType::Events);
        let mut scratch = EventsScratch::default();
        let events = Events::decode(&body, &mut scratch).unwrap();
        assert_eq!((events.header().position, events.rows()), (4, 3));
    }
}
