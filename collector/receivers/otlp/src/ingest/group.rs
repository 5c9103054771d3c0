//! Writes the points of one metric into the store's cells, a group at a time.
//!
//! The fingerprint of a point is a hash of its attributes as encoded, seeded by source, scope, name, unit, kind, temporality and,
//! for histograms, bounds. Attributes are decoded, and the series defined, only for an unknown fingerprint.
//!
//! A group is read first, then its series are looked up together, so that the cache misses of many points overlap. The points are
//! then applied in order, with the same result as single lookups: see [`Core::find_batch`].

use super::attributes::pairs;
use super::metric_header::MetricHeader;
use super::point::{self, Common, ExponentialPoint, HistogramPoint, NumberPoint, Scratch, SummaryPoint};
use super::resource_scope::ResourceScope;
use super::tally::Tally;
use crate::protobuf::{Content, Cursor, ProtobufError};
use dichroic_model::{
    Factor, Fingerprint, Fingerprinter, MetricKind, NameStyle, Number, SeriesDef, Temporality, UnixNanos,
};
use dichroic_pipeline::{
    self as pipeline, Core, DropReason, LOOKUP_BATCH, NotAdmitted, SeriesRef, Signal, Times, Written,
};
use std::sync::Arc;

/// Bytes of the attributes of one new series.
const ATTRIBUTE_BYTES: usize = 1 << 20;
/// Most observations of one point: up to 2^53 a count is exact as a double, and sums of counts cannot overflow.
const MAX_COUNT: u64 = 1 << 53;

/// Cost of a point and of a new series in a step, in addition to their bytes.
const POINT_BYTES: usize = 32;
const SERIES_BYTES: usize = 2_048;

/// The bounds of the last histogram point: points of one metric nearly always share them.
#[derive(Default)]
struct Bounds {
    packed: Vec<u8>,
    fingerprints: Option<Fingerprinter>,
}

impl Bounds {
    fn fingerprints(&mut self, of_metric: &Fingerprinter, packed: &[u8]) -> &Fingerprinter {
        if self.fingerprints.is_none() || self.packed != packed {
            self.packed.clear();
            self.packed.extend_from_slice(packed);
            self.fingerprints = Some(of_metric.with(packed));
        }
        self.fingerprints.as_ref().expect("set above")
    }
}

/// A kind of point.
pub(super) trait Point<'a>: Sized {
    /// Field number of the attributes.
    const ATTRIBUTES: u32;
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError>;
    fn common(&self) -> &Common<'a>;
    /// The encoded bounds, for kinds of points that have bounds.
    fn bounds(&self) -> Option<&[u8]> {
        None
    }
    /// Writes the point into its cell.
    fn write(&self, writer: &mut GroupWriter<'_>, scratch: &mut Scratch, resolved: &Resolved<'a>) -> Applied;
}

/// A point's bytes with the result of its lookup.
pub(super) struct Resolved<'a> {
    bytes: &'a [u8],
    fingerprint: Fingerprint,
    series: Option<SeriesRef>,
}

/// Writes points of one metric into the store.
pub(super) struct GroupWriter<'a> {
    store: &'a mut Core,
    resource: &'a ResourceScope,
    fingerprints: &'a Fingerprinter,
    header: &'a MetricHeader<'a>,
    now: UnixNanos,
    bounds: Bounds,
    /// Series defined since the last group.
    defined: usize,
}

pub(super) type Applied = Result<Written, DropReason>;

fn malformed(_: ProtobufError) -> DropReason {
    DropReason::Malformed
}

/// Minimum and maximum, when both are present, ordered and not NaN.
fn extremes(min: Option<f64>, max: Option<f64>) -> Option<(f64, f64)> {
    let (min, max) = (min?, max?);
    (min <= max).then_some((min, max))
}

/// The sum of counts; `None` above [`MAX_COUNT`].
fn total(counts: &[u64]) -> Option<u64> {
    let total = pipeline::total(counts);
    (total <= MAX_COUNT).then_some(total)
}

