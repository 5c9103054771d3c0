//! Series identity and exposition identity.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{
    AttributeValue, Attributes, Expiry, Factor, MetricKind, NameStyle, Number, Protocol, SourceSpec,
};
use dichroic_pipeline::{Core, HiddenReason, HistogramPoint, RowValue, Times, Written};

#[test]
fn shuffled_attributes_are_one_series() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let a = define_as(&mut store, &source, "ab", GAUGE, &[("a", "1"), ("b", "2")]).unwrap();
    let b = define_as(&mut store, &source, "ba", GAUGE, &[("b", "2"), ("a", "1")]).unwrap();
    assert_eq!(a, b);
    assert_eq!(store.series(), 1);
    for raw in ["ab", "ba"] {
        assert_eq!(store.find(fp(&store, &source, raw)), Some(a), "{raw}");
    }
}

#[test]
fn fingerprints_beyond_the_limit_are_removed_without_a_second_series() {
    let mut store = store(|limits| limits.aliases_per_series = 3);
    let source = source(&mut store, "s");
    let series = set(&mut store, &source, GAUGE, &[("a", "1")], 5);
    let before = store.live_bytes();
    for spelling in 0..1_000 {
        let again = define_as(&mut store, &source, &format!("{spelling}"), GAUGE, &[("a", "1")]);
        assert_eq!(again, Ok(series));
    }
    assert_eq!(store.series(), 1);
    let found = (0..1_000).filter(|at| store.find(fp(&store, &source, &format!("{at}"))).is_some());
    assert_eq!(found.collect::<Vec<_>>(), [997, 998, 999], "the newest");
    assert!(store.live_bytes() <= before + 64, "aliases do not grow");
    store.expire(series);
    assert_eq!(
        store.find(fp(&store, &source, "999")),
        None,
        "aliases are removed with the series"
    );
}

#[test]
fn a_reference_is_stale_once_its_series_is_removed_even_if_the_slot_is_reused() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let old = set(&mut store, &source, GAUGE, &[("a", "1")], 1);
    store.expire(old);
    let new = set(&mut store, &source, GAUGE, &[("a", "2")], 2);
    assert_ne!(old, new);
    assert!(store.set_number(old, Number::int(9), Times::at(NOW)).is_err());
    store.expire(old);
    assert_eq!(lines(&mut store), ["m{a=\"2\"} 2"]);
}

/// Two sources with the same job and instance and different keys.
fn two(store: &mut Core, first: &str, second: &str) {
    for key in [first, second] {
        let source = source(store, key);
        set(store, &source, GAUGE, &[("a", "1")], i64::from(key == "x"));
    }
}

#[test]
fn the_winner_of_an_identity_does_not_depend_on_the_order_of_arrival() {
    for (first, second) in [("x", "y"), ("y", "x")] {
        let mut store = store(|_| {});
        two(&mut store, first, second);
        let mut seen = lines(&mut store);
        seen.sort();
        assert_eq!(seen, ["-m{a=\"1\"} 0", "m{a=\"1\"} 1"], "{first} first");
        assert_eq!(store.warnings().label_collisions, 1);
    }
}

#[test]
fn when_the_winner_is_removed_the_next_contender_succeeds_it() {
    for order in [["x", "y", "z"], ["z", "y", "x"], ["y", "z", "x"]] {
        let mut store = store(|_| {});
        let sources = order.map(|key| source(&mut store, key));
        for (source, value) in sources.iter().zip(order) {
            set(&mut store, source, GAUGE, &[], i64::from(value.as_bytes()[0]));
        }
        for (removed, shown) in [(None, 'x'), (Some("x"), 'y'), (Some("y"), 'z')] {
            if let Some(key) = removed {
                let at = order.iter().position(|k| *k == key).unwrap();
                store.end_source(sources[at].id, NOW);
            }
            let visible: Vec<_> = lines(&mut store)
                .into_iter()
                .filter(|l| !l.starts_with('-'))
                .collect();
            assert_eq!(visible, [format!("m{{}} {}", shown as u32)], "{order:?}");
        }
        let z = order.iter().position(|k| *k == "z").unwrap();
        set(&mut store, &sources[z], GAUGE, &[], 7);
        assert_eq!(lines(&mut store), ["m{} 7"], "found under its new identity");
    }
}

#[test]
fn removing_a_contender_changes_nothing_else() {
    let mut store = store(|_| {});
    let (x, y) = (source(&mut store, "x"), source(&mut store, "y"));
    set(&mut store, &x, GAUGE, &[], 1);
    set(&mut store, &y, GAUGE, &[], 2);
    store.end_source(y.id, NOW);
    assert_eq!(lines(&mut store), ["m{} 1"]);
    set(&mut store, &x, GAUGE, &[], 3);
    assert_eq!((lines(&mut store), store.series()), (vec!["m{} 3".to_owned()], 1));
}

