//! The classic bounds of exponential histograms: one list for each family.
//!
//! Panels sum over `le`, so all series of a family have the same bounds, and a bound that is there stays. The list is chosen when a family
//! has its first exponential histogram: the bounds of its explicit histograms if it has any, else those of its unit. Where values
//! lie outside, bounds are added at the ends. The list is in the pipeline's family, for all formats and for `lint`.

use dichroic_model::Factor;
use dichroic_pipeline::{ClassicBounds, ExponentialCell, Family};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bounds of a list. Values beyond it are in `+Inf`.
pub(super) const MAX_BOUNDS: usize = 96;
/// Most bounds of a list that is extended downward, so that upper bounds can still be added.
const MAX_DOWNWARD: usize = 64;
/// The first bounds on a side of zero span at most this ratio.
const FIRST_SPAN: f64 = 1e8;

/// Bounds of the OpenTelemetry semantic conventions for durations, in seconds.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
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
/// The default bounds of OpenTelemetry's SDKs without zero, below which there could be no other.
const OTHER: &[f64] = &[
    5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0,
];

fn standard(unit: &str) -> &'static [f64] {
    match unit {
        "s" | "seconds" => SECONDS,
        "By" | "bytes" => BYTES,
        _ => OTHER,
    }
}

/// The range of the values of a histogram, by the edges of its buckets, in the exported unit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Extent {
    /// The lower edge of the first positive bucket, infinite without one.
    low: f64,
    /// The upper edge of the last positive bucket, or of the zero bucket.
    high: f64,
    /// The same of the absolute negative values.
    negative: (f64, f64),
}

impl Extent {
    fn of(cell: &ExponentialCell, factor: Factor) -> Self {
        let side = |(offset, counts): &(i32, Vec<u64>)| {
            let used = |count: &u64| *count > 0;
            let (Some(first), Some(last)) = (counts.iter().position(used), counts.iter().rposition(used))
            else {
                return (f64::INFINITY, 0.0);
            };
            let edge = |index: i64| {
                let edge = (index as f64 * f64::from(-cell.scale).exp2()).exp2();
                factor.apply(edge).min(f64::MAX)
            };
            let offset = i64::from(*offset);
            (edge(offset + first as i64), edge(offset + last as i64 + 1))
        };
        let (low, high) = side(&cell.positive);
        let zero = factor.apply(cell.zero_threshold);
        let zero = if cell.zero_count > 0 { zero } else { 0.0 };
        Extent {
            low,
            high: high.max(zero),
            negative: side(&cell.negative),
        }
    }

    fn lies_within(&self, bounds: &[f64]) -> bool {
        let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else {
            return false;
        };
        self.high <= *last && (*first <= 0.0 || self.low >= *first) && -self.negative.1 >= first.min(0.0)
    }
}

/// Chooses the bounds of the family, or adds to them, so that the values of the histogram lie within.
pub(super) fn cover(family: &Family, unit: &str, cell: &ExponentialCell, factor: Factor) {
    let extent = Extent::of(cell, factor);
    family.change_classic_bounds(|present| match present {
        Some(present) if extent.lies_within(&present.bounds) => None,
        Some(present) => {
            let widened = widen(&present.bounds, unit, &extent);
            let standard = present.standard;
            (widened.len() > present.bounds.len()).then_some(ClassicBounds {
                bounds: widened,
                standard,
            })
        }
        None => {
            let explicit = family.explicit_bounds().filter(|bounds| !bounds.is_empty());
            let chosen: &[f64] = match explicit {
                Some(bounds) => bounds,
                None => standard(unit),
            };
            Some(ClassicBounds {
                bounds: widen(chosen, unit, &extent),
                standard: chosen.len(),
            })
        }
    });
}

