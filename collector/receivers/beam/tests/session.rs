//! A relay's connection, from HELLO to GOODBYE.

mod common;

use common::*;
use dichroic_model::SourceId;
use dichroic_pipeline::{DropReason, Signal};
use dichroic_receiver_beam::{Config, Receiver};
use dichroic_wire::define::{DefineKind, DefineWriter, relay_series_map};
use dichroic_wire::{GoodbyeCode, Map, Side, Value};

const ORDERS: usize = 0;
const BYTES: usize = 1;
const BALANCE: usize = 2;
const QUEUE: usize = 3;
const DURATION: usize = 4;
const LATENCY: usize = 5;

fn plan_label(plan: &str) -> Vec<Value> {
    vec![Value::Bool(true), Value::from(plan)]
}

#[test]
fn totals_of_every_type_reach_their_cells() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        assert_eq!(relay.hello.as_ref().unwrap().epoch, T0);
        let (orders, bytes, balance) = (relay.key(ORDERS), relay.key(BYTES), relay.key(BALANCE));
        let (queue, duration, latency) = (relay.key(QUEUE), relay.key(DURATION), relay.key(LATENCY));
        relay.define(0, orders, plan_label("pro"), T0).await;
        relay
            .define(1, orders, vec![Value::Null, Value::from("free")], T0)
            .await;
        relay.define(2, bytes, vec![], T0).await;
        relay.define(3, balance, vec![], T0).await;
        relay.define(4, queue, vec![], T0).await;
        relay.define(5, duration, vec![Value::from("pro")], T0).await;
        relay.define(6, latency, vec![], T0).await;
        relay.flush().await;
        assert!(page(&store).is_empty(), "a definition alone shows nothing");
        relay
            .numbers(&[
                (0, 10, 0.0),
                (1, 3, 0.0),
                (2, 4096, 0.5),
                (3, -7, 2.5),
                (4, 12, 0.0),
            ])
            .await;
        relay
            .histogram(
                5,
                (1_500_000_000, 0.0),
                &[(0, Side::Positive, 2), (2, Side::Positive, 1)],
            )
            .await;
        relay
            .histogram(
                6,
                (3, 0.25),
                &[
                    (0, Side::Zero, 1),
                    (-3, Side::Positive, 2),
                    (0, Side::Positive, 1),
                ],
            )
            .await;
        relay.flush().await;
        assert_eq!(
            page(&store),
            [
                "shop.balance{} -4.5",
                "shop.bytes{} 4096.5",
                "shop.duration{plan=\"pro\"} [0.1, 1.0] [2, 0, 1] 1.5",
                "shop.latency{} 3 1 (-3, [2, 0, 0, 1]) (0, []) 0.00325",
                "shop.orders{ok=\"true\",plan=\"pro\"} 10",
                "shop.orders{plan=\"free\"} 3",
                "shop.queue{} 12",
            ]
        );
        let store = store.borrow();
        let account = store.ledger().account(SourceId(0), Signal::Metrics).unwrap();
        assert_eq!((account.received, account.applied), (7, 7));
        assert!(store.ledger().balances());
    });
}

#[test]
fn a_resend_changes_nothing_and_a_lower_total_is_ignored() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, duration) = (relay.key(ORDERS), relay.key(DURATION));
        relay.define(0, orders, plan_label("pro"), T0).await;
        relay.define(1, duration, vec![Value::Null], T0).await;
        for _ in 0..3 {
            relay.numbers(&[(0, 10, 0.0)]).await;
            relay.histogram(1, (5, 0.0), &[(0, Side::Positive, 5)]).await;
        }
        relay.numbers(&[(0, 9, 0.0)]).await;
        relay.histogram(1, (4, 0.0), &[(0, Side::Positive, 4)]).await;
        relay.flush().await;
        let expected = [
            "shop.duration{} [0.1, 1.0] [5, 0, 0] 0.000000005",
            "shop.orders{ok=\"true\",plan=\"pro\"} 10",
        ];
        assert_eq!(page(&store), expected);
        let store = store.borrow();
        let account = store.ledger().account(SourceId(0), Signal::Metrics).unwrap();
        assert_eq!((account.applied, account.dropped(DropReason::Backwards)), (6, 2));
        assert!(account.balances());
    });
}

