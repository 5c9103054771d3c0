//! Prometheus text format 0.0.4, with the quoted names of Prometheus 3.
//!
//! Accepts and rejects the same pages as Prometheus's parser. Allowed: blanks between tokens, `name {…}`, a comma after the last
//! label or none between two, line feeds within quotes, any comment, samples in any order and without metadata. Not allowed:
//! negative timestamps, hexadecimal, carriage returns, and unknown types.
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::braces::Braces;
use super::error::{Fault, ParseError, fault};
use super::escaped::Escaped;
use super::family::{FamilyKind, Role};
use super::item::{Item, Sample, Series};
use super::parser::Grammar;
use super::{lex, number};

/// Parser of a text page.
///
/// ```
/// use dichroic_receiver_prometheus::parse::{Item, text};
///
/// let mut parser = text::Parser::new(b"# TYPE jobs counter\njobs{queue=\"a\"} 3\n");
/// let mut total = 0.0;
/// while let Some(item) = parser.next_item()? {
///     if let Item::Sample(sample) = item {
///         assert_eq!(sample.series.labels.get("queue").unwrap().decode(), "a");
///         total += sample.value;
///     }
/// }
/// assert_eq!(total, 3.0);
///
/// let error = text::Parser::new(b"jobs\n").next_item().unwrap_err();
/// assert_eq!((error.line, error.column), (1, 5));
/// # Ok::<(), dichroic_receiver_prometheus::parse::ParseError>(())
/// ```
pub type Parser<'a> = super::parser::Parser<'a, Text<'a>>;

/// The grammar of the text format: the families of the page so far.
#[derive(Debug, Default)]
pub struct Text<'a> {
    /// Families with a `# TYPE` line so far; samples may come in any order.
    kinds: HashMap<&'a str, FamilyKind, RandomState>,
    /// Those whose name ends in `_total`, by the name without it.
    totals: HashMap<&'a str, &'a str, RandomState>,
}

