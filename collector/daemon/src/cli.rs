//! The command line: arguments, help and checks of values. `commands` and `runtime::run` execute it.

use crate::config::attach::{self, Transport};
use crate::config::values::parse_span;
use clap::{Args, Parser, Subcommand, ValueEnum};
use dichroic_beam_attach::address::{NodeName, PortLookup};
use dichroic_beam_attach::discover::MAX_LIVE;
use dichroic_model::Pattern;
use dichroic_receiver_prometheus::config::ScrapeTarget;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Default address of the admin API.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9465";

/// Exit code for an invalid configuration file, EX_CONFIG of sysexits.h.
pub const INVALID_CONFIG: u8 = 78;

/// Exit code after the panic of a task that cannot be restarted, EX_SOFTWARE of sysexits.h.
pub const PANICKED: u8 = 70;

/// The arguments of the process.
#[derive(Parser)]
#[command(
    name = "dichroic",
    version,
    about = "Collect telemetry from BEAM nodes and Python programs, and export it as a Prometheus page and as event streams",
    after_help = "Examples:\n  dichroic run --scrape http://127.0.0.1:8000/metrics\n  dichroic tap 'phoenix.**'\n  dichroic check --config dichroic.yaml\n\nExit codes: 0 success, 1 failure, 2 usage error, 78 invalid configuration."
)]
pub struct Cli {
    /// The command to execute.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run the collector
    #[command(
        after_help = "Examples:\n  dichroic run\n  dichroic run --scrape http://127.0.0.1:8000/metrics --scrape 127.0.0.1:8001\n  dichroic run --config dichroic.yaml --ready-file /run/dichroic/ready.json\n\nSIGHUP reads the configuration file again; SIGTERM and SIGINT stop the collector.\n\nExit codes: 0 stopped by a signal, 1 failure, 2 usage error, 78 invalid configuration."
    )]
    Run(Run),
    /// Validate a configuration file, or print its JSON Schema
    #[command(
        after_help = "Examples:\n  dichroic check --config dichroic.yaml\n  dichroic check --config dichroic.yaml --print\n  dichroic check --schema > dichroic.schema.json\n\nExit codes: 0 success, 1 failure, 2 usage error, 78 invalid configuration."
    )]
    Check(Check),
    /// Print live events, logs or metric points
    #[command(
        after_help = "Examples:\n  dichroic tap 'phoenix.**' --where 'status=5*'\n  dichroic tap http.server.request.duration --kind metric --every 2s\n  dichroic tap --format json --limit 100 | jq .name\n\nExit codes: 0 success, 1 failure, 2 usage error."
    )]
    Tap(Tap),
    /// List all metrics and events of the collector
    #[command(
        after_help = "Examples:\n  dichroic catalog\n  dichroic catalog 'http.**' --format json\n\nExit codes: 0 success, 1 failure, 2 usage error."
    )]
    Catalog(Catalog),
    /// Print how many points were received, exported and dropped, by hop, source and reason
    #[command(
        after_help = "Examples:\n  dichroic ledger\n  dichroic ledger --format json --check\n\nExit codes: 0 success, 1 failure or, with --check, a ledger that does not balance, 2 usage error."
    )]
    Ledger(Ledger),
    /// Report likely problems: metrics without events, units, buckets, growing labels, conflicting names
    #[command(
        after_help = "Examples:\n  dichroic lint\n  dichroic lint shop@127.0.0.1 --live 30s\n  dichroic lint --strict --format json | jq '.findings[].message'\n\nWith NODE, it also counts the events of the node for the time of --live and reports those without a subscriber.\n\nExit codes: 0 success, 1 failure or, with --strict, a warning, 2 usage error.",
        mut_arg("node", |node| node.required(false))
    )]
    Lint(Lint),
    /// Instrument a running BEAM node without changing its code, until this command ends
    #[command(
        after_help = "Examples:\n  dichroic attach shop@127.0.0.1\n  dichroic attach my_app@myhost --release /opt/my_app --for 10m\n  dichroic attach shop@127.0.0.1 --cookie-file /run/secrets/cookie --port 9100\n  dichroic attach shop@127.0.0.1 --transport tcp --tcp 127.0.0.1:4319 --token-file /run/secrets/dichroic\n\nThe relay is removed from the node when this command ends, even if it is killed.\n\nA cookie gives full control over the node. It is read from a file that only its owner can read. Nodes on other machines\nrequire TLS.\n\nExit codes: 0 detached, 1 failure, 2 usage error."
    )]
    Attach(Attach),
    /// Remove an attached relay from a node
    #[command(
        after_help = "Example:\n  dichroic detach shop@127.0.0.1\n\nExit codes: 0 detached, 1 failure, 2 usage error."
    )]
    Detach(Detach),
    /// List the telemetry events that a running BEAM node can emit
    #[command(
        after_help = "Examples:\n  dichroic discover shop@127.0.0.1\n  dichroic discover shop@127.0.0.1 --live 10s\n  dichroic discover shop@127.0.0.1 --live 10s --format json | jq '.events[] | select(.count > 0)'\n\nExit codes: 0 success, 1 failure, 2 usage error."
    )]
    Discover(Discover),
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  dichroic completions bash > /etc/bash_completion.d/dichroic\n  dichroic completions zsh > \"${fpath[1]}/_dichroic\"\n  dichroic completions fish > ~/.config/fish/completions/dichroic.fish\n\nExit codes: 0 success, 1 failure, 2 usage error."
    )]
    Completions(Completions),
    /// Write the manual pages into a directory
    #[command(
        after_help = "Example:\n  dichroic man ~/.local/share/man/man1\n\nExit codes: 0 success, 1 failure, 2 usage error."
    )]
    Man(Man),
}

