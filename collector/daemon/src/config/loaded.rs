//! A configuration together with what follows from it and from the command line.

use super::Config;
use dichroic_receiver_prometheus::config::ScrapeTarget;

/// A configuration on its way to the ingest thread, with the targets it comes to.
#[derive(Clone)]
pub struct Loaded {
    pub config: Config,
    pub targets: Vec<ScrapeTarget>,
}

/// The targets of the configuration and of the command line.
pub fn targets(config: &Config, urls: &[String]) -> Result<Vec<ScrapeTarget>, String> {
    let mut targets = Vec::new();
    for job in &config.receivers.prometheus.scrape_configs {
        targets.extend(job.targets().map_err(|e| e.to_string())?);
    }
    for url in urls {
        targets.push(ScrapeTarget::from_url(url).map_err(|e| e.to_string())?);
    }
    Ok(targets)
}
