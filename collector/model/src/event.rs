//! Raw events and logs: immutable, encoded once by the receiver, sent to subscribers unchanged.
//!
//! A `:telemetry` event is an OpenTelemetry event: a name, measurements, attributes (metadata) and a time. A [`Batch`] has
//! rows of one schema; its body is an EVENTS frame of `collector/wire`, which this crate does not read.

use crate::UnixNanos;
use crate::source::Source;
use std::sync::Arc;

/// The kind of rows of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// A `:telemetry` or OpenTelemetry event.
    Event,
    /// A log record.
    Log,
}

impl EventKind {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Event => "event",
            EventKind::Log => "log",
        }
    }
}

/// The columns of a batch after its time column: measurements, then metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSchema {
    /// Unique in this process, assigned by the store, never reused.
    pub id: u32,
    /// Dotted event name.
    pub name: String,
    /// Event or log.
    pub kind: EventKind,
    /// (name, unit) of each measurement.
    pub measurements: Vec<(String, String)>,
    /// Names of the metadata columns. Logs have `severity`, `body`, `trace_id`, `span_id`, `attributes`.
    pub metadata: Vec<String>,
}

/// Consecutive rows of one schema and source.
#[derive(Debug)]
pub struct Batch {
    /// Their columns.
    pub schema: Arc<EventSchema>,
    /// Their source.
    pub source: Arc<Source>,
    /// Position of the first row in the collector's order of this signal.
    pub position: u64,
    /// Number of rows.
    pub rows: u32,
    /// When the collector received it, on the [steady clock](crate::clock).
    pub received: UnixNanos,
    /// Body of an EVENTS frame, with the schema, source and position of this batch.
    pub body: Box<[u8]>,
}

impl Batch {
    /// Memory of the batch, in bytes.
    pub fn size(&self) -> usize {
        self.body.len() + std::mem::size_of::<Batch>()
    }
}

/// Why rows of a stream are missing. The numbers are those of the wire's GAP frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GapReason {
    /// The subscriber's own ring was full.
    Slow = 1,
    /// The requested rows are older than the replay.
    BeyondReplay = 2,
    /// The collector restarted.
    CollectorRestarted = 3,
    /// The relay had no credit left.
    RelayOverload = 4,
    /// A rate limit.
    RateLimit = 5,
    /// The relay's connection broke with rows in flight.
    RelayBroke = 6,
    /// A row was larger than a frame may be.
    RowTooLarge = 7,
    /// Nothing requested the rows from the node.
    NotSubscribed = 8,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// Its start.
    pub start: UnixNanos,
    /// Its end.
    pub end: UnixNanos,
}

impl TimeRange {
    /// Whether no time lies between the two.
    pub fn touches(self, other: TimeRange) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The shortest span with both.
    pub fn union(self, other: TimeRange) -> TimeRange {
        TimeRange {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}
