//! Streams out: events, logs and metric points to subscribers, on the local socket and at `/v1/stream`.
//!
//! The daemon makes one [`Exporter`] on its export thread and hands it connections whose HELLO it has read, and HTTP requests
//! for the stream. The store is reached only through [`dichroic_pipeline::Handle`]. Every subscriber has a ring of its own,
//! bounded in rows and bytes: one that does not read loses its own rows, is told exactly how many, and slows nobody.
//!
//! | to know | look in |
//! |---|---|
//! | what a subscription may ask for | `request` |
//! | which rows a subscriber gets | `filter` |
//! | what is held for a slow subscriber, and what it loses | `ring` |
//! | how a connection lives and ends | `session` |
//! | how metrics become points | `points` |
//! | how rows look as JSON | [`json`] |
//! | `/v1/stream` | `http` |
#![forbid(unsafe_code)]

mod account;
mod config;
mod dictionary;
mod encode;
mod error;
mod events;
mod exporter;
mod filter;
mod http;
pub mod json;
mod outgoing;
mod points;
mod registry;
mod request;
mod ring;
mod series;
mod session;
mod source;

pub use config::Config;
pub use exporter::Exporter;
pub use http::Body;
pub use registry::{Format, SubscriberInfo};
