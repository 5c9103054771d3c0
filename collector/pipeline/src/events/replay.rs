//! The last batches of one signal and the gaps between them, bounded in bytes and age.

use super::claim::Claim;
use super::gap::Gap;
use super::request::{ResumePoint, StreamItem, StreamRequest};
use dichroic_model::{Batch, UnixNanos};
use std::collections::VecDeque;
use std::sync::Arc;

/// Distinct gaps at one position; beyond this number gaps of the same reason are merged.
const MAX_GAPS: usize = 64;

/// Gaps at one position.
struct Gaps(Vec<Gap>);

/// A batch and the gaps before it; most have none, so these take the space of a pointer.
struct Entry {
    gaps: Option<Box<Gaps>>,
    batch: Arc<Batch>,
}

#[derive(Default)]
pub(super) struct Replay {
    entries: VecDeque<Entry>,
    /// Gaps after the last batch.
    gaps: Vec<Gap>,
    bytes: usize,
    /// Position of the next row.
    pub(super) next: u64,
    /// When the newest removed batch was received.
    removed: Option<UnixNanos>,
}

impl Replay {
    #[inline]
    pub(super) fn push(&mut self, batch: Arc<Batch>, max_bytes: usize, oldest: UnixNanos) {
        self.next = batch.position + u64::from(batch.rows);
        self.bytes += batch.size();
        let gaps = if self.gaps.is_empty() {
            None
        } else {
            Some(self.take_gaps())
        };
        self.entries.push_back(Entry { gaps, batch });
        while self.bytes > max_bytes || self.entries.front().is_some_and(|e| e.batch.received < oldest) {
            let Some(evicted) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= evicted.batch.size();
            self.removed = Some(evicted.batch.received);
        }
    }

    #[cold]
    fn take_gaps(&mut self) -> Box<Gaps> {
        Box::new(Gaps(std::mem::take(&mut self.gaps)))
    }

    /// Records a loss, also without a subscriber: one that resumes later from before the gap must receive it.
    pub(super) fn push_gap(&mut self, mut gap: Gap) {
        if let Some(other) = self.gaps.iter_mut().find(|other| other.can_merge(&gap)) {
            return other.merge(&gap);
        }
        if self.gaps.len() >= MAX_GAPS {
            (gap.schemas, gap.source) = (Arc::default(), None);
            let same = |other: &&mut Gap| {
                other.reason == gap.reason && other.source.is_none() && other.schemas.is_empty()
            };
            if let Some(other) = self.gaps.iter_mut().find(same) {
                return other.merge(&gap);
            }
        }
        self.gaps.push(gap);
    }

    /// The items with which a new subscription starts.
    pub(super) fn backlog(&self, request: &StreamRequest, claim: Claim) -> Vec<StreamItem> {
        let mut items = Vec::new();
        let item = |gap: &Gap| claim.part_of(gap)?.item(request);
        for Entry { gaps, batch } in &self.entries {
            let (rows, losses) = match (request.resume_from, request.replay_from) {
                (Some(from), _) => (
                    batch.position + u64::from(batch.rows) > from.position,
                    from.is_before_gaps_at(batch.position),
                ),
                (None, Some(time)) => (batch.received >= time, batch.received >= time),
                (None, None) => (false, false),
            };
            if losses {
                let gaps = gaps.iter().flat_map(|gaps| &gaps.0);
                items.extend(gaps.filter_map(item));
            }
            if rows && request.matches(&batch.schema) {
                items.push(StreamItem::Batch(batch.clone()));
            }
        }
        let latest = self.entries.back().map(|entry| entry.batch.received);
        let losses = match (request.resume_from, request.replay_from) {
            (Some(from), _) => from.is_before_gaps_at(self.next),
            // Gaps at the end are at least as recent as the batch before them.
            (None, Some(time)) => latest.is_some_and(|received| received >= time),
            (None, None) => false,
        };
        let timed = request.resume_from.is_none() && request.replay_from.is_some();
        if timed && !losses {
            items.extend(self.gaps.iter().filter(|gap| gap.time.is_some()).filter_map(item));
        }
        if losses {
            items.extend(self.gaps.iter().filter_map(item));
        }
        items
    }

    /// A time before which a subscriber has received everything.
    pub(super) fn time_of(&self, from: ResumePoint) -> UnixNanos {
        let received = |entry: &&Entry| {
            let position = entry.batch.position;
            position < from.position || (position == from.position && from.received)
        };
        let last = self.entries.iter().rev().find(received);
        last.map_or(0, |entry| entry.batch.received)
    }

    /// When the oldest batch was received.
    pub(super) fn oldest(&self) -> Option<UnixNanos> {
        self.entries.front().map(|entry| entry.batch.received)
    }

    /// Whether the replay contains every row received from the time on.
    pub(super) fn reaches_back_to(&self, time: UnixNanos) -> bool {
        self.removed.is_none_or(|removed| removed < time)
    }

    /// Whether the replay contains every published row from the position on.
    pub(super) fn reaches(&self, position: u64) -> bool {
        let oldest = self.entries.front().map_or(self.next, |e| e.batch.position);
        (oldest..=self.next).contains(&position)
    }
}

impl ResumePoint {
    fn is_before_gaps_at(self, position: u64) -> bool {
        self.position < position || (self.position == position && !self.received)
    }
}
