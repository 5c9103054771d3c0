//! A metric subscription: periodic scans of the changed series, sent as points.
//!
//! The first scan takes all matching series, later ones those written since. A point is the whole state of its series, so a scan is
//! skipped without loss while the previous one is not yet written. A subscriber that does not read ends its scan; the next one covers the
//! rest. A series removed from the store is detected by its dropped meta; its id is released within [`SWEEP`].

use crate::account::Account;
use crate::client_series::{ClientSeries, ClientTable};
use crate::encode::{Encoder, Frames, written};
use crate::error::SubscribeError;
use crate::json::{self, BucketBounds, PointText, PointValue};
use crate::memory::Memory;
use crate::outgoing::Outgoing;
use crate::request::Request;
use crate::series::{BucketLayout, Reading, SeriesPart, definition, read};
use crate::series_table::{SWEEP, Slots, TableUse};
use crate::share::no_memory;
use dichroic_model::clock;
use dichroic_model::{Number, Pattern, UnixNanos};
use dichroic_pipeline::channel::Receiver;
use dichroic_pipeline::{Handle, Metric, Row, RowValue, SeriesMeta, SnapshotRequest};
use dichroic_wire::define::{self, DefineKind, DefineWriter, SubscriberSeries};
use dichroic_wire::{GoodbyeCode, HistogramsWriter, NumberRow, NumbersWriter, frame, limits};
use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Rows encoded between two looks at the write buffer.
const PIECE: usize = 256;
/// Chunks that wait for this thread.
const CHUNKS: usize = 1;
/// Memory reserved during a scan: its chunks, here, waiting and in work.
const SCAN_BYTES: usize = 512 << 10;
/// A subscription that has had no memory for a scan for this time is ended.
const STARVED: Duration = Duration::from_secs(10);

/// Whether a series must be defined before its next point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DefinitionState {
    Current,
    New,
    /// Its start or buckets changed: the previous definition must be released first.
    Changed,
}

