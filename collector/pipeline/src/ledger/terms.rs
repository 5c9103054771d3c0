//! What is counted, and the reasons that the terms of an account have.

use crate::reasons::reasons;

/// The kind of item that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// Data points.
    Metrics,
    /// Raw events.
    Events,
    /// Log records.
    Logs,
    /// Spans; not supported yet.
    Traces,
}

impl Signal {
    /// The name in the ledger's JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Events => "events",
            Signal::Logs => "logs",
            Signal::Traces => "traces",
        }
    }
}

reasons! {
    /// Why something was dropped. Each has its own counter.
    DropReason:
    /// The limit of series is reached.
    SeriesLimit = "series_limit",
    /// The limit of series of one source is reached.
    SeriesPerSource = "series_per_source",
    /// The limit of series of one metric is reached.
    SeriesPerMetric = "series_per_metric",
    /// The limit of accounted bytes is reached.
    MemoryLimit = "memory_limit",
    /// Too many sources.
    SourceLimit = "source_limit",
    /// Too many labels, or a name that is too long.
    LabelLimit = "label_limit",
    /// More buckets than allowed, or counts that do not fit their bounds.
    Buckets = "buckets",
    /// Too many event schemas.
    SchemaLimit = "schema_limit",
    /// Violates the format: wrong type, missing value, invalid number.
    Malformed = "malformed",
    /// A kind that is not supported yet.
    Unsupported = "unsupported",
    /// The same series twice in one page or request.
    Duplicate = "duplicate",
    /// Older than the previous point, or a total that decreased.
    Backwards = "backwards",
    /// A delta that starts before the end of the previous one.
    Overlap = "overlap",
    /// The point is flagged as having no value.
    NoRecordedValue = "no_recorded_value",
    /// The series was removed between lookup and write.
    SeriesGone = "series_gone",
    /// A page or request over its size limit.
    TooLarge = "too_large",
    /// The schema was withdrawn while its rows were in flight.
    Withdrawn = "withdrawn",
    /// More processes write one series than can be distinguished.
    WriterLimit = "writer_limit",
    /// In flight when the relay's connection broke.
    RelayBroke = "relay_broke",
    /// There was no subscriber.
    Unwanted = "unwanted",
    /// The receiver of the channel was too slow.
    Slow = "slow",
    /// Still queued at the shutdown deadline.
    Shutdown = "shutdown",
}

reasons! {
    /// Why a point is on no page, although its series holds it. Streams have it.
    HiddenReason:
    /// Two gauges or summaries of one source differ only in the types of their attributes: their labels are equal as text.
    LabelText = "label_text",
    /// Two metrics of one source have one name and equal labels on the page.
    MetricName = "metric_name",
    /// Two sources, such as two targets with `honor_labels`, have a series of one name and equal labels.
    Source = "source",
    /// A process with the same identity started after the last point of this one.
    Superseded = "superseded",
}

/// Where a point that was not dropped ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Into a series that pages show.
    Applied,
    /// Into a series that no page shows.
    Hidden(HiddenReason),
}