#[test]
fn totals_beyond_an_integer_continue_to_rise() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (bytes, duration) = (relay.key(BYTES), relay.key(DURATION));
        relay.define(0, bytes, vec![], T0).await;
        relay.define(1, duration, vec![Value::Null], T0).await;
        let near = (1 << 59) - 10;
        let part = |exponent: i32| 2_f64.powi(exponent);
        for (int, float) in [(near, 0.0), (10, part(59)), (-5, part(60)), (100, part(64))] {
            relay.numbers(&[(0, int, float)]).await;
        }
        relay.histogram(1, (near, 0.0), &[(0, Side::Positive, 1)]).await;
        relay
            .histogram(1, (10, part(63)), &[(0, Side::Positive, 2)])
            .await;
        relay.flush().await;
        let expected = [
            format!("shop.bytes{{}} {}", 2_f64.powi(64) + 100.0),
            format!(
                "shop.duration{{}} [0.1, 1.0] [2, 0, 0] {}",
                (2_f64.powi(63) + 10.0) / 1e9
            ),
        ];
        assert_eq!(page(&store), expected);
    });
}

#[test]
fn a_sum_that_is_negative_for_a_while_is_shown_when_it_is_not() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let bytes = relay.key(BYTES);
        relay.define(0, bytes, vec![], T0).await;
        relay.numbers(&[(0, -5, 0.0)]).await;
        relay.numbers(&[(0, 5, -5.5)]).await;
        relay.flush().await;
        assert_eq!(page(&store), Vec::<String>::new());
        relay.numbers(&[(0, 7, -0.5)]).await;
        relay.numbers(&[(0, 6, -0.5)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.bytes{} 6.5"]);
        let store = store.borrow();
        let account = store.ledger().account(SourceId(0), Signal::Metrics).unwrap();
        assert_eq!((account.applied, account.dropped(DropReason::Backwards)), (1, 3));
        assert!(account.balances());
    });
}

#[test]
fn a_reconnect_in_the_same_epoch_continues_without_a_reset() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, bytes) = (relay.key(ORDERS), relay.key(BYTES));
        relay.define(0, orders, plan_label("pro"), T0).await;
        relay.define(1, bytes, vec![], T0).await;
        relay.numbers(&[(0, 10, 0.0), (1, 1 << 58, 0.0)]).await;
        relay.numbers(&[(1, 0, 2_f64.powi(59))]).await;
        relay.flush().await;
        relay.crash().await;
        let status = receiver.status();
        assert!(
            status[0].ended.is_some() && status[0].end.contains("without GOODBYE"),
            "{status:?}"
        );
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 2)).await;
        assert_eq!(relay.key(ORDERS), orders, "the same content has the same key");
        // Other ids, in another order.
        relay.define(8, bytes, vec![], T0).await;
        relay.define(3, orders, plan_label("pro"), T0).await;
        relay.numbers(&[(3, 4, 0.0), (8, 1, 2_f64.powi(59))]).await;
        relay.flush().await;
        assert_eq!(
            page(&store)[1],
            "shop.orders{ok=\"true\",plan=\"pro\"} 10",
            "a total below the stored one is ignored"
        );
        relay.numbers(&[(3, 12, 0.0)]).await;
        relay.flush().await;
        let expected = [
            format!("shop.bytes{{}} {}", 2_f64.powi(59)),
            "shop.orders{ok=\"true\",plan=\"pro\"} 12".into(),
        ];
        assert_eq!(page(&store), expected);
        assert!(rows(&store).iter().all(|row| row.start == T0 as u64));
        assert_eq!(store.borrow().warnings().resets, 0);
        assert_eq!(store.borrow().sources().count(), 1);
    });
}

#[test]
fn a_new_epoch_resets_series_and_expires_those_it_lacks() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(ORDERS);
        relay.define(0, orders, plan_label("pro"), T0).await;
        relay.define(1, orders, plan_label("free"), T0).await;
        relay.numbers(&[(0, 10, 0.0), (1, 20, 0.0)]).await;
        relay.flush().await;
        relay.crash().await;
        let later = T0 + 5_000_000_000;
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 2, later, 1)).await;
        assert_eq!(
            page(&store).len(),
            2,
            "the old incarnation is shown until the new one has flushed"
        );
        relay.define(0, orders, plan_label("pro"), later).await;
        relay.numbers(&[(0, 3, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{ok=\"true\",plan=\"pro\"} 3"]);
        assert_eq!(rows(&store)[0].start, later as u64);
    });
}

