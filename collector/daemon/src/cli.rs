//! The command line. What each command does is in `commands`; `run` is in `run`.

use crate::config::attach::{self, Transport};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the admin API listens when nothing else is said.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9465";

#[derive(Parser)]
#[command(
    name = "dichroic",
    version,
    about = "Merges BEAM and Python telemetry: relays, OTLP and scrapes in; a Prometheus page and streams out.",
    after_help = "Examples:\n  dichroic run --scrape http://127.0.0.1:8000/metrics\n  dichroic tap 'phoenix.**'\n  dichroic check --config dichroic.yaml\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 78 bad config."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the sidecar
    #[command(
        after_help = "Examples:\n  dichroic run\n  dichroic run --scrape http://127.0.0.1:8000/metrics --scrape 127.0.0.1:8001\n  dichroic run --config dichroic.yaml --ready-file /run/dichroic/ready.json"
    )]
    Run(Run),
    /// Validate a configuration file
    #[command(after_help = "Example:\n  dichroic check --config dichroic.yaml --print")]
    Check(Check),
    /// Show live events, logs or points
    #[command(
        after_help = "Examples:\n  dichroic tap 'phoenix.**' --where 'status=5*'\n  dichroic tap http.server.request.duration --kind metric --every 2s\n  dichroic tap --format json --limit 100 | jq .name"
    )]
    Tap(Tap),
    /// List every known metric and event
    #[command(after_help = "Examples:\n  dichroic catalog\n  dichroic catalog 'http.**' --format json")]
    Catalog(Catalog),
    /// Show what became of every point, by hop, source and reason
    #[command(after_help = "Examples:\n  dichroic ledger\n  dichroic ledger --format json --check")]
    Ledger(Ledger),
    /// Tell what looks wrong: metrics that never fired, units, bounds, labels that grow, names that clash
    #[command(
        after_help = "Examples:\n  dichroic lint\n  dichroic lint shop@127.0.0.1 --live 30s\n  dichroic lint --strict --format json | jq '.findings[].message'\n\nWith a NODE it also listens there for a while, and names events that fire and that nothing subscribes to.",
        mut_arg("node", |node| node.required(false))
    )]
    Lint(Lint),
    /// Instrument a running BEAM node from outside, until this command ends
    #[command(
        after_help = "Examples:\n  dichroic attach shop@127.0.0.1\n  dichroic attach my_app@myhost --release /opt/my_app --for 10m\n  dichroic attach shop@127.0.0.1 --cookie-file /run/secrets/cookie --port 9100\n  dichroic attach shop@127.0.0.1 --transport tcp --tcp 127.0.0.1:4319 --token-file /run/secrets/dichroic\n\nThe node is left as it was when this command ends, however it ends. Its cookie lets whoever has it run anything on the node:\nit is read from a file that only its owner can read, and nodes of other machines are attached to only over TLS."
    )]
    Attach(Attach),
    /// Take an attached relay out of a node
    #[command(after_help = "Example:\n  dichroic detach shop@127.0.0.1")]
    Detach(Detach),
    /// List the telemetry events that a running BEAM node can emit
    #[command(
        after_help = "Examples:\n  dichroic discover shop@127.0.0.1\n  dichroic discover shop@127.0.0.1 --live 10s\n  dichroic discover shop@127.0.0.1 --live 10s --format json | jq '.events[] | select(.count > 0)'"
    )]
    Discover(Discover),
}

/// How a BEAM node is reached.
#[derive(Args)]
pub struct Reach {
    /// The node, as its own node() says; on this machine unless it uses TLS
    #[arg(value_name = "NODE")]
    pub node: String,
    /// File with the node's cookie, mode 0600; else $DICHROIC_COOKIE_FILE, else ~/.erlang.cookie
    #[arg(long, value_name = "FILE")]
    pub cookie_file: Option<PathBuf>,
    /// Folder of the node's release, whose releases/COOKIE is used
    #[arg(long, value_name = "DIR", conflicts_with = "cookie_file")]
    pub release: Option<PathBuf>,
    /// Where epmd listens; else on the node's machine at $ERL_EPMD_PORT or 4369
    #[arg(long, value_name = "HOST:PORT")]
    pub epmd: Option<String>,
    /// Port of the node itself, for nodes without epmd
    #[arg(long, value_name = "N", conflicts_with = "epmd")]
    pub port: Option<u16>,
    /// Speak TLS, for nodes with -proto_dist inet_tls: certificates of who signs the node's, PEM
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Our certificate, for nodes that ask for one, PEM
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM, mode 0600
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A name in the node's certificate; else the host of the node's name
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub tls_name: Option<String>,
}

