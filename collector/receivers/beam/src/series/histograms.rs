//! HISTOGRAMS rows → cells: explicit buckets by the number of their bound, exponential ones by index.

use super::{Applied, Continuity, InvalidRow, RowKind, SeriesTable};
use crate::plan::Measure;
use dichroic_model::{Number, UnixNanos};
use dichroic_pipeline::{Buckets, Core, DropReason, ExponentialPoint, HistogramPoint, SeriesRef, Times};
use dichroic_wire::{Bucket, HistogramRow, Side};

/// Most observations of a histogram: a century at a billion per second; sums of counts cannot overflow.
const COUNT_MOST: u64 = 1 << 62;

impl SeriesTable {
    /// Applies a row of a histogram.
    pub fn histogram(
        &mut self,
        store: &mut Core,
        row: &HistogramRow<'_>,
        time: UnixNanos,
        now: UnixNanos,
    ) -> Result<Applied, InvalidRow> {
        let (series, continuity) = match self.resolve(store, row.series, now)? {
            Ok(resolved) => resolved,
            Err(applied) => return Ok(applied),
        };
        let entry = self.entries[row.series as usize];
        let measure = self.planned(entry.measure).cloned();
        if row.count() > COUNT_MOST {
            return Err(InvalidRow(format!(
                "series {}: count {} exceeds the limit of a histogram",
                row.series,
                row.count()
            )));
        }
        match (entry.kind, measure) {
            (RowKind::Histogram, Some(measure)) => {
                self.explicit(store, row, series, &measure, continuity, (time, now))
            }
            (RowKind::Exponential, Some(measure)) => {
                self.exponential(store, row, series, &measure, continuity, (time, now))
            }
            _ => Err(InvalidRow(format!(
                "series {} is a number, but HISTOGRAMS has a row for it",
                row.series
            ))),
        }
    }

    fn explicit(
        &mut self,
        store: &mut Core,
        row: &HistogramRow<'_>,
        series: SeriesRef,
        measure: &Measure,
        continuity: Continuity,
        (time, now): (UnixNanos, UnixNanos),
    ) -> Result<Applied, InvalidRow> {
        let bounds = measure.bounds.as_ref().map_or(0, |bounds| bounds.len());
        self.counts.clear();
        self.counts.resize(bounds + 1, 0);
        for bucket in row.buckets() {
            match usize::try_from(bucket.index)
                .ok()
                .and_then(|at| self.counts.get_mut(at))
            {
                Some(count) if bucket.side == Side::Positive => *count = bucket.count,
                _ => return Err(bad_bucket(row.series, bucket.index)),
            }
        }
        if continuity == Continuity::Continues
            && let Some(held) = store.histogram(series)
            && held.counts().zip(&self.counts).any(|(held, count)| *count < held)
        {
            self.backwards += 1;
            return Ok(Applied::Dropped(DropReason::Backwards));
        }
        let point = HistogramPoint {
            counts: &self.counts,
            sum: Some(sum(row)),
            min_max: None,
        };
        let start = self.entries[row.series as usize].start;
        Ok(Applied::from(store.set_histogram(
            series,
            &point,
            Times { start, time, now },
        )))
    }

    fn exponential(
        &mut self,
        store: &mut Core,
        row: &HistogramRow<'_>,
        series: SeriesRef,
        measure: &Measure,
        continuity: Continuity,
        (time, now): (UnixNanos, UnixNanos),
    ) -> Result<Applied, InvalidRow> {
        let (scale, least, greatest) = measure.grid.unwrap_or((0, 0, 0));
        if continuity == Continuity::Continues
            && let Some(held) = store.exponential(series)
            && row.count() < held.count()
        {
            self.backwards += 1;
            return Ok(Applied::Dropped(DropReason::Backwards));
        }
        let outside =
            |bucket: &Bucket| bucket.side != Side::Zero && !(least..=greatest).contains(&bucket.index);
        if let Some(bucket) = row.buckets().find(outside) {
            return Err(bad_bucket(row.series, bucket.index));
        }
        let filled = fill(row.buckets(), scale, store.limits().buckets, &mut self.counts);
        let point = ExponentialPoint {
            scale: filled.scale,
            zero_count: filled.zero_count,
            zero_threshold: 0.0,
            positive: Buckets {
                offset: filled.positive,
                counts: &self.counts[..filled.split],
            },
            negative: Buckets {
                offset: filled.negative,
                counts: &self.counts[filled.split..],
            },
            sum: Some(sum(row)),
            min_max: None,
        };
        let start = self.entries[row.series as usize].start;
        Ok(Applied::from(store.set_exponential(
            series,
            &point,
            Times { start, time, now },
        )))
    }
}

fn sum(row: &HistogramRow<'_>) -> Number {
    Number {
        int: row.sum_int,
        float: row.sum_float,
    }
}

/// Counters of an exponential histogram in one list: positive ones, then negative ones.
#[derive(Debug, PartialEq)]
struct Filled {
    scale: i32,
    zero_count: u64,
    /// Index of the first positive counter, how many there are, and the index of the first negative one.
    positive: i32,
    split: usize,
    negative: i32,
}

/// The coarsest scale that the store accepts; at it no side is wider than a few counters.
const SCALE_LEAST: i32 = -10;

