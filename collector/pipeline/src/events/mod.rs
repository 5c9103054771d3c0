//! Raw events and logs: their schemas, a bounded replay, and the subscribers.
//!
//! Receivers read the patterns of the subscribers ([`request::Interest`]), so that a relay sends raw events only while there is a
//! subscriber for them.

mod claim;
mod demand;
mod gap;
mod replay;
pub mod request;
mod subscribers;

use crate::budget::{Budget, Part, Reservation};
use claim::{Claim, Claims};
pub use demand::NodeStart;
use demand::{Demand, missed};
use dichroic_model::clock::{steady, unix};
use dichroic_model::{
    Batch, EventKind, EventSchema, GapReason, Limits, Pattern, SECOND, Source, SourceId, TimeRange, UnixNanos,
};
use gap::Gap;
use replay::Replay;
use request::{Interest, StreamItem, StreamRequest, Subscription};
use std::collections::HashMap;
use std::sync::Arc;
use subscribers::{Start, Subscribers};

/// Kind, name, measurements, metadata.
type SchemaKey = (EventKind, String, Vec<(String, String)>, Vec<String>);

/// Schemas, replays and subscribers of both signals.
pub(crate) struct Events {
    schemas: HashMap<SchemaKey, Arc<EventSchema>, foldhash::quality::RandomState>,
    next_schema: u32,
    max_schemas: usize,
    replays: [Replay; SIGNALS],
    /// The memory of full replays. `None` if the budget is too small for it, which the configuration does not allow.
    _replay_memory: Option<Reservation>,
    replay_bytes: usize,
    replay_age: UnixNanos,
    subscribers: Subscribers,
    demand: Demand,
}

/// Events and logs.
const SIGNALS: usize = 2;

fn index(kind: EventKind) -> usize {
    match kind {
        EventKind::Event => 0,
        EventKind::Log => 1,
    }
}

impl Events {
    pub(crate) fn new(limits: &Limits, budget: &Budget) -> Self {
        let replay = limits.replay_bytes.saturating_mul(SIGNALS);
        Events {
            schemas: HashMap::default(),
            next_schema: 1,
            max_schemas: limits.schemas,
            replays: Default::default(),
            _replay_memory: budget.try_reserve(Part::Replay, replay),
            replay_bytes: limits.replay_bytes,
            replay_age: limits.replay_seconds * SECOND,
            subscribers: Subscribers::new(limits),
            demand: Demand::default(),
        }
    }

    /// The schema with these columns; equal columns get the same schema. `None` at the limit.
    pub(crate) fn schema(
        &mut self,
        kind: EventKind,
        name: &str,
        measurements: Vec<(String, String)>,
        metadata: Vec<String>,
    ) -> Option<Arc<EventSchema>> {
        let key = (kind, name.to_owned(), measurements, metadata);
        if let Some(schema) = self.schemas.get(&key) {
            return Some(schema.clone());
        }
        if self.schemas.len() >= self.max_schemas {
            // Frees schemas without a receiver, replay or subscriber.
            self.schemas.retain(|_, schema| Arc::strong_count(schema) > 1);
        }
        if self.schemas.len() >= self.max_schemas {
            return None;
        }
        let id = self.next_schema;
        self.next_schema += 1;
        let schema = Arc::new(EventSchema {
            id,
            name: key.1.clone(),
            kind,
            measurements: key.2.clone(),
            metadata: key.3.clone(),
        });
        self.schemas.insert(key, schema.clone());
        Some(schema)
    }

    pub(crate) fn schemas(&self) -> impl Iterator<Item = &Arc<EventSchema>> {
        self.schemas.values()
    }

    pub(crate) fn next_position(&self, kind: EventKind) -> u64 {
        self.replays[index(kind)].next
    }

    pub(crate) fn publish(&mut self, batch: Batch) {
        let oldest = batch.received.saturating_sub(self.replay_age);
        let batch = Arc::new(batch);
        self.replays[index(batch.schema.kind)].push(batch.clone(), self.replay_bytes, oldest);
        self.subscribers
            .send(&batch.schema, || StreamItem::Batch(batch.clone()));
    }

    pub(crate) fn publish_gap(
        &mut self,
        schema: &Arc<EventSchema>,
        source: &Arc<Source>,
        reason: GapReason,
        lost: Option<u64>,
    ) {
        let gap = Gap {
            schemas: [schema.clone()].into(),
            source: Some(source.clone()),
            reason,
            lost,
            time: None,
            after_restart: None,
        };
        // The rows that a connection lost are from before its end.
        let before = match reason {
            GapReason::RelayBroke => self.demand.broke(source.id),
            _ => None,
        };
        self.subscribers
            .send_gap(&gap, |claim| before.is_none_or(|before| claim.is_before(before)));
        self.replays[index(schema.kind)].push_gap(gap);
    }

