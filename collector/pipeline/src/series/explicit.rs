//! The state of a histogram with explicit bounds: one allocation, with 32 bits per bucket while counts fit.
//!
//! Every point of a histogram accesses all of it, and its main cost is cache misses. Therefore sum, extremes and counts share one
//! allocation, and the flags that describe its layout are in the slot.

use super::bounds::BoundsId;
use super::points::HistogramPoint;
use super::values::{HistogramCell, add_sums, merge_extremes};
use dichroic_model::Number;
use std::sync::Arc;

/// Words before the counts: the two parts of the sum, then the extremes, each in two halves.
const HEAD: usize = 8;

/// State of a histogram with explicit bounds, raw.
#[derive(Debug, Clone)]
pub struct Explicit {
    words: Box<[u32]>,
    pub(crate) bounds: BoundsId,
    /// A count takes two words.
    wide: bool,
    has_sum: bool,
    has_extremes: bool,
}

impl Explicit {
    /// A histogram without observations.
    pub(crate) fn new(buckets: usize, bounds: BoundsId) -> Self {
        Explicit {
            words: vec![0; HEAD + buckets].into(),
            bounds,
            wide: false,
            has_sum: false,
            has_extremes: false,
        }
    }

    /// Number of buckets: one per bound and one above the last.
    pub(crate) fn buckets(&self) -> usize {
        (self.words.len() - HEAD) >> u32::from(self.wide)
    }

    /// The count of each bucket.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        let words = &self.words[HEAD..];
        let (narrow, wide) = if self.wide {
            (&[][..], words)
        } else {
            (words, &[][..])
        };
        let wide = wide.chunks_exact(2).map(|pair| joined(pair[0], pair[1]));
        narrow.iter().map(|n| u64::from(*n)).chain(wide)
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        if self.wide {
            return self.counts().fold(0, u64::saturating_add);
        }
        self.words[HEAD..].iter().map(|n| u64::from(*n)).sum()
    }

    /// The sum, if the sender reports it.
    pub fn sum(&self) -> Option<Number> {
        let (int, float) = (self.head(0) as i64, f64::from_bits(self.head(1)));
        self.has_sum.then_some(Number { int, float })
    }

    /// Minimum and maximum, if the sender reports them.
    pub fn min_max(&self) -> Option<(f64, f64)> {
        self.has_extremes
            .then(|| (f64::from_bits(self.head(2)), f64::from_bits(self.head(3))))
    }

    fn head(&self, at: usize) -> u64 {
        joined(self.words[2 * at], self.words[2 * at + 1])
    }

    fn set_head(&mut self, at: usize, value: u64) {
        (self.words[2 * at], self.words[2 * at + 1]) = halves(value);
    }

    /// Replaces the state.
    #[inline]
    pub(crate) fn set(&mut self, point: &HistogramPoint<'_>) {
        if !self.wide {
            let mut all = 0;
            for (word, n) in self.words[HEAD..].iter_mut().zip(point.counts) {
                *word = *n as u32;
                all |= n;
            }
            if all >> 32 != 0 {
                self.widen();
            }
        }
        if self.wide {
            let pairs = self.words[HEAD..].chunks_exact_mut(2);
            for (pair, n) in pairs.zip(point.counts) {
                (pair[0], pair[1]) = halves(*n);
            }
        }
        self.describe(point.sum, point.min_max);
    }

    /// Adds a delta. The sum and the extremes are lost if one side does not have them.
    pub(crate) fn add(&mut self, point: &HistogramPoint<'_>) {
        let (mut sum, mut min_max) = (point.sum, point.min_max);
        if self.words[HEAD..].iter().any(|n| *n != 0) {
            sum = add_sums(self.sum(), sum);
            min_max = merge_extremes(self.min_max(), min_max);
        }
        if !self.wide {
            let sums = self
                .counts()
                .zip(point.counts)
                .map(|(state, n)| state.saturating_add(*n));
            if sums.fold(0, |all, n| all | n) >> 32 != 0 {
                self.widen();
            }
        }
        if self.wide {
            let pairs = self.words[HEAD..].chunks_exact_mut(2);
            for (pair, n) in pairs.zip(point.counts) {
                (pair[0], pair[1]) = halves(joined(pair[0], pair[1]).saturating_add(*n));
            }
        } else {
            for (word, n) in self.words[HEAD..].iter_mut().zip(point.counts) {
                *word += *n as u32;
            }
        }
        self.describe(sum, min_max);
    }

    #[inline]
    fn describe(&mut self, sum: Option<Number>, min_max: Option<(f64, f64)>) {
        (self.has_sum, self.has_extremes) = (sum.is_some(), min_max.is_some());
        if let Some(sum) = sum {
            self.set_head(0, sum.int as u64);
            self.set_head(1, sum.float.to_bits());
        }
        if let Some((min, max)) = min_max {
            self.set_head(2, min.to_bits());
            self.set_head(3, max.to_bits());
        }
    }

    #[cold]
    fn widen(&mut self) {
        let counts = self.counts().map(halves).flat_map(|(low, high)| [low, high]);
        self.words = self.words[..HEAD].iter().copied().chain(counts).collect();
        self.wide = true;
    }

    /// A copy for exporters.
    pub(crate) fn cell(&self, bounds: &Arc<[f64]>) -> HistogramCell {
        HistogramCell {
            bounds: bounds.clone(),
            counts: self.counts().collect(),
            sum: self.sum(),
            min_max: self.min_max(),
        }
    }

    /// Bytes besides the slot.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// Reads both ends, which brings the allocation into the cache.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        u64::from(self.words[0]) ^ u64::from(self.words[self.words.len() - 1])
    }
}

