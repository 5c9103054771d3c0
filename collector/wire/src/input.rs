//! A cursor over one body. Every read checks the remaining length first, so that decoders neither panic nor trust a
//! count that exceeds the bytes.

use crate::error::{Error, ErrorKind, Result};
use crate::frame_type::FrameType;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    frame: Option<FrameType>,
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8], frame: Option<FrameType>) -> Self {
        Self { bytes, at: 0, frame }
    }

    /// Offset of the next byte in the body.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at the next byte.
    pub fn error(&self, kind: ErrorKind) -> Error {
        Error::new(self.frame, self.at, kind)
    }

    /// An error at an earlier byte.
    pub fn error_at(&self, at: usize, kind: ErrorKind) -> Error {
        Error::new(self.frame, at, kind)
    }

    /// Checks a number that was read at `at`.
    pub fn within(&self, at: usize, what: &'static str, got: usize, min: usize, max: usize) -> Result<()> {
        if (min..=max).contains(&got) {
            return Ok(());
        }
        let kind = ErrorKind::OutOfRange {
            what,
            got: got as i64,
            min: min as i64,
            max: max as i64,
        };
        Err(self.error_at(at, kind))
    }

    /// The bytes between two offsets that were already read.
    pub fn between(&self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[from..to]
    }

    pub fn take(&mut self, needed: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match rest.get(..needed) {
            Some(taken) => {
                self.at += needed;
                Ok(taken)
            }
            None => Err(self.error(ErrorKind::Truncated {
                needed,
                left: rest.len(),
            })),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let rest = &self.bytes[self.at..];
        match rest.first_chunk::<N>() {
            Some(array) => {
                self.at += N;
                Ok(*array)
            }
            None => Err(self.error(ErrorKind::Truncated {
                needed: N,
                left: rest.len(),
            })),
        }
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub fn str(&mut self, len: usize) -> Result<&'a str> {
        let at = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| self.error_at(at, ErrorKind::NotUtf8))
    }

    /// Fails if bytes remain after the last field.
    pub fn finish(&self) -> Result<()> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.error(ErrorKind::Trailing(left))),
        }
    }
}
