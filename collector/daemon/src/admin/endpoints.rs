//! The addresses of a running collector: printed at the start, and written to the ready file.

use crate::config::Config;
use crate::listen::directory::Identity;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
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
    /// Writes JSON to a new file beside `path` and renames it, so that no reader sees a partial file. Only a regular file is replaced.
    pub fn write(&self, path: &Path) -> io::Result<ReadyFile> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.is_file() => {
                return Err(io::Error::other("exists and is not a regular file"));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", self.pid));
        let partial = path.with_file_name(name);
        let created = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&partial);
        let written = created
            .and_then(|mut file| file.write_all(format!("{}\n", serde_json::to_string(self)?).as_bytes()))
            .and_then(|()| std::fs::rename(&partial, path))
            .and_then(|()| Identity::of(path));
        if written.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        Ok(ReadyFile {
            path: path.to_owned(),
            identity: written?,
        })
    }
}

/// The ready file of this process. Dropping it removes the file, unless another one has taken its path.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
    identity: Identity,
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        self.identity.remove(&self.path);
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