fn joined(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Values = (Vec<u64>, Option<Number>, Option<(f64, f64)>);

    /// Counts around `u32::MAX` and `u64::MAX`.
    fn count() -> impl Strategy<Value = u64> {
        prop_oneof![
            6 => 0..10u64,
            2 => (u64::from(u32::MAX) - 4)..(u64::from(u32::MAX) + 4),
            1 => (u64::MAX - 4)..=u64::MAX,
        ]
    }

    fn values() -> impl Strategy<Value = Values> {
        let sum = (any::<i64>(), -1e9..1e9).prop_map(|(int, float)| Number { int, float });
        let ends = (-5.0..5.0, 5.0..9.0);
        (
            prop::collection::vec(count(), 4),
            prop::option::of(sum),
            prop::option::of(ends),
        )
    }

    proptest! {
        // Miri runs about a thousand times slower.
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { ProptestConfig::default().cases }))]

        #[test]
        fn the_state_equals_the_points_set_and_added(steps in prop::collection::vec((any::<bool>(), values()), 1..12)) {
            let mut state = Explicit::new(4, 7);
            let mut model: Values = (vec![0; 4], None, None);
            for (adds, (counts, sum, min_max)) in steps {
                let point = HistogramPoint { counts: &counts, sum, min_max };
                if adds {
                    let first = model.0.iter().all(|n| *n == 0);
                    state.add(&point);
                    model.0.iter_mut().zip(&counts).for_each(|(a, b)| *a = a.saturating_add(*b));
                    model.1 = if first { sum } else { add_sums(model.1, sum) };
                    model.2 = if first { min_max } else { merge_extremes(model.2, min_max) };
                } else {
                    state.set(&point);
                    model = (counts, sum, min_max);
                }
                prop_assert_eq!(state.counts().collect::<Vec<_>>(), model.0.clone());
                prop_assert_eq!((state.sum(), state.min_max()), (model.1, model.2));
                prop_assert_eq!(state.count(), model.0.iter().fold(0, |a: u64, b| a.saturating_add(*b)));
                prop_assert_eq!((state.buckets(), state.bounds), (4, 7));
                let cell = state.cell(&[1.0, 2.0, 3.0].into());
                prop_assert_eq!((&*cell.counts, cell.sum), (&model.0[..], model.1));
            }
        }
    }

    #[test]
    fn counts_take_four_bytes_while_they_fit() {
        let mut state = Explicit::new(15, 0);
        let mut set = |counts: &[u64]| {
            let point = HistogramPoint {
                counts,
                sum: None,
                min_max: None,
            };
            state.set(&point);
            assert_eq!(state.counts().collect::<Vec<_>>(), counts);
            state.heap_bytes()
        };
        let mut counts = [u64::from(u32::MAX); 15];
        assert_eq!(set(&counts), 32 + 60);
        counts[3] += 1;
        assert_eq!(set(&counts), 32 + 120);
        counts[3] = 0;
        assert_eq!(set(&counts), 32 + 120);
    }
}
