//! The parser of a page, by its format.

use super::exposition::Format;
use crate::parse::{Item, ParseError, openmetrics, text};

/// The parser of a format.
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
        let openmetrics = openmetrics::Parser::new(body);
        match format {
            Format::Text => Self::Text(text::Parser::new(body)),
            Format::OpenMetrics { quoted_names: false } => Self::OpenMetrics(openmetrics),
            Format::OpenMetrics { quoted_names: true } => Self::OpenMetrics(openmetrics.with_quoted_names()),
        }
    }

    pub(super) fn next_item(&mut self) -> Result<Option<Item<'a>>, ParseError> {
        match self {
            Self::Text(parser) => parser.next_item(),
            Self::OpenMetrics(parser) => parser.next_item(),
        }
    }
}
