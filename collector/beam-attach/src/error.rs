//! Errors between the collector and a node. Each message states what to do.

use dichroic_model::text::escape_control;
use std::fmt;
use std::io;
use std::time::Duration;

/// An error of attaching, discovering or detaching.
#[derive(Debug)]
pub enum Error {
    /// The arguments or the configuration cannot be used.
    Usage(String),
    /// The cookie's file cannot be used.
    Cookie(String),
    /// The node's name is unknown to epmd, or epmd cannot be asked.
    Epmd(String),
    /// No connection, or it ended.
    Connection(String),
    /// TLS failed, ours or the node's.
    Tls(String),
    /// The handshake failed.
    Handshake(String),
    /// The node, or who answered in its place, does not speak the protocol.
    Protocol(String),
    /// A call on the node failed there.
    Call(String),
    /// The node did not answer in time.
    Timeout {
        /// What was waited for.
        what: String,
        /// The time limit.
        after: Duration,
    },
}

impl Error {
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
    fn control_characters_of_a_peer_are_not_shown_as_such() {
        let name = "\u{1b}[31mshop\u{1b}]0;t\u{7}\n@a\u{9b}é";
        let shown = "\\u{1b}[31mshop\\u{1b}]0;t\\u{7}\\n@a\\u{9b}é";
        assert_eq!(Error::Handshake(name.to_owned()).to_string(), shown);
        let late = Error::timeout(name, Duration::from_secs(2)).to_string();
        assert_eq!(late, format!("{shown}: no answer within 2s"));
        assert_eq!(Error::Usage("as it is".to_owned()).to_string(), "as it is");
    }
}