/// A part of a row whose point was not sent yet.
struct Changed<'p> {
    slot: u32,
    series: &'p mut ClientSeries,
    state: DefinitionState,
    part: SeriesPart,
    layout: &'p BucketLayout,
    reading: Reading,
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
    memory: Memory,
    table: TableUse,
    series: ClientTable,
    scan: Option<Scan>,
    /// Rows of the scan that are not encoded yet.
    rows: std::vec::IntoIter<Row>,
    /// Writes since this time are not sent yet.
    since: Option<UnixNanos>,
    next_scan: Instant,
    /// Since when there is no memory for a scan.
    starved: Option<Instant>,
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
        memory: Memory,
        table: TableUse,
    ) -> Self {
        PointSource {
            handle,
            request,
            account,
            max_frame,
            max_series,
            memory,
            table,
            series: ClientTable::default(),
            scan: None,
            rows: Vec::new().into_iter(),
            since: None,
            next_scan: Instant::now(),
            starved: None,
            next_sweep: Instant::now() + SWEEP,
        }
    }

    /// The next rows of a scan, `None` at its end. Pending without a scan, and while rows are not encoded.
    pub async fn next(&self) -> Option<Vec<Row>> {
        match &self.scan {
            Some(scan) if self.rows.len() == 0 => scan.chunks.recv().await,
            _ => std::future::pending().await,
        }
    }

    pub fn deadline(&self, out: &Outgoing) -> Option<Instant> {
        match self.scan {
            Some(_) => out.unread_at(),
            None => Some(self.next_scan),
        }
    }

    pub fn sent(&self, points: u64) {
        if points > 0 {
            self.account.sent(points);
        }
    }

    /// Encodes rows while the buffer has room. Starts a scan when one is due and the previous one is written.
    pub fn fill(
        &mut self,
        out: &mut Outgoing,
        encoder: &mut Encoder,
        now: Instant,
    ) -> Result<(), SubscribeError> {
        while self.rows.len() > 0 && out.has_room() {
            self.encode(out, encoder)?;
        }
        if self.scan.is_some() && out.is_unread() {
            // `since` is unchanged: the next scan sends the rest, and `last` suppresses repetitions.
            self.end_scan();
        }
        if self.scan.is_some() || now < self.next_scan {
            return Ok(());
        }
        self.next_scan = (self.next_scan + self.request.every).max(now);
        if !out.is_empty() {
            return Ok(());
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP;
            self.release_expired(out, encoder, now);
        }
        // Without memory, or if the store is busy, the next tick retries.
        if self.memory.hold(self.series.bytes_with(0) + SCAN_BYTES) {
            self.scan = self.start_scan();
            return Ok(());
        }
        self.out_of_memory(now)
    }

    /// A scan without memory ends or does not start; the next one covers the rest.
    fn out_of_memory(&mut self, now: Instant) -> Result<(), SubscribeError> {
        self.end_scan();
        if now.duration_since(*self.starved.get_or_insert(now)) < STARVED {
            return Ok(());
        }
        Err(no_memory("the memory for subscribers is used up"))
    }

    fn start_scan(&self) -> Option<Scan> {
        let started = clock::steady(clock::now());
        let snapshot = SnapshotRequest {
            filter: Some(Box::new(series_filter(&self.request))),
            changed_since: self.since,
            capacity: CHUNKS,
        };
        let chunks = self.handle.snapshot(snapshot).ok()?;
        Some(Scan { chunks, started })
    }

    fn end_scan(&mut self) {
        self.scan = None;
        self.rows = Vec::new().into_iter();
        // Cannot fail: this is less than before.
        let _ = self.memory.hold(self.series.bytes_with(0));
    }

    /// Takes rows; `None` ends the scan.
    pub fn accept(&mut self, rows: Option<Vec<Row>>) {
        match rows {
            Some(rows) => self.rows = rows.into_iter(),
            None => {
                // After an incomplete scan the next one starts from the same time.
                if let Some(scan) = &self.scan
                    && scan.chunks.is_finished()
                {
                    self.since = Some(scan.started);
                    self.starved = None;
                }
                self.end_scan();
            }
        }
    }

    fn encode(&mut self, out: &mut Outgoing, encoder: &mut Encoder) -> Result<(), SubscribeError> {
        let rows = std::mem::take(&mut self.rows);
        let piece = &rows.as_slice()[..rows.len().min(PIECE)];
        let parts = piece.iter().map(parts).sum();
        let wanted = self.series.bytes_with(parts) + SCAN_BYTES;
        if !self.memory.hold(wanted) || !self.table.reserve(parts) {
            return self.out_of_memory(Instant::now());
        }
        let points = match encoder {
            Encoder::Frames(frames) => self.frames(piece, out, frames)?,
            Encoder::Json(json) => self.objects(piece, |text, time, value| {
                json.object(&mut out.bytes, "point", |bytes| {
                    json::point(bytes, text, time, value);
                });
            })?,
        };
        self.account.offered(points);
        out.mark(points);
        let encoded = piece.len();
        self.rows = rows;
        self.rows.by_ref().take(encoded).for_each(drop);
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
            self.each_changed(row, |changed, _| {
                let Changed {
                    series,
                    state,
                    part,
                    layout,
                    reading,
                    ..
                } = changed;
                if state != DefinitionState::Current {
                    let definition = definition(row, part, layout, source);
                    if state == DefinitionState::Changed && series.fits() {
                        let mut id = std::iter::once(series.id()).peekable();
                        release(&mut out.bytes, &mut id, max_frame);
                    }
                    series.set_fits(define(
                        &mut out.bytes,
                        series.id(),
                        layout,
                        &definition,
                        max_frame,
                    ));
                }
                if !series.fits() {
                    lost += 1;
                    return;
                }
                match reading {
                    Reading::Number(Number { int, float }) => {
                        let series = series.id();
                        points.numbers.push(NumberRow { series, int, float });
                    }
                    histogram => points.histograms.push((series.id(), histogram)),
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
        mut write: impl FnMut(&PointText, i64, PointValue<'_>),
    ) -> Result<u64, SubscribeError> {
        let time = clock::now() as i64;
        let mut points = 0;
        for row in rows {
            self.each_changed(row, |changed, slots| {
                let Changed {
                    slot,
                    part,
                    layout,
                    reading,
                    ..
                } = changed;
                let text = slots.text(slot, || {
                    PointText::new(&definition(row, part, layout, 0), row.meta.source.name())
                });
                let Some(text) = text else { return };
                points += 1;
                let value = match &reading {
                    Reading::Number(number) => PointValue::Number(number.int, number.float),
                    Reading::Histogram { sum, buckets } => PointValue::Histogram {
                        bounds: match layout {
                            BucketLayout::Bounds(bounds) => BucketBounds::Explicit(bounds),
                            BucketLayout::Scale(scale) => BucketBounds::Scale(*scale),
                            BucketLayout::None => BucketBounds::Scale(0),
                        },
                        sum: (sum.int, sum.float),
                        buckets,
                    },
                };
                write(text, time, value);
            })?;
        }
        Ok(points)
    }

    /// Calls `each` for every changed part of a row.
    fn each_changed(
        &mut self,
        row: &Row,
        mut each: impl FnMut(Changed<'_>, &mut Slots),
    ) -> Result<(), SubscribeError> {
        let mut too_many = false;
        let mut slots = self.table.lock();
        read(row, |part, layout, reading| {
            let (slot, generation) = slots.find(&row.meta, part, row.start, &layout);
            if self.series.len() >= self.max_series && !self.series.has(slot) {
                too_many = true;
                return;
            }
            let (series, is_new) = self.series.entry(slot);
            let state = match series.generation == generation {
                true => DefinitionState::Current,
                false if is_new => DefinitionState::New,
                false => DefinitionState::Changed,
            };
            let point = fingerprint(row.time, &reading);
            if state == DefinitionState::Current && series.last == point {
                return;
            }
            (series.generation, series.last) = (generation, point);
            let changed = Changed {
                slot,
                series,
                state,
                part,
                layout: &layout,
                reading,
            };
            each(changed, &mut slots);
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

    fn release_expired(&mut self, out: &mut Outgoing, encoder: &Encoder, now: Instant) {
        let mut slots = self.table.lock();
        slots.sweep(now);
        let released = self
            .series
            .retain(|slot, generation| slots.is_current(slot, generation));
        if let Encoder::Frames(_) = encoder {
            release(
                &mut out.bytes,
                &mut released.into_iter().peekable(),
                self.max_frame,
            );
        }
    }
}

/// The series that a row has for subscribers.
fn parts(row: &Row) -> usize {
    match &row.value {
        RowValue::Summary(cell) => cell.quantiles.len() + 2,
        _ => 1,
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
fn define(
    out: &mut Vec<u8>,
    id: u32,
    layout: &BucketLayout,
    definition: &SubscriberSeries,
    max_frame: u32,
) -> bool {
    if let BucketLayout::Bounds(bounds) = layout
        && bounds.len() >= limits::BUCKETS_PER_ROW
    {
        return false;
    }
    let start = out.len();
    let result = define::write_one(out, DefineKind::Series, id, &definition.to_map());
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
