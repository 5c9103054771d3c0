//! The kinds of metrics in OpenTelemetry's data model, and those that only Prometheus has.
//!
//! Source: OpenTelemetry metrics data model 1.x, "Metric points"; OpenMetrics 1.0, "Metric types".

/// The kind of a metric, independent of its temporality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricKind {
    /// A current value; not additive.
    Gauge,
    /// A sum; monotonic ones are counters.
    Sum {
        /// Whether it only increases between restarts.
        monotonic: bool,
    },
    /// Buckets with explicit upper bounds.
    Histogram,
    /// Base-2 exponential buckets.
    ExponentialHistogram,
    /// Quantiles calculated by the sender.
    Summary,
    /// Prometheus `unknown`/`untyped`.
    Unknown,
    /// OpenMetrics info: labels with the value 1.
    Info,
    /// OpenMetrics state set: one series per state, 0 or 1.
    StateSet,
    /// OpenMetrics gauge histogram: buckets that may decrease.
    GaugeHistogram,
}

impl MetricKind {
    /// A counter.
    pub const COUNTER: MetricKind = MetricKind::Sum { monotonic: true };

    /// The name in the catalog and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Gauge => "gauge",
            MetricKind::Sum { monotonic: true } => "counter",
            MetricKind::Sum { monotonic: false } => "updowncounter",
            MetricKind::Histogram => "histogram",
            MetricKind::ExponentialHistogram => "exponential_histogram",
            MetricKind::Summary => "summary",
            MetricKind::Unknown => "unknown",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
            MetricKind::GaugeHistogram => "gaugehistogram",
        }
    }

    /// Its type on a Prometheus page.
    pub fn page_type(self) -> PageType {
        match self {
            MetricKind::Gauge | MetricKind::Sum { monotonic: false } => PageType::Gauge,
            MetricKind::Sum { monotonic: true } => PageType::Counter,
            MetricKind::Histogram | MetricKind::ExponentialHistogram => PageType::Histogram,
            MetricKind::Summary => PageType::Summary,
            MetricKind::Unknown => PageType::Unknown,
            MetricKind::Info => PageType::Info,
            MetricKind::StateSet => PageType::StateSet,
            MetricKind::GaugeHistogram => PageType::GaugeHistogram,
        }
    }
}

/// The type of a family on a page. Several kinds may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageType {
    /// `counter`
    Counter,
    /// `gauge`
    Gauge,
    /// `histogram`
    Histogram,
    /// `gaugehistogram` in OpenMetrics, `histogram` samples as `gauge`s in text
    GaugeHistogram,
    /// `summary`
    Summary,
    /// `info` in OpenMetrics, `gauge` in text
    Info,
    /// `stateset` in OpenMetrics, `gauge` in text
    StateSet,
    /// `unknown` in OpenMetrics, `untyped` in text
    Unknown,
}

/// The relation between successive points of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// A point covers the time since the start and replaces the previous one.
    Cumulative,
    /// A point covers the time since the previous one and is added.
    Delta,
}

/// A number with an exact integer part and a float part: the value is `int + float`.
///
/// Sums of integers are exact within 64 bits, beyond that floats; a sum of both kinds uses both parts. A gauge uses one part.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Number {
    /// The integer part.
    pub int: i64,
    /// The float part.
    pub float: f64,
}

impl Number {
    /// An integer.
    pub const fn int(int: i64) -> Self {
        Number { int, float: 0.0 }
    }

    /// A float.
    pub const fn float(float: f64) -> Self {
        Number { int: 0, float }
    }

    /// The nearest float. Exact while the integer part is within ±2^53 and the float part is zero.
    #[inline]
    pub fn to_f64(self) -> f64 {
        if self.int == 0 {
            self.float
        } else {
            self.int as f64 + self.float
        }
    }

    /// Adds both parts. An integer that does not fit 64 bits becomes a float.
    #[inline]
    pub fn add(&mut self, other: Number) {
        self.float += other.float;
        match self.int.checked_add(other.int) {
            Some(int) => self.int = int,
            None => {
                self.float += self.int as f64 + other.int as f64;
                self.int = 0;
            }
        }
    }

    /// The integer, if there is no float part.
    #[inline]
    pub fn as_int(self) -> Option<i64> {
        (self.float == 0.0).then_some(self.int)
    }
}

/// An exemplar: one measurement, with the trace it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The measured value, in the unit of the raw points.
    pub value: f64,
    /// When it was measured; 0 if not stated.
    pub time: crate::UnixNanos,
    /// Trace and span ids under `trace_id` and `span_id`, in hex, and its other attributes.
    pub attributes: crate::attributes::Attributes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_stay_exact_where_floats_would_round() {
        let mut sum = Number::int(1 << 53);
        sum.add(Number::int(1));
        assert_eq!(sum.as_int(), Some((1 << 53) + 1));
        sum.add(Number::float(0.5));
        assert_eq!(sum.as_int(), None);
        assert_eq!(sum.int, (1 << 53) + 1);
    }

    #[test]
    fn an_integer_beyond_64_bits_becomes_a_float() {
        let check = |ints: &[i64], expected: f64| {
            let mut sum = Number::default();
            ints.iter().for_each(|int| sum.add(Number::int(*int)));
            assert_eq!(sum.to_f64(), expected, "{ints:?}");
        };
        check(&[i64::MAX; 3], 3.0 * i64::MAX as f64);
        check(&[i64::MIN; 2], 2.0 * i64::MIN as f64);
        check(&[i64::MIN, i64::MIN, i64::MAX, i64::MAX], 0.0);
        check(&[i64::MAX, 1, -1], i64::MAX as f64);
    }

    #[test]
    fn a_float_keeps_its_sign_and_its_nan() {
        assert!(Number::float(-0.0).to_f64().is_sign_negative());
        assert!(Number::float(f64::NAN).to_f64().is_nan());
    }
}
