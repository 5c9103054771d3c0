//! Scrapes Prometheus targets and parses their exposition.

#![forbid(unsafe_code)]

pub mod parse;
