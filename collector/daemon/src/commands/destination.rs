//! Finds the running collector that the relay of `dichroic attach` connects to.

use crate::attach::destination::{choose, tcp_destination};
use crate::cli;
use crate::config::attach::Transport;
use crate::config::error::ConfigError;
use crate::config::local_tcp::{self, TokenError};
use crate::config::values::Secret;
use crate::config::{Security, load};
use crate::listen::local_socket;
use dichroic_beam_attach::destination::{Destinations, RelayDestination};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::net::{TcpStream, UnixStream};

/// Environment variable with the token, used without `--token-file`. Python subscribers use the same one.
const TOKEN_VARIABLE: &str = "DICHROIC_TOKEN";

/// Why no collector can be used.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The file of `--config`.
    #[error(transparent)]
    Config(#[from] Box<ConfigError>),
    /// `--transport tcp` without an address.
    #[error(
        "--transport tcp requires the address of security.local_tcp: set --tcp and --token-file, or set --config to the collector's configuration file"
    )]
    NoAddress,
    /// The file of `--token-file`.
    #[error("--token-file: {0}")]
    TokenFile(#[source] TokenError),
    /// `--tcp` without a token.
    #[error(
        "--tcp requires the token of security.local_tcp: set --token-file or the variable {TOKEN_VARIABLE}"
    )]
    NoToken,
    /// The token in the file of `--config`.
    #[error(transparent)]
    ConfiguredToken(TokenError),
    /// The port in the file of `--config` is chosen at the start.
    #[error("{}: security.local_tcp.listen has port 0; set the port in use with --tcp", .0.display())]
    UnknownPort(PathBuf),
    /// The path of the socket cannot be made absolute.
    #[error("{}: {error}", path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// No address accepts connections.
    #[error("no collector: {0}; start one with `dichroic run`, or set its socket with --socket")]
    NotRunning(String),
}

/// The destinations at which a collector accepts connections, as the arguments choose them.
pub async fn of_running(args: &cli::DestinationArgs) -> Result<Destinations, DestinationError> {
    let security = match &args.config {
        Some(path) => Some((path, load(path)?.security)),
        None => None,
    };
    let socket = match &args.socket {
        Some(path) => Some(path.clone()),
        None => security.as_ref().and_then(|(_, s)| s.local_socket.path.clone()),
    };
    let tcp = tcp_address(args, security)?;
    if args.transport == Transport::Tcp && tcp.is_none() {
        return Err(DestinationError::NoAddress);
    }
    let mut failures = Vec::new();
    let socket = match args.transport {
        Transport::Tcp => None,
        _ => running_socket(socket.as_deref(), &mut failures).await?,
    };
    let tcp = match tcp {
        Some((at, token)) if args.transport != Transport::Socket => accepts_tcp(at, &mut failures)
            .await
            .then(|| tcp_destination(at, &token)),
        _ => None,
    };
    choose(args.transport, socket.map(RelayDestination::Socket), tcp)
        .ok_or_else(|| DestinationError::NotRunning(failures.join("; ")))
}

fn tcp_address(
    args: &cli::DestinationArgs,
    security: Option<(&PathBuf, Security)>,
) -> Result<Option<(SocketAddr, Secret)>, DestinationError> {
    if let Some(at) = args.tcp {
        let token = match &args.token_file {
            Some(path) => local_tcp::read_token(path).map_err(DestinationError::TokenFile)?,
            None => Secret(std::env::var(TOKEN_VARIABLE).map_err(|_| DestinationError::NoToken)?),
        };
        return Ok(Some((at, token)));
    }
    let Some((path, Security { local_tcp, .. })) = security else {
        return Ok(None);
    };
    match local_tcp.and_then(|tcp| Some((tcp.listen.address()?, tcp))) {
        Some((at, _)) if at.port() == 0 => Err(DestinationError::UnknownPort(path.clone())),
        Some((at, tcp)) => Ok(Some((
            at,
            tcp.secret().map_err(DestinationError::ConfiguredToken)?,
        ))),
        None => Ok(None),
    }
}

async fn running_socket(
    given: Option<&Path>,
    failures: &mut Vec<String>,
) -> Result<Option<PathBuf>, DestinationError> {
    for path in local_socket::candidates(given) {
        match UnixStream::connect(&path).await {
            Ok(_) => {
                return match std::path::absolute(&path) {
                    Ok(path) => Ok(Some(path)),
                    Err(error) => Err(DestinationError::SocketPath { path, error }),
                };
            }
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(None)
}

async fn accepts_tcp(at: SocketAddr, failures: &mut Vec<String>) -> bool {
    let connected = TcpStream::connect(at).await;
    connected
        .map_err(|error| failures.push(format!("tcp://{at}: {error}")))
        .is_ok()
}