impl<'t> GroupWriter<'t> {
    pub(super) fn new(
        store: &'t mut Core,
        resource: &'t ResourceScope,
        fingerprints: &'t Fingerprinter,
        header: &'t MetricHeader<'t>,
        now: UnixNanos,
    ) -> Self {
        GroupWriter {
            store,
            resource,
            fingerprints,
            header,
            now,
            bounds: Bounds::default(),
            defined: 0,
        }
    }

    /// Applies points until the last one (`false`) or until the step is used up (`true`). Each point is counted as applied or dropped.
    pub(super) fn points<'a, P: Point<'a>>(
        &mut self,
        scratch: &mut Scratch,
        tally: &mut Tally,
        cursor: &mut Cursor<'a>,
    ) -> bool {
        // Every call makes progress, even with an empty step.
        scratch.left = scratch.left.max(1);
        while scratch.left > 0 {
            if self.group::<P>(scratch, tally, cursor) < LOOKUP_BATCH && scratch.left > 0 {
                return false;
            }
        }
        true
    }

    /// Applies the next points, at most [`LOOKUP_BATCH`] and about as many as the step has bytes left for. Returns their number.
    fn group<'a, P: Point<'a>>(
        &mut self,
        scratch: &mut Scratch,
        tally: &mut Tally,
        cursor: &mut Cursor<'a>,
    ) -> usize {
        let mut points: [Option<(&[u8], P)>; LOOKUP_BATCH] = [const { None }; LOOKUP_BATCH];
        let mut fingerprints = [Fingerprint { low: 0, high: 0 }; LOOKUP_BATCH];
        let mut len = 0;
        while len < LOOKUP_BATCH && scratch.left > 0 {
            let Ok(Some(field)) = cursor.field() else { break };
            let (1, Content::Bytes(bytes)) = field else {
                continue;
            };
            scratch.spend(POINT_BYTES + bytes.len());
            if let Ok(point) = P::read(bytes) {
                fingerprints[len] = self.fingerprint(&point, bytes, &mut scratch.run);
                points[len] = Some((bytes, point));
            }
            len += 1;
        }
        let found = self.store.find_batch(&fingerprints[..len]);
        let mut applied = 0;
        for (at, point) in points.iter().take(len).enumerate() {
            let written = match point {
                None => Err(DropReason::Malformed),
                Some((bytes, point)) => {
                    let (fingerprint, bytes) = (fingerprints[at], *bytes);
                    let series = self.store.find_in(&found, at, fingerprint);
                    point.write(
                        self,
                        scratch,
                        &Resolved {
                            bytes,
                            fingerprint,
                            series,
                        },
                    )
                }
            };
            match written {
                Ok(Written::Applied) => applied += 1,
                Ok(Written::Hidden(reason)) => tally.hidden(reason),
                Err(reason) => tally.dropped_of(Signal::Metrics, reason, 1, self.header.name),
            }
        }
        tally.applied(Signal::Metrics, applied);
        scratch.spend(std::mem::take(&mut self.defined) * SERIES_BYTES);
        len
    }

    fn fingerprint<'a, P: Point<'a>>(&mut self, point: &P, bytes: &[u8], run: &mut Vec<u8>) -> Fingerprint {
        let fingerprints = match point.bounds() {
            Some(bounds) => self.bounds.fingerprints(self.fingerprints, bounds),
            None => self.fingerprints,
        };
        // Cannot fail: the same fields were read before.
        let attributes = point.common().attributes.of(bytes, P::ATTRIBUTES, run);
        fingerprints.of(attributes.unwrap_or_default())
    }

    fn delta(&self) -> bool {
        self.header.temporality == Temporality::Delta
    }

    /// The point's timestamps: a missing time is now, and a start is never later than the time.
    fn times(&self, common: &Common<'_>) -> Times {
        let time = if common.time == 0 { self.now } else { common.time };
        Times {
            start: common.start.min(time),
            time,
            now: self.now,
        }
    }

