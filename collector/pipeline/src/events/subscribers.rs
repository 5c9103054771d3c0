//! The subscribers, each with a bounded channel.
//!
//! A batch is published once; every subscriber whose patterns match the schema gets the same `Arc`. A slow subscriber loses the oldest
//! batches and gets the number of lost rows; it does not slow others.
//!
//! The patterns of an ended subscription stay in the interest for the time of a lease: rows continue into the replay, so that a
//! subscription that resumes in time has lost nothing.

use super::claim::{Claim, Claims};
use super::demand::Demand;
use super::gap::Gap;
use super::request::{Interest, StreamItem, StreamRequest, Subscription};
use crate::exchange::channel::{self, Sender};
use crate::sync::{Arc as SyncArc, AtomicU64, Ordering};
use dichroic_model::{EventKind, EventSchema, Limits, Pattern, SECOND, SourceId, UnixNanos};
use std::collections::VecDeque;

/// Bytes of batches queued for one subscriber, beside its backlog. They are shared with the other subscribers and the replay.
const QUEUE_BYTES: usize = 8 << 20;

struct Subscriber {
    request: StreamRequest,
    channel: Sender<StreamItem>,
    /// Sizes of the newest items sent, at least of those that are queued.
    sizes: VecDeque<usize>,
    /// Their sum.
    bytes: usize,
    max_bytes: usize,
    lost: SyncArc<AtomicU64>,
    /// By schema id: whether the request matches it. Filled on demand.
    matches_by_schema: Vec<Option<bool>>,
    claims: Claims,
    /// Generation of the interest since when it has the patterns of this subscription.
    generation: u64,
}

/// The start of a subscription.
pub(super) struct Start {
    pub backlog: Vec<StreamItem>,
    pub claims: Claims,
    pub position: u64,
    pub resumed: bool,
}

impl Subscriber {
    #[inline]
    fn matches(&mut self, schema: &EventSchema) -> bool {
        let id = schema.id as usize;
        if self.matches_by_schema.len() <= id {
            self.matches_by_schema.resize(id + 1, None);
        }
        *self.matches_by_schema[id].get_or_insert_with(|| self.request.matches(schema))
    }

    #[inline]
    fn send(&mut self, item: StreamItem) {
        let size = item_bytes(&item);
        self.forget_received();
        self.sizes.push_back(size);
        self.bytes += size;
        if self.bytes > self.max_bytes {
            self.drop_beyond_bytes();
        }
        if let Err(channel::TrySendError::Full(item)) = self.channel.try_send(item) {
            self.replace_oldest(item);
        }
    }

