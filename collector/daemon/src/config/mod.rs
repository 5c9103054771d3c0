//! The configuration file: what may be written, what holds when nothing is, and errors with line and column.
//!
//! The defaults below are the whole of `dichroic run` without a file. Keys that a file may carry are exactly the fields of these
//! types; anything else is refused by name.

pub mod attach;
pub mod expand;
pub mod loaded;
pub mod local_tcp;
pub mod selection;
pub mod telemetry;
pub mod values;

use expand::System;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use telemetry::Telemetry;
use values::{Listen, Secret, Size, Span};

const LOOPBACK: fn(u16) -> Listen = |port| Listen::On(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));

/// Everything.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub receivers: Receivers,
    pub metrics: Metrics,
    pub exporters: Exporters,
    pub admin: Admin,
    pub limits: Limits,
    pub security: Security,
    pub telemetry: Telemetry,
}

/// What comes in.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receivers {
    pub otlp: Otlp,
    pub prometheus: Prometheus,
    pub beam: Beam,
}

/// OTLP listeners.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    pub grpc: Listen,
    pub http: Listen,
    /// Largest request, after decompression.
    pub max_request: Size,
    /// Bytes of all requests that are being read or applied.
    pub in_flight: Size,
}

impl Default for Otlp {
    fn default() -> Self {
        Otlp {
            grpc: LOOPBACK(4317),
            http: LOOPBACK(4318),
            max_request: Size(64 << 20),
            in_flight: Size(128 << 20),
        }
    }
}

/// Scraped targets, in Prometheus's own words.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prometheus {
    pub scrape_configs: Vec<dichroic_receiver_prometheus::config::ScrapeConfig>,
}

/// Relays of BEAM nodes, on the local socket.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Beam {
    /// How often relays send what changed.
    pub flush_interval: Span,
    /// Ecto telemetry prefixes beside the default ones, such as `my_app.repo`.
    pub ecto_prefixes: Vec<String>,
    /// Series of one relay.
    pub series: usize,
    /// Raw events a second from one relay.
    pub max_events_per_second: usize,
    /// Log records, sent while somebody subscribes to logs.
    pub logs: Logs,
    /// Nodes without a relay that get one while the collector runs.
    pub attach: Vec<attach::Attach>,
}

/// What nodes may send of their logs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// Lowest level, beside that of the node itself.
    pub level: Level,
    /// Domains of `logger` whose messages stay in the node, such as `otp.sasl`.
    pub exclude_domains: Vec<String>,
    /// Metadata that become attributes; nothing else leaves the node.
    pub attributes: Vec<String>,
    /// Bytes of a message before it is cut, at most 16 KiB.
    pub max_body: Size,
}

impl Default for Logs {
    fn default() -> Self {
        let logs = dichroic_receiver_beam::Logs::default();
        Logs {
            level: Level::Info,
            exclude_domains: logs.exclude_domains,
            attributes: logs.attributes,
            max_body: Size(logs.max_body as usize),
        }
    }
}

/// A level of `logger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
    Alert,
    Emergency,
}

impl Level {
    /// OpenTelemetry's number.
    pub fn severity(self) -> i64 {
        match self {
            Level::Debug => 5,
            Level::Info => 9,
            Level::Notice => 10,
            Level::Warning => 13,
            Level::Error => 17,
            Level::Critical => 18,
            Level::Alert => 19,
            Level::Emergency => 21,
        }
    }
}

impl Default for Beam {
    fn default() -> Self {
        Beam {
            flush_interval: Span(Duration::from_secs(1)),
            ecto_prefixes: Vec::new(),
            series: 10_000,
            max_events_per_second: 100_000,
            logs: Logs::default(),
            attach: Vec::new(),
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    pub packs: Packs,
    /// Whose names the metrics of packs have.
    pub naming: Naming,
    /// Values of the packs' templates, such as `plug_prefix: [my_app.plug]`.
    pub variables: dichroic_packs::Variables,
    pub definitions: Vec<dichroic_packs::Definition>,
}

/// Whose names the metrics of packs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// OpenTelemetry's, with units and suffixes as Prometheus has them.
    #[default]
    Opentelemetry,
    /// Those of PromEx for what PromEx measures, so that its dashboards go on working.
    Promex,
}

/// Which packs are used.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Packs {
    /// `auto`: all; a handler costs nothing while its event is not emitted.
    Word(String),
    List(Vec<String>),
}

impl Default for Packs {
    fn default() -> Self {
        Packs::Word("auto".to_owned())
    }
}

