//! Receives OTLP metrics and logs over gRPC and HTTP.
//!
//! The daemon calls [`bind`] and then [`serve`] on its ingest thread. Requests are collected whole, within a budget of bytes, and
//! handed to [`Ingest`], which writes into the store synchronously. Traces are counted and answered with a partial success: they are
//! not kept yet.
//!
//! | to know | look in |
//! |---|---|
//! | how a point finds its series | [`ingest`] |
//! | how protobuf is read in place | [`protobuf`] |
//! | how JSON is read | [`json`] |
//! | what HTTP and gRPC answer | [`server`] |
//! | every limit, by name | [`config`] |
#![forbid(unsafe_code)]

pub mod config;
pub mod ingest;
pub mod json;
pub mod protobuf;
pub mod server;
mod service;

pub use config::{Config, Limits};
pub use ingest::{Checked, Ingest, MalformedRequest, RequestOutcome};
pub use server::{BindError, Bound, Counters, Verdict, bind, serve};
pub use service::Service;
