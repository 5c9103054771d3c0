//! Receives OTLP metrics and logs over gRPC and HTTP.
//!
//! The daemon calls [`bind`] and then [`serve`] on its ingest thread. Requests are collected whole, within a budget of bytes, and
//! passed to [`Ingest`], which writes into the store synchronously. Traces are not supported: spans are counted, dropped and
//! reported as rejected in a partial success.
//!
//! | topic | module |
//! |---|---|
//! | from a point to its series | [`ingest`] |
//! | reading protobuf in place | [`protobuf`] |
//! | converting JSON to protobuf | [`json`] |
//! | HTTP and gRPC responses | [`server`] |
//! | every limit | [`config`] |
#![forbid(unsafe_code)]

pub mod config;
pub mod ingest;
pub mod json;
pub mod protobuf;
pub mod server;
mod service;

pub use config::{Config, Limits, SourceRules};
pub use ingest::{Checked, Ingest, MalformedRequest, RequestOutcome};
pub use server::{BindError, Bound, Counters, bind, serve};
pub use service::Service;
