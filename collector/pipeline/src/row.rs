//! Series as they are copied out.

use crate::series::meta::SeriesMeta;
use crate::series::values::{ExponentialCell, HistogramCell, SummaryCell};
use dichroic_model::{Exemplar, Number, UnixNanos};
use std::sync::Arc;

/// One series, copied.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its metadata.
    pub meta: Arc<SeriesMeta>,
    /// Its value, raw: the meta's factor turns it into the metric's unit.
    pub value: RowValue,
    /// Start of the count. Without a stated start, the time of its first point here, or of the point that reset it.
    pub start: UnixNanos,
    /// Whether the sender stated `start`.
    pub start_explicit: bool,
    /// Time of its last point.
    pub time: UnixNanos,
    /// Not on pages: its name or labels there belong to another.
    pub hidden: bool,
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
    Exponential(Box<ExponentialCell>),
    /// Quantiles.
    Summary(Box<SummaryCell>),
}

impl Row {
    /// A number in the metric's unit; an integer stays one when no conversion is needed.
    pub fn scaled(&self, raw: Number) -> Number {
        if self.meta.factor.is_one() {
            raw
        } else {
            Number::float(self.meta.factor.apply(raw.to_f64()))
        }
    }
}
