//! Effects of points on cells: replace, add, reset, or rejection.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Attributes, Exemplar, MetricKind, Number, SECOND};
use dichroic_pipeline::{
    Buckets, Core, DropReason, ExponentialPoint, HistogramPoint, Row, SummaryPoint, Times, Written,
};

fn only(store: &mut Core) -> Row {
    let mut rows = rows(store);
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

#[test]
fn a_total_that_decreases_is_a_reset_unless_the_point_is_late() {
    struct Case {
        point: (i64, u64, u64),
        expected: Result<Written, DropReason>,
        start: u64,
        explicit: bool,
        resets: u64,
    }
    // The first point is 10, with a stated start of NOW-100, at NOW.
    let check = |name: &str, case: Case| {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let series = define_series(&mut store, &source, COUNTER, &[]).unwrap();
        let first = store.set_number(series, Number::int(10), times(NOW - 100, NOW));
        assert_eq!(first, Ok(Written::Applied));
        let (value, start, time) = case.point;
        let applied = store.set_number(series, Number::int(value), times(start, time));
        assert_eq!(applied, case.expected, "{name}");
        let row = only(&mut store);
        assert_eq!(
            (row.start, row.start_explicit),
            (case.start, case.explicit),
            "{name}"
        );
        assert_eq!(store.warnings().resets, case.resets, "{name}");
    };
    let case = |point, expected, start, explicit, resets| Case {
        point,
        expected,
        start,
        explicit,
        resets,
    };
    check(
        "increases",
        case((11, NOW - 100, NOW + 5), Ok(Written::Applied), NOW - 100, true, 0),
    );
    check(
        "increases without a stated start",
        case((11, 0, NOW + 5), Ok(Written::Applied), NOW - 100, true, 0),
    );
    check(
        "decreases with the same start",
        case((3, NOW - 100, NOW + 5), Ok(Written::Applied), NOW + 5, false, 1),
    );
    check(
        "decreases without a stated start",
        case((3, 0, NOW + 5), Ok(Written::Applied), NOW + 5, false, 1),
    );
    check(
        "decreases with a newer start",
        case((3, NOW + 2, NOW + 5), Ok(Written::Applied), NOW + 2, true, 0),
    );
    check(
        "is late",
        case(
            (3, NOW - 100, NOW - 5),
            Err(DropReason::Backwards),
            NOW - 100,
            true,
            0,
        ),
    );
    check(
        "is unchanged",
        case((10, 0, NOW), Ok(Written::Applied), NOW - 100, true, 0),
    );
}

#[test]
fn deltas_add_exactly_and_gaps_and_overlaps_are_counted() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let series = define_series(&mut store, &source, DELTA, &[]).unwrap();
    let big = (1_i64 << 53) + 1;
    for (value, start, time) in [(big, 100, 200), (1, 200, 300), (1, 350, 400), (1, 390, 500)] {
        store
            .add_number(series, Number::int(value), times(start, time))
            .unwrap();
    }
    store
        .add_number(series, Number::float(0.25), times(500, 600))
        .unwrap();
    assert_eq!(
        store.number(series),
        Some(Number {
            int: big + 3,
            float: 0.25
        })
    );
    assert_eq!(
        (store.warnings().delta_gaps, store.warnings().delta_overlaps),
        (1, 1)
    );
    let row = only(&mut store);
    assert_eq!((row.start, row.time, row.start_explicit), (100, 600, true));
}

#[test]
fn adding_a_delta_without_a_sum_removes_the_sum() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let def = Def {
        temporality: dichroic_model::Temporality::Delta,
        ..HISTOGRAM
    };
    let series = define_series(&mut store, &source, def, &[]).unwrap();
    let point = |sum, min_max| HistogramPoint {
        counts: &[1, 2, u64::MAX],
        sum,
        min_max,
    };
    store
        .add_histogram(
            series,
            &point(Some(Number::int(3)), Some((1.0, 2.0))),
            times(0, 5),
        )
        .unwrap();
    store
        .add_histogram(
            series,
            &point(Some(Number::int(4)), Some((0.5, 1.0))),
            times(5, 6),
        )
        .unwrap();
    let cell = store.histogram(series).unwrap().clone();
    assert_eq!(cell.counts().collect::<Vec<_>>(), [2, 4, u64::MAX]);
    assert_eq!(
        (cell.sum(), cell.min_max()),
        (Some(Number::int(7)), Some((0.5, 2.0)))
    );
    store
        .add_histogram(series, &point(None, None), times(6, 7))
        .unwrap();
    let cell = store.histogram(series).unwrap();
    assert_eq!((cell.sum(), cell.min_max()), (None, None));
}

