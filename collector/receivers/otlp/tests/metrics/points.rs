//! Data points of every type, and invalid ones.

use crate::check;
use crate::common::*;
use dichroic_model::Limits;
use dichroic_receiver_otlp::RequestOutcome;

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
fn a_delta_histogram_keeps_its_counts_when_its_bounds_change() {
    let mut world = World::new();
    for (bounds, counts) in [(&[1.0][..], &[1, 2][..]), (&[2.0], &[3, 4]), (&[1.0], &[1, 1])] {
        for _ in 0..2 {
            world.metrics(vec![histogram("h", DELTA, vec![buckets(bounds, counts)])]);
        }
    }
    let lines = world.lines();
    assert!(lines[0].contains("buckets [] [24]"), "{lines:?}");
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
fn totals_with_changed_bounds_replace_and_deltas_are_added() {
    let run = |temporality| {
        let mut world = World::new();
        for bounds in [[1.0, 5.0], [5.0, 9.0]] {
            world.metrics(vec![histogram(
                "h",
                temporality,
                vec![buckets(&bounds, &[1, 1, 1])],
            )]);
        }
        world.lines()
    };
    assert_eq!(
        run(CUMULATIVE),
        ["h{} histogram buckets [5.0, 9.0] [1, 1, 1] sum Some(1.5) extremes None"]
    );
    assert_eq!(
        run(DELTA),
        ["h{} histogram buckets [5.0] [3, 3] sum Some(3.0) extremes None"]
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
    let no_value = NumberDataPoint {
        flags: 1,
        value: None,
        ..int(0)
    };
    let no_buckets = HistogramDataPoint {
        flags: 1,
        count: 0,
        bucket_counts: vec![],
        ..buckets(&[1.0], &[0, 0])
    };
    let outcome = world.metrics(vec![
        gauge("g", vec![no_value]),
        histogram("h", CUMULATIVE, vec![no_buckets]),
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
    let message = "3 of 4 data points were rejected; 2 of \"g\": the metric has limits.series_per_metric series \
        [series_per_metric], remove attributes with many values, or raise the limit; 1: no name, no value, an invalid number, an \
        unknown temporality, or invalid attributes [malformed], check the instrument and the exporter";
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
