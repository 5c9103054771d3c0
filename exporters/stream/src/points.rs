//! A metric subscription: periodic scans of the changed series, sent as points.
//!
//! The first scan takes all matching series, later ones those written since. A point is the whole state of its series, so a scan is
//! skipped without loss while the previous one is not yet written. A series removed from the store is detected by its dropped meta;
//! its id is released within [`SWEEP`].

use crate::account::Account;
use crate::encode::{Encoder, Frames, written};
use crate::error::SubscribeError;
use crate::json::{self, PointValue};
use crate::outgoing::Outgoing;
use crate::request::Request;
use crate::series::{BucketLayout, Reading, SeriesPart, definition, read};
use dichroic_model::clock;
use dichroic_model::{Number, Pattern, UnixNanos};
use dichroic_pipeline::channel::Receiver;
use dichroic_pipeline::{Handle, Metric, Row, SeriesMeta, SnapshotRequest};
use dichroic_wire::define::{self, DefineKind, DefineWriter, SubscriberSeries};
use dichroic_wire::{GoodbyeCode, HistogramsWriter, NumberRow, NumbersWriter, frame, limits};
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::Peekable;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Time between two searches for removed series.
const SWEEP: Duration = Duration::from_secs(2);
/// A scan with this many unwritten bytes is stopped. The next one covers the rest.
const SCAN_BYTES: usize = 4 << 20;

/// A series as defined for the subscriber.
struct ClientSeries {
    id: u32,
    meta: Weak<SeriesMeta>,
    start: UnixNanos,
    layout: BucketLayout,
    /// Hash of the last point sent, so that a restarted scan does not repeat it.
    last: Option<u64>,
    /// Whether its definition fits the subscriber's frames.
    fits: bool,
    /// Only for JSON, where every point repeats it.
    definition: Option<Box<SubscriberSeries>>,
}

/// Whether a series must be defined before its next point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DefinitionState {
    Current,
    New,
    /// Its start or buckets changed: the previous definition must be released first.
    Changed,
}

/// One scan of the store.
struct Scan {
    chunks: Receiver<Vec<Row>>,
    started: UnixNanos,
}

/// One metric subscription.
pub(crate) struct PointSource {
    handle: Handle,
    request: Request,
    account: Account,
    max_frame: u32,
    max_series: usize,
    /// By the address of the meta, which is not reused while [`ClientSeries`] has a weak reference.
    series: HashMap<(usize, SeriesPart), ClientSeries>,
    free: Vec<u32>,
    scan: Option<Scan>,
    /// Writes since this time are not sent yet.
    since: Option<UnixNanos>,
    next_scan: Instant,
    next_sweep: Instant,
}

/// Points of one chunk, by the frame they go into.
#[derive(Default)]
struct Points {
    numbers: Vec<NumberRow>,
    histograms: Vec<(u32, Reading)>,
}

impl PointSource {
    pub fn new(
        handle: Handle,
        request: Request,
        account: Account,
        max_frame: u32,
        max_series: usize,
    ) -> Self {
        PointSource {
            handle,
            request,
            account,
            max_frame,
            max_series,
            series: HashMap::new(),
            free: Vec::new(),
            scan: None,
            since: None,
            next_scan: Instant::now(),
            next_sweep: Instant::now() + SWEEP,
        }
    }

