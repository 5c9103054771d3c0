//! The keys of a scrape configuration.

use super::query::{Params, PathQuery};
use crate::protocol::ScrapeProtocol;
use crate::serialize::{duration, optional_duration, size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

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
    #[schemars(with = "String", regex(pattern = "^/[!-\"$-~]*$"), example = &"/metrics")]
    pub metrics_path: PathQuery,
    /// Protocol of the page.
    #[serde(default)]
    pub scheme: Scheme,
    /// Query parameters of the request. Their values may be secrets and are never shown.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    #[schemars(with = "BTreeMap<String, Vec<String>>", extend("x-secret" = true), example = BTreeMap::from([("match", ["up"])]))]
    pub params: Params,
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

impl ScrapeConfig {
    /// A configuration with Prometheus's defaults and no targets.
    pub fn new(job_name: impl Into<String>) -> Self {
        Self {
            job_name: job_name.into(),
            scrape_interval: one_minute(),
            scrape_timeout: None,
            metrics_path: metrics_path(),
            scheme: Scheme::Http,
            params: Params::default(),
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
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

fn metrics_path() -> PathQuery {
    PathQuery("/metrics".into())
}

fn scrape_protocols() -> Vec<ScrapeProtocol> {
    ScrapeProtocol::DEFAULT.to_vec()
}

fn yes() -> bool {
    true
}
