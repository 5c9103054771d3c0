//! Tokens of both formats. Every function takes the bytes and a position, and returns the end of its token.

use super::escaped::{Escaped, text_of};

/// Bytes allowed in a bare metric name (bit 0), and as its first byte (bit 1); in label names the colon is not allowed.
const NAME: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphabetic() || b == b'_' || b == b':' {
            table[byte] = 3;
        } else if b.is_ascii_digit() {
            table[byte] = 1;
        }
        byte += 1;
    }
    table
};

/// The first position from `at` whose byte does not satisfy `what`.
#[inline]
pub(crate) fn skip(bytes: &[u8], at: usize, what: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&b| !what(b)).unwrap_or(rest.len())
}

#[inline]
pub(crate) fn blanks(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, |b| matches!(b, b' ' | b'\t'))
}

/// The end of a bare metric name; `at` itself if there is none.
#[inline]
pub(crate) fn metric_name_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(&first) if NAME[usize::from(first)] & 2 != 0 => {
            skip(bytes, at + 1, |b| NAME[usize::from(b)] != 0)
        }
        _ => at,
    }
}

fn label_name_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(&first) if first != b':' && NAME[usize::from(first)] & 2 != 0 => {
            skip(bytes, at + 1, |b| b != b':' && NAME[usize::from(b)] != 0)
        }
        _ => at,
    }
}

/// The text between the quotes that open at `at`, and the position after them.
pub(crate) fn quoted(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut from = at + 1;
    loop {
        let stop = from + memchr::memchr2(b'"', b'\\', bytes.get(from..)?)?;
        match bytes[stop] {
            b'"' => return Some((&bytes[at + 1..stop], stop + 1)),
            _ => from = stop + 2,
        }
    }
}

/// A bare or quoted name within braces, without quotes, and the position after it.
pub(crate) fn label_name(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if bytes.get(at) == Some(&b'"') {
        return quoted(bytes, at);
    }
    let end = label_name_end(bytes, at);
    (end > at).then(|| (&bytes[at..end], end))
}

/// A bare name as text; it is ASCII.
pub(crate) fn bare(page: &[u8], from: usize, to: usize) -> Escaped<'_> {
    text_of(&page[from..to])
}
