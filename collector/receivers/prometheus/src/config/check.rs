//! Checks a scrape configuration and resolves its targets.

use super::address::is_path;
use super::error::{ConfigError, wrong};
use super::file::ScrapeConfig;
use super::target::ScrapeTarget;
use dichroic_model::names::label_name;
use dichroic_model::text::redact_url;
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl ScrapeConfig {
    /// The targets of this entry.
    ///
    /// # Errors
    /// [`ConfigError`] names the key of the first invalid value.
    pub fn targets(&self) -> Result<Vec<ScrapeTarget>, ConfigError> {
        let timeout = self.check_times()?;
        if self.job_name.is_empty() {
            return Err(wrong("job_name", "empty name", "set a name for the job"));
        }
        if !is_path(self.metrics_path.as_str()) {
            return Err(wrong(
                "metrics_path",
                format!("invalid path {:?}", redact_url(self.metrics_path.as_str())),
                "start it with `/` and write other characters than letters, digits and `-._~/?=&` as %XX, such as /metrics",
            ));
        }
        let protocols = &self.scrape_protocols;
        if protocols.is_empty() {
            return Err(wrong(
                "scrape_protocols",
                "empty list",
                "remove the key, or list a protocol such as PrometheusText0.0.4",
            ));
        }
        if (1..protocols.len()).any(|at| protocols[..at].contains(&protocols[at])) {
            return Err(wrong(
                "scrape_protocols",
                "duplicate protocol",
                "list each protocol once",
            ));
        }
        let mut targets = Vec::new();
        for group in &self.static_configs {
            if let Some(name) = group.labels.keys().find(|name| label_name(name) != name.as_str()) {
                return Err(wrong(
                    "labels",
                    format!("invalid label name {name:?}"),
                    "use letters, digits and `_` only, and begin with a letter or `_`",
                ));
            }
            let special = |name: &&String| {
                let keys = ["__address__", "__scheme__", "__metrics_path__"];
                keys.contains(&name.as_str()) || name.starts_with("__param_")
            };
            if let Some(name) = group.labels.keys().find(special) {
                return Err(wrong(
                    "labels",
                    format!("unsupported label {name:?}"),
                    "write a scrape configuration of its own with targets, metrics_path or params",
                ));
            }
            for address in &group.targets {
                targets.push(self.target(address, &group.labels, timeout)?);
            }
        }
        Ok(targets)
    }

    fn check_times(&self) -> Result<Duration, ConfigError> {
        if self.scrape_interval < Duration::from_millis(10) {
            return Err(wrong(
                "scrape_interval",
                "interval below 10ms",
                "write a duration such as 5s",
            ));
        }
        let timeout = self
            .scrape_timeout
            .unwrap_or(DEFAULT_TIMEOUT.min(self.scrape_interval));
        match timeout {
            Duration::ZERO => Err(wrong(
                "scrape_timeout",
                "timeout of zero",
                "write a duration such as 5s",
            )),
            timeout if timeout > self.scrape_interval => Err(wrong(
                "scrape_timeout",
                "longer than scrape_interval",
                "shorten it, or raise scrape_interval",
            )),
            timeout => Ok(timeout),
        }
    }
}
