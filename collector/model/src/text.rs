//! Encodings of text and bytes that several crates need: control characters, percent, hex and base64.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;

/// Escapes control characters, so that untrusted text is safe on a terminal.
///
/// ```
/// use dichroic_model::text::escape_control;
/// assert_eq!(escape_control("shop@a"), "shop@a");
/// assert_eq!(escape_control("a\u{1b}[31m"), "a\\u{1b}[31m");
/// ```
pub fn escape_control(text: &str) -> Cow<'_, str> {
    escape_where(text, char::is_control, |c| c.escape_default().to_string())
}

/// Replaces every character for which `bad` returns true by its `replacement`.
pub fn escape_where(
    text: &str,
    bad: impl Fn(char) -> bool,
    replacement: impl Fn(char) -> String,
) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if bad(c) {
            out.push_str(&replacement(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A URL, or a part of one, without its secrets: user and password, and the values of the query, are `***`.
///
/// ```
/// use dichroic_model::text::redact_url;
/// assert_eq!(redact_url("http://a:80/metrics"), "http://a:80/metrics");
/// assert_eq!(redact_url("http://user:pw@a/m?key=x&y"), "http://***@a/m?key=***&***");
/// assert_eq!(redact_url("shop@a"), "shop@a");
/// ```
pub fn redact_url(url: &str) -> Cow<'_, str> {
    const HIDDEN: &str = "***";
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base
        .split_once("://")
        .map_or(("", base), |(scheme, rest)| (scheme, rest));
    let is_secret = |user: &str| !scheme.is_empty() || user.contains(':');
    let host = rest.rsplit_once('@').filter(|(user, _)| is_secret(user));
    if host.is_none() && query.is_none() {
        return Cow::Borrowed(url);
    }
    let mut out = String::with_capacity(url.len());
    if !scheme.is_empty() {
        out.extend([scheme, "://"]);
    }
    match host {
        Some((_, host)) => out.extend([HIDDEN, "@", host]),
        None => out.push_str(rest),
    }
    for (at, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        if let Some((name, _)) = pair.split_once('=') {
            out.extend([name, "="]);
        }
        out.push_str(HIDDEN);
    }
    Cow::Owned(out)
}

/// A number with a noun that has a regular plural.
///
/// ```
/// use dichroic_model::text::plural;
/// assert_eq!(plural(1, "span"), "1 span");
/// assert_eq!(plural(0, "span"), "0 spans");
/// ```
pub fn plural<N: fmt::Display + PartialEq + From<u8>>(n: N, one: &str) -> String {
    plural_of(n, one, &format!("{one}s"))
}

/// A number with the words for one, or for another number.
///
/// ```
/// use dichroic_model::text::plural_of;
/// assert_eq!(plural_of(1, "series is", "series are"), "1 series is");
/// assert_eq!(plural_of(2, "series is", "series are"), "2 series are");
/// ```
pub fn plural_of<N: fmt::Display + PartialEq + From<u8>>(n: N, one: &str, many: &str) -> String {
    let words = if n == N::from(1) { one } else { many };
    format!("{n} {words}")
}

/// All characters except RFC 3986's unreserved ones.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// All characters except the printable ASCII ones that gRPC does not encode.
const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// Percent-encodes a name or a value of a URL query.
pub fn encode_query(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Percent-encodes a `grpc-message` (gRPC over HTTP/2, "Status-Message").
pub fn encode_grpc_message(text: &str) -> String {
    utf8_percent_encode(text, GRPC_MESSAGE).to_string()
}

/// Why [`decode_query`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidQuery {
    /// A `%` that is not followed by two hex digits.
    Escape,
    /// The decoded bytes are not UTF-8.
    Utf8,
}

impl fmt::Display for InvalidQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InvalidQuery::Escape => "a % that is not followed by two hex digits",
            InvalidQuery::Utf8 => "not UTF-8",
        })
    }
}

impl std::error::Error for InvalidQuery {}

/// Decodes a name or a value of a URL query; `+` is a space.
pub fn decode_query(text: &str) -> Result<String, InvalidQuery> {
    let escaped = text.split('%').skip(1);
    let valid =
        |rest: &str| matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if !escaped.into_iter().all(valid) {
        return Err(InvalidQuery::Escape);
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| InvalidQuery::Utf8)
}

/// Appends lower-case hex digits.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// Lower-case hex digits.
pub fn encode_hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    push_hex(&mut out, bytes);
    String::from_utf8(out).expect("hex digits")
}

/// The bytes of hex digits in either case. `None` for an odd number of digits or other characters.
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

/// Standard base64 with padding (RFC 4648, section 4).
pub fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes base64: standard and URL-safe digits, with padding or without, as ProtoJSON accepts it.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::RequireNone),
    );
    let digits = text.trim_end_matches('=');
    let standard = digits.bytes().map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    });
    LENIENT.decode(standard.collect::<Vec<u8>>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_text_is_not() {
        assert_eq!(escape_control("shop@é"), "shop@é");
        assert_eq!(
            escape_control("a\u{1b}[31m\n\u{9b}é\u{7f}"),
            "a\\u{1b}[31m\\n\\u{9b}é\\u{7f}"
        );
    }

    #[test]
    fn a_query_decodes_to_what_was_encoded() {
        for text in ["", "a.b-c_d~", "a b+c&d=e%", "ключ", "\0\u{7f}"] {
            assert_eq!(decode_query(&encode_query(text)).as_deref(), Ok(text));
        }
        assert_eq!(encode_query("a b+é/~"), "a%20b%2B%C3%A9%2F~");
        assert_eq!(decode_query("a+b%2Bc"), Ok("a b+c".to_owned()));
        for text in ["%", "%e", "%zz", "%+f", "a%%20"] {
            assert_eq!(decode_query(text), Err(InvalidQuery::Escape), "{text}");
        }
        assert_eq!(decode_query("%ff"), Err(InvalidQuery::Utf8));
    }

    #[test]
    fn a_grpc_message_keeps_printable_ascii_except_percent() {
        assert_eq!(encode_grpc_message("50 %\né ~\u{7f}"), "50 %25%0A%C3%A9 ~%7F");
    }

    #[test]
    fn hex_is_decoded_in_either_case_or_rejected() {
        assert_eq!(encode_hex(&[0x0a, 0xff]), "0aff");
        assert_eq!(decode_hex("0aFf"), Some(vec![0x0a, 0xff]));
        assert_eq!(
            (decode_hex("0"), decode_hex("zz"), decode_hex("")),
            (None, None, Some(vec![]))
        );
    }

    #[test]
    fn base64_is_written_with_padding_and_read_in_any_form() {
        for (bytes, expected) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v")] {
            assert_eq!(encode_base64(bytes), expected);
        }
        assert_eq!(decode_base64("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(decode_base64("aGVsbG8"), Some(b"hello".to_vec()));
        assert_eq!(decode_base64("_-8"), Some(vec![0xff, 0xef]));
        assert_eq!((decode_base64("a"), decode_base64("a*b=")), (None, None));
    }
}
