//! Errors that refuse a whole page.

use dichroic_pipeline::DropReason;

use crate::parse::ParseError;

/// Why a page was rejected as a whole. Messages end with what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The page violates its format.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The `Content-Type` is missing, or not that of an exposition.
    #[error(
        "unsupported Content-Type {0:?}; the target must serve text/plain or application/openmetrics-text: check metrics_path, or set fallback_scrape_protocol"
    )]
    ContentType(String),
    /// The page is over `sample_limit`.
    #[error("more than {limit} samples; raise sample_limit, or reduce the page")]
    Samples {
        /// The limit.
        limit: usize,
    },
    /// A sample is over a limit on labels.
    #[error("line {line}: {what} is over its limit of {limit}; raise {key}, or reduce the labels")]
    Labels {
        /// Line of the sample, from 1.
        line: usize,
        /// What is over the limit.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// The configuration key of the limit.
        key: &'static str,
    },
}

impl PageError {
    /// The reason under which its samples are counted.
    pub(super) fn reason(&self) -> DropReason {
        match self {
            Self::Parse(_) | Self::ContentType(_) => DropReason::Malformed,
            Self::Samples { .. } => DropReason::TooLarge,
            Self::Labels { .. } => DropReason::LabelLimit,
        }
    }
}
