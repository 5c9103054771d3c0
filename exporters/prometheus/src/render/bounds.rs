//! The classic bounds of exponential histograms: one list for each family.
//!
//! Panels sum over `le`, so all series of a family have the same bounds, and a bound that is there stays. The list is chosen when a family
//! has its first exponential histogram: the bounds of its explicit histograms if it has any, else those of its unit. Bounds of explicit
//! histograms that come later are inserted. Where values lie outside, bounds are added at the ends, within the [`Reach`] of the
//! family: a single wild value adds none far away. The list is in the pipeline's family, for all formats and for `lint`.

use dichroic_model::Factor;
use dichroic_pipeline::classic::{Reach, Steps, standard};
use dichroic_pipeline::{ClassicBounds, ExponentialCell, Family};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most bounds of a list. Values beyond it are in `+Inf`.
const MAX_BOUNDS: usize = 96;
/// The first bounds on a side of zero span at most this ratio.
const FIRST_SPAN: f64 = 1e8;
/// The first bucket may begin far below its values. Bounds below it are of use for about a decade.
const FIRST_BUCKET: f64 = 10.0;
/// Least number of values beyond the near reach that add bounds there.
const MANY: u64 = 20;
/// The same as a part of all values of the histogram: one of this many.
const SHARE: u64 = 100;

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
    /// The extent of all values, or of those for which bounds are added.
    fn of(cell: &ExponentialCell, factor: Factor, reach: Option<Reach>) -> Self {
        let (low, high) = side(cell, &cell.positive, factor, reach);
        let zero = factor.apply(cell.zero_threshold);
        let is_shown = cell.zero_count > 0 && reach.is_none_or(|reach| zero <= reach.near.1);
        Extent {
            low,
            high: high.max(if is_shown { zero } else { 0.0 }),
            negative: side(cell, &cell.negative, factor, reach),
        }
    }

    fn lies_within(&self, bounds: &[f64]) -> bool {
        let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else {
            return false;
        };
        self.high <= *last && (*first <= 0.0 || self.low >= *first) && -self.negative.1 >= first.min(0.0)
    }
}

/// The extent of one side of zero.
fn side(
    cell: &ExponentialCell,
    (offset, counts): &(i32, Vec<u64>),
    factor: Factor,
    reach: Option<Reach>,
) -> (f64, f64) {
    let edge = |index: i64| {
        let edge = (index as f64 * f64::from(-cell.scale).exp2()).exp2();
        factor.apply(edge).min(f64::MAX)
    };
    let upper = |at: usize| edge(i64::from(*offset) + at as i64 + 1);
    let lower = |at: usize| edge(i64::from(*offset) + at as i64).max(upper(at) / FIRST_BUCKET);
    let used = || (0..counts.len()).filter(|at| counts[*at] > 0);
    let Some(reach) = reach else {
        return (
            used().next().map_or(f64::INFINITY, lower),
            used().next_back().map_or(0.0, upper),
        );
    };
    let total = cell.count();
    let mut beyond = (0_u64, 0_u64);
    let low = used().find(|at| {
        let edge = lower(*at);
        let far = if edge >= reach.far.0 { counts[*at] } else { 0 };
        beyond.0 = far.saturating_add(beyond.0);
        edge >= reach.near.0 || (far > 0 && beyond.0 >= MANY && beyond.0.saturating_mul(SHARE) >= total)
    });
    let high = used().rfind(|at| {
        let edge = upper(*at);
        let far = if edge <= reach.far.1 { counts[*at] } else { 0 };
        beyond.1 = far.saturating_add(beyond.1);
        edge <= reach.near.1 || (far > 0 && beyond.1 >= MANY && beyond.1.saturating_mul(SHARE) >= total)
    });
    (low.map_or(f64::INFINITY, lower), high.map_or(0.0, upper))
}