impl<'a> Grammar<'a> for Text<'a> {
    const LOOSE: bool = true;
    const NAME_HELP: &'static str =
        "a line is a sample, begins with `#`, or is blank; a name begins with a letter, `_` or `:`";
    const BRACED_NAME_HELP: &'static str = "write it before the brace, or quoted first in it";

    fn quoted_names(&self) -> bool {
        true
    }

    fn last_comma(&self) -> bool {
        true
    }

    fn accepted(&mut self, _: &Braces<'a>, _: usize) {}

    fn next_item(parser: &mut Parser<'a>) -> Result<Option<Item<'a>>, ParseError> {
        loop {
            let start = lex::blanks(parser.page, parser.at);
            match parser.page.get(start) {
                // For Prometheus, a NUL at the beginning of a line ends the page.
                None | Some(0) => return Ok(None),
                Some(b'\n') => parser.at = start + 1,
                Some(b'#') => {
                    if let Some(item) = parser.comment(start)? {
                        return Ok(Some(item));
                    }
                }
                Some(_) => return parser.sample(start).map(|sample| Some(Item::Sample(sample))),
            }
        }
    }
}

impl<'a> Parser<'a> {
    /// A line that begins with `#`: metadata or any comment.
    fn comment(&mut self, start: usize) -> Result<Option<Item<'a>>, ParseError> {
        let end = self.line_end(start);
        self.at = (end + 1).min(self.page.len());
        let line = &self.page[..end];
        let word = lex::blanks(line, start + 1);
        let name = lex::blanks(line, (word + 4).min(end));
        if word == start + 1 || name == word + 4 {
            return Ok(None);
        }
        match line.get(word..word + 4) {
            Some(b"TYPE") => self.type_line(line, name).map(Some),
            Some(b"HELP") => self.help_line(line, name).map(Some),
            _ => Ok(None),
        }
    }

    /// The name at `at` of a metadata line, and the position of its text, one byte after the name.
    fn metadata_name(&self, line: &'a [u8], at: usize) -> Result<(Escaped<'a>, usize), ParseError> {
        let (name, end) = match lex::quoted(line, at) {
            Some(quoted) => quoted,
            None => {
                let end = lex::metric_name_end(line, at);
                (&line[at..end], end)
            }
        };
        match std::str::from_utf8(name) {
            Ok(text) if end > at => Ok((Escaped(text), (end + 1).min(line.len()))),
            _ => Err(self.error(
                fault(
                    "expected a metric name",
                    "write the name of the family after TYPE or HELP",
                ),
                at,
            )),
        }
    }

    fn type_line(&mut self, line: &'a [u8], at: usize) -> Result<Item<'a>, ParseError> {
        let (family, text) = self.metadata_name(line, at)?;
        let Some(kind) = FamilyKind::from_text(&line[text..]) else {
            let help = "write counter, gauge, histogram, summary or untyped, one blank after the name and nothing after it";
            return Err(self.error(fault("unknown metric type", help), text));
        };
        self.grammar.kinds.insert(family.0, kind);
        if let Some(base) = family.0.strip_suffix("_total") {
            self.grammar.totals.insert(base, family.0);
        }
        Ok(Item::Type { family, kind })
    }

    fn help_line(&self, line: &'a [u8], at: usize) -> Result<Item<'a>, ParseError> {
        let (family, text) = self.metadata_name(line, at)?;
        match std::str::from_utf8(&line[text..]) {
            Ok(help) => Ok(Item::Help {
                family,
                text: Escaped(help),
            }),
            Err(bad) => {
                let at = text + bad.valid_up_to();
                Err(self.error(fault("invalid UTF-8", "encode the help text as UTF-8"), at))
            }
        }
    }

    fn sample(&mut self, start: usize) -> Result<Sample<'a>, ParseError> {
        let (series, end) = self.series(start)?;
        let at = lex::blanks(self.page, end);
        let value_end = lex::skip(self.page, at, |b| !matches!(b, b'{' | b' ' | b'\t' | b'\n'));
        let value = match number::float(&self.page[at..value_end]) {
            Some(value) => value,
            None => return Err(self.error(bad_value(&self.page[at..value_end]), at)),
        };
        let (timestamp_ns, end) = self.timestamp(lex::blanks(self.page, value_end))?;
        self.at = end;
        let (family, kind, role) = self.family_of(&series);
        Ok(Sample {
            series,
            family,
            kind,
            role,
            value,
            timestamp_ns,
            exemplar: None,
        })
    }

    /// The optional timestamp, and the position after the end of the line.
    fn timestamp(&self, at: usize) -> Result<(Option<i64>, usize), ParseError> {
        let digits_end = lex::skip(self.page, at, |b| b.is_ascii_digit());
        let end = lex::blanks(self.page, digits_end);
        match self.page.get(end) {
            Some(b'\n') | None if digits_end == at => Ok((None, (end + 1).min(self.page.len()))),
            Some(b'\n') | None => match number::milliseconds(&self.page[at..digits_end]) {
                Some(time) => Ok((Some(time), (end + 1).min(self.page.len()))),
                None => Err(self.error(
                    fault("timestamp out of range", "write milliseconds since the epoch"),
                    at,
                )),
            },
            _ => {
                let help =
                    "only a timestamp in whole milliseconds, without sign or fraction, may follow the value";
                Err(self.error(fault("expected a timestamp or the end of the line", help), end))
            }
        }
    }

    /// The family of a sample by the `# TYPE` lines so far; without one, a family of its name and of unknown type.
    fn family_of(&self, series: &Series<'a>) -> (Escaped<'a>, FamilyKind, Role) {
        let name = series.name.0;
        if let Some(&kind) = self.grammar.kinds.get(name) {
            let role = match kind {
                FamilyKind::Counter => Some(Role::Total),
                FamilyKind::Summary => Some(Role::Quantile),
                FamilyKind::Histogram => None,
                FamilyKind::Gauge if self.is_created_of_another(name) => None,
                _ => Some(Role::Value),
            };
            if let Some(role) = role {
                return (series.name, kind, role);
            }
        }
        self.family_by_suffix(series)
            .unwrap_or((series.name, FamilyKind::Unknown, Role::Value))
    }

    /// In this format the Python client writes the start time of `x_total` as a separate gauge `x_created`.
    fn is_created_of_another(&self, name: &str) -> bool {
        name.strip_suffix("_created")
            .is_some_and(|base| self.counterlike(base).is_some())
    }

    /// The counter, histogram or summary named `base`, or the counter `base_total`.
    fn counterlike(&self, base: &str) -> Option<(&'a str, FamilyKind)> {
        let of = |name: &str| {
            let (&family, &kind) = self.grammar.kinds.get_key_value(name)?;
            let has_start = matches!(
                kind,
                FamilyKind::Counter | FamilyKind::Histogram | FamilyKind::Summary
            );
            has_start.then_some((family, kind))
        };
        of(base)
            .or_else(|| of(self.grammar.totals.get(base)?).filter(|(_, kind)| *kind == FamilyKind::Counter))
    }

    fn family_by_suffix(&self, series: &Series<'a>) -> Option<(Escaped<'a>, FamilyKind, Role)> {
        let name = series.name.0;
        if let Some(base) = name.strip_suffix("_created") {
            let (family, kind) = self.counterlike(base)?;
            return Some((Escaped(family), kind, Role::Created));
        }
        let base = &name[..name.rfind('_')?];
        let (&family, &kind) = self.grammar.kinds.get_key_value(base)?;
        let role = kind.role(Escaped(family), series.name)?;
        Some((Escaped(family), kind, role))
    }
}

fn bad_value(found: &[u8]) -> Fault {
    match found {
        [] => fault("expected a value", "write a number after the series"),
        [.., b'\r'] => fault("carriage return", "end lines with a line feed only"),
        _ => fault("invalid number", "write a decimal number, NaN, +Inf or -Inf"),
    }
}