/// The bounds with further ones at the ends.
fn widen(bounds: &[f64], unit: &str, extent: &Extent) -> Arc<[f64]> {
    let steps = Steps::of(unit);
    let mut list: VecDeque<f64> = bounds.iter().copied().collect();
    while let Some(last) = list.back().copied().filter(|last| *last < extent.high)
        && list.len() < MAX_BOUNDS
    {
        let next = if last > 0.0 {
            steps.above(last)
        } else {
            steps.above(extent.low.clamp(extent.high / FIRST_SPAN, extent.high))
        };
        if !next.is_finite() {
            break;
        }
        list.push_back(next);
    }
    while let Some(first) = list
        .front()
        .copied()
        .filter(|first| *first > 0.0 && *first > extent.low)
        && list.len() < MAX_DOWNWARD
    {
        list.push_front(steps.below(first));
    }
    let (nearest, farthest) = extent.negative;
    while let Some(first) = list
        .front()
        .copied()
        .filter(|first| farthest > 0.0 && -farthest < *first)
        && list.len() < MAX_BOUNDS
    {
        let next = match first {
            first if first > 0.0 => 0.0,
            first if first < 0.0 => -steps.above(-first),
            _ => -steps.below(nearest.max(farthest / FIRST_SPAN)),
        };
        if !next.is_finite() {
            break;
        }
        list.push_front(next);
    }
    list.into_iter().collect()
}

/// Where bounds are added: 1, 2.5 and 5 of each decade, or powers of four for bytes.
#[derive(Debug, Clone, Copy)]
enum Steps {
    Decades,
    Fours,
}

impl Steps {
    fn of(unit: &str) -> Self {
        match unit {
            "By" | "bytes" => Steps::Fours,
            _ => Steps::Decades,
        }
    }

    /// The smallest step above `value`, infinite beyond the largest finite step.
    fn above(self, value: f64) -> f64 {
        self.around(value)
            .find(|step| *step > value)
            .unwrap_or(f64::INFINITY)
    }

    /// The largest step below `value`, zero below the smallest step.
    fn below(self, value: f64) -> f64 {
        self.around(value)
            .filter(|step| *step < value)
            .last()
            .unwrap_or(0.0)
    }

    /// Steps from below `value` to above it, ascending.
    fn around(self, value: f64) -> impl Iterator<Item = f64> {
        // The powers of finite steps: the logarithm of zero is infinite.
        let power = match self {
            Steps::Decades => value.log10().floor().clamp(-324.0, 308.0),
            Steps::Fours => (value.log2() / 2.0).floor().clamp(-537.0, 511.0),
        } as i32;
        (power - 1..=power + 2).flat_map(move |power| {
            let steps = match self {
                // As parsed, so that they equal bounds in configurations.
                Steps::Decades => ["1", "2.5", "5"].map(|digit| format!("{digit}e{power}").parse().ok()),
                Steps::Fours => [Some(f64::from(2 * power).exp2()), None, None],
            };
            steps.into_iter().flatten()
        })
    }
}