/// Chooses the bounds of the family, or adds to them, so that the values of the histogram lie within.
pub(super) fn cover(family: &Family, unit: &str, cell: &ExponentialCell, factor: Factor) {
    family.change_classic_bounds(|present| {
        let included = match present {
            Some(present) => with_explicit(present, family),
            None => Some(chosen(family, unit)),
        };
        let list = included.as_ref().or(present)?;
        if Extent::of(cell, factor, None).lies_within(&list.bounds) {
            return included;
        }
        let reach = Reach::of(unit, family.explicit_bounds().map(|bounds| &**bounds));
        let extent = Extent::of(cell, factor, Some(reach));
        let widened = widen(&list.bounds, list.ends, unit, &extent);
        if widened.len() == list.bounds.len() {
            return included;
        }
        Some(ClassicBounds {
            bounds: widened,
            ..list.clone()
        })
    });
}

/// Inserts bounds of explicit histograms that came after the list was chosen.
pub(super) fn include_explicit(family: &Family) {
    family.change_classic_bounds(|present| with_explicit(present?, family));
}

fn chosen(family: &Family, unit: &str) -> ClassicBounds {
    let none = ClassicBounds {
        bounds: Arc::from([]),
        ends: (f64::INFINITY, f64::NEG_INFINITY),
        lists: 0,
    };
    let explicit = with_explicit(&none, family).filter(|list| !list.bounds.is_empty());
    explicit.unwrap_or_else(|| {
        let standard = standard(unit);
        ClassicBounds {
            bounds: standard.into(),
            ends: (standard[0], standard[standard.len() - 1]),
            lists: family.explicit_bounds().count(),
        }
    })
}

/// The list with the bounds of explicit histograms that it lacks. A list for which there is no room is left out as a whole.
fn with_explicit(present: &ClassicBounds, family: &Family) -> Option<ClassicBounds> {
    let lists = family.explicit_bounds().count();
    if lists == present.lists {
        return None;
    }
    let (mut bounds, mut ends) = (present.bounds.to_vec(), present.ends);
    for explicit in family.explicit_bounds().skip(present.lists) {
        let (Some(first), Some(last)) = (explicit.first(), explicit.last()) else {
            continue;
        };
        let mut all = [&bounds, &**explicit].concat();
        all.sort_unstable_by(f64::total_cmp);
        all.dedup();
        if all.len() <= MAX_BOUNDS || bounds.is_empty() {
            bounds = all;
            ends = (ends.0.min(*first), ends.1.max(*last));
        }
    }
    Some(ClassicBounds {
        bounds: bounds.into(),
        ends,
        lists,
    })
}

/// The bounds with further ones at the ends. `ends`: the first and the last bound without those that were added earlier.
fn widen(bounds: &[f64], ends: (f64, f64), unit: &str, extent: &Extent) -> Arc<[f64]> {
    let steps = Steps::of(unit);
    let mut list: VecDeque<f64> = bounds.iter().copied().collect();
    let mut above = bounds.iter().filter(|bound| **bound > ends.1).count();
    while let Some(last) = list.back().copied().filter(|last| *last < extent.high)
        && above < Reach::MAX_STEPS
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
        above += 1;
    }
    let mut below = bounds.iter().filter(|bound| **bound < ends.0).count();
    while let Some(first) = list
        .front()
        .copied()
        .filter(|first| *first > 0.0 && *first > extent.low)
        && below < Reach::MAX_STEPS
        && list.len() < MAX_BOUNDS
    {
        list.push_front(steps.below(first));
        below += 1;
    }
    let (nearest, farthest) = extent.negative;
    while let Some(first) = list
        .front()
        .copied()
        .filter(|first| farthest > 0.0 && -farthest < *first)
        && below < 2 * Reach::MAX_STEPS
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
        below += 1;
    }
    list.into_iter().collect()
}

