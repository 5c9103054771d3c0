//! Loads the relay into a running BEAM node over Erlang distribution, and takes it out again.
//!
//! Distribution carries control alone: load, start, look, leave. What the relay counts comes over the collector's local socket or its
//! TCP port, as from an installed one. The daemon calls [`attach`] and [`discover`]; each takes a [`connection::Connection`], which one task drives. Nothing
//! here takes memory by a length that a node announces, and a node that does not answer is given up after a named time.
//!
//! | to know | look in |
//! |---|---|
//! | what is done on a node, in which order | [`attach`], `beam-relay/src/dichroic_attach.erl` |
//! | where a node may be | [`address`] |
//! | who may read a cookie | [`cookie`] |
//! | whom we trust with TLS | [`tls`] |
//! | where the relay finds the collector | [`destination`] |
//! | which bytes go over the connection | [`handshake`], [`connection`], [`term`] |
//! | what is loaded | [`modules`], `scripts/build-beams.sh` |
#![forbid(unsafe_code)]

pub mod address;
pub mod attach;
pub mod connection;
pub mod cookie;
pub mod destination;
pub mod discover;
mod epmd;
mod error;
mod handshake;
pub mod modules;
pub mod term;
pub mod tls;

pub use error::Error;
