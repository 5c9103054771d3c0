//! Every section and key of the configuration file, with its default.
//!
//! The doc comments are the descriptions in the JSON Schema, in `docs/configuration.md` and in the help of error messages: they
//! state what the key sets, in one sentence first.

use super::attach::Attach;
use super::local_tcp::LocalTcp;
use super::telemetry::Telemetry;
use super::values::{
    Count, EXPECTED, HOUR, Listen, MAX_COUNT, MAX_SIZE, Secret, Size, Span, present_secret, present_section,
    section,
};
use dichroic_wire::limits as wire_limits;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const LOOPBACK: fn(u16) -> Listen =
    |port| Listen::On(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));

/// The configuration file of `dichroic run`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How telemetry enters.
    #[serde(deserialize_with = "section")]
    pub receivers: Receivers,
    /// Which metrics are extracted from BEAM nodes, and their names.
    #[serde(deserialize_with = "section")]
    pub metrics: Metrics,
    /// How telemetry leaves.
    #[serde(deserialize_with = "section")]
    pub exporters: Exporters,
    /// The admin API, which also serves the stream over HTTP.
    #[serde(deserialize_with = "section")]
    pub admin: Admin,
    /// Bounds on memory, series and connections.
    #[serde(deserialize_with = "section")]
    pub limits: Limits,
    /// Access to the collector.
    #[serde(deserialize_with = "section")]
    pub security: Security,
    /// The collector's own telemetry.
    #[serde(deserialize_with = "section")]
    pub telemetry: Telemetry,
}

/// How telemetry enters.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Receivers {
    /// OTLP listeners.
    #[serde(deserialize_with = "section")]
    pub otlp: Otlp,
    /// Prometheus targets to scrape.
    #[serde(deserialize_with = "section")]
    pub prometheus: Prometheus,
    /// Relays in BEAM nodes.
    #[serde(deserialize_with = "section")]
    pub beam: Beam,
}

/// OTLP listeners.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Address of the OTLP/gRPC listener.
    #[schemars(example = &"127.0.0.1:4317")]
    pub grpc: Listen,
    /// Address of the OTLP/HTTP listener.
    #[schemars(example = &"127.0.0.1:4318")]
    pub http: Listen,
    /// Largest request, after decompression.
    #[schemars(example = &"64MiB")]
    pub max_request: Size<1, MAX_SIZE>,
    /// Bytes of all requests that are read or applied at one time; further requests are refused until there is room.
    #[schemars(example = &"128MiB")]
    pub in_flight: Size<1, MAX_SIZE>,
    /// Resource attributes that become labels of every series, such as `k8s.namespace.name`.
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)), example = ["k8s.namespace.name"])]
    pub promote_resource_attributes: Vec<String>,
    /// Time after its last point until a series expires.
    #[schemars(example = &"5m")]
    pub expire_after: Span<1_000, { 24 * HOUR }>,
    /// The same for counters and histograms with delta temporality, whose totals are in the collector alone.
    /// A time shorter than `expire_after` counts as `expire_after`.
    #[schemars(example = &"1h")]
    pub expire_deltas_after: Span<1_000, { 7 * 24 * HOUR }>,
}

impl Default for Otlp {
    fn default() -> Self {
        Otlp {
            grpc: LOOPBACK(4317),
            http: LOOPBACK(4318),
            max_request: Size(64 << 20),
            in_flight: Size(128 << 20),
            promote_resource_attributes: Vec::new(),
            expire_after: Span(Duration::from_secs(300)),
            expire_deltas_after: Span(Duration::from_secs(3600)),
        }
    }
}

/// Prometheus targets to scrape.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Prometheus {
    /// Scrape jobs, with Prometheus's keys and meanings.
    pub scrape_configs: Vec<dichroic_receiver_prometheus::config::ScrapeConfig>,
}

