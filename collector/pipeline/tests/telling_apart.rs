//! Series with equal labels: told apart, added up, or hidden with a reason.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{
    AttributeValue, Attributes, Expiry, MetricKind, Number, Runtime, Scope, Source, SourceSpec,
};
use dichroic_pipeline::{
    Core, DropReason, HiddenReason, HistogramPoint, RowValue, Signal, SummaryPoint, Times, Written,
};
use proptest::prelude::*;
use std::sync::Arc;

#[test]
fn two_scopes_of_one_program_get_scope_labels_whichever_arrives_first() {
    let run = |scopes: [&str; 2]| {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        for scope in scopes {
            let value = if scope == "a" { 5 } else { 7 };
            let def = Def { scope, ..COUNTER };
            set(&mut store, &source, def, &[("x", "1")], value);
        }
        // A series of one scope alone belongs to the same group.
        set(
            &mut store,
            &source,
            Def {
                scope: "a",
                ..COUNTER
            },
            &[("x", "2")],
            1,
        );
        sorted(&mut store)
    };
    let expected = [
        "m{otel_scope_name=\"a\",x=\"1\"} 5",
        "m{otel_scope_name=\"a\",x=\"2\"} 1",
        "m{otel_scope_name=\"b\",x=\"1\"} 7",
    ];
    assert_eq!(run(["a", "b"]), expected);
    assert_eq!(run(["b", "a"]), expected);
}

#[test]
fn two_hosts_of_one_service_get_the_label_that_differs() {
    let run = |hosts: [&str; 3]| {
        let mut store = store(|_| {});
        for host in hosts {
            let source = on_host(&mut store, host, &[("os.type", "linux")]);
            let value = i64::from(host.as_bytes()[0]);
            set(&mut store, &source, GAUGE, &[], value);
            set(
                &mut store,
                &source,
                Def { name: "c", ..COUNTER },
                &[("x", "1")],
                value,
            );
        }
        sorted(&mut store)
    };
    let expected = [
        "c{host_name=\"a\",x=\"1\"} 97",
        "c{host_name=\"b\",x=\"1\"} 98",
        "c{host_name=\"c\",x=\"1\"} 99",
        "m{host_name=\"a\"} 97",
        "m{host_name=\"b\"} 98",
        "m{host_name=\"c\"} 99",
    ];
    assert_eq!(run(["a", "b", "c"]), expected);
    assert_eq!(run(["c", "a", "b"]), expected);
}

#[test]
fn labels_that_tell_apart_stay_while_the_group_has_series() {
    let mut store = store(|_| {});
    let (a, b) = (on_host(&mut store, "a", &[]), on_host(&mut store, "b", &[]));
    set(&mut store, &a, GAUGE, &[], 1);
    let series = set(&mut store, &b, GAUGE, &[], 2);
    store.expire(series);
    assert_eq!(sorted(&mut store), ["m{host_name=\"a\"} 1"]);
    set(&mut store, &a, GAUGE, &[], 3);
    set(&mut store, &b, GAUGE, &[], 4);
    assert_eq!(
        sorted(&mut store),
        ["m{host_name=\"a\"} 3", "m{host_name=\"b\"} 4"]
    );
    store.end_source(a.id, NOW);
    store.end_source(b.id, NOW);
    store.sweep(NOW + 400 * dichroic_model::SECOND);
    let a = on_host(&mut store, "a", &[]);
    set(&mut store, &a, GAUGE, &[], 5);
    assert_eq!(sorted(&mut store), ["m{} 5"]);
}

fn at(start: u64, time: u64) -> Times {
    let second = dichroic_model::SECOND;
    let [start, time] = [start, time].map(|t| NOW + t * second);
    Times {
        start,
        time,
        now: time,
    }
}

