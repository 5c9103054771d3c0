//! The conversion of exponential buckets to counts between bounds.
//!
//! An exponential bucket is counted under the first bound at or above its upper edge: exact where the edge
//! is a bound, otherwise too high by at most one bucket's width, never too low.

use crate::series::values::{ExponentialCell, KnownBelow, total};
use dichroic_model::Factor;
use std::sync::Arc;

/// Converts exponential buckets to classic ones; caches the edges of the last resolution.
#[derive(Debug, Default)]
pub struct ClassicCounts {
    cached: Option<(i32, Factor, Arc<[f64]>)>,
    /// For each bound the last index of a bucket whose upper edge is not above it.
    last: Vec<i64>,
    counts: Vec<u64>,
}

impl ClassicCounts {
    /// Counts per bound and one above the last, not accumulated.
    pub fn counts(&mut self, cell: &ExponentialCell, factor: Factor, bounds: &Arc<[f64]>) -> &[u64] {
        self.by_bucket(cell, factor, bounds);
        if let Some(known) = &cell.known_below {
            add_known(&mut self.counts, bounds, known);
        }
        &self.counts
    }

    /// The same without what is known of values inside buckets.
    pub(super) fn by_bucket(
        &mut self,
        cell: &ExponentialCell,
        factor: Factor,
        bounds: &Arc<[f64]>,
    ) -> &[u64] {
        self.prepare(cell.scale, factor, bounds);
        self.counts.clear();
        self.counts.resize(bounds.len() + 1, 0);
        let zero = factor.apply(cell.zero_threshold);
        add(
            &mut self.counts[bounds.partition_point(|b| *b < zero)],
            cell.zero_count,
        );
        for (index, count) in (i64::from(cell.negative.0)..).zip(&cell.negative.1) {
            let edge = -upper(index - 1, cell.scale, factor);
            add(&mut self.counts[bounds.partition_point(|b| *b < edge)], *count);
        }
        let mut at = 0;
        for (index, count) in (i64::from(cell.positive.0)..).zip(&cell.positive.1) {
            while at < bounds.len() && self.last[at] < index {
                at += 1;
            }
            add(&mut self.counts[at], *count);
        }
        &self.counts
    }

    fn prepare(&mut self, scale: i32, factor: Factor, bounds: &Arc<[f64]>) {
        let same =
            |(s, f, b): &(i32, Factor, Arc<[f64]>)| *s == scale && *f == factor && Arc::ptr_eq(b, bounds);
        if self.cached.as_ref().is_some_and(same) {
            return;
        }
        self.cached = Some((scale, factor, bounds.clone()));
        self.last.clear();
        self.last
            .extend(bounds.iter().map(|b| last_below(*b, scale, factor)));
    }
}

fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

/// Moves values to the bounds that they are known to be at or below.
fn add_known(counts: &mut [u64], bounds: &[f64], known: &KnownBelow) {
    let all = total(counts);
    let mut known = known.iter().peekable();
    let (mut by_bucket, mut shown): (u64, u64) = (0, 0);
    for (count, bound) in counts.iter_mut().zip(bounds) {
        by_bucket = by_bucket.saturating_add(*count);
        while known.next_if(|(at, _)| at < bound).is_some() {}
        let inside = known
            .next_if(|(at, _)| at == bound)
            .map_or(0, |(_, count)| *count);
        // A bound that was added later may lie in the same bucket.
        let below = by_bucket.saturating_add(inside).min(all).max(shown);
        *count = below - shown;
        shown = below;
    }
    if let Some(last) = counts.last_mut() {
        *last = all - shown;
    }
}

/// Upper edge of bucket `index` in the exported unit.
fn upper(index: i64, scale: i32, factor: Factor) -> f64 {
    factor.apply(((index + 1) as f64 * f64::from(-scale).exp2()).exp2())
}

