//! What can go wrong between us and a node, in words that say what to do.

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
    Late { what: String, after: Duration },
}

impl Error {
    pub(crate) fn late(what: impl Into<String>, after: Duration) -> Self {
        Error::Late {
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
            Error::Usage(words)
            | Error::Cookie(words)
            | Error::Epmd(words)
            | Error::Connection(words)
            | Error::Tls(words)
            | Error::Handshake(words)
            | Error::Protocol(words)
            | Error::Call(words) => f.write_str(words),
            Error::Late { what, after } => write!(f, "{what}: no answer within {after:?}"),
        }
    }
}

impl std::error::Error for Error {}