#[test]
fn a_restarted_process_takes_the_series_over_and_a_second_one_is_told_apart() {
    let mut store = store(|_| {});
    let (old, new) = (
        on_host(&mut store, "h", &[("process.pid", "1")]),
        on_host(&mut store, "h", &[("process.pid", "2")]),
    );
    let first = define_series(&mut store, &old, COUNTER, &[]).unwrap();
    store.set_number(first, Number::int(10), at(0, 60)).unwrap();
    let started = Def {
        start: NOW + 61 * dichroic_model::SECOND,
        ..COUNTER
    };
    let second = define_series(&mut store, &new, started, &[]).unwrap();
    store.set_number(second, Number::int(1), at(61, 70)).unwrap();
    assert_eq!(sorted(&mut store), ["-m{} 10", "m{} 1"]);
    // The old one was alive after all.
    let written = store.set_number(first, Number::int(11), at(0, 120));
    assert_eq!(written, Ok(Written::Applied));
    assert_eq!(
        sorted(&mut store),
        ["m{process_pid=\"1\"} 11", "m{process_pid=\"2\"} 1"]
    );
}

#[test]
fn attributes_of_one_text_are_one_total_that_never_falls() {
    for order in [["text", "number"], ["number", "text"]] {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let define = |store: &mut Core, kind: &str| {
            let value = if kind == "text" {
                AttributeValue::Str("1".into())
            } else {
                AttributeValue::Int(1)
            };
            define_typed(store, &source, kind, DELTA, vec![("a".into(), value)])
        };
        let series = order.map(|kind| define(&mut store, kind));
        for (series, value) in series.iter().zip([1, 2]) {
            assert_eq!(
                store.add_number(*series, Number::int(value), Times::at(NOW)),
                Ok(Written::Applied)
            );
        }
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 3"], "{order:?}");
        store.expire(series[0]);
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 3"], "{order:?}");
        store
            .add_number(series[1], Number::int(4), Times::at(NOW))
            .unwrap();
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 7"], "{order:?}");
        store.expire(series[1]);
        assert_eq!((lines(&mut store).len(), store.series()), (0, 0));
    }
}

#[test]
fn of_two_gauges_with_one_text_the_hidden_one_is_counted_as_hidden() {
    for order in [["text", "number"], ["number", "text"]] {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let mut written = Vec::new();
        for kind in order {
            let value = if kind == "text" {
                AttributeValue::Str("1".into())
            } else {
                AttributeValue::Int(1)
            };
            let series = define_typed(&mut store, &source, kind, GAUGE, vec![("a".into(), value)]);
            written.push((kind, series));
        }
        let written: Vec<_> = written
            .into_iter()
            .map(|(kind, series)| {
                (
                    kind,
                    store.set_number(series, Number::int(1), Times::at(NOW)).unwrap(),
                )
            })
            .collect();
        let hidden: Vec<_> = written.iter().filter(|(_, w)| *w != Written::Applied).collect();
        assert_eq!(
            hidden,
            [&("text", Written::Hidden(HiddenReason::LabelText))],
            "{order:?}"
        );
    }
}

/// Writes a cumulative counter by processes that share a resource: (start, time, value).
fn write_all(store: &mut Core, points: &[(u64, u64, i64)]) -> Vec<f64> {
    let source = on_host(store, "h", &[]);
    let series = define_series(store, &source, COUNTER, &[]).unwrap();
    let mut seen = Vec::new();
    for (start, time, value) in points {
        store
            .set_number(series, Number::int(*value), at(*start, *time))
            .unwrap();
        let all = rows(store);
        let RowValue::Number(number) = &all[0].value else {
            panic!("a number")
        };
        seen.push(number.to_f64());
    }
    seen
}

#[test]
fn totals_of_processes_that_share_a_resource_are_added_up() {
    let mut store = store(|_| {});
    // Four workers started within one second; each exports every ten seconds.
    let first = [(1, 10, 147), (2, 11, 315), (3, 12, 22), (4, 13, 462)];
    write_all(&mut store, &first);
    let second: Vec<_> = first
        .map(|(start, time, value)| (start, time + 10, value + 10))
        .into();
    let seen = write_all(&mut store, &second);
    assert_eq!(seen.last(), Some(&986.0));
    assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]), "{seen:?}");
    assert_eq!(
        (rows(&mut store)[0].writers, store.warnings().several_writers),
        (4, 1)
    );
}

