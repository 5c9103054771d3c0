//! Raw events and logs: their schemas, a bounded replay, and the subscribers.
//!
//! Receivers read the patterns of the subscribers ([`request::Interest`]), so that a relay sends raw events only while there is a
//! subscriber for them.

mod replay;
pub mod request;
mod subscribers;

use dichroic_model::{Batch, EventKind, EventSchema, GapReason, Limits, SECOND, Source, UnixNanos};
use replay::{Gap, Replay};
use request::{Interest, StreamItem, StreamRequest, Subscription};
use std::collections::HashMap;
use std::sync::Arc;
use subscribers::Subscribers;

/// Kind, name, measurements, metadata.
type SchemaKey = (EventKind, String, Vec<(String, String)>, Vec<String>);

/// Schemas, replays and subscribers of both signals.
pub(crate) struct Events {
    schemas: HashMap<SchemaKey, Arc<EventSchema>, foldhash::quality::RandomState>,
    next_schema: u32,
    max_schemas: usize,
    replays: [Replay; 2],
    replay_bytes: usize,
    replay_age: UnixNanos,
    subscribers: Subscribers,
}

fn index(kind: EventKind) -> usize {
    match kind {
        EventKind::Event => 0,
        EventKind::Log => 1,
    }
}

impl Events {
    pub(crate) fn new(limits: &Limits) -> Self {
        Events {
            schemas: HashMap::default(),
            next_schema: 1,
            max_schemas: limits.schemas,
            replays: Default::default(),
            replay_bytes: limits.replay_bytes,
            replay_age: limits.replay_seconds * SECOND,
            subscribers: Subscribers::new(limits),
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
        self.replays[index(schema.kind)].push_gap(Gap {
            schemas: [schema.clone()].into(),
            source: Some(source.clone()),
            reason,
            lost,
            time: None,
        });
        self.subscribers.send(schema, || StreamItem::Gap {
            schema: Some(schema.clone()),
            source: Some(source.clone()),
            reason,
            lost,
            time: None,
        });
    }

    pub(crate) fn subscribe(&mut self, request: StreamRequest, now: UnixNanos) -> Option<Subscription> {
        self.subscribers.sweep(now);
        if self.subscribers.is_full() {
            return None;
        }
        let replay = &self.replays[index(request.kind)];
        let backlog = replay.backlog(&request);
        let resumed = request
            .resume_from
            .is_none_or(|from| replay.reaches(from.position));
        Some(self.subscribers.add(request, backlog, replay.next, resumed))
    }

    /// Removes disconnected subscribers and ended leases.
    pub(crate) fn sweep(&mut self, now: UnixNanos) {
        self.subscribers.sweep(now);
    }

    pub(crate) fn interest(&mut self, now: UnixNanos) -> &Interest {
        self.subscribers.sweep(now);
        self.subscribers.interest()
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }
}
