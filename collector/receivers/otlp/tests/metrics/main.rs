//! OTLP metrics in the store.

#[path = "../common/mod.rs"]
mod common;

use common::*;
use dichroic_model::{Limits, Runtime};
use dichroic_receiver_otlp::{RequestOutcome, Service};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Sends one request and checks rows and account.
#[track_caller]
fn check(metrics: Vec<Metric>, rows: &[&str], account: &str) {
    let mut world = World::new();
    world.metrics(metrics);
    assert_eq!(world.lines(), rows);
    assert_eq!(world.accounts(), [format!("shop metrics {account}")]);
}

#[test]
fn numbers_keep_their_type() {
    check(
        vec![
            gauge(
                "g",
                vec![
                    int(-5),
                    with(&[("a", "x")], float(0.5)),
                    with(&[("a", "n")], float(f64::NAN)),
                ],
            ),
            sum("c", CUMULATIVE, true, vec![int(i64::MAX)]),
            sum("u", CUMULATIVE, false, vec![int(-3)]),
        ],
        &[
            "c{} counter int 9223372036854775807",
            "g{a=\"n\"} gauge float NaN",
            "g{a=\"x\"} gauge float 0.5",
            "g{} gauge int -5",
            "u{} updowncounter int -3",
        ],
        "received=5 applied=5",
    );
}

#[test]
fn the_order_of_attributes_does_not_make_another_series() {
    let mut world = World::new();
    for pairs in [[("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")]] {
        world.metrics(vec![sum("c", DELTA, true, vec![with(&pairs, int(2))])]);
    }
    assert_eq!(world.lines(), ["c{a=\"1\",b=\"2\"} counter int 4"]);
}

#[test]
fn deltas_add_and_totals_replace() {
    let mut world = World::new();
    for _ in 0..3 {
        world.metrics(vec![
            sum("d", DELTA, true, vec![int(2)]),
            sum("t", CUMULATIVE, true, vec![int(2)]),
            histogram("dh", DELTA, vec![buckets(&[1.0], &[1, 2])]),
            histogram("th", CUMULATIVE, vec![buckets(&[1.0], &[1, 2])]),
            exponential("de", DELTA, vec![exponential_buckets(0, 1, 2, &[3])]),
            exponential("te", CUMULATIVE, vec![exponential_buckets(0, 1, 2, &[3])]),
        ]);
    }
    assert_eq!(
        world.lines(),
        [
            "de{} exponential_histogram exponential scale 0 zero 3 (2, [9]) (0, []) sum Some(4.5)",
            "dh{} histogram buckets [1.0] [3, 6] sum Some(4.5) extremes None",
            "d{} counter int 6",
            "te{} exponential_histogram exponential scale 0 zero 1 (2, [3]) (0, []) sum Some(1.5)",
            "th{} histogram buckets [1.0] [1, 2] sum Some(1.5) extremes None",
            "t{} counter int 2",
        ]
    );
}

#[test]
fn start_and_time_of_a_point_are_kept() {
    let mut world = World::new();
    let point = NumberDataPoint {
        start_time_unix_nano: EPOCH - 5 * SECOND,
        ..int(1)
    };
    let untimed = NumberDataPoint {
        time_unix_nano: 0,
        ..int(1)
    };
    world.metrics(vec![
        sum("c", CUMULATIVE, true, vec![point]),
        gauge("untimed", vec![untimed]),
    ]);
    let times: Vec<_> = world
        .rows()
        .iter()
        .map(|row| (row.meta.metric.name.clone(), row.start, row.time))
        .collect();
    assert_eq!(times[0], ("c".to_owned(), EPOCH - 5 * SECOND, EPOCH));
    assert_eq!((times[1].0.as_str(), times[1].2), ("untimed", world.now));
}

