//! Raw events and logs on their way to subscribers: a bounded replay, and a bounded lane per subscriber.
//!
//! The ingest thread publishes a batch once; every subscriber whose patterns want the schema gets the same `Arc`. A subscriber
//! that does not take its batches loses the oldest and finds out how many rows; it slows nobody. What is wanted is told back to
//! receivers ([`Interest`]), so that a relay sends raw events only while someone listens.

use crate::exchange::channel::{self, Receiver, Sender};
use crate::sync::{Arc as SyncArc, AtomicU64, Ordering};
use dichroic_model::{Batch, EventKind, EventSchema, GapReason, Pattern, SECOND, Source, UnixNanos};
use std::collections::VecDeque;
use std::sync::Arc;

/// What travels in a lane.
#[derive(Debug, Clone)]
pub enum StreamItem {
    /// Rows.
    Batch(Arc<Batch>),
    /// Rows that are missing before what follows.
    Gap {
        /// Whose rows; `None` when not known.
        schema: Option<Arc<EventSchema>>,
        /// Who lost them; `None` when it was the collector.
        source: Option<Arc<Source>>,
        /// Why.
        reason: GapReason,
        /// How many; `None` when not known.
        lost: Option<u64>,
    },
}

/// What a subscriber asks for.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Events or logs.
    pub kind: EventKind,
    /// Names, any of which may match.
    pub patterns: Vec<Pattern>,
    /// Rows received at or after this time come first, as far as the replay holds them.
    pub replay_from: Option<UnixNanos>,
    /// Rows from this position on come first (resume); wins over `replay_from`.
    pub resume_from: Option<u64>,
}

impl StreamRequest {
    /// Whether the schema is asked for.
    pub fn matches(&self, schema: &EventSchema) -> bool {
        schema.kind == self.kind && self.patterns.iter().any(|p| p.matches(&schema.name))
    }
}

/// A subscriber's end. Dropping it ends the subscription.
pub struct Subscription {
    /// Batches and gaps, in order.
    pub items: Receiver<StreamItem>,
    /// Position that the next published row will have.
    pub position: u64,
    /// Whether everything asked for by `resume_from` was still held.
    pub resumed: bool,
    lost: SyncArc<AtomicU64>,
}

impl Subscription {
    /// Rows lost in the lane since the last call, all schemas wanted taken together.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::AcqRel)
    }
}

struct Subscriber {
    wanted: StreamRequest,
    lane: Sender<StreamItem>,
    lost: SyncArc<AtomicU64>,
    /// By schema id: whether it is wanted. Filled as schemas come.
    decided: Vec<Option<bool>>,
}

impl Subscriber {
    fn wants(&mut self, schema: &EventSchema) -> bool {
        let id = schema.id as usize;
        if self.decided.len() <= id {
            self.decided.resize(id + 1, None);
        }
        *self.decided[id].get_or_insert_with(|| self.wanted.matches(schema))
    }

    /// The count is raised before the newcomer can be received, so a reader that saw the gap's far side also sees the gap.
    fn send(&self, item: StreamItem) {
        let mut item = item;
        loop {
            match self.lane.try_send(item) {
                Ok(()) | Err(channel::TrySend::Closed(_)) => return,
                Err(channel::TrySend::Full(back)) => {
                    item = back;
                    let rows = match self.lane.pop_oldest() {
                        Some(StreamItem::Batch(batch)) => u64::from(batch.rows),
                        Some(StreamItem::Gap { lost, .. }) => lost.unwrap_or(0),
                        None => 0,
                    };
                    self.lost.fetch_add(rows, Ordering::AcqRel);
                }
            }
        }
    }
}

/// What is asked for at present, for receivers that can turn the flow on and off.
#[derive(Debug, Clone, Default)]
pub struct Interest {
    /// Changes with every subscription and its end.
    pub generation: u64,
    /// Patterns of all event subscriptions.
    pub events: Vec<Pattern>,
    /// Patterns of all log subscriptions.
    pub logs: Vec<Pattern>,
}

/// One signal's replay.
#[derive(Default)]
struct Replay {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    /// Position of the next row.
    next: u64,
}

impl Replay {
    fn push(&mut self, batch: Arc<Batch>, max_bytes: usize, oldest: UnixNanos) {
        self.bytes += batch.size();
        self.batches.push_back(batch);
        while self.bytes > max_bytes || self.batches.front().is_some_and(|b| b.received < oldest) {
            let Some(gone) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= gone.size();
        }
    }
}

