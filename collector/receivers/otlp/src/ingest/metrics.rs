//! A metric's points into the store's cells.
//!
//! The fingerprint of a point is a hash of its attributes as they came, seeded by source, scope, name, unit, kind, temporality and,
//! for histograms, bounds. Only when it is not known are the attributes read and the series defined.

use super::Here;
use super::attributes::pairs;
use super::point::{self, Common, Scratch};
use super::tally::Tally;
use crate::walk::{Broken, Content, Cursor, merge, text};
use dichroic_model::{
    Factor, Fingerprint, Fingerprinter, MetricKind, NameStyle, Number, Scope, SeriesDef, Temporality,
    UnixNanos, attributes::cut,
};
use dichroic_pipeline::{
    Buckets, DropReason, ExponentialPoint, HistogramPoint, Refused, SeriesRef, Signal, Store, SummaryPoint,
};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a metric's name, and of its unit.
const NAME_BYTES: usize = 1_024;
/// Bytes of a description that are kept.
const HELP_BYTES: usize = 1_024;
/// Bytes of a scope's name or version that are kept.
const SCOPE_BYTES: usize = 256;
/// Bytes of the attributes of one new series.
const ATTRIBUTE_BYTES: usize = 1 << 20;
/// Observations of one point: up to here a count is exact on a page, and sums of counts cannot overflow.
const COUNT: u64 = 1 << 53;

/// What a metric, a point and a new series count for in a step, beside their bytes.
const METRIC_BYTES: usize = 256;
const POINT_BYTES: usize = 32;
const SERIES_BYTES: usize = 2_048;

/// Number of the field of `Metric` that holds the data.
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL: u32 = 10;
const SUMMARY: u32 = 11;

/// A metric without its points.
struct Head<'a> {
    name: &'a str,
    unit: &'a str,
    help: &'a str,
    kind: MetricKind,
    temporality: Temporality,
}

/// The scope's name and version, as far as they can be read.
pub(super) fn scope(message: &[u8]) -> Scope {
    let mut scope = Scope::default();
    let mut cursor = Cursor::new(message);
    while let Ok(Some((number, content))) = cursor.field() {
        let kept = |bytes| cut(text(bytes).unwrap_or(""), SCOPE_BYTES).to_owned();
        match (number, content) {
            (1, Content::Bytes(bytes)) => scope.name = kept(bytes),
            (2, Content::Bytes(bytes)) => scope.version = kept(bytes),
            _ => {}
        }
    }
    scope
}

/// A metric in a body, and how far its points were applied.
pub(super) struct Place {
    metric: Range<usize>,
    /// In the metric's data.
    at: usize,
    /// What stands behind the points, once it was read.
    known: Option<(u64, bool)>,
}

impl Place {
    pub(super) fn new(metric: Range<usize>) -> Self {
        Place {
            metric,
            at: 0,
            known: None,
        }
    }
}

/// Applies points of a `Metric` until the step is spent, and says where to go on; each is counted as applied or as dropped.
pub(super) fn apply(
    store: &mut Store,
    scratch: &mut Scratch,
    here: &Here,
    tally: &mut Tally,
    body: &[u8],
    mut place: Place,
    now: UnixNanos,
) -> Option<Place> {
    let metric = &body[place.metric.clone()];
    scratch.spend(METRIC_BYTES);
    // An error is not to be met: the body was checked down to the points.
    let fields = Fields::read(metric, place.known).ok()?;
    let head = match (here.refused, fields.head()) {
        (None, Ok(head)) => head,
        (Some(reason), _) | (None, Err(reason)) => {
            let name = text(fields.name).unwrap_or("");
            scratch.spend(fields.data.len());
            tally.dropped_of(Signal::Metrics, reason, fields.points(), name);
            return None;
        }
    };
    scratch.prefix.clear();
    for part in [head.name, head.unit] {
        scratch
            .prefix
            .extend_from_slice(&(part.len() as u32).to_le_bytes());
        scratch.prefix.extend_from_slice(part.as_bytes());
    }
    let shape = [
        fields.kind as u8,
        head.temporality as u8,
        u8::from(fields.monotonic),
    ];
    scratch.prefix.extend_from_slice(&shape);
    let prints = here.of_scope.with(&scratch.prefix);
    let mut target = Target {
        store,
        here,
        prints: &prints,
        head: &head,
        now,
        defined: 0,
    };
    let mut applied = 0;
    let mut bounds = Bounds::default();
    let mut cursor = Cursor::new(&fields.data[place.at..]);
    let mut left = None;
    while let Ok(Some(field)) = cursor.field() {
        let (1, Content::Bytes(point)) = field else {
            continue;
        };
        let written = match fields.kind {
            GAUGE | SUM => target.number(scratch, point),
            HISTOGRAM => target.histogram(scratch, &mut bounds, point),
            EXPONENTIAL => target.exponential(scratch, point),
            _ => target.summary(scratch, point),
        };
        match written {
            Ok(()) => applied += 1,
            Err(reason) => tally.dropped_of(Signal::Metrics, reason, 1, head.name),
        }
        let defined = std::mem::take(&mut target.defined);
        scratch.spend(POINT_BYTES + point.len() + defined * SERIES_BYTES);
        if scratch.left == 0 {
            place.at += cursor.at();
            place.known = Some((fields.temporality, fields.monotonic));
            left = Some(place);
            break;
        }
    }
    tally.applied(Signal::Metrics, applied);
    left
}

