//! The parser of a page, by its format.

use super::exposition::Format;
use crate::parse::{Item, ParseError, Violation, openmetrics, text};

/// The parser of a format.
#[expect(clippy::large_enum_variant, reason = "one per page, moved once per step")]
pub(super) enum PageParser<'a> {
    Text(text::Parser<'a>),
    OpenMetrics(openmetrics::Parser<'a>),
}

impl Default for PageParser<'_> {
    fn default() -> Self {
        Self::Text(text::Parser::new(&[]))
    }
}

impl<'a> PageParser<'a> {
    pub(super) fn new(body: &'a [u8], format: Format) -> Self {
        let Format::OpenMetrics { quoted_names, strict } = format else {
            return Self::Text(text::Parser::new(body));
        };
        let mut parser = openmetrics::Parser::new(body);
        if quoted_names {
            parser = parser.with_quoted_names();
        }
        if !strict {
            parser = parser.lenient();
        }
        Self::OpenMetrics(parser)
    }

    /// The violations so far, with their places in `body`.
    pub(super) fn violations(&self, body: &[u8]) -> Vec<(Violation, u64, ParseError)> {
        match self {
            Self::Text(_) => Vec::new(),
            Self::OpenMetrics(parser) => parser.violations().on(body),
        }
    }

    pub(super) fn next_item(&mut self) -> Result<Option<Item<'a>>, ParseError> {
        match self {
            Self::Text(parser) => parser.next_item(),
            Self::OpenMetrics(parser) => parser.next_item(),
        }
    }
}
