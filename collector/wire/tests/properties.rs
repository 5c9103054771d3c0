//! Round trips of random values, rows and streams.

mod common;

use common::body;
use dichroic_wire::{
    Bucket, Cell, Events, EventsBuilder, EventsScratch, FrameReader, FrameType, Histograms, HistogramsWriter,
    Mixed, MixedBuilder, MixedScratch, NumberRow, Numbers, NumbersWriter, Pushed, RawFrame, Side, Value,
};
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Float),
        Just(Value::Float(f64::NAN)),
        ".{0,12}".prop_map(Value::Str),
        (".{0,12}", 1u32..9).prop_map(|(kept, more)| Value::Cut {
            whole_len: kept.len() as u32 + more,
            kept
        }),
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytes),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(8, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            proptest::collection::btree_map(".{1,8}", inner, 0..6).prop_map(Value::Map),
        ]
    })
}

/// Rows whose columns have few kinds of cells, so that every column kind occurs.
fn rows() -> impl Strategy<Value = (usize, Vec<(i64, Vec<Value>)>)> {
    let cell = |kind: u8| match kind {
        0 => Just(Value::Null).boxed(),
        1 => any::<i64>().prop_map(Value::Int).boxed(),
        2 => any::<f64>().prop_map(Value::Float).boxed(),
        3 => "[a-c]{0,2}".prop_map(Value::Str).boxed(),
        4 => prop_oneof![
            (-9i64..9).prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float)
        ]
        .boxed(),
        _ => value().boxed(),
    };
    proptest::collection::vec(0u8..6, 0..6).prop_flat_map(move |kinds| {
        let width = kinds.len();
        let cells: Vec<_> = kinds.into_iter().map(cell).collect();
        (
            Just(width),
            proptest::collection::vec((any::<i64>(), cells), 1..24),
        )
    })
}

/// A value read in place.
fn as_cell(encoded: &[u8]) -> Cell<'_> {
    Cell::decode(encoded).expect("what was encoded")
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out).expect("within limits");
    out
}

