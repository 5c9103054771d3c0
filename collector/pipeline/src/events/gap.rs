//! Rows that are missing in the streams.

use super::request::{StreamItem, StreamRequest};
use dichroic_model::{EventSchema, GapReason, Source, TimeRange, UnixNanos};
use std::sync::Arc;

/// Rows that are missing.
#[derive(Debug, Clone)]
pub(super) struct Gap {
    /// Their schemas; empty: unknown.
    pub schemas: Arc<[Arc<EventSchema>]>,
    pub source: Option<Arc<Source>>,
    pub reason: GapReason,
    pub lost: Option<u64>,
    pub time: Option<TimeRange>,
    /// The start of `time` for subscribers that resume from an earlier collector, if it is later: until then the rows went there.
    pub after_restart: Option<UnixNanos>,
}

impl Gap {
    /// Whether the gaps can be merged: same schemas, source and reason, and no time between them.
    pub fn can_merge(&self, other: &Gap) -> bool {
        let touching = self.time.zip(other.time).is_none_or(|(a, b)| a.touches(b));
        let source = |gap: &Gap| gap.source.as_ref().map(|s| s.id);
        self.reason == other.reason
            && source(self) == source(other)
            && self
                .schemas
                .iter()
                .map(|s| s.id)
                .eq(other.schemas.iter().map(|s| s.id))
            && touching
    }

    pub fn merge(&mut self, other: &Gap) {
        self.lost = self.lost.zip(other.lost).map(|(a, b)| a.saturating_add(b));
        let start = |gap: &Gap| gap.after_restart.or(gap.time.map(|time| time.start));
        self.after_restart = start(self).zip(start(other)).map(|(a, b)| a.min(b));
        self.time = self.time.zip(other.time).map(|(a, b)| a.union(b));
    }

    /// The item for a subscriber, if the request covers one of the schemas. Only a gap of a single schema names it.
    pub fn item(&self, request: &StreamRequest) -> Option<StreamItem> {
        let mut covered = self.schemas.iter().filter(|schema| request.matches(schema));
        let first = covered.next();
        if first.is_none() && !self.schemas.is_empty() {
            return None;
        }
        Some(StreamItem::Gap {
            schema: first.filter(|_| covered.next().is_none()).cloned(),
            source: self.source.clone(),
            reason: self.reason,
            lost: self.lost,
            time: self.time,
        })
    }

    /// The part of it after a time; all of it if it has none.
    pub fn since(mut self, start: UnixNanos) -> Option<Gap> {
        if let Some(time) = &mut self.time {
            time.start = time.start.max(start);
            if time.start >= time.end {
                return None;
            }
        }
        Some(self)
    }
}
