//! The addresses of a running collector: printed at the start, and written to the ready file.

use crate::config::Config;
use serde::Serialize;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The bound addresses, with the real port instead of 0. `None`: the listener is off.
#[derive(Debug, Clone, Serialize)]
pub struct Endpoints {
    pub pid: u32,
    pub version: &'static str,
    pub prometheus: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    pub otlp_grpc: Option<SocketAddr>,
    pub otlp_http: Option<SocketAddr>,
    pub socket: PathBuf,
    /// Listener of `security.local_tcp`.
    pub local_tcp: Option<SocketAddr>,
}

impl Endpoints {
    /// Writes JSON to a file beside `path` and renames it, so that no reader sees a partial file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let partial = path.with_extension("partial");
        std::fs::write(&partial, format!("{}\n", serde_json::to_string(self)?))?;
        std::fs::rename(partial, path)
    }
}

/// The lines printed at the start: addresses and limits.
pub fn describe(endpoints: &Endpoints, config: &Config) -> String {
    let shown = |address: Option<SocketAddr>, path: &str, scheme: &str| match address {
        Some(address) => format!("{scheme}{address}{path}"),
        None => "off".to_owned(),
    };
    let limits = &config.limits;
    format!(
        "dichroic {version}\n  metrics     {metrics}\n  admin       {admin}\n  stream      {stream}\n  otlp/grpc   {grpc}\n  otlp/http   {http}\n  socket      {socket}\n  local_tcp   {tcp}\n  limits      {series} series, {memory} MiB for series, {in_flight} MiB in flight, {replay} MiB / {seconds} s of replay per signal, {subscribers} subscribers\n",
        version = endpoints.version,
        metrics = shown(endpoints.prometheus, "/metrics", "http://"),
        admin = shown(endpoints.admin, "/api/v1/catalog", "http://"),
        stream = shown(endpoints.admin, "/v1/stream", "http://"),
        grpc = shown(endpoints.otlp_grpc, "", "http://"),
        http = shown(endpoints.otlp_http, "", "http://"),
        socket = endpoints.socket.display(),
        tcp = shown(endpoints.local_tcp, " (token required)", "tcp://"),
        series = limits.series.0,
        memory = limits.memory.0 >> 20,
        in_flight = limits.in_flight.0 >> 20,
        replay = limits.replay_bytes.0 >> 20,
        seconds = limits.replay_time.0.as_secs(),
        subscribers = limits.subscribers.0,
    )
}
