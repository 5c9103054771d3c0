//! Reads data points from their bytes without copying.
//!
//! Each reader returns what [`super::group`] writes into a cell. Lists stay encoded until then, so that several points can be read
//! before the first is written. Field numbers: `opentelemetry/proto/metrics/v1/metrics.proto`.

use super::attributes::{Pair, pairs};
use crate::protobuf::{BYTES, Content, Cursor, FIXED64, ProtobufError, VARINT, merge, tag};
use dichroic_model::text::{encode_base64, encode_hex};
use dichroic_model::{Attributes, Exemplar, Number, UnixNanos};
use std::borrow::Cow;

/// Most counts and bounds of one point. Packed varints would let a message of one megabyte expand to eight.
const LIST: usize = 16_384;
/// `DataPointFlags.NO_RECORDED_VALUE`.
const NO_RECORDED_VALUE: u64 = 1;

/// Buffers reused from point to point.
#[derive(Default)]
pub(super) struct Scratch {
    /// Bytes left of the current step.
    pub(super) left: usize,
    /// Attribute fields that were not contiguous, joined.
    pub(super) run: Vec<u8>,
    /// Identity of the current metric, as hashed.
    pub(super) prefix: Vec<u8>,
    pub(super) counts: Vec<u64>,
    pub(super) negative: Vec<u64>,
    pub(super) bounds: Vec<f64>,
    pub(super) quantiles: Vec<(f64, f64)>,
}

impl Scratch {
    /// Reduces what is left of the step.
    #[inline]
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// The fields that every kind of point has.
#[derive(Default)]
pub(super) struct Common<'a> {
    /// Position of the attribute fields, tags included.
    pub(super) attributes: Run,
    pub(super) start: UnixNanos,
    pub(super) time: UnixNanos,
    pub(super) no_value: bool,
    /// The newest exemplar.
    pub(super) exemplar: Option<&'a [u8]>,
    /// Its time, once it was read.
    exemplar_time: Option<UnixNanos>,
}

/// A gauge's or sum's point.
pub(super) struct NumberPoint<'a> {
    pub(super) common: Common<'a>,
    /// Missing when the point has no value.
    pub(super) value: Option<Number>,
}

/// A histogram's point.
pub(super) struct HistogramPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    /// The bytes of the counts: a multiple of eight.
    pub(super) counts: Cow<'a, [u8]>,
    /// The bytes of the bounds, for the fingerprint.
    pub(super) bounds: Cow<'a, [u8]>,
}

/// An exponential histogram's point.
pub(super) struct ExponentialPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    /// `Buckets` messages, for [`buckets`].
    pub(super) positive: Cow<'a, [u8]>,
    pub(super) negative: Cow<'a, [u8]>,
}

/// A summary's point; its quantiles are read by [`quantiles`].
pub(super) struct SummaryPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

/// Position of the attribute fields: one range of the point while they are contiguous, as all known senders write them.
#[derive(Default)]
pub(super) struct Run {
    start: usize,
    end: usize,
    split: bool,
}

impl Run {
    #[inline]
    fn add(&mut self, from: usize, to: usize) {
        if self.end == 0 {
            self.start = from;
        } else if self.end != from {
            self.split = true;
        }
        self.end = to;
    }

    /// The attribute fields, which have this number in the point, joined.
    #[inline]
    pub(super) fn of<'a>(
        &self,
        point: &'a [u8],
        number: u32,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], ProtobufError> {
        if self.split {
            joined(point, number, buffer)
        } else {
            Ok(&point[self.start..self.end])
        }
    }
}

#[cold]
fn joined<'a>(point: &[u8], number: u32, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], ProtobufError> {
    buffer.clear();
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some((field, _)) = cursor.field()? {
        if field == number {
            buffer.extend_from_slice(&point[from..cursor.at()]);
        }
        from = cursor.at();
    }
    Ok(buffer)
}