/// Relays in BEAM nodes.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Beam {
    /// Interval at which relays send changed metrics.
    #[schemars(example = &"1s")]
    pub flush_interval: Span<10, 60_000>,
    /// Telemetry prefixes of Ecto repositories that relays do not find by themselves.
    #[schemars(example = ["my_app.repo"])]
    pub ecto_prefixes: Vec<String>,
    /// Largest number of series of one relay.
    #[schemars(example = 10_000)]
    pub series: Count<1, 1_000_000>,
    /// Largest number of raw events that one relay sends in a second; log records have an eighth of it in addition. A relay treats a
    /// value above 100000000 as 100000000.
    #[schemars(example = 100_000)]
    pub max_events_per_second: Count<1, MAX_COUNT>,
    /// Log records of nodes, which are sent while a subscriber asks for logs or `exporters.stream.retain_logs` is set.
    #[serde(deserialize_with = "section")]
    pub logs: Logs,
    /// Nodes without a relay that the collector attaches to while it runs.
    pub attach: Vec<Attach>,
}

impl Default for Beam {
    fn default() -> Self {
        Beam {
            flush_interval: Span(Duration::from_secs(1)),
            ecto_prefixes: Vec::new(),
            series: Count(10_000),
            max_events_per_second: Count(wire_limits::EVENTS_PER_SECOND_DEFAULT as usize),
            logs: Logs::default(),
            attach: Vec::new(),
        }
    }
}

/// Log records of nodes.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logs {
    /// Lowest level that leaves the node; the node's own primary level applies as well.
    #[schemars(example = Level::Warning)]
    pub level: Level,
    /// Domains of Erlang's `logger` whose messages stay in the node.
    #[schemars(example = ["otp.sasl"])]
    pub exclude_domains: Vec<String>,
    /// Metadata keys that become attributes, at most 32; all other metadata stays in the node.
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)), example = ["mfa", "request_id"])]
    pub attributes: Vec<String>,
    /// Length at which a message is cut.
    #[schemars(example = &"4KiB")]
    pub max_body: Size<1, 16_384>,
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

/// A level of Erlang's `logger`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[allow(missing_docs, reason = "the levels of RFC 5424")]
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
    /// The severity number in OpenTelemetry's log data model.
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

/// Which metrics are extracted from BEAM nodes, and their names.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Packs in use: `auto` for all of them, or a list of names. A pack costs nothing in a node that does not emit its events.
    #[schemars(example = ["vm", "phoenix", "ecto"])]
    pub packs: Packs,
    /// Convention that names the metrics of packs.
    #[schemars(example = Naming::Promex)]
    pub naming: Naming,
    /// Values of the templates in packs, such as the event prefix of a `Plug.Telemetry`.
    #[schemars(with = "BTreeMap<String, Vec<String>>", example = BTreeMap::from([("plug_prefix", ["my_app.plug"])]))]
    pub variables: dichroic_packs::Variables,
    /// Metrics of your own events, in the vocabulary of `Telemetry.Metrics`.
    pub definitions: Vec<dichroic_packs::Definition>,
}

/// Convention that names the metrics of packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Naming {
    /// OpenTelemetry names, with the unit and type suffixes of Prometheus.
    #[default]
    Opentelemetry,
    /// PromEx names where PromEx has the metric, so that PromEx dashboards keep working.
    Promex,
}

/// Packs in use.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Packs {
    /// All of them, written as `auto`.
    #[default]
    Auto,
    /// Those of these names.
    List(Vec<String>),
}

impl Packs {
    /// The names, `None` for all.
    pub fn names(&self) -> Option<&[String]> {
        match self {
            Packs::Auto => None,
            Packs::List(names) => Some(names),
        }
    }
}

const PACKS: &str = "auto, or a list of packs such as [vm, phoenix]";

impl<'de> Deserialize<'de> for Packs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PacksVisitor;

        impl<'de> Visitor<'de> for PacksVisitor {
            type Value = Packs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PACKS)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Packs, E> {
                match text {
                    "auto" => Ok(Packs::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Packs, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Packs::List)
            }
        }

        deserializer.deserialize_any(PacksVisitor)
    }
}

impl Serialize for Packs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Packs::Auto => serializer.serialize_str("auto"),
            Packs::List(names) => names.serialize(serializer),
        }
    }
}

impl JsonSchema for Packs {
    fn schema_name() -> Cow<'static, str> {
        "Packs".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [{"const": "auto"}, {"type": "array", "items": {"type": "string"}}],
            (EXPECTED): PACKS
        })
    }
}

