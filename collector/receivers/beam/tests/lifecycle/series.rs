//! Series of a relay: identity, eviction, limits and the exposition.

use crate::common::*;
use dichroic_model::{Limits, SECOND};
use dichroic_packs::{PackResolver, Packs, Selection};
use dichroic_pipeline::{Core, DropReason};
use dichroic_receiver_beam::Receiver;
use dichroic_wire::Value;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

#[test]
fn evicted_gauges_expire_and_counters_remain_until_they_return_or_the_node_disconnects() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, queue) = (relay.key(0), relay.key(3));
        relay.define(0, orders, vec![Value::Null, Value::Null], T0).await;
        relay.define(1, queue, vec![], T0).await;
        relay.numbers(&[(0, 10, 0.0), (1, 5, 0.0)]).await;
        relay.release(0).await;
        relay.release(1).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{} 10"]);
        let later = T0 + 400_000_000_000;
        relay
            .define(0, orders, vec![Value::Null, Value::Null], later)
            .await;
        relay.numbers(&[(0, 2, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{} 2"]);
        assert_eq!(rows(&store)[0].start, later as u64);
        relay.crash().await;
        assert_eq!(page(&store).len(), 1, "kept for a minute");
        let ended = receiver.status()[0].ended.unwrap();
        store.borrow_mut().sweep(ended + 59 * SECOND);
        assert_eq!(page(&store).len(), 1);
        store.borrow_mut().sweep(ended + 61 * SECOND);
        assert!(page(&store).is_empty());
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 2)).await;
        relay
            .define(0, orders, vec![Value::Null, Value::Null], later)
            .await;
        relay.numbers(&[(0, 3, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{} 3"], "shown again with its total");
    });
}

#[test]
fn series_beyond_the_stores_limits_are_dropped_and_counted() {
    run(async {
        let limits = Limits {
            series: 2,
            ..Limits::default()
        };
        let store = Core::new(limits, Arc::new(PackResolver::builtin()), T0 as u64);
        let (store, receiver) = (Rc::new(RefCell::new(store)), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        for id in 0..5_u32 {
            relay
                .define(id, orders, vec![Value::Null, Value::Int(id.into())], T0)
                .await;
            relay.numbers(&[(id, 1, 0.0), (id, 2, 0.0)]).await;
        }
        relay.flush().await;
        assert_eq!(page(&store).len(), 2);
        let store = store.borrow();
        let (_, _, account) = store.ledger().accounts().next().unwrap();
        assert_eq!(
            (account.received, account.dropped(DropReason::SeriesLimit)),
            (10, 6)
        );
        assert!(account.balances());
    });
}

#[test]
fn two_ids_of_one_series_do_not_overwrite_each_other() {
    run(async {
        let mut config = config();
        config.selection.definitions =
            definitions("[{name: same, type: counter, event: a.b}, {name: same, type: counter, event: a.c}]");
        let (store, receiver) = (store(), Receiver::new(config));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (one, two) = (relay.key(0), relay.key(1));
        assert_ne!(one, two);
        relay.define(0, one, vec![], T0).await;
        relay.define(1, two, vec![], T0).await;
        relay.numbers(&[(0, 10, 0.0), (1, 500, 0.0)]).await;
        relay.numbers(&[(0, 11, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["same{} 11"]);
        let store = store.borrow();
        let (_, _, account) = store.ledger().accounts().next().unwrap();
        assert_eq!(account.dropped(DropReason::Duplicate), 1);
    });
}

#[test]
fn a_series_remains_one_when_a_label_changes_type_but_not_text() {
    let same = [
        vec![Value::Int(1), Value::Bool(true)],
        vec!["1".into(), "true".into()],
        vec![Value::Float(1.0), "true".into()],
    ];
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        for (epoch, labels) in (1..).zip(&same) {
            let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", epoch, T0 + epoch, 1)).await;
            let orders = relay.key(0);
            relay.define(0, orders, labels.clone(), T0 + epoch).await;
            relay.numbers(&[(0, 10 * epoch, 0.0)]).await;
            relay.flush().await;
            // Released by the relay, the counter remains exposed, and an id with the same labels continues it.
            relay.release(0).await;
            relay.define(1, orders, same[0].clone(), T0 + epoch).await;
            relay.numbers(&[(1, 10 * epoch + 1, 0.0)]).await;
            relay.flush().await;
            let expected = format!("shop.orders{{ok=\"1\",plan=\"true\"}} {}", 10 * epoch + 1);
            assert_eq!(page(&store), [expected]);
            relay.crash().await;
        }
        assert_eq!(store.borrow().warnings().label_collisions, 0);
    });
}

#[test]
fn an_empty_label_is_absent() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        relay.define(0, orders, vec![Value::Null, "".into()], T0).await;
        relay.numbers(&[(0, 1, 0.0)]).await;
        relay.release(0).await;
        relay.define(1, orders, vec!["".into(), Value::Null], T0).await;
        relay.numbers(&[(1, 2, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store).len(), 1);
        assert_eq!(store.borrow().warnings().label_collisions, 0);
    });
}

#[test]
fn an_empty_first_flush_does_not_empty_the_page() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        let labels = || vec![Value::Null, Value::Null];
        relay.define(0, orders, labels(), T0).await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.flush().await;
        relay.crash().await;
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 2, T0 + 1, 1)).await;
        relay.flush().await;
        assert_eq!(
            page(&store),
            ["shop.orders{} 10"],
            "shown until the new incarnation has totals"
        );
        relay.flush().await;
        relay.flush().await;
        assert!(
            page(&store).is_empty(),
            "expired after three flushes without totals"
        );
    });
}

#[test]
fn the_overflow_series_has_one_label() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        relay
            .define_with(0, orders, vec![Value::Null, Value::Null], T0, true)
            .await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{otel_metric_overflow=\"true\"} 10"]);
    });
}

#[test]
fn a_shared_duration_is_in_seconds_and_has_the_runtime_label() {
    run(async {
        let mut config = config();
        config.selection = Selection {
            packs: Packs::builtin(),
            ..Selection::default()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        // A VM whose native unit is a microsecond.
        let mut slow = hello("shop@a", 1, T0, 1);
        slow.native_per_s = 1_000_000;
        let mut relay = Relay::connect(&receiver, &store, &slow).await;
        let plan = relay.plan.clone().unwrap();
        let entry = plan
            .aggregates
            .iter()
            .find(|a| a.event.join(".") == "phoenix.endpoint.stop")
            .unwrap();
        let dichroic_wire::AggregateType::Buckets { bounds } = &entry.aggregate_type else {
            panic!("{entry:?}")
        };
        assert_eq!(bounds[..3], [5_000.0, 10_000.0, 25_000.0]);
        assert!(
            plan.carries
                .iter()
                .any(|c| c.event.join(".") == "phoenix.router_dispatch.start")
        );
        let labels = vec![Value::from("GET"), Value::Int(200), Value::from("/users/:id")];
        relay.define(0, entry.key, labels, T0).await;
        relay
            .histogram(
                0,
                (40_000, 0.0),
                &[
                    (0, dichroic_wire::Side::Positive, 3),
                    (14, dichroic_wire::Side::Positive, 1),
                ],
            )
            .await;
        relay.flush().await;
        let labels = "runtime=\"beam\",http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/users/:id\"";
        let bounds = "[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]";
        let counts = "[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]";
        assert_eq!(
            page(&store),
            [format!(
                "http.server.request.duration{{{labels}}} {bounds} {counts} 0.04"
            )]
        );
    });
}