impl<'a> Common<'a> {
    /// Keeps the newest exemplar. Times are read only when there are several, each once.
    fn newer(&mut self, exemplar: &'a [u8]) -> Result<(), ProtobufError> {
        let Some(held) = self.exemplar else {
            self.exemplar = Some(exemplar);
            return Ok(());
        };
        let held = match self.exemplar_time {
            Some(time) => time,
            None => *self.exemplar_time.insert(measured(held)?),
        };
        let time = measured(exemplar)?;
        if time >= held {
            (self.exemplar, self.exemplar_time) = (Some(exemplar), Some(time));
        }
        Ok(())
    }
}

/// Time of an exemplar; 0 without one.
fn measured(exemplar: &[u8]) -> Result<UnixNanos, ProtobufError> {
    let (mut time, mut cursor) = (0, Cursor::new(exemplar));
    while let Some(field) = cursor.field()? {
        if let (2, Content::Fixed64(at)) = field {
            time = at;
        }
    }
    Ok(time)
}

#[inline]
fn double(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// Tags of fields that have the same number and meaning in numbers and histograms.
const START: u64 = tag(2, FIXED64);
const TIME: u64 = tag(3, FIXED64);

/// Reads a `NumberDataPoint`.
#[inline(always)]
pub(super) fn number(point: &[u8]) -> Result<NumberPoint<'_>, ProtobufError> {
    const DOUBLE: u64 = tag(4, FIXED64);
    const EXEMPLAR: u64 = tag(5, BYTES);
    const INT: u64 = tag(6, FIXED64);
    const ATTRIBUTE: u64 = tag(7, BYTES);
    const FLAGS: u64 = tag(8, VARINT);
    let mut common = Common::default();
    let mut value = None;
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some(tag) = cursor.tag()? {
        match tag {
            ATTRIBUTE => {
                cursor.bytes()?;
                common.attributes.add(from, cursor.past_all(7));
            }
            START => common.start = cursor.fixed64()?,
            TIME => common.time = cursor.fixed64()?,
            DOUBLE => value = Some(Number::float(double(cursor.fixed64()?))),
            INT => value = Some(Number::int(cursor.fixed64()? as i64)),
            EXEMPLAR => common.newer(cursor.bytes()?)?,
            FLAGS => common.no_value = cursor.varint()? & NO_RECORDED_VALUE != 0,
            other => cursor.skip(other, 2..=8)?,
        }
        from = cursor.at();
    }
    Ok(NumberPoint { common, value })
}

/// Reads a `HistogramDataPoint`.
#[inline(always)]
pub(super) fn histogram(point: &[u8]) -> Result<HistogramPoint<'_>, ProtobufError> {
    const COUNT: u64 = tag(4, FIXED64);
    const SUM: u64 = tag(5, FIXED64);
    const COUNTS: u64 = tag(6, BYTES);
    const ONE_COUNT: u64 = tag(6, FIXED64);
    const BOUNDS: u64 = tag(7, BYTES);
    const ONE_BOUND: u64 = tag(7, FIXED64);
    const EXEMPLAR: u64 = tag(8, BYTES);
    const ATTRIBUTE: u64 = tag(9, BYTES);
    const FLAGS: u64 = tag(10, VARINT);
    const MIN: u64 = tag(11, FIXED64);
    const MAX: u64 = tag(12, FIXED64);
    let mut common = Common::default();
    let (mut count, mut sum, mut min, mut max) = (0, None, None, None);
    let (mut counts, mut bounds) = (Cow::Borrowed(&[][..]), Cow::Borrowed(&[][..]));
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some(tag) = cursor.tag()? {
        match tag {
            ATTRIBUTE => {
                cursor.bytes()?;
                common.attributes.add(from, cursor.past_all(9));
            }
            START => common.start = cursor.fixed64()?,
            TIME => common.time = cursor.fixed64()?,
            COUNT => count = cursor.fixed64()?,
            SUM => sum = Some(double(cursor.fixed64()?)),
            COUNTS => {
                let packed = cursor.bytes()?;
                if packed.len() % 8 != 0 {
                    return Err(ProtobufError::Length);
                }
                lengthen(&mut counts, packed);
            }
            ONE_COUNT => {
                cursor.fixed64()?;
                lengthen(&mut counts, last_word(point, &cursor));
            }
            BOUNDS => lengthen(&mut bounds, cursor.bytes()?),
            ONE_BOUND => {
                cursor.fixed64()?;
                lengthen(&mut bounds, last_word(point, &cursor));
            }
            EXEMPLAR => common.newer(cursor.bytes()?)?,
            FLAGS => common.no_value = cursor.varint()? & NO_RECORDED_VALUE != 0,
            MIN => min = Some(double(cursor.fixed64()?)),
            MAX => max = Some(double(cursor.fixed64()?)),
            other => cursor.skip(other, 2..=12)?,
        }
        from = cursor.at();
    }
    Ok(HistogramPoint {
        common,
        count,
        sum,
        min,
        max,
        counts,
        bounds,
    })
}