/// The fields of a `Metric`, whatever their order.
#[derive(Default)]
struct Fields<'a> {
    name: &'a [u8],
    help: &'a [u8],
    unit: &'a [u8],
    /// The last data field; 0 when there is none that is known.
    kind: u32,
    data: Cow<'a, [u8]>,
    temporality: u64,
    monotonic: bool,
}

impl<'a> Fields<'a> {
    fn read(metric: &'a [u8], known: Option<(u64, bool)>) -> Result<Self, Broken> {
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
        if let Some(known) = known {
            (fields.temporality, fields.monotonic) = known;
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

    fn head(&self) -> Result<Head<'a>, DropReason> {
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
        Ok(Head {
            name,
            unit,
            help: cut(help, HELP_BYTES),
            kind,
            temporality,
        })
    }
}

/// The bounds of the last histogram point: points of one metric nearly always share them.
#[derive(Default)]
struct Bounds {
    packed: Vec<u8>,
    prints: Option<Fingerprinter>,
}

impl Bounds {
    fn prints(&mut self, of_metric: &Fingerprinter, packed: &[u8]) -> &Fingerprinter {
        if self.prints.is_none() || self.packed != packed {
            self.packed.clear();
            self.packed.extend_from_slice(packed);
            self.prints = Some(of_metric.with(packed));
        }
        self.prints.as_ref().expect("set above")
    }
}

/// Where points of one metric go.
struct Target<'a> {
    store: &'a mut Store,
    here: &'a Here,
    prints: &'a Fingerprinter,
    head: &'a Head<'a>,
    now: UnixNanos,
    /// Series that were not known, since this was last taken.
    defined: usize,
}

type Applied = Result<(), DropReason>;

fn malformed(_: Broken) -> DropReason {
    DropReason::Malformed
}

/// Both or none, and neither NaN.
fn extremes(min: Option<f64>, max: Option<f64>) -> Option<(f64, f64)> {
    let (min, max) = (min?, max?);
    (min <= max).then_some((min, max))
}

/// The sum of counts, unless it is beyond [`COUNT`].
fn total(counts: &[u64]) -> Option<u64> {
    let mut total = 0u64;
    for count in counts {
        total = total.checked_add(*count)?;
    }
    (total <= COUNT).then_some(total)
}

