//! What a subscriber requests and receives.

use crate::exchange::channel::Receiver;
use crate::sync::{Arc as SyncArc, AtomicU64, Ordering};
use dichroic_model::{Batch, EventKind, EventSchema, GapReason, Pattern, Source, UnixNanos};
use std::sync::Arc;

/// An item of a subscription.
#[derive(Debug, Clone)]
pub enum StreamItem {
    /// Rows.
    Batch(Arc<Batch>),
    /// Rows that are missing before the next item.
    Gap {
        /// Schema of the rows; `None` when unknown.
        schema: Option<Arc<EventSchema>>,
        /// The source that lost them; `None` when it was the collector.
        source: Option<Arc<Source>>,
        /// Why.
        reason: GapReason,
        /// How many; `None` when unknown.
        lost: Option<u64>,
    },
}

/// The end of what a subscriber has received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePoint {
    /// Position of its last frame, or of the next row if it received none.
    pub position: u64,
    /// Whether it received rows of that frame, and so the gaps ahead of it.
    pub received: bool,
}

/// What a subscriber requests.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Events or logs.
    pub kind: EventKind,
    /// Names, any of which may match.
    pub patterns: Vec<Pattern>,
    /// Rows received at or after this time come first, as far as the replay holds them.
    pub replay_from: Option<UnixNanos>,
    /// Rows from this position on, and the gaps between them, come first (resume); overrides `replay_from`.
    pub resume_from: Option<ResumePoint>,
}

impl StreamRequest {
    /// Whether the request covers the schema.
    pub fn matches(&self, schema: &EventSchema) -> bool {
        schema.kind == self.kind && self.patterns.iter().any(|p| p.matches(&schema.name))
    }
}

/// A subscriber's end. Dropping it ends the subscription.
pub struct Subscription {
    /// Batches and gaps, in order.
    pub items: Receiver<StreamItem>,
    /// Position of the next row to be published.
    pub position: u64,
    /// Whether everything from `resume_from` on was still held.
    pub resumed: bool,
    pub(crate) lost: SyncArc<AtomicU64>,
}

impl Subscription {
    /// Rows lost in the channel since the last call, over all schemas of the request.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::AcqRel)
    }
}

/// The patterns of all subscribers, for receivers that can turn the flow on and off.
#[derive(Debug, Clone, Default)]
pub struct Interest {
    /// Changes with every subscription and its end.
    pub generation: u64,
    /// Patterns of all event subscriptions.
    pub events: Vec<Pattern>,
    /// Patterns of all log subscriptions.
    pub logs: Vec<Pattern>,
}
