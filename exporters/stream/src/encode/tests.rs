use super::lines::LINES_BYTES;
use super::*;
use crate::rows::{Gathered, RowStorage, Rows};
use dichroic_model::{Batch, EventKind, EventSchema, Protocol, Runtime, Source, SourceId, SourceSpec};
use dichroic_wire::{
    Cell, Events, EventsBuilder, EventsScratch, FrameReader, FrameType, Mixed, MixedBuilder, MixedScratch,
    frame, limits,
};
use std::sync::Arc;

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