/// The last bucket whose upper edge is not above `bound`: estimated by a logarithm, then corrected by exact edges.
fn last_below(bound: f64, scale: i32, factor: Factor) -> i64 {
    if bound <= 0.0 {
        return i64::MIN;
    }
    let raw = bound * factor.den as f64 / factor.num as f64;
    let mut index = (raw.log2() * f64::from(scale).exp2()).floor() as i64 - 1;
    while upper(index, scale, factor) > bound {
        index -= 1;
    }
    while upper(index + 1, scale, factor) <= bound {
        index += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: &[f64] = &[
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ];
    const BYTES: &[f64] = &[256.0, 1024.0, 4096.0];
    const OTHER: &[f64] = &[0.0, 5.0, 10.0, 25.0, 50.0, 10000.0];

    fn cell(scale: i32, offset: i32, counts: &[u64]) -> ExponentialCell {
        ExponentialCell {
            scale,
            zero_count: 0,
            zero_threshold: 0.0,
            positive: (offset, counts.to_vec()),
            negative: (0, Vec::new()),
            sum: None,
            min_max: None,
            known_below: None,
        }
    }

    #[test]
    fn a_bucket_is_counted_under_the_bound_at_its_edge() {
        // Scale 0: bucket 7 is (128, 256], bucket 8 is (256, 512].
        let counts = ClassicCounts::default()
            .counts(&cell(0, 7, &[3, 4]), Factor::ONE, &BYTES.into())
            .to_vec();
        assert_eq!(counts[..2], [3, 4]);
    }

    #[test]
    fn a_bucket_between_bounds_is_counted_under_the_next() {
        // Scale 0: bucket -1 is (0.5, 1], bucket 0 is (1, 2], bucket 3 is (8, 16].
        let counts = ClassicCounts::default()
            .counts(&cell(0, -1, &[1, 2, 0, 0, 5]), Factor::ONE, &SECONDS.into())
            .to_vec();
        let under = |bound: f64| counts[SECONDS.iter().position(|b| *b == bound).unwrap()];
        assert_eq!((under(1.0), under(2.5), counts[14]), (1, 2, 5));
        assert_eq!(counts.iter().sum::<u64>(), 8);
    }

    #[test]
    fn counts_under_a_bound_saturate() {
        let mut cell = cell(0, 0, &[u64::MAX, 1]);
        (cell.zero_count, cell.negative) = (u64::MAX, (0, vec![1, u64::MAX]));
        let counts = ClassicCounts::default()
            .counts(&cell, Factor::ONE, &[0.0, 4.0].into())
            .to_vec();
        assert_eq!(counts, [u64::MAX, u64::MAX, 0]);
    }

    #[test]
    fn edges_are_scaled_by_the_factor() {
        let ns = Factor::new(1, 1_000_000_000).unwrap();
        // 2^30 ns is 1.07 s: bucket 29 reaches up to it.
        let counts = ClassicCounts::default()
            .counts(&cell(0, 29, &[1]), ns, &SECONDS.into())
            .to_vec();
        assert_eq!(counts[10], 1, "under 2.5 s");
    }

    #[test]
    fn no_count_is_lost_and_none_is_counted_below_its_value() {
        for scale in -10..=20 {
            for bounds in [SECONDS, BYTES, OTHER] {
                let factor = Factor::ONE;
                for bound in bounds.iter().filter(|b| **b > 0.0) {
                    let last = last_below(*bound, scale, factor);
                    assert!(upper(last, scale, factor) <= *bound, "{scale} {bound}");
                    assert!(upper(last + 1, scale, factor) > *bound, "{scale} {bound}");
                }
            }
        }
    }

    #[test]
    fn zero_and_negative_values_are_counted_under_the_first_bound_above() {
        let mut cell = cell(0, 0, &[]);
        (cell.zero_count, cell.zero_threshold) = (2, 0.007);
        cell.negative = (0, vec![3]);
        let counts = ClassicCounts::default()
            .counts(&cell, Factor::ONE, &SECONDS.into())
            .to_vec();
        assert_eq!(counts[..2], [3, 2]);
        // Bucket 0 of the negative side is [-2, -1), bucket 2 is [-8, -4).
        cell.negative = (0, vec![3, 0, 1]);
        let bounds: Arc<[f64]> = [-5.0, -1.0, 0.0, 0.01].into();
        let counts = ClassicCounts::default()
            .counts(&cell, Factor::ONE, &bounds)
            .to_vec();
        assert_eq!(counts, [0, 4, 0, 2, 0]);
    }

    #[test]
    fn known_values_are_counted_at_their_bounds() {
        // Scale -2: bucket 0 is (1, 16], with 2.5, 5, 7.5 and 10 inside.
        let mut cell = cell(-2, -1, &[3, 8]);
        cell.known_below = Some([(2.5, 2), (7.0, 4), (7.5, 5)].into());
        let mut classic = ClassicCounts::default();
        let accumulated = |counts: &[u64]| -> Vec<u64> {
            let mut sum = 0;
            let sums = counts.iter().map(|count| {
                sum += count;
                sum
            });
            sums.collect()
        };
        let counts = accumulated(classic.counts(&cell, Factor::ONE, &SECONDS.into()));
        assert_eq!(counts[8..], [0, 3, 5, 5, 8, 8, 11]);
        let none_below: Arc<[f64]> = [7.5, 20.0].into();
        assert_eq!(
            accumulated(classic.counts(&cell, Factor::ONE, &none_below)),
            [8, 11, 11]
        );
    }
}