fn exponential(scale: i32, offset: i32, counts: &[u64]) -> ExponentialPoint<'_> {
    ExponentialPoint {
        scale,
        zero_count: 0,
        zero_threshold: 0.0,
        positive: Buckets { offset, counts },
        negative: Buckets::default(),
        sum: None,
        min_max: None,
    }
}

#[test]
fn invalid_exponential_points_are_rejected_and_accounted_bytes_are_exact() {
    let mut store = store(|limits| limits.buckets = 160);
    let source = source(&mut store, "s");
    let def = Def {
        temporality: dichroic_model::Temporality::Delta,
        ..EXPONENTIAL
    };
    let empty = store.live_bytes();
    let series = define_series(&mut store, &source, def, &[]).unwrap();
    let many = vec![1; 100_000];
    let invalid = [
        exponential(21, 0, &[1]),
        exponential(-11, 0, &[1]),
        exponential(0, i32::MAX, &[1, 1]),
        exponential(-10, 0, &many),
    ];
    for point in &invalid {
        assert_eq!(
            store.add_exponential(series, point, Times::at(NOW)),
            Err(DropReason::Buckets)
        );
        assert_eq!(
            store.set_exponential(series, point, Times::at(NOW)),
            Err(DropReason::Buckets)
        );
    }
    store
        .add_exponential(series, &exponential(0, i32::MIN, &[1]), Times::at(NOW))
        .unwrap();
    let far = exponential(0, i32::MAX - 1, &[1]);
    assert_eq!(
        store.add_exponential(series, &far, Times::at(NOW)),
        Err(DropReason::Buckets)
    );
    store
        .add_exponential(series, &exponential(20, 0, &many), Times::at(NOW))
        .unwrap_err();
    store.expire(series);
    store.sweep(NOW);
    assert_eq!(store.live_bytes(), empty);
}

#[test]
fn wide_exponential_points_are_downscaled_without_loss() {
    let mut store = store(|limits| limits.buckets = 160);
    let source = source(&mut store, "s");
    let series = define_series(&mut store, &source, EXPONENTIAL, &[]).unwrap();
    store
        .set_exponential(series, &exponential(8, -500, &[1; 1_000]), Times::at(NOW))
        .unwrap();
    let cell = store.exponential(series).unwrap();
    assert!(cell.positive.1.len() <= 160);
    assert_eq!((cell.count(), cell.scale), (1_000, 5));
}

#[test]
fn a_cell_accepts_only_points_of_its_metrics_kind() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let number = define_series(&mut store, &source, Def { name: "n", ..GAUGE }, &[]).unwrap();
    let histogram = define_series(
        &mut store,
        &source,
        Def {
            name: "h",
            ..HISTOGRAM
        },
        &[],
    )
    .unwrap();
    let unbounded = define_series(
        &mut store,
        &source,
        Def {
            name: "u",
            bounds: None,
            ..HISTOGRAM
        },
        &[],
    )
    .unwrap();
    let summary = SummaryPoint {
        count: 1,
        sum: Number::int(1),
        quantiles: &[],
    };
    let point = HistogramPoint {
        counts: &[1, 1, 1],
        sum: None,
        min_max: None,
    };
    for series in [histogram, unbounded] {
        assert_eq!(
            store.set_number(series, Number::int(1), Times::at(NOW)),
            Err(DropReason::Malformed)
        );
        assert_eq!(
            store.add_number(series, Number::int(1), Times::at(NOW)),
            Err(DropReason::Malformed)
        );
    }
    for series in [histogram, unbounded, number] {
        assert_eq!(
            store.set_summary(series, &summary, Times::at(NOW)),
            Err(DropReason::Malformed)
        );
        assert_eq!(
            store.set_exponential(series, &exponential(0, 0, &[1]), Times::at(NOW)),
            Err(DropReason::Malformed)
        );
    }
    assert_eq!(
        store.set_histogram(number, &point, Times::at(NOW)),
        Err(DropReason::Buckets)
    );
    let short = HistogramPoint {
        counts: &[1],
        ..point
    };
    assert_eq!(
        store.set_histogram(histogram, &short, Times::at(NOW)),
        Err(DropReason::Buckets)
    );
}