impl Packs {
    /// The names, `None` for all.
    pub fn names(&self) -> Result<Option<&[String]>, String> {
        match self {
            Packs::Word(word) if word == "auto" => Ok(None),
            Packs::Word(word) => Err(format!(
                "metrics.packs: {word:?}; write auto, or a list such as [vm, phoenix]"
            )),
            Packs::List(names) => Ok(Some(names)),
        }
    }
}

/// What goes out.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exporters {
    pub prometheus: PrometheusPage,
    pub stream: Stream,
}

/// The Prometheus page.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusPage {
    pub listen: Listen,
}

impl Default for PrometheusPage {
    fn default() -> Self {
        PrometheusPage {
            listen: LOOPBACK(9464),
        }
    }
}

/// The stream.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Events kept flowing, for replay, without a subscriber.
    pub retain: Vec<String>,
    /// Log records of nodes too.
    pub retain_logs: bool,
}

/// API and stream over HTTP.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    pub listen: Listen,
    /// Needed on any address but loopback; sent as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Host names beside `localhost` and loopback addresses that requests may name.
    pub allowed_hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            listen: LOOPBACK(9465),
            token: None,
            allowed_hosts: Vec::new(),
        }
    }
}

/// Bounds; the names are those of `dichroic_model::Limits`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub series: usize,
    pub series_per_source: usize,
    pub series_per_metric: usize,
    pub memory: Size,
    pub sources: usize,
    pub labels: usize,
    pub label_value: Size,
    pub replay_bytes: Size,
    pub replay_time: Span,
    pub subscribers: usize,
    pub shutdown: Span,
}

impl Default for Limits {
    fn default() -> Self {
        let model = dichroic_model::Limits::default();
        Limits {
            series: model.series,
            series_per_source: model.series_per_source,
            series_per_metric: model.series_per_metric,
            memory: Size(model.memory_bytes),
            sources: model.sources,
            labels: model.labels,
            label_value: Size(model.label_value_bytes),
            replay_bytes: Size(model.replay_bytes),
            replay_time: Span(Duration::from_secs(model.replay_seconds)),
            subscribers: model.subscribers,
            shutdown: Span(Duration::from_secs(5)),
        }
    }
}

impl Limits {
    /// The store's limits.
    pub fn model(&self) -> dichroic_model::Limits {
        dichroic_model::Limits {
            series: self.series,
            series_per_source: self.series_per_source,
            series_per_metric: self.series_per_metric,
            memory_bytes: self.memory.0,
            sources: self.sources,
            labels: self.labels,
            label_value_bytes: self.label_value.0,
            replay_bytes: self.replay_bytes.0,
            replay_seconds: self.replay_time.0.as_secs(),
            subscribers: self.subscribers,
            ..dichroic_model::Limits::default()
        }
    }
}

/// Who may speak to us.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    pub local_socket: LocalSocket,
    /// The same over TCP, for those who cannot open the file; not there unless written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_tcp: Option<local_tcp::LocalTcp>,
    /// Listen on addresses that are not loopback, without a token on receivers.
    pub allow_non_loopback: bool,
}

impl Security {
    /// Address and token of `local_tcp`, when it is on.
    pub fn tcp(&self) -> Result<Option<(SocketAddr, Secret)>, String> {
        let on = self
            .local_tcp
            .as_ref()
            .and_then(|tcp| Some((tcp, tcp.listen.address()?)));
        on.map(|(tcp, address)| Ok((address, tcp.secret()?))).transpose()
    }
}

/// The socket of relays and subscribers.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalSocket {
    /// Default: the first usable of `$DICHROIC_SOCKET`, `/run/dichroic/dichroic.sock`, `$XDG_RUNTIME_DIR/dichroic.sock`,
    /// `/tmp/dichroic-$UID/dichroic.sock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// File mode, in octal.
    pub mode: String,
    /// Group that owns the file, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Users beside our own and root that may connect, by number.
    pub allow_uids: Vec<u32>,
}

impl Default for LocalSocket {
    fn default() -> Self {
        LocalSocket {
            path: None,
            mode: "0600".to_owned(),
            group: None,
            allow_uids: Vec::new(),
        }
    }
}

/// A configuration that cannot be used: complete words for its author.
#[derive(Debug)]
pub struct Bad(pub String);

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Bad {}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, Bad> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Bad(format!(
            "{}: {e}; name another file with --config",
            path.display()
        ))
    })?;
    parse(&text, &path.display().to_string())
}

