//! Scrapes Prometheus targets and parses their exposition.
//!
//! | step | module |
//! |---|---|
//! | targets: `scrape_configs` as Prometheus has them | [`config`] |
//! | one HTTP request, bounded in time and bytes | [`fetch`] |
//! | schedule, and status of each target | [`scrape`] |
//! | a page into the store, as a whole or not at all | [`ingest`] |
//! | the two text formats | [`parse`] |
//!
//! The daemon creates a [`scrape::Scraper`] on the ingest thread and sets its targets; all work runs there, in one task per
//! target. Other threads read the [`scrape::TargetStatuses`].

#![forbid(unsafe_code)]

pub mod config;
pub mod fetch;
pub mod ingest;
pub mod parse;
mod protocol;
pub mod scrape;
mod serialize;
pub mod units;

pub use units::{parse_duration, parse_size};
