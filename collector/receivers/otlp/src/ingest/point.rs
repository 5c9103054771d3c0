//! Data points: read from their bytes, without a copy of what they hold.
//!
//! Each reader returns what [`super::metrics`] writes into a cell. Field numbers: `opentelemetry/proto/metrics/v1/metrics.proto`.

use super::attributes::{Pair, base64, pairs};
use crate::walk::{Broken, Content, Cursor};
use dichroic_model::{Attributes, Exemplar, Number, UnixNanos};
use std::borrow::Cow;

/// Counts and bounds of one point, at most: what a message of a megabyte could unfold to is not held.
const LIST: usize = 16_384;
/// `DataPointFlags.NO_RECORDED_VALUE`.
const NO_RECORDED_VALUE: u64 = 1;

/// Buffers reused from point to point.
#[derive(Default)]
pub(super) struct Scratch {
    /// What is left of the present step, in bytes.
    pub(super) left: usize,
    /// Attribute fields that did not lie side by side.
    pub(super) run: Vec<u8>,
    /// Identity of a metric.
    pub(super) prefix: Vec<u8>,
    pub(super) counts: Vec<u64>,
    pub(super) negative: Vec<u64>,
    pub(super) bounds: Vec<f64>,
    pub(super) quantiles: Vec<(f64, f64)>,
}

impl Scratch {
    /// Takes from what is left of the step.
    #[inline]
    pub(super) fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }
}

/// What every kind of point has.
#[derive(Default)]
pub(super) struct Common<'a> {
    /// The attribute fields, tags and all.
    pub(super) attributes: &'a [u8],
    pub(super) start: UnixNanos,
    pub(super) time: UnixNanos,
    pub(super) no_value: bool,
    /// The newest exemplar that has a value.
    pub(super) exemplar: Option<&'a [u8]>,
}

/// A gauge's or sum's point.
pub(super) struct NumberPoint<'a> {
    pub(super) common: Common<'a>,
    /// Missing when the point has no value.
    pub(super) value: Option<Number>,
}

/// A histogram's point; bounds and counts are in the scratch.
pub(super) struct HistogramPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    /// The bytes of the bounds, for the fingerprint.
    pub(super) bounds: Cow<'a, [u8]>,
}

/// An exponential histogram's point; counts are in the scratch.
pub(super) struct ExponentialPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive_offset: i32,
    pub(super) negative_offset: i32,
}

/// A summary's point; quantiles are in the scratch.
pub(super) struct SummaryPoint<'a> {
    pub(super) common: Common<'a>,
    pub(super) count: u64,
    pub(super) sum: f64,
}

/// Collects attribute fields: a slice of the point while they lie side by side, which every known sender does.
struct Run {
    start: usize,
    end: usize,
    split: bool,
}

impl Run {
    fn new() -> Self {
        Run {
            start: 0,
            end: 0,
            split: false,
        }
    }

    #[inline]
    fn add(&mut self, from: usize, to: usize) {
        if self.end == 0 {
            self.start = from;
        } else if self.end != from {
            self.split = true;
        }
        self.end = to;
    }

    fn of<'a>(&self, point: &'a [u8], number: u32, run: &'a mut Vec<u8>) -> Result<&'a [u8], Broken> {
        if !self.split {
            return Ok(&point[self.start..self.end]);
        }
        run.clear();
        let mut cursor = Cursor::new(point);
        let mut from = 0;
        while let Some((field, _)) = cursor.field()? {
            if field == number {
                run.extend_from_slice(&point[from..cursor.at()]);
            }
            from = cursor.at();
        }
        Ok(run)
    }
}

/// The exemplar that was measured last.
fn newer<'a>(held: Option<&'a [u8]>, exemplar: &'a [u8]) -> Result<Option<&'a [u8]>, Broken> {
    let time = |exemplar: &[u8]| -> Result<u64, Broken> {
        let (mut time, mut cursor) = (0, Cursor::new(exemplar));
        while let Some(field) = cursor.field()? {
            if let (2, Content::Fixed64(at)) = field {
                time = at;
            }
        }
        Ok(time)
    };
    match held {
        Some(held) if time(held)? > time(exemplar)? => Ok(Some(held)),
        _ => Ok(Some(exemplar)),
    }
}

