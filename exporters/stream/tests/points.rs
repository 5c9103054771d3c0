//! Metric subscriptions: points equal the state of the store, in the exported unit.

mod common;

use common::{Client, EPOCH, Received, World, run, run_with, until};
use dichroic_exporter_stream::Config;
use dichroic_model::clock::now;
use dichroic_model::{
    AttributeValue, Factor, Limits, MetricKind, NameStyle, Number, Scope, SeriesDef, Temporality,
};
use dichroic_pipeline::{Buckets, ExponentialPoint, HistogramPoint, SeriesRef, SummaryPoint, Times};
use dichroic_wire::define::{self, SubscriberSeries};
use dichroic_wire::hello::{Subscribe, SubscribeKind};
use dichroic_wire::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Def<'a> {
    name: &'a str,
    kind: MetricKind,
    unit: &'a str,
    factor: Factor,
    bounds: Option<&'a [f64]>,
    labels: &'a [(&'a str, &'a str)],
}

const NUMBER: Def<'_> = Def {
    name: "shop.carts",
    kind: MetricKind::COUNTER,
    unit: "{cart}",
    factor: Factor::ONE,
    bounds: None,
    labels: &[],
};

fn labeled<'a>(labels: &'a [(&'a str, &'a str)]) -> Def<'a> {
    Def { labels, ..NUMBER }
}

fn define(world: &World, def: &Def<'_>) -> SeriesRef {
    define_in_scope(world, def, &Scope::default())
}

fn define_in_scope(world: &World, def: &Def<'_>, scope: &Scope) -> SeriesRef {
    let source = world.source("shop@a").id;
    let mut store = world.store.borrow_mut();
    let attributes = def
        .labels
        .iter()
        .map(|(k, v)| (Cow::Borrowed(*k), AttributeValue::from(*v)));
    let series = SeriesDef {
        source,
        scope,
        name: def.name,
        style: NameStyle::OpenTelemetry,
        unit: def.unit,
        help: "for tests",
        kind: def.kind,
        temporality: Temporality::Cumulative,
        factor: def.factor,
        attributes: attributes.collect(),
        start: 0,
        bounds: def.bounds.map(Arc::from),
    };
    let text = format!("{}{:?}{scope:?}", def.name, def.labels);
    let fingerprint = store.fingerprinter(source).of(text.as_bytes());
    store.define(fingerprint, series).unwrap()
}

fn set(world: &World, series: SeriesRef, value: Number) {
    let now = now();
    let mut store = world.store.borrow_mut();
    store
        .set_number(
            series,
            value,
            Times {
                start: EPOCH,
                time: now,
                now,
            },
        )
        .unwrap();
}

fn metrics(patterns: &[&str]) -> Subscribe {
    let mut subscribe = Subscribe::new(
        SubscribeKind::Metric,
        patterns.iter().map(|p| (*p).to_owned()).collect(),
    );
    subscribe.every_ms = Some(1);
    subscribe
}

fn quick() -> Config {
    Config {
        min_every: std::time::Duration::from_millis(2),
        ..Config::default()
    }
}

fn test<F: Future<Output = ()>>(body: impl FnOnce(World) -> F) {
    run_with(quick(), Limits::default(), body);
}

/// The next point of each of `n` series, by name and labels.
async fn points(client: &mut Client, n: usize) -> BTreeMap<String, (f64, SubscriberSeries)> {
    let mut found = BTreeMap::new();
    while found.len() < n {
        match client.next().await {
            Received::Number(name, value, series) => {
                found.insert(format!("{name}{:?}", series.labels), (value, series));
            }
            other => panic!("{other:?}"),
        }
    }
    found
}

