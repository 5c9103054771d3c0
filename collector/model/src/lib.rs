//! The data model of the collector: metrics, events, sources, units, series keys, names and limits.
//!
//! Every other crate uses these types. It has no I/O and no async code; only [`clock`] reads the
//! time.
//!
//! | topic | module |
//! |---|---|
//! | kinds of metrics | [`metric`] |
//! | series keys | [`series`] |
//! | sources, with their `job` and `instance` | [`source`] |
//! | names and labels on a Prometheus page | [`names`], [`labels`] |
//! | units, converted without losing integers | [`units`] |
//! | resolution of names by packs | [`resolve`] |
//! | raw events | [`event`] |
//! | the location of a value in an event | [`expression`] |
//! | limits | [`limits`] |
//! | escaping of text, bytes as text | [`text`] |

#![forbid(unsafe_code)]

pub mod attributes;
pub mod clock;
pub mod event;
pub mod expression;
pub mod fingerprint;
pub mod labels;
pub mod limits;
pub mod metric;
pub mod names;
pub mod pattern;
pub mod resolve;
pub mod series;
pub mod source;
pub mod text;
pub mod units;

pub use attributes::{AttributeValue, Attributes};
pub use event::{Batch, EventKind, EventSchema, GapReason, TimeRange};
pub use fingerprint::{Fingerprint, Fingerprinter, Seed};
pub use limits::Limits;
pub use metric::{Exemplar, MetricKind, Number, PageType, Temporality};
pub use pattern::Pattern;
pub use resolve::{Identity, KnownEvent, KnownNames, Query, Resolution, Resolver};
pub use series::{NameStyle, Scope, SeriesDef};
pub use source::{Expiry, Protocol, Runtime, Source, SourceId, SourceSpec};
pub use units::Factor;

/// Nanoseconds since the Unix epoch: the representation of time in the whole collector.
pub type UnixNanos = u64;

/// One second in the unit of [`UnixNanos`].
pub const SECOND: UnixNanos = 1_000_000_000;
