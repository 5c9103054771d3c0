//! Streams events, logs and metric points to subscribers, on the local socket and at `/v1/stream`.
//!
//! The daemon creates one [`Exporter`] on its main thread and passes it connections after their handshake, and HTTP requests
//! for the stream. The store is reached only through [`dichroic_pipeline::Handle`]. Every subscriber has its own
//! ring, bounded in rows and bytes: a slow subscriber loses only its own rows, gets their exact number, and does not slow others.
//!
//! | topic | module |
//! |---|---|
//! | subscription parameters | [`request`] |
//! | selection of rows | `filter` |
//! | answers to typos | `known` |
//! | queue and losses of a slow subscriber | `ring` |
//! | memory of subscribers | `memory` |
//! | life cycle of a connection | `session` |
//! | metrics as points | `points` |
//! | series that metric subscriptions share | `series_table` |
//! | JSON format | [`json`] |
//! | `/v1/stream` | [`query`], `http` |
#![forbid(unsafe_code)]

mod account;
mod client;
mod client_series;
mod config;
mod dictionary;
mod encode;
mod error;
mod events;
mod exporter;
mod filter;
mod http;
pub mod json;
mod known;
mod memory;
mod outgoing;
mod points;
pub mod query;
mod registry;
pub mod request;
mod ring;
mod rows;
mod series;
mod series_table;
mod session;
mod share;
mod source;

pub use config::Config;
pub use exporter::Exporter;
pub use http::Body;
pub use known::near_names;
pub use registry::{Format, SubscriberInfo};