/// How telemetry leaves.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Exporters {
    /// The page that Prometheus scrapes.
    #[serde(deserialize_with = "section")]
    pub prometheus: PrometheusPage,
    /// The stream of raw events and logs.
    #[serde(deserialize_with = "section")]
    pub stream: Stream,
}

/// The page that Prometheus scrapes.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusPage {
    /// Address of the listener that serves `/metrics`.
    #[schemars(example = &"127.0.0.1:9464")]
    pub listen: Listen,
    /// Pages that are rendered at one time; scrapers that come together share one. A stalled page makes room for another.
    #[schemars(example = 8)]
    pub max_renderings: Count<1, 64>,
    /// When series have `otel_scope_name` and `otel_scope_version` labels.
    #[schemars(example = ScopeLabels::Always)]
    pub scope_labels: ScopeLabels,
}

/// When series have labels of their instrumentation scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ScopeLabels {
    /// Where two scopes of one source have a metric with equal labels.
    #[default]
    Auto,
    /// Always.
    Always,
}

impl Default for PrometheusPage {
    fn default() -> Self {
        PrometheusPage {
            listen: LOOPBACK(9464),
            max_renderings: Count(8),
            scope_labels: ScopeLabels::Auto,
        }
    }
}

/// The stream of raw events and logs.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    /// Patterns of events that relays send, and that are kept for replay, even without a subscriber.
    #[schemars(example = ["oban.job.exception"])]
    pub retain: Vec<String>,
    /// Whether log records of nodes are sent and kept for replay even without a subscriber.
    #[schemars(example = true)]
    pub retain_logs: bool,
}

/// The admin API, which also serves the stream over HTTP.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address of the listener. An address that is not loopback requires `token`.
    #[schemars(example = &"127.0.0.1:9465")]
    pub listen: Listen,
    /// Token that requests must carry as `Authorization: Bearer`, at least 16 characters.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present_secret")]
    #[schemars(length(min = 16), example = &"${env:DICHROIC_ADMIN_TOKEN}")]
    pub token: Option<Secret>,
    /// Host names in requests that are accepted beside `localhost`, loopback addresses and `security.allowed_hosts`. Not checked with
    /// `token`.
    #[schemars(example = ["collector.internal"])]
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

/// Bounds on memory, series and connections. What a limit drops is counted in the ledger, with a reason.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest number of series in the store.
    #[schemars(example = 100_000)]
    pub series: Count<1, MAX_COUNT>,
    /// Largest number of series of one source.
    #[schemars(example = 50_000)]
    pub series_per_source: Count<1, MAX_COUNT>,
    /// Largest number of series of one metric of one source.
    #[schemars(example = 10_000)]
    pub series_per_metric: Count<1, MAX_COUNT>,
    /// Memory for all series: values, labels and tables.
    #[schemars(example = &"256MiB")]
    pub memory: Size<{ 1 << 20 }, MAX_SIZE>,
    /// Memory for all data in flight and queued: pages, scraped and received bodies, queues of subscribers, replay. What exceeds it is
    /// refused and counted; no part but pages takes more than half.
    #[schemars(example = &"256MiB")]
    pub in_flight: Size<{ 16 << 20 }, MAX_SIZE>,
    /// Largest number of sources: scraped targets, OTLP resources and BEAM nodes.
    #[schemars(example = 1_000)]
    pub sources: Count<1, MAX_COUNT>,
    /// Largest number of labels of one series; a series with more is not admitted.
    #[schemars(example = 64)]
    pub labels: Count<1, MAX_COUNT>,
    /// Length at which a label value is cut. A series whose metric name or unit is longer is not admitted.
    #[schemars(example = &"1KiB")]
    pub label_value: Size<1, MAX_SIZE>,
    /// Memory for raw events that are kept for replay, per signal.
    #[schemars(example = &"8MiB")]
    pub replay_bytes: Size<0, MAX_SIZE>,
    /// Age at which raw events are removed from replay, in whole seconds. Expired ones are removed when the next events arrive.
    #[schemars(example = &"5m")]
    pub replay_time: Span<0, { 24 * HOUR }>,
    /// How long nodes keep sending the events of a subscription that has ended, in whole seconds, so that it can resume without
    /// loss. Should not exceed `replay_time`.
    #[schemars(example = &"2m")]
    pub lease_time: Span<0, { 24 * HOUR }>,
    /// Largest number of subscribers at one time.
    #[schemars(example = 64)]
    pub subscribers: Count<0, MAX_COUNT>,
    /// Longest time for which a peer of an HTTP listener may read nothing of its response; then the connection is closed. Not for `/v1/stream`.
    #[schemars(example = &"10s")]
    pub write_stall: Span<1_000, HOUR>,
    /// Longest time from a request to an HTTP listener to the end of its response; `/v1/stream` has none. A page has 30 s at most.
    #[schemars(example = &"10s")]
    pub response_time: Span<1_000, HOUR>,
    /// Time that receivers, pipeline and exporters have to stop.
    #[schemars(example = &"5s")]
    pub shutdown: Span<100, HOUR>,
}