#[inline]
fn double(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// Reads a `NumberDataPoint`.
pub(super) fn number<'a>(point: &'a [u8], run: &'a mut Vec<u8>) -> Result<NumberPoint<'a>, Broken> {
    let mut common = Common::default();
    let (mut value, mut attributes) = (None, Run::new());
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some(field) = cursor.field()? {
        match field {
            (7, Content::Bytes(_)) => attributes.add(from, cursor.at()),
            (2, Content::Fixed64(time)) => common.start = time,
            (3, Content::Fixed64(time)) => common.time = time,
            (4, Content::Fixed64(bits)) => value = Some(Number::float(double(bits))),
            (6, Content::Fixed64(bits)) => value = Some(Number::int(bits as i64)),
            (5, Content::Bytes(exemplar)) => common.exemplar = newer(common.exemplar, exemplar)?,
            (8, Content::Varint(flags)) => common.no_value = flags & NO_RECORDED_VALUE != 0,
            (2..=8, _) => return Err(Broken::Type),
            _ => {}
        }
        from = cursor.at();
    }
    common.attributes = attributes.of(point, 7, run)?;
    Ok(NumberPoint { common, value })
}

/// Reads a `HistogramDataPoint`.
pub(super) fn histogram<'a>(
    point: &'a [u8],
    run: &'a mut Vec<u8>,
    counts: &mut Vec<u64>,
) -> Result<HistogramPoint<'a>, Broken> {
    let mut common = Common::default();
    let (mut count, mut sum, mut min, mut max) = (0, None, None, None);
    let (mut attributes, mut bounds) = (Run::new(), Cow::Borrowed(&[][..]));
    counts.clear();
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some(field) = cursor.field()? {
        match field {
            (9, Content::Bytes(_)) => attributes.add(from, cursor.at()),
            (2, Content::Fixed64(time)) => common.start = time,
            (3, Content::Fixed64(time)) => common.time = time,
            (4, Content::Fixed64(n)) => count = n,
            (5, Content::Fixed64(bits)) => sum = Some(double(bits)),
            (6, Content::Bytes(packed)) => fixed64s(packed, counts)?,
            (6, Content::Fixed64(n)) => keep(counts, n),
            (7, Content::Bytes(packed)) if bounds.is_empty() => bounds = Cow::Borrowed(packed),
            (7, Content::Bytes(packed)) => bounds.to_mut().extend_from_slice(packed),
            (7, Content::Fixed64(bits)) => bounds.to_mut().extend_from_slice(&bits.to_le_bytes()),
            (8, Content::Bytes(exemplar)) => common.exemplar = newer(common.exemplar, exemplar)?,
            (10, Content::Varint(flags)) => common.no_value = flags & NO_RECORDED_VALUE != 0,
            (11, Content::Fixed64(bits)) => min = Some(double(bits)),
            (12, Content::Fixed64(bits)) => max = Some(double(bits)),
            (2..=12, _) => return Err(Broken::Type),
            _ => {}
        }
        from = cursor.at();
    }
    common.attributes = attributes.of(point, 9, run)?;
    Ok(HistogramPoint {
        common,
        count,
        sum,
        min,
        max,
        bounds,
    })
}

/// Reads an `ExponentialHistogramDataPoint`.
pub(super) fn exponential<'a>(
    point: &'a [u8],
    run: &'a mut Vec<u8>,
    positive: &mut Vec<u64>,
    negative: &mut Vec<u64>,
) -> Result<ExponentialPoint<'a>, Broken> {
    let mut attributes = Run::new();
    positive.clear();
    negative.clear();
    let mut read = ExponentialPoint {
        common: Common::default(),
        count: 0,
        sum: None,
        min: None,
        max: None,
        scale: 0,
        zero_count: 0,
        zero_threshold: 0.0,
        positive_offset: 0,
        negative_offset: 0,
    };
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some(field) = cursor.field()? {
        match field {
            (1, Content::Bytes(_)) => attributes.add(from, cursor.at()),
            (2, Content::Fixed64(time)) => read.common.start = time,
            (3, Content::Fixed64(time)) => read.common.time = time,
            (4, Content::Fixed64(n)) => read.count = n,
            (5, Content::Fixed64(bits)) => read.sum = Some(double(bits)),
            (6, Content::Varint(n)) => read.scale = zigzag(n),
            (7, Content::Fixed64(n)) => read.zero_count = n,
            (8, Content::Bytes(side)) => buckets(side, &mut read.positive_offset, positive)?,
            (9, Content::Bytes(side)) => buckets(side, &mut read.negative_offset, negative)?,
            (10, Content::Varint(flags)) => read.common.no_value = flags & NO_RECORDED_VALUE != 0,
            (11, Content::Bytes(exemplar)) => read.common.exemplar = newer(read.common.exemplar, exemplar)?,
            (12, Content::Fixed64(bits)) => read.min = Some(double(bits)),
            (13, Content::Fixed64(bits)) => read.max = Some(double(bits)),
            (14, Content::Fixed64(bits)) => read.zero_threshold = double(bits),
            (1..=14, _) => return Err(Broken::Type),
            _ => {}
        }
        from = cursor.at();
    }
    read.common.attributes = attributes.of(point, 1, run)?;
    Ok(read)
}

