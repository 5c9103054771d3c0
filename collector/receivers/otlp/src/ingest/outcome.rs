//! The result of a request that was applied, in whole or in part.

/// What the sender learns about a request: `Export*PartialSuccess` is made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestOutcome {
    /// Data points, log records or spans that were accepted.
    pub accepted: u64,
    /// Those that were not.
    pub rejected: u64,
    /// The reasons of the rejections, readable by people; empty when there were none.
    pub message: String,
}
