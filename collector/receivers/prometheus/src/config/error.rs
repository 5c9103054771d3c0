//! An invalid value, with its key.

/// An invalid value in the configuration of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}; {help}")]
pub struct ConfigError {
    /// The configuration key, or `--scrape`.
    pub key: &'static str,
    /// What is wrong, with the value.
    pub problem: String,
    /// What to write instead.
    pub help: &'static str,
}

pub(super) fn wrong(key: &'static str, problem: impl Into<String>, help: &'static str) -> ConfigError {
    ConfigError {
        key,
        problem: problem.into(),
        help,
    }
}
