//! Receives relays of BEAM nodes: greets them, tells them what to extract, and puts their totals into the store.
//!
//! The daemon's listener reads HELLO, sees that it is a relay's, and hands the connection to [`Receiver::serve_relay`]. Everything runs
//! on the ingest thread: between a frame and the cells nothing awaits. Promises: a total is stored, never added, so a resend is
//! harmless; whatever a relay does wrong ends its own connection with words and nobody else's; every row is in the ledger as
//! applied or dropped with a reason.
//!
//! | to know | look in |
//! |---|---|
//! | what a relay is asked for | [`plan`] |
//! | one connection, from HELLO to GOODBYE | `session` |
//! | which relay is which, and who supersedes whom | `nodes` |
//! | `job`, `instance`, resource | `identity` |
//! | what a frame does | [`relay`] |
//! | log records | `logs` |
//! | metrics that no plan has | `own` |
//! | rows → cells | [`series`] |
//! | the relay's own account, and gaps | `account` |
#![forbid(unsafe_code)]

mod account;
mod app_metrics;
mod config;
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
