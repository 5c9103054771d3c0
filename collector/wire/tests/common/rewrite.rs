//! Re-encoding of decoded frames. The fuzz targets use this file too.

use dichroic_wire::events::{Column, ColumnKind};
use dichroic_wire::limits::{BODY_BYTES_MAX, HEADER_BYTES};
use dichroic_wire::{
    Cell, Define, DefineWriter, Events, EventsScratch, FrameReader, FrameType, Gap, Goodbye, Hello,
    Histograms, HistogramsWriter, Mixed, MixedScratch, NumberRow, Numbers, NumbersWriter, Ping, Pong,
    RawFrame, Result, Value,
};

/// The body of a whole frame.
pub fn body(frame: &[u8]) -> &[u8] {
    &frame[HEADER_BYTES..]
}

/// The reader of a connection after HELLO.
pub fn reader_after_hello() -> FrameReader {
    let mut reader = FrameReader::new();
    reader.hello_accepted(BODY_BYTES_MAX);
    reader
}

/// Decodes the frame in `bytes` and re-encodes its decoded form; `None` if it is incomplete.
pub fn rewrite(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut reader = reader_after_hello();
    reader.push(bytes);
    let Some(frame) = reader.next()? else {
        return Ok(None);
    };
    let mut out = Vec::new();
    rewrite_frame(frame, &mut out)?;
    Ok(Some(out))
}

fn rewrite_frame(frame: RawFrame<'_>, out: &mut Vec<u8>) -> Result<()> {
    let body = frame.body;
    match frame.frame_type {
        FrameType::Hello => Hello::decode(body)?.write(out),
        FrameType::Goodbye => Goodbye::decode(body)?.write(out),
        FrameType::Ping => {
            Ping::decode(body)?.write(out);
            Ok(())
        }
        FrameType::Pong => {
            Pong::decode(body)?.write(out);
            Ok(())
        }
        FrameType::Plan => {
            let mut again = Vec::new();
            Value::decode(body)?.encode(&mut again)?;
            RawFrame {
                frame_type: FrameType::Plan,
                body: &again,
            }
            .write(out)
        }
        FrameType::Define => rewrite_define(Define::decode(body)?, out),
        FrameType::Numbers => rewrite_numbers(Numbers::decode(body)?, out),
        FrameType::Histograms => rewrite_histograms(Histograms::decode(body)?, out),
        FrameType::Events => {
            let again = events_body(&Events::decode(body, &mut EventsScratch::default())?);
            RawFrame {
                frame_type: FrameType::Events,
                body: &again,
            }
            .write(out)
        }
        FrameType::Mixed => {
            let again = mixed_body(&Mixed::decode(body, &mut MixedScratch::default())?);
            RawFrame {
                frame_type: FrameType::Mixed,
                body: &again,
            }
            .write(out)
        }
        FrameType::Gap => {
            Gap::decode(body)?.write(out);
            Ok(())
        }
        FrameType::Unknown(_) => frame.write(out),
    }
}

fn rewrite_define(define: Define<'_>, out: &mut Vec<u8>) -> Result<()> {
    let mut writer = DefineWriter::begin(out, define.kind, BODY_BYTES_MAX);
    for (id, map) in define.entries() {
        let added = match map {
            Some(map) => writer.define(id, &map.to_map())?,
            None => writer.release(id)?,
        };
        assert!(added);
    }
    writer.finish()
}

fn rewrite_numbers(numbers: Numbers<'_>, out: &mut Vec<u8>) -> Result<()> {
    let mut writer = NumbersWriter::begin(out, numbers.time, BODY_BYTES_MAX);
    for row in numbers.rows() {
        assert!(writer.push(NumberRow { ..row }));
    }
    writer.finish()
}

fn rewrite_histograms(histograms: Histograms<'_>, out: &mut Vec<u8>) -> Result<()> {
    let mut writer = HistogramsWriter::begin(out, histograms.time, BODY_BYTES_MAX);
    for row in histograms.rows() {
        assert!(writer.push(row.series, row.sum_int, row.sum_float, row.buckets())?);
    }
    writer.finish()
}

/// Re-encodes a body from its decoded view.
pub fn events_body(events: &Events<'_>) -> Vec<u8> {
    let header = events.header();
    let mut out = Vec::new();
    out.extend_from_slice(&header.schema.to_le_bytes());
    out.extend_from_slice(&header.source.to_le_bytes());
    out.extend_from_slice(&header.position.to_le_bytes());
    out.extend_from_slice(&(events.rows() as u16).to_le_bytes());
    out.push(events.columns() as u8);
    out.extend_from_slice(&(events.strings() as u16).to_le_bytes());
    out.extend_from_slice(&(events.values() as u16).to_le_bytes());
    let columns = || (0..events.columns()).map(|column| events.column(column));
    out.extend(columns().map(|column| match column {
        Column::Absent => ColumnKind::Absent as u8,
        Column::Int(_) => ColumnKind::Int as u8,
        Column::Float(_) => ColumnKind::Float as u8,
        Column::Reference(_) => ColumnKind::Reference as u8,
    }));
    for column in columns() {
        match column {
            Column::Absent => {}
            Column::Int(cells) | Column::Float(cells) => out.extend_from_slice(cells.as_flattened()),
            Column::Reference(cells) => out.extend_from_slice(cells.as_bytes()),
        }
    }
    let strings = || (0..events.strings()).map(|string| events.string(string));
    strings().for_each(|string| out.extend_from_slice(&(string.len() as u16).to_le_bytes()));
    strings().for_each(|string| out.extend_from_slice(string.as_bytes()));
    for value in 0..events.values() {
        events
            .value(value)
            .to_value()
            .encode(&mut out)
            .expect("a value that was read");
    }
    out
}

/// Re-encodes a body from its decoded view.
pub fn mixed_body(mixed: &Mixed<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let pool = mixed.pool();
    out.extend_from_slice(&mixed.position().to_le_bytes());
    for count in [mixed.rows(), mixed.contexts().len()].into_iter().chain(pool) {
        out.extend_from_slice(&(count as u16).to_le_bytes());
    }
    for context in mixed.contexts() {
        out.extend_from_slice(&context.schema.to_le_bytes());
        out.extend_from_slice(&context.source.to_le_bytes());
        out.push(context.columns);
    }
    for row in 0..mixed.rows() {
        out.extend_from_slice(&(mixed.context_number(row) as u16).to_le_bytes());
    }
    for row in 0..mixed.rows() {
        for column in 0..mixed.columns(row) {
            out.extend_from_slice(&(mixed.reference(row, column) as u16).to_le_bytes());
        }
    }
    let [ints, floats, strings, values] = pool;
    let entries = |before: usize, count: usize| (1 + before..=before + count).map(|at| mixed.pool_entry(at));
    for entry in entries(0, ints + floats) {
        match entry {
            Cell::Int(int) => out.extend_from_slice(&int.to_le_bytes()),
            Cell::Float(float) => out.extend_from_slice(&float.to_le_bytes()),
            other => panic!("{other:?} among the numbers"),
        }
    }
    let texts = entries(ints + floats, strings).map(|entry| match entry {
        Cell::Str(text) => text,
        other => panic!("{other:?} among the strings"),
    });
    let texts: Vec<_> = texts.collect();
    texts
        .iter()
        .for_each(|text| out.extend_from_slice(&(text.len() as u16).to_le_bytes()));
    texts
        .iter()
        .for_each(|text| out.extend_from_slice(text.as_bytes()));
    for entry in entries(ints + floats + strings, values) {
        entry.to_value().encode(&mut out).expect("a value that was read");
    }
    out
}
