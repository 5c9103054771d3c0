//! Copies of series, for exporters.

use crate::classic::known;
use crate::ledger::HiddenReason;
use crate::series::meta::SeriesMeta;
use crate::series::values::{ExponentialCell, HistogramCell, SummaryCell};
use dichroic_model::{Exemplar, Number, UnixNanos};
use std::sync::Arc;

/// A copy of one series.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its metadata.
    pub meta: Arc<SeriesMeta>,
    /// Its raw value; the meta's factor converts it to the metric's unit.
    pub value: RowValue,
    /// Start of the count; if not stated by the sender, the time of the first point or of the last reset.
    pub start: UnixNanos,
    /// Whether the sender stated `start`.
    pub start_explicit: bool,
    /// Time of its last point.
    pub time: UnixNanos,
    /// The reason if pages do not show it.
    pub hidden: Option<HiddenReason>,
    /// Processes whose totals were added up, because they write one series.
    pub writers: usize,
    /// Several processes write the series with one start, so that their totals cannot be added up.
    pub share_start: bool,
    /// Deltas of the histogram had several lists of bounds; it has those that all have in common.
    pub lost_bounds: bool,
    /// Its newest exemplar.
    pub exemplar: Option<Arc<Exemplar>>,
}

/// A copied value.
#[derive(Debug, Clone)]
pub enum RowValue {
    /// A gauge, sum, unknown, info or state.
    Number(Number),
    /// Explicit buckets.
    Histogram(Box<HistogramCell>),
    /// Exponential buckets.
    Exponential(Arc<ExponentialCell>),
    /// Quantiles.
    Summary(Box<SummaryCell>),
}

impl Row {
    /// A number in the metric's unit; an integer remains one if no conversion is needed.
    pub fn scaled(&self, raw: Number) -> Number {
        if self.meta.factor.is_one() {
            raw
        } else {
            Number::float(self.meta.factor.apply(raw.to_f64()))
        }
    }
}

impl RowValue {
    /// Adds a value of the same metric and raw unit. Buckets whose bounds differ are added up at the bounds that both have, where
    /// cumulative counts are exact.
    pub(crate) fn add(&mut self, other: &RowValue, max_buckets: usize, meta: &SeriesMeta) {
        match (self, other) {
            (RowValue::Number(sum), RowValue::Number(other)) => sum.add(*other),
            (RowValue::Histogram(sum), RowValue::Histogram(other)) => sum.add(other),
            (RowValue::Exponential(sum), RowValue::Exponential(other)) => {
                let (sum, other) = (Arc::make_mut(sum), (**other).clone());
                let exact = sum.has_layout_of(&other)
                    && other.known_below.is_none()
                    && sum.absorbs(&other, max_buckets);
                // Refused only for indexes that no float has.
                let _added = if exact {
                    sum.merge(other, max_buckets)
                } else {
                    known::merge(sum, other, max_buckets, meta)
                };
            }
            (_, _) => {}
        }
    }
}
