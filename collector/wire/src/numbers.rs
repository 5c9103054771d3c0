//! NUMBERS: the complete state of changed series, 20 bytes per row, read in place.

use crate::error::{Error, ErrorKind, Result};
use crate::frame;
use crate::frame_type::FrameType;
use crate::input::Input;
use crate::limits::HEADER_BYTES;

/// Bytes of the time before the rows.
pub const TIME_BYTES: usize = 8;
/// Bytes of a row.
pub const ROW_BYTES: usize = 20;

/// The cumulative state of one series: `int + float`, the integer part modulo 2^64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberRow {
    /// Id of the series on this connection.
    pub series: u32,
    /// Integer part.
    pub int: i64,
    /// Float part.
    pub float: f64,
}

/// A checked NUMBERS body.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'a> {
    /// When the rows were read, unix ns.
    pub time: i64,
    rows: &'a [[u8; ROW_BYTES]],
}

impl<'a> Numbers<'a> {
    /// Checks a body, without allocating. A frame without rows is valid and has no effect.
    ///
    /// # Errors
    /// [`ErrorKind::Truncated`] if it is not a time followed by whole rows.
    pub fn decode(body: &'a [u8]) -> Result<Self> {
        let mut input = Input::new(body, Some(FrameType::Numbers));
        let time = input.i64()?;
        let (rows, rest) = body[TIME_BYTES..].as_chunks::<ROW_BYTES>();
        if !rest.is_empty() {
            let kind = ErrorKind::Truncated {
                needed: ROW_BYTES,
                left: rest.len(),
            };
            return Err(input.error_at(body.len() - rest.len(), kind));
        }
        Ok(Self { time, rows })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = NumberRow> + use<'a> {
        self.rows.iter().map(|row| {
            let [a, b, c, d, int @ .., _, _, _, _, _, _, _, _] = *row;
            let [.., e, f, g, h, i, j, k, l] = *row;
            NumberRow {
                series: u32::from_le_bytes([a, b, c, d]),
                int: i64::from_le_bytes(int),
                float: f64::from_le_bytes([e, f, g, h, i, j, k, l]),
            }
        })
    }
}

/// Writes one NUMBERS frame at the end of a buffer.
#[derive(Debug)]
pub struct NumbersWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    max_body: usize,
}

impl<'o> NumbersWriter<'o> {
    /// Starts a frame of at most `max_body` bytes of body, the receiver's `max_frame`.
    pub fn begin(out: &'o mut Vec<u8>, time: i64, max_body: u32) -> Self {
        let start = frame::begin(out, FrameType::Numbers);
        out.extend_from_slice(&time.to_le_bytes());
        Self {
            out,
            start,
            max_body: max_body as usize,
        }
    }

    /// Adds a row; `false` if the frame is full and the row was not added.
    #[must_use]
    pub fn push(&mut self, row: NumberRow) -> bool {
        if self.out.len() - self.start - HEADER_BYTES + ROW_BYTES > self.max_body {
            return false;
        }
        self.out.extend_from_slice(&row.series.to_le_bytes());
        self.out.extend_from_slice(&row.int.to_le_bytes());
        self.out.extend_from_slice(&row.float.to_le_bytes());
        true
    }

    /// Completes the frame.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] if the body exceeds 1 MiB.
    pub fn finish(self) -> Result<()> {
        frame::end(self.out, self.start, FrameType::Numbers)
    }
}

impl From<NumberRow> for f64 {
    /// The value, rounded once.
    fn from(row: NumberRow) -> f64 {
        row.int as f64 + row.float
    }
}

/// The error for a row of an undefined series.
pub fn undefined_series(frame_type: FrameType, id: u32) -> Error {
    Error::new(Some(frame_type), 0, ErrorKind::Undefined { what: "series", id })
}
