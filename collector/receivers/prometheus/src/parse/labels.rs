//! The labels of a sample, decoded one by one.

use super::escaped::Escaped;
use super::lex;

/// The labels of a series or exemplar, decoded on iteration. A quoted metric name among them is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Labels<'a> {
    /// The text between the braces, which [`super::braces`] has checked.
    pub(super) inner: &'a str,
}

impl<'a> Labels<'a> {
    /// Whether there are no labels.
    pub fn is_empty(self) -> bool {
        self.into_iter().next().is_none()
    }

    /// The value of the label `name`, with escapes.
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

/// Iterates over [`Labels`] in the order of the page.
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