/// The stream side of the store.
pub(crate) struct Streams {
    replays: [Replay; 2],
    subscribers: Vec<Subscriber>,
    interest: Interest,
    max_bytes: usize,
    max_age: UnixNanos,
    max_subscribers: usize,
    lane_batches: usize,
}

fn place(kind: EventKind) -> usize {
    match kind {
        EventKind::Event => 0,
        EventKind::Log => 1,
    }
}

impl Streams {
    pub(crate) fn new(limits: &dichroic_model::Limits) -> Self {
        Streams {
            replays: Default::default(),
            subscribers: Vec::new(),
            interest: Interest::default(),
            max_bytes: limits.replay_bytes,
            max_age: limits.replay_seconds * SECOND,
            max_subscribers: limits.subscribers,
            lane_batches: limits.subscriber_batches,
        }
    }

    pub(crate) fn interest(&mut self) -> &Interest {
        self.sweep();
        &self.interest
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// Where the next row of a kind goes.
    pub(crate) fn next_position(&self, kind: EventKind) -> u64 {
        self.replays[place(kind)].next
    }

    pub(crate) fn publish(&mut self, batch: Batch, now: UnixNanos) {
        let replay = &mut self.replays[place(batch.schema.kind)];
        replay.next = batch.position + u64::from(batch.rows);
        let batch = Arc::new(batch);
        replay.push(batch.clone(), self.max_bytes, now.saturating_sub(self.max_age));
        for subscriber in &mut self.subscribers {
            if subscriber.wants(&batch.schema) {
                subscriber.send(StreamItem::Batch(batch.clone()));
            }
        }
    }

    pub(crate) fn publish_gap(
        &mut self,
        schema: &Arc<EventSchema>,
        source: &Arc<Source>,
        reason: GapReason,
        lost: Option<u64>,
    ) {
        for subscriber in &mut self.subscribers {
            if subscriber.wants(schema) {
                let (schema, source) = (Some(schema.clone()), Some(source.clone()));
                subscriber.send(StreamItem::Gap {
                    schema,
                    source,
                    reason,
                    lost,
                });
            }
        }
    }

    pub(crate) fn subscribe(&mut self, wanted: StreamRequest) -> Option<Subscription> {
        self.sweep();
        if self.subscribers.len() >= self.max_subscribers {
            return None;
        }
        let replay = &self.replays[place(wanted.kind)];
        let from = |batch: &&Arc<Batch>| match (wanted.resume_from, wanted.replay_from) {
            (Some(position), _) => batch.position + u64::from(batch.rows) > position,
            (None, Some(time)) => batch.received >= time,
            (None, None) => false,
        };
        let backlog: Vec<_> = replay
            .batches
            .iter()
            .filter(from)
            .filter(|b| wanted.matches(&b.schema))
            .cloned()
            .collect();
        let oldest = replay.batches.front().map_or(replay.next, |b| b.position);
        let resumed = wanted
            .resume_from
            .is_none_or(|position| position >= oldest && position <= replay.next);
        let (sender, items) = channel::channel(self.lane_batches.max(backlog.len() + 1));
        let lost = SyncArc::new(AtomicU64::new(0));
        let position = replay.next;
        let subscriber = Subscriber {
            wanted,
            lane: sender,
            lost: lost.clone(),
            decided: Vec::new(),
        };
        for batch in backlog {
            subscriber.send(StreamItem::Batch(batch));
        }
        self.subscribers.push(subscriber);
        self.note_interest();
        Some(Subscription {
            items,
            position,
            resumed,
            lost,
        })
    }

    /// Forgets subscribers that have gone.
    pub(crate) fn sweep(&mut self) {
        let before = self.subscribers.len();
        self.subscribers.retain(|s| !s.lane.is_closed());
        if self.subscribers.len() != before {
            self.note_interest();
        }
    }

    fn note_interest(&mut self) {
        self.interest.generation += 1;
        for (kind, patterns) in [
            (EventKind::Event, &mut self.interest.events),
            (EventKind::Log, &mut self.interest.logs),
        ] {
            patterns.clear();
            for subscriber in self.subscribers.iter().filter(|s| s.wanted.kind == kind) {
                patterns.extend(subscriber.wanted.patterns.iter().cloned());
            }
        }
    }
}
