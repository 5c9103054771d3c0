//! The walk over a page that both formats share; [`super::text`] and [`super::openmetrics`] are its two grammars.

use super::braces::{BraceRules, Braces, braces};
use super::error::{Fault, ParseError, Placed, fault};
use super::item::{Item, Series};
use super::labels::Labels;
use super::lex;
use super::quick::{Quick, comment_at, quick};

/// Walks one page and returns its items in order, each borrowed from the page.
///
/// Use [`super::text::Parser`] or [`super::openmetrics::Parser`].
#[derive(Debug)]
pub struct Parser<'a, G> {
    pub(super) page: &'a [u8],
    pub(super) at: usize,
    /// State of the grammar after the lines so far.
    pub(super) grammar: G,
    /// Scratch space of [`braces`], so that a sample allocates nothing.
    label_names: Vec<(usize, usize)>,
}

/// A format of exposition pages: what differs between the two parsers.
pub trait Grammar<'a>: Default {
    /// Allows blanks between tokens, a comma after the last label, labels without a comma between them, and line feeds in values.
    const LOOSE: bool;
    /// Advice when a line does not begin with a name.
    const NAME_HELP: &'static str;
    /// Advice when there is no name before the brace, and none in it.
    const BRACED_NAME_HELP: &'static str;

    /// Whether names in quotes are allowed.
    fn quoted_names(&self) -> bool;

    /// Whether a comma may follow the last label even if [`Self::LOOSE`] is not set.
    fn last_comma(&self) -> bool;

    /// Counts violations in the braces at `at` that the parser tolerates.
    fn accepted(&mut self, braces: &Braces<'a>, at: usize);

    /// See [`Parser::next_item`].
    fn next_item(parser: &mut Parser<'a, Self>) -> Result<Option<Item<'a>>, ParseError>;
}

impl<'a, G: Grammar<'a>> Parser<'a, G> {
    /// A parser at the beginning of `page`. Nothing is read yet.
    pub fn new(page: &'a [u8]) -> Self {
        Self {
            page,
            at: 0,
            grammar: G::default(),
            label_names: Vec::new(),
        }
    }

    /// The next item; `None` at the end of the page.
    ///
    /// # Errors
    /// [`ParseError`] with line and column. The rest of the page cannot be read after an error.
    pub fn next_item(&mut self) -> Result<Option<Item<'a>>, ParseError> {
        G::next_item(self)
    }

    /// The next line, cut at its last space; see [`Quick`].
    #[inline]
    pub fn quick(&self) -> Option<Quick<'a>> {
        quick(self.page, self.at)
    }

    /// Continues after a line that [`Parser::quick`] returned.
    ///
    /// Such a line skips the OpenMetrics family checks, so the caller may use it only for lines already parsed in this order on
    /// an earlier page, and must check the values itself.
    #[inline]
    pub fn accept(&mut self, line: &Quick<'a>) {
        self.at = line.next;
    }

    /// Skips a line that begins with `#` and returns it, for a caller that parsed it in an earlier page.
    pub fn skip_comment(&mut self) -> Option<&'a [u8]> {
        let (line, next) = comment_at(self.page, self.at)?;
        self.at = next;
        Some(line)
    }

    /// Whether the whole page was read or skipped.
    pub fn at_end(&self) -> bool {
        self.at == self.page.len()
    }

    pub(super) fn error(&self, fault: Fault, at: usize) -> ParseError {
        fault.at(self.page, at)
    }

    pub(super) fn placed(&self, (fault, at): Placed) -> ParseError {
        fault.at(self.page, at)
    }

    pub(super) fn line_end(&self, at: usize) -> usize {
        memchr::memchr(b'\n', &self.page[at..]).map_or(self.page.len(), |newline| at + newline)
    }

    /// Reads `{...}` from the brace at `open`; see [`BraceRules`].
    pub(super) fn braces(
        &mut self,
        open: usize,
        named: bool,
        any_labels: bool,
    ) -> Result<Braces<'a>, ParseError> {
        let rules = BraceRules {
            last_comma: self.grammar.last_comma(),
            quoted_names: self.grammar.quoted_names(),
            any_labels,
            named,
        };
        let page = self.page;
        let seen = &mut self.label_names;
        let braces = if G::LOOSE {
            braces::<true>(page, open, rules, seen)
        } else {
            braces::<false>(page, open, rules, seen)
        };
        let braces = braces.map_err(|(fault, at)| fault.at(page, at))?;
        self.grammar.accepted(&braces, open);
        Ok(braces)
    }

    /// The page as name and labels of one sample, without its value.
    pub(crate) fn whole_series(&mut self) -> Option<Series<'a>> {
        self.series(0).ok().map(|(series, _)| series)
    }

    /// Reads the name and labels at `start`, and returns the position after them.
    pub(super) fn series(&mut self, start: usize) -> Result<(Series<'a>, usize), ParseError> {
        let page = self.page;
        let name_end = lex::metric_name_end(page, start);
        let open = if G::LOOSE {
            lex::blanks(page, name_end)
        } else {
            name_end
        };
        let named = name_end > start;
        if page.get(open) != Some(&b'{') {
            if !named {
                return Err(self.error(fault("expected a metric name", G::NAME_HELP), start));
            }
            let series = Series {
                raw: &page[start..name_end],
                name: lex::bare(page, start, name_end),
                labels: Labels::default(),
            };
            return Ok((series, name_end));
        }
        let braces = self.braces(open, named, false)?;
        let name = match braces.name {
            Some(name) if !name.0.is_empty() => name,
            None if named => lex::bare(page, start, name_end),
            _ => return Err(self.error(fault("no metric name", G::BRACED_NAME_HELP), open)),
        };
        let series = Series {
            raw: &page[start..braces.end],
            name,
            labels: braces.labels,
        };
        Ok((series, braces.end))
    }
}
