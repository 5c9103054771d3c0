//! Lines that are cut without reading their labels, for a series that a caller has seen before.

use super::number;

/// A sample line cut at its last space, without parsing the text before it.
///
/// If `series` is byte for byte a series that a parser returned before, then `value` is its value and the line has nothing else:
/// lines are parsed from the left, and a known series ends where it ended before. Otherwise the cut is meaningless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quick<'a> {
    /// The bytes before the last space.
    pub series: &'a [u8],
    value: &'a [u8],
    pub(super) next: usize,
}

impl Quick<'_> {
    /// The number at the end of the line; `None` if it is invalid: parse the line for the error.
    #[inline]
    pub fn value(&self) -> Option<f64> {
        number::float(self.value)
    }
}

/// The line at `at` if it begins with `#`, without its line feed, and the position after it.
#[inline]
pub(super) fn comment_at(page: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = page.get(at..)?;
    if rest.first() != Some(&b'#') {
        return None;
    }
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    Some((&rest[..end], (at + end + 1).min(page.len())))
}

/// Cuts the line that starts at `at`; `None` for metadata, comments, blank lines and lines without a space.
#[inline]
pub(super) fn quick(page: &[u8], at: usize) -> Option<Quick<'_>> {
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
