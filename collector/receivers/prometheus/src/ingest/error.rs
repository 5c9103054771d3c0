//! Errors that refuse a whole page.

use dichroic_pipeline::DropReason;

use crate::parse::ParseError;

/// Why a page was refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(
        "the target answers with {0:?}, which is no exposition; let it serve text/plain or application/openmetrics-text, \
         or correct metrics_path"
    )]
    ContentType(String),
    #[error("the page has more than {limit} samples; raise sample_limit, or let the target expose less")]
    Samples { limit: usize },
    #[error("line {line}: {what} is over its limit of {limit}; raise {key}, or let the target expose less")]
    Labels {
        line: usize,
        what: &'static str,
        limit: usize,
        key: &'static str,
    },
}

impl PageError {
    /// What its samples are counted under.
    pub(super) fn reason(&self) -> DropReason {
        match self {
            Self::Parse(_) | Self::ContentType(_) => DropReason::Malformed,
            Self::Samples { .. } => DropReason::TooLarge,
            Self::Labels { .. } => DropReason::LabelLimit,
        }
    }
}
