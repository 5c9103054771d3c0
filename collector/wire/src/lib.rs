//! The wire format between relays, collector and subscribers: a sans-I/O codec for `SPEC.md`, version 1.1.
//!
//! Receivers and the stream exporter push received bytes into a [`FrameReader`], take [`RawFrame`]s from it and decode each body by its
//! [`FrameType`]; they encode into a `Vec<u8>` with the same types. Guarantees: no I/O, no
//! panic and no unbounded memory on any input; every accepted frame re-encodes byte for byte; [`Numbers`],
//! [`Histograms`], [`Events`] and [`Mixed`] are read in place, without allocating.
//!
//! Not part of this crate, because they need the state of a connection: timeouts, the check whether a series or schema is defined (see
//! [`Dictionary`]), tokens, and the guarantee of section 3 of the specification.
#![forbid(unsafe_code)]

pub mod control;
pub mod define;
pub mod error;
pub mod events;
pub mod events_builder;
pub mod frame;
pub mod frame_type;
pub mod goodbye_code;
pub mod hello;
pub mod histograms;
mod input;
mod interner;
pub mod limits;
mod map;
pub mod map_kind;
pub mod mixed;
pub mod mixed_builder;
pub mod numbers;
pub mod plan;
pub mod stream_kind;
pub mod subscribe;
mod tables;
pub mod text;
pub mod value;
pub mod variables;

pub use control::{Gap, GapReason, Goodbye, Ping, Pong};
pub use define::{Define, DefineKind, DefineWriter, Dictionary};
pub use error::{Error, ErrorKind, Fault, Result};
pub use events::{Events, EventsHeader, EventsScratch};
pub use events_builder::{EventsBuilder, Pushed};
pub use frame::{FrameReader, Header, RawFrame};
pub use frame_type::FrameType;
pub use goodbye_code::GoodbyeCode;
pub use hello::{CollectorHello, Hello, RelayHello, Role, Subscribe, SubscriberHello};
pub use histograms::{Bucket, HistogramRow, Histograms, HistogramsWriter, Side};
pub use map_kind::MapKind;
pub use mixed::{Mixed, MixedScratch};
pub use mixed_builder::MixedBuilder;
pub use numbers::{NumberRow, Numbers, NumbersWriter};
pub use plan::{
    Aggregate, AggregateType, Carry, Condition, Expression, Operation, Plan, PlanLimits, PlanReply, Root,
    Step, StreamEntry, Transform,
};
pub use stream_kind::StreamKind;
pub use value::{Cell, ListRef, Map, MapRef, Value};
pub use variables::Variables;