    /// The series of a point. A point without a value expires its series.
    #[inline]
    fn series<'a, P: Point<'a>>(
        &mut self,
        point: &P,
        resolved: &Resolved<'a>,
        bounds: Option<&[f64]>,
    ) -> Result<SeriesRef, DropReason> {
        match (resolved.series, point.common().no_value) {
            (Some(series), false) => Ok(series),
            (None, false) => self.define(point, resolved, bounds),
            (series, true) => {
                if let Some(series) = series {
                    self.store.expire(series);
                }
                Err(DropReason::NoRecordedValue)
            }
        }
    }

    #[cold]
    fn define<'a, P: Point<'a>>(
        &mut self,
        point: &P,
        resolved: &Resolved<'a>,
        bounds: Option<&[f64]>,
    ) -> Result<SeriesRef, DropReason> {
        let mut joined = Vec::new();
        let attributes = &point.common().attributes;
        let attributes = attributes
            .of(resolved.bytes, P::ATTRIBUTES, &mut joined)
            .map_err(malformed)?;
        if attributes.len() > ATTRIBUTE_BYTES {
            return Err(DropReason::LabelLimit);
        }
        self.defined += 1;
        let attributes = pairs(attributes, P::ATTRIBUTES).map_err(malformed)?;
        let bounds: Option<Arc<[f64]>> = bounds.map(Into::into);
        let def = SeriesDef {
            source: self.resource.source,
            scope: &self.resource.scope,
            name: self.header.name,
            style: NameStyle::OpenTelemetry,
            unit: self.header.unit,
            help: self.header.help,
            kind: self.header.kind,
            temporality: self.header.temporality,
            factor: Factor::ONE,
            attributes,
            start: point.common().start,
            bounds,
        };
        self.store
            .define(resolved.fingerprint, def)
            .map_err(|NotAdmitted(reason)| reason)
    }

    fn exemplar(&mut self, series: SeriesRef, common: &Common<'_>) {
        // A malformed exemplar does not affect its point.
        if let Some(Ok(Some(exemplar))) = common.exemplar.map(point::exemplar) {
            self.store.set_exemplar(series, exemplar);
        }
    }
}

impl<'a> Point<'a> for NumberPoint<'a> {
    const ATTRIBUTES: u32 = 7;

    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        point::number(bytes)
    }

    fn common(&self) -> &Common<'a> {
        &self.common
    }

    #[inline(always)]
    fn write(&self, writer: &mut GroupWriter<'_>, _: &mut Scratch, resolved: &Resolved<'a>) -> Applied {
        let (common, times) = (&self.common, writer.times(&self.common));
        let value = match (self.value, common.no_value) {
            (Some(value), _) => value,
            (None, true) => Number::default(),
            (None, false) => return Err(DropReason::Malformed),
        };
        let growing = writer.delta() && writer.header.kind == MetricKind::COUNTER;
        let falls = value.to_f64().is_nan() || value.to_f64() < 0.0;
        if growing && !common.no_value && falls {
            return Err(DropReason::Backwards);
        }
        let series = writer.series(self, resolved, None)?;
        let written = if writer.delta() {
            writer.store.add_number(series, value, times)?
        } else {
            writer.store.set_number(series, value, times)?
        };
        writer.exemplar(series, common);
        Ok(written)
    }
}