#[test]
fn the_first_scan_sends_all_points_and_later_ones_the_changed() {
    test(|world| async move {
        let labels: Vec<_> = (0..10).map(|n| n.to_string()).collect();
        let series: Vec<_> = labels
            .iter()
            .map(|n| define(&world, &labeled(&[("n", n)])))
            .collect();
        for (n, series) in series.iter().enumerate() {
            set(&world, *series, Number::int(n as i64 * 1_000_003));
        }
        let mut client = world.connect(Some(metrics(&["shop.**"])));
        client.handshake().await;
        let all = points(&mut client, 10).await;
        for (n, (value, series)) in all.values().enumerate() {
            assert_eq!(*value, n as f64 * 1_000_003.0);
            assert_eq!(
                series.labels,
                Map::from([("n".to_owned(), Value::from(&*labels[n]))])
            );
            assert_eq!(
                (&*series.metric_type, series.unit.as_deref(), series.start),
                ("counter", Some("{cart}"), Some(EPOCH as i64))
            );
            assert_eq!(series.help.as_deref(), Some("for tests"));
        }
        set(&world, series[3], Number::int(i64::MAX));
        match client.next().await {
            Received::Number(_, value, of) => {
                assert_eq!((value, of.labels["n"].as_str()), (i64::MAX as f64, Some("3")));
            }
            other => panic!("{other:?}"),
        }
        until(|| world.hop("stream.points") == (11, 11, 0, 0)).await;
    });
}

#[test]
fn patterns_match_dotted_and_page_names_and_where_matches_label_values() {
    let check = |pattern: &'static str, label: Option<(&'static str, &'static str)>, expected: usize| {
        test(|world| async move {
            for (name, method) in [
                ("http.server.hits", "GET"),
                ("http.server.hits", "POST"),
                ("shop.carts", "GET"),
            ] {
                let labels: &[_] = &[("http.method", method)];
                let unit = "";
                let series = define(
                    &world,
                    &Def {
                        name,
                        labels,
                        unit,
                        ..NUMBER
                    },
                );
                set(&world, series, Number::int(1));
            }
            let mut subscribe = metrics(&[pattern]);
            if let Some((label, glob)) = label {
                subscribe.where_.insert(label.to_owned(), vec![glob.to_owned()]);
            }
            let mut client = world.connect(Some(subscribe));
            client.handshake().await;
            points(&mut client, expected).await;
            until(|| world.hop("stream.points") == (expected as u64, expected as u64, 0, 0)).await;
        });
    };
    check("**", None, 3);
    check("http.server.*", None, 2);
    check("http_server_hits", None, 2);
    check("http_server_hits_total", None, 2);
    check("http.**", Some(("http.method", "G*")), 1);
    check("**", Some(("http_method", "POST")), 1);
    check("**", Some(("job", "shop")), 3);
    check("**", Some(("runtime", "be*")), 3);
    check("**", Some(("source", "shop@a")), 3);
    check("**", Some(("node", "shop@a")), 3);
    check("**", Some(("service", "other")), 0);
}