#[test]
fn the_exposition_identity_is_a_set_of_labels() {
    let honoring = |key: &str, job: &str| SourceSpec {
        protocol: Protocol::Prometheus,
        honor_labels: true,
        job: job.into(),
        labels: Attributes::of(&[("env", "dev")]),
        ..spec(key, Expiry::ByReceiver)
    };
    let mut store = store(|_| {});
    let a = store.open_source(honoring("a", "theirs"), NOW).unwrap();
    let b = store.open_source(honoring("b", "other"), NOW).unwrap();
    set(&mut store, &a, GAUGE, &[], 1);
    // In another order, and with an empty label, which does not count.
    set(&mut store, &b, GAUGE, &[("job", "theirs"), ("none", "")], 2);
    assert_eq!(
        rows(&mut store).iter().filter(|row| row.hidden.is_some()).count(),
        1
    );
}

/// Which families are split in text and in OpenMetrics, by name and type.
fn split(store: &mut Core) -> Vec<(String, bool, bool)> {
    let mut all: Vec<_> = rows(store)
        .iter()
        .map(|row| {
            let family = &row.meta.metric.family;
            let name = format!("{} {:?}", family.page.base, family.kind);
            (name, family.split_in_text(), family.split_in_openmetrics())
        })
        .collect();
    all.dedup();
    all
}

#[test]
fn families_with_names_in_common_are_split_whichever_arrives_first() {
    type Metrics<'a> = [Def<'a>; 2];
    let check = |metrics: Metrics<'_>, expected: [(&str, bool, bool); 2]| {
        for order in [[0, 1], [1, 0]] {
            let mut store = store(|_| {});
            for at in order {
                let source = source(&mut store, &at.to_string());
                let series = define_series(&mut store, &source, metrics[at], &[("from", &at.to_string())]);
                write_one(&mut store, series.unwrap(), metrics[at]);
            }
            let expected = expected.map(|(name, text, open)| (name.to_owned(), text, open));
            assert_eq!(split(&mut store), expected, "{order:?}");
            let first = store.sources().next().unwrap().0.id;
            store.end_source(first, NOW);
            store.sweep(NOW);
            assert!(split(&mut store).iter().all(|(_, text, open)| !text && !open));
        }
    };
    let named = |name, def| Def { name, ..def };
    let scraped = |name, def| Def {
        name,
        style: NameStyle::Verbatim,
        ..def
    };
    check(
        [named("m", COUNTER), named("m", GAUGE)],
        [("m Counter", false, true), ("m Gauge", false, false)],
    );
    check(
        [named("a.count", GAUGE), named("a", HISTOGRAM)],
        [("a Histogram", true, true), ("a_count Gauge", true, true)],
    );
    check(
        [scraped("foo", COUNTER), scraped("foo", GAUGE)],
        [("foo Counter", true, true), ("foo Gauge", true, true)],
    );
    check(
        [named("x", GAUGE), named("x", HISTOGRAM)],
        [("x Gauge", false, false), ("x Histogram", true, true)],
    );
    check(
        [named("x", COUNTER), named("x.created", GAUGE)],
        [("x Counter", false, true), ("x_created Gauge", false, false)],
    );
}

fn write_one(store: &mut Core, series: dichroic_pipeline::SeriesRef, def: Def<'_>) {
    let point = HistogramPoint {
        counts: &[1, 1, 1],
        sum: None,
        min_max: None,
    };
    let written = match def.kind {
        MetricKind::Histogram => store.set_histogram(series, &point, Times::at(NOW)),
        _ => store.set_number(series, Number::int(1), Times::at(NOW)),
    };
    written.unwrap();
}

#[test]
fn of_two_metrics_with_one_sample_of_one_source_one_is_hidden_and_told_why() {
    for order in [[0, 1], [1, 0]] {
        let metrics = [
            Def {
                name: "a.count",
                ..GAUGE
            },
            Def {
                name: "a",
                ..HISTOGRAM
            },
        ];
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        for at in order {
            let series = define_series(&mut store, &source, metrics[at], &[]).unwrap();
            write_one(&mut store, series, metrics[at]);
            // Other labels are another sample.
            let series = define_series(&mut store, &source, metrics[at], &[("at", &at.to_string())]).unwrap();
            write_one(&mut store, series, metrics[at]);
        }
        let hidden: Vec<_> = rows(&mut store)
            .iter()
            .filter_map(|row| Some((row.meta.metric.name.clone(), row.hidden?)))
            .collect();
        assert_eq!(hidden, [("a.count".to_owned(), HiddenReason::MetricName)]);
    }
}

