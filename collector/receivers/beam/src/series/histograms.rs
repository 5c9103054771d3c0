//! HISTOGRAMS rows → cells: explicit buckets by the number of their bound, exponential ones by index.

use super::{Applied, Kind, Met, SeriesTable, Wrong, unwrapped, wrapped};
use crate::plan::Measure;
use dichroic_model::{Number, UnixNanos};
use dichroic_pipeline::{Buckets, DropReason, ExponentialPoint, HistogramPoint, SeriesRef, Store};
use dichroic_wire::{HistogramRow, Side};

/// Observations that one histogram may have: a century at a billion a second, and no sum of counts overflows.
const COUNT_MOST: u64 = 1 << 62;

impl SeriesTable {
    /// A histogram's total.
    pub fn histogram(
        &mut self,
        store: &mut Store,
        row: &HistogramRow<'_>,
        time: UnixNanos,
        now: UnixNanos,
    ) -> Result<Applied, Wrong> {
        let (series, met) = match self.meet(store, row.series, now)? {
            Ok(met) => met,
            Err(applied) => return Ok(applied),
        };
        let entry = self.entries[row.series as usize];
        let measure = self.planned(entry.measure).cloned();
        if row.count() > COUNT_MOST {
            return Err(Wrong(format!(
                "series {}: no histogram counts to {}",
                row.series,
                row.count()
            )));
        }
        match (entry.kind, measure) {
            (Kind::Histogram, Some(measure)) => self.explicit(store, row, series, &measure, met, (time, now)),
            (Kind::Exponential, Some(measure)) => {
                self.exponential(store, row, series, &measure, met, (time, now))
            }
            _ => Err(Wrong(format!(
                "series {} is a number, HISTOGRAMS has a row for it",
                row.series
            ))),
        }
    }

    fn explicit(
        &mut self,
        store: &mut Store,
        row: &HistogramRow<'_>,
        series: SeriesRef,
        measure: &Measure,
        met: Met,
        (time, now): (UnixNanos, UnixNanos),
    ) -> Result<Applied, Wrong> {
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
        let mut past = None;
        if met == Met::Continues
            && let Some(held) = store.histogram(series)
        {
            if held.counts().zip(&self.counts).any(|(held, count)| *count < held) {
                self.backwards += 1;
                return Ok(Applied::Dropped(DropReason::Backwards));
            }
            past = held.sum();
        }
        let sum = self.sum(row, past);
        let point = HistogramPoint {
            counts: &self.counts,
            sum: Some(sum),
            min_max: None,
        };
        let start = self.entries[row.series as usize].start;
        Ok(applied(store.set_histogram(series, &point, start, time, now)))
    }

    fn exponential(
        &mut self,
        store: &mut Store,
        row: &HistogramRow<'_>,
        series: SeriesRef,
        measure: &Measure,
        met: Met,
        (time, now): (UnixNanos, UnixNanos),
    ) -> Result<Applied, Wrong> {
        let (scale, least, greatest) = measure.grid.unwrap_or((0, 0, 0));
        let mut past = None;
        if met == Met::Continues
            && let Some(held) = store.exponential(series)
        {
            if row.count() < held.count() {
                self.backwards += 1;
                return Ok(Applied::Dropped(DropReason::Backwards));
            }
            past = held.sum;
        }
        let sum = self.sum(row, past);
        // Both sides in one scratch: positive buckets, then negative ones. The plan's octaves bound their number.
        self.counts.clear();
        let mut zero_count = 0;
        let mut sides = [(0_i32, 0_usize); 2];
        for bucket in row.buckets() {
            let side = match bucket.side {
                Side::Zero => {
                    zero_count = bucket.count;
                    continue;
                }
                Side::Positive => &mut sides[0],
                Side::Negative => &mut sides[1],
            };
            if !(least..=greatest).contains(&bucket.index) {
                return Err(bad_bucket(row.series, bucket.index));
            }
            let index = i32::from(bucket.index);
            if side.1 == 0 {
                side.0 = index;
            }
            // Buckets ascend by side and index, so those between are empty.
            let place = (index - side.0) as usize;
            self.counts.resize(self.counts.len() + place - side.1, 0);
            self.counts.push(bucket.count);
            side.1 = place + 1;
        }
        let [(positive, split), (negative, _)] = sides;
        let point = ExponentialPoint {
            scale,
            zero_count,
            zero_threshold: 0.0,
            positive: Buckets {
                offset: positive,
                counts: &self.counts[..split],
            },
            negative: Buckets {
                offset: negative,
                counts: &self.counts[split..],
            },
            sum: Some(sum),
            min_max: None,
        };
        let start = self.entries[row.series as usize].start;
        Ok(applied(store.set_exponential(series, &point, start, time, now)))
    }

    fn sum(&mut self, row: &HistogramRow<'_>, past: Option<Number>) -> Number {
        let entry = &mut self.entries[row.series as usize];
        match past {
            Some(past) => entry.wraps += wrapped(past.int, row.sum_int),
            None => entry.wraps = 0,
        }
        unwrapped(row.sum_int, row.sum_float, entry.wraps)
    }
}

fn applied(result: Result<(), DropReason>) -> Applied {
    match result {
        Ok(()) => Applied::Yes,
        Err(reason) => Applied::Dropped(reason),
    }
}

fn bad_bucket(id: u32, index: i16) -> Wrong {
    Wrong(format!(
        "series {id} has no bucket {index}: the plan's bounds or octaves end before it"
    ))
}
