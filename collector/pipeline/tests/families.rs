//! Families whose names overlap on a page.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{MetricKind, NameStyle, Number};
use dichroic_pipeline::{Core, HiddenReason, HistogramPoint, Times};

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
fn when_two_metrics_of_a_source_share_a_sample_one_is_hidden_with_a_reason() {
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
fn a_count_and_a_sum_gauge_do_not_hide_each_other_beside_histogram_a() {
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
            // Defining each again returns the same series.
            for (at, series) in &all {
                let label = if *at == 2 { labels } else { "one" };
                let again = define_series(&mut store, &source, metrics[*at], &[("at", label)]).unwrap();
                assert_eq!(again, *series, "{order:?} {labels}");
            }
        }
    }
}

#[test]
fn equal_samples_of_two_hosts_get_a_distinguishing_label() {
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