impl Reach {
    /// The same node as an entry of `receivers.beam.attach`.
    pub fn entry(&self) -> attach::Attach {
        let tls = self.tls_ca.clone().map(|ca_file| attach::Tls {
            ca_file,
            cert_file: self.tls_cert.clone(),
            key_file: self.tls_key.clone(),
            server_name: self.tls_name.clone(),
        });
        attach::Attach {
            node: self.node.clone(),
            cookie_file: self.cookie_file.clone(),
            release: self.release.clone(),
            epmd: self.epmd.clone(),
            port: self.port,
            tls,
            transport: Transport::default(),
        }
    }
}

#[derive(Args)]
pub struct Attach {
    #[command(flatten)]
    pub reach: Reach,
    #[command(flatten)]
    pub destination: DestinationArgs,
    /// Detach after this time, for example 10m
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<String>,
}

/// How what the relay counts comes to the running collector.
#[derive(Args)]
pub struct DestinationArgs {
    /// Where the relay sends what it counts; auto is the socket, and the TCP port when the node cannot open that
    #[arg(long, value_enum, default_value = "auto")]
    pub transport: Transport,
    /// Local socket of the running collector; else the usual places
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The collector's security.local_tcp
    #[arg(long, value_name = "ADDR")]
    pub tcp: Option<SocketAddr>,
    /// File with its token, mode 0600; else $DICHROIC_TOKEN
    #[arg(long, value_name = "FILE", requires = "tcp")]
    pub token_file: Option<PathBuf>,
    /// The collector's configuration, for its local socket, and address and token of its security.local_tcp
    #[arg(long, value_name = "FILE", conflicts_with = "tcp")]
    pub config: Option<PathBuf>,
}

#[derive(Args)]
pub struct Detach {
    #[command(flatten)]
    pub reach: Reach,
}

#[derive(Args)]
pub struct Discover {
    #[command(flatten)]
    pub reach: Reach,
    /// Also count, for so long, which events are emitted
    #[arg(long, value_name = "DURATION")]
    pub live: Option<String>,
    /// Also list names that look less like events
    #[arg(long)]
    pub all: bool,
    /// How the list is written
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

#[derive(Args)]
pub struct Run {
    /// Configuration file; without one the defaults are used
    #[arg(long, value_name = "FILE", env = "DICHROIC_CONFIG")]
    pub config: Option<PathBuf>,
    /// Prometheus page to scrape every 5 seconds; may be repeated
    #[arg(long, value_name = "URL")]
    pub scrape: Vec<String>,
    /// Write the endpoints as JSON to this file when ready; removed at exit
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Check {
    /// Configuration file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "dichroic.yaml",
        env = "DICHROIC_CONFIG"
    )]
    pub config: PathBuf,
    /// Print the effective configuration, secrets redacted
    #[arg(long)]
    pub print: bool,
}

/// How a command reaches a running collector.
#[derive(Args)]
pub struct Admin {
    /// Address of the collector's admin API
    #[arg(long = "admin", value_name = "ADDR", default_value = DEFAULT_ADMIN, env = "DICHROIC_ADMIN")]
    pub address: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For pipes: one JSON document, or one a line
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Raw `:telemetry` and OpenTelemetry events
    Event,
    /// Points of metrics
    Metric,
    /// Log records
    Log,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Metric => "metric",
            Kind::Log => "log",
        }
    }
}

#[derive(Args)]
pub struct Tap {
    /// Names to show: `*` is any text within a segment, `**` any number of segments
    #[arg(value_name = "PATTERN", default_value = "**")]
    pub patterns: Vec<String>,
    /// What to show
    #[arg(long, value_enum, default_value = "event")]
    pub kind: Kind,
    /// Only rows whose label matches the glob; may be repeated
    #[arg(long = "where", value_name = "LABEL=GLOB")]
    pub wheres: Vec<String>,
    /// Start with the rows of the last seconds, for example 30s
    #[arg(long, value_name = "DURATION")]
    pub replay: Option<String>,
    /// For metrics: how often changed points are shown
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub every: String,
    /// Stop after this many rows
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// How rows are written
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub admin: Admin,
}

#[derive(Args)]
pub struct Catalog {
    /// Names to list
    #[arg(value_name = "PATTERN", default_value = "**")]
    pub patterns: Vec<String>,
    /// How the list is written
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    #[command(flatten)]
    pub admin: Admin,
}

#[derive(Args)]
pub struct Lint {
    #[command(flatten)]
    pub reach: Option<Reach>,
    /// How long to listen on the node
    #[arg(long, value_name = "DURATION", requires = "node", default_value = "10s")]
    pub live: String,
    /// How the findings are written
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Fail when there is a warning; notes do not count
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub admin: Admin,
}

#[derive(Args)]
pub struct Ledger {
    /// How the ledger is written
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Fail unless every account balances
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    pub admin: Admin,
}
