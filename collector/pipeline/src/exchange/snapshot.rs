//! Copies of series for exporters, in family order and in bounded steps.
//!
//! The rows of a chunk are copied at one time; ingest continues between chunks. As in Prometheus, each series is consistent, but the
//! series of a page are not from one time.

use super::channel::{self, Receiver, Sender, TrySendError};
use super::job::{Job, Progress};
use crate::core::Core;
use crate::exposition::families::HOLE;
use crate::row::Row;
use crate::series::Series;
use crate::series::meta::SeriesMeta;
use crate::series::slot::{Shown, Slot};
use crate::series::writers::retire as add;
use dichroic_model::UnixNanos;
use std::sync::Arc;
use std::task::Context;

/// Series checked in one step: less than 0.1 ms.
const STEP: usize = 2048;

/// Series that are prefetched before the first of them is copied.
const GROUP: usize = 32;

/// Rows copied together.
pub type Chunk = Vec<Row>;

/// Selects series.
pub type SeriesFilter = Box<dyn Fn(&SeriesMeta) -> bool + Send>;

/// The selection and the channel of a snapshot.
#[derive(Default)]
pub struct SnapshotRequest {
    /// Copies only series for which this returns true.
    pub filter: Option<SeriesFilter>,
    /// Copies only series written at or after this time of the [steady clock](dichroic_model::clock). The resolution is a tenth of a
    /// second, so slightly older ones may be included.
    pub changed_since: Option<UnixNanos>,
    /// Capacity of the channel in chunks; 0 means 4.
    pub capacity: usize,
}

/// The job behind [`crate::Handle::snapshot`].
pub struct Snapshot {
    request: SnapshotRequest,
    out: Sender<Chunk>,
    unsent: Option<Chunk>,
    family: String,
    position: usize,
    /// The id of the copy, after its first step.
    copy: Option<u64>,
    finished: bool,
}

impl Snapshot {
    /// The job and the receiver of its chunks. The channel closes as finished ([`Receiver::is_finished`]) after a complete copy, and
    /// unfinished after an aborted one: its reader was too slow, or the core was dropped.
    pub fn new(request: SnapshotRequest) -> (Self, Receiver<Chunk>) {
        let (out, chunks) = channel::channel(if request.capacity == 0 {
            4
        } else {
            request.capacity
        });
        let job = Snapshot {
            request,
            out,
            unsent: None,
            family: String::new(),
            position: 0,
            copy: None,
            finished: false,
        };
        (job, chunks)
    }

    fn copy(&mut self, core: &Core, copy: u64) -> Chunk {
        let since = self.request.changed_since.map(|time| core.series.tenths(time));
        let mut rows = Vec::with_capacity(STEP.min(core.series()));
        let any_finding = core.series.writers.any_finding();
        let mut checked = 0;
        while checked < STEP {
            let Some((name, members)) = core.exposition.families.at_or_after(&self.family) else {
                self.finished = true;
                break;
            };
            if name != self.family {
                (self.family, self.position) = (name.to_owned(), 0);
            }
            let rest = members.slots.get(self.position..).unwrap_or_default();
            let part = &rest[..rest.len().min(STEP - checked)];
            for group in part.chunks(GROUP) {
                prefetch(core, group);
                for index in group.iter().copied().filter(|index| *index != HOLE) {
                    if core.exposition.copies.is_new(index, copy) {
                        continue;
                    }
                    let slot = &core.series.slots[index as usize];
                    if slot.composite || (any_finding && core.series.writers.has_finding(index)) {
                        rows.extend(self.composite(core, index, since));
                    } else if let Some(row) = self.row(&core.series, index, slot, since) {
                        rows.push(row);
                    }
                }
            }
            checked += part.len().max(1);
            self.position += part.len();
            if part.len() == rest.len() {
                self.family.push('\0');
                self.position = 0;
            }
        }
        rows
    }

    #[inline]
    fn row(&self, series: &Series, index: u32, slot: &Slot, since: Option<u32>) -> Option<Row> {
        let meta = slot.meta.as_ref()?;
        if since.is_some_and(|since| slot.touched < since) {
            return None;
        }
        if self.request.filter.as_ref().is_some_and(|matches| !matches(meta)) {
            return None;
        }
        let value = slot.copy(&series.bounds)?;
        let exemplar = slot
            .has_exemplar
            .then(|| series.exemplar(index).cloned())
            .flatten();
        Some(Row {
            meta: meta.clone(),
            value,
            start: slot.start,
            start_explicit: slot.start_explicit,
            time: slot.time,
            hidden: slot.hidden(),
            writers: 1,
            share_start: false,
            lost_bounds: false,
            exemplar,
        })
    }

    /// The row of a series that is the sum of several, or that several processes write.
    #[cold]
    fn composite(&self, core: &Core, index: u32, since: Option<u32>) -> Option<Row> {
        let series = &core.series;
        let slot = &series.slots[index as usize];
        let meta = slot.meta.as_ref()?;
        if slot.shown == Shown::Added {
            return None;
        }
        if self.request.filter.as_ref().is_some_and(|selects| !selects(meta)) {
            return None;
        }
        let (parts, retired) = core.exposition.claims.parts(index, series).unwrap_or_default();
        let mut value = retired;
        let (mut start, mut explicit, mut time, mut touched, mut writers) = (u64::MAX, false, 0, 0, 0);
        let all = parts.iter().copied().chain([index]);
        for part in all.filter(|part| series.slots[*part as usize].time != 0) {
            if let Some(held) = series.value(part) {
                add(&mut value, held, series.limits.buckets, meta);
            }
            let slot = &series.slots[part as usize];
            let times = series.writer_times(part).chain([(slot.start, slot.time)]);
            for (from, last) in times {
                (start, time) = (start.min(from), time.max(last));
            }
            explicit |= slot.start_explicit;
            touched = touched.max(slot.touched);
            writers = writers.max(series.writers.count(part));
        }
        if since.is_some_and(|since| touched < since) || time == 0 {
            return None;
        }
        Some(Row {
            meta: meta.clone(),
            value: value?,
            start,
            start_explicit: explicit,
            time,
            hidden: slot.hidden(),
            writers,
            share_start: series.writers.share_start(index),
            lost_bounds: series.writers.is_coarse(index),
            exemplar: series.exemplar(index).cloned(),
        })
    }
}

/// Prefetches the memory that the copies of a group need. An increment of a reference count waits for its cache line and for all
/// earlier reads; plain reads overlap. This makes copies of scattered series several times faster.
#[inline]
fn prefetch(core: &Core, group: &[u32]) {
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
        let chunk = match self.unsent.take() {
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
            Err(TrySendError::Closed(_)) => Progress::Done,
            Err(TrySendError::Full(chunk)) => {
                self.unsent = Some(chunk);
                Progress::Blocked
            }
        }
    }
}
