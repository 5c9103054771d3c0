//! A page to scrape.

use super::address::{address_with_port, host_and_port};
use super::error::{ConfigError, wrong};
use super::file::ScrapeConfig;
use super::query::PathQuery;
use crate::ingest::PageLimits;
use crate::protocol::ScrapeProtocol;
use dichroic_model::text::{encode_query, redact_url};
use dichroic_model::{Attributes, Protocol, Runtime, SourceSpec};
use hyper::Uri;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Limit of a page without `body_size_limit`: 64 MiB.
pub const BODY_BYTES: u64 = 64 << 20;

/// Scrape interval of targets from the command line.
pub const URL_INTERVAL: Duration = Duration::from_secs(5);

/// Job of targets from the command line.
pub const URL_JOB: &str = "scrape";

/// One page to scrape, with every setting resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeTarget {
    /// Value of the label `job`.
    pub job: String,
    /// Value of the label `instance`.
    pub instance: String,
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path and query.
    pub path: PathQuery,
    /// Labels added to every series, without `job` and `instance`.
    pub labels: BTreeMap<String, String>,
    /// Time between two scrapes.
    pub interval: Duration,
    /// Time limit of a scrape.
    pub timeout: Duration,
    /// See [`ScrapeConfig::honor_labels`].
    pub honor_labels: bool,
    /// See [`ScrapeConfig::honor_timestamps`].
    pub honor_timestamps: bool,
    /// Whether to request gzip.
    pub compression: bool,
    /// The `Accept` header.
    pub accept: String,
    /// See [`ScrapeConfig::fallback_scrape_protocol`].
    pub fallback: Option<ScrapeProtocol>,
    /// See [`ScrapeConfig::strict`].
    pub strict: bool,
    /// Most bytes of a page after decompression.
    pub body_bytes: usize,
    /// Limits on samples and labels.
    pub limits: PageLimits,
}

impl ScrapeTarget {
    /// The target of `--scrape URL`, scraped every [`URL_INTERVAL`] at `/metrics` unless the URL has a path.
    ///
    /// # Errors
    /// [`ConfigError`] for a URL without a host or with a scheme other than `http`.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        let help = "write http://host:port/path";
        let full = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let uri: Uri = full
            .parse()
            .map_err(|error| wrong("--scrape", format!("{:?}: {error}", redact_url(url)), help))?;
        let shown = redact_url(url);
        if uri.scheme_str() != Some("http") {
            return Err(wrong(
                "--scrape",
                format!("unsupported scheme in {shown:?}"),
                help,
            ));
        }
        let (host, port) = host_and_port(&uri)
            .map_err(|problem| wrong("--scrape", format!("invalid URL {shown:?}: {problem}"), help))?;
        let mut config = ScrapeConfig::new(URL_JOB);
        config.scrape_interval = URL_INTERVAL;
        let mut target = config.target(&address_with_port(&host, port), &BTreeMap::new(), URL_INTERVAL)?;
        if let Some(path) = uri.path_and_query().filter(|path| path.as_str() != "/") {
            target.path = PathQuery(path.as_str().to_owned());
        }
        Ok(target)
    }

    /// The URL that is scraped, without the values of its query.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.authority(), redact_url(self.path.as_str()))
    }

    /// The whole URL, which identifies the target and is never shown.
    pub(crate) fn identity(&self) -> String {
        format!("http://{}{}", self.authority(), self.path.as_str())
    }

    pub(crate) fn authority(&self) -> String {
        address_with_port(&self.host, self.port)
    }

    /// The target as a source of the store.
    pub(crate) fn source(&self, runtime: Runtime) -> SourceSpec {
        let labels: Vec<(&str, &str)> = self
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        SourceSpec {
            name: format!("{}/{}", self.job, self.instance),
            runtime,
            job: self.job.clone(),
            instance: self.instance.clone(),
            labels: Attributes::of(&labels),
            honor_labels: self.honor_labels,
            ..SourceSpec::new(
                Protocol::Prometheus,
                format!("{}\0{}\0{}", self.job, self.instance, self.identity()).into_bytes(),
            )
        }
    }
}

impl fmt::Display for ScrapeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.url(), self.job)
    }
}

impl ScrapeConfig {
    pub(super) fn target(
        &self,
        address: &str,
        labels: &BTreeMap<String, String>,
        timeout: Duration,
    ) -> Result<ScrapeTarget, ConfigError> {
        let help = "write host:port; metrics_path and scheme set the rest of the URL";
        let uri: Uri = format!("http://{address}{}", self.path_and_query())
            .parse()
            .map_err(|error| wrong("targets", format!("{:?}: {error}", redact_url(address)), help))?;
        let invalid = || format!("invalid address {:?}", redact_url(address));
        if address.contains(['/', '?', '#', '@']) || address.is_empty() {
            return Err(wrong("targets", invalid(), help));
        }
        let (host, port) = host_and_port(&uri)
            .map_err(|problem| wrong("targets", format!("{}: {problem}", invalid()), help))?;
        let mut labels = labels.clone();
        // Prometheus too keeps these only for relabelling.
        labels.retain(|name, _| !name.starts_with("__"));
        let instance = labels
            .remove("instance")
            .unwrap_or_else(|| address_with_port(&host, port));
        let job = labels.remove("job").unwrap_or_else(|| self.job_name.clone());
        let target_labels =
            [&job, &instance].len() + labels.values().filter(|value| !value.is_empty()).count();
        Ok(ScrapeTarget {
            job,
            instance,
            host,
            port,
            path: PathQuery(self.path_and_query()),
            labels,
            interval: self.scrape_interval,
            timeout,
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps,
            compression: self.enable_compression,
            accept: accept(&self.scrape_protocols),
            fallback: self.fallback_scrape_protocol,
            strict: self.strict,
            body_bytes: if self.body_size_limit == 0 {
                BODY_BYTES
            } else {
                self.body_size_limit
            } as usize,
            limits: PageLimits {
                samples: self.sample_limit,
                labels: self.label_limit,
                target_labels,
                label_name_bytes: self.label_name_length_limit,
                label_value_bytes: self.label_value_length_limit,
            },
        })
    }

    pub(super) fn path_and_query(&self) -> String {
        let mut path = self.metrics_path.as_str().to_owned();
        let pairs = self
            .params
            .0
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        for (n, (name, value)) in pairs.enumerate() {
            path.push(if n == 0 && !self.metrics_path.as_str().contains('?') {
                '?'
            } else {
                '&'
            });
            path.push_str(&encode_query(name));
            path.push('=');
            path.push_str(&encode_query(value));
        }
        path
    }
}

/// The `Accept` header that Prometheus 3 sends for these protocols: each has a lower quality than the one before, then anything.
pub(super) fn accept(protocols: &[ScrapeProtocol]) -> String {
    /// One more than the protocols that Prometheus 3.16 has.
    const HIGHEST: usize = 7;
    let ranges = protocols.iter().map(|protocol| protocol.media_range());
    let ranges = ranges.chain(["*/*"]).enumerate();
    let ranges = ranges.map(|(at, range)| format!("{range};q=0.{}", HIGHEST.saturating_sub(at)));
    ranges.collect::<Vec<_>>().join(",")
}
