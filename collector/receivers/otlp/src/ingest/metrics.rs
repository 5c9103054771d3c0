//! Applies one metric: its header is read once and seeds the fingerprints of its points, which follow in groups ([`super::group`]).
//!
//! Called with one metric at a time; stops between two groups when the step is used up.

use super::group::GroupWriter;
use super::metric_header::MetricHeader;
use super::point::{ExponentialPoint, HistogramPoint, NumberPoint, Scratch, SummaryPoint};
use super::resource_scope::ResourceScope;
use super::tally::Tally;
use crate::protobuf::{Content, Cursor, ProtobufError, merge, text};
use dichroic_model::{MetricKind, Temporality, UnixNanos, attributes::cut};
use dichroic_pipeline::{Core, DropReason, Signal};
use std::borrow::Cow;
use std::ops::Range;

/// Most bytes of a metric's name, and of its unit.
const NAME_BYTES: usize = 1_024;
/// Bytes of a description that are kept; the rest is cut.
const HELP_BYTES: usize = 1_024;
/// Cost of a metric in a step, in addition to the bytes of its points.
const METRIC_BYTES: usize = 256;

/// Field numbers of the data in `Metric` (`opentelemetry/proto/metrics/v1/metrics.proto`).
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL: u32 = 10;
const SUMMARY: u32 = 11;

/// A metric in a body, with the position of its next point.
pub(super) struct MetricCursor {
    metric: Range<usize>,
    /// Offset in the metric's data.
    at: usize,
    /// Temporality and monotonicity, which may follow the points, once they were read.
    trailer: Option<(u64, bool)>,
}

impl MetricCursor {
    pub(super) fn new(metric: Range<usize>) -> Self {
        MetricCursor {
            metric,
            at: 0,
            trailer: None,
        }
    }
}

/// Applies points of a `Metric` until the step is used up. Returns the position to continue at; `None` when the metric is done.
pub(super) fn apply(
    store: &mut Core,
    scratch: &mut Scratch,
    resource: &ResourceScope,
    tally: &mut Tally,
    body: &[u8],
    mut position: MetricCursor,
    now: UnixNanos,
) -> Option<MetricCursor> {
    let metric = &body[position.metric.clone()];
    scratch.spend(METRIC_BYTES);
    // Cannot fail: the body was validated down to its points.
    let fields = Fields::read(metric, position.trailer).ok()?;
    let header = match (resource.refused, fields.header()) {
        (None, Ok(header)) => header,
        (Some(reason), _) | (None, Err(reason)) => {
            let name = text(fields.name).unwrap_or("");
            scratch.spend(fields.data.len());
            tally.dropped_of(Signal::Metrics, reason, fields.points(), name);
            return None;
        }
    };
    scratch.prefix.clear();
    for part in [header.name, header.unit] {
        scratch
            .prefix
            .extend_from_slice(&(part.len() as u32).to_le_bytes());
        scratch.prefix.extend_from_slice(part.as_bytes());
    }
    let shape = [
        fields.kind as u8,
        header.temporality as u8,
        u8::from(fields.monotonic),
    ];
    scratch.prefix.extend_from_slice(&shape);
    let fingerprints = resource.of_scope.with(&scratch.prefix);
    let mut writer = GroupWriter::new(store, resource, &fingerprints, &header, now);
    let mut cursor = Cursor::new(&fields.data[position.at..]);
    let spent = match fields.kind {
        GAUGE | SUM => writer.points::<NumberPoint<'_>>(scratch, tally, &mut cursor),
        HISTOGRAM => writer.points::<HistogramPoint<'_>>(scratch, tally, &mut cursor),
        EXPONENTIAL => writer.points::<ExponentialPoint<'_>>(scratch, tally, &mut cursor),
        _ => writer.points::<SummaryPoint<'_>>(scratch, tally, &mut cursor),
    };
    spent.then(|| {
        position.at += cursor.at();
        position.trailer = Some((fields.temporality, fields.monotonic));
        position
    })
}

/// The fields of a `Metric`, in any order.
#[derive(Default)]
struct Fields<'a> {
    name: &'a [u8],
    help: &'a [u8],
    unit: &'a [u8],
    /// Number of the last data field; 0 without a known one.
    kind: u32,
    data: Cow<'a, [u8]>,
    temporality: u64,
    monotonic: bool,
}

impl<'a> Fields<'a> {
    fn read(metric: &'a [u8], trailer: Option<(u64, bool)>) -> Result<Self, ProtobufError> {
        let mut fields = Fields::default();
        let mut cursor = Cursor::new(metric);
        while let Some((number, content)) = cursor.field()? {
            let Content::Bytes(bytes) = content else { continue };
            match number {
                1 => fields.name = bytes,
                2 => fields.help = bytes,
                3 => fields.unit = bytes,
                GAUGE | SUM | HISTOGRAM | EXPONENTIAL | SUMMARY if number == fields.kind => {
                    merge(&mut fields.data, bytes);
                }
                GAUGE | SUM | HISTOGRAM | EXPONENTIAL | SUMMARY => {
                    (fields.kind, fields.data) = (number, Cow::Borrowed(bytes));
                }
                _ => {}
            }
        }
        if let Some(trailer) = trailer {
            (fields.temporality, fields.monotonic) = trailer;
            return Ok(fields);
        }
        let data = std::mem::take(&mut fields.data);
        let mut cursor = Cursor::new(&data);
        while let Some((number, content)) = cursor.field()? {
            match (number, content) {
                (2, Content::Varint(n)) => fields.temporality = n,
                (3, Content::Varint(n)) => fields.monotonic = n != 0,
                _ => {}
            }
        }
        fields.data = data;
        Ok(fields)
    }

    fn points(&self) -> u64 {
        let (mut points, mut cursor) = (0, Cursor::new(&self.data));
        while let Ok(Some(field)) = cursor.field() {
            points += u64::from(matches!(field, (1, Content::Bytes(_))));
        }
        points
    }

    fn header(&self) -> Result<MetricHeader<'a>, DropReason> {
        let read = |bytes: &'a [u8]| text(bytes).map_err(|_| DropReason::Malformed);
        let (name, unit, help) = (read(self.name)?, read(self.unit)?, read(self.help)?);
        if name.is_empty() {
            return Err(DropReason::Malformed);
        }
        if name.len().max(unit.len()) > NAME_BYTES {
            return Err(DropReason::LabelLimit);
        }
        let kind = match self.kind {
            GAUGE => MetricKind::Gauge,
            SUM => MetricKind::Sum {
                monotonic: self.monotonic,
            },
            HISTOGRAM => MetricKind::Histogram,
            EXPONENTIAL => MetricKind::ExponentialHistogram,
            _ => MetricKind::Summary,
        };
        let temporality = match (self.kind, self.temporality) {
            (GAUGE | SUMMARY, _) | (_, 2) => Temporality::Cumulative,
            (_, 1) => Temporality::Delta,
            _ => return Err(DropReason::Malformed),
        };
        Ok(MetricHeader {
            name,
            unit,
            help: cut(help, HELP_BYTES),
            kind,
            temporality,
        })
    }
}