/// Arguments of `man`.
#[derive(Args)]
pub struct Man {
    /// Directory; created if needed
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// Arguments of `completions`.
#[derive(Args)]
pub struct Completions {
    /// Shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// How to reach a BEAM node.
#[derive(Args)]
pub struct Reach {
    /// Node name (name@host), as node() returns it on the node; nodes on other machines require --tls-ca
    #[arg(value_name = "NODE", value_parser = node)]
    pub node: String,
    /// File with the node's cookie, mode 0600 [default: $DICHROIC_COOKIE_FILE or ~/.erlang.cookie]
    #[arg(long, value_name = "FILE")]
    pub cookie_file: Option<PathBuf>,
    /// Directory of the node's release, whose releases/COOKIE is read
    #[arg(long, value_name = "DIR", conflicts_with = "cookie_file")]
    pub release: Option<PathBuf>,
    /// Address of epmd [default: the node's host, port $ERL_EPMD_PORT or 4369]
    #[arg(long, value_name = "HOST:PORT", value_parser = epmd)]
    pub epmd: Option<String>,
    /// Distribution port of the node, for nodes without epmd
    #[arg(long, value_name = "N", conflicts_with = "epmd")]
    pub port: Option<u16>,
    /// Use TLS (nodes with -proto_dist inet_tls), with this CA bundle (PEM) to verify the node
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Client certificate (PEM), for nodes that require one
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// Key of the client certificate (PEM), mode 0600
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Name that the node's certificate must contain [default: the host of the node name]
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub tls_name: Option<String>,
}

impl Reach {
    /// The node as an entry of `receivers.beam.attach`.
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

/// Arguments of `attach`.
#[derive(Args)]
pub struct Attach {
    /// How to reach the node.
    #[command(flatten)]
    pub reach: Reach,
    /// How the relay reaches the collector.
    #[command(flatten)]
    pub destination: DestinationArgs,
    /// Detach after this time, for example 10m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
}

/// How an attached relay reaches the running collector.
#[derive(Args)]
pub struct DestinationArgs {
    /// How the relay sends its data to the collector
    #[arg(long, value_enum, default_value = "auto")]
    pub transport: Transport,
    /// Local socket of the running collector [default: the first usable standard path]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Address of the collector's security.local_tcp
    #[arg(long, value_name = "ADDR")]
    pub tcp: Option<SocketAddr>,
    /// File with the token of security.local_tcp, mode 0600 [default: $DICHROIC_TOKEN]
    #[arg(long, value_name = "FILE", requires = "tcp")]
    pub token_file: Option<PathBuf>,
    /// Configuration file of the collector, with its local socket and its security.local_tcp
    #[arg(long, value_name = "FILE", conflicts_with = "tcp")]
    pub config: Option<PathBuf>,
}

/// Arguments of `detach`.
#[derive(Args)]
pub struct Detach {
    /// How to reach the node.
    #[command(flatten)]
    pub reach: Reach,
}

/// Arguments of `discover`.
#[derive(Args)]
pub struct Discover {
    /// How to reach the node.
    #[command(flatten)]
    pub reach: Reach,
    /// Also count emitted events for this time, for example 10s
    #[arg(long, value_name = "DURATION", value_parser = live)]
    pub live: Option<Duration>,
    /// Also list names that are less likely to be events
    #[arg(long)]
    pub all: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Arguments of `run`.
#[derive(Args)]
pub struct Run {
    /// Configuration file [default: none, built-in defaults]
    #[arg(long, value_name = "FILE", env = "DICHROIC_CONFIG")]
    pub config: Option<PathBuf>,
    /// Prometheus page to scrape every 5 seconds; can be repeated
    #[arg(long, value_name = "URL", value_parser = scrape_target)]
    pub scrape: Vec<ScrapeTarget>,
    /// File to which the endpoints are written as JSON when the collector is ready; removed at exit
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Arguments of `check`.
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
    /// Print the configuration in effect, with secrets redacted
    #[arg(long)]
    pub print: bool,
    /// Print the JSON Schema of the configuration file and exit
    #[arg(long, conflicts_with = "print")]
    pub schema: bool,
}

/// How to reach a running collector.
#[derive(Args)]
pub struct Admin {
    /// Address of the collector's admin API
    #[arg(long = "admin", value_name = "ADDR", default_value = DEFAULT_ADMIN, env = "DICHROIC_ADMIN")]
    pub address: String,
}

/// Output formats.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for the terminal
    Text,
    /// JSON: one document, or one per line
    Json,
}

/// Kinds of rows.
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
    /// The name in requests of the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Metric => "metric",
            Kind::Log => "log",
        }
    }
}

