//! Writes points into cells and counts their samples.

use std::ops::Range;

use dichroic_model::{Number, UnixNanos};
use dichroic_pipeline::{Core, DropReason, HistogramPoint, SummaryPoint, Times, Written};

use super::account::PageAccount;
use super::exposition::ScrapeTimes;
use super::points::{Memory, NO_TIME, Point};
use crate::parse::FamilyKind;

/// Writes the values noted in memory for some of its points.
pub(super) fn apply(
    memory: &Memory,
    store: &mut Core,
    times: ScrapeTimes,
    points: Range<usize>,
    account: &mut PageAccount,
) {
    let mut writer = Writer {
        memory,
        store,
        times,
        counts: Vec::new(),
        quantiles: Vec::new(),
    };
    for point in &memory.points[points] {
        let samples = u64::from(point.samples);
        match writer.write(point) {
            Ok(written) => account.written(written, samples),
            Err(reason) => {
                // Values that no longer make up a histogram are kept one by one, which only parsing does.
                account.must_rebuild |= matches!(reason, DropReason::SeriesGone | DropReason::Buckets);
                account.drop(reason, samples);
            }
        }
    }
}

struct Writer<'m> {
    memory: &'m Memory,
    store: &'m mut Core,
    times: ScrapeTimes,
    counts: Vec<u64>,
    quantiles: Vec<(f64, f64)>,
}

impl Writer<'_> {
    #[inline]
    fn write(&mut self, point: &Point) -> Result<Written, DropReason> {
        let series = point.series?;
        let (start, now) = (self.start(point), self.times.now);
        match point.kind {
            FamilyKind::Histogram | FamilyKind::GaugeHistogram => {
                self.fill_counts(point)?;
                let sum = self.memory.value(point.sum).map(number);
                let histogram = HistogramPoint {
                    counts: &self.counts,
                    sum,
                    min_max: None,
                };
                self.store.set_histogram(
                    series,
                    &histogram,
                    Times {
                        start,
                        time: self.time(point),
                        now,
                    },
                )
            }
            FamilyKind::Summary => {
                self.quantiles.clear();
                let parts = self
                    .memory
                    .bounds_of(point)
                    .iter()
                    .zip(self.memory.parts_of(point));
                self.quantiles
                    .extend(parts.filter_map(|(&q, &line)| Some((q, self.memory.value(line)?))));
                let summary = SummaryPoint {
                    count: self.memory.value(point.main).map_or(Ok(0), whole)?,
                    sum: number(self.memory.value(point.sum).unwrap_or(0.0)),
                    quantiles: &self.quantiles,
                };
                self.store.set_summary(
                    series,
                    &summary,
                    Times {
                        start,
                        time: self.time(point),
                        now,
                    },
                )
            }
            _ => {
                let value = self.memory.value(point.main).ok_or(DropReason::Malformed)?;
                self.store.set_number(
                    series,
                    number(value),
                    Times {
                        start,
                        time: self.time(point),
                        now,
                    },
                )
            }
        }
    }

    /// Converts cumulative bucket counts to counts per bucket. Counts that are fractional or decrease, or do not add up to the total,
    /// are an error.
    fn fill_counts(&mut self, point: &Point) -> Result<(), DropReason> {
        self.counts.clear();
        let mut below = 0;
        for &line in self.memory.parts_of(point) {
            let count = whole(self.memory.value(line).unwrap_or(f64::NAN))?;
            self.counts
                .push(count.checked_sub(below).ok_or(DropReason::Buckets)?);
            below = count;
        }
        match self.memory.value(point.main) {
            Some(total) if total == below as f64 => Ok(()),
            _ => Err(DropReason::Buckets),
        }
    }

    fn start(&self, point: &Point) -> UnixNanos {
        match self.memory.value(point.created) {
            // Saturates; an absurd start time is clamped by the store.
            Some(seconds) if seconds > 0.0 => ((seconds * 1e6).round() as u64).saturating_mul(1_000),
            _ => 0,
        }
    }

    /// The timestamp of its value, or of its last part; otherwise the time of the scrape.
    fn time(&self, point: &Point) -> UnixNanos {
        let line = self.memory.parts_of(point).last().copied().unwrap_or(point.main);
        match self.memory.time(line) {
            time if time != NO_TIME && self.times.honor_timestamps => u64::try_from(time).unwrap_or(0),
            _ => self.times.scraped,
        }
    }
}

/// Whole numbers become integers: they render faster, and their sums stay exact.
#[inline]
fn number(value: f64) -> Number {
    const EXACT: f64 = (1u64 << 53) as f64;
    let whole = value as i64;
    if value.abs() < EXACT && whole as f64 == value && (whole != 0 || value.is_sign_positive()) {
        Number::int(whole)
    } else {
        Number::float(value)
    }
}

pub(super) fn whole(value: f64) -> Result<u64, DropReason> {
    const ABOVE: f64 = 18_446_744_073_709_551_616.0; // 2^64
    if (0.0..ABOVE).contains(&value) && value.fract() == 0.0 {
        Ok(value as u64)
    } else {
        Err(DropReason::Buckets)
    }
}
