//! HISTOGRAMS: the complete state of changed histograms, 22 bytes per row and 11 per non-empty bucket, read in key.

use crate::error::{Error, ErrorKind, Result};
use crate::frame;
use crate::frame_type::FrameType;
use crate::input::Input;
use crate::limits::{BUCKETS_PER_ROW, HEADER_BYTES};
use crate::value::bounded;

/// Bytes of a row before its buckets.
pub const ROW_BYTES: usize = 22;
/// Bytes of a bucket.
pub const BUCKET_BYTES: usize = 11;

/// The side of zero on which a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The zero bucket; its index is 0.
    Zero,
    /// Above zero; also every bucket of a histogram with explicit bounds.
    Positive,
    /// Below zero.
    Negative,
}

impl Side {
    /// The code on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }

    fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Zero),
            1 => Some(Self::Positive),
            2 => Some(Self::Negative),
            _ => None,
        }
    }
}

/// A non-empty bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Exponential index, or the number of the bound.
    pub index: i16,
    /// Side.
    pub side: Side,
    /// Observations; above 0.
    pub count: u64,
}

/// The cumulative state of one histogram.
#[derive(Clone, Copy, Debug)]
pub struct HistogramRow<'a> {
    /// Id of the series on this connection.
    pub series: u32,
    /// Integer part of the sum, modulo 2^64.
    pub sum_int: i64,
    /// Float part of the sum.
    pub sum_float: f64,
    buckets: &'a [[u8; BUCKET_BYTES]],
}

impl<'a> HistogramRow<'a> {
    /// The buckets, strictly ascending by (side, index).
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = Bucket> + Clone + use<'a> {
        self.buckets.iter().map(|bytes| {
            let (index, side, count) = bucket(bytes);
            let side = Side::from_code(side).unwrap_or(Side::Zero);
            Bucket { index, side, count }
        })
    }

    /// Number of observations: the saturating sum of the counts. It is not sent, so it cannot contradict them.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, bytes| bucket(bytes).2.saturating_add(sum))
    }
}

fn bucket(bytes: &[u8; BUCKET_BYTES]) -> (i16, u8, u64) {
    let [a, b, side, count @ ..] = *bytes;
    (i16::from_le_bytes([a, b]), side, u64::from_le_bytes(count))
}

/// A checked HISTOGRAMS body.
#[derive(Clone, Copy, Debug)]
pub struct Histograms<'a> {
    /// When the rows were read, unix ns.
    pub time: i64,
    rows: &'a [u8],
}

impl<'a> Histograms<'a> {
    /// Checks a whole body, without allocating. A frame without rows is valid and has no effect.
    ///
    /// # Errors
    /// A truncated row, too many buckets, an unknown side, an empty bucket, buckets out of order.
    pub fn decode(body: &'a [u8]) -> Result<Self> {
        let mut input = Input::new(body, Some(FrameType::Histograms));
        let time = input.i64()?;
        let from = input.at();
        while input.left() > 0 {
            let at = input.at();
            let row = row(&mut input)?;
            if let Some((number, kind)) = invalid_bucket(row.buckets) {
                return Err(input.error_at(at + ROW_BYTES + number * BUCKET_BYTES, kind));
            }
        }
        Ok(Self {
            time,
            rows: &body[from..],
        })
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = HistogramRow<'a>> + use<'a> {
        let mut input = Input::new(self.rows, Some(FrameType::Histograms));
        // The body was checked, so the first error is the end.
        std::iter::from_fn(move || row(&mut input).ok())
    }
}

fn row<'a>(input: &mut Input<'a>) -> Result<HistogramRow<'a>> {
    let series = input.u32()?;
    let at = input.at();
    let count: usize = input.u16()?.into();
    if count > BUCKETS_PER_ROW {
        let kind = ErrorKind::OutOfRange {
            what: "buckets",
            got: count as i64,
            min: 0,
            max: BUCKETS_PER_ROW as i64,
        };
        return Err(input.error_at(at, kind));
    }
    let sum_int = input.i64()?;
    let sum_float = f64::from_bits(input.u64()?);
    let (buckets, _) = input.take(count * BUCKET_BYTES)?.as_chunks();
    Ok(HistogramRow {
        series,
        sum_int,
        sum_float,
        buckets,
    })
}