#[test]
fn a_series_is_visible_from_its_first_point_even_if_that_has_no_time() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let series = define_series(&mut store, &source, GAUGE, &[]).unwrap();
    assert_eq!(rows(&mut store).len(), 0);
    store
        .set_number(
            series,
            Number::int(1),
            Times {
                start: 0,
                time: 0,
                now: NOW + 1,
            },
        )
        .unwrap();
    assert_eq!(only(&mut store).time, NOW + 1);
}

#[test]
fn the_newest_exemplar_is_stored_unless_it_is_too_large() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let empty = store.live_bytes();
    let series = set(&mut store, &source, COUNTER, &[], 1);
    let exemplar = |value, text: &str| Exemplar {
        value,
        time: 0,
        attributes: Attributes::of(&[("trace_id", text)]),
    };
    store.set_exemplar(series, exemplar(1.0, "a"));
    store.set_exemplar(series, exemplar(2.0, "b"));
    store.set_exemplar(series, exemplar(3.0, &"x".repeat(5_000)));
    assert_eq!(only(&mut store).exemplar.unwrap().value, 2.0);
    store.expire(series);
    store.sweep(NOW);
    assert_eq!(store.live_bytes(), empty);
}

#[test]
fn a_widened_histogram_frees_its_bytes_when_removed() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let before = store.live_bytes();
    let series = define_series(&mut store, &source, HISTOGRAM, &[]).unwrap();
    for first in [1, u64::from(u32::MAX), 1 << 32, u64::MAX >> 8] {
        let point = HistogramPoint {
            counts: &[first, 0, 0],
            sum: None,
            min_max: None,
        };
        store.set_histogram(series, &point, Times::at(NOW)).unwrap();
    }
    store.expire(series);
    assert_eq!(store.live_bytes(), before);
}

#[test]
fn a_gauge_keeps_its_newest_value() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let gauge = define_series(&mut store, &source, GAUGE, &[]).unwrap();
    let mut write = |value, time, now| {
        let times = Times { start: 0, time, now };
        store.set_number(gauge, Number::int(value), times)
    };
    assert_eq!(write(1, NOW, NOW + SECOND), Ok(Written::Applied));
    assert_eq!(
        write(2, NOW - 30 * SECOND, NOW + SECOND),
        Err(DropReason::Backwards)
    );
    assert_eq!(write(2, NOW, NOW + SECOND), Err(DropReason::Duplicate));
    assert_eq!(write(1, NOW, NOW + SECOND), Ok(Written::Applied), "sent again");
    // A clock of one tick per second, and the collector's own clock set back.
    assert_eq!(write(2, NOW, NOW + 2 * SECOND), Ok(Written::Applied));
    assert_eq!(write(3, NOW - SECOND, NOW - SECOND), Ok(Written::Applied));
    assert_eq!(lines(&mut store), ["m{} 3"]);
}

#[test]
fn a_total_twice_in_one_request_is_a_duplicate() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let times = Times {
        start: NOW - SECOND,
        time: NOW,
        now: NOW + SECOND,
    };
    let counter = define_series(&mut store, &source, COUNTER, &[]).unwrap();
    let histogram = define_series(
        &mut store,
        &source,
        Def {
            name: "h",
            ..HISTOGRAM
        },
        &[],
    )
    .unwrap();
    for (value, expected) in [
        (3, Ok(Written::Applied)),
        (4, Err(DropReason::Duplicate)),
        (3, Ok(Written::Applied)),
    ] {
        assert_eq!(store.set_number(counter, Number::int(value), times), expected);
        let point = HistogramPoint {
            counts: &[value as u64, 0, 0],
            sum: None,
            min_max: None,
        };
        assert_eq!(store.set_histogram(histogram, &point, times), expected);
    }
    assert_eq!(lines(&mut store)[1], "m{} 3");
}

