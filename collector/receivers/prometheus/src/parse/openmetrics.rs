//! OpenMetrics 1.0. A strict parser rejects a page that violates the grammar of the standard or its rules on families; a lenient one
//! accepts what Prometheus accepts, and counts the violations.
//!
//! This module implements the grammar, `rules` the rules on families. Names in quotes belong to a later version of the standard;
//! a strict parser accepts them only if the content type announces them (`escaping=allow-utf-8`).
//! Source: <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.

use super::braces::Braces;
use super::error::{ParseError, fault};
use super::escaped::Escaped;
use super::family::{FamilyKind, Role};
use super::item::{Exemplar, Item, Sample};
use super::parser::Grammar;
use super::rules::Rules;
use super::violation::{Violation, Violations};
use super::{lex, number};

/// Parser of an OpenMetrics page. [`Parser::next_item`] returns `None` after `# EOF`; a page without it is an error.
///
/// ```
/// use dichroic_receiver_prometheus::parse::{Item, Role, openmetrics};
///
/// let page = b"# TYPE jobs counter\njobs_total 3 1700000000.5\n# EOF\n";
/// let mut parser = openmetrics::Parser::new(page);
/// assert!(matches!(parser.next_item()?, Some(Item::Type { .. })));
/// let Some(Item::Sample(sample)) = parser.next_item()? else { panic!("a sample") };
/// assert_eq!((sample.role, sample.value), (Role::Total, 3.0));
/// assert_eq!(sample.timestamp_ns, Some(1_700_000_000_500_000_000));
/// assert_eq!(parser.next_item()?, None);
/// # Ok::<(), dichroic_receiver_prometheus::parse::ParseError>(())
/// ```
pub type Parser<'a> = super::parser::Parser<'a, OpenMetrics<'a>>;

/// The grammar of OpenMetrics: the families of the page so far.
#[derive(Debug, Default)]
pub struct OpenMetrics<'a> {
    done: bool,
    quoted_names: bool,
    rules: Rules<'a>,
}

/// Most characters in an exemplar's label names and values together (OpenMetrics 1.0, "Exemplars").
pub const EXEMPLAR_CHARS: usize = 128;

impl<'a> Grammar<'a> for OpenMetrics<'a> {
    const LOOSE: bool = false;
    const NAME_HELP: &'static str = "a name begins with a letter, `_` or `:`, at the beginning of the line";
    const BRACED_NAME_HELP: &'static str = "write it before the brace";

    fn quoted_names(&self) -> bool {
        self.quoted_names || self.rules.is_lenient()
    }

    fn last_comma(&self) -> bool {
        self.rules.is_lenient()
    }

    fn accepted(&mut self, braces: &Braces<'a>, at: usize) {
        // A strict parser has refused both.
        if braces.last_comma {
            let fault = fault("comma after the last label", "remove the comma");
            let _ = self.rules.judge(Violation::Syntax, fault, at);
        }
        if braces.quoted && !self.quoted_names {
            let help = "serve the page with `escaping=allow-utf-8` in its content type";
            let fault = fault("quoted names are not allowed in OpenMetrics 1.0", help);
            let _ = self.rules.judge(Violation::Syntax, fault, at);
        }
    }

    fn next_item(parser: &mut Parser<'a>) -> Result<Option<Item<'a>>, ParseError> {
        if parser.grammar.done {
            return Ok(None);
        }
        let start = parser.at;
        match parser.page.get(start) {
            None => Err(parser.error(fault("incomplete page", "end it with `# EOF`"), start)),
            Some(b'\n') => Err(parser.error(
                fault("blank line", "remove it; OpenMetrics has no blank lines"),
                start,
            )),
            Some(b'#') => parser.metadata(start),
            Some(_) => parser.sample(start).map(|sample| Some(Item::Sample(sample))),
        }
    }
}

impl<'a> Parser<'a> {
    /// Accepts names in quotes, for pages with `escaping=allow-utf-8` in their content type.
    pub fn with_quoted_names(mut self) -> Self {
        self.grammar.quoted_names = true;
        self
    }

    /// Accepts what Prometheus accepts.
    pub fn lenient(mut self) -> Self {
        self.grammar.rules.set_lenient();
        self
    }

    /// The violations so far; only a lenient parser has any.
    pub fn violations(&self) -> &Violations {
        self.grammar.rules.violations()
    }