#[test]
fn within_an_epoch_the_higher_attempt_wins_and_the_losers_bytes_are_dropped() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut old = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = old.key(ORDERS);
        old.define(0, orders, plan_label("pro"), T0).await;
        old.numbers(&[(0, 10, 0.0)]).await;
        old.flush().await;
        // Lets the old session become idle: the new session then starts first and supersedes it before these bytes are read.
        for _ in 0..32 {
            tokio::task::yield_now().await;
        }
        let mut new = Relay::dial(&receiver, &store, &hello("shop@a", 1, T0, 2));
        old.send(&numbers(&[(0, 999, 0.0)])).await;
        assert_eq!(old.goodbye().await.code, GoodbyeCode::Superseded);
        new.next().await;
        new.expect_plan().await;
        new.define(0, orders, plan_label("pro"), T0).await;
        new.numbers(&[(0, 11, 0.0)]).await;
        new.flush().await;
        assert!(page(&store)[0].ends_with(" 11"), "{:?}", page(&store));
        let mut late = Relay::dial(&receiver, &store, &hello("shop@a", 1, T0, 1));
        assert_eq!(late.goodbye().await.code, GoodbyeCode::Superseded);
        new.numbers(&[(0, 1_000, 0.0)]).await;
        new.flush().await;
        assert!(page(&store)[0].ends_with(" 1000"));
        assert_eq!(receiver.connected(), 1);
        let other = Relay::connect(&receiver, &store, &hello("shop@a", 77, T0 - 5, 1)).await;
        assert_eq!(
            new.goodbye().await.code,
            GoodbyeCode::Superseded,
            "across epochs the later connection wins"
        );
        drop(other);
    });
}

#[test]
fn beams_without_a_name_get_distinct_instances() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut one = Relay::connect(&receiver, &store, &hello("nonode@nohost", 1, T0, 1)).await;
        let mut two = Relay::connect(&receiver, &store, &hello("nonode@nohost", 2, T0, 1)).await;
        one.flush().await;
        two.flush().await;
        assert_eq!(receiver.connected(), 2);
        let instances: Vec<_> = store
            .borrow()
            .sources()
            .map(|(s, ..)| s.spec.instance.clone())
            .collect();
        assert_eq!(instances, ["nonode@nohost", "nonode@nohost:2"]);
    });
}

#[test]
fn a_node_named_later_is_one_source_with_its_counts() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut other = Relay::connect(&receiver, &store, &hello("nonode@nohost", 2, T0, 1)).await;
        other.flush().await;
        let mut relay = Relay::connect(&receiver, &store, &hello("nonode@nohost", 1, T0, 1)).await;
        let orders = relay.key(ORDERS);
        relay.define(0, orders, plan_label("pro"), T0).await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.flush().await;
        let mut named = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 2)).await;
        assert_eq!(relay.goodbye().await.code, GoodbyeCode::Superseded);
        named.define(0, orders, plan_label("pro"), T0).await;
        named.numbers(&[(0, 11, 0.0)]).await;
        named.flush().await;
        assert_eq!(receiver.connected(), 2);
        assert_eq!(page(&store), ["shop.orders{ok=\"true\",plan=\"pro\"} 11"]);
        let instances: Vec<_> = store
            .borrow()
            .sources()
            .map(|(s, ..)| s.spec.instance.clone())
            .collect();
        assert_eq!(instances, ["nonode@nohost", "shop@a"]);
    });
}