/// Reads and checks a file's text.
pub fn parse(text: &str, name: &str) -> Result<Config, Bad> {
    let expanded = expand::expand(text, &System)
        .map_err(|p| Bad(format!("{name}:{}:{}: {}", p.line, p.column, p.what)))?;
    let config = if expanded
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        Config::default()
    } else {
        serde_saphyr::from_str(&expanded).map_err(|e| Bad(explain(&e, name)))?
    };
    check(&config).map_err(|what| Bad(format!("{name}: {what}")))?;
    Ok(config)
}

/// Keys of the public interface that this version does not have yet: told apart from typing errors.
const NOT_YET: &[(&str, &str)] = &[
    (
        "remote_write",
        "exporters.remote_write is not in this version; let Prometheus scrape exporters.prometheus",
    ),
    (
        "file_sd_configs",
        "file_sd_configs is not in this version; use static_configs",
    ),
    (
        "http_sd_configs",
        "http_sd_configs is not in this version; use static_configs",
    ),
    (
        "dns_sd_configs",
        "dns_sd_configs is not in this version; use static_configs",
    ),
];

fn explain(error: &serde_saphyr::Error, name: &str) -> String {
    let place = match error.location() {
        Some(at) => format!("{name}:{}:{}", at.line(), at.column()),
        None => name.to_owned(),
    };
    let rendered = error.render();
    let hint = NOT_YET
        .iter()
        .find(|(key, _)| rendered.contains(&format!("`{key}`")) && rendered.contains("unknown"));
    match hint {
        Some((_, message)) => format!("{place}: {message}\n{rendered}"),
        None => format!("{place}: {rendered}"),
    }
}