    /// The next rows of a scan, `None` at its end. Pending without a scan.
    pub async fn next(&self) -> Option<Vec<Row>> {
        match &self.scan {
            Some(scan) => scan.chunks.recv().await,
            None => std::future::pending().await,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.scan.is_none().then_some(self.next_scan)
    }

    pub fn sent(&self, points: u64) {
        if points > 0 {
            self.account.sent(points);
        }
    }

    /// Starts a scan when one is due and the previous one is written.
    pub fn fill(&mut self, out: &mut Outgoing, encoder: &mut Encoder, now: Instant) {
        if self.scan.is_some() || now < self.next_scan {
            return;
        }
        self.next_scan = (self.next_scan + self.request.every).max(now);
        if !out.is_empty() {
            return;
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.release_expired(out, encoder);
        }
        let started = clock::steady(clock::now());
        let snapshot = SnapshotRequest {
            filter: Some(Box::new(series_filter(&self.request))),
            changed_since: self.since,
            capacity: 0,
        };
        // If the store is busy, the next tick retries.
        self.scan = self
            .handle
            .snapshot(snapshot)
            .ok()
            .map(|chunks| Scan { chunks, started });
    }

    /// Encodes rows; `None` ends the scan.
    pub fn accept(
        &mut self,
        rows: Option<Vec<Row>>,
        out: &mut Outgoing,
        encoder: &mut Encoder,
    ) -> Result<(), SubscribeError> {
        let Some(rows) = rows else {
            // After an incomplete scan the next one starts from the same time.
            if let Some(scan) = self.scan.take()
                && scan.chunks.is_finished()
            {
                self.since = Some(scan.started);
            }
            return Ok(());
        };
        let points = match encoder {
            Encoder::Frames(frames) => self.frames(&rows, out, frames)?,
            Encoder::Json(json) => self.objects(&rows, |definition, source, time, value| {
                json.object(&mut out.bytes, "point", |bytes| {
                    json::point(bytes, definition, source, time, value);
                });
            })?,
        };
        self.account.offered(points);
        out.mark(points);
        if out.pending().len() > SCAN_BYTES {
            // `since` is unchanged: the next scan sends the rest, and `last` suppresses repetitions.
            self.scan = None;
        }
        Ok(())
    }

    fn frames(
        &mut self,
        rows: &[Row],
        out: &mut Outgoing,
        frames: &mut Frames,
    ) -> Result<u64, SubscribeError> {
        let mut points = Points::default();
        let (max_frame, mut lost) = (self.max_frame, 0);
        for row in rows {
            let source = frames.source(&mut out.bytes, &row.meta.source);
            self.each_changed(row, |series, state, part, reading| {
                if state != DefinitionState::Current {
                    let definition = definition(row, part, &series.layout, source);
                    if state == DefinitionState::Changed && series.fits {
                        let mut id = std::iter::once(series.id).peekable();
                        release(&mut out.bytes, &mut id, max_frame);
                    }
                    series.fits = define(&mut out.bytes, series, &definition, max_frame);
                }
                if !series.fits {
                    lost += 1;
                    return;
                }
                match reading {
                    Reading::Number(Number { int, float }) => {
                        let series = series.id;
                        points.numbers.push(NumberRow { series, int, float });
                    }
                    histogram => points.histograms.push((series.id, histogram)),
                }
            })?;
        }
        if lost > 0 {
            self.account.lost(lost);
        }
        let count = points.numbers.len() + points.histograms.len();
        points.write(&mut out.bytes, clock::now() as i64, self.max_frame);
        Ok(count as u64)
    }

    fn objects(
        &mut self,
        rows: &[Row],
        mut write: impl FnMut(&SubscriberSeries, &str, i64, PointValue<'_>),
    ) -> Result<u64, SubscribeError> {
        let time = clock::now() as i64;
        let mut points = 0;
        for row in rows {
            self.each_changed(row, |series, state, part, reading| {
                if state != DefinitionState::Current {
                    series.definition = Some(Box::new(definition(row, part, &series.layout, 0)));
                }
                let Some(definition) = &series.definition else {
                    return;
                };
                points += 1;
                let value = match &reading {
                    Reading::Number(number) => PointValue::Number(number.int, number.float),
                    Reading::Histogram { sum, buckets } => PointValue::Histogram {
                        sum: (sum.int, sum.float),
                        buckets,
                    },
                };
                write(definition, row.meta.source.name(), time, value);
            })?;
        }
        Ok(points)
    }

    /// Calls `each` for every changed part of a row.
    fn each_changed(
        &mut self,
        row: &Row,
        mut each: impl FnMut(&mut ClientSeries, DefinitionState, SeriesPart, Reading),
    ) -> Result<(), SubscribeError> {
        let mut too_many = false;
        read(row, |part, layout, reading| {
            let key = (Arc::as_ptr(&row.meta) as usize, part);
            let mut state = DefinitionState::Current;
            if !self.series.contains_key(&key) {
                if self.series.len() >= self.max_series {
                    too_many = true;
                    return;
                }
                state = DefinitionState::New;
                let id = self.free.pop().unwrap_or(self.series.len() as u32 + 1);
                let series = ClientSeries {
                    id,
                    meta: Arc::downgrade(&row.meta),
                    start: row.start,
                    layout: layout.clone(),
                    last: None,
                    fits: true,
                    definition: None,
                };
                self.series.insert(key, series);
            }
            let Some(series) = self.series.get_mut(&key) else {
                return;
            };
            if series.start != row.start || series.layout != layout {
                (series.start, series.layout, series.last) = (row.start, layout, None);
                state = DefinitionState::Changed;
            }
            let point = Some(fingerprint(row.time, &reading));
            if series.last == point {
                return;
            }
            series.last = point;
            each(series, state, part, reading);
        });
        if too_many {
            let message = format!(
                "the subscription matches more than {} series; narrow match or where",
                self.max_series
            );
            return Err(SubscribeError::new(GoodbyeCode::Limit, u32::MAX, message));
        }
        Ok(())
    }

    fn release_expired(&mut self, out: &mut Outgoing, encoder: &Encoder) {
        let (mut expired, mut defined) = (Vec::new(), Vec::new());
        self.series.retain(|_, series| {
            let live = series.meta.strong_count() > 0;
            if !live {
                expired.push(series.id);
                defined.extend(series.fits.then_some(series.id));
            }
            live
        });
        if let Encoder::Frames(_) = encoder {
            let mut ids = defined.into_iter().peekable();
            release(&mut out.bytes, &mut ids, self.max_frame);
        }
        self.free.append(&mut expired);
    }
}

/// Releases ids, as many per frame as fit.
fn release(out: &mut Vec<u8>, ids: &mut Peekable<impl Iterator<Item = u32>>, max_frame: u32) {
    while ids.peek().is_some() {
        let mut writer = DefineWriter::begin(out, DefineKind::Series, max_frame);
        while let Some(id) = ids.peek() {
            match writer.release(*id) {
                Ok(true) => drop(ids.next()),
                _ => break,
            }
        }
        written(writer.finish());
    }
}

/// Defines an id in a separate frame; `false` if the definition exceeds the subscriber's frame size or the format.
fn define(out: &mut Vec<u8>, series: &ClientSeries, definition: &SubscriberSeries, max_frame: u32) -> bool {
    if let BucketLayout::Bounds(bounds) = &series.layout
        && bounds.len() >= limits::BUCKETS_PER_ROW
    {
        return false;
    }
    let start = out.len();
    let result = define::write_one(out, DefineKind::Series, series.id, &definition.to_map());
    let fits = result.is_ok() && frame::body(&out[start..]).len() <= max_frame as usize;
    if !fits {
        out.truncate(start);
    }
    fits
}

fn fingerprint(time: UnixNanos, reading: &Reading) -> u64 {
    let mut hasher = DefaultHasher::new();
    let number = |hasher: &mut DefaultHasher, number: &Number| {
        (number.int, number.float.to_bits()).hash(hasher);
    };
    time.hash(&mut hasher);
    match reading {
        Reading::Number(value) => number(&mut hasher, value),
        Reading::Histogram { sum, buckets } => {
            number(&mut hasher, sum);
            for bucket in buckets {
                (bucket.index, bucket.side, bucket.count).hash(&mut hasher);
            }
        }
    }
    hasher.finish()
}

impl Points {
    fn write(&self, out: &mut Vec<u8>, time: i64, max_frame: u32) {
        let mut numbers = self.numbers.iter().copied().peekable();
        while numbers.peek().is_some() {
            let mut writer = NumbersWriter::begin(out, time, max_frame);
            while numbers.next_if(|row| writer.push(*row)).is_some() {}
            written(writer.finish());
        }
        let mut histograms = self.histograms.iter().peekable();
        while histograms.peek().is_some() {
            let mut writer = HistogramsWriter::begin(out, time, max_frame);
            while let Some((series, Reading::Histogram { sum, buckets })) = histograms.peek() {
                match writer.push(*series, sum.int, sum.float, buckets.iter().copied()) {
                    Ok(false) => break,
                    result => written(result.map(drop)),
                }
                histograms.next();
            }
            written(writer.finish());
        }
    }
}

/// The series filter, run on the ingest thread. Series are in family order, so names are matched once per metric.
fn series_filter(request: &Request) -> impl Fn(&SeriesMeta) -> bool + Send + use<> {
    let (patterns, filter) = (request.patterns.clone(), request.filter.clone());
    let last = Cell::new((0, false));
    move |meta| {
        let metric = Arc::as_ptr(&meta.metric) as usize;
        if last.get().0 != metric {
            last.set((metric, name_matches(&patterns, meta)));
        }
        last.get().1 && filter.matches_series(meta)
    }
}

fn name_matches(patterns: &[Pattern], meta: &SeriesMeta) -> bool {
    patterns
        .iter()
        .any(|pattern| metric_matches(&meta.metric, pattern))
}

/// The canonical name, the family's page name, and the sample name if that differs.
pub(crate) fn metric_matches(metric: &Metric, pattern: &Pattern) -> bool {
    let page = &metric.family.page;
    pattern.matches(&metric.name) || pattern.matches(&page.base) || pattern.matches(&page.sample("_total"))
}
