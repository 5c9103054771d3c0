//! The memory of subscribers: reserved in the budget, refused clearly, shared where it is equal, and returned.

mod common;

use common::{Client, EPOCH, Received, World, events, run_with, until};
use dichroic_exporter_stream::Config;
use dichroic_model::clock::now;
use dichroic_model::{
    AttributeValue, Factor, Limits, MetricKind, NameStyle, Number, Scope, SeriesDef, Temporality,
};
use dichroic_pipeline::Times;
use dichroic_pipeline::budget::{Part, Usage};
use dichroic_wire::Subscribe;
use dichroic_wire::hello::{OnFull, SubscribeKind};
use std::borrow::Cow;
use std::time::Duration;

/// Half of this is for subscribers.
const BUDGET: usize = 8 << 20;

fn test<F: Future<Output = ()>>(body: impl FnOnce(World) -> F) {
    test_with(BUDGET, body);
}

fn test_with<F: Future<Output = ()>>(budget: usize, body: impl FnOnce(World) -> F) {
    let limits = Limits {
        in_flight_bytes: budget,
        replay_bytes: 256 << 10,
        ..Limits::default()
    };
    let config = Config {
        min_every: Duration::from_millis(2),
        ..Config::default()
    };
    run_with(config, limits, body);
}

fn usage(world: &World) -> Usage {
    world.store.borrow().budget().usage(Part::Subscribers)
}

