//! Receiver of relays in BEAM nodes: handshake, plans, and totals into the store.
//!
//! The daemon's listener reads HELLO and passes the connection of a relay to [`Receiver::serve_relay`]. Everything runs on the ingest
//! thread; between a frame and the cells nothing awaits. Guarantees: a total is stored, never added, so resending is harmless; a
//! violation by a relay ends only its own connection, with GOODBYE; every row is in the ledger as applied or dropped with a reason.
//!
//! | topic | module |
//! |---|---|
//! | the entries of a plan | [`plan`], `stream_spec` |
//! | the plan that relays have built in | [`early`] |
//! | one connection, from HELLO to GOODBYE | `session` |
//! | nodes, and which connection supersedes which | `registry` |
//! | `job`, `instance`, resource | `identity` |
//! | the effect of a frame | [`relay`] |
//! | log records | `logs` |
//! | app metrics | `app_metrics` |
//! | rows → cells | [`series`] |
//! | the relay's account of itself, and gaps | `account` |
#![forbid(unsafe_code)]

mod account;
mod app_metrics;
mod config;
pub mod early;
mod events;
mod identity;
mod logs;
pub mod plan;
mod receiver;
mod registry;
pub mod relay;
pub mod series;
mod session;
mod status;
mod stream_spec;

pub use config::{Config, Logs};
pub use receiver::Receiver;
pub use status::{RelayStatus, StatusBoard};