#[test]
fn series_of_two_scopes_have_the_scope_in_their_labels() {
    test(|world| async move {
        for (name, db) in [("lib.one", "a"), ("lib.two", "a"), ("lib.two", "b")] {
            let scope = Scope {
                name: name.to_owned(),
                attributes: dichroic_model::Attributes::of(&[("db.name", db)]),
                ..Scope::default()
            };
            let series = define_in_scope(&world, &NUMBER, &scope);
            set(&world, series, Number::int(1));
        }
        let mut subscribe = metrics(&["**"]);
        subscribe
            .where_
            .insert("otel_scope_name".to_owned(), vec!["lib.t*".to_owned()]);
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        let mut labels: Vec<String> = points(&mut client, 2)
            .await
            .into_values()
            .map(|(_, series)| format!("{:?}", series.labels))
            .collect();
        labels.sort();
        for (labels, db) in labels.iter().zip(["a", "b"]) {
            assert_eq!(
                *labels,
                format!(r#"{{"otel.scope.db.name": Str("{db}"), "otel.scope.name": Str("lib.two")}}"#)
            );
        }
    });
}

#[test]
fn values_are_sent_in_the_exported_unit() {
    test(|world| async move {
        let series = define(&world, &Def { unit: "ms", ..NUMBER });
        set(&world, series, Number::int(1_500));
        let mut client = world.connect(Some(metrics(&["**"])));
        client.handshake().await;
        let (value, series) = points(&mut client, 1).await.pop_first().unwrap().1;
        assert_eq!((value, series.unit.as_deref()), (1.5, Some("s")));
    });
}

#[test]
fn histograms_keep_bounds_counts_and_sum() {
    test(|world| async move {
        let bounds: &[f64] = &[0.1, 1.0];
        let def = Def {
            name: "http.duration",
            kind: MetricKind::Histogram,
            unit: "s",
            bounds: Some(bounds),
            ..NUMBER
        };
        let series = define(&world, &def);
        let point = HistogramPoint {
            counts: &[3, 0, 2],
            sum: Some(Number::float(4.25)),
            min_max: None,
        };
        let at = now();
        world
            .store
            .borrow_mut()
            .set_histogram(
                series,
                &point,
                Times {
                    start: EPOCH,
                    time: at,
                    now: at,
                },
            )
            .unwrap();
        let mut client = world.connect(Some(metrics(&["http.**"])));
        client.handshake().await;
        let Received::Histogram(name, sum, buckets, series) = client.next().await else {
            panic!("expected a histogram");
        };
        assert_eq!(
            (&*name, sum, buckets),
            ("http.duration", 4.25, vec![(1, 0, 3), (1, 2, 2)])
        );
        assert_eq!(series.buckets, Some(define::Buckets::Bounds(bounds.to_vec())));
        assert_eq!(series.metric_type, "histogram");
    });
}

#[test]
fn exponential_histograms_keep_scale_and_indexes() {
    test(|world| async move {
        let def = Def {
            name: "db.duration",
            kind: MetricKind::ExponentialHistogram,
            unit: "s",
            ..NUMBER
        };
        let series = define(&world, &def);
        let point = ExponentialPoint {
            scale: 3,
            zero_count: 2,
            zero_threshold: 0.0,
            positive: Buckets {
                offset: -79,
                counts: &[3, 9],
            },
            negative: Buckets {
                offset: -3,
                counts: &[4],
            },
            sum: None,
            min_max: None,
        };
        let at = now();
        world
            .store
            .borrow_mut()
            .set_exponential(
                series,
                &point,
                Times {
                    start: EPOCH,
                    time: at,
                    now: at,
                },
            )
            .unwrap();
        let mut client = world.connect(Some(metrics(&["db.**"])));
        client.handshake().await;
        let Received::Histogram(_, sum, buckets, series) = client.next().await else {
            panic!("expected a histogram");
        };
        assert!(sum.is_nan(), "the sender reports no sum");
        assert_eq!(buckets, [(0, 0, 2), (1, -79, 3), (1, -78, 9), (2, -3, 4)]);
        assert_eq!(series.buckets, Some(define::Buckets::Scale(3)));
    });
}

#[test]
fn a_summary_becomes_numbers() {
    test(|world| async move {
        let def = Def {
            name: "rpc.duration",
            kind: MetricKind::Summary,
            unit: "s",
            ..NUMBER
        };
        let series = define(&world, &def);
        let point = SummaryPoint {
            count: 7,
            sum: Number::float(2.5),
            quantiles: &[(0.5, 0.25), (0.99, 1.5)],
        };
        let at = now();
        world
            .store
            .borrow_mut()
            .set_summary(
                series,
                &point,
                Times {
                    start: EPOCH,
                    time: at,
                    now: at,
                },
            )
            .unwrap();
        let mut client = world.connect(Some(metrics(&["rpc.**"])));
        client.handshake().await;
        let received: Vec<_> = points(&mut client, 4)
            .await
            .into_values()
            .map(|(value, series)| {
                let quantile = series
                    .labels
                    .get("quantile")
                    .and_then(|q| q.as_str().map(str::to_owned));
                (series.name, series.metric_type, quantile, value)
            })
            .collect();
        let expected = |name: &str, kind: &str, quantile: Option<&str>, value| {
            (
                name.to_owned(),
                kind.to_owned(),
                quantile.map(str::to_owned),
                value,
            )
        };
        assert_eq!(
            received,
            [
                expected("rpc.duration.count", "counter", None, 7.0),
                expected("rpc.duration.sum", "counter", None, 2.5),
                expected("rpc.duration", "summary", Some("0.5"), 0.25),
                expected("rpc.duration", "summary", Some("0.99"), 1.5),
            ]
        );
    });
}

#[test]
fn an_expired_series_is_released_and_one_with_a_new_start_is_redefined() {
    test(|world| async move {
        let live = define(&world, &labeled(&[("n", "live")]));
        let expiring = define(&world, &labeled(&[("n", "expires")]));
        set(&world, live, Number::int(5));
        set(&world, expiring, Number::int(5));
        let mut client = world.connect(Some(metrics(&["**"])));
        client.handshake().await;
        points(&mut client, 2).await;
        let at = now();
        world
            .store
            .borrow_mut()
            .set_number(
                live,
                Number::int(1),
                Times {
                    start: at,
                    time: at,
                    now: at,
                },
            )
            .unwrap();
        assert!(matches!(client.next().await, Received::Released(_)));
        match client.next().await {
            Received::Number(_, value, series) => assert_eq!((value, series.start), (1.0, Some(at as i64))),
            other => panic!("{other:?}"),
        }
        world.store.borrow_mut().expire(expiring);
        assert!(matches!(client.next().await, Received::Released(_)));
        // The id is free: a new series gets it without another release.
        let added = define(&world, &labeled(&[("n", "added")]));
        set(&world, added, Number::int(9));
        let (value, _) = points(&mut client, 1).await.pop_first().unwrap().1;
        assert_eq!(value, 9.0);
    });
}

#[test]
fn more_series_than_allowed_end_the_subscription_with_a_message() {
    let config = Config { series: 3, ..quick() };
    run_with(config, Limits::default(), |world| async move {
        for n in ["a", "b", "c", "d"] {
            let series = define(&world, &labeled(&[("n", n)]));
            set(&world, series, Number::int(1));
        }
        let mut client = world.connect(Some(metrics(&["**"])));
        client.handshake().await;
        loop {
            match client.next().await {
                Received::Goodbye(4, message) => {
                    assert!(message.contains("narrow match"), "{message}");
                    return;
                }
                Received::End => panic!("no GOODBYE"),
                _ => {}
            }
        }
    });
}

#[test]
fn a_stopped_reader_gets_the_newest_state_and_its_queue_is_bounded() {
    test(|world| async move {
        let labels: Vec<_> = (0..2_000).map(|n| n.to_string()).collect();
        let series: Vec<_> = labels
            .iter()
            .map(|n| define(&world, &labeled(&[("n", n)])))
            .collect();
        let mut client = world.connect(Some(metrics(&["**"])));
        client.handshake().await;
        for round in 1..=50 {
            for series in &series {
                set(&world, *series, Number::int(round));
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let (_, _, _, queued) = world.hop("stream.points");
        assert!(queued <= 20_000, "{queued} points are queued");
        let mut last = BTreeMap::new();
        while last.len() < series.len() || last.values().any(|value| *value != 50.0) {
            if let Received::Number(_, value, series) = client.next().await {
                last.insert(series.labels["n"].as_str().unwrap().to_owned(), value);
            }
        }
    });
}

#[test]
fn the_default_interval_is_a_second() {
    run(|world| async move {
        let series = define(&world, &NUMBER);
        set(&world, series, Number::int(1));
        let mut subscribe = metrics(&["**"]);
        subscribe.every_ms = None;
        let start = std::time::Instant::now();
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        points(&mut client, 1).await;
        set(&world, series, Number::int(2));
        points(&mut client, 1).await;
        assert!(start.elapsed() >= std::time::Duration::from_millis(900));
    });
}
