//! Reads protobuf in place, field by field, without copies or allocations.
//!
//! Used by all of [`crate::ingest`]. For any input, it never reads beyond the message, and it distinguishes a malformed message
//! from the end of one. Groups, which no OTLP message has, are malformed.
//!
//! Source: protobuf.dev, "Encoding".

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// Why a message is malformed or over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// A varint of more than ten bytes, or a message that ends within one.
    #[error("a varint is truncated or longer than 10 bytes")]
    Varint,
    /// A length prefix larger than the rest of the message.
    #[error("a field is longer than the message around it")]
    Length,
    /// Field number 0, or an unknown wire type.
    #[error("a field has an invalid tag")]
    Tag,
    /// A known field whose wire type is not that of the schema.
    #[error("a field has the wrong wire type")]
    Type,
    /// Text that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// More messages or fields in one request than allowed.
    #[error(
        "more than 1048576 resources, scopes, metrics, points, records or spans, or more than 4194304 other fields; send smaller batches"
    )]
    TooMany,
    /// A metric whose data is split over several fields of more than one mebibyte together.
    #[error("the data of one metric is split into parts of more than 1 MiB together; send it in one field")]
    Parts,
    /// Values nested beyond the limit.
    #[error("attribute values are nested more than 32 levels deep")]
    Depth,
}

/// A field's content, by wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content<'a> {
    /// int32, int64, uint32, uint64, sint32, bool, enum.
    Varint(u64),
    /// fixed64, sfixed64, double.
    Fixed64(u64),
    /// string, bytes, messages, packed lists.
    Bytes(&'a [u8]),
    /// fixed32.
    Fixed32(u32),
}

/// Wire type of [`Content::Varint`].
pub const VARINT: u64 = 0;
/// Wire type of [`Content::Fixed64`].
pub const FIXED64: u64 = 1;
/// Wire type of [`Content::Bytes`].
pub const BYTES: u64 = 2;

/// The tag before a field: its number and wire type.
pub const fn tag(number: u64, wire_type: u64) -> u64 {
    number << 3 | wire_type
}

/// A position within a message.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// Offset of the next byte.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next field, by number; `None` at the end.
    // Always inlined, so that each calling loop keeps only the wire types it uses.
    #[inline(always)]
    pub fn field(&mut self) -> Result<Option<(u32, Content<'a>)>, ProtobufError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        // Numbers of fields end at 2^29 - 1.
        if tag < 8 || tag > u64::from(u32::MAX) {
            return Err(ProtobufError::Tag);
        }
        let number = (tag >> 3) as u32;
        let content = match tag & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                Content::Bytes(self.take(usize::try_from(len).map_err(|_| ProtobufError::Length)?)?)
            }
            5 => Content::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(ProtobufError::Tag),
        };
        Ok(Some((number, content)))
    }

    /// The tag of the next field, as [`tag`] makes it; `None` at the end. The caller must read the content next. In hot loops, one
    /// comparison of the tag checks number and type at once.
    #[inline(always)]
    pub fn tag(&mut self) -> Result<Option<u64>, ProtobufError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    /// The content of a [`FIXED64`] field.
    #[inline(always)]
    pub fn fixed64(&mut self) -> Result<u64, ProtobufError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The content of a [`BYTES`] field.
    #[inline(always)]
    pub fn bytes(&mut self) -> Result<&'a [u8], ProtobufError> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| ProtobufError::Length)?)
    }

    /// Skips the content of an unused field. A field number in `known` is an error: its tag had the wrong wire type.
    #[cold]
    pub fn skip(&mut self, tag: u64, known: RangeInclusive<u64>) -> Result<(), ProtobufError> {
        if tag < 8 || tag > u64::from(u32::MAX) {
            return Err(ProtobufError::Tag);
        }
        match tag & 7 {
            VARINT => _ = self.varint()?,
            FIXED64 => _ = self.fixed64()?,
            BYTES => _ = self.bytes()?,
            5 => _ = self.array::<4>()?,
            _ => return Err(ProtobufError::Tag),
        }
        if known.contains(&(tag >> 3)) {
            return Err(ProtobufError::Type);
        }
        Ok(())
    }

    /// A varint without a tag, as in packed lists.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, ProtobufError> {
        // Nearly all have one byte; lengths of points have two.
        match self.bytes[self.at..] {
            [byte, ..] if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            [low, high, ..] if high < 0x80 => {
                self.at += 2;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    /// Skips the following length-delimited fields of this number and returns the offset after the last.
    ///
    /// The attributes of a point are written so. Stops at anything else, an invalid length included, which [`Cursor::field`] reports.
    #[inline(always)]
    pub fn past_all(&mut self, number: u32) -> usize {
        let tag = (number << 3 | 2) as u8;
        while let [first, len, ref rest @ ..] = self.bytes[self.at..]
            && first == tag
            && len < 0x80
            && usize::from(len) <= rest.len()
        {
            self.at += 2 + usize::from(len);
        }
        self.at
    }

    #[cold]
    fn long_varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for (at, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            if at == 9 && *byte > 1 {
                return Err(ProtobufError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.at += at + 1;
                return Ok(value);
            }
        }
        Err(ProtobufError::Varint)
    }

    #[inline(always)]
    fn take(&mut self, len: usize) -> Result<&'a [u8], ProtobufError> {
        let rest = &self.bytes[self.at..];
        if len > rest.len() {
            return Err(ProtobufError::Length);
        }
        self.at += len;
        Ok(&rest[..len])
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let (array, _) = self.bytes[self.at..]
            .split_first_chunk()
            .ok_or(ProtobufError::Length)?;
        self.at += N;
        Ok(*array)
    }

    /// Whether the message is read to its end.
    pub fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// The content of submessage `number`: a message split over several fields is their concatenation, as protobuf merges it.
pub fn submessage(message: &[u8], number: u32) -> Result<Cow<'_, [u8]>, ProtobufError> {
    let mut found = Cow::Borrowed(&[][..]);
    let mut cursor = Cursor::new(message);
    while let Some((field, content)) = cursor.field()? {
        if field == number {
            let Content::Bytes(part) = content else {
                return Err(ProtobufError::Type);
            };
            merge(&mut found, part);
        }
    }
    Ok(found)
}

