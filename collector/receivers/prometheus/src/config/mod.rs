//! Scrape targets: Prometheus's `scrape_configs` for static targets, and `--scrape URL` of the command line. The daemon reads
//! [`ScrapeConfig`]s from its file and gets the [`ScrapeTarget`]s of each; errors name the key.
//!
//! Source: Prometheus documentation, "Configuration", section `<scrape_config>`.

mod address;
mod check;
mod error;
mod file;
mod query;
mod target;

pub use crate::protocol::ScrapeProtocol;
pub use error::ConfigError;
pub use file::{Scheme, ScrapeConfig, StaticConfig};
pub use query::{Params, PathQuery};
pub use target::{BODY_BYTES, ScrapeTarget, URL_INTERVAL, URL_JOB};

#[cfg(test)]
mod tests;
