//! Limits of the store, each with its unit. The `limits` section of the configuration sets most of them, under its own key names:
//! `memory` is [`Limits::memory_bytes`], `in_flight` is [`Limits::in_flight_bytes`], `label_value` is [`Limits::label_value_bytes`], `replay_time` is [`Limits::replay_seconds`],
//! `lease_time` is [`Limits::lease_seconds`].

/// Bounds on the state of the collector. What a limit drops is counted in the ledger with the limit's own reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Series in total.
    pub series: usize,
    /// Series of one source.
    pub series_per_source: usize,
    /// Series of one metric of one source.
    pub series_per_metric: usize,
    /// Accounted bytes of all series: cells, labels, tables.
    pub memory_bytes: usize,
    /// Bytes of all data in flight: pages, scraped and received bodies, queues of subscribers, replay.
    pub in_flight_bytes: usize,
    /// Open and lingering sources.
    pub sources: usize,
    /// Fingerprints of one series; a sender that changes the order of attributes cannot grow the table further.
    pub aliases_per_series: usize,
    /// Labels of one series; a series with more is not admitted.
    pub labels: usize,
    /// Bytes of one label name; a series with a longer one is not admitted.
    pub label_name_bytes: usize,
    /// Bytes of one label value; longer ones are cut. Also of a metric's name and unit and of a scope's name and version; a series with a
    /// longer one is not admitted.
    pub label_value_bytes: usize,
    /// Explicit buckets of one histogram, and buckets of one exponential histogram.
    pub buckets: usize,
    /// Event schemas.
    pub schemas: usize,
    /// Bytes of raw events for replay, per signal.
    pub replay_bytes: usize,
    /// Age of raw events for replay, in seconds; older ones are removed when the next ones arrive.
    pub replay_seconds: u64,
    /// Time for which the events of a subscription that has ended are still requested from relays, in seconds. There are at most as many
    /// such leases as subscribers.
    pub lease_seconds: u64,
    /// Concurrent subscribers.
    pub subscribers: usize,
    /// Batches queued for one subscriber.
    pub subscriber_batches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            series: 1_000_000,
            series_per_source: 500_000,
            series_per_metric: 100_000,
            memory_bytes: 512 << 20,
            in_flight_bytes: 256 << 20,
            sources: 10_000,
            aliases_per_series: 8,
            labels: 64,
            label_name_bytes: 256,
            label_value_bytes: 2_048,
            buckets: 512,
            schemas: 4_096,
            replay_bytes: 8 << 20,
            replay_seconds: 60,
            lease_seconds: 30,
            subscribers: 256,
            subscriber_batches: 1_024,
        }
    }
}
