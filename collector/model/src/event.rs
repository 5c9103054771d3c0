//! Raw events and logs: immutable, encoded once by the receiver, handed to subscribers as they are.
//!
//! A `:telemetry` event is an OpenTelemetry event: a name, measurements, attributes (metadata) and a time. Rows of one schema
//! travel together in a [`Batch`] whose body is an EVENTS frame of `collector/wire`; this crate does not read it.

use crate::UnixNanos;
use crate::source::Source;
use std::sync::Arc;

/// What kind of row a schema describes.
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

/// The columns of a batch, beside its time column: measurements first, then metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSchema {
    /// Unique in this process, given by the store, never reused.
    pub id: u32,
    /// Dotted event name.
    pub name: String,
    /// Event or log.
    pub kind: EventKind,
    /// (name, unit) of each measurement.
    pub measurements: Vec<(String, String)>,
    /// Names of the metadata columns. A log's are `severity`, `body`, `trace_id`, `span_id`, `attributes`.
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
    /// How many rows.
    pub rows: u32,
    /// When the collector received it.
    pub received: UnixNanos,
    /// Body of an EVENTS frame. Its schema, source and position fields hold this batch's.
    pub body: Box<[u8]>,
}

impl Batch {
    /// Memory that the batch holds, in bytes.
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
}
