//! Copied values of histograms and summaries, and their arithmetic.

use dichroic_model::Number;
use std::sync::Arc;

/// A copy of a histogram with explicit bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramCell {
    /// Upper bounds, ascending, in the exported unit, without +Inf.
    pub bounds: Arc<[f64]>,
    /// One count per bound, and one above the last.
    pub counts: Box<[u64]>,
    /// Raw sum, if the sender reports it.
    pub sum: Option<Number>,
    /// Raw minimum and maximum, if the sender reports them.
    pub min_max: Option<(f64, f64)>,
}

/// State of an exponential histogram: bucket `i` of a side counts (base^(offset+i), base^(offset+i+1)], base = 2^(2^-scale).
#[derive(Debug, Clone, PartialEq)]
pub struct ExponentialCell {
    /// Resolution.
    pub scale: i32,
    /// Counts of |value| <= `zero_threshold`.
    pub zero_count: u64,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Index of the first positive bucket and the counts.
    pub positive: (i32, Vec<u64>),
    /// The same for negative values.
    pub negative: (i32, Vec<u64>),
    /// Raw sum, if the sender reports it.
    pub sum: Option<Number>,
    /// Raw minimum and maximum, if the sender reports them.
    pub min_max: Option<(f64, f64)>,
    /// Known positions of values inside buckets, from a time with other buckets.
    pub known_below: Option<Arc<KnownBelow>>,
}

/// Bounds in the exported unit, ascending, each with the values that are at or below it although their buckets extend above it.
pub type KnownBelow = [(f64, u64)];

/// State of a summary.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryCell {
    /// Number of observations.
    pub count: u64,
    /// Sum of the observations.
    pub sum: Number,
    /// (quantile, value), ascending.
    pub quantiles: Box<[(f64, f64)]>,
}

/// The saturating sum of counts.
#[inline]
pub fn total(counts: &[u64]) -> u64 {
    // Two vectorized loops without a branch decide whether the sum can overflow.
    let all = counts.iter().fold(0, |all, n| all | n);
    let sum = counts.iter().fold(0, |sum: u64, n| sum.wrapping_add(*n));
    if all >> 32 == 0 && counts.len() >> 32 == 0 {
        sum
    } else {
        counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

/// The bounds that two histograms have in common.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    a.iter().copied().filter(|bound| b.contains(bound)).collect()
}

/// Counts between some of the bounds of a histogram, and above the last of them.
pub(super) fn counts_at(bounds: &[f64], counts: &[u64], some: &[f64]) -> impl Iterator<Item = u64> {
    let ends = some
        .iter()
        .map(|end| bounds.partition_point(|bound| bound <= end));
    let mut from = 0;
    ends.chain([counts.len()]).map(move |to| {
        let count = total(&counts[from..to]);
        from = to;
        count
    })
}

impl HistogramCell {
    /// Adds another histogram; if the bounds differ, only shared bounds are kept.
    pub(crate) fn add(&mut self, other: &HistogramCell) {
        let (sum, min_max) = (
            add_sums(self.sum, other.sum),
            merge_extremes(self.min_max, other.min_max),
        );
        if self.bounds == other.bounds {
            let pairs = self.counts.iter_mut().zip(&other.counts);
            pairs.for_each(|(held, n)| *held = held.saturating_add(*n));
        } else {
            let common = common_bounds(&self.bounds, &other.bounds);
            let held = counts_at(&self.bounds, &self.counts, &common);
            let added = counts_at(&other.bounds, &other.counts, &common);
            self.counts = held.zip(added).map(|(a, b)| a.saturating_add(b)).collect();
            self.bounds = common;
        }
        (self.sum, self.min_max) = (sum, min_max);
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        total(&self.counts)
    }
}

impl ExponentialCell {
    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.zero_count
            .saturating_add(total(&self.positive.1))
            .saturating_add(total(&self.negative.1))
    }

    /// Halves the resolution until both sides fit into `max` buckets. Exact: neighbors are added. `false` if they do not fit at the
    /// coarsest scale, which happens only for indexes that no float has.
    #[must_use]
    pub(crate) fn fit(&mut self, max: usize) -> bool {
        while self.widest() > max && self.scale > -10 {
            self.downscale(1);
        }
        self.widest() <= max
    }

    fn widest(&self) -> usize {
        self.positive.1.len().max(self.negative.1.len())
    }

    pub(crate) fn downscale(&mut self, by: u32) {
        for side in [&mut self.positive, &mut self.negative] {
            let (offset, counts) = (side.0, std::mem::take(&mut side.1));
            let first = offset >> by;
            for (i, count) in counts.into_iter().enumerate() {
                let position = (((i64::from(offset) + i as i64) >> by) - i64::from(first)) as usize;
                if side.1.len() <= position {
                    side.1.resize(position + 1, 0);
                }
                side.1[position] = side.1[position].saturating_add(count);
            }
            side.0 = first;
        }
        self.scale -= by as i32;
    }

    /// Whether both have the same edges of buckets.
    #[inline]
    pub(crate) fn has_layout_of(&self, other: &Self) -> bool {
        self.scale == other.scale && self.zero_threshold == other.zero_threshold
    }

    /// Whether [`ExponentialCell::merge`] with this histogram, of the same scale, keeps all edges of buckets.
    #[inline]
    pub(crate) fn absorbs(&self, other: &Self, max: usize) -> bool {
        self.scale == other.scale && self.zero_threshold >= other.zero_threshold && self.span(other) <= max
    }

    fn span(&self, other: &Self) -> usize {
        span(&self.positive, &other.positive).max(span(&self.negative, &other.negative))
    }

    /// Adds another histogram at the coarser scale of both, within `max` buckets. `false` if they do not fit; then nothing is added.
    #[must_use]
    pub(crate) fn merge(&mut self, mut other: ExponentialCell, max: usize) -> bool {
        let scale = self.scale.min(other.scale);
        for cell in [&mut *self, &mut other] {
            let by = (cell.scale - scale) as u32;
            if by > 0 {
                cell.downscale(by.min(31));
            }
        }
        // A distant bucket must not allocate a huge range before it is fitted.
        while self.span(&other) > max && self.scale > -10 {
            self.downscale(1);
            other.downscale(1);
        }
        if self.span(&other) > max {
            return false;
        }
        self.zero_count = self.zero_count.saturating_add(other.zero_count);
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        add_side(&mut self.positive, &other.positive);
        add_side(&mut self.negative, &other.negative);
        self.sum = add_sums(self.sum, other.sum);
        self.min_max = merge_extremes(self.min_max, other.min_max);
        true
    }
}

