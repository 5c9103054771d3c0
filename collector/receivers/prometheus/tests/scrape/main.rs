//! The scraper against real servers on loopback.

#[path = "../common/mod.rs"]
mod common;
mod failures;
mod harness;
mod targets;
