//! Frames of a byte stream: the header, and the reader of a connection. The reader buffers only received bytes; it never allocates by
//! an announced length.

use crate::error::{Error, ErrorKind, Result};
use crate::frame_type::FrameType;
use crate::limits::{BODY_BYTES_BEFORE_HELLO, BODY_BYTES_MAX, HEADER_BYTES};

/// The five bytes before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body.
    pub length: u32,
    /// Type of the body.
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
    /// Type of the body.
    pub frame_type: FrameType,
    /// The bytes after the header.
    pub body: &'a [u8],
}

/// Splits a byte stream into frames.
///
/// Push received bytes, then call [`next`](Self::next) until it returns `None`. The buffer then has at most one incomplete frame.
/// After an error the stream cannot be continued: close the connection.
///
/// ```
/// use dichroic_wire::{FrameReader, FrameType, Ping};
///
/// let mut bytes = Vec::new();
/// Ping(42).write(&mut bytes);
///
/// let mut reader = FrameReader::new();
/// reader.hello_accepted(262_144);
/// reader.push(&bytes[..7]);
/// assert_eq!(reader.next()?, None);
/// reader.push(&bytes[7..]);
/// let frame = reader.next()?.expect("a whole frame");
/// assert_eq!(frame.frame_type, FrameType::Ping);
/// assert_eq!(Ping::decode(frame.body)?, Ping(42));
/// # Ok::<(), dichroic_wire::Error>(())
/// ```
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have been returned.
    taken: usize,
    max_body: u32,
    hello_accepted: bool,
    /// Whether no frame was returned yet: the bytes may be of another protocol.
    at_start: bool,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// A reader for a new connection: it accepts HELLO or GOODBYE of at most 16 KiB until [`hello_accepted`](Self::hello_accepted).
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            taken: 0,
            max_body: BODY_BYTES_BEFORE_HELLO,
            hello_accepted: false,
            at_start: true,
        }
    }

    /// Call after accepting the peer's HELLO: from then on frames of all types are allowed, with bodies up to the `max_frame` that
    /// this side announced, at most 1 MiB.
    pub fn hello_accepted(&mut self, max_frame: u32) {
        self.hello_accepted = true;
        self.max_body = max_frame.min(BODY_BYTES_MAX);
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            // Moves only the start of an incomplete frame.
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Number of bytes pushed and not yet returned; 0 between frames. If it is not 0 when the peer closes, the stream is truncated.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.taken
    }

    /// Bytes pushed and not yet returned, for the reader that continues the connection.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The next whole frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`ErrorKind::Http`] if the first bytes are an HTTP request, [`ErrorKind::FrameTooLong`] as soon as a header announces a body
    /// over the limit, [`ErrorKind::UnknownCode`] for type 0, [`ErrorKind::HelloExpected`] for a first frame that is neither HELLO
    /// nor GOODBYE.
    #[allow(
        clippy::should_implement_trait,
        reason = "it borrows from the reader, which Iterator cannot"
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
            // Type 0 is reserved in all versions: a stream of zeros is corrupt.
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

/// Completes the length of the frame that starts at `start`; a frame over 1 MiB is removed.
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

/// Writes a whole frame; on an error `out` is unchanged.
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

/// The body of one whole encoded frame; empty without a whole header.
pub fn body(frame: &[u8]) -> &[u8] {
    frame.get(HEADER_BYTES..).unwrap_or_default()
}

/// Moves the body of one whole encoded frame into a buffer of exactly its size; the header remains in `frame`.
///
/// # Panics
/// If `frame` is shorter than a header.
pub fn split_body(frame: &mut Vec<u8>) -> Vec<u8> {
    frame.split_off(HEADER_BYTES)
}

impl RawFrame<'_> {
    /// Writes the frame unchanged, for forwarding.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        write(out, self.frame_type, |out| {
            out.extend_from_slice(self.body);
            Ok(())
        })
    }
}