/// Publishes a batch, and lets every session take it.
async fn publish(world: &World, numbers: std::ops::Range<i64>) {
    let (schema, source) = (world.schema("a.b"), world.source("shop@a"));
    world.publish(&schema, &source, numbers);
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// Publishes batches of 100 rows until the condition holds; returns the number of rows.
async fn publish_until(world: &World, condition: impl Fn(&World) -> bool) -> i64 {
    let mut next = 0;
    while !condition(world) {
        publish(world, next..next + 100).await;
        next += 100;
        assert!(next < 10_000_000, "the condition never held");
    }
    next
}

fn large_buffer() -> Subscribe {
    let mut subscribe = events(&["**"]);
    subscribe.buffer = Some(1 << 20);
    subscribe
}

async fn goodbye(client: &mut Client) -> (u16, String) {
    loop {
        match client.next().await {
            Received::Goodbye(code, message) => return (code, message),
            Received::End => panic!("ended without GOODBYE"),
            _ => {}
        }
    }
}

#[test]
fn a_queue_without_memory_drops_its_oldest_rows_and_reports_their_exact_number() {
    test(|world| async move {
        let mut client = world.connect(Some(large_buffer()));
        client.handshake().await;
        let published = publish_until(&world, |world| world.hop("stream").2 > 1_000).await as u64;
        let usage = usage(&world);
        assert!(usage.used <= BUDGET / 2 && usage.used > BUDGET / 4, "{usage:?}");
        assert!(usage.refused.iter().sum::<u64>() > 0, "{usage:?}");
        let dropped = world.hop("stream").2;
        let (mut seen, mut lost) = (0, 0);
        while seen + lost < published {
            match client.next().await {
                Received::Row(row) => {
                    assert_eq!(row.n() as u64, seen + lost, "rows are missing without a gap");
                    seen += 1;
                }
                Received::Gap(None, 1, Some(n)) => lost += n,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(lost, dropped);
        until(|| world.hop("stream") == (published, seen, dropped, 0)).await;
        drop(client);
        until(|| world.store.borrow().budget().usage(Part::Subscribers).used == 0).await;
    });
}

#[test]
fn a_queue_without_memory_ends_a_subscription_that_must_not_lose_rows() {
    test(|world| async move {
        let mut subscribe = large_buffer();
        subscribe.on_full = Some(OnFull::Disconnect);
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        publish_until(&world, |world| usage(world).refused != [0, 0]).await;
        let (code, message) = goodbye(&mut client).await;
        assert_eq!(code, 4, "{message}");
        assert!(message.contains("raise limits.in_flight"), "{message}");
    });
}

#[test]
fn a_subscriber_for_which_there_is_no_memory_is_refused_with_the_key() {
    test(|world| async move {
        publish(&world, 0..1).await;
        let mut subscribe = events(&["**"]);
        subscribe.replay_ms = Some(60_000);
        let mut admitted = Vec::new();
        let (code, message) = loop {
            assert!(admitted.len() < 100, "nobody is refused");
            let mut client = world.connect(Some(subscribe.clone()));
            match client.next().await {
                Received::Goodbye(code, message) => break (code, message),
                Received::Row(_) => {}
                other => panic!("{other:?}"),
            }
            admitted.push(client);
        };
        assert_eq!(code, 4, "{message}");
        assert!(
            message.contains("limits.in_flight") && message.contains("retry later"),
            "{message}"
        );
        assert!(usage(&world).refused.iter().sum::<u64>() > 0);
        drop(admitted);
        until(|| usage(&world).used == 0).await;
        let mut client = world.connect(Some(events(&["**"])));
        client.handshake().await;
    });
}

#[test]
fn the_subscriber_with_the_most_memory_leaves_when_another_has_less_than_its_share() {
    test(|world| async move {
        let mut hog = world.connect(Some(large_buffer()));
        hog.handshake().await;
        publish_until(&world, |world| world.hop("stream").2 > 0).await;
        let mut other = world.connect(Some(large_buffer()));
        let (code, message) = goodbye(&mut other).await;
        assert_eq!(code, 4, "{message}");
        let (code, message) = goodbye(&mut hog).await;
        assert_eq!(code, 4, "{message}");
        assert!(message.contains("had the most"), "{message}");
        until(|| usage(&world).used == 0).await;
        let (offered, sent, dropped, queued) = world.hop("stream");
        assert_eq!((offered, queued), (sent + dropped, 0));
        let mut other = world.connect(Some(large_buffer()));
        other.handshake().await;
    });
}

#[test]
fn rows_are_not_filtered_for_a_full_queue_that_is_not_read() {
    test(|world| async move {
        let mut subscribe = events(&["**"]);
        subscribe.buffer = Some(1_000);
        subscribe
            .where_
            .insert("status".to_owned(), vec!["503".to_owned()]);
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        let mut next = publish_until(&world, |world| world.hop("stream").2 > 0).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let offered = world.hop("stream").0;
        // Of 100 rows 20 match: without the filter, all count as lost.
        publish(&world, next..next + 100).await;
        next += 100;
        until(|| world.hop("stream").0 == offered + 100).await;
        let (mut last, mut unknown) = (-1, 0);
        let resumed = loop {
            match client.next().await {
                Received::Row(row) if row.n() >= next => break row.n(),
                Received::Row(row) => last = row.n(),
                Received::Gap(None, 1, None) => {
                    unknown += 1;
                    // The queue is read: rows are filtered again.
                    publish(&world, next..next + 100).await;
                }
                Received::Gap(None, 1, Some(_)) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((resumed % 5, unknown), (0, 1));
        assert!(last < next - 100);
        until(|| world.hop("stream").3 == 0).await;
        let (offered, sent, dropped, _) = world.hop("stream");
        assert_eq!(offered, sent + dropped);
    });
}

fn numbers(world: &World, count: i64) {
    let source = world.source("shop@a").id;
    let mut store = world.store.borrow_mut();
    for n in 0..count {
        let text = format!("/a/long/enough/route/{n}");
        let attributes = [(Cow::Borrowed("route"), AttributeValue::from(&*text))];
        let series = SeriesDef {
            source,
            scope: &Scope::default(),
            name: "shop.carts",
            style: NameStyle::OpenTelemetry,
            unit: "{cart}",
            help: "",
            kind: MetricKind::COUNTER,
            temporality: Temporality::Cumulative,
            factor: Factor::ONE,
            attributes: attributes.into_iter().collect(),
            start: 0,
            bounds: None,
        };
        let fingerprint = store.fingerprinter(source).of(text.as_bytes());
        let series = store.define(fingerprint, series).unwrap();
        let times = Times {
            start: EPOCH,
            time: now(),
            now: now(),
        };
        store.set_number(series, Number::int(n), times).unwrap();
    }
}

fn metrics() -> Subscribe {
    let mut subscribe = Subscribe::new(SubscribeKind::Metric, vec!["shop.**".to_owned()]);
    subscribe.every_ms = Some(1);
    subscribe
}

#[test]
fn metric_subscribers_share_their_series_and_return_them() {
    test_with(8 * BUDGET, |world| async move {
        const SERIES: usize = 5_000;
        numbers(&world, SERIES as i64);
        let mut clients = Vec::new();
        let mut used = Vec::new();
        for _ in 0..3 {
            let mut client = world.connect(Some(metrics()));
            client.handshake().await;
            for _ in 0..SERIES {
                assert!(matches!(client.next().await, Received::Number(..)));
            }
            clients.push(client);
            // A scan without points ends without a sign; its memory is returned.
            let mut least = usize::MAX;
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                least = least.min(usage(&world).used);
            }
            used.push(least);
        }
        let [first, second, third] = used[..] else {
            panic!()
        };
        assert!(second - first < first / 2, "{used:?}");
        assert_eq!(third - second, second - first);
        drop(clients);
        until(|| usage(&world).used == 0).await;
    });
}

#[test]
fn a_metric_subscriber_that_does_not_read_keeps_no_scan() {
    test(|world| async move {
        const SERIES: i64 = 8_000;
        numbers(&world, SERIES);
        let mut client = world.connect(Some(metrics()));
        client.handshake().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let stalled = usage(&world).used;
        let mut names = std::collections::BTreeSet::new();
        while names.len() < SERIES as usize {
            match client.next().await {
                Received::Number(_, value, _) => names.insert(value as i64),
                other => panic!("{other:?}"),
            };
        }
        // Without the memory of a scan and before most series were defined.
        assert!(stalled < 1 << 20, "{stalled} bytes");
    });
}
