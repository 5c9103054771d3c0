//! The labels of a page do not depend on the order of arrival.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Attributes, Expiry, MetricKind, Number, Scope, SourceSpec};
use dichroic_pipeline::{HistogramPoint, SummaryPoint, Times};
use proptest::prelude::*;

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
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(400)))]

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