#[test]
fn samples_of_other_names_are_not_hidden_beside_a_histogram_that_has_both() {
    let metrics = [
        Def {
            name: "a.count",
            ..GAUGE
        },
        Def {
            name: "a.sum",
            ..GAUGE
        },
        Def {
            name: "a",
            ..HISTOGRAM
        },
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for (labels, expected) in [("other", vec![]), ("one", vec!["a.count", "a.sum"])] {
            let mut store = store(|_| {});
            let source = source(&mut store, "s");
            let mut all = Vec::new();
            for at in order {
                let label = if at == 2 { labels } else { "one" };
                let series = define_series(&mut store, &source, metrics[at], &[("at", label)]).unwrap();
                write_one(&mut store, series, metrics[at]);
                all.push((at, series));
            }
            let mut hidden: Vec<_> = rows(&mut store)
                .iter()
                .filter(|row| row.hidden.is_some())
                .map(|row| row.meta.metric.name.clone())
                .collect();
            hidden.sort();
            assert_eq!(hidden, expected, "{order:?} {labels}");
            // Defined again, each is the series that it was.
            for (at, series) in &all {
                let label = if *at == 2 { labels } else { "one" };
                let again = define_series(&mut store, &source, metrics[*at], &[("at", label)]).unwrap();
                assert_eq!(again, *series, "{order:?} {labels}");
            }
        }
    }
}

#[test]
fn metrics_of_two_hosts_with_one_sample_are_told_apart() {
    let mut store = store(|_| {});
    let (a, b) = (on_host(&mut store, "a", &[]), on_host(&mut store, "b", &[]));
    let gauge = Def {
        name: "a.count",
        ..GAUGE
    };
    let histogram = Def {
        name: "a",
        ..HISTOGRAM
    };
    let series = define_series(&mut store, &a, gauge, &[]).unwrap();
    write_one(&mut store, series, gauge);
    let series = define_series(&mut store, &b, histogram, &[]).unwrap();
    write_one(&mut store, series, histogram);
    assert_eq!(
        sorted(&mut store),
        [
            "a.count{host_name=\"a\"} 1",
            "a{host_name=\"b\"} [1.0, 2.0] [1, 1, 1]"
        ]
    );
}

#[test]
fn kinds_that_share_a_type_share_a_family_and_one_of_two_equal_series_is_hidden() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let sum = Def {
        kind: MetricKind::Sum { monotonic: false },
        ..GAUGE
    };
    set(&mut store, &source, GAUGE, &[], 1);
    set(&mut store, &source, sum, &[], 2);
    set(
        &mut store,
        &source,
        Def {
            style: NameStyle::Verbatim,
            ..GAUGE
        },
        &[],
        3,
    );
    assert_eq!(
        rows(&mut store).iter().filter(|row| row.hidden.is_some()).count(),
        2
    );
    assert_eq!(store.series(), 3);
}

#[test]
fn other_bounds_reset_the_same_series() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let bytes = store.live_bytes();
    let point = |counts| HistogramPoint {
        counts,
        sum: None,
        min_max: None,
    };
    let old = define_series(&mut store, &source, HISTOGRAM, &[]).unwrap();
    store
        .set_histogram(old, &point(&[1, 2, 3]), times(NOW - 9, NOW))
        .unwrap();
    let wider = Def {
        bounds: Some(&[1.0, 2.0, 3.0, 4.0]),
        ..HISTOGRAM
    };
    let new = define_series(&mut store, &source, wider, &[]).unwrap();
    store
        .set_histogram(new, &point(&[1, 0, 0, 0, 0]), times(0, NOW + 5))
        .unwrap();
    assert_eq!((old, store.series()), (new, 1));
    assert_eq!(lines(&mut store), ["m{} [1.0, 2.0, 3.0, 4.0] [1, 0, 0, 0, 0]"]);
    assert_eq!(rows(&mut store)[0].start, NOW);
    // The old fingerprint implies the old bounds: it misses and is resolved again.
    let back = define_series(&mut store, &source, HISTOGRAM, &[]).unwrap();
    store
        .set_histogram(back, &point(&[5, 5, 5]), times(0, NOW + 6))
        .unwrap();
    assert_eq!(lines(&mut store), ["m{} [1.0, 2.0] [5, 5, 5]"]);
    store.expire(back);
    store.sweep(NOW);
    assert_eq!(store.live_bytes(), bytes);
}