#[test]
fn a_worker_that_ends_leaves_its_count_in_the_total() {
    let mut store = store(|_| {});
    write_all(
        &mut store,
        &[(1, 10, 100), (2, 11, 10), (1, 20, 101), (2, 21, 11)],
    );
    // The first is replaced by a process that starts later; the second counts on.
    write_all(&mut store, &[(25, 30, 1), (2, 31, 12), (25, 40, 2)]);
    assert_eq!(
        lines(&mut store),
        ["m{host_name=\"h\"} 115".replace("host_name=\"h\"", "")]
    );
    for time in [200, 330, 340] {
        let total = write_all(&mut store, &[(2, time, 13), (25, time + 1, 3)]);
        assert_eq!(total.last(), Some(&117.0), "at {time}");
        store.sweep(NOW + (time + 2) * dichroic_model::SECOND);
    }
    assert_eq!(rows(&mut store)[0].writers, 2);
}

#[test]
fn a_restart_is_a_reset_and_a_start_that_slides_is_one_writer() {
    let mut store = store(|_| {});
    assert_eq!(
        write_all(&mut store, &[(1, 10, 100), (11, 20, 3), (11, 30, 5)]),
        [100.0, 3.0, 5.0]
    );
    let mut store = common::store(|_| {});
    let sliding: Vec<_> = (0..200).map(|n| (n, 100 + n, n as i64)).collect();
    let seen = write_all(&mut store, &sliding);
    let expected: Vec<_> = (0..200).map(f64::from).collect();
    assert_eq!(seen, expected);
    assert_eq!(store.warnings().several_writers, 0);
}

#[test]
fn writers_with_one_start_are_reported_for_they_cannot_be_told_apart() {
    let mut store = store(|_| {});
    let forked = [
        (1, 10, 15),
        (1, 11, 25),
        (1, 20, 16),
        (1, 21, 27),
        (1, 30, 17),
        (1, 31, 29),
    ];
    write_all(&mut store, &forked);
    assert_eq!(store.warnings().shared_starts, 0, "two decreases");
    assert!(!rows(&mut store)[0].share_start);
    write_all(&mut store, &[(1, 40, 18), (1, 41, 31), (1, 50, 19)]);
    assert_eq!((store.warnings().shared_starts, store.warnings().resets), (1, 4));
    assert!(rows(&mut store)[0].share_start);
}

#[test]
fn scopes_are_always_shown_on_request() {
    let mut store = store(|_| {});
    store.always_show_scopes();
    let source = source(&mut store, "s");
    set(&mut store, &source, Def { scope: "a", ..GAUGE }, &[], 1);
    set(&mut store, &source, Def { name: "n", ..GAUGE }, &[], 2);
    assert_eq!(lines(&mut store), ["m{otel_scope_name=\"a\"} 1", "n{} 2"]);
}

/// A program of the service, with this resource.
fn program(store: &mut Core, key: &str, runtime: Runtime, resource: Attributes) -> Arc<Source> {
    let spec = SourceSpec {
        runtime,
        resource,
        ..spec(key, Expiry::AfterIdle(300 * dichroic_model::SECOND))
    };
    store.open_source(spec, NOW).unwrap()
}

#[test]
fn programs_in_two_languages_are_told_apart() {
    for order in [["a", "b"], ["b", "a"]] {
        let mut store = store(|_| {});
        for host in order {
            let runtime = if host == "a" {
                Runtime::Python
            } else {
                Runtime::Other
            };
            let resource = Attributes::of(&[("host.name", host), ("telemetry.sdk.language", host)]);
            let source = program(&mut store, host, runtime, resource);
            set(&mut store, &source, GAUGE, &[], 1);
            set(&mut store, &source, Def { name: "c", ..COUNTER }, &[], 2);
        }
        let expected = [
            "c{host_name=\"a\"} 2",
            "c{host_name=\"b\"} 2",
            "m{host_name=\"a\"} 1",
            "m{host_name=\"b\"} 1",
        ];
        assert_eq!(sorted(&mut store), expected);
    }
}

