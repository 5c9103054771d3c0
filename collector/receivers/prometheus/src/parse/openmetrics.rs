//! OpenMetrics 1.0, strictly: a page that breaks the standard's grammar or its rules on families is refused.
//!
//! This module is the grammar, `rules` the families. Names in quotes belong to a later version of the standard and are
//! taken only if the page says so (`escaping=allow-utf-8`).
//! Format: <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>.

use super::error::{Fault, ParseError, fault};
use super::family::FamilyKind;
use super::lex::{self, BraceRules};
use super::rules::Rules;
use super::{Escaped, Exemplar, Item, Labels, Quick, Sample, Series, number};

/// Walks one page.
#[derive(Debug)]
pub struct Parser<'a> {
    page: &'a [u8],
    at: usize,
    done: bool,
    quoted_names: bool,
    rules: Rules<'a>,
    label_names: Vec<(usize, usize)>,
}

/// Most characters in an exemplar's label names and values together.
pub const EXEMPLAR_CHARS: usize = 128;

impl<'a> Parser<'a> {
    pub fn new(page: &'a [u8]) -> Self {
        Self {
            page,
            at: 0,
            done: false,
            quoted_names: false,
            rules: Rules::default(),
            label_names: Vec::new(),
        }
    }

    /// Takes names in quotes, as pages with `escaping=allow-utf-8` have them.
    pub fn with_quoted_names(self) -> Self {
        Self {
            quoted_names: true,
            ..self
        }
    }