fn span(a: &(i32, Vec<u64>), b: &(i32, Vec<u64>)) -> usize {
    let ends = |s: &(i32, Vec<u64>)| (i64::from(s.0), i64::from(s.0) + s.1.len() as i64);
    match (a.1.is_empty(), b.1.is_empty()) {
        (true, true) => 0,
        (false, true) => a.1.len(),
        (true, false) => b.1.len(),
        (false, false) => {
            let ((a0, a1), (b0, b1)) = (ends(a), ends(b));
            (a1.max(b1) - a0.min(b0)) as usize
        }
    }
}

fn add_side(into: &mut (i32, Vec<u64>), from: &(i32, Vec<u64>)) {
    if from.1.is_empty() {
        return;
    }
    if into.1.is_empty() {
        *into = from.clone();
        return;
    }
    if from.0 < into.0 {
        let missing = (into.0 - from.0) as usize;
        into.1.splice(0..0, std::iter::repeat_n(0, missing));
        into.0 = from.0;
    }
    let shift = (from.0 - into.0) as usize;
    if into.1.len() < shift + from.1.len() {
        into.1.resize(shift + from.1.len(), 0);
    }
    for (i, count) in from.1.iter().enumerate() {
        into.1[shift + i] = into.1[shift + i].saturating_add(*count);
    }
}

/// Adds sums; `None` if either side has none.
pub(crate) fn add_sums(a: Option<Number>, b: Option<Number>) -> Option<Number> {
    let (mut a, b) = (a?, b?);
    a.add(b);
    Some(a)
}

pub(crate) fn merge_extremes(a: Option<(f64, f64)>, b: Option<(f64, f64)>) -> Option<(f64, f64)> {
    let ((a_min, a_max), (b_min, b_max)) = (a?, b?);
    Some((a_min.min(b_min), a_max.max(b_max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(scale: i32, offset: i32, counts: &[u64]) -> ExponentialCell {
        ExponentialCell {
            scale,
            zero_count: 1,
            zero_threshold: 0.0,
            positive: (offset, counts.to_vec()),
            negative: (0, Vec::new()),
            sum: Some(Number::int(1)),
            min_max: None,
            known_below: None,
        }
    }

    #[test]
    fn downscaling_adds_neighbors_and_loses_no_count() {
        let mut cell = exponential(3, -3, &[1, 2, 3, 4]);
        cell.downscale(1);
        assert_eq!((cell.scale, cell.positive.clone()), (2, (-2, vec![1, 5, 4])));
        assert_eq!(cell.count(), 11);
    }

    #[test]
    fn merging_uses_the_coarser_scale() {
        let mut a = exponential(1, 0, &[1, 1]);
        assert!(a.merge(exponential(0, -1, &[5]), 160));
        assert_eq!(
            (a.scale, a.positive.clone(), a.zero_count),
            (0, (-1, vec![5, 2]), 2)
        );
        assert_eq!(a.sum, Some(Number::int(2)));
    }

    #[test]
    fn distant_buckets_are_fitted_before_they_are_allocated() {
        let mut a = exponential(8, -100_000, &[1]);
        assert!(a.merge(exponential(8, 100_000, &[1]), 160));
        assert!(a.positive.1.len() <= 160);
        assert_eq!(a.count(), 4);
    }

    #[test]
    fn indexes_that_no_float_has_are_rejected() {
        let mut a = exponential(0, i32::MIN / 2, &[1]);
        let before = a.count();
        assert!(!a.merge(exponential(0, i32::MAX / 2, &[1]), 160));
        assert_eq!(a.count(), before);
        assert!(!exponential(-10, 0, &vec![1; 1000]).fit(160));
    }

    #[test]
    fn totals_saturate() {
        let check = |counts: &[u64], expected| assert_eq!(total(counts), expected, "{counts:?}");
        check(&[], 0);
        check(&[1, 2, u64::from(u32::MAX)], 3 + u64::from(u32::MAX));
        check(&[1 << 40, 1], (1 << 40) + 1);
        check(&[1 << 63, 1 << 63, 1], u64::MAX);
        assert_eq!(exponential(0, 0, &[u64::MAX, 5]).count(), u64::MAX);
    }
}