#[test]
fn histogram_counts_must_match_bounds_and_total() {
    let off = |change: fn(&mut HistogramDataPoint)| {
        let mut point = buckets(&[1.0, 2.0], &[1, 2, 3]);
        change(&mut point);
        point
    };
    let good = [
        (off(|_| ()), "[1.0, 2.0] [1, 2, 3] sum Some(1.5) extremes None"),
        (
            off(|p| p.sum = None),
            "[1.0, 2.0] [1, 2, 3] sum None extremes None",
        ),
        (
            off(|p| (p.min, p.max) = (Some(0.5), Some(9.0))),
            "[1.0, 2.0] [1, 2, 3] sum Some(1.5) extremes Some((0.5, 9.0))",
        ),
        (
            off(|p| p.min = Some(0.5)),
            "[1.0, 2.0] [1, 2, 3] sum Some(1.5) extremes None",
        ),
        (buckets(&[], &[7]), "[] [7] sum Some(1.5) extremes None"),
        (
            off(|p| (p.explicit_bounds, p.bucket_counts) = (vec![], vec![])),
            "[] [6] sum Some(1.5) extremes None",
        ),
        (
            buckets(&[-1.0, 0.0], &[1, 0, 0]),
            "[-1.0, 0.0] [1, 0, 0] sum Some(1.5) extremes None",
        ),
    ];
    for (point, row) in good {
        let row = format!("h{{}} histogram buckets {row}");
        check(
            vec![histogram("h", CUMULATIVE, vec![point])],
            &[&row],
            "received=1 applied=1",
        );
    }
    let bad = [
        off(|p| p.bucket_counts.push(0)),
        off(|p| p.bucket_counts.clear()),
        off(|p| p.explicit_bounds.clear()),
        off(|p| p.count = 7),
        off(|p| p.explicit_bounds = vec![2.0, 1.0]),
        off(|p| p.explicit_bounds = vec![1.0, 1.0]),
        off(|p| p.explicit_bounds = vec![1.0, f64::NAN]),
        off(|p| p.explicit_bounds = vec![1.0, f64::INFINITY]),
        off(|p| (p.count, p.bucket_counts) = (u64::MAX, vec![u64::MAX, 0, 0])),
        off(|p| (p.count, p.bucket_counts) = (1, vec![u64::MAX, 1, 1])),
    ];
    for point in bad {
        check(
            vec![histogram("h", CUMULATIVE, vec![point])],
            &[],
            "received=1 applied=0 buckets=1",
        );
    }
}

#[test]
fn other_bounds_start_a_new_count() {
    let mut world = World::new();
    for bounds in [[1.0], [5.0]] {
        world.metrics(vec![histogram("h", DELTA, vec![buckets(&bounds, &[1, 1])])]);
    }
    assert_eq!(
        world.lines(),
        ["h{} histogram buckets [5.0] [1, 1] sum Some(1.5) extremes None"]
    );
}

#[test]
fn exponential_histograms_keep_both_sides() {
    let mut point = exponential_buckets(3, 2, -4, &[1, 0, 5]);
    point.count += 4;
    point.negative = Some(Buckets {
        offset: 7,
        bucket_counts: vec![4],
    });
    check(
        vec![exponential("e", CUMULATIVE, vec![point])],
        &["e{} exponential_histogram exponential scale 3 zero 2 (-4, [1, 0, 5]) (7, [4]) sum Some(1.5)"],
        "received=1 applied=1",
    );
}

#[test]
fn inconsistent_exponential_histograms_are_dropped() {
    let off = |change: fn(&mut ExponentialHistogramDataPoint)| {
        let mut point = exponential_buckets(3, 2, -4, &[1, 0, 5]);
        change(&mut point);
        point
    };
    for point in [
        off(|p| p.count += 1),
        off(|p| p.scale = 21),
        off(|p| p.scale = -11),
        off(|p| p.zero_threshold = f64::NAN),
        off(|p| p.zero_threshold = -1.0),
        off(|p| p.positive.as_mut().unwrap().offset = i32::MAX),
        off(|p| p.zero_count = u64::MAX),
    ] {
        check(
            vec![exponential("e", DELTA, vec![point])],
            &[],
            "received=1 applied=0 buckets=1",
        );
    }
}

