//! Random requests against a simple model of the store.

use crate::common::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A random point: the metric, the attributes in order, and the value.
type Drawn = (usize, Vec<usize>, i64);

fn drawn_metric((metric, indexes, value): &Drawn) -> Metric {
    let pairs: Vec<_> = indexes
        .iter()
        .map(|at| [("a", "1"), ("b", "2"), ("c", "x y")][*at])
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
    for (metric, indexes, value) in points {
        let mut key = indexes.clone();
        key.sort_unstable();
        let cell = held.entry((*metric, key)).or_default();
        match metric {
            0 | 1 => cell[0] = *value,
            2 => cell[0] += value,
            _ => cell[usize::from(*value > 4)] += 1,
        }
    }
    let line = |((metric, indexes), cell): (&(usize, Vec<usize>), &[i64; 2])| {
        let labels: Vec<_> = indexes
            .iter()
            .map(|at| ["a=\"1\"", "b=\"2\"", "c=\"x y\""][*at])
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
    fn random_points_in_any_split_give_the_state_of_the_model(
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
