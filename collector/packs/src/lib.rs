//! Metric definitions per library: the events to count, their units, names and labels; and the resolver of series.
//!
//! A **pack** is a YAML file for one library, compiled into the binary. A **definition** is one metric in the vocabulary of
//! `Telemetry.Metrics`; packs contain definitions, and `metrics.definitions` of the configuration has the same type. The receiver of
//! relays compiles a [`Selection`] into plans ([`Selection::compile`]); the store resolves series with the [`PackResolver`].
//! There is no I/O here, and nothing can fail after reading: files are validated when they are read, and errors state the line, the
//! column and what to write instead.
//!
//! | topic | module |
//! |---|---|
//! | paths to values of events, and conditions | [`expression`] |
//! | metric definitions | [`definition`] |
//! | pack files | [`pack`] |
//! | packs and definitions → metrics and streams of a plan | [`compile`] |
//! | metrics that runtimes share | [`resolve`] |
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
