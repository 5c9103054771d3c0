//! Plans, series and connections of relays over their lifetime.

#[path = "../common/mod.rs"]
mod common;
mod connections;
mod plans;
mod series;
