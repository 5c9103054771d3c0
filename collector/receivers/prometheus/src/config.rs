//! Scrape targets: Prometheus's `scrape_configs` for static targets, and `--scrape URL` of the command line. The daemon reads
//! [`ScrapeConfig`]s from its file and gets the [`ScrapeTarget`]s of each; errors name the key.
//!
//! Source: Prometheus documentation, "Configuration", section `<scrape_config>`.

use dichroic_model::names::label_name;
use dichroic_model::text::encode_query;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use dichroic_model::{Attributes, Protocol, Runtime, SourceSpec};
use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ingest::PageLimits;
pub use crate::protocol::ScrapeProtocol;
use crate::serialize::{duration, optional_duration, size};

/// One entry of `scrape_configs`. Keys, meanings and defaults are Prometheus's, but only those below; relabeling, authentication and
/// discovery are not supported. `body_size_limit` and `sample_limit` always have a limit here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScrapeConfig {
    /// Name of the job, the value of the label `job`.
    #[schemars(length(min = 1), example = &"workers")]
    pub job_name: String,
    /// Interval between two scrapes of a target.
    #[serde(default = "one_minute", with = "duration")]
    #[schemars(with = "String", extend("x-expected" = DURATION), example = &"15s")]
    pub scrape_interval: Duration,
    /// Time that a scrape may take, at most the interval. Default: 10 s, or the interval if that is shorter.
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("x-expected" = DURATION), example = &"5s")]
    pub scrape_timeout: Option<Duration>,
    /// Path of the page.
    #[serde(default = "metrics_path")]
    #[schemars(regex(pattern = "^/[!-\"$-~]*$"), example = &"/metrics")]
    pub metrics_path: String,
    /// Protocol of the page.
    #[serde(default)]
    pub scheme: Scheme,
    /// Query parameters of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = BTreeMap::from([("match", ["up"])]))]
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether labels of the page win over labels of the target; otherwise those of the page get the prefix `exported_`.
    #[serde(default)]
    pub honor_labels: bool,
    /// Whether timestamps of the page are used.
    #[serde(default = "yes")]
    pub honor_timestamps: bool,
    /// Whether gzip is requested.
    #[serde(default = "yes")]
    pub enable_compression: bool,
    /// Formats to request, the preferred one first.
    #[serde(default = "scrape_protocols")]
    #[schemars(length(min = 1), extend("uniqueItems" = true), example = ["PrometheusText0.0.4"])]
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// Format of a page whose `Content-Type` is missing, invalid or unsupported. Without it such a page is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"PrometheusText0.0.4")]
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Whether an OpenMetrics page that violates the standard is refused. Otherwise it is kept if Prometheus keeps it, and `lint` reports
    /// the violations. Prometheus does not have this setting.
    #[serde(default)]
    pub strict: bool,
    /// Largest page, after decompression; 0 stands for 64MiB.
    #[serde(default, with = "size")]
    #[schemars(with = "SizeSchema", extend("x-expected" = SIZE), example = &"10MB")]
    pub body_size_limit: u64,
    /// Largest number of samples on a page; 0 stands for 1000000.
    #[serde(default)]
    #[schemars(example = 10_000)]
    pub sample_limit: usize,
    /// Largest number of labels of a series, with its name and the labels of the target; 0 is no limit.
    #[serde(default)]
    #[schemars(example = 30)]
    pub label_limit: usize,
    /// Largest length of a label name, in bytes; 0 is no limit.
    #[serde(default)]
    #[schemars(example = 100)]
    pub label_name_length_limit: usize,
    /// Largest length of a label value, in bytes; 0 is no limit.
    #[serde(default)]
    #[schemars(example = 1_000)]
    pub label_value_length_limit: usize,
    /// Targets, in groups that share labels.
    #[serde(default)]
    pub static_configs: Vec<StaticConfig>,
}

const DURATION: &str = "a duration such as 500ms, 5s or 1m30s";
const SIZE: &str = "a size such as 10MB, or a number of bytes";

/// The schema of a size.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[allow(dead_code, reason = "only its schema is used")]
enum SizeSchema {
    Text(String),
    Bytes(u64),
}

