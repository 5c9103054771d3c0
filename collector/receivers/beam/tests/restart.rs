//! Restarts of nodes and reloads of the collector: the exposition shows all series of the current incarnation, and only those.

mod common;

use common::*;
use dichroic_model::SECOND;
use dichroic_packs::PackResolver;
use dichroic_receiver_beam::{Config, Receiver};
use dichroic_wire::{Bucket, HistogramsWriter, NumberRow, NumbersWriter, Side, Value};
use std::sync::Arc;

fn numbers_at(time: i64, rows: &[(u32, i64, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = NumbersWriter::begin(&mut out, time, MAX);
    for (series, int, float) in rows {
        assert!(writer.push(NumberRow {
            series: *series,
            int: *int,
            float: *float
        }));
    }
    writer.finish().expect("frame");
    out
}

/// Replaces the resolver, so that all series are resolved again.
fn reload_resolver(store: &SharedCore, config: &Config) {
    let resolver = PackResolver::new(&config.selection.packs);
    store.borrow_mut().set_resolver(Arc::new(resolver));
}

#[test]
fn released_counters_and_idle_histograms_survive_a_reload() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, duration) = (relay.key(0), relay.key(4));
        relay.define(0, orders, vec![Value::Null, Value::Null], T0).await;
        relay.define(1, duration, vec![Value::Null], T0).await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.histogram(1, (3, 0.0), &[(0, Side::Positive, 9)]).await;
        relay.release(0).await;
        relay.flush().await;
        let before = page(&store);
        assert_eq!(before.len(), 2);
        for reload in 0..300 {
            reload_resolver(&store, &config());
            store.borrow_mut().sweep(T0 as u64 + reload * SECOND);
            relay.flush().await;
        }
        for s in 0..3 {
            store.borrow_mut().sweep(T0 as u64 + (1_000 + s) * SECOND);
        }
        assert_eq!(page(&store), before);
        // Defined again, it continues.
        relay
            .define(0, orders, vec![Value::Null, Value::Null], T0 + 1)
            .await;
        relay.numbers(&[(0, 2, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store)[1], "shop.orders{} 2");
    });
}

#[test]
fn more_series_than_one_batch_survive_a_reload() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        let all = 3_000_u32;
        for id in 0..all {
            let plan = Value::from(id.to_string().as_str());
            relay.define(id, orders, vec![Value::Null, plan], T0).await;
        }
        let rows: Vec<_> = (0..all).map(|id| (id, 1, 0.0)).collect();
        relay.numbers(&rows).await;
        relay.flush().await;
        reload_resolver(&store, &config());
        store.borrow_mut().sweep(T0 as u64);
        for _ in 0..5 {
            relay.flush().await;
        }
        for s in 0..10 {
            store.borrow_mut().sweep(T0 as u64 + (700 + s) * SECOND);
        }
        assert_eq!(page(&store).len(), all as usize);
    });
}

#[test]
fn a_node_that_restarts_with_a_clock_that_stepped_back_is_shown() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        relay.define(0, orders, vec![Value::Null, Value::Null], T0).await;
        relay.send(&numbers_at(T0, &[(0, 1000, 0.0)])).await;
        relay.flush().await;
        relay.crash().await;
        // A new VM whose clock is an hour behind.
        let hour = 3_600 * SECOND as i64;
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 2, T0 - hour, 1)).await;
        relay
            .define(0, orders, vec![Value::Null, Value::Null], T0 - hour)
            .await;
        for n in 1..=5 {
            relay.send(&numbers_at(T0 - hour + n, &[(0, n, 0.0)])).await;
            relay.flush().await;
        }
        assert_eq!(page(&store), ["shop.orders{} 5"]);
    });
}

#[test]
fn a_sum_may_decrease_after_a_reload_makes_it_non_monotonic() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let bytes = relay.key(1);
        relay.define(0, bytes, vec![], T0).await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.flush().await;
        let mut changed = config();
        changed.selection.definitions = definitions(&DEFINITIONS.replace(
            "measurement: bytes, unit: By",
            "measurement: bytes, unit: By, monotonic: false",
        ));
        receiver.reload(changed);
        let plan = relay.expect_plan().await;
        assert!(
            plan.aggregates.iter().any(|a| a.key == bytes),
            "same key: the relay keeps the series and its id"
        );
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.numbers(&[(0, 4, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.bytes{} 4"]);
    });
}

#[test]
fn an_idle_counter_remains_exposed_after_a_reload() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        relay.define(0, orders, vec![Value::Null, Value::Null], T0).await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.flush().await;
        // A reload with an additional definition.
        let mut changed = config();
        changed
            .selection
            .definitions
            .extend(definitions("- {name: shop.new, type: counter, event: shop.new}"));
        reload_resolver(&store, &changed);
        receiver.reload(changed);
        relay.expect_plan().await;
        // Ten minutes of flushes without new rows.
        for s in 1..=650 {
            store.borrow_mut().sweep(T0 as u64 + s * SECOND);
            if s % 50 == 0 {
                relay.flush().await;
            }
        }
        assert_eq!(page(&store), ["shop.orders{} 10"]);
    });
}