/// The counts of an explicit histogram on the bounds of its family, which are its own and others: its values between two of its bounds
/// are counted under the upper one.
pub(super) fn onto(counts: &[u64], bounds: &[f64], family: &[f64]) -> Option<Vec<u64>> {
    let (above, counts) = counts.split_last()?;
    let mut own = bounds.iter().zip(counts).peekable();
    let shown = family.iter().map(|bound| {
        own.next_if(|(own, _)| *own == bound)
            .map_or(0, |(_, count)| *count)
    });
    let mut shown: Vec<u64> = shown.collect();
    shown.push(*above);
    (own.next().is_none() && bounds.len() == counts.len()).then_some(shown)
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
            known_below: None,
        }
    }

    fn extent(unit: &str, cell: &ExponentialCell) -> Extent {
        Extent::of(cell, Factor::ONE, Some(Reach::of(unit, [])))
    }

    fn ends(bounds: &[f64]) -> (f64, f64) {
        (bounds[0], bounds[bounds.len() - 1])
    }

    fn widened(unit: &str, cell: &ExponentialCell) -> (usize, Vec<f64>, usize) {
        let standard = standard(unit);
        let all = widen(standard, ends(standard), unit, &extent(unit, cell));
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
                let all = widen(bounds, ends(bounds), "1", &extent("1", cell));
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
        let below_all = extent("1", &cell(0, (-2_000, &[1]), (0, &[])));
        assert_eq!(*widen(&[-1.0], (-1.0, -1.0), "1", &below_all), [-1.0, 5e-324]);
        // The 21st of the values within the reach.
        check(&cell(0, (-2_000, &[1; 2_001]), (0, &[])), 2.5e-4);
        // Enough values beyond the near reach.
        check(&cell(0, (45, &[20]), (0, &[])), 5e13);
    }

    fn with_wild(values: u64, wild: (i32, u64)) -> ExponentialCell {
        // Bucket -6 is (0.0156, 0.031].
        let mut counts = vec![0; (wild.0 + 7) as usize];
        (counts[0], counts[(wild.0 + 6) as usize]) = (values, wild.1);
        cell(0, (-6, &counts), (0, &[]))
    }

    #[test]
    fn a_wild_value_adds_no_bounds() {
        let added = |cell: &ExponentialCell| {
            let (below, added, len) = widened("s", cell);
            assert!(len <= MAX_BOUNDS && below == 0);
            added
        };
        // 1.7e18 s is a time in nanoseconds.
        assert_eq!(added(&with_wild(100, (60, 1))), [0.0; 0]);
        assert_eq!(added(&with_wild(0, (60, 1))), [0.0; 0]);
        // Twelve days: one value, too few of many, and enough.
        let days = 1e6_f64.log2() as i32;
        assert_eq!(added(&with_wild(100, (days, 19))), [0.0; 0]);
        assert_eq!(added(&with_wild(10_000, (days, 20))), [0.0; 0]);
        assert_eq!(added(&with_wild(1_000, (days, 20))).last(), Some(&2.5e6));
        // A thousand times the last bound: any value.
        assert_eq!(added(&with_wild(1_000_000, (12, 1))).last(), Some(&1e4));
        // Even if all values are far away, the other end keeps its room.
        assert!(added(&with_wild(0, (38, 1_000))).len() <= Reach::MAX_STEPS);
        assert_eq!(added(&with_wild(0, (60, 1_000))), [0.0; 0]);
        let tiny = cell(0, (-60, &[1, 0, 0, 100]), (0, &[]));
        assert_eq!(widened("s", &tiny).0, 0, "1e-18 s");
        let micros = cell(0, (-19, &[100, 0, 4]), (0, &[]));
        assert_eq!(widened("s", &micros).1[0], 1e-6);
    }

    #[test]
    fn a_coarse_first_bucket_adds_bounds_for_a_decade() {
        // Scale -10: one bucket from 2^-1024 to 1.
        let coarse = cell(-10, (-1, &[1_000]), (0, &[]));
        assert_eq!(widened("1", &coarse).1, [0.1, 0.25, 0.5, 1.0, 2.5]);
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
        check(&[1.0, 1.5, 2.0, 9.0], Some(&[1, 0, 2, 0, 3]));
        check(&[1.0, 1.5], None);
        check(&[2.0, 5.0], None);
        check(&[], None);
    }
}