#[test]
fn summaries_keep_their_quantiles_in_order() {
    let quantile = |quantile, value| ValueAtQuantile { quantile, value };
    let point = SummaryDataPoint {
        time_unix_nano: EPOCH,
        count: 3,
        sum: 4.5,
        quantile_values: vec![quantile(0.99, 3.0), quantile(0.5, 1.0)],
        ..Default::default()
    };
    let data = Data::Summary(Summary {
        data_points: vec![point],
    });
    check(
        vec![metric("s", data)],
        &["s{} summary summary 3 4.5 [(0.5, 1.0), (0.99, 3.0)]"],
        "received=1 applied=1",
    );
}

#[test]
fn a_point_without_recorded_value_expires_its_series() {
    let mut world = World::new();
    let points = |value| {
        vec![
            gauge("g", vec![int(1), with(&[("a", "x")], int(2))]),
            histogram("h", CUMULATIVE, vec![value]),
        ]
    };
    world.metrics(points(buckets(&[1.0], &[1, 1])));
    assert_eq!(world.rows().len(), 3);
    let gone = NumberDataPoint {
        flags: 1,
        value: None,
        ..int(0)
    };
    let gone_buckets = HistogramDataPoint {
        flags: 1,
        count: 0,
        bucket_counts: vec![],
        ..buckets(&[1.0], &[0, 0])
    };
    let outcome = world.metrics(vec![
        gauge("g", vec![gone]),
        histogram("h", CUMULATIVE, vec![gone_buckets]),
    ]);
    assert_eq!(world.lines(), ["g{a=\"x\"} gauge int 2"]);
    assert_eq!(
        (outcome.accepted, outcome.rejected),
        (2, 0),
        "a point without a value counts as accepted"
    );
    assert_eq!(
        world.accounts(),
        ["shop metrics received=5 applied=3 no_recorded_value=2"]
    );
}

#[test]
fn the_newest_exemplar_is_kept() {
    let example = |time, value| Exemplar {
        time_unix_nano: time,
        value: Some(exemplar::Value::AsDouble(value)),
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        filtered_attributes: attributes(&[("user", "u")]),
    };
    let mut world = World::new();
    let point = NumberDataPoint {
        exemplars: vec![example(5, 0.5), example(9, 0.9), example(7, 0.7)],
        ..int(1)
    };
    world.metrics(vec![sum("c", CUMULATIVE, true, vec![point])]);
    let rows = world.rows();
    let kept = rows[0].exemplar.as_ref().expect("an exemplar");
    assert_eq!((kept.value, kept.time), (0.9, 9));
    assert_eq!(
        kept.attributes.get("trace_id"),
        Some("abababababababababababababababab".into())
    );
    assert_eq!(kept.attributes.get("span_id"), Some("0101010101010101".into()));
    assert_eq!(kept.attributes.get("user"), Some("u".into()));
}

#[test]
fn points_that_violate_otlp_are_dropped_and_the_rest_is_accepted() {
    let empty = NumberDataPoint {
        value: None,
        ..int(0)
    };
    let cases = [
        (
            vec![gauge("g", vec![empty, int(1)])],
            "received=2 applied=1 malformed=1",
        ),
        (vec![gauge("", vec![int(1)])], "received=1 applied=0 malformed=1"),
        (
            vec![sum("c", 0, true, vec![int(1), int(2)])],
            "received=2 applied=0 malformed=2",
        ),
        (
            vec![sum("c", 9, true, vec![int(1)])],
            "received=1 applied=0 malformed=1",
        ),
        (
            vec![sum("c", DELTA, true, vec![int(-1)])],
            "received=1 applied=0 backwards=1",
        ),
        (
            vec![sum("c", DELTA, false, vec![int(-1)])],
            "received=1 applied=1",
        ),
        (
            vec![gauge(&"n".repeat(2000), vec![int(1)])],
            "received=1 applied=0 label_limit=1",
        ),
    ];
    for (metrics, account) in cases {
        let mut world = World::new();
        world.metrics(metrics);
        assert_eq!(world.accounts(), [format!("shop metrics {account}")]);
    }
}

