//! Points as receivers write them, in raw units.

use dichroic_model::Number;

/// A histogram point with explicit buckets, in raw units. Counts are per bucket (not accumulated), one more than bounds.
#[derive(Debug, Clone, Copy)]
pub struct HistogramPoint<'a> {
    /// Per bucket.
    pub counts: &'a [u64],
    /// The sum, if the sender has one.
    pub sum: Option<Number>,
    /// Minimum and maximum, if the sender has them.
    pub min_max: Option<(f64, f64)>,
}

/// Exponential buckets of one sign.
#[derive(Debug, Clone, Copy, Default)]
pub struct Buckets<'a> {
    /// Index of the first.
    pub offset: i32,
    /// Counts from there on.
    pub counts: &'a [u64],
}

/// An exponential histogram point.
#[derive(Debug, Clone, Copy)]
pub struct ExponentialPoint<'a> {
    /// Resolution, -10 to 20.
    pub scale: i32,
    /// In the zero bucket.
    pub zero_count: u64,
    /// Its width.
    pub zero_threshold: f64,
    /// Above zero.
    pub positive: Buckets<'a>,
    /// Below zero.
    pub negative: Buckets<'a>,
    /// The sum, if the sender has one.
    pub sum: Option<Number>,
    /// Minimum and maximum, if the sender has them.
    pub min_max: Option<(f64, f64)>,
}

/// A summary point.
#[derive(Debug, Clone, Copy)]
pub struct SummaryPoint<'a> {
    /// Observations.
    pub count: u64,
    /// Their sum.
    pub sum: Number,
    /// (quantile, value)
    pub quantiles: &'a [(f64, f64)],
}