/// The message and code of the GOODBYE, and the definition and bytes that cause it.
type Violation = (&'static str, GoodbyeCode, Option<(u32, u64, Vec<Value>)>, Vec<u8>);

/// Violations of the format, of the state of the connection, and of limits.
fn violations() -> Vec<Violation> {
    use GoodbyeCode::{Limit, Malformed};
    let second_hello = {
        let mut out = Vec::new();
        hello("shop@a", 1, T0, 1).to_hello().write(&mut out).unwrap();
        out
    };
    vec![
        (
            "series 7 is not defined",
            Malformed,
            None,
            numbers(&[(7, 1, 0.0)]),
        ),
        (
            "series 4294967295 is not defined",
            Malformed,
            None,
            numbers(&[(u32::MAX, 1, 0.0)]),
        ),
        (
            "key 1 of the account",
            Malformed,
            Some((1, 1, vec![Value::from("x")])),
            vec![],
        ),
        ("262144", Limit, None, vec![1, 0, 4, 0, 7]),
        (
            "NUMBERS",
            Malformed,
            None,
            vec![9, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("not expected", Malformed, None, second_hello),
        ("EVENTS", Malformed, None, vec![3, 0, 0, 0, 9, 1, 2, 3]),
        ("schema 9", Malformed, None, events(9, 1, 0)),
    ]
}

/// Definitions and rows that do not match the entries of the plan.
fn mismatches(orders: u64, duration: u64) -> Vec<Violation> {
    use GoodbyeCode::{Limit, Malformed};
    let mut histogram = Vec::new();
    let mut writer = dichroic_wire::HistogramsWriter::begin(&mut histogram, T0, MAX);
    let bucket = dichroic_wire::Bucket {
        index: 3,
        side: Side::Positive,
        count: 1,
    };
    assert!(writer.push(1, 0, 0.0, [bucket]).unwrap());
    writer.finish().unwrap();
    let unlabeled = |key: u64| Some((1, key, vec![Value::Null]));
    vec![
        (
            "ids below 10000",
            Limit,
            Some((10_000, orders, plan_label("x"))),
            vec![],
        ),
        (
            "has 1 labels, but shop.orders has 2",
            Malformed,
            unlabeled(orders),
            vec![],
        ),
        (
            "is a histogram",
            Malformed,
            unlabeled(duration),
            numbers(&[(1, 1, 0.0)]),
        ),
        ("no bucket 3", Malformed, unlabeled(duration), histogram),
    ]
}

#[test]
fn a_hostile_relay_ends_only_its_own_connection_with_a_message() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut good = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, duration) = (good.key(ORDERS), good.key(DURATION));
        good.define(0, orders, plan_label("pro"), T0).await;
        let cases = violations().into_iter().chain(mismatches(orders, duration));
        for (number, (message, code, definition, bytes)) in cases.enumerate() {
            let mut bad =
                Relay::connect(&receiver, &store, &hello("bad@a", 100 + number as i64, T0, 1)).await;
            if let Some((id, key, labels)) = definition {
                bad.define(id, key, labels, T0).await;
            }
            bad.send(&bytes).await;
            let goodbye = bad.goodbye().await;
            assert_eq!(goodbye.code, code, "{message}: {goodbye:?}");
            assert!(goodbye.message.contains(message), "{message}: {goodbye:?}");
            good.numbers(&[(0, number as i64, 0.0)]).await;
            good.flush().await;
        }
        assert!(store.borrow().ledger().balances());
    });
}

/// An EVENTS frame of `rows` rows, with `columns` columns of integers after the time.
fn events(schema: u32, rows: usize, columns: usize) -> Vec<u8> {
    let mut builder = dichroic_wire::events_builder::EventsBuilder::new(schema, 0, columns, MAX).unwrap();
    for row in 0..rows {
        let cells = vec![dichroic_wire::Cell::Int(row as i64); columns];
        builder.push(T0 + row as i64, &cells).unwrap();
    }
    let mut out = Vec::new();
    builder.finish(0, &mut out).unwrap();
    out
}

#[test]
fn a_cut_connection_never_panics_at_any_byte() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(ORDERS);
        relay.crash().await;
        let mut bytes = Vec::new();
        let mut writer =
            dichroic_wire::DefineWriter::begin(&mut bytes, dichroic_wire::DefineKind::Series, MAX);
        let map = dichroic_wire::define::relay_series_map(orders, plan_label("pro"), T0, false);
        assert!(writer.define(0, &map).unwrap());
        writer.finish().unwrap();
        bytes.extend(numbers(&[(0, 5, 0.0)]));
        for cut in 0..=bytes.len() {
            let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 2 + cut as i64)).await;
            relay.send(&bytes[..cut]).await;
            relay.crash().await;
        }
        assert_eq!(page(&store), ["shop.orders{ok=\"true\",plan=\"pro\"} 5"]);
        assert!(store.borrow().ledger().balances());
    });
}

