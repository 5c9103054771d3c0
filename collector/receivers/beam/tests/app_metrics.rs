//! App metrics: metrics that are not in the plan and are described by the definitions of their series.

mod common;

use common::*;
use dichroic_receiver_beam::Receiver;
use dichroic_wire::define::{DefineKind, DefineWriter, relay_series_map};
use dichroic_wire::{GoodbyeCode, Map, Side, Value};

const KEY: u64 = 0x1234_5678_9abc_def0;

fn app_metric(kind: &str, labels: &[&str], unit: &str, more: &[(&str, Value)]) -> Map {
    let mut map = Map::new();
    map.insert("name".to_owned(), "shop.checkout.duration".into());
    map.insert("type".to_owned(), kind.into());
    let labels: Vec<Value> = labels.iter().map(|label| (*label).into()).collect();
    map.insert("labels".to_owned(), labels.into());
    map.insert("unit".to_owned(), unit.into());
    map.insert("help".to_owned(), "Time of a checkout.".into());
    for (key, value) in more {
        map.insert((*key).to_owned(), value.clone());
    }
    map
}

async fn define(relay: &mut Relay, id: u32, key: u64, labels: Vec<Value>, app_metric: impl Into<Value>) {
    let mut map = relay_series_map(key, labels, T0, false);
    map.insert("own".to_owned(), app_metric.into());
    let mut out = Vec::new();
    let mut writer = DefineWriter::begin(&mut out, DefineKind::Series, MAX);
    assert!(writer.define(id, &map).expect("definition"));
    writer.finish().expect("frame");
    relay.send(&out).await;
}

#[test]
fn an_app_metric_is_exposed_with_its_name_labels_and_base_unit() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let sum = app_metric("sum", &["plan"], "millisecond", &[]);
        define(&mut relay, 0, KEY, vec!["gold".into()], sum).await;
        relay.numbers(&[(0, 1500, 0.0)]).await;
        let bounds: Vec<Value> = vec![Value::Float(10.0), Value::Float(100.0)];
        let buckets = app_metric(
            "buckets",
            &[],
            "millisecond",
            &[("bounds", bounds.into()), ("name", "shop.pay".into())],
        );
        define(&mut relay, 1, KEY + 1, vec![], buckets).await;
        relay
            .histogram(1, (55, 0.0), &[(0, Side::Positive, 1), (1, Side::Positive, 1)])
            .await;
        relay.flush().await;
        let page = page(&store).join("\n");
        assert!(
            page.contains("shop.checkout.duration{plan=\"gold\"} 1.5"),
            "{page}"
        );
        assert!(page.contains("shop.pay"), "{page}");
        assert!(store.borrow().ledger().balances());
    });
}

#[test]
fn an_app_metric_survives_a_reload_and_a_reconnect() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        define(&mut relay, 0, KEY, vec![], app_metric("counter", &[], "", &[])).await;
        relay.numbers(&[(0, 3, 0.0)]).await;
        relay.flush().await;
        receiver.reload(config());
        relay.expect_plan().await;
        relay.numbers(&[(0, 4, 0.0)]).await;
        relay.flush().await;
        let shown = |n: u64| {
            page(&store)
                .join("\n")
                .contains(&format!("shop.checkout.duration{{}} {n}"))
        };
        assert!(shown(4), "{:?}", page(&store));
        relay.crash().await;
        let mut again = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 2)).await;
        define(&mut again, 5, KEY, vec![], app_metric("counter", &[], "", &[])).await;
        again.numbers(&[(5, 9, 0.0)]).await;
        again.flush().await;
        assert!(shown(9), "{:?}", page(&store));
    });
}

#[test]
fn an_invalid_app_metric_ends_the_connection_with_a_message() {
    let check = |map: Value, message: &'static str| {
        run(async move {
            let (store, receiver) = (store(), Receiver::new(config()));
            let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
            define(&mut relay, 0, KEY, vec![], map).await;
            let goodbye = relay.goodbye().await;
            assert_eq!(goodbye.code, GoodbyeCode::Malformed);
            assert!(goodbye.message.contains(message), "{goodbye:?}");
        });
    };
    check(Value::Int(5), "a map");
    check(Map::new().into(), "name must have");
    check(app_metric("gauge", &[], "", &[]).into(), "unknown type");
    check(app_metric("buckets", &[], "", &[]).into(), "unknown type");
    check(
        app_metric("buckets", &[], "", &[("bounds", Value::Int(1))]).into(),
        "bounds",
    );
    let down = vec![Value::Float(2.0), Value::Float(1.0)];
    check(
        app_metric("buckets", &[], "", &[("bounds", down.into())]).into(),
        "ascending",
    );
    check(app_metric("exponential", &[], "", &[]).into(), "octaves");
    check(app_metric("sum", &[""], "", &[]).into(), "labels");
    check(app_metric("sum", &["one"], "", &[]).into(), "labels");
}