    /// Forgets the sizes of items that were received.
    #[inline]
    fn forget_received(&mut self) {
        for _ in self.channel.len()..self.sizes.len() {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }

    /// Drops the oldest items until the queue has room for the newest size. One item may exceed it.
    #[cold]
    fn drop_beyond_bytes(&mut self) {
        while self.bytes > self.max_bytes && self.sizes.len() > 1 {
            self.drop_oldest();
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }

    /// Drops the oldest item and counts its rows as lost, if the reader was not faster.
    fn drop_oldest(&self) {
        let rows = match self.channel.pop_oldest() {
            Some(StreamItem::Batch(batch)) => u64::from(batch.rows),
            Some(StreamItem::Gap { lost, .. }) => lost.unwrap_or(0),
            None => 0,
        };
        self.lost.fetch_add(rows, Ordering::AcqRel);
    }

    /// Replaces the oldest items of a full channel. The count is raised before the new item can be received, so a reader that receives
    /// an item after a gap also sees the gap.
    #[cold]
    fn replace_oldest(&self, mut item: StreamItem) {
        loop {
            self.drop_oldest();
            match self.channel.try_send(item) {
                Ok(()) | Err(channel::TrySendError::Closed(_)) => return,
                Err(channel::TrySendError::Full(back)) => item = back,
            }
        }
    }
}

fn item_bytes(item: &StreamItem) -> usize {
    match item {
        StreamItem::Batch(batch) => batch.size(),
        StreamItem::Gap { .. } => 0,
    }
}

/// The patterns of an ended subscription.
struct Lease {
    kind: EventKind,
    patterns: Vec<Pattern>,
    until: UnixNanos,
}

pub(super) struct Subscribers {
    all: Vec<Subscriber>,
    /// At most as many as subscribers, oldest first.
    leases: VecDeque<Lease>,
    lease: UnixNanos,
    interest: Interest,
    max: usize,
    /// Batches queued for one subscriber.
    max_batches: usize,
}

impl Subscribers {
    pub(super) fn new(limits: &Limits) -> Self {
        Subscribers {
            all: Vec::new(),
            leases: VecDeque::new(),
            lease: limits.lease_seconds * SECOND,
            interest: Interest::default(),
            max: limits.subscribers,
            max_batches: limits.subscriber_batches,
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
    #[inline]
    pub(super) fn send(&mut self, schema: &EventSchema, item: impl Fn() -> StreamItem) {
        for subscriber in &mut self.all {
            if subscriber.matches(schema) {
                subscriber.send(item());
            }
        }
    }

    /// Sends the claimed part of a gap, of schemas that have one kind.
    pub(super) fn send_gap(&mut self, gap: &Gap, claimed: impl Fn(Claim) -> bool) {
        for subscriber in self.all.iter_mut().filter(|s| claimed(s.claims.claim)) {
            let item = |gap: Gap| gap.item(&subscriber.request);
            if let Some(item) = subscriber.claims.part_of(gap).and_then(item) {
                subscriber.send(item);
            }
        }
    }

    /// A node sends what it can of the interest of this generation. What it does not send is missing until now for those that look
    /// back.
    pub(super) fn answered(&mut self, demand: &Demand, source: SourceId, generation: u64, now: UnixNanos) {
        for subscriber in self.all.iter_mut().filter(|s| s.generation <= generation) {
            let awaited = subscriber.claims.awaited.len();
            subscriber.claims.awaited.retain(|id| *id != source);
            if subscriber.claims.awaited.len() == awaited || matches!(subscriber.claims.claim, Claim::Live(_))
            {
                continue;
            }
            let missing = demand.missing(source, &subscriber.request, now);
            let claimed = missing.iter().filter_map(|gap| subscriber.claims.part_of(gap));
            let items: Vec<_> = claimed.filter_map(|gap| gap.item(&subscriber.request)).collect();
            if !items.is_empty() {
                subscriber.claims.report(source, now);
            }
            items.into_iter().for_each(|item| subscriber.send(item));
        }
    }

    /// A node has left.
    pub(super) fn left(&mut self, source: SourceId) {
        for subscriber in &mut self.all {
            subscriber.claims.awaited.retain(|id| *id != source);
        }
    }

    /// Adds a subscriber that gets the backlog first.
    pub(super) fn add(&mut self, request: StreamRequest, start: Start) -> Subscription {
        let Start {
            backlog,
            claims,
            position,
            resumed,
        } = start;
        let (sender, items) = channel::channel(self.max_batches.max(backlog.len() + 1));
        let lost = SyncArc::new(AtomicU64::new(0));
        let mut subscriber = Subscriber {
            request,
            channel: sender,
            sizes: VecDeque::new(),
            bytes: 0,
            max_bytes: QUEUE_BYTES + backlog.iter().map(item_bytes).sum::<usize>(),
            lost: lost.clone(),
            matches_by_schema: Vec::new(),
            claims,
            generation: self.interest.generation + 1,
        };
        for item in backlog {
            subscriber.send(item);
        }
        // A subscriber that returns takes its lease over.
        let request = &subscriber.request;
        self.leases
            .retain(|lease| (lease.kind, &lease.patterns) != (request.kind, &request.patterns));
        self.all.push(subscriber);
        self.update_interest();
        Subscription {
            items,
            position,
            resumed,
            lost,
        }
    }

    /// Removes disconnected subscribers, whose patterns stay leased, and ended leases.
    pub(super) fn sweep(&mut self, now: UnixNanos) {
        let gone: Vec<_> = self.all.extract_if(.., |s| s.channel.is_closed()).collect();
        let leases = self.leases.len();
        // A lease that ends later than a new one dates from before the clock was set back.
        self.leases
            .retain(|lease| lease.until > now && lease.until <= now + self.lease);
        if gone.is_empty() && leases == self.leases.len() {
            return;
        }
        for subscriber in gone.into_iter().filter(|_| self.lease > 0) {
            if self.leases.len() >= self.max {
                self.leases.pop_front();
            }
            let StreamRequest { kind, patterns, .. } = subscriber.request;
            let until = now + self.lease;
            self.leases.push_back(Lease {
                kind,
                patterns,
                until,
            });
        }
        self.update_interest();
    }

    fn update_interest(&mut self) {
        self.interest.generation += 1;
        for (kind, patterns) in [
            (EventKind::Event, &mut self.interest.events),
            (EventKind::Log, &mut self.interest.logs),
        ] {
            patterns.clear();
            let subscribed = self.all.iter().map(|s| (s.request.kind, &s.request.patterns));
            let leased = self.leases.iter().map(|lease| (lease.kind, &lease.patterns));
            for (_, requested) in subscribed.chain(leased).filter(|(of, _)| *of == kind) {
                patterns.extend(requested.iter().cloned());
            }
        }
    }
}