/// Whether the values are equal, possibly after promotion to a float.
fn same(sent: &Value, received: &Value) -> bool {
    match (sent, received) {
        (Value::Int(int), Value::Float(float)) => *int as f64 == *float && *float as i64 == *int,
        _ => sent == received,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_round_trip(value in value()) {
        let bytes = encoded(&value);
        prop_assert_eq!(Value::decode(&bytes), Ok(value.clone()));
        let cell = as_cell(&bytes);
        prop_assert_eq!(&cell.to_value(), &value);
        let mut again = Vec::new();
        cell.encode(&mut again).expect("what was read");
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn rows_round_trip((width, rows) in rows(), max_body in 200u32..4000) {
        let mut builder = EventsBuilder::new(3, 4, width, max_body).expect("a builder");
        let (mut frames, mut sent, mut rejected) = (Vec::new(), Vec::new(), 0);
        for (time, cells) in &rows {
            let encodings: Vec<_> = cells.iter().map(encoded).collect();
            let row: Vec<_> = encodings.iter().map(|bytes| as_cell(bytes)).collect();
            let mut pushed = builder.push(*time, &row);
            if pushed == Ok(Pushed::Full) {
                let mut out = Vec::new();
                builder.finish(9, &mut out).expect("a frame");
                frames.push(out);
                pushed = builder.push(*time, &row);
            }
            match pushed {
                Ok(Pushed::Added) => sent.push((*time, cells.clone())),
                Ok(Pushed::Full) => prop_assert!(false, "full when empty"),
                Err(_) => rejected += 1,
            }
        }
        let mut out = Vec::new();
        if builder.finish(9, &mut out).expect("a frame") > 0 {
            frames.push(out);
        }
        let mut received = Vec::new();
        let mut scratch = EventsScratch::default();
        for frame in &frames {
            prop_assert!(body(frame).len() <= max_body as usize);
            let events = Events::decode(body(frame), &mut scratch).expect("readable");
            prop_assert_eq!(common::events_body(&events), body(frame));
            for row in 0..events.rows() {
                let cells: Vec<_> = (1..=width).map(|column| events.cell(row, column).to_value()).collect();
                received.push((events.times().nth(row).expect("a time"), cells));
            }
        }
        prop_assert_eq!(sent.len() + rejected, rows.len());
        prop_assert_eq!(sent.len(), received.len());
        for ((sent_time, sent), (time, cells)) in sent.iter().zip(&received) {
            prop_assert_eq!(sent_time, time);
            prop_assert!(sent.iter().zip(cells).all(|(sent, cell)| same(sent, cell)), "{:?} {:?}", sent, cells);
        }
    }

    #[test]
    fn a_filtered_copy_has_exactly_the_chosen_rows(
        (width, rows) in rows(),
        chosen in proptest::collection::vec(any::<bool>(), 24),
    ) {
        let mut builder = EventsBuilder::new(3, 4, width, 1 << 20).expect("a builder");
        for (time, cells) in &rows {
            let encodings: Vec<_> = cells.iter().map(encoded).collect();
            let row: Vec<_> = encodings.iter().map(|bytes| as_cell(bytes)).collect();
            builder.push(*time, &row).expect("room");
        }
        let mut whole = Vec::new();
        builder.finish(0, &mut whole).expect("a frame");
        let mut scratch = EventsScratch::default();
        let from = Events::decode(body(&whole), &mut scratch).expect("readable");

        let selected: Vec<_> = (0..from.rows()).filter(|row| chosen[*row]).collect();
        prop_assert_eq!(builder.append(&from, selected.iter().copied()), Ok(selected.len()));
        let mut copied = Vec::new();
        builder.finish(0, &mut copied).expect("a frame");

        let mut by_rows = EventsBuilder::new(3, 4, width, 1 << 20).expect("a builder");
        for row in selected {
            let cells: Vec<_> = (1..=width).map(|column| from.cell(row, column)).collect();
            by_rows.push(from.times().nth(row).expect("a time"), &cells).expect("room");
        }
        let mut expected = Vec::new();
        by_rows.finish(0, &mut expected).expect("a frame");
        prop_assert_eq!(copied, expected);
    }

    #[test]
    fn rows_of_several_schemas_round_trip_in_their_order(
        batches in proptest::collection::vec((1u32..4, 0u32..3, rows()), 1..8),
        chosen in proptest::collection::vec(any::<bool>(), 24),
        max_body in 300u32..4000,
    ) {
        let mut mixed = MixedBuilder::new(max_body);
        let (mut frames, mut sent, mut rejected, mut given) = (Vec::new(), Vec::new(), 0, 0);
        let mut finish = |builder: &mut MixedBuilder| {
            let mut out = Vec::new();
            if builder.finish(7, &mut out).expect("a frame") > 0 {
                frames.push(out);
            }
        };
        for (schema, source, (width, rows)) in &batches {
            let mut builder = EventsBuilder::new(0, 0, *width, 1 << 20).expect("a builder");
            for (time, cells) in rows {
                let encodings: Vec<_> = cells.iter().map(encoded).collect();
                let row: Vec<_> = encodings.iter().map(|bytes| as_cell(bytes)).collect();
                builder.push(*time, &row).expect("room");
            }
            let mut batch = Vec::new();
            builder.finish(0, &mut batch).expect("a frame");
            let mut scratch = EventsScratch::default();
            let from = Events::decode(body(&batch), &mut scratch).expect("readable");
            let selected: Vec<_> = (0..from.rows()).filter(|row| chosen[*row]).collect();
            given += selected.len();
            let mut rest = &selected[..];
            while !rest.is_empty() {
                let had = mixed.rows();
                let result = mixed.append(*schema, *source, &from, rest.iter().copied());
                let added = mixed.rows() - had;
                for row in &rest[..added] {
                    let cells: Vec<_> = (0..from.columns()).map(|column| from.cell(*row, column).to_value()).collect();
                    sent.push((*schema, *source, cells));
                }
                rest = &rest[added..];
                match result {
                    Ok(count) => prop_assert_eq!(count, added),
                    Err(_) => {
                        prop_assert_eq!(mixed.rows(), 0, "a row is rejected only by an empty frame");
                        rest = &rest[1..];
                        rejected += 1;
                    }
                }
                if !rest.is_empty() {
                    finish(&mut mixed);
                }
            }
        }
        finish(&mut mixed);
        let (mut received, mut copied) = (Vec::new(), Vec::new());
        let mut scratch = MixedScratch::default();
        for frame in &frames {
            prop_assert!(body(frame).len() <= max_body as usize);
            let view = Mixed::decode(body(frame), &mut scratch).expect("readable");
            prop_assert_eq!(view.position(), 7);
            prop_assert_eq!(common::mixed_body(&view), body(frame));
            for row in 0..view.rows() {
                let context = view.context(row);
                let cells: Vec<_> = (0..view.columns(row)).map(|column| view.cell(row, column).to_value()).collect();
                received.push((context.schema, context.source, cells));
            }
            // A copy of all rows is the same frame.
            let mut copy = MixedBuilder::new(max_body);
            prop_assert_eq!(copy.append_mixed(&view, 0..view.rows()), Ok(view.rows()));
            copy.finish(7, &mut copied).expect("a frame");
        }
        prop_assert_eq!(copied, frames.concat());
        prop_assert_eq!(sent.len() + rejected, given);
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn numbers_round_trip(
        time in any::<i64>(),
        rows in proptest::collection::vec((any::<u32>(), any::<i64>(), any::<f64>()), 0..40),
    ) {
        let mut out = Vec::new();
        let mut writer = NumbersWriter::begin(&mut out, time, 8 + 20 * 30);
        let mut sent = Vec::new();
        for (series, int, float) in rows {
            if writer.push(NumberRow { series, int, float }) {
                sent.push((series, int, float.to_bits()));
            }
        }
        writer.finish().expect("a frame");
        prop_assert!(sent.len() <= 30);
        let numbers = Numbers::decode(body(&out)).expect("readable");
        let received: Vec<_> = numbers.rows().map(|row| (row.series, row.int, row.float.to_bits())).collect();
        prop_assert_eq!((numbers.time, received), (time, sent));
    }

    #[test]
    fn histograms_round_trip(
        rows in proptest::collection::vec(
            (any::<u32>(), any::<i64>(), proptest::collection::btree_map((1u8..3, any::<i16>()), 0u64..9, 0..9)),
            0..9,
        ),
    ) {
        let side = |code| if code == 1 { Side::Positive } else { Side::Negative };
        let mut out = Vec::new();
        let mut writer = HistogramsWriter::begin(&mut out, 5, 1 << 18);
        let mut sent = Vec::new();
        for (series, sum, buckets) in rows {
            let buckets: Vec<_> =
                buckets.iter().map(|((code, index), count)| Bucket { index: *index, side: side(*code), count: *count }).collect();
            prop_assert_eq!(writer.push(series, sum, 0.5, buckets.iter().copied()), Ok(true));
            sent.push((series, sum, buckets.into_iter().filter(|bucket| bucket.count > 0).collect::<Vec<_>>()));
        }
        writer.finish().expect("a frame");
        let histograms = Histograms::decode(body(&out)).expect("readable");
        let received: Vec<_> =
            histograms.rows().map(|row| (row.series, row.sum_int, row.buckets().collect::<Vec<_>>())).collect();
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn the_frames_of_a_stream_do_not_depend_on_its_chunks(
        bodies in proptest::collection::vec((12u8.., proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
        cuts in proptest::collection::vec(1usize..30, 40),
    ) {
        let mut stream = Vec::new();
        for (code, body) in &bodies {
            RawFrame { frame_type: FrameType::Unknown(*code), body }.write(&mut stream).expect("a frame");
        }
        let mut reader = FrameReader::new();
        reader.hello_accepted(1 << 14);
        let mut received = Vec::new();
        let (mut rest, mut cuts) = (&stream[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            reader.push(now);
            rest = later;
            while let Some(frame) = reader.next().expect("well formed") {
                received.push((frame.frame_type.code(), frame.body.to_vec()));
            }
        }
        prop_assert_eq!(received, bodies);
        prop_assert_eq!(reader.pending(), 0);
    }
}