#[test]
fn resources_of_one_text_are_one_total() {
    let pack = |pairs: &[(&'static str, AttributeValue<'static>)]| {
        Attributes::pack(&mut pairs.iter().map(|(k, v)| ((*k).into(), v.clone())).collect())
    };
    let service = ("service.name", AttributeValue::from("a"));
    let cases = [
        [("x", AttributeValue::Int(1)), ("x", "1".into())],
        [("x", AttributeValue::Bool(true)), ("x", "true".into())],
        [("x", "".into()), ("y", AttributeValue::Null)],
    ];
    for pairs in cases {
        for order in [[0, 1], [1, 0]] {
            let mut store = store(|_| {});
            let mut hidden = Vec::new();
            for at in order {
                let resource = pack(&[service.clone(), pairs[at].clone()]);
                let source = program(&mut store, &format!("{at}"), Runtime::Other, resource);
                set(&mut store, &source, COUNTER, &[], 3);
                let gauge = define_series(&mut store, &source, Def { name: "g", ..GAUGE }, &[]).unwrap();
                hidden.push(store.set_number(gauge, Number::int(1), Times::at(NOW)));
            }
            let visible: Vec<_> = sorted(&mut store)
                .into_iter()
                .filter(|l| !l.starts_with('-'))
                .collect();
            assert_eq!(visible, ["g{} 1", "m{} 6"], "{pairs:?}");
            assert_eq!(
                rows(&mut store)
                    .iter()
                    .filter_map(|row| row.hidden)
                    .collect::<Vec<_>>(),
                [HiddenReason::LabelText]
            );
        }
    }
}

#[test]
fn scopes_that_differ_in_attributes_or_schema_are_told_apart() {
    let scope = |version: &str, url: &str, db: &str| Scope {
        name: "pool".into(),
        version: version.into(),
        schema_url: url.into(),
        attributes: Attributes::of(&[("db.name", db)]),
    };
    let run = |scopes: &[Scope]| {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        for (at, scope) in scopes.iter().enumerate() {
            let series = define_in_scope(&mut store, &source, scope, GAUGE);
            store
                .set_number(series, Number::int(at as i64), Times::at(NOW))
                .unwrap();
        }
        sorted(&mut store)
    };
    assert_eq!(
        run(&[scope("", "", "one"), scope("", "", "two")]),
        [
            "m{otel_scope_db_name=\"one\"} 0",
            "m{otel_scope_db_name=\"two\"} 1"
        ]
    );
    assert_eq!(
        run(&[scope("", "http://a", ""), scope("", "http://b", "")]),
        [
            "m{otel_scope_schema_url=\"http://a\"} 0",
            "m{otel_scope_schema_url=\"http://b\"} 1"
        ]
    );
    assert_eq!(
        run(&[
            scope("1", "", "one"),
            scope("2", "", "one"),
            scope("2", "", "two")
        ]),
        [
            "m{otel_scope_name=\"pool\",otel_scope_version=\"1\",otel_scope_db_name=\"one\"} 0",
            "m{otel_scope_name=\"pool\",otel_scope_version=\"2\",otel_scope_db_name=\"one\"} 1",
            "m{otel_scope_name=\"pool\",otel_scope_version=\"2\",otel_scope_db_name=\"two\"} 2"
        ]
    );
}

#[test]
fn a_second_host_that_starts_later_is_no_restart() {
    let mut store = store(|_| {});
    for (host, start) in [("h1", 0), ("h2", 61)] {
        let source = on_host(&mut store, host, &[("process.pid", host)]);
        let started = Def {
            start: NOW + start * dichroic_model::SECOND,
            ..COUNTER
        };
        let series = define_series(&mut store, &source, started, &[]).unwrap();
        store
            .set_number(series, Number::int(100), at(start, start + 60))
            .unwrap();
    }
    assert_eq!(
        sorted(&mut store),
        ["m{host_name=\"h1\"} 100", "m{host_name=\"h2\"} 100"]
    );
}

/// Writes a point and accounts for it, as receivers do.
fn write(store: &mut Core, source: &Source, def: Def<'_>, times: Times) -> Result<Written, DropReason> {
    let def = Def {
        start: times.start,
        ..def
    };
    let series = define_series(store, source, def, &[]).unwrap();
    let written = store.set_number(series, Number::int(1), times);
    let ledger = store.ledger_mut();
    ledger.received(source.id, Signal::Metrics, 1);
    match written {
        Ok(Written::Applied) => ledger.applied(source.id, Signal::Metrics, 1),
        Ok(Written::Hidden(reason)) => ledger.hidden(source.id, Signal::Metrics, reason, 1),
        Err(reason) => ledger.dropped(source.id, Signal::Metrics, reason, 1),
    }
    assert!(store.ledger().balances());
    written
}

