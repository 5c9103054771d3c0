//! Whether the rows of a stream are events or log records: a word in PLAN and DEFINE.

use crate::error::Result;
use crate::map::Fields;

/// What rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Telemetry events.
    Event,
    /// Log records.
    Log,
}

impl StreamKind {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Log => "log",
        }
    }
}

/// Reads `kind`; the default is `event`.
pub(crate) fn stream_kind(fields: Fields<'_>) -> Result<StreamKind> {
    match fields.opt_str("kind")? {
        None | Some("event") => Ok(StreamKind::Event),
        Some("log") => Ok(StreamKind::Log),
        Some(_) => fields.bad("kind", "\"event\" or \"log\""),
    }
}
