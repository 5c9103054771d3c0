//! Definitions per library: which events to count, in which units, under which names; and the code that resolves by them.
//!
//! A **pack** is a YAML file for one library, compiled into the binary. A **definition** is one metric in the vocabulary of
//! `Telemetry.Metrics`; packs hold them, and `metrics.definitions` of the configuration takes the same type. The receiver of
//! relays asks a [`Selection`] what to extract ([`Selection::compile`]); the store asks the [`PackResolver`] what a series means.
//! There is no I/O here and nothing that can fail after reading: what a file says is checked when it is read, and errors give the
//! line, the column and what to write instead.
//!
//! | to know | look in |
//! |---|---|
//! | how a value is found in an event | [`expression`] |
//! | what a metric definition may say | [`definition`] |
//! | what a pack file may say | [`pack`] |
//! | what a relay is asked to extract | [`compile`] |
//! | which metrics runtimes share | [`resolve`] |
#![forbid(unsafe_code)]

pub mod compile;
pub mod definition;
pub mod error;
pub mod expression;
mod limits;
pub mod pack;
mod print;
pub mod resolve;
mod schema;
mod shorthand;

pub use compile::{Aggregation, CarrySlot, Compiled, Metric, Selection, Stream, Variables};
pub use definition::{Buckets, Carry, Definition, DefinitionType, EventName, Unit};
pub use error::{DefinitionError, PathError};
pub use expression::{Comparison, Condition, Expression, Root, Scalar, Step, Transform};
pub use pack::{Pack, PackError, Packs, StreamDefinition};
pub use resolve::PackResolver;
