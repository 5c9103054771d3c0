//! The last batches of one signal and the gaps between them, bounded in bytes and age.

use super::request::{ResumePoint, StreamItem, StreamRequest};
use dichroic_model::{Batch, EventSchema, GapReason, Source, UnixNanos};
use std::collections::VecDeque;
use std::sync::Arc;

/// Distinct gaps at one position; beyond this number gaps of the same reason are merged.
const MAX_GAPS: usize = 64;

struct Gap {
    schema: Option<Arc<EventSchema>>,
    source: Option<Arc<Source>>,
    reason: GapReason,
    lost: Option<u64>,
}

impl Gap {
    /// Whether the gaps can be merged: same schema, source and reason.
    fn can_merge(&self, other: &Gap) -> bool {
        let key = |gap: &Gap| {
            let (schema, source) = (gap.schema.as_ref(), gap.source.as_ref());
            (gap.reason, schema.map(|s| s.id), source.map(|s| s.id))
        };
        key(self) == key(other)
    }

    fn item(&self, request: &StreamRequest) -> Option<StreamItem> {
        let matches = self.schema.as_ref().is_none_or(|schema| request.matches(schema));
        matches.then(|| StreamItem::Gap {
            schema: self.schema.clone(),
            source: self.source.clone(),
            reason: self.reason,
            lost: self.lost,
        })
    }
}

/// A batch and the gaps before it; most have none.
struct Entry {
    gaps: Option<Box<[Gap]>>,
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
}

impl Replay {
    pub(super) fn push(&mut self, batch: Arc<Batch>, max_bytes: usize, oldest: UnixNanos) {
        self.next = batch.position + u64::from(batch.rows);
        self.bytes += batch.size();
        let gaps = (!self.gaps.is_empty()).then(|| self.gaps.drain(..).collect());
        self.entries.push_back(Entry { gaps, batch });
        while self.bytes > max_bytes || self.entries.front().is_some_and(|e| e.batch.received < oldest) {
            let Some(evicted) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= evicted.batch.size();
        }
    }

    /// Records a loss, also without a subscriber: one that resumes later from before the gap must receive it.
    pub(super) fn push_gap(
        &mut self,
        schema: &Arc<EventSchema>,
        source: &Arc<Source>,
        reason: GapReason,
        lost: Option<u64>,
    ) {
        let mut gap = Gap {
            schema: Some(schema.clone()),
            source: Some(source.clone()),
            reason,
            lost,
        };
        if self.gaps.len() >= MAX_GAPS && !self.gaps.iter().any(|other| other.can_merge(&gap)) {
            (gap.schema, gap.source) = (None, None);
        }
        match self.gaps.iter_mut().find(|other| other.can_merge(&gap)) {
            Some(other) => other.lost = other.lost.zip(gap.lost).map(|(a, b)| a.saturating_add(b)),
            None => self.gaps.push(gap),
        }
    }

    /// The items with which a new subscription starts.
    pub(super) fn backlog(&self, request: &StreamRequest) -> Vec<StreamItem> {
        let mut items = Vec::new();
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
                items.extend(gaps.iter().flatten().filter_map(|gap| gap.item(request)));
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
        if losses {
            items.extend(self.gaps.iter().filter_map(|gap| gap.item(request)));
        }
        items
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
