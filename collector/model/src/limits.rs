//! Every limit of the store, by name, with its unit. Configuration overrides them by the same names under `limits`.

/// Bounds on what the store keeps. What a limit drops is counted in the ledger under the limit's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Series in all.
    pub series: usize,
    /// Series of one source.
    pub series_per_source: usize,
    /// Series of one metric of one source.
    pub series_per_metric: usize,
    /// Accounted bytes of all series: cells, labels, tables.
    pub memory_bytes: usize,
    /// Sources open or lingering.
    pub sources: usize,
    /// Fingerprints kept for one series, so that shuffled attributes cannot grow the table.
    pub aliases_per_series: usize,
    /// Labels of one series.
    pub labels: usize,
    /// Bytes of one label name.
    pub label_name_bytes: usize,
    /// Bytes of one label value; longer ones are cut.
    pub label_value_bytes: usize,
    /// Explicit buckets of one histogram, and buckets of one exponential histogram.
    pub buckets: usize,
    /// Event schemas known at once.
    pub schemas: usize,
    /// Bytes of raw events kept for replay, per signal.
    pub replay_bytes: usize,
    /// Age of raw events kept for replay, in seconds.
    pub replay_seconds: u64,
    /// Subscribers at once.
    pub subscribers: usize,
    /// Batches that wait for one subscriber.
    pub subscriber_batches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            series: 1_000_000,
            series_per_source: 500_000,
            series_per_metric: 100_000,
            memory_bytes: 512 << 20,
            sources: 10_000,
            aliases_per_series: 8,
            labels: 64,
            label_name_bytes: 256,
            label_value_bytes: 2_048,
            buckets: 512,
            schemas: 4_096,
            replay_bytes: 8 << 20,
            replay_seconds: 60,
            subscribers: 256,
            subscriber_batches: 1_024,
        }
    }
}
