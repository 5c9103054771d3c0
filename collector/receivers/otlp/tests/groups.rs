//! Series are looked up in groups; the result must equal that of single lookups.

mod common;

use common::*;
use dichroic_model::Limits;
use proptest::prelude::*;

/// Indexes of the attributes, value, whether it has a value, start and time in seconds after the epoch, bounds.
type Drawn = (Vec<usize>, i64, bool, (u64, u64), usize);

fn limits() -> Limits {
    Limits {
        series_per_metric: 5,
        aliases_per_series: 2,
        labels: 3,
        ..Limits::default()
    }
}

fn attributes_of(indexes: &[usize]) -> Vec<KeyValue> {
    let all = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];
    attributes(&indexes.iter().map(|at| all[*at]).collect::<Vec<_>>())
}

fn time(seconds: u64) -> u64 {
    if seconds == 0 { 0 } else { EPOCH + seconds * SECOND }
}

fn number((indexes, value, valued, (start, at), _): &Drawn) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes_of(indexes),
        start_time_unix_nano: time(*start),
        time_unix_nano: time(*at),
        flags: u32::from(!valued),
        ..int(*value)
    }
}

fn explicit((indexes, value, valued, (start, at), bounds): &Drawn) -> HistogramDataPoint {
    let counts = [value.unsigned_abs(), 1, 2];
    let (bounds, counts): (&[f64], &[u64]) = match bounds {
        0 => (&[1.0, 2.0], &counts),
        1 => (&[1.0, 3.0], &counts),
        2 => (&[], &counts[..1]),
        _ => (&[1.0, 2.0], &counts[..2]),
    };
    HistogramDataPoint {
        attributes: attributes_of(indexes),
        start_time_unix_nano: time(*start),
        time_unix_nano: time(*at),
        flags: u32::from(!valued),
        ..buckets(bounds, counts)
    }
}

fn two_sided((indexes, value, valued, (start, at), scale): &Drawn) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes: attributes_of(indexes),
        start_time_unix_nano: time(*start),
        time_unix_nano: time(*at),
        flags: u32::from(!valued),
        ..exponential_buckets(*scale as i32, 1, *value as i32, &[value.unsigned_abs(), 1])
    }
}

/// The points as one metric.
fn drawn_metric(kind: usize, points: &[Drawn]) -> Metric {
    let numbers = || points.iter().map(number).collect();
    let histograms = || points.iter().map(explicit).collect();
    let exponentials = || points.iter().map(two_sided).collect();
    match kind {
        0 => gauge("m", numbers()),
        1 => sum("m", CUMULATIVE, true, numbers()),
        2 => sum("m", DELTA, true, numbers()),
        3 => histogram("m", CUMULATIVE, histograms()),
        4 => histogram("m", DELTA, histograms()),
        5 => exponential("m", CUMULATIVE, exponentials()),
        _ => exponential("m", DELTA, exponentials()),
    }
}

/// The observable state of a world: rows with their times, accounts, warnings.
fn state(world: &mut World) -> (Vec<String>, Vec<String>, String) {
    let text = |row: &dichroic_pipeline::Row| {
        let (start, explicit, time) = (row.start, row.start_explicit, row.time);
        format!(
            "{} since {start} {explicit} at {time} {}",
            line(row),
            row.hidden.is_some()
        )
    };
    let mut rows: Vec<String> = world.rows().iter().map(text).collect();
    rows.sort();
    let other = format!("{:?} {}", world.store.warnings(), world.store.live_bytes());
    (rows, world.accounts(), other)
}

proptest! {
    #[test]
    fn points_in_one_request_give_the_same_state_as_one_by_one(
        kind in 0usize..7,
        points in proptest::collection::vec(
            (
                proptest::sample::subsequence(vec![0usize, 1, 2, 3], 0..=4).prop_shuffle(),
                -1i64..6,
                proptest::bool::weighted(0.85),
                (0u64..4, 0u64..6),
                0usize..4,
            ),
            1..60,
        ),
    ) {
        let (mut together, mut apart) = (World::with(limits()), World::with(limits()));
        let outcome = together.metrics(vec![drawn_metric(kind, &points)]);
        let (mut accepted, mut rejected) = (0, 0);
        for point in &points {
            let one = apart.metrics(vec![drawn_metric(kind, std::slice::from_ref(point))]);
            accepted += one.accepted;
            rejected += one.rejected;
        }
        prop_assert_eq!((outcome.accepted, outcome.rejected), (accepted, rejected));
        prop_assert_eq!(state(&mut together), state(&mut apart));
    }
}