#[test]
fn a_series_defined_while_its_entry_was_withdrawn_has_its_labels() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, duration) = (relay.key(0), relay.key(4));
        let mut without = config();
        without.selection.definitions.retain(|d| d.name == "shop.queue");
        receiver.reload(without);
        // The relay has not read that plan yet.
        relay.expect_plan_without_reply().await;
        relay
            .define(0, orders, vec![Value::Bool(true), "pro".into()], T0)
            .await;
        relay.define(1, duration, vec!["pro".into()], T0).await;
        relay.flush().await;
        receiver.reload(config());
        relay.expect_plan().await;
        // The relay reads only the last plan, which equals the first.
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.histogram(1, (3, 0.0), &[(0, Side::Positive, 2)]).await;
        relay.flush().await;
        assert_eq!(
            page(&store),
            [
                "shop.duration{plan=\"pro\"} [0.1, 1.0] [2, 0, 0] 0.000000003",
                "shop.orders{ok=\"true\",plan=\"pro\"} 10"
            ]
        );
    });
}

#[test]
fn a_sum_beyond_64_bits_survives_a_reload() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let bytes = relay.key(1);
        relay.define(0, bytes, vec![], T0).await;
        relay.numbers(&[(0, (1 << 59) - 5, 0.0)]).await;
        relay.numbers(&[(0, -5, 2_f64.powi(60))]).await;
        relay.numbers(&[(0, 5, 2_f64.powi(60))]).await;
        relay.flush().await;
        let before = page(&store);
        reload_resolver(&store, &config());
        store.borrow_mut().sweep(T0 as u64);
        relay.numbers(&[(0, 6, 2_f64.powi(60))]).await;
        relay.flush().await;
        assert_eq!(page(&store), before);
    });
}

#[test]
fn after_a_reload_a_restarted_node_shows_only_its_own_series() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, queue) = (relay.key(0), relay.key(3));
        relay.define(0, orders, vec![Value::Null, Value::Null], T0).await;
        relay.define(1, queue, vec![], T0).await;
        relay.numbers(&[(0, 10, 0.0), (1, 7, 0.0)]).await;
        relay.flush().await;
        reload_resolver(&store, &config());
        store.borrow_mut().sweep(T0 as u64);
        relay.crash().await;
        // A new incarnation without the queue.
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 2, T0 + 5, 1)).await;
        relay
            .define(0, orders, vec![Value::Null, Value::Null], T0 + 5)
            .await;
        relay.numbers(&[(0, 1, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{} 1"]);
    });
}

#[test]
fn a_released_gauge_expires_after_a_reload_too() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let queue = relay.key(3);
        relay.define(1, queue, vec![], T0).await;
        relay.numbers(&[(1, 7, 0.0)]).await;
        relay.flush().await;
        reload_resolver(&store, &config());
        store.borrow_mut().sweep(T0 as u64);
        relay.release(1).await;
        relay.flush().await;
        assert_eq!(page(&store), Vec::<String>::new());
    });
}

#[test]
fn a_metric_removed_by_a_reload_expires_in_either_order() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let queue = relay.key(3);
        relay.define(1, queue, vec![], T0).await;
        relay.numbers(&[(1, 7, 0.0)]).await;
        relay.flush().await;
        let mut without = config();
        without.selection.definitions.retain(|d| d.name != "shop.queue");
        // The store is swept before the session checks for a new plan.
        reload_resolver(&store, &without);
        store.borrow_mut().sweep(T0 as u64);
        receiver.reload(without);
        relay.expect_plan().await;
        relay.flush().await;
        assert_eq!(page(&store), Vec::<String>::new());
    });
}

#[test]
fn a_histogram_of_a_node_that_restarts_with_a_clock_that_stepped_back_is_shown() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0 + 100, 1)).await;
        let duration = relay.key(4);
        relay.define(0, duration, vec![Value::Null], T0 + 100).await;
        relay.histogram(0, (3, 0.0), &[(0, Side::Positive, 9)]).await;
        relay.flush().await;
        relay.crash().await;
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 2, T0, 1)).await;
        relay.define(0, duration, vec![Value::Null], T0).await;
        let mut out = Vec::new();
        let mut writer = HistogramsWriter::begin(&mut out, T0 - 1, MAX);
        writer
            .push(
                0,
                1,
                0.0,
                [Bucket {
                    index: 0,
                    side: Side::Positive,
                    count: 2,
                }],
            )
            .unwrap();
        writer.finish().unwrap();
        relay.send(&out).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.duration{} [0.1, 1.0] [2, 0, 0] 0.000000001"]);
    });
}
