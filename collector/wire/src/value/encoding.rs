//! Parts of the encoding shared by owned and borrowed values: counts, strings, keys, the canonical NaN.

use crate::error::{Error, ErrorKind, Result};
use crate::limits::{ELEMENTS, KEY_BYTES, STRING_BYTES};
use crate::value::tag;

/// The bits of the only valid NaN.
pub const CANONICAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

pub(super) fn put_map_head(out: &mut Vec<u8>, len: usize) -> Result<()> {
    out.push(tag::MAP);
    put_count(out, len)
}

pub(super) fn put_count(out: &mut Vec<u8>, len: usize) -> Result<()> {
    bounded("elements", len, ELEMENTS)?;
    out.extend_from_slice(&(len as u16).to_le_bytes());
    Ok(())
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    bounded("string", bytes.len(), STRING_BYTES)?;
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

pub(super) fn put_key(out: &mut Vec<u8>, key: &str) -> Result<()> {
    bounded("key", key.len(), KEY_BYTES)?;
    if key.is_empty() {
        return Err(Error::new(
            None,
            0,
            ErrorKind::Unwritable {
                what: "empty key",
                got: 0,
                max: KEY_BYTES,
            },
        ));
    }
    out.push(key.len() as u8);
    out.extend_from_slice(key.as_bytes());
    Ok(())
}

pub(super) fn put_cut(out: &mut Vec<u8>, whole_len: u32, kept: &str) -> Result<()> {
    out.push(tag::CUT);
    bounded(
        "kept part of a cut string",
        kept.len(),
        (whole_len as usize).saturating_sub(1),
    )?;
    out.extend_from_slice(&whole_len.to_le_bytes());
    put_bytes(out, kept.as_bytes())
}

pub(crate) fn bounded(what: &'static str, got: usize, max: usize) -> Result<()> {
    if got > max {
        return Err(Error::new(None, 0, ErrorKind::Unwritable { what, got, max }));
    }
    Ok(())
}

pub(crate) fn float_bits(value: f64) -> u64 {
    if value.is_nan() {
        CANONICAL_NAN_BITS
    } else {
        value.to_bits()
    }
}

/// The longest prefix of at most `max_bytes` that ends at a code point boundary.
pub(crate) fn cut_at(text: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}