#[test]
fn the_response_states_how_many_points_were_rejected_and_why() {
    let mut world = World::with(Limits {
        series_per_metric: 1,
        ..Limits::default()
    });
    let outcome = world.metrics(vec![
        gauge(
            "g",
            vec![
                with(&[("a", "1")], int(1)),
                with(&[("a", "2")], int(1)),
                with(&[("a", "3")], int(1)),
            ],
        ),
        gauge("", vec![int(1)]),
    ]);
    let message = "3 data points were dropped: 2 over limits.series_per_metric [series_per_metric], the first of \"g\"; \
        1 that violate OTLP (missing value or name, unknown temporality, or malformed attributes) [malformed]";
    let expected = RequestOutcome {
        accepted: 1,
        rejected: 3,
        message: message.into(),
    };
    assert_eq!(outcome, expected);
}

#[test]
fn deltas_over_the_limit_go_to_the_overflow_series() {
    let mut world = World::with(Limits {
        series_per_metric: 1,
        ..Limits::default()
    });
    let points = ["1", "2", "3"].map(|value| with(&[("a", value)], int(2)));
    world.metrics(vec![sum("c", DELTA, true, points.to_vec())]);
    assert_eq!(
        world.lines(),
        [
            "c{a=\"1\"} counter int 2",
            "c{otel_metric_overflow=\"true\"} counter int 4"
        ]
    );
}

#[test]
fn the_same_name_of_another_kind_unit_or_scope_is_another_series() {
    let mut world = World::new();
    let with_unit = Metric {
        unit: "By".into(),
        ..gauge("m", vec![int(2)])
    };
    world.metrics(vec![
        gauge("m", vec![int(1)]),
        with_unit,
        sum("m", CUMULATIVE, true, vec![int(3)]),
    ]);
    assert_eq!(world.rows().len(), 3);
}

#[test]
fn a_resource_becomes_a_source() {
    let check = |pairs: &[(&str, &str)], job: &str, instance: &str, runtime: Runtime| {
        let mut world = World::new();
        let body = request_of(pairs, vec![gauge("g", vec![int(1)])]).encode_to_vec();
        world.take(Service::Metrics, &body).unwrap();
        let rows = world.rows();
        let spec = &rows[0].meta.source.spec;
        assert_eq!(
            (spec.job.as_str(), spec.instance.as_str(), spec.runtime),
            (job, instance, runtime)
        );
    };
    check(&[], "", "", Runtime::Other);
    check(&[("service.name", "a")], "a", "", Runtime::Other);
    check(
        &[
            ("service.name", "a"),
            ("service.namespace", "n"),
            ("service.instance.id", "i"),
        ],
        "n/a",
        "i",
        Runtime::Other,
    );
    check(&[("telemetry.sdk.language", "python")], "", "", Runtime::Python);
    check(&[("telemetry.sdk.language", "erlang")], "", "", Runtime::Beam);
    check(&[("telemetry.sdk.language", "go")], "", "", Runtime::Other);
}

fn send(world: &mut World, pairs: &[(&str, &str)]) -> u32 {
    let body = request_of(pairs, vec![gauge("g", vec![int(1)])]).encode_to_vec();
    world.take(Service::Metrics, &body).unwrap();
    world
        .rows()
        .iter()
        .map(|row| row.meta.source.id.0)
        .max()
        .expect("a row")
}

#[test]
fn the_same_identity_is_the_same_source_in_any_order() {
    let mut world = World::new();
    let first = send(&mut world, &[("service.name", "a"), ("host.name", "h")]);
    let second = send(&mut world, &[("host.name", "h"), ("service.name", "a")]);
    assert_eq!(first, second);
    let other = send(&mut world, &[("host.name", "h2"), ("service.name", "a")]);
    assert_ne!(
        first, other,
        "without an instance id the whole resource tells programs apart"
    );
}