/// Points of a source that are applied, and those that are hidden.
fn account(store: &Core, source: &Source) -> (u64, Vec<(HiddenReason, u64)>) {
    let account = store.ledger().account(source.id, Signal::Metrics).unwrap();
    (account.applied, account.hides().collect())
}

#[test]
fn a_point_that_loses_its_place_is_counted_as_hidden() {
    let dotted = Def { name: "a.b", ..GAUGE };
    let plain = Def { name: "a_b", ..GAUGE };
    for order in [[dotted, plain], [plain, dotted]] {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        for def in order {
            write(&mut store, &source, def, Times::at(NOW)).unwrap();
        }
        assert_eq!(account(&store, &source), (1, vec![(HiddenReason::MetricName, 1)]));
        // When the holder expires, the other one is shown again.
        let winner = define_series(&mut store, &source, dotted, &[]).unwrap();
        store.expire(winner);
        assert_eq!(account(&store, &source), (2, vec![]));
        let ledger = store.ledger().account(source.id, Signal::Metrics).unwrap();
        assert_eq!(
            ledger.hidden_peaks().collect::<Vec<_>>(),
            [(HiddenReason::MetricName, 1)]
        );
        assert!(store.ledger().balances());
    }
}

#[test]
fn a_point_that_loses_its_place_before_it_is_counted_is_hidden() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    for name in ["a_b", "a.b"] {
        set(&mut store, &source, Def { name, ..GAUGE }, &[], 1);
    }
    store.ledger_mut().received(source.id, Signal::Metrics, 2);
    store.ledger_mut().applied(source.id, Signal::Metrics, 2);
    assert_eq!(account(&store, &source), (1, vec![(HiddenReason::MetricName, 1)]));
    assert!(store.ledger().balances());
}

#[test]
fn points_of_a_replaced_process_are_counted_as_hidden_until_it_is_alive_again() {
    let mut store = store(|_| {});
    let (old, new) = (
        on_host(&mut store, "h", &[("process.pid", "1")]),
        on_host(&mut store, "h", &[("process.pid", "2")]),
    );
    write(&mut store, &old, COUNTER, at(0, 60)).unwrap();
    write(&mut store, &new, COUNTER, at(61, 70)).unwrap();
    assert_eq!(account(&store, &old), (0, vec![(HiddenReason::Superseded, 1)]));
    assert_eq!(account(&store, &new), (1, vec![]));
    write(&mut store, &old, COUNTER, at(0, 80)).unwrap();
    assert_eq!(account(&store, &old), (2, vec![]));
}

#[test]
fn a_replaced_process_stays_hidden_when_another_host_arrives() {
    let mut store = store(|_| {});
    for (host, pid, start) in [("a", "1", 0), ("a", "2", 61), ("b", "3", 1)] {
        let source = on_host(&mut store, host, &[("process.pid", pid)]);
        write(&mut store, &source, COUNTER, at(start, start + 60)).unwrap();
    }
    assert_eq!(
        sorted(&mut store),
        ["-m{} 1", "m{host_name=\"a\"} 1", "m{host_name=\"b\"} 1"]
            .map(|line| line.replace("-m{}", "-m{host_name=\"a\"}"))
    );
}

/// A point of a program: host, zone, container, scope, database of the scope, metric.
type Arrival = (u8, u8, u8, u8, u8, usize);

const METRICS: [Def<'static>; 6] = [
    Def { name: "c", ..COUNTER },
    Def {
        name: "m",
        ..HISTOGRAM
    },
    Def {
        name: "m.count",
        ..GAUGE
    },
    Def {
        name: "m.sum",
        ..GAUGE
    },
    Def {
        name: "m.count",
        kind: MetricKind::Summary,
        ..GAUGE
    },
    Def {
        name: "m_count",
        ..GAUGE
    },
];

