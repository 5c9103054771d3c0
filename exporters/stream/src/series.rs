//! Maps a series of the store to the series of a subscriber: one, or several for a summary, each with a number or with buckets.
//!
//! The wire has numbers and histograms. A summary becomes numbers, as on a Prometheus page: its quantiles under its name with a
//! label `quantile` (type `summary`), its sum and count under `NAME.sum` and `NAME.count` (`_sum` and `_count` for scraped names;
//! type `counter`).

use crate::encode::{attribute_map, attribute_value};
use dichroic_model::{Factor, NameStyle, Number};
use dichroic_pipeline::ExponentialCell;
use dichroic_pipeline::{Row, RowValue};
use dichroic_wire::define::{Buckets, SubscriberSeries};
use dichroic_wire::{Bucket, Map, Side, Value, limits};
use std::sync::Arc;

/// The part of a store's series that a subscriber's series shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SeriesPart {
    /// The whole series.
    Whole,
    /// A summary's quantile, by its bits.
    Quantile(u64),
    /// A summary's sum.
    Sum,
    /// A summary's count.
    Count,
}

/// The buckets of a series. A change needs a new definition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BucketLayout {
    /// No buckets.
    None,
    /// Base-2 exponential.
    Scale(i64),
    /// Upper bounds.
    Bounds(Arc<[f64]>),
}

/// A value in the exported unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reading {
    Number(Number),
    /// The sum is NaN if the sender reports none. Buckets ascend by side and index; none is empty.
    Histogram {
        sum: Number,
        buckets: Vec<Bucket>,
    },
}

/// Calls `each` for every part of a row.
pub(crate) fn read(row: &Row, mut each: impl FnMut(SeriesPart, BucketLayout, Reading)) {
    match &row.value {
        RowValue::Number(number) => each(
            SeriesPart::Whole,
            BucketLayout::None,
            Reading::Number(row.scaled(*number)),
        ),
        RowValue::Histogram(cell) => {
            let counts = cell
                .counts
                .iter()
                .enumerate()
                .map(|(at, count)| positive(at as i16, *count));
            let buckets = counts.filter(|bucket| bucket.count > 0).collect();
            let sum = sum(row, cell.sum);
            let layout = BucketLayout::Bounds(cell.bounds.clone());
            each(SeriesPart::Whole, layout, Reading::Histogram { sum, buckets });
        }
        RowValue::Exponential(cell) => {
            let (scale, buckets) = exponential(cell, row.meta.factor);
            let sum = sum(row, cell.sum);
            each(
                SeriesPart::Whole,
                BucketLayout::Scale(scale),
                Reading::Histogram { sum, buckets },
            );
        }
        RowValue::Summary(cell) => {
            for (quantile, value) in &cell.quantiles {
                let value = row.scaled(Number::float(*value));
                each(
                    SeriesPart::Quantile(quantile.to_bits()),
                    BucketLayout::None,
                    Reading::Number(value),
                );
            }
            each(
                SeriesPart::Sum,
                BucketLayout::None,
                Reading::Number(row.scaled(cell.sum)),
            );
            let count = Number::int(i64::try_from(cell.count).unwrap_or(i64::MAX));
            each(SeriesPart::Count, BucketLayout::None, Reading::Number(count));
        }
    }
}

fn sum(row: &Row, sum: Option<Number>) -> Number {
    sum.map_or(Number::float(f64::NAN), |sum| row.scaled(sum))
}

fn positive(index: i16, count: u64) -> Bucket {
    let side = Side::Positive;
    Bucket { index, side, count }
}

/// Buckets at the finest scale whose indexes and count fit the wire. Halving the resolution merges neighbors and keeps their counts.
///
/// A factor moves the indexes by a number that is not whole; it is rounded, so that an edge is wrong by at most half a bucket.
fn exponential(cell: &ExponentialCell, factor: Factor) -> (i64, Vec<Bucket>) {
    let shift = (factor.apply(1.0).log2() * f64::from(cell.scale).exp2()).round() as i64;
    let first = |offset: i32| i64::from(offset) + shift;
    let mut by = 0;
    loop {
        let fits = |(offset, counts): &(i32, Vec<u64>)| {
            let last = first(*offset) + counts.len() as i64 - 1;
            let span = (last >> by) - (first(*offset) >> by);
            counts.is_empty()
                || (i16::try_from(first(*offset) >> by).is_ok()
                    && i16::try_from(last >> by).is_ok()
                    && span < limits::BUCKETS_PER_ROW as i64 / 2 - 1)
        };
        if fits(&cell.positive) && fits(&cell.negative) || by == 63 {
            break;
        }
        by += 1;
    }
    let mut buckets = Vec::new();
    if cell.zero_count > 0 {
        buckets.push(Bucket {
            index: 0,
            side: Side::Zero,
            count: cell.zero_count,
        });
    }
    for (side, (offset, counts)) in [(Side::Positive, &cell.positive), (Side::Negative, &cell.negative)] {
        for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let index = ((first(*offset) + at as i64) >> by) as i16;
            match buckets.last_mut() {
                Some(last) if (last.side, last.index) == (side, index) => {
                    last.count = last.count.saturating_add(*count);
                }
                _ => buckets.push(Bucket {
                    index,
                    side,
                    count: *count,
                }),
            }
        }
    }
    (i64::from(cell.scale) - by, buckets)
}

