//! Series as they are copied out.

use crate::series::meta::SeriesMeta;
use crate::series::values::{ExponentialCell, HistogramCell, SummaryCell};
use dichroic_model::{Exemplar, Number, UnixNanos};
use std::sync::Arc;

/// One series, copied.
#[derive(Debug, Clone)]
pub struct Row {
    /// What stays true of it.
    pub meta: Arc<SeriesMeta>,
    /// Its value, raw: the meta's factor turns it into the metric's unit.
    pub value: RowValue,
    /// Since when it counts. Where the sender did not tell, the time of its first point here, or of the point that began anew.
    pub start: UnixNanos,
    /// Whether the sender told `start`.
    pub start_explicit: bool,
    /// Time of its last point.
    pub time: UnixNanos,
    /// Kept off pages: its name or labels there belong to another.
    pub hidden: bool,
    /// The newest example behind it.
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
