//! The codes of GOODBYE.

use std::fmt;

/// The reason why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GoodbyeCode {
    /// The peer has another major version.
    Version,
    /// The token is missing or wrong.
    Unauthorized,
    /// A frame violates the format.
    Malformed,
    /// A limit was exceeded.
    Limit,
    /// The peer took too long.
    Timeout,
    /// Another connection of the same source replaced this one.
    Superseded,
    /// The sender is shutting down.
    Shutdown,
    /// The peer does not read fast enough.
    Slow,
    /// The relay is removed from its node.
    Detach,
    /// The subscription is invalid.
    BadRequest,
    /// An internal error of the sender.
    Internal,
    /// A code of a later minor version.
    Other(u16),
}

impl GoodbyeCode {
    /// The reason for a code of the wire.
    pub fn from_code(code: u16) -> Self {
        match code {
            1 => Self::Version,
            2 => Self::Unauthorized,
            3 => Self::Malformed,
            4 => Self::Limit,
            5 => Self::Timeout,
            6 => Self::Superseded,
            7 => Self::Shutdown,
            8 => Self::Slow,
            9 => Self::Detach,
            10 => Self::BadRequest,
            11 => Self::Internal,
            other => Self::Other(other),
        }
    }

    /// The code on the wire.
    pub fn code(self) -> u16 {
        match self {
            Self::Version => 1,
            Self::Unauthorized => 2,
            Self::Malformed => 3,
            Self::Limit => 4,
            Self::Timeout => 5,
            Self::Superseded => 6,
            Self::Shutdown => 7,
            Self::Slow => 8,
            Self::Detach => 9,
            Self::BadRequest => 10,
            Self::Internal => 11,
            Self::Other(code) => code,
        }
    }
}

/// The name in the log and in messages, such as `shutdown`.
impl fmt::Display for GoodbyeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "version",
            Self::Unauthorized => "unauthorized",
            Self::Malformed => "malformed",
            Self::Limit => "limit",
            Self::Timeout => "timeout",
            Self::Superseded => "superseded",
            Self::Shutdown => "shutdown",
            Self::Slow => "slow",
            Self::Detach => "detach",
            Self::BadRequest => "bad request",
            Self::Internal => "internal",
            Self::Other(code) => return write!(f, "code {code}"),
        })
    }
}