/// The rows after these points have arrived.
fn arrived(arrivals: &[Arrival]) -> Vec<String> {
    let mut store = store(|_| {});
    for (host, zone, container, scope, db, metric) in arrivals {
        let resource =
            [("host.name", host), ("zone", zone), ("container.id", container)].map(|(name, value)| {
                (
                    name,
                    if *value == 0 {
                        String::new()
                    } else {
                        value.to_string()
                    },
                )
            });
        let resource: Vec<_> = resource
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let spec = SourceSpec {
            instance: String::new(),
            resource: Attributes::of(&resource),
            ..spec(&format!("{resource:?}"), Expiry::ByReceiver)
        };
        let source = store.open_source(spec, NOW).unwrap();
        let scope = Scope {
            name: scope.to_string(),
            attributes: Attributes::of(&[("db", &db.to_string())]),
            ..Scope::default()
        };
        let def = METRICS[*metric];
        let raw = format!("{scope:?} {metric}");
        let series = define_raw(&mut store, &source, &raw, &scope, def);
        let value = [host, zone, container, db]
            .iter()
            .fold(1, |all, n| all * 3 + u64::from(**n));
        let written = match def.kind {
            MetricKind::Histogram => {
                let point = HistogramPoint {
                    counts: &[value, 1, 1],
                    sum: None,
                    min_max: None,
                };
                store.set_histogram(series, &point, Times::at(NOW))
            }
            MetricKind::Summary => {
                let point = SummaryPoint {
                    count: value,
                    sum: Number::int(1),
                    quantiles: &[],
                };
                store.set_summary(series, &point, Times::at(NOW))
            }
            _ => store.set_number(series, Number::int(value as i64), Times::at(NOW)),
        };
        written.unwrap();
    }
    sorted(&mut store)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_labels_of_a_page_do_not_depend_on_the_order_of_arrival(
        (some, shuffled) in prop::collection::vec((0..3u8, 0..2u8, 0..3u8, 0..2u8, 0..2u8, 0..METRICS.len()), 1..9)
            .prop_flat_map(|some| (Just(some.clone()), Just(some).prop_shuffle()))
    ) {
        prop_assert_eq!(arrived(&some), arrived(&shuffled));
    }
}

#[test]
fn three_containers_on_two_hosts_get_the_same_labels_in_every_order() {
    let all: [Arrival; 3] = [(1, 0, 1, 0, 0, 0), (2, 0, 2, 0, 0, 0), (1, 0, 3, 0, 0, 0)];
    let expected = arrived(&all);
    assert!(expected[0].contains("host_name") && expected[0].contains("container_id"));
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(arrived(&order.map(|at| all[at])), expected, "{order:?}");
    }
}

#[test]
fn gauges_that_a_histogram_hid_are_all_shown_when_it_expires() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let defs = [("a", HISTOGRAM), ("a.count", GAUGE), ("a.sum", GAUGE)];
        let series = order.map(|at| {
            let (name, def) = defs[at];
            let series = define_series(&mut store, &source, Def { name, ..def }, &[]).unwrap();
            let point = HistogramPoint {
                counts: &[1, 2, 3],
                sum: Some(Number::int(1)),
                min_max: None,
            };
            let written = match def.kind {
                MetricKind::Histogram => store.set_histogram(series, &point, Times::at(NOW)),
                _ => store.set_number(series, Number::int(5), Times::at(NOW)),
            };
            written.unwrap();
            series
        });
        let histogram = order.iter().position(|at| *at == 0).unwrap();
        let shown = sorted(&mut store);
        assert_eq!(
            shown.iter().filter(|line| !line.starts_with('-')).count(),
            1,
            "{shown:?}"
        );
        store.expire(series[histogram]);
        assert_eq!(sorted(&mut store), ["a.count{} 5", "a.sum{} 5"], "{order:?}");
    }
}

#[test]
fn three_processes_on_two_hosts_get_the_same_labels_in_every_order() {
    let processes = [("a", "1"), ("b", "2"), ("a", "3")];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut store = store(|_| {});
        for at in order {
            let (host, pid) = processes[at];
            let source = on_host(&mut store, host, &[("process.pid", pid)]);
            write(&mut store, &source, COUNTER, self::at(0, 60)).unwrap();
        }
        let expected =
            processes.map(|(host, pid)| format!("m{{host_name=\"{host}\",process_pid=\"{pid}\"}} 1"));
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(sorted(&mut store), expected, "{order:?}");
    }
}