/// Reads a `SummaryDataPoint`.
pub(super) fn summary<'a>(
    point: &'a [u8],
    run: &'a mut Vec<u8>,
    quantiles: &mut Vec<(f64, f64)>,
) -> Result<SummaryPoint<'a>, Broken> {
    let mut common = Common::default();
    let (mut count, mut sum, mut attributes) = (0, 0.0, Run::new());
    quantiles.clear();
    let mut cursor = Cursor::new(point);
    let mut from = 0;
    while let Some(field) = cursor.field()? {
        match field {
            (7, Content::Bytes(_)) => attributes.add(from, cursor.at()),
            (2, Content::Fixed64(time)) => common.start = time,
            (3, Content::Fixed64(time)) => common.time = time,
            (4, Content::Fixed64(n)) => count = n,
            (5, Content::Fixed64(bits)) => sum = double(bits),
            (6, Content::Bytes(quantile)) if quantiles.len() <= LIST => {
                quantiles.push(value_at_quantile(quantile)?)
            }
            (6, Content::Bytes(_)) => {}
            (8, Content::Varint(flags)) => common.no_value = flags & NO_RECORDED_VALUE != 0,
            (2..=8, _) => return Err(Broken::Type),
            _ => {}
        }
        from = cursor.at();
    }
    common.attributes = attributes.of(point, 7, run)?;
    Ok(SummaryPoint { common, count, sum })
}

fn value_at_quantile(message: &[u8]) -> Result<(f64, f64), Broken> {
    let mut read = (0.0, 0.0);
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.field()? {
        match field {
            (1, Content::Fixed64(bits)) => read.0 = double(bits),
            (2, Content::Fixed64(bits)) => read.1 = double(bits),
            (1 | 2, _) => return Err(Broken::Type),
            _ => {}
        }
    }
    Ok(read)
}

fn buckets(side: &[u8], offset: &mut i32, counts: &mut Vec<u64>) -> Result<(), Broken> {
    let mut cursor = Cursor::new(side);
    while let Some(field) = cursor.field()? {
        match field {
            (1, Content::Varint(n)) => *offset = zigzag(n),
            (2, Content::Varint(n)) => keep(counts, n),
            (2, Content::Bytes(packed)) => {
                let mut packed = Cursor::new(packed);
                while !packed.is_done() {
                    keep(counts, packed.varint()?);
                }
            }
            (1 | 2, _) => return Err(Broken::Type),
            _ => {}
        }
    }
    Ok(())
}

/// One more than [`LIST`] is held, so that what is too long is seen to be.
fn keep(list: &mut Vec<u64>, n: u64) {
    if list.len() <= LIST {
        list.push(n);
    }
}

#[inline]
fn fixed64s(packed: &[u8], list: &mut Vec<u64>) -> Result<(), Broken> {
    let (words, rest) = packed.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(Broken::Length);
    }
    let room = (LIST + 1).saturating_sub(list.len());
    list.extend(words.iter().take(room).map(|word| u64::from_le_bytes(*word)));
    Ok(())
}

/// Bounds from their packed bytes; `None` when they are not finite and ascending, or too many.
pub(super) fn bounds(packed: &[u8], bounds: &mut Vec<f64>) -> Option<()> {
    let (words, rest) = packed.as_chunks::<8>();
    if !rest.is_empty() || words.len() > LIST {
        return None;
    }
    bounds.clear();
    bounds.extend(words.iter().map(|word| f64::from_le_bytes(*word)));
    let ascending = bounds.iter().all(|b| b.is_finite()) && bounds.windows(2).all(|pair| pair[0] < pair[1]);
    ascending.then_some(())
}

fn zigzag(n: u64) -> i32 {
    let n = n as u32;
    (n >> 1) as i32 ^ -((n & 1) as i32)
}

/// Reads an `Exemplar`; `None` when it has no value.
pub(super) fn exemplar(message: &[u8]) -> Result<Option<Exemplar>, Broken> {
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
            (2..=6, _) => return Err(Broken::Type),
            _ => {}
        }
    }
    let Some(value) = value else { return Ok(None) };
    let mut all: Vec<Pair<'_>> = pairs(message, 7)?;
    for (key, id) in ["trace_id", "span_id"].into_iter().zip(ids) {
        if !id.is_empty() {
            all.push((key.into(), dichroic_model::AttributeValue::Str(hex(id).into())));
        }
    }
    Ok(Some(Exemplar {
        value,
        time,
        attributes: Attributes::pack(&mut all),
    }))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if bytes.len() > 16 {
        // No id is that long; what it is instead is kept readable and short.
        return base64(&bytes[..bytes.len().min(48)]);
    }
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
