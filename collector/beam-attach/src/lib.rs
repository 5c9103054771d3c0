//! Loads the relay into a running BEAM node over Erlang distribution, and removes it again.
//!
//! Distribution carries control only: load, start, status, detach. Telemetry of the relay arrives over the collector's local socket or
//! its TCP port, as from an installed relay. The daemon calls [`attach`] and [`discover`]; each takes a [`connection::Connection`], which
//! one task drives. No memory is allocated by a length that a node announces, and every wait has a named time limit.
//!
//! | topic | module |
//! |---|---|
//! | the steps on a node, in order | [`attach`], `beam-relay/src/dichroic_attach.erl` |
//! | addresses of nodes | [`address`] |
//! | sources of the cookie | [`cookie`] |
//! | files by names from the configuration | [`file`] |
//! | TLS trust and identity | [`tls`] |
//! | the relay's connection to the collector | [`destination`] |
//! | bytes on the connection | [`handshake`], [`connection`], [`term`] |
//! | the loaded modules | [`modules`], `scripts/build-beams.sh` |
#![forbid(unsafe_code)]

pub mod address;
pub mod attach;
pub mod connection;
pub mod cookie;
pub mod destination;
pub mod discover;
mod epmd;
mod error;
pub mod file;
pub mod handshake;
pub mod modules;
pub mod term;
pub mod tls;

pub use error::Error;