/// Targets that share labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticConfig {
    /// Addresses, as `host:port` or a host alone, whose port is then 80.
    #[schemars(example = ["127.0.0.1:8000"])]
    pub targets: Vec<String>,
    /// Labels that are added to every series of these targets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(example = BTreeMap::from([("env", "dev")]))]
    pub labels: BTreeMap<String, String>,
}

/// How to reach a target. There is no TLS yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Scheme {
    /// HTTP/1.1 without TLS.
    #[default]
    Http,
}

/// The `Accept` header that Prometheus 3 sends for these protocols: each has a lower quality than the one before, then anything.
fn accept(protocols: &[ScrapeProtocol]) -> String {
    /// One more than the protocols that Prometheus 3.16 has.
    const HIGHEST: usize = 7;
    let ranges = protocols.iter().map(|protocol| protocol.media_range());
    let ranges = ranges.chain(["*/*"]).enumerate();
    let ranges = ranges.map(|(at, range)| format!("{range};q=0.{}", HIGHEST.saturating_sub(at)));
    ranges.collect::<Vec<_>>().join(",")
}

/// Limit of a page without `body_size_limit`: 64 MiB.
pub const BODY_BYTES: u64 = 64 << 20;

/// Scrape interval of targets from the command line.
pub const URL_INTERVAL: Duration = Duration::from_secs(5);

/// Job of targets from the command line.
pub const URL_JOB: &str = "scrape";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

fn metrics_path() -> String {
    "/metrics".into()
}

fn scrape_protocols() -> Vec<ScrapeProtocol> {
    ScrapeProtocol::DEFAULT.to_vec()
}

fn yes() -> bool {
    true
}

/// An invalid value in the configuration of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}; {help}")]
pub struct ConfigError {
    /// The configuration key, or `--scrape`.
    pub key: &'static str,
    /// What is wrong, with the value.
    pub problem: String,
    /// What to write instead.
    pub help: &'static str,
}

fn wrong(key: &'static str, problem: impl Into<String>, help: &'static str) -> ConfigError {
    ConfigError {
        key,
        problem: problem.into(),
        help,
    }
}

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
    pub path: String,
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

impl ScrapeConfig {
    /// A configuration with Prometheus's defaults and no targets.
    pub fn new(job_name: impl Into<String>) -> Self {
        Self {
            job_name: job_name.into(),
            scrape_interval: one_minute(),
            scrape_timeout: None,
            metrics_path: metrics_path(),
            scheme: Scheme::Http,
            params: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            enable_compression: true,
            scrape_protocols: scrape_protocols(),
            fallback_scrape_protocol: None,
            strict: false,
            body_size_limit: 0,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            static_configs: Vec::new(),
        }
    }

