//! Finds likely problems in received metrics: events that never occurred, unsuitable units and bounds, unbounded labels, name
//! conflicts, pages that violate their format.
//!
//! The admin API passes a snapshot of all series to [`Seen::note`] and calls [`findings`](Seen::findings). The checks read names,
//! labels and bucket counts only; the values that are recorded of each label are limited. A finding states its reason and what to do. A
//! *warning* is wrong now or will be soon; a *note* may be intended.

mod attachments;
mod drops;
mod families;
mod finding;
mod heuristics;
mod inputs;
mod page;
mod relays;
mod seen;
mod summary;
mod targets;
pub mod unsubscribed;

pub use families::hidden_because;
pub use finding::{Finding, Level};
pub use inputs::{Config, Drops, Inputs};
pub use seen::Seen;

#[cfg(test)]
mod tests;