/// The counts of an explicit histogram on the bounds of its family, if those have its bounds and further ones at the ends: its values
/// below the first bound are not known more exactly, nor those above the last.
pub(super) fn onto(counts: &[u64], bounds: &[f64], family: &[f64]) -> Option<Vec<u64>> {
    let below = family.iter().position(|bound| Some(bound) == bounds.first())?;
    let above = family.len().checked_sub(below + bounds.len())?;
    if family[below..below + bounds.len()] != *bounds || counts.len() != bounds.len() + 1 {
        return None;
    }
    let (last, counts) = counts.split_last()?;
    let mut out = vec![0; below];
    out.extend_from_slice(counts);
    out.resize(out.len() + above, 0);
    out.push(*last);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(scale: i32, positive: (i32, &[u64]), negative: (i32, &[u64])) -> ExponentialCell {
        ExponentialCell {
            scale,
            zero_count: 0,
            zero_threshold: 0.0,
            positive: (positive.0, positive.1.to_vec()),
            negative: (negative.0, negative.1.to_vec()),
            sum: None,
            min_max: None,
        }
    }

    fn widened(unit: &str, cell: &ExponentialCell) -> (usize, Vec<f64>, usize) {
        let standard = standard(unit);
        let all = widen(standard, unit, &Extent::of(cell, Factor::ONE));
        let below = all.iter().position(|bound| *bound == standard[0]).unwrap();
        assert_eq!(
            all[below..below + standard.len()],
            *standard,
            "only the ends change"
        );
        let added: Vec<f64> = all
            .iter()
            .copied()
            .filter(|bound| !standard.contains(bound))
            .collect();
        (below, added, all.len())
    }

    #[test]
    fn bounds_are_added_at_the_ends_until_the_values_lie_within() {
        let check = |unit, cell: &ExponentialCell, expected: &[f64]| {
            assert_eq!(widened(unit, cell).1, expected);
        };
        // Scale 0: bucket i is (2^i, 2^(i+1)].
        check("s", &cell(0, (-7, &[1, 0, 0, 5]), (0, &[])), &[]);
        check("s", &cell(0, (3, &[1]), (0, &[])), &[25.0]);
        check("s", &cell(0, (5, &[1, 0, 0]), (0, &[])), &[25.0, 50.0, 100.0]);
        check("s", &cell(0, (-10, &[1]), (0, &[])), &[0.0005, 0.001, 0.0025]);
        check("By", &cell(0, (5, &[1]), (0, &[])), &[16.0, 64.0]);
        check("By", &cell(0, (34, &[1]), (0, &[])), &[68719476736.0]);
        check("1", &cell(0, (-2, &[1, 1]), (0, &[])), &[0.25, 0.5, 1.0, 2.5]);
        check(
            "1",
            &cell(0, (3, &[]), (2, &[1, 0, 1])),
            &[-50.0, -25.0, -10.0, -5.0, -2.5, 0.0],
        );
    }

    #[test]
    fn extreme_values_do_not_make_long_lists() {
        for offset in [-1_100 << 10, 1_030 << 10] {
            for (positive, negative) in [((offset, &[1][..]), (0, &[][..])), ((0, &[]), (offset, &[1]))] {
                for unit in ["s", "By", ""] {
                    let (.., len) = widened(unit, &cell(10, positive, negative));
                    assert!(len <= MAX_BOUNDS, "{len}");
                }
            }
        }
    }

    #[test]
    fn bounds_that_end_at_zero_or_below_are_extended_over_any_positive_values() {
        let zeros = ExponentialCell {
            zero_count: 1,
            zero_threshold: 3.0,
            ..cell(0, (0, &[]), (0, &[]))
        };
        let check = |cell: &ExponentialCell, first_added: f64| {
            for bounds in [&[-1.0][..], &[-1.0, 0.0]] {
                let all = widen(bounds, "1", &Extent::of(cell, Factor::ONE));
                assert_eq!(all[bounds.len()], first_added);
                assert!(
                    all.is_sorted_by(|a, b| a < b) && all.len() <= MAX_BOUNDS,
                    "{all:?}"
                );
            }
        };
        check(&zeros, 5.0);
        check(&cell(0, (2, &[1]), (0, &[])), 5.0);
        // Both edges are zero, as the bucket lies below the smallest number.
        let below_all = Extent::of(&cell(0, (-2_000, &[1]), (0, &[])), Factor::ONE);
        assert_eq!(*widen(&[-1.0], "1", &below_all), [-1.0, 5e-324]);
        check(&cell(0, (-2_000, &[1; 2_001]), (0, &[])), 2.5e-8);
        check(&cell(0, (1_023, &[1]), (0, &[])), 1e308);
    }

    #[test]
    fn an_explicit_histogram_gets_the_added_bounds_and_keeps_its_counts() {
        let check = |family: &[f64], expected: Option<&[u64]>| {
            assert_eq!(
                onto(&[1, 2, 3], &[1.0, 2.0], family),
                expected.map(<[u64]>::to_vec)
            );
        };
        check(&[1.0, 2.0], Some(&[1, 2, 3]));
        check(&[0.5, 1.0, 2.0], Some(&[0, 1, 2, 3]));
        check(&[1.0, 2.0, 5.0, 10.0], Some(&[1, 2, 0, 0, 3]));
        check(&[1.0, 1.5, 2.0], None);
        check(&[2.0, 5.0], None);
        check(&[], None);
    }
}
