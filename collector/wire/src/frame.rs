//! Frames out of a byte stream: the header, the ten types, and the reader that every connection pushes its bytes
//! into. The reader holds what arrived and no more: nothing is allocated by an announced length.

use crate::error::{Error, ErrorKind, Result};
use crate::frame_type::FrameType;
use crate::limits::{BODY_BYTES_BEFORE_HELLO, BODY_BYTES_MAX, HEADER_BYTES};

/// The five bytes before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body.
    pub length: u32,
    /// What the body is.
    pub frame_type: FrameType,
}

impl Header {
    /// Reads a header.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Self {
        let [a, b, c, d, code] = bytes;
        Self {
            length: u32::from_le_bytes([a, b, c, d]),
            frame_type: FrameType::from_code(code),
        }
    }

    /// Writes a header.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.length.to_le_bytes();
        [a, b, c, d, self.frame_type.code()]
    }
}

/// A whole frame, undecoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// What the body is.
    pub frame_type: FrameType,
    /// The bytes after the header.
    pub body: &'a [u8],
}

/// Cuts a byte stream into frames.
///
/// Push what was read, then call [`next`](Self::next) until it says `None`. The memory held is what was pushed and
/// not yet taken: at most one unfinished frame plus one push, when the caller drains it after every push.
/// After an error the stream is lost: close the connection.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed out.
    taken: usize,
    max_body: u32,
    hello_accepted: bool,
    /// Nothing was handed out yet, so the first bytes may be another protocol's.
    at_start: bool,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// A reader for a new connection: it takes HELLO or GOODBYE of at most 16 KiB until [`hello_accepted`](Self::hello_accepted).
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            taken: 0,
            max_body: BODY_BYTES_BEFORE_HELLO,
            hello_accepted: false,
            at_start: true,
        }
    }

    /// The peer's HELLO was accepted: from now on bodies may be as long as the `max_frame` that this side announces
    /// (at most 1 MiB) and of any type.
    pub fn hello_accepted(&mut self, max_frame: u32) {
        self.hello_accepted = true;
        self.max_body = max_frame.min(BODY_BYTES_MAX);
    }

    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            // Only the start of an unfinished frame is moved.
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes pushed and not yet handed out: 0 between frames. A connection closed while this is not 0 was cut.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.taken
    }

    /// What was pushed and not handed out: goes to the reader that takes the connection over.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The next whole frame, or `None` until more is pushed.
    ///
    /// # Errors
    /// [`ErrorKind::Http`] when the first bytes are an HTTP request, [`ErrorKind::FrameTooLong`] as soon as a header
    /// announces too much, [`ErrorKind::UnknownCode`] for type 0, [`ErrorKind::HelloExpected`] for a first frame that is neither HELLO nor GOODBYE.
    #[allow(
        clippy::should_implement_trait,
        reason = "it lends from the reader, which Iterator cannot"
    )]
    pub fn next(&mut self) -> Result<Option<RawFrame<'_>>> {
        let rest = &self.buffer[self.taken..];
        if self.at_start && is_http(rest) {
            return Err(Error::new(None, 0, ErrorKind::Http));
        }
        let Some(header) = rest.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let Header { length, frame_type } = Header::decode(*header);
        self.admit(length, frame_type)?;
        let end = HEADER_BYTES + length as usize;
        if rest.len() < end {
            return Ok(None);
        }
        let start = self.taken + HEADER_BYTES;
        self.taken += end;
        self.at_start = false;
        Ok(Some(RawFrame {
            frame_type,
            body: &self.buffer[start..self.taken],
        }))
    }

    fn admit(&self, length: u32, frame_type: FrameType) -> Result<()> {
        if frame_type == FrameType::Unknown(0) {
            // No version will have it: a stream of zeros is out of step, not newer.
            return Err(Error::new(
                None,
                0,
                ErrorKind::UnknownCode {
                    what: "frame type",
                    code: 0,
                },
            ));
        }
        if !self.hello_accepted && !matches!(frame_type, FrameType::Hello | FrameType::Goodbye) {
            return Err(Error::new(Some(frame_type), 0, ErrorKind::HelloExpected));
        }
        if length > self.max_body {
            let kind = ErrorKind::FrameTooLong {
                length,
                limit: self.max_body,
            };
            return Err(Error::new(Some(frame_type), 0, kind));
        }
        Ok(())
    }
}

fn is_http(first: &[u8]) -> bool {
    [b"GET ", b"POST", b"PRI "]
        .iter()
        .any(|method| first.starts_with(*method))
}

/// Starts a frame at the end of `out`; [`end`] completes its length.
pub(crate) fn begin(out: &mut Vec<u8>, frame_type: FrameType) -> usize {
    let start = out.len();
    out.extend_from_slice(
        &Header {
            length: 0,
            frame_type,
        }
        .encode(),
    );
    start
}

/// Completes the length of the frame that began at `start`; a frame that nobody may receive is taken back.
pub(crate) fn end(out: &mut Vec<u8>, start: usize, frame_type: FrameType) -> Result<()> {
    let got = out.len() - start - HEADER_BYTES;
    match u32::try_from(got) {
        Ok(length) if length <= BODY_BYTES_MAX => {
            out[start..start + 4].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            let kind = ErrorKind::Unwritable {
                what: "body",
                got,
                max: BODY_BYTES_MAX as usize,
            };
            Err(Error::new(Some(frame_type), 0, kind))
        }
    }
}

/// Writes a whole frame; whatever goes wrong inside leaves `out` as it was.
pub(crate) fn write(
    out: &mut Vec<u8>,
    frame_type: FrameType,
    body: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let start = begin(out, frame_type);
    if let Err(mut error) = body(out) {
        out.truncate(start);
        error.frame = error.frame.or(Some(frame_type));
        return Err(error);
    }
    end(out, start, frame_type)
}

/// The body of one whole encoded frame; empty when there is not even a header.
pub fn body(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_BYTES..).unwrap_or_default()
}

/// Moves the body of one whole encoded frame into a buffer of exactly its size; the header remains in `frame`.
///
/// # Panics
/// When `frame` is shorter than a header.
pub fn split_body(frame: &mut Vec<u8>) -> Vec<u8> {
    frame.split_off(HEADER_BYTES)
}

impl RawFrame<'_> {
    /// Writes the frame as it came, for forwarding.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        write(out, self.frame_type, |out| {
            out.extend_from_slice(self.body);
            Ok(())
        })
    }
}