/// Reads an `ExponentialHistogramDataPoint`.
#[inline]
pub(super) fn exponential(point: &[u8]) -> Result<ExponentialPoint<'_>, ProtobufError> {
    let mut read = ExponentialPoint {
        common: Common::default(),
        count: 0,
        sum: None,
        min: None,
        max: None,
        scale: 0,
        zero_count: 0,
        zero_threshold: 0.0,
        positive: Cow::Borrowed(&[]),
        negative: Cow::Borrowed(&[]),
    };
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some(field) = cursor.field()? {
        match field {
            (1, Content::Bytes(_)) => read.common.attributes.add(from, cursor.past_all(1)),
            (2, Content::Fixed64(time)) => read.common.start = time,
            (3, Content::Fixed64(time)) => read.common.time = time,
            (4, Content::Fixed64(n)) => read.count = n,
            (5, Content::Fixed64(bits)) => read.sum = Some(double(bits)),
            (6, Content::Varint(n)) => read.scale = zigzag(n),
            (7, Content::Fixed64(n)) => read.zero_count = n,
            (8, Content::Bytes(side)) => merge(&mut read.positive, side),
            (9, Content::Bytes(side)) => merge(&mut read.negative, side),
            (10, Content::Varint(flags)) => read.common.no_value = flags & NO_RECORDED_VALUE != 0,
            (11, Content::Bytes(exemplar)) => read.common.newer(exemplar)?,
            (12, Content::Fixed64(bits)) => read.min = Some(double(bits)),
            (13, Content::Fixed64(bits)) => read.max = Some(double(bits)),
            (14, Content::Fixed64(bits)) => read.zero_threshold = double(bits),
            (1..=14, _) => return Err(ProtobufError::Type),
            _ => {}
        }
        from = cursor.at();
    }
    Ok(read)
}

/// Reads a `SummaryDataPoint`.
#[inline]
pub(super) fn summary(point: &[u8]) -> Result<SummaryPoint<'_>, ProtobufError> {
    let mut common = Common::default();
    let (mut count, mut sum) = (0, 0.0);
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some(field) = cursor.field()? {
        match field {
            (7, Content::Bytes(_)) => common.attributes.add(from, cursor.past_all(7)),
            (2, Content::Fixed64(time)) => common.start = time,
            (3, Content::Fixed64(time)) => common.time = time,
            (4, Content::Fixed64(n)) => count = n,
            (5, Content::Fixed64(bits)) => sum = double(bits),
            (6, Content::Bytes(_)) => {}
            (8, Content::Varint(flags)) => common.no_value = flags & NO_RECORDED_VALUE != 0,
            (2..=8, _) => return Err(ProtobufError::Type),
            _ => {}
        }
        from = cursor.at();
    }
    Ok(SummaryPoint { common, count, sum })
}

/// The quantiles of a `SummaryDataPoint`, up to the limit.
pub(super) fn quantiles(point: &[u8], quantiles: &mut Vec<(f64, f64)>) -> Result<(), ProtobufError> {
    quantiles.clear();
    let mut cursor = Cursor::new(point);
    while let Some(field) = cursor.field()? {
        if let (6, Content::Bytes(quantile)) = field
            && quantiles.len() <= LIST
        {
            quantiles.push(value_at_quantile(quantile)?);
        }
    }
    Ok(())
}

fn value_at_quantile(message: &[u8]) -> Result<(f64, f64), ProtobufError> {
    let mut read = (0.0, 0.0);
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.field()? {
        match field {
            (1, Content::Fixed64(bits)) => read.0 = double(bits),
            (2, Content::Fixed64(bits)) => read.1 = double(bits),
            (1 | 2, _) => return Err(ProtobufError::Type),
            _ => {}
        }
    }
    Ok(read)
}

