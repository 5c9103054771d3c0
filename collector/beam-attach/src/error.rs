//! Errors between the collector and a node. Each message states what to do.

use dichroic_model::text::escape_control;
use std::fmt;
use std::io;
use std::time::Duration;

/// An error of attaching, discovering or detaching.
#[derive(Debug)]
pub enum Error {
    /// Invalid arguments or configuration.
    Usage(String),
    /// No usable cookie file.
    Cookie(String),
    /// The node is not registered at epmd, or epmd is not reachable.
    Epmd(String),
    /// The connection failed or ended.
    Connection(String),
    /// A certificate or a key cannot be used, on either side.
    Tls(String),
    /// The node refuses the connection or the relay: its cookie, what it allows, its version.
    Refused(String),
    /// The handshake failed.
    Handshake(String),
    /// The peer violates the distribution protocol.
    Protocol(String),
    /// A call on the node failed there.
    Call(String),
    /// No reply of the node in time.
    Timeout {
        /// The operation that timed out.
        what: String,
        /// The time limit.
        after: Duration,
    },
}

impl Error {
    /// Whether the next attempt fails too, until the node or a file of [`NodeTarget::files`](crate::attach::NodeTarget::files)
    /// changes. The node logs most of these attempts.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Error::Cookie(_) | Error::Tls(_) | Error::Refused(_))
    }

    pub(crate) fn timeout(what: impl Into<String>, after: Duration) -> Self {
        Error::Timeout {
            what: what.into(),
            after,
        }
    }

    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Error::Connection(format!("{what}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(message)
            | Error::Cookie(message)
            | Error::Epmd(message)
            | Error::Connection(message)
            | Error::Tls(message)
            | Error::Refused(message)
            | Error::Handshake(message)
            | Error::Protocol(message)
            | Error::Call(message) => f.write_str(&escape_control(message)),
            Error::Timeout { what, after } => {
                write!(f, "{}: no answer within {after:?}", escape_control(what))
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_from_a_peer_are_escaped() {
        let name = "\u{1b}[31mshop\u{1b}]0;t\u{7}\n@a\u{9b}é";
        let shown = "\\u{1b}[31mshop\\u{1b}]0;t\\u{7}\\n@a\\u{9b}é";
        assert_eq!(Error::Handshake(name.to_owned()).to_string(), shown);
        let timeout = Error::timeout(name, Duration::from_secs(2)).to_string();
        assert_eq!(timeout, format!("{shown}: no answer within 2s"));
        assert_eq!(Error::Usage("plain text".to_owned()).to_string(), "plain text");
    }
}
