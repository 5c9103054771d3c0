//! Raw events and logs: their schemas, and the store's side of the streams.

pub mod subscribers;

use self::subscribers::{Interest, StreamRequest, Subscription};
use crate::core::{Core, NotAdmitted};
use crate::ledger::DropReason;
use dichroic_model::{Batch, EventKind, EventSchema, GapReason, Source};
use std::sync::Arc;

impl Core {
    /// The schema with these columns; the same columns get the same schema.
    pub fn schema(
        &mut self,
        kind: EventKind,
        name: &str,
        measurements: Vec<(String, String)>,
        metadata: Vec<String>,
    ) -> Result<Arc<EventSchema>, NotAdmitted> {
        let key = (kind, name.to_owned(), measurements, metadata);
        if let Some(schema) = self.schemas.get(&key) {
            return Ok(schema.clone());
        }
        if self.schemas.len() >= self.limits.schemas {
            // Those that no receiver, replay or subscriber holds any more make room.
            self.schemas.retain(|_, schema| Arc::strong_count(schema) > 1);
        }
        if self.schemas.len() >= self.limits.schemas {
            return Err(NotAdmitted(DropReason::SchemaLimit));
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
        Ok(schema)
    }

    /// Schemas known.
    pub fn schemas(&self) -> impl Iterator<Item = &Arc<EventSchema>> {
        self.schemas.values()
    }

    /// Position that the next row of a kind will have: write it into the body before [`Core::publish`].
    pub fn next_position(&self, kind: EventKind) -> u64 {
        self.streams.next_position(kind)
    }

    /// Hands a batch to everyone who wants it and to the replay. Its position must be [`Core::next_position`].
    pub fn publish(&mut self, batch: Batch) {
        let now = batch.received;
        self.streams.publish(batch, now);
    }

    /// Tells subscribers that rows of a schema are missing here.
    pub fn publish_gap(
        &mut self,
        schema: &Arc<EventSchema>,
        source: &Arc<Source>,
        reason: GapReason,
        lost: Option<u64>,
    ) {
        self.streams.publish_gap(schema, source, reason, lost);
    }

    /// Subscribes; `None` when there are as many subscribers as allowed.
    pub fn subscribe(&mut self, wanted: StreamRequest) -> Option<Subscription> {
        self.streams.subscribe(wanted)
    }

    /// What subscribers want at present.
    pub fn interest(&mut self) -> &Interest {
        self.streams.interest()
    }
}
