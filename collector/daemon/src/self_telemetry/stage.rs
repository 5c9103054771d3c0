//! Duration of a stage, such as rendering a page: exact buckets and sum, and quantiles from an HDR histogram.

use hdrhistogram::Histogram;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets, inclusive, in nanoseconds.
const BOUNDS: [u64; 10] = [
    10_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
];

/// Number of buckets, with the one above all bounds.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// Exported quantiles.
pub const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

/// The bounds in seconds, as they are exported.
pub fn bounds_seconds() -> Arc<[f64]> {
    BOUNDS.iter().map(|nanos| *nanos as f64 / 1e9).collect()
}

/// Durations of one stage since the start of the process. A clone records into the same counters.
///
/// Recording takes a lock for less than a microsecond. It is called once per page or tick, never per point.
#[derive(Clone)]
pub struct Stage {
    name: &'static str,
    latency: Arc<Mutex<Latency>>,
}

/// All measured stages.
#[derive(Clone)]
pub struct Stages {
    /// Rendering a page, from the request to the last byte.
    pub page: Stage,
    /// Delay of the ingest thread's timer: the time that other work kept the thread busy.
    pub ingest_lag: Stage,
}

impl Default for Stages {
    fn default() -> Self {
        Stages {
            page: Stage::new("page"),
            ingest_lag: Stage::new("ingest_lag"),
        }
    }
}

impl Stages {
    /// Copies the counters of all.
    pub fn read(&self) -> [Reading; 2] {
        [self.page.read(), self.ingest_lag.read()]
    }
}

struct Latency {
    buckets: [u64; BUCKETS],
    sum_nanos: u64,
    /// For quantiles only: values are rounded to two significant digits.
    histogram: Histogram<u64>,
}

/// A copy of one stage's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Name of the stage.
    pub name: &'static str,
    /// Observations per bucket, not cumulative.
    pub buckets: [u64; BUCKETS],
    /// Exact sum, in nanoseconds.
    pub sum_nanos: u64,
    /// Nanoseconds, to two significant digits, in the order of [`QUANTILES`]; zeros without observations.
    pub quantiles: [u64; QUANTILES.len()],
    /// The longest duration, in nanoseconds, to two significant digits.
    pub max_nanos: u64,
}

impl Reading {
    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Stage {
    /// A stage without observations.
    fn new(name: &'static str) -> Self {
        let histogram =
            Histogram::new_with_bounds(1_000, 100_000_000_000, 2).expect("fixed bounds are valid");
        let latency = Latency {
            buckets: [0; BUCKETS],
            sum_nanos: 0,
            histogram,
        };
        Stage {
            name,
            latency: Arc::new(Mutex::new(latency)),
        }
    }

    /// Adds an observation.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.buckets[BOUNDS.partition_point(|bound| *bound < nanos)] += 1;
        latency.sum_nanos = latency.sum_nanos.saturating_add(nanos);
        latency.histogram.saturating_record(nanos);
    }

    /// Copies the counters.
    pub fn read(&self) -> Reading {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        Reading {
            name: self.name,
            buckets: latency.buckets,
            sum_nanos: latency.sum_nanos,
            quantiles: QUANTILES.map(|quantile| latency.histogram.value_at_quantile(quantile)),
            max_nanos: latency.histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_bounds_are_inclusive() {
        let stage = Stage::new("s");
        for bound in BOUNDS {
            stage.record(Duration::from_nanos(bound));
            stage.record(Duration::from_nanos(bound + 1));
        }
        let mut expected = [2; BUCKETS];
        (expected[0], expected[BUCKETS - 1]) = (1, 1);
        assert_eq!(stage.read().buckets, expected);
        assert_eq!(stage.read().count(), 20);
    }

    #[test]
    fn the_sum_is_exact_even_beyond_the_range_of_the_histogram() {
        let stage = Stage::new("s");
        let mut sum = 0;
        for nanos in (1..50_000_000_u64).step_by(99_991).chain([0, 3_600_000_000_001]) {
            stage.record(Duration::from_nanos(nanos));
            sum += nanos;
        }
        assert_eq!(stage.read().sum_nanos, sum);
    }

    #[test]
    fn quantiles_have_two_significant_digits() {
        let stage = Stage::new("s");
        (1..=1_000).for_each(|micros| stage.record(Duration::from_micros(micros)));
        let reading = stage.read();
        for (value, exact) in reading.quantiles.into_iter().zip([500_000, 990_000, 999_000]) {
            assert!(
                value.abs_diff(exact) * 100 <= exact,
                "{value} is not near {exact}"
            );
        }
        assert!(reading.max_nanos.abs_diff(1_000_000) <= 10_000);
        assert_eq!(Stage::new("empty").read().quantiles, [0; 3]);
    }
}
