//! Requests and items of subscriptions.

use crate::exchange::channel::Receiver;
use crate::sync::{Arc as SyncArc, AtomicU64, Ordering};
use dichroic_model::{Batch, EventKind, EventSchema, GapReason, Pattern, Source, TimeRange, UnixNanos};
use std::sync::Arc;

/// An item of a subscription.
#[derive(Debug, Clone)]
pub enum StreamItem {
    /// Rows.
    Batch(Arc<Batch>),
    /// Rows that are missing before the next item.
    Gap {
        /// Schema of the rows; `None` if unknown.
        schema: Option<Arc<EventSchema>>,
        /// The source that lost them; `None` for the collector.
        source: Option<Arc<Source>>,
        /// The reason.
        reason: GapReason,
        /// The number of rows; `None` if unknown.
        lost: Option<u64>,
        /// Of [`GapReason::NotSubscribed`]: when the rows were not requested.
        time: Option<TimeRange>,
    },
}

/// The last position that a subscriber has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePoint {
    /// Position of its last frame, or of the next row if it received none.
    pub position: u64,
    /// Whether it received rows of that frame, and therefore the gaps before it.
    pub received: bool,
    /// Whether the position is the first of this collector, for a subscriber of an earlier one.
    pub restarted: bool,
}

/// A request for a subscription.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Events or logs.
    pub kind: EventKind,
    /// Name patterns; one must match.
    pub patterns: Vec<Pattern>,
    /// Start with the replayed rows received at or after this time of the [steady clock](dichroic_model::clock).
    pub replay_from: Option<UnixNanos>,
    /// Start with the replayed rows and gaps from this position on; takes precedence over `replay_from`.
    pub resume_from: Option<ResumePoint>,
}

impl StreamRequest {
    /// Whether the request covers the schema.
    pub fn matches(&self, schema: &EventSchema) -> bool {
        schema.kind == self.kind && self.patterns.iter().any(|p| p.matches(&schema.name))
    }
}

/// The subscriber's side of a subscription. Dropping it ends the subscription.
pub struct Subscription {
    /// Batches and gaps, in order.
    pub items: Receiver<StreamItem>,
    /// Position of the next row to be published.
    pub position: u64,
    /// Whether the replay contained everything from `resume_from` on.
    pub resumed: bool,
    pub(crate) lost: SyncArc<AtomicU64>,
}

impl Subscription {
    /// Rows lost in the channel since the last call, over all schemas of the request.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::AcqRel)
    }
}

/// The patterns of all subscribers, and of those that ended recently, for receivers that can start and stop the flow of
/// events.
#[derive(Debug, Clone, Default)]
pub struct Interest {
    /// Changes with every subscription, its end, and the end of its lease.
    pub generation: u64,
    /// Patterns of event subscriptions.
    pub events: Vec<Pattern>,
    /// Patterns of log subscriptions.
    pub logs: Vec<Pattern>,
}
