//! PLAN: the data that a relay extracts, and the relay's reply. The collector writes a [`Plan`] and reads a [`PlanReply`]; tools and
//! tests read a [`Plan`].
//!
//! A key that is `None`, an empty `keep` and `kind: event` are not written.

mod entries;
mod read;
mod reply;

pub use entries::{
    Aggregate, AggregateType, Carry, Condition, Expression, Operation, Plan, PlanLimits, Root, Step,
    StreamEntry, Transform,
};
pub use reply::{PlanReply, Refused};
