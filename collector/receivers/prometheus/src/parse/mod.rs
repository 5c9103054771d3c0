//! Exposition pages, read in place.
//!
//! Two parsers, [`text`] (Prometheus text 0.0.4, as tolerant as Prometheus is) and [`openmetrics`] (OpenMetrics 1.0,
//! strict), walk a page and give out [`Item`]s that borrow from it. The scraper's ingest is their caller. They promise
//! to allocate nothing per sample, never to panic, and to say of a bad page at which line and column it is bad, what
//! stands there and what should.
//!
//! A caller that has seen a series before need not have it read again: [`Quick`] is a line cut at its last space, valid
//! if the bytes before that space are already known to be a whole series.

mod error;
mod family;
mod lex;
mod number;
pub mod openmetrics;
mod rules;
pub mod text;

use std::borrow::Cow;

pub use error::{FOUND_CHARS, ParseError};
pub use family::{FamilyKind, Role};

/// One line of a page that carries meaning; comments and blank lines are passed over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// `# TYPE name kind`
    Type { family: Escaped<'a>, kind: FamilyKind },
    /// `# HELP name text`
    Help { family: Escaped<'a>, text: Escaped<'a> },
    /// `# UNIT name unit`, in OpenMetrics only.
    Unit { family: Escaped<'a>, unit: &'a str },
    /// A value of one series.
    Sample(Sample<'a>),
}

/// One sample line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    pub series: Series<'a>,
    /// The family the sample belongs to, as its `# TYPE` line names it; the sample's own name if no line does.
    pub family: Escaped<'a>,
    pub kind: FamilyKind,
    /// What the sample is within its family.
    pub role: Role,
    pub value: f64,
    /// Nanoseconds since the epoch, if the line has a time.
    pub timestamp_ns: Option<i64>,
    pub exemplar: Option<Exemplar<'a>>,
}

/// Name and labels of a sample line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series<'a> {
    /// `name{...}` as it stands in the page: the same bytes always mean the same series.
    pub raw: &'a [u8],
    pub name: Escaped<'a>,
    pub labels: Labels<'a>,
}

/// An OpenMetrics exemplar: `# {trace_id="…"} value [time]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar<'a> {
    pub labels: Labels<'a>,
    pub value: f64,
    pub timestamp_ns: Option<i64>,
}

/// Text that may contain the escapes `\\`, `\n` and `\"`; any other backslash stands for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Escaped<'a>(pub &'a str);

impl<'a> Escaped<'a> {
    /// The text it stands for; borrowed unless there is a backslash in it.
    pub fn decode(self) -> Cow<'a, str> {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            Cow::Borrowed(self.0)
        } else {
            Cow::Owned(self.unescape())
        }
    }

    fn unescape(self) -> String {
        let mut out = String::with_capacity(self.0.len());
        let mut rest = self.0;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            let (text, used) = match rest.as_bytes().get(at + 1) {
                Some(b'n') => ('\n', 2),
                Some(b'"') => ('"', 2),
                Some(b'\\') => ('\\', 2),
                _ => ('\\', 1),
            };
            out.push(text);
            rest = &rest[at + used..];
        }
        out.push_str(rest);
        out
    }
}

/// The labels of a series or exemplar, decoded as they are asked for; a quoted metric name among them is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Labels<'a> {
    /// What stands between the braces; checked before a `Labels` is made.
    inner: &'a str,
}

impl<'a> Labels<'a> {
    pub fn is_empty(self) -> bool {
        self.into_iter().next().is_none()
    }

    /// The value of the label `name`, as it stands.
    pub fn get(self, name: &str) -> Option<Escaped<'a>> {
        self.into_iter()
            .find(|(key, _)| key.0 == name)
            .map(|(_, value)| value)
    }
}

impl<'a> IntoIterator for Labels<'a> {
    type Item = (Escaped<'a>, Escaped<'a>);
    type IntoIter = LabelIter<'a>;
    fn into_iter(self) -> LabelIter<'a> {
        LabelIter { rest: self.inner }
    }
}

/// Walks [`Labels`] in the order of the page.
#[derive(Debug, Clone)]
pub struct LabelIter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for LabelIter<'a> {
    type Item = (Escaped<'a>, Escaped<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let bytes = self.rest.as_bytes();
            let at = lex::skip(bytes, 0, |b| matches!(b, b' ' | b'\t' | b','));
            let (name, end) = lex::label_name(bytes, at)?;
            let from = at + usize::from(bytes[at] == b'"');
            let name = from..from + name.len();
            let equal = lex::blanks(bytes, end);
            if bytes.get(equal) != Some(&b'=') {
                self.rest = &self.rest[end..]; // a quoted metric name
                continue;
            }
            let open = lex::blanks(bytes, equal + 1);
            let (value, end) = lex::quoted(bytes, open)?;
            let pair = (
                Escaped(&self.rest[name]),
                Escaped(&self.rest[open + 1..open + 1 + value.len()]),
            );
            self.rest = &self.rest[end..];
            return Some(pair);
        }
    }
}

/// Bytes that were checked to be UTF-8 when the line was read.
fn text_of(bytes: &[u8]) -> Escaped<'_> {
    Escaped(std::str::from_utf8(bytes).unwrap_or_default())
}

/// A sample line cut at its last space without reading what stands before it.
///
/// If `series` is, byte for byte, a series that a parser gave out before, then `value` is its value and nothing else is
/// on the line: a line is read from the left, and a known series ends where it ended before. Otherwise it means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quick<'a> {
    pub series: &'a [u8],
    value: &'a [u8],
    next: usize,
}

impl Quick<'_> {
    /// The number at the end of the line; `None` sends the caller to the parser for the error.
    #[inline]
    pub fn value(&self) -> Option<f64> {
        number::float(self.value)
    }
}

/// The line at `at` if it begins with `#`, without its line feed, and the position after it.
#[inline]
fn comment_at(page: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = page.get(at..)?;
    if rest.first() != Some(&b'#') {
        return None;
    }
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    Some((&rest[..end], (at + end + 1).min(page.len())))
}

/// Cuts the line that starts at `at`; `None` for metadata, comments, blank lines and lines without a space.
#[inline]
fn quick(page: &[u8], at: usize) -> Option<Quick<'_>> {
    let rest = page.get(at..)?;
    if matches!(rest.first(), None | Some(b'#')) {
        return None;
    }
    let end = memchr::memchr(b'\n', rest)?;
    let line = &rest[..end];
    let space = line.iter().rposition(|&b| b == b' ')?;
    Some(Quick {
        series: &line[..space],
        value: &line[space + 1..],
        next: at + end + 1,
    })
}