/// The first invalid bucket, and the problem.
fn invalid_bucket(buckets: &[[u8; BUCKET_BYTES]]) -> Option<(usize, ErrorKind)> {
    let mut previous = None;
    buckets.iter().enumerate().find_map(|(number, bytes)| {
        let (index, side, count) = bucket(bytes);
        let key = (side, index);
        let error = if side > Side::Negative.code() {
            Some(ErrorKind::UnknownCode {
                what: "bucket side",
                code: side,
            })
        } else if side == Side::Zero.code() && index != 0 {
            Some(ErrorKind::OutOfRange {
                what: "index of the zero bucket",
                got: index.into(),
                min: 0,
                max: 0,
            })
        } else if count == 0 {
            Some(ErrorKind::EmptyBucket)
        } else if previous.is_some_and(|previous| key <= previous) {
            Some(ErrorKind::BucketOrder)
        } else {
            None
        };
        previous = Some(key);
        error.map(|kind| (number, kind))
    })
}

/// Writes one HISTOGRAMS frame at the end of a buffer.
#[derive(Debug)]
pub struct HistogramsWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    max_body: usize,
}

impl<'o> HistogramsWriter<'o> {
    /// Starts a frame of at most `max_body` bytes of body, the receiver's `max_frame`.
    pub fn begin(out: &'o mut Vec<u8>, time: i64, max_body: u32) -> Self {
        let start = frame::begin(out, FrameType::Histograms);
        out.extend_from_slice(&time.to_le_bytes());
        Self {
            out,
            start,
            max_body: max_body as usize,
        }
    }

    /// Adds a row whose buckets ascend by (side, index); empty ones are skipped. `false` if the frame is full and the row was not
    /// added.
    ///
    /// # Errors
    /// More than 1,024 buckets, or buckets out of order.
    pub fn push(
        &mut self,
        series: u32,
        sum_int: i64,
        sum_float: f64,
        buckets: impl IntoIterator<Item = Bucket>,
    ) -> Result<bool> {
        let row = self.out.len();
        self.out.extend_from_slice(&series.to_le_bytes());
        self.out.extend_from_slice(&[0; 2]);
        self.out.extend_from_slice(&sum_int.to_le_bytes());
        self.out.extend_from_slice(&sum_float.to_le_bytes());
        for bucket in buckets.into_iter().filter(|bucket| bucket.count > 0) {
            self.out.extend_from_slice(&bucket.index.to_le_bytes());
            self.out.push(bucket.side.code());
            self.out.extend_from_slice(&bucket.count.to_le_bytes());
        }
        let result = self.complete(row);
        if !matches!(result, Ok(true)) {
            self.out.truncate(row);
        }
        result
    }

    fn complete(&mut self, row: usize) -> Result<bool> {
        let (buckets, _) = self.out[row + ROW_BYTES..].as_chunks();
        let count = buckets.len();
        bounded("buckets", count, BUCKETS_PER_ROW)?;
        if let Some((number, kind)) = invalid_bucket(buckets) {
            return Err(Error::new(Some(FrameType::Histograms), number, kind));
        }
        self.out[row + 4..row + 6].copy_from_slice(&(count as u16).to_le_bytes());
        Ok(self.out.len() - self.start - HEADER_BYTES <= self.max_body)
    }

    /// Completes the frame.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] if the body exceeds 1 MiB.
    pub fn finish(self) -> Result<()> {
        frame::end(self.out, self.start, FrameType::Histograms)
    }
}
