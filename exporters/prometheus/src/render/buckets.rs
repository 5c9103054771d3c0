//! Classic buckets: the texts of `le`, and the conversion of exponential histograms to one fixed list of bounds per unit.
//!
//! All exponential series of a family always have the same bounds, because panels sum over `le`, and a bound that appears and
//! disappears breaks `rate`. An exponential bucket is counted under the first bound at or above its upper edge: exact where the edge
//! is a bound, otherwise too high by at most one bucket's width, never too low. When a sender lowers its resolution, edges move up
//! and a count may move to the next bound, which `rate` sees as a reset of that bound.

use super::number::canonical;
use dichroic_model::Factor;
use dichroic_pipeline::ExponentialCell;
use std::sync::Arc;

/// Bounds of the OpenTelemetry semantic conventions for durations, in seconds.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
const MICROSECONDS: &[f64] = &[
    5e3, 1e4, 2.5e4, 5e4, 7.5e4, 1e5, 2.5e5, 5e5, 7.5e5, 1e6, 2.5e6, 5e6, 7.5e6, 1e7,
];
const NANOSECONDS: &[f64] = &[
    5e6, 1e7, 2.5e7, 5e7, 7.5e7, 1e8, 2.5e8, 5e8, 7.5e8, 1e9, 2.5e9, 5e9, 7.5e9, 1e10,
];
/// 256 B to 16 GiB, by fours: powers of two, so that edges of exponential buckets are bounds.
const BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
    1073741824.0,
    4294967296.0,
    17179869184.0,
];
/// The default bounds of OpenTelemetry's SDKs, meant for milliseconds.
const OTHER: &[f64] = &[
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0,
];

/// The list on which exponential histograms of a unit are shown. All bounds are zero or above.
pub(super) fn fixed_bounds(unit: &str) -> &'static [f64] {
    match unit {
        "s" | "seconds" => SECONDS,
        "us" | "microseconds" => MICROSECONDS,
        "ns" | "nanoseconds" => NANOSECONDS,
        "By" | "bytes" => BYTES,
        _ => OTHER,
    }
}

/// `le="0.005"} ` of each bound and of +Inf.
pub(super) type Les = Arc<[Box<[u8]>]>;

/// The `le` labels of lists of bounds, rendered once per page.
#[derive(Default)]
pub(super) struct LeCache(Vec<(Bounds, Les)>);

/// A list of bounds, kept alive so that its address is not reused.
enum Bounds {
    Shared(Arc<[f64]>),
    Fixed(&'static [f64]),
}

impl LeCache {
    /// Maximum of cached lists; a page with more renders some lists again.
    const CAPACITY: usize = 64;

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn shared(&mut self, bounds: &Arc<[f64]>) -> Les {
        self.find(bounds, || Bounds::Shared(bounds.clone()))
    }

    pub(super) fn fixed(&mut self, bounds: &'static [f64]) -> Les {
        self.find(bounds, || Bounds::Fixed(bounds))
    }