    /// The targets of this entry.
    ///
    /// # Errors
    /// [`ConfigError`] names the key of the first invalid value.
    pub fn targets(&self) -> Result<Vec<ScrapeTarget>, ConfigError> {
        let timeout = self.check_times()?;
        if self.job_name.is_empty() {
            return Err(wrong("job_name", "empty name", "set a name for the job"));
        }
        if !is_path(&self.metrics_path) {
            return Err(wrong(
                "metrics_path",
                format!("invalid path {:?}", self.metrics_path),
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

    fn target(
        &self,
        address: &str,
        labels: &BTreeMap<String, String>,
        timeout: Duration,
    ) -> Result<ScrapeTarget, ConfigError> {
        let help = "write host:port; metrics_path and scheme set the rest of the URL";
        let uri: Uri = format!("http://{address}{}", self.path_and_query())
            .parse()
            .map_err(|error| wrong("targets", format!("{address:?}: {error}"), help))?;
        if address.contains(['/', '?', '#', '@']) || address.is_empty() {
            return Err(wrong("targets", format!("invalid address {address:?}"), help));
        }
        let (host, port) = host_and_port(&uri)
            .map_err(|problem| wrong("targets", format!("invalid address {address:?}: {problem}"), help))?;
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
            path: self.path_and_query(),
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

    fn path_and_query(&self) -> String {
        let mut path = self.metrics_path.clone();
        let pairs = self
            .params
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        for (n, (name, value)) in pairs.enumerate() {
            path.push(if n == 0 && !self.metrics_path.contains('?') {
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
            .map_err(|error| wrong("--scrape", format!("{url:?}: {error}"), help))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("--scrape", format!("unsupported scheme in {url:?}"), help));
        }
        let (host, port) = host_and_port(&uri)
            .map_err(|problem| wrong("--scrape", format!("invalid URL {url:?}: {problem}"), help))?;
        let mut config = ScrapeConfig::new(URL_JOB);
        config.scrape_interval = URL_INTERVAL;
        let mut target = config.target(&address_with_port(&host, port), &BTreeMap::new(), URL_INTERVAL)?;
        if let Some(path) = uri.path_and_query().filter(|path| path.as_str() != "/") {
            target.path = path.as_str().to_owned();
        }
        Ok(target)
    }

    /// The URL that is scraped.
    pub fn url(&self) -> String {
        format!("http://{}{}", self.authority(), self.path)
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
                format!("{}\0{}\0{}", self.job, self.instance, self.url()).into_bytes(),
            )
        }
    }
}

impl fmt::Display for ScrapeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.url(), self.job)
    }
}

/// A path and query that can be sent as they are.
fn is_path(path: &str) -> bool {
    let is_sent = |c: char| c.is_ascii_graphic() && c != '#';
    path.starts_with('/') && path.chars().all(is_sent) && path.parse::<PathAndQuery>().is_ok()
}

/// The error text describes the mistake in the address.
fn host_and_port(uri: &Uri) -> Result<(String, u16), &'static str> {
    let host = uri.host().unwrap_or_default();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() {
        return Err("missing host");
    }
    let authority = uri.authority().map_or("", Authority::as_str);
    let address = authority
        .rsplit_once('@')
        .map_or(authority, |(_, address)| address);
    match address.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
        None => Ok((name.to_owned(), 80)),
        Some(port) => match port.parse() {
            Ok(port) => Ok((name.to_owned(), port)),
            Err(_) => Err("the port is not a number up to 65535"),
        },
    }
}

