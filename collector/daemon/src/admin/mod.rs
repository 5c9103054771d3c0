//! HTTP: the Prometheus page, health, the admin API and its client, and the addresses of a running collector.

pub mod api;
pub mod client;
pub mod connection;
pub mod endpoints;
pub mod forbidden;
pub mod http;
pub mod pages;
pub mod responses;
pub mod server;
