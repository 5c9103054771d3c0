//! Text of a page, as it is written there.

use std::borrow::Cow;

/// Text with the escapes `\\`, `\n` and `\"`; any other backslash is literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Escaped<'a>(pub &'a str);

impl<'a> Escaped<'a> {
    /// The text without escapes; borrowed unless it contains a backslash.
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

/// Text from bytes that were checked to be UTF-8 when the line was read.
pub(super) fn text_of(bytes: &[u8]) -> Escaped<'_> {
    Escaped(std::str::from_utf8(bytes).unwrap_or_default())
}