    fn metadata(&mut self, start: usize) -> Result<Option<Item<'a>>, ParseError> {
        let end = self.line_end(start);
        let line = &self.page[start..end];
        self.at = (end + 1).min(self.page.len());
        if line == b"# EOF" {
            return self.end_of_page();
        }
        let Some((word, name, text)) = split_metadata(line, self.grammar.quoted_names()) else {
            let help =
                "write `# TYPE name type`, `# HELP name text` or `# UNIT name unit`, one blank between each";
            return Err(self.error(
                fault("invalid metadata; OpenMetrics has no comments", help),
                start,
            ));
        };
        let utf8 = |bytes: &'a [u8]| {
            std::str::from_utf8(bytes)
                .map_err(|_| self.error(fault("invalid UTF-8", "encode the page as UTF-8"), start))
        };
        let (family, text) = (Escaped(utf8(name)?), utf8(text)?);
        let item = match word {
            b"HELP" => Item::Help {
                family,
                text: Escaped(text),
            },
            b"UNIT" => Item::Unit { family, unit: text },
            _ => {
                let kind = FamilyKind::from_openmetrics(text.as_bytes()).ok_or_else(|| {
                    let help =
                        "write counter, gauge, gaugehistogram, histogram, info, stateset, summary or unknown";
                    self.error(fault("unknown metric type", help), end - text.len())
                })?;
                Item::Type { family, kind }
            }
        };
        self.grammar
            .rules
            .metadata(&item, start)
            .map_err(|placed| self.placed(placed))?;
        Ok(Some(item))
    }

    fn end_of_page(&mut self) -> Result<Option<Item<'a>>, ParseError> {
        self.grammar
            .rules
            .end_of_page()
            .map_err(|placed| self.placed(placed))?;
        if self.at < self.page.len() {
            return Err(self.error(fault("text after `# EOF`", "make `# EOF` the last line"), self.at));
        }
        self.grammar.done = true;
        Ok(None)
    }

    fn sample(&mut self, start: usize) -> Result<Sample<'a>, ParseError> {
        let (series, end) = self.series(start)?;
        let (value, end) = self.number_after_blank(end, "expected one blank and a value", number::float)?;
        let (timestamp_ns, end) = self.optional_time(end)?;
        let (exemplar, end) = self.exemplar(end)?;
        if self.page.get(end) != Some(&b'\n') {
            let help = "only a timestamp and an exemplar may follow the value, each after one blank";
            return Err(self.error(fault("expected the end of the line", help), end));
        }
        self.at = end + 1;
        let mut sample = Sample {
            series,
            family: series.name,
            kind: FamilyKind::Unknown,
            role: Role::Value,
            value,
            timestamp_ns,
            exemplar,
        };
        self.grammar
            .rules
            .sample(&mut sample, start)
            .map_err(|placed| self.placed(placed))?;
        Ok(sample)
    }

    fn number_after_blank<T>(
        &self,
        at: usize,
        problem: &'static str,
        read: fn(&[u8]) -> Option<T>,
    ) -> Result<(T, usize), ParseError> {
        let end = lex::skip(self.page, at + 1, |b| !matches!(b, b' ' | b'\n'));
        if self.page.get(at) != Some(&b' ') || end == at + 1 {
            return Err(self.error(fault(problem, "write one blank and a number"), at));
        }
        match read(&self.page[at + 1..end]) {
            Some(number) => Ok((number, end)),
            None => Err(self.error(
                fault(
                    "invalid number",
                    "write a decimal number (values: also NaN, +Inf, -Inf)",
                ),
                at + 1,
            )),
        }
    }

    fn optional_time(&self, at: usize) -> Result<(Option<i64>, usize), ParseError> {
        match self.page.get(at..at + 2) {
            Some([b' ', b'#']) | Some([b'\n', _]) | None => Ok((None, at)),
            _ => {
                let (time, end) =
                    self.number_after_blank(at, "expected a timestamp in seconds", number::seconds)?;
                Ok((Some(time), end))
            }
        }
    }

    fn exemplar(&mut self, at: usize) -> Result<(Option<Exemplar<'a>>, usize), ParseError> {
        if self.page.get(at..at + 2) != Some(b" #") {
            return Ok((None, at));
        }
        if self.page.get(at..at + 4) != Some(b" # {") {
            return Err(self.error(
                fault("invalid exemplar", "write ` # {label=\"value\"} number`"),
                at + 1,
            ));
        }
        let lenient = self.grammar.rules.is_lenient();
        let braces = self.braces(at + 3, true, lenient)?;
        let chars = |text: Escaped<'_>| text.decode().chars().count();
        let length: usize = braces
            .labels
            .into_iter()
            .map(|(name, value)| chars(name) + chars(value))
            .sum();
        if length > EXEMPLAR_CHARS {
            let help = "shorten them; names and values together have at most 128 characters";
            let fault = fault("the exemplar's labels are too long", help);
            let judged = self.grammar.rules.judge(Violation::Exemplars, fault, at + 3);
            judged.map_err(|placed| self.placed(placed))?;
        }
        let (value, end) =
            self.number_after_blank(braces.end, "expected the exemplar's value", number::float)?;
        let (timestamp_ns, end) = match self.page.get(end) {
            Some(b' ') => {
                let (time, end) =
                    self.number_after_blank(end, "expected the exemplar's timestamp", number::seconds)?;
                (Some(time), end)
            }
            _ => (None, end),
        };
        let exemplar = Exemplar {
            labels: braces.labels,
            value,
            timestamp_ns,
        };
        Ok(((length <= EXEMPLAR_CHARS).then_some(exemplar), end))
    }
}

/// Splits `# WORD name text`. The text may be empty; the blank before it is required.
fn split_metadata(line: &[u8], quoted_names: bool) -> Option<(&[u8], &[u8], &[u8])> {
    let (word, _) = line.strip_prefix(b"# ")?.split_at_checked(4)?;
    if !matches!(word, b"TYPE" | b"HELP" | b"UNIT") || line.get(6) != Some(&b' ') {
        return None;
    }
    let (name, end) = match lex::quoted(line, 7) {
        Some(quoted) if quoted_names => quoted,
        _ => {
            let end = lex::metric_name_end(line, 7);
            (&line[7..end], end)
        }
    };
    let text = line.get(end..)?.strip_prefix(b" ")?;
    (!name.is_empty()).then_some((word, name, text))
}