    fn find(&mut self, bounds: &[f64], key: impl FnOnce() -> Bounds) -> Les {
        let same = |(cached, _): &(Bounds, Les)| match cached {
            Bounds::Shared(cached) => std::ptr::eq(&**cached, bounds),
            Bounds::Fixed(cached) => std::ptr::eq(*cached, bounds),
        };
        if let Some((_, les)) = self.0.iter().rev().find(|entry| same(entry)) {
            return les.clone();
        }
        let all = bounds.iter().copied().chain([f64::INFINITY]);
        let les: Les = all
            .map(|b| format!("le=\"{}\"}} ", canonical(b)).into_bytes().into())
            .collect();
        if self.0.len() == Self::CAPACITY {
            self.0.remove(0);
        }
        self.0.push((key(), les.clone()));
        les
    }
}

/// Converts exponential buckets to classic ones; caches the edges of the last resolution.
#[derive(Default)]
pub(super) struct ClassicBuckets {
    cached: Option<(i32, Factor, &'static [f64])>,
    /// For each bound the last index of a bucket whose upper edge is not above it.
    last: Vec<i64>,
    counts: Vec<u64>,
}

impl ClassicBuckets {
    /// Counts per bound and one above the last, not accumulated.
    pub(super) fn counts(
        &mut self,
        cell: &ExponentialCell,
        factor: Factor,
        bounds: &'static [f64],
    ) -> &[u64] {
        self.prepare(cell.scale, factor, bounds);
        self.counts.clear();
        self.counts.resize(bounds.len() + 1, 0);
        let zero = factor.apply(cell.zero_threshold);
        self.counts[bounds.partition_point(|b| *b < zero)] += cell.zero_count;
        // No bound is negative, so all negative values are under the first.
        self.counts[0] += cell.negative.1.iter().sum::<u64>();
        let mut at = 0;
        for (index, count) in (i64::from(cell.positive.0)..).zip(&cell.positive.1) {
            while at < bounds.len() && self.last[at] < index {
                at += 1;
            }
            self.counts[at] += count;
        }
        &self.counts
    }

    fn prepare(&mut self, scale: i32, factor: Factor, bounds: &'static [f64]) {
        let same =
            |(s, f, b): (i32, Factor, &'static [f64])| s == scale && f == factor && std::ptr::eq(b, bounds);
        if self.cached.is_some_and(same) {
            return;
        }
        self.cached = Some((scale, factor, bounds));
        self.last.clear();
        self.last
            .extend(bounds.iter().map(|b| last_below(*b, scale, factor)));
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

    fn cell(scale: i32, offset: i32, counts: &[u64]) -> ExponentialCell {
        ExponentialCell {
            scale,
            zero_count: 0,
            zero_threshold: 0.0,
            positive: (offset, counts.to_vec()),
            negative: (0, Vec::new()),
            sum: None,
            min_max: None,
        }
    }

    #[test]
    fn a_bucket_is_counted_under_the_bound_at_its_edge() {
        // Scale 0: bucket 7 is (128, 256], bucket 8 is (256, 512].
        let counts = ClassicBuckets::default()
            .counts(&cell(0, 7, &[3, 4]), Factor::ONE, BYTES)
            .to_vec();
        assert_eq!(counts[..2], [3, 4]);
    }

    #[test]
    fn a_bucket_between_bounds_is_counted_under_the_next() {
        // Scale 0: bucket -1 is (0.5, 1], bucket 0 is (1, 2], bucket 3 is (8, 16].
        let counts = ClassicBuckets::default()
            .counts(&cell(0, -1, &[1, 2, 0, 0, 5]), Factor::ONE, SECONDS)
            .to_vec();
        let under = |bound: f64| counts[SECONDS.iter().position(|b| *b == bound).unwrap()];
        assert_eq!((under(1.0), under(2.5), counts[14]), (1, 2, 5));
        assert_eq!(counts.iter().sum::<u64>(), 8);
    }

    #[test]
    fn edges_are_scaled_by_the_factor() {
        let ns = Factor::new(1, 1_000_000_000).unwrap();
        // 2^30 ns is 1.07 s: bucket 29 reaches up to it.
        let counts = ClassicBuckets::default()
            .counts(&cell(0, 29, &[1]), ns, SECONDS)
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
        let counts = ClassicBuckets::default()
            .counts(&cell, Factor::ONE, SECONDS)
            .to_vec();
        assert_eq!(counts[..2], [3, 2]);
    }

    #[test]
    fn bounds_are_rendered_once() {
        let mut cache = LeCache::default();
        let bounds: Arc<[f64]> = [0.5, 1.0].into();
        let les = cache.shared(&bounds);
        let texts: Vec<_> = les.iter().map(|le| std::str::from_utf8(le).unwrap()).collect();
        assert_eq!(texts, ["le=\"0.5\"} ", "le=\"1.0\"} ", "le=\"+Inf\"} "]);
        assert!(Arc::ptr_eq(&les, &cache.shared(&bounds)));
    }
}