/// What types cannot say.
fn check(config: &Config) -> Result<(), String> {
    selection::selection(config)?;
    let exposed = |listen: &Listen| {
        listen
            .address()
            .is_some_and(|address| !address.ip().is_loopback())
    };
    if exposed(&config.admin.listen) && config.admin.token.is_none() {
        return Err("admin.listen is not loopback: set admin.token, at least 16 characters".to_owned());
    }
    if config
        .admin
        .token
        .as_ref()
        .is_some_and(|token| token.0.len() < 16)
    {
        return Err("admin.token is shorter than 16 characters".to_owned());
    }
    for (key, listen) in [
        ("grpc", &config.receivers.otlp.grpc),
        ("http", &config.receivers.otlp.http),
    ] {
        if exposed(listen) && !config.security.allow_non_loopback {
            return Err(format!(
                "receivers.otlp.{key} is not loopback and takes data without authentication: set security.allow_non_loopback: true if that is meant"
            ));
        }
    }
    if let Some((address, _)) = config.security.tcp()?
        && !address.ip().is_loopback()
        && !config.security.allow_non_loopback
    {
        return Err(
            "security.local_tcp.listen is not loopback, and neither the token nor the data is encrypted on its way: set security.allow_non_loopback: true if that is meant".to_owned(),
        );
    }
    if u32::from_str_radix(&config.security.local_socket.mode, 8).is_err() {
        return Err("security.local_socket.mode: write an octal file mode such as \"0660\"".to_owned());
    }
    telemetry::check(config)?;
    for job in &config.receivers.prometheus.scrape_configs {
        job.targets()
            .map_err(|e| format!("receivers.prometheus.scrape_configs: job {:?}: {e}", job.job_name))?;
    }
    attach::check(&config.receivers.beam.attach, config.security.tcp()?.is_some())?;
    let logs = &config.receivers.beam.logs;
    if logs.attributes.len() > 32
        || logs
            .attributes
            .iter()
            .any(|name| !(1..=255).contains(&name.len()))
    {
        return Err("receivers.beam.logs.attributes: at most 32 names of 1 to 255 bytes".to_owned());
    }
    if !(1..=16 << 10).contains(&logs.max_body.0) {
        return Err("receivers.beam.logs.max_body: 1 byte to 16 KiB".to_owned());
    }
    for pattern in &config.exporters.stream.retain {
        dichroic_model::Pattern::new(pattern).map_err(|e| format!("exporters.stream.retain: {e}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_and_an_empty_file_are_the_defaults() {
        for text in ["", "\n# nothing\n", "receivers: {}\n"] {
            let config = parse(text, "f").unwrap();
            assert_eq!(config.exporters.prometheus.listen, LOOPBACK(9464), "{text:?}");
            assert_eq!(config.limits.memory, Size(512 << 20));
        }
    }

    #[test]
    fn the_documented_example_is_read() {
        let text = r#"
receivers:
  otlp: { grpc: 127.0.0.1:4317, http: false }
  prometheus:
    scrape_configs:
      - job_name: workers
        scrape_interval: 5s
        static_configs: [{ targets: ["127.0.0.1:8000"], labels: { env: dev } }]
metrics:
  packs: auto
exporters:
  prometheus: { listen: 127.0.0.1:0 }
limits: { series: 1_000_000, memory: 512MiB }
"#;
        let config = parse(text, "f").unwrap();
        assert_eq!(config.receivers.otlp.http, Listen::Off);
        assert_eq!(
            config.receivers.prometheus.scrape_configs[0].static_configs[0].labels["env"],
            "dev"
        );
        assert_eq!(config.limits.series, 1_000_000);
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_what_to_write() {
        let check = |text: &str, place: &str, message: &[&str]| {
            let bad = parse(text, "dichroic.yaml").unwrap_err().0;
            assert!(bad.starts_with(&format!("dichroic.yaml:{place}")), "{bad}");
            for word in message {
                assert!(bad.contains(word), "{word:?} not in {bad}");
            }
        };
        check("receivers:\n  otpl: {}\n", "2:3", &["otpl", "otlp"]);
        check("limits:\n  memory: many\n", "2:11", &["512MiB"]);
        check(
            "exporters:\n  prometheus: { listen: localhost:9464 }\n",
            "2:25",
            &["127.0.0.1:9464"],
        );
        check("a: [1\n", "", &[]);
        check("admin: { token: short }\n", " ", &["16 characters"]);
        check("admin: { listen: 0.0.0.0:9465 }\n", " ", &["admin.token"]);
        check(
            "receivers: { otlp: { http: 0.0.0.0:4318 } }\n",
            " ",
            &["allow_non_loopback"],
        );
        check("metrics: { packs: everything }\n", " ", &["auto"]);
        check("metrics: { packs: [pheonix] }\n", " ", &["pheonix", "phoenix"]);
        check(
            "metrics: { variables: { ecto_prefx: [a] } }\n",
            " ",
            &["ecto_prefx", "ecto_prefix"],
        );
        check("security: { local_tcp: {} }\n", " ", &["token_file", "openssl"]);
        check(
            "security: { local_tcp: { token: 0123456789abcdef } }\n",
            " ",
            &["security.local_tcp.token", "too short"],
        );
        let exposed = format!(
            "security: {{ local_tcp: {{ listen: 0.0.0.0:4319, token: {} }} }}\n",
            "ab".repeat(16)
        );
        check(
            &exposed,
            " ",
            &["security.local_tcp.listen", "allow_non_loopback"],
        );
        check("security: { local_tcp: { tokn: x } }\n", "1:26", &["tokn"]);
        check(
            "exporters:\n  remote_write: []\n",
            "2:3",
            &["not in this version"],
        );
    }

    #[test]
    fn definitions_are_printed_and_what_is_printed_reads_back() {
        let text = r#"
metrics:
  packs: [vm, plug]
  naming: promex
  variables: { plug_prefix: [shop.plug] }
  definitions:
    - { name: shop.checkout.duration, type: distribution, event: shop.checkout.stop, measurement: duration, unit: [native, ms], tags: [plan] }
    - { name: shop.carts, type: counter, event: shop.cart, keep: [{ path: kind, eq: "7" }] }
"#;
        let config = parse(text, "f").unwrap();
        let shown = serde_saphyr::to_string(&config).unwrap();
        assert!(shown.contains("shop.checkout.duration"), "{shown}");
        let again = parse(&shown, "printed").unwrap();
        assert_eq!(again.metrics.definitions, config.metrics.definitions, "{shown}");
        assert_eq!(again.metrics.variables, config.metrics.variables);
        assert_eq!(
            (again.metrics.naming, again.metrics.packs),
            (Naming::Promex, config.metrics.packs)
        );
    }

    #[test]
    fn secrets_are_redacted_when_the_configuration_is_printed() {
        let check = |text: &str, secret: &str| {
            let config = parse(text, "f").unwrap();
            let shown = serde_saphyr::to_string(&config).unwrap();
            assert!(shown.contains("<redacted>") && !shown.contains(secret), "{shown}");
        };
        check("admin: { token: 0123456789abcdef }\n", "0123456789abcdef");
        let token = "0123456789abcdef".repeat(2);
        check(
            &format!("security: {{ local_tcp: {{ token: {token} }} }}\n"),
            &token,
        );
    }
}
