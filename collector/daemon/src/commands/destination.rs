//! Finds the running collector that `dichroic attach` sends a relay to.

use crate::attach::destination::{choose, tcp_place};
use crate::cli;
use crate::config::attach::Transport;
use crate::config::values::Secret;
use crate::config::{Security, load, local_tcp};
use crate::listen::local_socket;
use dichroic_beam_attach::destination::{Destinations, RelayDestination};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::{TcpStream, UnixStream};

/// Where the token is looked up when no file is named, as Python does.
const TOKEN_VARIABLE: &str = "DICHROIC_TOKEN";

/// The places of a collector that runs, from the command line.
pub async fn of_running(args: &cli::DestinationArgs) -> Result<Destinations, String> {
    let security = match &args.config {
        Some(path) => Some((path, load(path).map_err(|bad| bad.to_string())?.security)),
        None => None,
    };
    let socket = match &args.socket {
        Some(path) => Some(path.clone()),
        None => security.as_ref().and_then(|(_, s)| s.local_socket.path.clone()),
    };
    let tcp = tcp_given(args, security)?;
    if args.transport == Transport::Tcp && tcp.is_none() {
        return Err(
            "--transport tcp: name the collector's security.local_tcp with --tcp and --token-file, or its configuration with --config".to_owned(),
        );
    }
    let mut tried = Vec::new();
    let socket = match args.transport {
        Transport::Tcp => None,
        _ => running_socket(socket.as_deref(), &mut tried).await?,
    };
    let tcp = match tcp {
        Some((at, token)) if args.transport != Transport::Socket => {
            running_port(at, &mut tried).await.then(|| tcp_place(at, &token))
        }
        _ => None,
    };
    choose(args.transport, socket.map(RelayDestination::Socket), tcp).ok_or_else(|| {
        format!(
            "no collector: {}; start one with `dichroic run`, or name its socket with --socket",
            tried.join("; ")
        )
    })
}

fn tcp_given(
    args: &cli::DestinationArgs,
    security: Option<(&PathBuf, Security)>,
) -> Result<Option<(SocketAddr, Secret)>, String> {
    if let Some(at) = args.tcp {
        let token = match &args.token_file {
            Some(path) => local_tcp::read_token(path).map_err(|e| format!("--token-file: {e}"))?,
            None => Secret(std::env::var(TOKEN_VARIABLE).map_err(|_| {
                format!("--tcp wants the token of security.local_tcp: name its file with --token-file, or set {TOKEN_VARIABLE}")
            })?),
        };
        return Ok(Some((at, token)));
    }
    let Some((path, Security { local_tcp, .. })) = security else {
        return Ok(None);
    };
    match local_tcp.and_then(|tcp| Some((tcp.listen.address()?, tcp))) {
        Some((at, _)) if at.port() == 0 => Err(format!(
            "{}: security.local_tcp.listen has port 0; name the real one with --tcp",
            path.display()
        )),
        Some((at, tcp)) => Ok(Some((at, tcp.secret().map_err(|e| e.to_string())?))),
        None => Ok(None),
    }
}

async fn running_socket(given: Option<&Path>, tried: &mut Vec<String>) -> Result<Option<PathBuf>, String> {
    for path in local_socket::candidates(given) {
        match UnixStream::connect(&path).await {
            Ok(_) => return std::path::absolute(&path).map(Some).map_err(|e| e.to_string()),
            Err(error) => tried.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(None)
}

async fn running_port(at: SocketAddr, tried: &mut Vec<String>) -> bool {
    let connected = TcpStream::connect(at).await;
    connected
        .map_err(|error| tried.push(format!("tcp://{at}: {error}")))
        .is_ok()
}
