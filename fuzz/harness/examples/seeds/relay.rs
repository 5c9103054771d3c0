//! Seeds of `relay_session`.

use crate::{TIME, root, write};
use dichroic_wire::define::{DefineKind, DefineWriter, relay_series_map};
use dichroic_wire::plan::{Aggregate, Plan};
use dichroic_wire::{Bucket, HistogramsWriter, NumberRow, NumbersWriter, Side, Value, frame};
use std::fs;

const MAX: u32 = 1 << 16;

/// The plan that the target sends.
fn plan() -> (Vec<Aggregate>, Vec<(u32, usize)>) {
    let bytes = dichroic_fuzz_harness::first_plan();
    let plan = Plan::decode(frame::body(&bytes)).expect("the plan");
    (
        plan.aggregates,
        plan.streams
            .iter()
            .map(|stream| (stream.schema, stream.columns.len()))
            .collect(),
    )
}

/// A frame as an action: its type, the length of its body, the body.
fn action(whole: &[u8]) -> Vec<u8> {
    let body = frame::body(whole);
    let length = u16::try_from(body.len()).expect("a short body");
    [&[whole[4]][..], &length.to_le_bytes(), body].concat()
}

fn numbers(rows: &[(u32, i64, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = NumbersWriter::begin(&mut out, TIME as i64, MAX);
    for &(series, int, float) in rows {
        assert!(writer.push(NumberRow { series, int, float }));
    }
    writer.finish().expect("a frame");
    action(&out)
}

fn define((aggregates, streams): &(Vec<Aggregate>, Vec<(u32, usize)>)) -> Vec<u8> {
    let mut define = Vec::new();
    let mut writer = DefineWriter::begin(&mut define, DefineKind::Series, MAX);
    let account = relay_series_map(1, vec![Value::Int(streams[0].0.into())], TIME as i64, false);
    assert!(writer.define(0, &account).expect("an entry"));
    for (at, entry) in aggregates.iter().enumerate() {
        let labels = vec![Value::from("x"); entry.labels.len()];
        let map = relay_series_map(entry.key, labels, TIME as i64, at == 2);
        assert!(writer.define(1 + at as u32, &map).expect("an entry"));
    }
    writer.finish().expect("a frame");
    action(&define)
}

fn histograms() -> Vec<u8> {
    let mut histograms = Vec::new();
    let mut writer = HistogramsWriter::begin(&mut histograms, TIME as i64, MAX);
    let bucket = |index, side| Bucket {
        index,
        side,
        count: 4,
    };
    let buckets = [bucket(0, Side::Positive), bucket(2, Side::Positive)];
    assert!(writer.push(5, 9, 0.5, buckets).expect("a row"));
    let buckets = [
        bucket(0, Side::Zero),
        bucket(-5, Side::Positive),
        bucket(9, Side::Negative),
    ];
    assert!(writer.push(6, 9, 0.5, buckets).expect("a row"));
    writer.finish().expect("a frame");
    action(&histograms)
}

fn release() -> Vec<u8> {
    let mut release = Vec::new();
    let mut writer = DefineWriter::begin(&mut release, DefineKind::Series, MAX);
    assert!(writer.release(4).expect("an entry"));
    writer.finish().expect("a frame");
    action(&release)
}

fn golden(name: &str) -> Vec<u8> {
    action(&fs::read(root().join("collector/wire/golden").join(name)).expect("a golden frame"))
}

/// A flush of a relay, frame by frame, and what follows it.
pub fn write_all() {
    let define = define(&plan());
    let totals = numbers(&[(0, 3, 0.0), (1, 5, 0.0), (2, 6, 0.5), (3, -7, 0.5), (4, 8, 0.0)]);
    let (histograms, release, ping) = (histograms(), release(), golden("ping.bin"));
    let seed = |name: &str, actions: &[&[u8]]| write("relay_session", name, actions);
    seed("flush", &[&[0], &define, &totals, &histograms, &ping]);
    seed(
        "flush-of-a-full-store",
        &[&[0x80], &define, &totals, &histograms, &ping],
    );
    seed("release", &[&[0], &define, &totals, &release, &totals, &ping]);
    let flush = [&define[..], &totals, &ping].concat();
    seed(
        "reconnection",
        &[&[0], &flush, &[0xf5, 0xf1], &flush, &[0xf2], &flush],
    );
    seed(
        "reload",
        &[
            &[0],
            &define,
            &totals,
            &[0xf3, 0xf4, 0xf6, 0xf0],
            &totals,
            &ping,
            &[0xf7],
        ],
    );
    seed("numbers-before-define", &[&[0], &totals, &define, &totals]);
    let until = (TIME as i64 - 5).to_le_bytes();
    seed(
        "rows-until",
        &[&[1], &until, &flush, &[0xf6, 0xf7, 0xf5, 0xf6, 0xf7], &flush],
    );
    let app_metric = golden("define-app-metric.bin");
    seed(
        "plan-reply",
        &[
            &[0],
            &golden("plan-reply.bin"),
            &app_metric,
            &golden("events.bin"),
            &golden("goodbye.bin"),
        ],
    );
}