impl Default for Limits {
    fn default() -> Self {
        let model = dichroic_model::Limits::default();
        Limits {
            series: Count(model.series),
            series_per_source: Count(model.series_per_source),
            series_per_metric: Count(model.series_per_metric),
            memory: Size(model.memory_bytes),
            in_flight: Size(model.in_flight_bytes),
            sources: Count(model.sources),
            labels: Count(model.labels),
            label_value: Size(model.label_value_bytes),
            replay_bytes: Size(model.replay_bytes),
            replay_time: Span(Duration::from_secs(model.replay_seconds)),
            lease_time: Span(Duration::from_secs(model.lease_seconds)),
            subscribers: Count(model.subscribers),
            write_stall: Span(Duration::from_secs(30)),
            response_time: Span(Duration::from_secs(30)),
            shutdown: Span(Duration::from_secs(5)),
        }
    }
}

impl Limits {
    /// The limits of the store.
    pub fn model(&self) -> dichroic_model::Limits {
        dichroic_model::Limits {
            series: self.series.0,
            series_per_source: self.series_per_source.0,
            series_per_metric: self.series_per_metric.0,
            memory_bytes: self.memory.0,
            in_flight_bytes: self.in_flight.0,
            sources: self.sources.0,
            labels: self.labels.0,
            label_value_bytes: self.label_value.0,
            replay_bytes: self.replay_bytes.0,
            replay_seconds: self.replay_time.0.as_secs(),
            lease_seconds: self.lease_time.0.as_secs(),
            subscribers: self.subscribers.0,
            ..dichroic_model::Limits::default()
        }
    }
}

/// Access to the collector.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// The Unix socket of relays and subscribers.
    #[serde(deserialize_with = "section")]
    pub local_socket: LocalSocket,
    /// The same service on a TCP port, for clients that cannot open the socket; off unless this section is present.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present_section")]
    pub local_tcp: Option<LocalTcp>,
    /// Host names in requests over HTTP that every listener accepts beside `localhost` and addresses, such as the name of a service.
    #[schemars(example = ["dichroic"])]
    pub allowed_hosts: Vec<String>,
    /// Whether listeners that accept data without encryption or authentication may use an address that is not loopback.
    #[schemars(example = true)]
    pub allow_non_loopback: bool,
}

/// The Unix socket of relays and subscribers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LocalSocket {
    /// Path of the socket, at most 107 bytes. Default: the first usable one of `$DICHROIC_SOCKET`, `/run/dichroic/dichroic.sock`,
    /// `$XDG_RUNTIME_DIR/dichroic.sock` and `/tmp/dichroic-$UID/dichroic.sock`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"/run/dichroic/dichroic.sock")]
    pub path: Option<PathBuf>,
    /// File mode of the socket in octal digits, with or without quotes: `0660` and `660` are the same.
    #[schemars(regex(pattern = "^0*[0-7]{1,3}$"), example = &"0660")]
    pub mode: String,
    /// Group that owns the socket, by its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1000)]
    pub group: Option<u32>,
    /// Users that may connect in addition to root and the collector's own user, by their numbers.
    #[schemars(example = [1000])]
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