#[test]
fn two_programs_with_one_instance_id_do_not_replace_each_other_constantly() {
    let identity = [("service.name", "a"), ("service.instance.id", "i")];
    let with_pid = |pid| [identity[0], identity[1], ("process.pid", pid)];
    let mut world = World::new();
    let first = send(&mut world, &with_pid("1"));
    let restarted = send(&mut world, &with_pid("2"));
    assert_ne!(first, restarted, "a restart is detected at once");
    assert_eq!(send(&mut world, &with_pid("1")), restarted);
    world.now += 11 * SECOND;
    assert_ne!(send(&mut world, &with_pid("1")), restarted);
}

#[test]
fn a_silent_source_expires_with_its_series_and_returns_as_a_new_one() {
    let mut world = World::new();
    let first = send(&mut world, &[("service.name", "a")]);
    world.now += 200 * SECOND;
    world.ingest.tick(&mut world.store, world.now);
    assert_eq!(send(&mut world, &[("service.name", "a")]), first);
    world.now += 301 * SECOND;
    world.ingest.tick(&mut world.store, world.now);
    // Series expire in one round, their source in the next.
    world.store.sweep(world.now);
    world.store.sweep(world.now);
    assert_eq!((world.rows().len(), world.store.sources().count()), (0, 0));
    assert_ne!(send(&mut world, &[("service.name", "a")]), first);
}

#[test]
fn a_source_over_the_limit_is_counted_as_unattributed() {
    let mut world = World::with(Limits {
        sources: 1,
        ..Limits::default()
    });
    let body = |name| request_of(&[("service.name", name)], vec![gauge("g", vec![int(1)])]).encode_to_vec();
    world.take(Service::Metrics, &body("a")).unwrap();
    let outcome = world.take(Service::Metrics, &body("b")).unwrap();
    assert_eq!(outcome.rejected, 1);
    assert_eq!(
        world.accounts(),
        [
            "a metrics received=1 applied=1",
            "? metrics received=1 applied=0 source_limit=1"
        ]
    );
}

#[test]
fn a_request_in_steps_gives_the_same_result_as_in_one_step() {
    let metrics: Vec<Metric> = (0..40)
        .map(|n| {
            sum(
                &format!("m{n}"),
                DELTA,
                true,
                vec![with(&[("a", "1")], int(n)), int(1)],
            )
        })
        .collect();
    let mut whole = World::new();
    let expected = whole.metrics(metrics.clone());
    let mut stepped = World::new();
    let mut request = stepped
        .ingest
        .begin(&stepped.store, Service::Metrics, body(metrics))
        .unwrap();
    let mut steps = 1;
    let outcome = loop {
        match stepped.ingest.step(&mut stepped.store, &mut request, 100, EPOCH) {
            Some(outcome) => break outcome,
            None => steps += 1,
        }
        assert!(stepped.store.ledger().balances(), "after every step");
    };
    assert!(steps > 10, "{steps}");
    assert_eq!(outcome, expected);
    assert_eq!(stepped.lines(), whole.lines());
}

#[test]
fn an_empty_request_is_valid() {
    let mut world = World::new();
    for service in Service::ALL {
        assert_eq!(world.take(service, &[]), Ok(RequestOutcome::default()));
    }
}

