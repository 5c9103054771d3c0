//! Corrupt streams of frames: no panic, a ledger that balances, and bounded memory.

mod common;

use common::*;
use dichroic_pipeline::Interest;
use dichroic_receiver_beam::Config;
use dichroic_receiver_beam::relay::{Relay, RetainedState, source_spec};
use dichroic_wire::define::{DefineKind, DefineWriter, relay_series_map};
use dichroic_wire::events_builder::EventsBuilder;
use dichroic_wire::{Bucket, Cell, FrameReader, HistogramsWriter, Ping, Plan, Side, Value};
use std::rc::Rc;

/// xorshift64*, with a seed that failures print.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn relay(store: &SharedCore, config: &Config) -> (Relay, Plan) {
    let hello = hello("shop@a", 1, T0, 1);
    let mut store = store.borrow_mut();
    let source = store
        .open_source(source_spec(&hello.node, &hello), T0 as u64)
        .unwrap();
    let mut relay = Relay::new(
        &mut store,
        config,
        source,
        hello,
        RetainedState::default(),
        false,
        T0 as u64,
    );
    let mut out = Vec::new();
    let interest = Interest {
        events: vec![pattern("**")],
        ..Interest::default()
    };
    relay.plan(config, &interest, 1, T0 as u64, &mut out);
    let mut reader = FrameReader::new();
    reader.hello_accepted(1 << 20);
    reader.push(&out);
    let plan = Plan::decode(reader.next().unwrap().unwrap().body).unwrap();
    (relay, plan)
}

/// A flush as a relay sends it, frame by frame.
fn frames(plan: &Plan) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut define = Vec::new();
    let mut writer = DefineWriter::begin(&mut define, DefineKind::Series, MAX);
    let account = relay_series_map(1, vec![Value::Int(plan.streams[0].schema.into())], T0, false);
    assert!(writer.define(0, &account).unwrap());
    for (at, entry) in plan.aggregates.iter().enumerate() {
        let labels = vec![Value::from("x"); entry.labels.len()];
        let map = relay_series_map(entry.key, labels, T0, at == 2);
        assert!(writer.define(1 + at as u32, &map).unwrap());
    }
    writer.finish().unwrap();
    frames.push(define);
    frames.push(numbers(&[
        (0, 3, 0.0),
        (1, 5, 0.0),
        (2, 6, 0.5),
        (3, -7, 0.5),
        (4, 8, 0.0),
    ]));
    let mut histograms = Vec::new();
    let mut writer = HistogramsWriter::begin(&mut histograms, T0, MAX);
    let bucket = |index, side| Bucket {
        index,
        side,
        count: 4,
    };
    assert!(
        writer
            .push(5, 9, 0.5, [bucket(0, Side::Positive), bucket(2, Side::Positive)])
            .unwrap()
    );
    let buckets = [
        bucket(0, Side::Zero),
        bucket(-5, Side::Positive),
        bucket(9, Side::Negative),
    ];
    assert!(writer.push(6, 9, 0.5, buckets).unwrap());
    writer.finish().unwrap();
    frames.push(histograms);
    let stream = &plan.streams[0];
    let mut builder = EventsBuilder::new(stream.schema, 0, stream.columns.len(), MAX).unwrap();
    let cells = vec![Cell::Str("abc"); stream.columns.len()];
    builder.push(T0, &cells).unwrap();
    let mut events = Vec::new();
    builder.finish(0, &mut events).unwrap();
    frames.push(events);
    let mut release = Vec::new();
    let mut writer = DefineWriter::begin(&mut release, DefineKind::Series, MAX);
    assert!(writer.release(4).unwrap());
    writer.finish().unwrap();
    frames.push(release);
    let mut ping = Vec::new();
    Ping(1).write(&mut ping);
    frames.push(ping);
    frames
}

/// Feeds frames until one is rejected. Returns whether all were accepted.
fn feed(store: &SharedCore, relay: &mut Relay, frames: &[Vec<u8>]) -> bool {
    let mut reader = FrameReader::new();
    reader.hello_accepted(MAX);
    let mut out = Vec::new();
    for bytes in frames {
        reader.push(bytes);
        loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    let applied = relay.frame(&mut store.borrow_mut(), frame, T0 as u64 + 1, &mut out);
                    if applied.is_err() {
                        return false;
                    }
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
    }
    reader.pending() == 0
}

#[test]
fn a_valid_flush_is_accepted_completely() {
    let (store, config) = (store(), config());
    let (mut relay, plan) = relay(&store, &config);
    assert!(feed(&store, &mut relay, &frames(&plan)));
    assert_eq!(page(&store).len(), 6 - 1, "the gauge was released");
    assert!(store.borrow().ledger().balances());
}

#[test]
fn corrupt_flushes_never_panic_and_always_balance() {
    let seed = std::process::id().into();
    println!("seed {seed}");
    let mut random = Random(seed);
    let (store, config) = (store(), config());
    let (mut rejected, mut accepted) = (0, 0);
    for _ in 0..4_000 {
        let (mut relay, plan) = relay(&store, &config);
        let mut frames = frames(&plan);
        for _ in 0..=random.below(3) {
            let at = random.below(frames.len());
            let (other, byte_at) = (random.below(frames.len()), random.below(frames[at].len().max(1)));
            match random.below(6) {
                0 => frames.swap(at, other),
                1 => frames.push(frames[at].clone()),
                2 => drop(frames[at].split_off(byte_at)),
                3 => {
                    frames.remove(at);
                    frames.push(vec![9, 0, 0, 0, random.next() as u8, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
                }
                _ => {
                    if let Some(byte) = frames[at].get_mut(byte_at) {
                        *byte ^= 1 << random.below(8);
                    }
                }
            }
        }
        if feed(&store, &mut relay, &frames) {
            accepted += 1
        } else {
            rejected += 1
        }
        drop(relay.retain());
        assert!(store.borrow().ledger().balances());
    }
    assert!(
        rejected > 1_000 && accepted > 100,
        "{rejected} rejected, {accepted} accepted: expected more than 1000 and 100"
    );
    assert!(store.borrow().series() < 20_000);
    assert_eq!(Rc::strong_count(&store), 1);
}