    pub(crate) fn subscribe(&mut self, request: StreamRequest, now: UnixNanos) -> Option<Subscription> {
        let steady = steady(now);
        self.subscribers.sweep(steady);
        if self.subscribers.is_full() {
            return None;
        }
        let replay = &self.replays[index(request.kind)];
        let back_to = match request.resume_from {
            Some(from) => Some(replay.time_of(from)),
            None => request.replay_from.filter(|time| *time < steady),
        };
        // Gaps have times of the wall clock, as events have.
        let claim = match (request.resume_from, back_to) {
            (Some(from), _) => Claim::Cursor {
                earliest: (replay.oldest()).map_or(now.saturating_sub(self.replay_age), unix),
                restarted: from.restarted,
            },
            (None, Some(time)) => Claim::Time(unix(time)),
            (None, None) => Claim::Live(now),
        };
        let mut backlog = replay.backlog(&request, claim);
        let resumed = request
            .resume_from
            .is_none_or(|from| replay.reaches(from.position));
        if let (None, Some(time)) = (request.resume_from, back_to)
            && !replay.reaches_back_to(time)
        {
            let gap = Gap {
                schemas: Arc::default(),
                source: None,
                reason: GapReason::BeyondReplay,
                lost: None,
                time: None,
                after_restart: None,
            };
            backlog.splice(0..0, gap.item(&request));
        }
        if let Some(back_to) = back_to
            && self.matches_nothing(&request)
        {
            backlog.extend(missed(None, Vec::new(), unix(back_to), now).item(&request));
        }
        let claims = Claims {
            claim,
            awaited: self.demand.without(&request),
            reported: Vec::new(),
        };
        let start = Start {
            backlog,
            claims,
            position: replay.next,
            resumed,
        };
        Some(self.subscribers.add(request, start))
    }

    /// Whether a pattern matches no event of any node or other sender, though a node might have it: no plan requests it.
    fn matches_nothing(&self, request: &StreamRequest) -> bool {
        let known = |pattern: &Pattern| {
            let matches = |schema: &EventSchema| schema.kind == request.kind && pattern.matches(&schema.name);
            self.demand.has(matches) || self.schemas.values().any(|schema| matches(schema))
        };
        self.demand.is_any_connected() && !request.patterns.iter().all(known)
    }

    // ---- what nodes send, see [`Demand`] ----------------------------------------------------------------------------------

    pub(crate) fn node_connected(&mut self, source: &Arc<Source>, start: NodeStart) {
        self.demand.connected(source, start);
    }

    pub(crate) fn node_sends<'s>(
        &mut self,
        source: SourceId,
        streams: impl Iterator<Item = (&'s Arc<EventSchema>, bool, UnixNanos)>,
        off: TimeRange,
    ) {
        let ended = self.demand.sends(source, streams, off);
        self.publish_missed(ended);
    }

    fn publish_missed(&mut self, gaps: Vec<Gap>) {
        for gap in gaps {
            self.subscribers.send_gap(&gap, |_| true);
            if let Some(schema) = gap.schemas.first() {
                self.replays[index(schema.kind)].push_gap(gap);
            }
        }
    }

    pub(crate) fn node_answered(&mut self, source: SourceId, generation: u64, now: UnixNanos) {
        self.subscribers.answered(&self.demand, source, generation, now);
    }

    pub(crate) fn node_disconnected<'s>(
        &mut self,
        source: SourceId,
        heard: UnixNanos,
        last: impl Iterator<Item = (&'s Arc<EventSchema>, UnixNanos)>,
        now: UnixNanos,
    ) {
        let ended = self.demand.disconnected(source, heard, last, now);
        self.publish_missed(ended);
        self.subscribers.left(source);
    }

    pub(crate) fn remove_source(&mut self, source: SourceId) {
        self.demand.remove(source);
    }

    /// Removes disconnected subscribers and ended leases. `now`: of the steady clock.
    pub(crate) fn sweep(&mut self, now: UnixNanos) {
        self.subscribers.sweep(now);
    }

    pub(crate) fn interest(&mut self, now: UnixNanos) -> &Interest {
        self.subscribers.sweep(steady(now));
        self.subscribers.interest()
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }
}