#[test]
fn another_raw_unit_resets_the_series() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let in_unit = |unit| Def {
        name: "busy",
        unit,
        ..COUNTER
    };
    let ms = define_as(&mut store, &source, "ms", in_unit("ms"), &[]).unwrap();
    store.set_number(ms, Number::int(5_000), Times::at(NOW)).unwrap();
    let s = define_as(&mut store, &source, "s", in_unit("s"), &[]).unwrap();
    store.set_number(s, Number::int(6), Times::at(NOW)).unwrap();
    assert_eq!(lines(&mut store), ["busy{} 6"]);
    assert_eq!(
        store.find(fp(&store, &source, "ms")),
        None,
        "its points have another unit"
    );
}

#[test]
fn a_series_defined_without_bounds_can_get_them_later() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    define_as(
        &mut store,
        &source,
        "none",
        Def {
            bounds: None,
            ..HISTOGRAM
        },
        &[],
    )
    .unwrap();
    let series = define_as(&mut store, &source, "some", HISTOGRAM, &[]).unwrap();
    let point = HistogramPoint {
        counts: &[1, 1, 1],
        sum: None,
        min_max: None,
    };
    assert_eq!(
        store.set_histogram(series, &point, Times::at(NOW)),
        Ok(Written::Applied)
    );
}

#[test]
fn a_source_with_the_same_key_is_the_same_source_until_its_identity_changes() {
    let mut store = store(|_| {});
    let a = source(&mut store, "s");
    set(&mut store, &a, GAUGE, &[], 1);
    assert_eq!(source(&mut store, "s").id, a.id);
    let moved = SourceSpec {
        instance: "elsewhere".into(),
        ..spec("s", Expiry::ByReceiver)
    };
    let b = store.open_source(moved, NOW).unwrap();
    assert_ne!(a.id, b.id);
    assert_eq!((store.series(), store.sources().count()), (0, 1));
}

#[test]
fn factors_of_the_receiver_and_of_the_resolution_are_multiplied() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    // Raw tens of microseconds of a metric in milliseconds are exported in seconds.
    let def = Def {
        unit: "ms",
        factor: Factor::new(1, 100).unwrap(),
        ..COUNTER
    };
    set(&mut store, &source, def, &[], 150_000);
    assert_eq!(lines(&mut store), ["m{} 1.5"]);
}

#[test]
fn a_series_that_changes_its_unit_leaks_no_accounted_bytes() {
    let mut store = store(|_| {});
    let before = store.live_bytes();
    let source = source(&mut store, "s");
    // More sets of names than are shared, so that the series stores its attributes packed.
    let names: Vec<String> = (0..4_200).map(|at| format!("n{at}")).collect();
    let others: Vec<_> = names
        .iter()
        .map(|name| define_series(&mut store, &source, GAUGE, &[(name, "v")]).unwrap())
        .collect();
    let (value, seconds) = ("v".repeat(200), Def { name: "t", ..GAUGE });
    let attributes = [("zz", value.as_str())];
    define_series(&mut store, &source, seconds, &attributes).unwrap();
    others.into_iter().for_each(|series| store.expire(series));
    let factor = Factor { num: 1, den: 1_000 };
    define_as(
        &mut store,
        &source,
        "other",
        Def { factor, ..seconds },
        &attributes,
    )
    .unwrap();
    store.end_source(source.id, NOW);
    assert_eq!(store.live_bytes(), before);
}

/// Programs of one service on the given hosts, as OTLP sources without an instance id.
fn on_host(store: &mut Core, host: &str, more: &[(&str, &str)]) -> std::sync::Arc<dichroic_model::Source> {
    let resource: Vec<_> = [("host.name", host)]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let spec = SourceSpec {
        resource: Attributes::of(&resource),
        ..spec(
            &format!("{resource:?}"),
            Expiry::AfterIdle(300 * dichroic_model::SECOND),
        )
    };
    store.open_source(spec, NOW).unwrap()
}

/// The counters of a service, in the order of their lines.
fn sorted(store: &mut Core) -> Vec<String> {
    let mut all = lines(store);
    all.sort();
    all
}

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
fn scopes_are_always_shown_on_request() {
    let mut store = store(|_| {});
    store.always_show_scopes();
    let source = source(&mut store, "s");
    set(&mut store, &source, Def { scope: "a", ..GAUGE }, &[], 1);
    set(&mut store, &source, Def { name: "n", ..GAUGE }, &[], 2);
    assert_eq!(lines(&mut store), ["m{otel_scope_name=\"a\"} 1", "n{} 2"]);
}