/// Fills `counts` at the finest scale, `scale` or below it, at which neither side has more than `max` counters. Exact: halving
/// the resolution adds neighboring counters. The span is computed first, so that a wide row allocates at most `2 * max` counters.
fn fill(
    buckets: impl Iterator<Item = Bucket> + Clone,
    scale: i32,
    max: usize,
    counts: &mut Vec<u64>,
) -> Filled {
    let mut spans: [Option<(i32, i32)>; 2] = [None; 2];
    let mut zero_count = 0;
    for bucket in buckets.clone() {
        let index = i32::from(bucket.index);
        let span = match bucket.side {
            Side::Zero => {
                zero_count = bucket.count;
                continue;
            }
            Side::Positive => &mut spans[0],
            Side::Negative => &mut spans[1],
        };
        let (least, greatest) = span.unwrap_or((index, index));
        *span = Some((least.min(index), greatest.max(index)));
    }
    let width = |span: Option<(i32, i32)>, by: i32| {
        span.map_or(0, |(least, greatest)| {
            ((greatest >> by) - (least >> by)) as usize + 1
        })
    };
    let mut by = 0;
    while spans.iter().any(|span| width(*span, by) > max) && scale - by > SCALE_LEAST {
        by += 1;
    }
    let offset = |side: usize| spans[side].map_or(0, |(least, _)| least >> by);
    let (positive, split, negative) = (offset(0), width(spans[0], by), offset(1));
    counts.clear();
    counts.resize(split + width(spans[1], by), 0);
    for bucket in buckets {
        let index = i32::from(bucket.index) >> by;
        let at = match bucket.side {
            Side::Zero => continue,
            Side::Positive => index - positive,
            Side::Negative => index - negative + split as i32,
        };
        counts[at as usize] = counts[at as usize].saturating_add(bucket.count);
    }
    Filled {
        scale: scale - by,
        zero_count,
        positive,
        split,
        negative,
    }
}

fn bad_bucket(id: u32, index: i16) -> InvalidRow {
    InvalidRow(format!(
        "series {id} has no bucket {index}: it is outside the bounds or octaves of the plan"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One side as whole lists, halved step by step.
    fn halved(mut side: (i32, Vec<u64>)) -> (i32, Vec<u64>) {
        let first = side.0 >> 1;
        let mut counts: Vec<u64> = Vec::new();
        for (at, count) in side.1.drain(..).enumerate() {
            let half = (((side.0 + at as i32) >> 1) - first) as usize;
            counts.resize(counts.len().max(half + 1), 0);
            counts[half] += count;
        }
        (first, counts)
    }

    fn whole(buckets: &[Bucket], side: Side) -> (i32, Vec<u64>) {
        let of: Vec<&Bucket> = buckets.iter().filter(|bucket| bucket.side == side).collect();
        let first = of.first().map_or(0, |bucket| i32::from(bucket.index));
        let mut counts: Vec<u64> = Vec::new();
        for bucket in of {
            counts.resize((i32::from(bucket.index) - first) as usize, 0);
            counts.push(bucket.count);
        }
        (first, counts)
    }

    #[test]
    fn filling_at_the_final_scale_equals_halving_until_it_fits() {
        let mut state = u64::from(std::process::id()) | 1;
        println!("seed {state}");
        let mut below = |n: u64| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % n
        };
        for round in 0..500 {
            let (max, scale) = ([1, 2, 3, 20, 160, 512][below(6) as usize], below(9) as i32 - 4);
            let reach = [3, 200, 5_000, 30_000][below(4) as usize];
            let mut buckets = vec![Bucket {
                index: 0,
                side: Side::Zero,
                count: below(9) + 1,
            }];
            for side in [Side::Positive, Side::Negative] {
                let mut indexes: Vec<i16> = (0..below(40))
                    .map(|_| (below(2 * reach) as i64 - reach as i64) as i16)
                    .collect();
                indexes.sort_unstable();
                indexes.dedup();
                buckets.extend(indexes.iter().map(|index| Bucket {
                    index: *index,
                    side,
                    count: below(1_000) + 1,
                }));
            }
            let (mut positive, mut negative) =
                (whole(&buckets, Side::Positive), whole(&buckets, Side::Negative));
            let mut by = 0;
            while positive.1.len().max(negative.1.len()) > max && scale - by > SCALE_LEAST {
                (positive, negative, by) = (halved(positive), halved(negative), by + 1);
            }
            let mut counts = vec![7; 3];
            let filled = fill(buckets.iter().copied(), scale, max, &mut counts);
            let expected = Filled {
                scale: scale - by,
                zero_count: buckets[0].count,
                positive: positive.0,
                split: positive.1.len(),
                negative: negative.0,
            };
            assert_eq!(filled, expected, "round {round}");
            assert_eq!(counts, [positive.1, negative.1].concat(), "round {round}");
        }
    }

    #[test]
    fn the_widest_row_allocates_no_more_counters_than_the_limit() {
        let ends = [
            (i16::MIN, Side::Positive),
            (i16::MAX, Side::Positive),
            (i16::MIN, Side::Negative),
            (i16::MAX, Side::Negative),
        ];
        let buckets = ends.map(|(index, side)| Bucket {
            index,
            side,
            count: 1,
        });
        let mut counts = Vec::new();
        fill(buckets.iter().copied(), 4, 512, &mut counts);
        assert!(counts.capacity() <= 1_024, "{}", counts.capacity());
    }
}
