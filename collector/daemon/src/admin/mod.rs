//! The admin API.

pub mod api;
