//! A configuration with the scrape targets of file and command line.

use super::Config;
use dichroic_receiver_prometheus::config::{ConfigError, ScrapeTarget};

/// A configuration for the ingest thread, with its scrape targets.
#[derive(Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Targets of the file and of `--scrape`.
    pub targets: Vec<ScrapeTarget>,
}

/// The targets of the configuration and of `--scrape`.
pub fn targets(config: &Config, scrape: &[ScrapeTarget]) -> Result<Vec<ScrapeTarget>, ConfigError> {
    let mut targets = Vec::new();
    for job in &config.receivers.prometheus.scrape_configs {
        targets.extend(job.targets()?);
    }
    targets.extend_from_slice(scrape);
    Ok(targets)
}
