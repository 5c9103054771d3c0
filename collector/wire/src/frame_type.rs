//! The types of frames and their codes.

/// The type of a frame. Unknown types are skipped by their length and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// First frame of each side: version, role and fields.
    Hello,
    /// Last frame: a code and a message.
    Goodbye,
    /// Request for a PONG with the same token.
    Ping,
    /// Confirms that everything before the PING with this token is applied.
    Pong,
    /// The plan of a relay; in the other direction its reply.
    Plan,
    /// Definitions of ids of this connection.
    Define,
    /// Complete state of changed number series.
    Numbers,
    /// Complete state of changed histograms.
    Histograms,
    /// Rows of events or log records.
    Events,
    /// A counted loss of rows.
    Gap,
    /// Rows of events or log records of several schemas and sources; since version 1.1.
    Mixed,
    /// A type of a later version.
    Unknown(u8),
}

impl FrameType {
    /// The type of a code.
    pub fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Hello,
            2 => Self::Goodbye,
            3 => Self::Ping,
            4 => Self::Pong,
            5 => Self::Plan,
            6 => Self::Define,
            7 => Self::Numbers,
            8 => Self::Histograms,
            9 => Self::Events,
            10 => Self::Gap,
            11 => Self::Mixed,
            other => Self::Unknown(other),
        }
    }

    /// The code in the header.
    pub fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Goodbye => 2,
            Self::Ping => 3,
            Self::Pong => 4,
            Self::Plan => 5,
            Self::Define => 6,
            Self::Numbers => 7,
            Self::Histograms => 8,
            Self::Events => 9,
            Self::Gap => 10,
            Self::Mixed => 11,
            Self::Unknown(code) => code,
        }
    }

    /// The name in the specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Goodbye => "GOODBYE",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Plan => "PLAN",
            Self::Define => "DEFINE",
            Self::Numbers => "NUMBERS",
            Self::Histograms => "HISTOGRAMS",
            Self::Events => "EVENTS",
            Self::Gap => "GAP",
            Self::Mixed => "MIXED",
            Self::Unknown(_) => "UNKNOWN",
        }
    }
}