/// Arguments of `tap`.
#[derive(Args)]
pub struct Tap {
    /// Names to show; * matches within a segment, ** any number of segments
    #[arg(value_name = "PATTERN", default_value = "**", value_parser = Pattern::new)]
    pub patterns: Vec<Pattern>,
    /// Kind of rows to show
    #[arg(long, value_enum, default_value = "event")]
    pub kind: Kind,
    /// Only rows whose label matches the pattern; can be repeated
    #[arg(long = "where", value_name = "LABEL=GLOB", value_parser = label_filter)]
    pub wheres: Vec<LabelFilter>,
    /// Start with the retained rows of this time, for example 30s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub replay: Option<Duration>,
    /// For metrics: interval at which changed points are shown [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub every: Option<Duration>,
    /// Stop after this many rows
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// How to reach the collector.
    #[command(flatten)]
    pub admin: Admin,
}

/// Arguments of `catalog`.
#[derive(Args)]
pub struct Catalog {
    /// Names to list
    #[arg(value_name = "PATTERN", default_value = "**", value_parser = Pattern::new)]
    pub patterns: Vec<Pattern>,
    /// Also list events that a pack defines, but that have not occurred
    #[arg(long)]
    pub all: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// How to reach the collector.
    #[command(flatten)]
    pub admin: Admin,
}

/// Arguments of `lint`.
#[derive(Args)]
pub struct Lint {
    /// How to reach the node.
    #[command(flatten)]
    pub reach: Option<Reach>,
    /// Time for which the events of the node are counted
    #[arg(long, value_name = "DURATION", requires = "node", default_value = "10s", value_parser = live)]
    pub live: Duration,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Fail if there is a warning; notes do not count
    #[arg(long)]
    pub strict: bool,
    /// List each event that has not occurred
    #[arg(long)]
    pub verbose: bool,
    /// How to reach the collector.
    #[command(flatten)]
    pub admin: Admin,
}

/// Arguments of `ledger`.
#[derive(Args)]
pub struct Ledger {
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Fail if the ledger does not balance
    #[arg(long)]
    pub check: bool,
    /// Also show the terms of relays that are 0
    #[arg(long)]
    pub all: bool,
    /// How to reach the collector.
    #[command(flatten)]
    pub admin: Admin,
}

/// A condition of `--where`.
#[derive(Debug, Clone)]
pub struct LabelFilter {
    /// Name of the label.
    pub label: String,
    /// Pattern for its value; `*` matches any text.
    pub glob: String,
}

// The parsers of values. clap prints the value and the option before their messages.

fn label_filter(text: &str) -> Result<LabelFilter, &'static str> {
    match text.split_once('=') {
        Some((label, glob)) if !label.is_empty() => Ok(LabelFilter {
            label: label.to_owned(),
            glob: glob.to_owned(),
        }),
        _ => Err("expected LABEL=GLOB, such as status=5*"),
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_span(text).map_err(|_| "expected a number with a unit, such as 500ms, 5s or 1h30m")
}

fn live(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time > MAX_LIVE => Err(format!("the maximum is {}s", MAX_LIVE.as_secs())),
        time => Ok(time),
    }
}

fn scrape_target(text: &str) -> Result<ScrapeTarget, String> {
    ScrapeTarget::from_url(text).map_err(|error| format!("{}; {}", error.problem, error.help))
}

fn node(text: &str) -> Result<String, dichroic_beam_attach::Error> {
    NodeName::parse(text).map(|name| name.to_string())
}

fn epmd(text: &str) -> Result<String, dichroic_beam_attach::Error> {
    PortLookup::epmd(text).map(|_| text.to_owned())
}
