//! The prefix of a gRPC message: a flag and the length.

use bytes::Bytes;

/// Flag and length before each message.
pub(super) const PREFIX_BYTES: usize = 5;

/// Why a body is not one message of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Shorter than the prefix.
    #[error("missing message; a call needs one message with its 5-byte prefix")]
    Missing,
    /// Another length than the prefix states: a message in pieces, or several messages.
    #[error("the length prefix is {stated} bytes, but the message has {actual}")]
    Length {
        /// In the prefix.
        stated: usize,
        /// After the prefix.
        actual: usize,
    },
    /// Neither compressed nor uncompressed.
    #[error("invalid compression flag {0}; expected 0 or 1")]
    Flag(u8),
}

/// The one message of a unary call's body, and whether it is compressed.
///
/// # Errors
/// See [`FramingError`].
pub fn unframe(mut framed: Bytes) -> Result<(Bytes, bool), FramingError> {
    if framed.len() < PREFIX_BYTES {
        return Err(FramingError::Missing);
    }
    let prefix = framed.split_to(PREFIX_BYTES);
    let stated = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    let actual = framed.len();
    if stated != actual {
        return Err(FramingError::Length { stated, actual });
    }
    match prefix[0] {
        0 => Ok((framed, false)),
        1 => Ok((framed, true)),
        flag => Err(FramingError::Flag(flag)),
    }
}
