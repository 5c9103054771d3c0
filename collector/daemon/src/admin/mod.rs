//! The admin API: its documents, the HTTP server and client, and the addresses at which a collector can be reached.

pub mod api;
pub mod client;
pub mod endpoints;
pub mod http;
