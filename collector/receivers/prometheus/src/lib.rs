//! Scrapes Prometheus targets and parses their exposition.
//!
//! | step | module |
//! |---|---|
//! | what to scrape, in Prometheus's own words | [`config`] |
//! | one HTTP request, bounded in time and bytes | [`fetch`] |
//! | when, and what became of it | [`scrape`] |
//! | a page into the store, whole or not at all | [`ingest`] |
//! | the two text formats | [`parse`] |
//!
//! The daemon makes a [`scrape::Scraper`] on the ingest thread and gives it targets; everything runs there, a task per
//! target. Other threads read the [`scrape::TargetStatuses`].

#![forbid(unsafe_code)]

pub mod config;
pub mod fetch;
pub mod ingest;
pub mod parse;
pub mod scrape;
mod serialize;
pub mod units;

pub use units::{parse_duration, parse_size};
