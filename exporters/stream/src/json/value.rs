//! Values as JSON: numbers, strings, bytes, lists and maps.

use dichroic_model::text::push_hex;
use dichroic_wire::{Cell, Value};
use std::io::Write;

/// Writes one value.
pub fn value(out: &mut Vec<u8>, cell: Cell<'_>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Bool(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
        Cell::Int(int) => integer(out, int),
        Cell::Float(value) => float(out, value),
        Cell::Str(text) => string(out, text),
        Cell::CutStr { kept, .. } => {
            string(out, kept);
            out.pop();
            out.extend_from_slice("…\"".as_bytes());
        }
        Cell::Bytes(bytes) => quoted_hex(out, bytes),
        Cell::List(items) => {
            out.push(b'[');
            list(out, items.iter(), value);
            out.push(b']');
        }
        Cell::Map(entries) => map(out, entries.iter(), value),
    }
}

pub(super) fn owned(out: &mut Vec<u8>, item: &Value) {
    match item {
        Value::Null => value(out, Cell::Null),
        Value::Bool(flag) => value(out, Cell::Bool(*flag)),
        Value::Int(int) => integer(out, *int),
        Value::Float(number) => float(out, *number),
        Value::Str(text) => string(out, text),
        Value::Cut { whole_len, kept } => value(
            out,
            Cell::CutStr {
                whole_len: *whole_len,
                kept,
            },
        ),
        Value::Bytes(bytes) => quoted_hex(out, bytes),
        Value::List(items) => {
            out.push(b'[');
            list(out, items.iter(), owned);
            out.push(b']');
        }
        Value::Map(entries) => map(
            out,
            entries.iter().map(|(key, value)| (key.as_str(), value)),
            owned,
        ),
    }
}

pub(super) fn list<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    let mut first = true;
    for item in items {
        comma(out, &mut first);
        write(out, item);
    }
}

pub(super) fn map<'a, T>(
    out: &mut Vec<u8>,
    entries: impl Iterator<Item = (&'a str, T)>,
    write: impl Fn(&mut Vec<u8>, T),
) {
    out.push(b'{');
    list(out, entries, |out, (key, item)| {
        string(out, key);
        out.push(b':');
        write(out, item);
    });
    out.push(b'}');
}

pub(super) fn comma(out: &mut Vec<u8>, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(b',');
    }
}

pub(super) fn integer(out: &mut Vec<u8>, int: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(int).as_bytes());
}

pub(super) fn float(out: &mut Vec<u8>, float: f64) {
    if float.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(float).as_bytes());
    } else if float.is_nan() {
        out.extend_from_slice(br#""NaN""#);
    } else if float > 0.0 {
        out.extend_from_slice(br#""Infinity""#);
    } else {
        out.extend_from_slice(br#""-Infinity""#);
    }
}

/// `int + part`: exact without a part; a float without an integer keeps its form, including the sign of zero.
pub(super) fn number(out: &mut Vec<u8>, int: i64, part: f64) {
    if part == 0.0 && (int != 0 || part.is_sign_positive()) {
        integer(out, int);
    } else if int == 0 {
        float(out, part);
    } else {
        float(out, int as f64 + part);
    }
}

fn quoted_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    push_hex(out, bytes);
    out.push(b'"');
}

/// Writes a string, with quote, backslash and control characters escaped; also U+2028 and U+2029, which end a line for some
/// readers of lines.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        rest = escape(out, special);
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'"' | b'\\' | 0xe2)
}

/// Writes the first character of `text` and returns the rest.
fn escape<'t>(out: &mut Vec<u8>, text: &'t [u8]) -> &'t [u8] {
    let short = match text[0] {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        0xe2 => {
            match text.get(1..3) {
                Some([0x80, 0xa8]) => out.extend_from_slice(b"\\u2028"),
                Some([0x80, 0xa9]) => out.extend_from_slice(b"\\u2029"),
                _ => {
                    out.push(0xe2);
                    return &text[1..];
                }
            }
            return &text[3..];
        }
        control => {
            let _ = write!(out, "\\u{control:04x}");
            return &text[1..];
        }
    };
    out.extend_from_slice(short);
    &text[1..]
}