/// Appends the next part of a message that is split over several fields.
pub fn merge<'a>(whole: &mut Cow<'a, [u8]>, part: &'a [u8]) {
    if whole.is_empty() {
        *whole = Cow::Borrowed(part);
    } else if !part.is_empty() {
        whole.to_mut().extend_from_slice(part);
    }
}

/// The text of a string field.
#[inline]
pub fn text(bytes: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes).map_err(|_| ProtobufError::Utf8)
}

/// Appends the varint form of `value`.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Content<'_>)>, ProtobufError> {
        let mut cursor = Cursor::new(bytes);
        let mut all = Vec::new();
        while let Some(field) = cursor.field()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn every_wire_type_is_read_and_malformed_fields_are_errors() {
        let check = |bytes: &[u8], expected: Result<Vec<(u32, Content<'_>)>, ProtobufError>| {
            assert_eq!(fields(bytes), expected, "{bytes:02x?}");
        };
        check(&[], Ok(vec![]));
        check(&[0x08, 0x96, 0x01], Ok(vec![(1, Content::Varint(150))]));
        check(&[0x12, 2, b'h', b'i'], Ok(vec![(2, Content::Bytes(b"hi"))]));
        check(&[0x1d, 1, 0, 0, 0], Ok(vec![(3, Content::Fixed32(1))]));
        check(
            &[0x21, 1, 0, 0, 0, 0, 0, 0, 0],
            Ok(vec![(4, Content::Fixed64(1))]),
        );
        check(&[0x08], Err(ProtobufError::Varint));
        check(&[0x08, 0x80], Err(ProtobufError::Varint));
        let ten = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        check(&ten, Ok(vec![(1, Content::Varint(u64::MAX))]));
        check(
            &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
            Err(ProtobufError::Varint),
        );
        check(&[0x12, 3, b'h', b'i'], Err(ProtobufError::Length));
        check(
            &[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            Err(ProtobufError::Length),
        );
        check(&[0x1d, 1, 0], Err(ProtobufError::Length));
        check(&[0x00, 1], Err(ProtobufError::Tag));
        check(&[0x0b], Err(ProtobufError::Tag));
        check(&[0x0f, 1], Err(ProtobufError::Tag));
    }

    #[test]
    fn a_split_message_is_the_concatenation_of_its_parts() {
        let mut bytes = Vec::new();
        put_bytes(&mut bytes, 1, b"ab");
        put_bytes(&mut bytes, 2, b"xx");
        put_bytes(&mut bytes, 1, b"cd");
        assert_eq!(&*submessage(&bytes, 1).unwrap(), b"abcd");
        assert_eq!(&*submessage(&bytes, 3).unwrap(), b"");
    }
}
