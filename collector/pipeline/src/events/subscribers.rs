//! The subscribers, each with a bounded channel.
//!
//! A batch is published once; every subscriber whose patterns match the schema gets the same `Arc`. A slow subscriber loses the oldest
//! batches and gets the number of lost rows; it does not slow others.

use super::request::{Interest, StreamItem, StreamRequest, Subscription};
use crate::exchange::channel::{self, Sender};
use crate::sync::{Arc as SyncArc, AtomicU64, Ordering};
use dichroic_model::{EventKind, EventSchema};

struct Subscriber {
    request: StreamRequest,
    channel: Sender<StreamItem>,
    lost: SyncArc<AtomicU64>,
    /// By schema id: whether the request matches it. Filled on demand.
    matches_by_schema: Vec<Option<bool>>,
}

impl Subscriber {
    fn matches(&mut self, schema: &EventSchema) -> bool {
        let id = schema.id as usize;
        if self.matches_by_schema.len() <= id {
            self.matches_by_schema.resize(id + 1, None);
        }
        *self.matches_by_schema[id].get_or_insert_with(|| self.request.matches(schema))
    }

    #[inline]
    fn send(&self, item: StreamItem) {
        if let Err(channel::TrySendError::Full(item)) = self.channel.try_send(item) {
            self.replace_oldest(item);
        }
    }

    /// Replaces the oldest items of a full channel. The count is raised before the new item can be received, so a reader that receives
    /// an item after a gap also sees the gap.
    #[cold]
    fn replace_oldest(&self, mut item: StreamItem) {
        loop {
            let rows = match self.channel.pop_oldest() {
                Some(StreamItem::Batch(batch)) => u64::from(batch.rows),
                Some(StreamItem::Gap { lost, .. }) => lost.unwrap_or(0),
                None => 0,
            };
            self.lost.fetch_add(rows, Ordering::AcqRel);
            match self.channel.try_send(item) {
                Ok(()) | Err(channel::TrySendError::Closed(_)) => return,
                Err(channel::TrySendError::Full(back)) => item = back,
            }
        }
    }
}

pub(super) struct Subscribers {
    all: Vec<Subscriber>,
    interest: Interest,
    max: usize,
    /// Batches queued for one subscriber.
    max_batches: usize,
}

impl Subscribers {
    pub(super) fn new(max: usize, max_batches: usize) -> Self {
        Subscribers {
            all: Vec::new(),
            interest: Interest::default(),
            max,
            max_batches,
        }
    }

    pub(super) fn interest(&self) -> &Interest {
        &self.interest
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.all.len() >= self.max
    }

    /// Sends to every subscriber whose request matches the schema.
    pub(super) fn send(&mut self, schema: &EventSchema, item: impl Fn() -> StreamItem) {
        for subscriber in &mut self.all {
            if subscriber.matches(schema) {
                subscriber.send(item());
            }
        }
    }

    /// Adds a subscriber that gets the backlog first.
    pub(super) fn add(
        &mut self,
        request: StreamRequest,
        backlog: Vec<StreamItem>,
        position: u64,
        resumed: bool,
    ) -> Subscription {
        let (sender, items) = channel::channel(self.max_batches.max(backlog.len() + 1));
        let lost = SyncArc::new(AtomicU64::new(0));
        let subscriber = Subscriber {
            request,
            channel: sender,
            lost: lost.clone(),
            matches_by_schema: Vec::new(),
        };
        for item in backlog {
            subscriber.send(item);
        }
        self.all.push(subscriber);
        self.update_interest();
        Subscription {
            items,
            position,
            resumed,
            lost,
        }
    }

    /// Removes disconnected subscribers.
    pub(super) fn sweep(&mut self) {
        let before = self.all.len();
        self.all.retain(|s| !s.channel.is_closed());
        if self.all.len() != before {
            self.update_interest();
        }
    }

    fn update_interest(&mut self) {
        self.interest.generation += 1;
        for (kind, patterns) in [
            (EventKind::Event, &mut self.interest.events),
            (EventKind::Log, &mut self.interest.logs),
        ] {
            patterns.clear();
            for subscriber in self.all.iter().filter(|s| s.request.kind == kind) {
                patterns.extend(subscriber.request.patterns.iter().cloned());
            }
        }
    }
}