/// The definition of a part. `source` is the source's id on the connection.
pub(crate) fn definition(
    row: &Row,
    part: SeriesPart,
    layout: &BucketLayout,
    source: u32,
) -> SubscriberSeries {
    let meta = &row.meta;
    let metric = &meta.metric;
    let mut labels: Map = attribute_map(&meta.source.spec.labels);
    labels.extend(attribute_map(&meta.attributes()));
    for (name, value) in meta.distinguishing() {
        let taken = labels.contains_key(&*name);
        let name = if taken {
            format!("resource.{name}")
        } else {
            name.into_owned()
        };
        if name.len() <= limits::KEY_BYTES {
            labels.insert(name, attribute_value(value));
        }
    }
    let suffixed = |suffix: &str| match metric.style {
        NameStyle::OpenTelemetry => format!("{}.{suffix}", metric.name),
        NameStyle::Verbatim | NameStyle::Scraped => format!("{}_{suffix}", metric.name),
    };
    let (name, metric_type) = match part {
        SeriesPart::Whole => (metric.name.clone(), metric.kind.as_str()),
        SeriesPart::Quantile(bits) => {
            let quantile = f64::from_bits(bits).to_string();
            labels.insert("quantile".to_owned(), Value::Str(quantile));
            (metric.name.clone(), "summary")
        }
        SeriesPart::Sum => (suffixed("sum"), "counter"),
        SeriesPart::Count => (suffixed("count"), "counter"),
    };
    let non_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    SubscriberSeries {
        name,
        metric_type: metric_type.to_owned(),
        source,
        labels,
        unit: non_empty(&metric.unit).filter(|_| part != SeriesPart::Count),
        start: (row.start != 0).then_some(row.start as i64),
        help: non_empty(dichroic_model::attributes::cut(&metric.help, 1_024)),
        buckets: match layout {
            BucketLayout::None => None,
            BucketLayout::Scale(scale) => Some(Buckets::Scale(*scale)),
            BucketLayout::Bounds(bounds) => Some(Buckets::Bounds(bounds.to_vec())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(scale: i32, positive: (i32, Vec<u64>)) -> ExponentialCell {
        ExponentialCell {
            scale,
            zero_count: 2,
            zero_threshold: 0.0,
            positive,
            negative: (-3, vec![4]),
            sum: None,
            min_max: None,
            known_below: None,
        }
    }

    #[test]
    fn buckets_that_fit_the_wire_are_unchanged() {
        let (scale, buckets) = exponential(&cell(3, (-79, vec![3, 0, 1])), Factor::ONE);
        let flat: Vec<_> = buckets
            .iter()
            .map(|b| (b.side.code(), b.index, b.count))
            .collect();
        assert_eq!(
            (scale, flat),
            (3, vec![(0, 0, 2), (1, -79, 3), (1, -77, 1), (2, -3, 4)])
        );
    }

    #[test]
    fn buckets_are_in_the_exported_unit() {
        let to_base = |num, den, offset| {
            let factor = Factor::new(num, den).unwrap();
            let (scale, buckets) = exponential(&cell(3, (offset, vec![3])), factor);
            let positive = buckets
                .iter()
                .find(|bucket| bucket.side == Side::Positive)
                .unwrap();
            (scale, positive.index)
        };
        // Ten doublings of eight buckets each.
        assert_eq!(to_base(1_024, 1, 5), (3, 85));
        // 200 ms is in bucket 61 of scale 3, 0.2 s in bucket -19.
        assert_eq!(to_base(1, 1_000, 61), (3, -19));
    }

    #[test]
    fn buckets_beyond_the_wire_are_merged_to_a_coarser_scale_and_keep_their_counts() {
        for offset in [32_767, 1_000_000, -2_000_000, i32::MAX - 200, i32::MIN] {
            let (scale, buckets) = exponential(&cell(20, (offset, vec![1; 160])), Factor::ONE);
            let count: u64 = buckets.iter().map(|b| b.count).sum();
            assert_eq!(count, 2 + 160 + 4, "offset {offset}");
            assert!(scale < 20 && buckets.len() <= limits::BUCKETS_PER_ROW);
            let ascending = buckets
                .windows(2)
                .all(|w| (w[0].side, w[0].index) < (w[1].side, w[1].index));
            assert!(ascending, "offset {offset}");
        }
    }
}