impl Target<'_> {
    fn delta(&self) -> bool {
        self.head.temporality == Temporality::Delta
    }

    /// (start, time), with what is missing or cannot be put right.
    fn times(&self, common: &Common<'_>) -> (UnixNanos, UnixNanos) {
        let time = if common.time == 0 { self.now } else { common.time };
        (common.start.min(time), time)
    }

    /// The series of a point. One that has no value leaves.
    #[inline]
    fn series(
        &mut self,
        fp: Fingerprint,
        common: &Common<'_>,
        bounds: Option<&[f64]>,
    ) -> Result<SeriesRef, DropReason> {
        match (self.store.find(fp), common.no_value) {
            (Some(series), false) => Ok(series),
            (None, false) => self.define(fp, common.attributes, bounds),
            (known, true) => {
                if let Some(series) = known {
                    self.store.leave(series);
                }
                Err(DropReason::NoRecordedValue)
            }
        }
    }

    #[cold]
    fn define(
        &mut self,
        fp: Fingerprint,
        attributes: &[u8],
        bounds: Option<&[f64]>,
    ) -> Result<SeriesRef, DropReason> {
        if attributes.len() > ATTRIBUTE_BYTES {
            return Err(DropReason::LabelLimit);
        }
        let number = match self.head.kind {
            MetricKind::Histogram => 9,
            MetricKind::ExponentialHistogram => 1,
            _ => 7,
        };
        self.defined += 1;
        let attributes = pairs(attributes, number).map_err(malformed)?;
        let bounds: Option<Arc<[f64]>> = bounds.map(Into::into);
        let def = SeriesDef {
            source: self.here.source,
            scope: &self.here.scope,
            name: self.head.name,
            style: NameStyle::OpenTelemetry,
            unit: self.head.unit,
            help: self.head.help,
            kind: self.head.kind,
            temporality: self.head.temporality,
            factor: Factor::ONE,
            attributes,
            bounds,
        };
        self.store.define(fp, def).map_err(|Refused(reason)| reason)
    }

    fn exemplar(&mut self, series: SeriesRef, common: &Common<'_>) {
        // A broken exemplar takes nothing from the point that carries it.
        if let Some(Ok(Some(exemplar))) = common.exemplar.map(point::exemplar) {
            self.store.set_exemplar(series, exemplar);
        }
    }

    fn number(&mut self, scratch: &mut Scratch, point: &[u8]) -> Applied {
        let read = point::number(point, &mut scratch.run).map_err(malformed)?;
        let (common, (start, time)) = (&read.common, self.times(&read.common));
        let value = match (read.value, common.no_value) {
            (Some(value), _) => value,
            (None, true) => Number::default(),
            (None, false) => return Err(DropReason::Malformed),
        };
        let growing = self.delta() && self.head.kind == MetricKind::COUNTER;
        let falls = value.to_f64().is_nan() || value.to_f64() < 0.0;
        if growing && !common.no_value && falls {
            return Err(DropReason::Backwards);
        }
        let series = self.series(self.prints.of(common.attributes), common, None)?;
        if self.delta() {
            self.store.add_number(series, value, start, time, self.now)?;
        } else {
            self.store.set_number(series, value, start, time, self.now)?;
        }
        self.exemplar(series, common);
        Ok(())
    }

    fn histogram(&mut self, scratch: &mut Scratch, known: &mut Bounds, point: &[u8]) -> Applied {
        let Scratch {
            run, counts, bounds, ..
        } = scratch;
        let read = point::histogram(point, run, counts).map_err(malformed)?;
        let (common, (start, time)) = (&read.common, self.times(&read.common));
        let fp = known.prints(self.prints, &read.bounds).of(common.attributes);
        if counts.is_empty() && read.bounds.is_empty() {
            // Without buckets the one that has no bound holds all.
            counts.push(read.count);
        }
        if !common.no_value {
            let fits = counts.len() == read.bounds.len() / 8 + 1 && total(counts) == Some(read.count);
            if !fits {
                return Err(DropReason::Buckets);
            }
        }
        let series = match self.store.find(fp) {
            Some(series) if !common.no_value => series,
            _ => {
                point::bounds(&read.bounds, bounds).ok_or(DropReason::Buckets)?;
                self.series(fp, common, Some(bounds))?
            }
        };
        let cell = HistogramPoint {
            counts,
            sum: read.sum.map(Number::float),
            min_max: extremes(read.min, read.max),
        };
        if self.delta() {
            self.store.add_histogram(series, &cell, start, time, self.now)?;
        } else {
            self.store.set_histogram(series, &cell, start, time, self.now)?;
        }
        self.exemplar(series, common);
        Ok(())
    }

    fn exponential(&mut self, scratch: &mut Scratch, point: &[u8]) -> Applied {
        let Scratch {
            run,
            counts,
            negative,
            ..
        } = scratch;
        let read = point::exponential(point, run, counts, negative).map_err(malformed)?;
        let (common, (start, time)) = (&read.common, self.times(&read.common));
        if !common.no_value {
            let sides = [total(counts), total(negative), Some(read.zero_count)];
            let sum = sides
                .into_iter()
                .try_fold(0u64, |sum, side| sum.checked_add(side?));
            let width = read.zero_threshold;
            if sum != Some(read.count) || read.count > COUNT || width.is_nan() || width < 0.0 {
                return Err(DropReason::Buckets);
            }
        }
        let series = self.series(self.prints.of(common.attributes), common, None)?;
        let cell = ExponentialPoint {
            scale: read.scale,
            zero_count: read.zero_count,
            zero_threshold: read.zero_threshold,
            positive: Buckets {
                offset: read.positive_offset,
                counts,
            },
            negative: Buckets {
                offset: read.negative_offset,
                counts: negative,
            },
            sum: read.sum.map(Number::float),
            min_max: extremes(read.min, read.max),
        };
        if self.delta() {
            self.store.add_exponential(series, &cell, start, time, self.now)?;
        } else {
            self.store.set_exponential(series, &cell, start, time, self.now)?;
        }
        self.exemplar(series, common);
        Ok(())
    }

    fn summary(&mut self, scratch: &mut Scratch, point: &[u8]) -> Applied {
        let Scratch { run, quantiles, .. } = scratch;
        let read = point::summary(point, run, quantiles).map_err(malformed)?;
        let (start, time) = self.times(&read.common);
        let series = self.series(self.prints.of(read.common.attributes), &read.common, None)?;
        quantiles.sort_by(|a, b| a.0.total_cmp(&b.0));
        let cell = SummaryPoint {
            count: read.count,
            sum: Number::float(read.sum),
            quantiles,
        };
        self.store.set_summary(series, &cell, start, time, self.now)
    }
}