#[test]
fn split_fields_in_any_order_are_merged_as_in_protobuf() {
    use dichroic_receiver_otlp::protobuf::put_bytes;
    let mut world = World::new();
    let point = with(&[("a", "1"), ("b", "2")], int(7)).encode_to_vec();
    // The attributes before and after the rest, the data before the name, and in two parts.
    let one = NumberDataPoint {
        attributes: attributes(&[("a", "1")]),
        ..Default::default()
    };
    let rest = NumberDataPoint {
        attributes: vec![],
        ..with(&[], int(7))
    };
    let two = NumberDataPoint {
        attributes: attributes(&[("b", "2")]),
        ..Default::default()
    };
    let split = [one.encode_to_vec(), rest.encode_to_vec(), two.encode_to_vec()].concat();
    let (mut first, mut second, mut metric) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut first, 1, &point);
    put_bytes(&mut second, 1, &split);
    put_bytes(&mut metric, 5, &first);
    put_bytes(&mut metric, 5, &second);
    put_bytes(&mut metric, 1, b"g");
    let decoded = Metric::decode(&*metric).unwrap();
    let mut scope = Vec::new();
    put_bytes(&mut scope, 2, &metric);
    let (mut resource, mut body) = (Vec::new(), Vec::new());
    put_bytes(&mut resource, 2, &scope);
    put_bytes(
        &mut resource,
        1,
        &self::resource(&[("service.name", "shop")])
            .unwrap()
            .encode_to_vec(),
    );
    put_bytes(&mut body, 1, &resource);
    let outcome = world.take(Service::Metrics, &body).unwrap();
    assert_eq!(outcome.accepted, 2);
    let Some(Data::Gauge(gauge)) = decoded.data else {
        panic!("a gauge")
    };
    assert_eq!(gauge.data_points.len(), 2, "prost reads the same");
    assert_eq!(world.lines(), ["g{a=\"1\",b=\"2\"} gauge int 7"]);
}

/// A point of the property below: which metric, which attributes in which order, its value.
type Drawn = (usize, Vec<usize>, i64);

fn drawn_metric((metric, places, value): &Drawn) -> Metric {
    let pairs: Vec<_> = places
        .iter()
        .map(|place| [("a", "1"), ("b", "2"), ("c", "x y")][*place])
        .collect();
    let point = with(&pairs, int(*value));
    let bucket = usize::from(*value > 4);
    let counts = [[1, 0], [0, 1]][bucket];
    let buckets = HistogramDataPoint {
        attributes: point.attributes.clone(),
        ..buckets(&[4.0], &counts)
    };
    match metric {
        0 => gauge("gauge", vec![point]),
        1 => sum("total", CUMULATIVE, true, vec![point]),
        2 => sum("delta", DELTA, false, vec![point]),
        _ => histogram("histogram", DELTA, vec![buckets]),
    }
}

/// The expected content of the store: the last value of a gauge or total, the sum of deltas.
fn drawn_lines(points: &[Drawn]) -> Vec<String> {
    let mut held: BTreeMap<(usize, Vec<usize>), [i64; 2]> = BTreeMap::new();
    for (metric, places, value) in points {
        let mut key = places.clone();
        key.sort_unstable();
        let cell = held.entry((*metric, key)).or_default();
        match metric {
            0 | 1 => cell[0] = *value,
            2 => cell[0] += value,
            _ => cell[usize::from(*value > 4)] += 1,
        }
    }
    let line = |((metric, places), cell): (&(usize, Vec<usize>), &[i64; 2])| {
        let labels: Vec<_> = places
            .iter()
            .map(|place| ["a=\"1\"", "b=\"2\"", "c=\"x y\""][*place])
            .collect();
        let labels = labels.join(",");
        match metric {
            0 => format!("gauge{{{labels}}} gauge int {}", cell[0]),
            1 => format!("total{{{labels}}} counter int {}", cell[0]),
            2 => format!("delta{{{labels}}} updowncounter int {}", cell[0]),
            _ => {
                let sum = (cell[0] + cell[1]) as f64 * 1.5;
                format!(
                    "histogram{{{labels}}} histogram buckets [4.0] {cell:?} sum Some({sum:?}) extremes None"
                )
            }
        }
    };
    let mut lines: Vec<_> = held.iter().map(line).collect();
    lines.sort();
    lines
}

proptest! {
    #[test]
    fn any_points_in_any_split_come_to_what_the_plain_rules_say(
        points in proptest::collection::vec(
            (0usize..4, proptest::sample::subsequence(vec![0usize, 1, 2], 0..=3).prop_shuffle(), 0i64..10),
            1..60,
        ),
        split in 1usize..20,
    ) {
        let mut world = World::new();
        for part in points.chunks(split) {
            let outcome = world.metrics(part.iter().map(drawn_metric).collect());
            prop_assert_eq!(outcome.rejected, 0, "{}", outcome.message);
        }
        prop_assert_eq!(world.lines(), drawn_lines(&points));
    }
}