fn dropped(store: &SharedCore, reason: DropReason) -> u64 {
    let store = store.borrow();
    let accounts = store.ledger().accounts();
    accounts.map(|(_, _, account)| account.dropped(reason)).sum()
}

#[test]
fn a_long_label_is_cut_at_the_same_byte_as_in_a_relay() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        let long = format!("x{}", "é".repeat(30_000));
        let cut = format!("x{}", "é".repeat(127));
        relay
            .define(0, orders, vec![Value::Null, long.as_str().into()], T0)
            .await;
        relay
            .define(1, orders, vec![Value::Null, cut.as_str().into()], T0)
            .await;
        relay
            .define(2, orders, vec![Value::Null, Value::Bytes(vec![b'b'; 60_000])], T0)
            .await;
        relay.numbers(&[(0, 10, 0.0), (1, 11, 0.0), (2, 12, 0.0)]).await;
        relay.flush().await;
        let bytes = "b".repeat(256);
        assert_eq!(
            page(&store),
            [
                format!("shop.orders{{plan=\"{cut}\"}} 10"),
                format!("shop.orders{{plan=\"{bytes}\"}} 12")
            ]
        );
        assert_eq!(
            dropped(&store, DropReason::Duplicate),
            1,
            "labels that are cut to the same text are one series"
        );
    });
}

#[test]
fn labels_of_series_without_a_row_are_limited() {
    run(async {
        let config = Config {
            series: 100,
            ..config()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let names: Vec<Value> = (0..32).map(|at| format!("l{at}").as_str().into()).collect();
        let app_metric: Map = [
            ("name".to_owned(), "shop.wide".into()),
            ("type".to_owned(), "counter".into()),
            ("labels".to_owned(), names.into()),
        ]
        .into();
        let define = |id: u32| {
            let labels = (0..32)
                .map(|_| format!("{id}{}", "x".repeat(60)).as_str().into())
                .collect();
            let mut map = relay_series_map(99_999, labels, T0, false);
            map.insert("own".to_owned(), app_metric.clone().into());
            let (mut out, max) = (Vec::new(), 1 << 20);
            let mut writer = DefineWriter::begin(&mut out, DefineKind::Series, max);
            assert!(writer.define(id, &map).expect("definition"));
            writer.finish().expect("frame");
            out
        };
        for id in 0..100 {
            relay.send(&define(id)).await;
        }
        let rows: Vec<_> = (0..100).map(|id| (id, 1, 0.0)).collect();
        relay.numbers(&rows).await;
        relay.flush().await;
        let (shown, refused) = (
            page(&store).len() as u64,
            dropped(&store, DropReason::MemoryLimit),
        );
        assert!((20..=60).contains(&shown), "{shown}");
        assert_eq!(shown + refused, 100);
        // Labels of series with a row are accounted for by the store, so there is room again.
        relay.release(99).await;
        relay.send(&define(99)).await;
        relay.numbers(&[(99, 1, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store).len() as u64, shown + 1);
        assert!(store.borrow().ledger().balances());
    });
}

#[test]
fn unknown_reasons_of_the_account_are_counted_together() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        for id in 0..3 {
            let reason = format!("{id}{}", "w".repeat(60_000));
            relay
                .define(id, 3, vec![Value::Int(77), reason.as_str().into()], T0)
                .await;
        }
        relay
            .define(3, 3, vec![Value::Int(77), "out_of_range".into()], T0)
            .await;
        relay
            .numbers(&[(0, 1, 0.0), (1, 2, 0.0), (2, 3, 0.0), (3, 9, 0.0)])
            .await;
        relay.numbers(&[(1, 12, 0.0)]).await;
        relay.flush().await;
        let store = store.borrow();
        let (_, terms) = store.ledger().relays().next().expect("an account");
        let terms: Vec<String> = terms
            .iter()
            .map(|(term, value)| format!("{term} {value}"))
            .collect();
        let metric = "key 0x000000000000004d";
        assert_eq!(
            terms,
            [
                format!("skipped{{metric={metric:?},reason=\"other\"}} 16"),
                format!("skipped{{metric={metric:?},reason=\"out_of_range\"}} 9"),
            ]
        );
    });
}
