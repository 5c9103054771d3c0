//! The kind of a stream's rows, in PLAN and DEFINE.

use crate::error::Result;
use crate::map::Fields;

/// The kind of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Telemetry events.
    Event,
    /// Log records.
    Log,
}

impl StreamKind {
    /// The name on the wire.
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