/// Reads a `Buckets` message: its counts, and the offset of the first.
pub(super) fn buckets(side: &[u8], counts: &mut Vec<u64>) -> Result<i32, ProtobufError> {
    let mut offset = 0;
    counts.clear();
    let mut cursor = Cursor::new(side);
    while let Some(field) = cursor.field()? {
        match field {
            (1, Content::Varint(n)) => offset = zigzag(n),
            (2, Content::Varint(n)) => keep(counts, n),
            (2, Content::Bytes(packed)) => {
                let mut packed = Cursor::new(packed);
                while !packed.is_done() {
                    keep(counts, packed.varint()?);
                }
            }
            (1 | 2, _) => return Err(ProtobufError::Type),
            _ => {}
        }
    }
    Ok(offset)
}

/// Holds one more than [`LIST`], so that a list over the limit is detected.
fn keep(list: &mut Vec<u64>, n: u64) {
    if list.len() <= LIST {
        list.push(n);
    }
}

/// The bytes of the last fixed64 that was read.
fn last_word<'a>(point: &'a [u8], cursor: &Cursor<'_>) -> &'a [u8] {
    &point[cursor.at() - 8..cursor.at()]
}

/// Appends the next part of a packed list. A list over the limit is not copied again.
#[inline]
fn lengthen<'a>(list: &mut Cow<'a, [u8]>, part: &'a [u8]) {
    if list.len() <= 8 * LIST {
        merge(list, part);
    }
}

/// Counts from their packed bytes, up to the limit.
#[inline]
pub(super) fn counts(packed: &[u8], counts: &mut Vec<u64>) {
    let (message, _) = packed.as_chunks::<8>();
    counts.clear();
    counts.extend(
        message
            .iter()
            .take(LIST + 1)
            .map(|word| u64::from_le_bytes(*word)),
    );
}

/// Bounds from their packed bytes; `None` unless they are finite, ascending and within the limit.
pub(super) fn bounds(packed: &[u8], bounds: &mut Vec<f64>) -> Option<()> {
    let (message, rest) = packed.as_chunks::<8>();
    if !rest.is_empty() || message.len() > LIST {
        return None;
    }
    bounds.clear();
    bounds.extend(message.iter().map(|word| f64::from_le_bytes(*word)));
    let ascending = bounds.iter().all(|b| b.is_finite()) && bounds.windows(2).all(|pair| pair[0] < pair[1]);
    ascending.then_some(())
}

fn zigzag(n: u64) -> i32 {
    let n = n as u32;
    (n >> 1) as i32 ^ -((n & 1) as i32)
}

/// Reads an `Exemplar`; `None` when it has no value.
pub(super) fn exemplar(message: &[u8]) -> Result<Option<Exemplar>, ProtobufError> {
    let (mut value, mut time) = (None, 0);
    let mut ids: [&[u8]; 2] = [&[], &[]];
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.field()? {
        match field {
            (2, Content::Fixed64(at)) => time = at,
            (3, Content::Fixed64(bits)) => value = Some(double(bits)),
            (6, Content::Fixed64(bits)) => value = Some(bits as i64 as f64),
            (4, Content::Bytes(span)) => ids[1] = span,
            (5, Content::Bytes(trace)) => ids[0] = trace,
            (2..=6, _) => return Err(ProtobufError::Type),
            _ => {}
        }
    }
    let Some(value) = value else { return Ok(None) };
    let mut all: Vec<Pair<'_>> = pairs(message, 7)?;
    for (key, id) in ["trace_id", "span_id"].into_iter().zip(ids) {
        if !id.is_empty() {
            all.push((
                key.into(),
                dichroic_model::AttributeValue::Str(id_text(id).into()),
            ));
        }
    }
    Ok(Some(Exemplar {
        value,
        time,
        attributes: Attributes::pack(&mut all),
    }))
}

fn id_text(bytes: &[u8]) -> String {
    if bytes.len() > 16 {
        // No id is that long; other content is kept readable and short.
        return encode_base64(&bytes[..bytes.len().min(48)]);
    }
    encode_hex(bytes)
}