    /// The next item; `None` after `# EOF`. After an error there is nothing more to ask for.
    pub fn next_item(&mut self) -> Result<Option<Item<'a>>, ParseError> {
        if self.done {
            return Ok(None);
        }
        let start = self.at;
        match self.page.get(start) {
            None => Err(self.error(fault("the page is not complete", "end it with `# EOF`"), start)),
            Some(b'\n') => Err(self.error(fault("a blank line", "remove it; OpenMetrics has none"), start)),
            Some(b'#') => self.metadata(start),
            Some(_) => self.sample(start).map(|sample| Some(Item::Sample(sample))),
        }
    }

    /// The next line cut at its last space; see [`Quick`].
    #[inline]
    pub fn quick(&self) -> Option<Quick<'a>> {
        super::quick(self.page, self.at)
    }

    /// Goes on after a line that [`Parser::quick`] cut. The rules on families have not seen it: a caller that accepts
    /// lines accepts all of a page whose lines it saw in this order before, and checks the values itself.
    #[inline]
    pub fn accept(&mut self, line: &Quick<'a>) {
        self.at = line.next;
    }

    /// Passes a line that begins with `#` without reading it: for callers that read it in an earlier page.
    pub fn skip_comment(&mut self) -> Option<&'a [u8]> {
        let (line, next) = super::comment_at(self.page, self.at)?;
        self.at = next;
        Some(line)
    }

    /// Whether everything was read or passed.
    pub fn at_end(&self) -> bool {
        self.at == self.page.len()
    }

    fn error(&self, fault: Fault, at: usize) -> ParseError {
        fault.at(self.page, at)
    }

    fn metadata(&mut self, start: usize) -> Result<Option<Item<'a>>, ParseError> {
        let end =
            memchr::memchr(b'\n', &self.page[start..]).map_or(self.page.len(), |newline| start + newline);
        let line = &self.page[start..end];
        self.at = (end + 1).min(self.page.len());
        if line == b"# EOF" {
            return self.end_of_page();
        }
        let Some((word, name, text)) = split_metadata(line, self.quoted_names) else {
            let help =
                "write `# TYPE name type`, `# HELP name text` or `# UNIT name unit`, one blank between each";
            return Err(self.error(
                fault("not metadata, and OpenMetrics has no comments", help),
                start,
            ));
        };
        let utf8 = |bytes: &'a [u8]| {
            std::str::from_utf8(bytes).map_err(|_| {
                self.error(
                    fault("these bytes are not UTF-8", "encode the page as UTF-8"),
                    start,
                )
            })
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
                    self.error(fault("not a type of OpenMetrics", help), end - text.len())
                })?;
                Item::Type { family, kind }
            }
        };
        self.rules
            .metadata(&item, start)
            .map_err(|(fault, at)| fault.at(self.page, at))?;
        Ok(Some(item))
    }

    fn end_of_page(&mut self) -> Result<Option<Item<'a>>, ParseError> {
        self.rules
            .end_of_page()
            .map_err(|(fault, at)| fault.at(self.page, at))?;
        if self.at < self.page.len() {
            return Err(self.error(fault("text after `# EOF`", "make `# EOF` the last line"), self.at));
        }
        self.done = true;
        Ok(None)
    }

    fn sample(&mut self, start: usize) -> Result<Sample<'a>, ParseError> {
        let (series, end) = self.series(start)?;
        let (value, end) = self.number_after_blank(end, "expected one blank and a value", number::float)?;
        let (timestamp_ns, end) = self.optional_time(end)?;
        let (exemplar, end) = self.exemplar(end)?;
        if self.page.get(end) != Some(&b'\n') {
            let help = "after the value come at most a time and an exemplar, each after one blank";
            return Err(self.error(fault("expected the end of the line", help), end));
        }
        self.at = end + 1;
        let mut sample = Sample {
            series,
            family: series.name,
            kind: FamilyKind::Unknown,
            role: super::Role::Value,
            value,
            timestamp_ns,
            exemplar,
        };
        self.rules
            .sample(&mut sample, start)
            .map_err(|(fault, at)| fault.at(self.page, at))?;
        Ok(sample)
    }

    fn braces(&mut self, open: usize, named: bool) -> Result<lex::Braces<'a>, ParseError> {
        let rules = BraceRules {
            loose: false,
            quoted_names: self.quoted_names,
            named,
        };
        lex::braces(self.page, open, rules, &mut self.label_names)
            .map_err(|(fault, at)| fault.at(self.page, at))
    }

    fn series(&mut self, start: usize) -> Result<(Series<'a>, usize), ParseError> {
        let (page, open) = (self.page, lex::metric_name_end(self.page, start));
        let named = open > start;
        if page.get(open) != Some(&b'{') {
            if !named {
                let help = "a name begins with a letter, `_` or `:`, and nothing stands before it";
                return Err(self.error(fault("expected a metric name", help), start));
            }
            let name = lex::bare(page, start, open);
            return Ok((
                Series {
                    raw: &page[start..open],
                    name,
                    labels: Labels::default(),
                },
                open,
            ));
        }
        let braces = self.braces(open, named)?;
        let name = match braces.name {
            Some(name) if !name.0.is_empty() => name,
            None if named => lex::bare(page, start, open),
            _ => return Err(self.error(fault("no metric name", "write it before the brace"), open)),
        };
        Ok((
            Series {
                raw: &page[start..braces.end],
                name,
                labels: braces.labels,
            },
            braces.end,
        ))
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
                    "not a number",
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
                    self.number_after_blank(at, "expected a time in seconds", number::seconds)?;
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
                fault("not an exemplar", "write ` # {label=\"value\"} number`"),
                at + 1,
            ));
        }
        let braces = self.braces(at + 3, true)?;
        let chars = |text: Escaped<'_>| text.decode().chars().count();
        let length: usize = braces
            .labels
            .into_iter()
            .map(|(name, value)| chars(name) + chars(value))
            .sum();
        if length > EXEMPLAR_CHARS {
            let help = "names and values together have at most 128 characters";
            return Err(self.error(fault("the exemplar's labels are too long", help), at + 3));
        }
        let (value, end) =
            self.number_after_blank(braces.end, "expected the exemplar's value", number::float)?;
        let (timestamp_ns, end) = match self.page.get(end) {
            Some(b' ') => {
                let (time, end) =
                    self.number_after_blank(end, "expected the exemplar's time", number::seconds)?;
                (Some(time), end)
            }
            _ => (None, end),
        };
        Ok((
            Some(Exemplar {
                labels: braces.labels,
                value,
                timestamp_ns,
            }),
            end,
        ))
    }
}

/// `# WORD name text` into its parts; the text may be empty, the blank before it may not be missing.
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
