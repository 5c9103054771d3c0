//! The result of a request that was applied, in whole or in part.

/// The result of a request for its sender, from which `Export*PartialSuccess` is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestOutcome {
    /// Data points, log records or spans that were accepted.
    pub accepted: u64,
    /// Data points, log records or spans that were rejected.
    pub rejected: u64,
    /// The reasons of the rejections as text; empty without rejections.
    pub message: String,
}
