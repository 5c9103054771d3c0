//! The two ports from the sender's side: statuses, headers and bodies over HTTP/1.1, calls over gRPC, limits and shutdown.

#[path = "../common/mod.rs"]
mod common;
mod grpc;
mod harness;
mod http;
mod limits;
