//! Errors of a page: position, text found there, and what to write instead.

use std::fmt;

/// A page that could not be parsed. No sample of it is applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: &'static str,
    /// The text at this position, at most [`FOUND_CHARS`] characters; empty at the end of the line.
    pub found: String,
    /// What to write instead.
    pub help: &'static str,
}

/// Longest excerpt of a page that an error quotes.
pub const FOUND_CHARS: usize = 40;

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.problem)?;
        match self.found.as_str() {
            "" => write!(f, ", found the end of the line")?,
            found => write!(f, ", found {found:?}")?,
        }
        write!(f, "; {}", self.help)
    }
}

/// An error without a position, from checks that do not see the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub problem: &'static str,
    pub help: &'static str,
}

pub(crate) const fn fault(problem: &'static str, help: &'static str) -> Fault {
    Fault { problem, help }
}

/// A fault and its position in the page, in bytes.
pub(crate) type Placed = (Fault, usize);

impl Fault {
    /// Computes line and column of byte `at`. Lines are counted only here, so a valid page has no cost.
    #[cold]
    pub(crate) fn at(self, page: &[u8], at: usize) -> ParseError {
        let at = at.min(page.len());
        let before = &page[..at];
        let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line_end = memchr::memchr(b'\n', &page[at..]).map_or(page.len(), |newline| at + newline);
        // A character has at most four bytes; cutting first avoids decoding a very long line.
        let shown = &page[at..line_end.min(at + 4 * FOUND_CHARS)];
        ParseError {
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: String::from_utf8_lossy(&page[start..at]).chars().count() + 1,
            problem: self.problem,
            found: String::from_utf8_lossy(shown).chars().take(FOUND_CHARS).collect(),
            help: self.help,
        }
    }
}
