//! What is known of values inside buckets.
//!
//! When a histogram gets a coarser scale or another zero threshold, a bound between two buckets may be inside one, and the count at that
//! bound would fall, which Prometheus takes for a reset. So the values that were at or below it are remembered: an observation stays where
//! it was. Later ones are added to them by bucket, so that counts at bounds never fall within one start time, and stay lower bounds of
//! the true ones.

use super::counts::ClassicCounts;
use super::steps::{Reach, Steps, standard};
use crate::series::meta::SeriesMeta;
use crate::series::values::{ExponentialCell, KnownBelow};
use std::sync::Arc;

/// [`ExponentialCell::merge`] that keeps what is known of the values of both, so that no count at a bound falls.
#[cold]
pub(crate) fn merge(
    into: &mut ExponentialCell,
    other: ExponentialCell,
    max: usize,
    meta: &SeriesMeta,
) -> bool {
    let (held, added) = (into.clone(), other.clone());
    let merged = into.merge(other, max);
    let parts: &[_] = if merged { &[&held, &added] } else { &[&held] };
    into.known_below = known_below(parts, into, meta);
    merged
}

/// What is known of the values of `merged` from the histograms that it consists of, or from the one that it replaces.
#[cold]
pub(crate) fn known_below(
    parts: &[&ExponentialCell],
    merged: &ExponentialCell,
    meta: &SeriesMeta,
) -> Option<Arc<KnownBelow>> {
    let bounds: Arc<[f64]> = possible_bounds(parts, merged, meta).into();
    let mut classic = ClassicCounts::default();
    let mut known = vec![0_u64; bounds.len()];
    for part in parts {
        let mut below: u64 = 0;
        let counts = classic.counts(part, meta.factor, &bounds);
        for (known, count) in known.iter_mut().zip(counts) {
            below = below.saturating_add(*count);
            *known = known.saturating_add(below);
        }
    }
    let mut below: u64 = 0;
    let counts = classic.by_bucket(merged, meta.factor, &bounds);
    for (known, count) in known.iter_mut().zip(counts) {
        below = below.saturating_add(*count);
        *known = known.saturating_sub(below);
    }
    let pairs = bounds.iter().copied().zip(known);
    let known: Arc<KnownBelow> = pairs.filter(|(_, count)| *count > 0).collect();
    (!known.is_empty()).then_some(known)
}

/// All bounds inside of the buckets of the histograms that a page may have.
fn possible_bounds(parts: &[&ExponentialCell], merged: &ExponentialCell, meta: &SeriesMeta) -> Vec<f64> {
    let metric = &meta.metric;
    let explicit = || metric.family.explicit_bounds().map(|bounds| &**bounds);
    let reach = Reach::of(&metric.unit, explicit());
    let (mut low, mut high, mut negative) = (f64::INFINITY, 0.0_f64, false);
    for cell in parts.iter().copied().chain([merged]) {
        for side in [&cell.positive, &cell.negative] {
            if let Some((from, to)) = edges(cell.scale, side) {
                (low, high) = (low.min(from), high.max(to));
            }
        }
        if cell.zero_count > 0 {
            high = high.max(cell.zero_threshold);
            let moved = cell.zero_threshold != merged.zero_threshold;
            low = if moved { 0.0 } else { low };
        }
        negative |= !cell.negative.1.is_empty();
    }
    let scaled = |edge: f64| meta.factor.apply(edge);
    let (low, high) = (scaled(low).max(reach.far.0), scaled(high).min(reach.far.1));
    // Metrics with other units may share the family.
    let steps = [Steps::Decades, Steps::Fours].map(|steps| steps.within(low, high));
    let steps = steps.into_iter().flatten().copied();
    let mirrored = steps.clone().filter(|_| negative).map(|step| -step);
    let lists = explicit().chain([standard(&metric.unit)]).flatten().copied();
    let known = parts.iter().filter_map(|part| part.known_below.as_deref());
    let known = known.flatten().map(|(bound, _)| *bound);
    let mut all: Vec<f64> = mirrored
        .chain(steps)
        .chain(lists)
        .chain(known)
        .chain([0.0])
        .collect();
    all.sort_unstable_by(f64::total_cmp);
    all.dedup();
    all
}

/// The edges of the first and of the last bucket, raw.
fn edges(scale: i32, (offset, counts): &(i32, Vec<u64>)) -> Option<(f64, f64)> {
    let edge = |index: i64| (index as f64 * f64::from(-scale).exp2()).exp2();
    let offset = i64::from(*offset);
    (!counts.is_empty()).then(|| (edge(offset), edge(offset + counts.len() as i64)))
}
