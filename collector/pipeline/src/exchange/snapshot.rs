//! Copies of series for exporters: in family order, a bounded step at a time.
//!
//! Each row is one series at one time; rows of one chunk were copied together. Ingest continues between chunks. This is Prometheus's
//! guarantee too: a series is consistent in itself, but the series of a page are not from one time.

use super::channel::{self, Receiver, Sender, TrySend};
use super::job::{Job, Progress};
use crate::core::Core;
use crate::exposition::families::GONE;
use crate::row::Row;
use crate::series::meta::SeriesMeta;
use crate::series::slot::Slot;
use dichroic_model::UnixNanos;
use std::sync::Arc;
use std::task::Context;

/// Series checked in one step: less than 0.1 ms.
const STEP: usize = 2048;

/// Series that are read ahead before the first of them is copied.
const GROUP: usize = 32;

/// Rows copied together.
pub type Chunk = Vec<Row>;

/// Selects series.
pub type SeriesFilter = Box<dyn Fn(&SeriesMeta) -> bool + Send>;

/// What to copy.
#[derive(Default)]
pub struct SnapshotRequest {
    /// Only series for which this holds; `None` copies all.
    pub filter: Option<SeriesFilter>,
    /// Only series written at or after this time (in a resolution of tenths of a second: a few older ones may be included).
    pub changed_since: Option<UnixNanos>,
    /// Capacity of the channel in chunks; 0 means 4.
    pub lane: usize,
}

/// The job behind [`crate::Handle::snapshot`].
pub struct Snapshot {
    request: SnapshotRequest,
    out: Sender<Chunk>,
    waiting: Option<Chunk>,
    family: String,
    place: usize,
    /// The id of the copy, once it has begun.
    copy: Option<u64>,
    finished: bool,
}

impl Snapshot {
    /// The job and the receiver of its chunks. The channel closes as finished ([`Receiver::is_finished`]) when everything was copied. It
    /// closes unfinished when the copy was aborted: its reader took too long, or the core was dropped.
    pub fn new(request: SnapshotRequest) -> (Self, Receiver<Chunk>) {
        let (out, chunks) = channel::channel(if request.lane == 0 { 4 } else { request.lane });
        let job = Snapshot {
            request,
            out,
            waiting: None,
            family: String::new(),
            place: 0,
            copy: None,
            finished: false,
        };
        (job, chunks)
    }

    fn copy(&mut self, core: &Core, copy: u64) -> Chunk {
        let since = self.request.changed_since.map(|time| core.series.tenths(time));
        let mut rows = Vec::with_capacity(STEP.min(core.series()));
        let mut checked = 0;
        while checked < STEP {
            let Some((name, members)) = core.exposition.families.at_or_after(&self.family) else {
                self.finished = true;
                break;
            };
            if name != self.family {
                (self.family, self.place) = (name.to_owned(), 0);
            }
            let rest = members.slots.get(self.place..).unwrap_or_default();
            let part = &rest[..rest.len().min(STEP - checked)];
            for group in part.chunks(GROUP) {
                warm(core, group);
                for index in group.iter().copied().filter(|index| *index != GONE) {
                    if let Some(row) = self.row(core, index, copy, since) {
                        rows.push(row);
                    }
                }
            }
            checked += part.len().max(1);
            self.place += part.len();
            if part.len() == rest.len() {
                self.family.push('\0');
                self.place = 0;
            }
        }
        rows
    }

    #[inline]
    fn row(&self, core: &Core, index: u32, copy: u64, since: Option<u32>) -> Option<Row> {
        let slot: &Slot = &core.series.slots[index as usize];
        let meta = slot.meta.as_ref()?;
        if since.is_some_and(|since| slot.touched < since) || core.exposition.copies.is_new(index, copy) {
            return None;
        }
        if self.request.filter.as_ref().is_some_and(|selects| !selects(meta)) {
            return None;
        }
        let value = slot.copy(&core.series.bounds)?;
        let exemplar = if slot.exemplified {
            core.series.exemplar(index).cloned()
        } else {
            None
        };
        Some(Row {
            meta: meta.clone(),
            value,
            start: slot.start,
            start_explicit: slot.start_explicit,
            time: slot.time,
            hidden: slot.hidden,
            exemplar,
        })
    }
}

/// Reads the memory that the copies of a group need. Incrementing a reference count waits for its cache line and for all reads before it;
/// plain reads overlap. This makes copies of scattered series several times faster.
#[inline]
fn warm(core: &Core, group: &[u32]) {
    let counts = group
        .iter()
        .filter_map(|index| core.series.slots.get(*index as usize)?.meta.as_ref())
        .map(Arc::strong_count);
    std::hint::black_box(counts.fold(0, usize::wrapping_add));
}

impl Job for Snapshot {
    fn step(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Progress {
        let copy = *self.copy.get_or_insert_with(|| core.begin_copy());
        if !core.exposition.copies.is_open(copy) {
            // Aborted: the channel closes unfinished.
            return Progress::Done;
        }
        let progress = self.advance(core, copy, cx);
        if progress == Progress::Done {
            core.exposition.copies.end(copy);
        }
        progress
    }
}

impl Snapshot {
    fn advance(&mut self, core: &Core, copy: u64, cx: &mut Context<'_>) -> Progress {
        let chunk = match self.waiting.take() {
            Some(chunk) => chunk,
            None if self.finished => {
                self.out.finish();
                return Progress::Done;
            }
            None => self.copy(core, copy),
        };
        if chunk.is_empty() {
            return Progress::More;
        }
        self.out.register(cx.waker());
        match self.out.try_send(chunk) {
            Ok(()) => Progress::More,
            Err(TrySend::Closed(_)) => Progress::Done,
            Err(TrySend::Full(chunk)) => {
                self.waiting = Some(chunk);
                Progress::Blocked
            }
        }
    }
}