#[test]
fn sums_of_integers_leave_64_bits_as_floats() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let up_down = Def {
        name: "u",
        kind: MetricKind::Sum { monotonic: false },
        ..DELTA
    };
    for (def, value, times, expected) in [(DELTA, i64::MAX, 3, 3.0), (up_down, i64::MIN, 2, -2.0)] {
        let series = define_series(&mut store, &source, def, &[]).unwrap();
        for _ in 0..times {
            store
                .add_number(series, Number::int(value), Times::at(NOW))
                .unwrap();
        }
        let sum = store.number(series).unwrap().to_f64();
        assert_eq!(sum, expected * 2f64.powi(63));
    }
}

/// A histogram point with counts only.
fn counted(counts: &[u64]) -> HistogramPoint<'_> {
    HistogramPoint {
        counts,
        sum: None,
        min_max: None,
    }
}

#[test]
fn deltas_with_other_bounds_are_added_at_the_bounds_in_common() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let bytes = store.live_bytes();
    let mut add = |bounds: &'static [f64], counts: &[u64]| {
        let def = Def {
            bounds: Some(bounds),
            temporality: dichroic_model::Temporality::Delta,
            ..HISTOGRAM
        };
        let series = define_series(&mut store, &source, def, &[]).unwrap();
        let mut counts = counts.to_vec();
        store.rebin(series, bounds, &mut counts);
        store
            .add_histogram(series, &counted(&counts), Times::at(NOW))
            .unwrap();
        lines(&mut store)
    };
    assert_eq!(
        add(&[1.0, 2.0, 3.0], &[1, 2, 3, 4]),
        ["m{} [1.0, 2.0, 3.0] [1, 2, 3, 4]"]
    );
    assert_eq!(add(&[1.0, 3.0, 4.0], &[1, 1, 1, 1]), ["m{} [1.0, 3.0] [2, 6, 6]"]);
    assert_eq!(
        add(&[1.0, 2.0, 3.0], &[1, 2, 3, 4]),
        ["m{} [1.0, 3.0] [3, 11, 10]"]
    );
    assert_eq!(add(&[1.0, 3.0], &[1, 1, 1]), ["m{} [1.0, 3.0] [4, 12, 11]"]);
    assert_eq!(add(&[9.0], &[5, 5]), ["m{} [] [37]"]);
    assert_eq!(add(&[1.0, 3.0], &[1, 1, 1]), ["m{} [] [40]"]);
    assert_eq!(store.warnings().changed_bounds, 4);
    assert!(common::rows(&mut store).iter().all(|row| row.lost_bounds));
    store.end_source(source.id, NOW);
    store.sweep(NOW);
    assert!(store.live_bytes() <= bytes);
}

#[test]
fn a_total_with_other_bounds_replaces_the_last_one_of_its_process() {
    let mut store = store(|_| {});
    let source = on_host(&mut store, "h", &[]);
    let mut set = |start: u64, time: u64, bounds: &'static [f64], counts: &[u64]| {
        let times = Times {
            start: NOW + start * SECOND,
            time: NOW + time * SECOND,
            now: NOW + time * SECOND,
        };
        let def = Def {
            bounds: Some(bounds),
            start: times.start,
            ..HISTOGRAM
        };
        let series = define_series(&mut store, &source, def, &[]).unwrap();
        store.set_histogram(series, &counted(counts), times).unwrap();
        lines(&mut store)
    };
    assert_eq!(set(1, 10, &[1.0], &[1, 2]), ["m{} [1.0] [1, 2]"]);
    assert_eq!(set(1, 20, &[2.0], &[3, 4]), ["m{} [2.0] [3, 4]"]);
    // A second process with other bounds, and the first one again.
    set(2, 21, &[1.0, 2.0], &[10, 10, 10]);
    assert_eq!(set(1, 30, &[2.0], &[4, 4]), ["m{} [2.0] [24, 14]"]);
    assert_eq!(set(2, 31, &[1.0, 2.0], &[10, 10, 11]), ["m{} [2.0] [24, 15]"]);
    assert_eq!(set(2, 41, &[1.0], &[10, 22]), ["m{} [] [40]"]);
    assert_eq!(set(1, 42, &[1.0], &[3, 7]), ["m{} [1.0] [13, 29]"]);
    // A restart after the last point of both.
    assert_eq!(set(50, 60, &[1.0], &[1, 0]), ["m{} [1.0] [14, 29]"]);
}