fn address_with_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_a_target() {
        let check = |url: &str, expected: &str| match ScrapeTarget::from_url(url) {
            Ok(target) => assert_eq!(
                format!("{} {} {}", target.url(), target.job, target.instance),
                expected,
                "{url}"
            ),
            Err(error) => assert_eq!(error.to_string(), expected, "{url}"),
        };
        check(
            "http://127.0.0.1:8000",
            "http://127.0.0.1:8000/metrics scrape 127.0.0.1:8000",
        );
        check(
            "127.0.0.1:8000",
            "http://127.0.0.1:8000/metrics scrape 127.0.0.1:8000",
        );
        check("http://worker/m?a=b", "http://worker:80/m?a=b scrape worker:80");
        check(
            "http://[::1]:9100/",
            "http://[::1]:9100/metrics scrape [::1]:9100",
        );
        check(
            "https://worker",
            "--scrape: unsupported scheme in \"https://worker\"; write http://host:port/path",
        );
        assert!(ScrapeTarget::from_url("http://").is_err());
        assert!(ScrapeTarget::from_url("http://a:70000").is_err());
    }

    #[test]
    fn a_scrape_config_has_the_defaults_of_prometheus() {
        let config: ScrapeConfig = serde_json::from_str(
            r#"{"job_name": "w", "static_configs": [{"targets": ["a:1", "b:2"], "labels": {"env": "dev", "instance": "i"}}]}"#,
        )
        .expect("a valid config");
        let targets = config.targets().expect("valid targets");
        let first = &targets[0];
        assert_eq!(
            (
                first.interval.as_secs(),
                first.timeout.as_secs(),
                first.body_bytes
            ),
            (60, 10, 64 << 20)
        );
        assert_eq!(
            (first.url().as_str(), first.job.as_str(), first.instance.as_str()),
            ("http://a:1/metrics", "w", "i")
        );
        assert_eq!(
            (first.honor_labels, first.honor_timestamps, first.compression),
            (false, true, true)
        );
        assert_eq!(first.labels, BTreeMap::from([("env".into(), "dev".into())]));
        assert_eq!(targets.len(), 2);
    }

    #[test]
    fn the_accept_header_is_that_of_prometheus() {
        assert_eq!(
            accept(&ScrapeProtocol::DEFAULT),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
             application/openmetrics-text;version=0.0.1;q=0.6,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
        );
        assert_eq!(
            accept(&[ScrapeProtocol::PrometheusText0_0_4]),
            "text/plain;version=0.0.4;q=0.7,*/*;q=0.6"
        );
    }

    #[test]
    fn parameters_are_encoded() {
        let mut config = ScrapeConfig::new("j");
        config
            .params
            .insert("match[]".into(), vec!["a b".into(), "c".into()]);
        assert_eq!(
            config.path_and_query(),
            "/metrics?match%5B%5D=a%20b&match%5B%5D=c"
        );
    }

    fn check_invalid(json: &str, expected: &str) {
        let error = match serde_json::from_str::<ScrapeConfig>(json) {
            Ok(config) => config.targets().expect_err("an invalid config").to_string(),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{json}: {error}");
    }

    #[test]
    fn invalid_protocols_are_rejected() {
        let check = check_invalid;
        check(
            r#"{"job_name": "a", "scrape_protocols": []}"#,
            "scrape_protocols: empty list",
        );
        check(
            r#"{"job_name": "a", "scrape_protocols": ["PrometheusText0.0.4", "PrometheusText0.0.4"]}"#,
            "scrape_protocols: duplicate protocol",
        );
        check(
            r#"{"job_name": "a", "scrape_protocols": ["PrometheusProto"]}"#,
            "unknown variant `PrometheusProto`",
        );
        check(
            r#"{"job_name": "a", "fallback_scrape_protocol": "text"}"#,
            "unknown variant `text`",
        );
    }

    #[test]
    fn an_invalid_config_is_rejected_with_its_key() {
        let check = check_invalid;
        check(r#"{"job_name": ""}"#, "job_name: empty name");
        check(
            r#"{"job_name": "a", "scrape_interval": "5"}"#,
            "invalid duration \"5\"",
        );
        check(
            r#"{"job_name": "a", "scrape_interval": "5s", "scrape_timeout": "6s"}"#,
            "longer than scrape_interval",
        );
        check(
            r#"{"job_name": "a", "metrics_path": "m"}"#,
            "metrics_path: invalid path \"m\"",
        );
        check(
            r#"{"job_name": "a", "metrics_path": "/m\r\nx: y"}"#,
            r#"metrics_path: invalid path "/m\r\nx: y""#,
        );
        check(
            r#"{"job_name": "a", "metrics_path": "/a b"}"#,
            "metrics_path: invalid path",
        );
        check(
            r#"{"job_name": "a", "metrics_path": "/a#b"}"#,
            "metrics_path: invalid path",
        );
        for address in ["a:65536", "a:70000", "a:x", "a:"] {
            let json = format!(r#"{{"job_name": "a", "static_configs": [{{"targets": ["{address}"]}}]}}"#);
            check(&json, "targets: ");
        }
        check(
            r#"{"job_name": "a", "static_configs": [{"targets": ["[::1]:70000"]}]}"#,
            "targets: invalid address \"[::1]:70000\": the port is not a number up to 65535",
        );
        for name in ["a-b", "2xx", "a:b", "", "é"] {
            let json = format!(
                r#"{{"job_name": "a", "static_configs": [{{"targets": [], "labels": {{"{name}": "x"}}}}]}}"#
            );
            check(&json, &format!("labels: invalid label name {name:?}"));
        }
        check(
            r#"{"job_name": "a", "scheme": "https"}"#,
            "unknown variant `https`",
        );
        check(
            r#"{"job_name": "a", "scrape_intervall": "5s"}"#,
            "unknown field `scrape_intervall`",
        );
        check(
            r#"{"job_name": "a", "body_size_limit": "5 potatoes"}"#,
            "a size such as 10MB",
        );
        check(
            r#"{"job_name": "a", "static_configs": [{"targets": ["http://a:1"]}]}"#,
            "targets: ",
        );
        check(
            r#"{"job_name": "a", "static_configs": [{"targets": ["a:1/m"]}]}"#,
            "invalid address \"a:1/m\"",
        );
    }
}
