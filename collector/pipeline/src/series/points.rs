//! Points that receivers write, in raw units.

use dichroic_model::Number;

/// A histogram point with explicit buckets, in raw units. Counts are not cumulative; there is one more than bounds.
#[derive(Debug, Clone, Copy)]
pub struct HistogramPoint<'a> {
    /// The count of each bucket.
    pub counts: &'a [u64],
    /// The sum, if the sender has one.
    pub sum: Option<Number>,
    /// Minimum and maximum, if the sender has them.
    pub min_max: Option<(f64, f64)>,
}

/// Exponential buckets of one sign.
#[derive(Debug, Clone, Copy, Default)]
pub struct Buckets<'a> {
    /// Index of the first bucket.
    pub offset: i32,
    /// Counts of the buckets from `offset` on.
    pub counts: &'a [u64],
}

/// An exponential histogram point.
#[derive(Debug, Clone, Copy)]
pub struct ExponentialPoint<'a> {
    /// Resolution, -10 to 20.
    pub scale: i32,
    /// Count of the zero bucket.
    pub zero_count: u64,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Buckets above zero.
    pub positive: Buckets<'a>,
    /// Buckets below zero.
    pub negative: Buckets<'a>,
    /// The sum, if the sender has one.
    pub sum: Option<Number>,
    /// Minimum and maximum, if the sender has them.
    pub min_max: Option<(f64, f64)>,
}

/// A summary point.
#[derive(Debug, Clone, Copy)]
pub struct SummaryPoint<'a> {
    /// Number of observations.
    pub count: u64,
    /// Sum of the observations.
    pub sum: Number,
    /// (quantile, value)
    pub quantiles: &'a [(f64, f64)],
}