impl<'a> Point<'a> for HistogramPoint<'a> {
    const ATTRIBUTES: u32 = 9;

    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        point::histogram(bytes)
    }

    fn common(&self) -> &Common<'a> {
        &self.common
    }

    fn bounds(&self) -> Option<&[u8]> {
        Some(&self.bounds)
    }

    #[inline(always)]
    fn write(&self, writer: &mut GroupWriter<'_>, scratch: &mut Scratch, resolved: &Resolved<'a>) -> Applied {
        let Scratch { counts, bounds, .. } = scratch;
        let (common, times) = (&self.common, writer.times(&self.common));
        point::counts(&self.counts, counts);
        if counts.is_empty() && self.bounds.is_empty() {
            // Without bounds there is one bucket, and it holds every observation.
            counts.push(self.count);
        }
        if !common.no_value {
            let fits = counts.len() == self.bounds.len() / 8 + 1 && total(counts) == Some(self.count);
            if !fits {
                return Err(DropReason::Buckets);
            }
        }
        let series = match resolved.series {
            Some(series) if !common.no_value => series,
            _ => {
                point::bounds(&self.bounds, bounds).ok_or(DropReason::Buckets)?;
                let series = writer.series(self, resolved, Some(bounds))?;
                if writer.delta() {
                    writer.store.rebin(series, bounds, counts);
                }
                series
            }
        };
        let cell = pipeline::HistogramPoint {
            counts,
            sum: self.sum.map(Number::float),
            min_max: extremes(self.min, self.max),
        };
        let written = if writer.delta() {
            writer.store.add_histogram(series, &cell, times)?
        } else {
            writer.store.set_histogram(series, &cell, times)?
        };
        writer.exemplar(series, common);
        Ok(written)
    }
}

impl<'a> Point<'a> for ExponentialPoint<'a> {
    const ATTRIBUTES: u32 = 1;

    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        point::exponential(bytes)
    }

    fn common(&self) -> &Common<'a> {
        &self.common
    }

    #[inline(always)]
    fn write(&self, writer: &mut GroupWriter<'_>, scratch: &mut Scratch, resolved: &Resolved<'a>) -> Applied {
        let Scratch { counts, negative, .. } = scratch;
        let (common, times) = (&self.common, writer.times(&self.common));
        let positive_offset = point::buckets(&self.positive, counts).map_err(malformed)?;
        let negative_offset = point::buckets(&self.negative, negative).map_err(malformed)?;
        if !common.no_value {
            let sides = [total(counts), total(negative), Some(self.zero_count)];
            let sum = sides
                .into_iter()
                .try_fold(0u64, |sum, side| sum.checked_add(side?));
            let width = self.zero_threshold;
            if sum != Some(self.count) || self.count > MAX_COUNT || width.is_nan() || width < 0.0 {
                return Err(DropReason::Buckets);
            }
        }
        let series = writer.series(self, resolved, None)?;
        let cell = pipeline::ExponentialPoint {
            scale: self.scale,
            zero_count: self.zero_count,
            zero_threshold: self.zero_threshold,
            positive: pipeline::Buckets {
                offset: positive_offset,
                counts,
            },
            negative: pipeline::Buckets {
                offset: negative_offset,
                counts: negative,
            },
            sum: self.sum.map(Number::float),
            min_max: extremes(self.min, self.max),
        };
        let written = if writer.delta() {
            writer.store.add_exponential(series, &cell, times)?
        } else {
            writer.store.set_exponential(series, &cell, times)?
        };
        writer.exemplar(series, common);
        Ok(written)
    }
}

impl<'a> Point<'a> for SummaryPoint<'a> {
    const ATTRIBUTES: u32 = 7;

    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        point::summary(bytes)
    }

    fn common(&self) -> &Common<'a> {
        &self.common
    }

    #[inline(always)]
    fn write(&self, writer: &mut GroupWriter<'_>, scratch: &mut Scratch, resolved: &Resolved<'a>) -> Applied {
        let quantiles = &mut scratch.quantiles;
        point::quantiles(resolved.bytes, quantiles).map_err(malformed)?;
        quantiles.sort_by(|a, b| a.0.total_cmp(&b.0));
        let valid = quantiles.iter().all(|(at, _)| (0.0..=1.0).contains(at));
        if !valid || quantiles.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(DropReason::Malformed);
        }
        let times = writer.times(&self.common);
        let series = writer.series(self, resolved, None)?;
        let cell = pipeline::SummaryPoint {
            count: self.count,
            sum: Number::float(self.sum),
            quantiles,
        };
        writer.store.set_summary(series, &cell, times)
    }
}
