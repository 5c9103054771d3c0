//! Violations of the rules between keys: the error of the checks, which have no positions in the file.

use super::position::KeyPath;

/// A rule that a well-formed configuration violates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}; {help}")]
pub struct Violation {
    /// The key to change.
    pub key: KeyPath,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Violation {
    /// A violation at a key.
    pub fn new(key: KeyPath, message: impl Into<String>, help: impl Into<String>) -> Self {
        Violation {
            key,
            message: message.into(),
            help: help.into(),
        }
    }
}
