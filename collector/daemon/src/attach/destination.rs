//! Which place of the collector an attached relay is sent to: the local socket, the TCP port, or one after the other.
//!
//! Asked by `dichroic attach`, which finds a running collector first, and by the collector for its own nodes.

use crate::cli;
use crate::config::attach::Transport;
use crate::config::values::Secret;
use crate::config::{Security, load, local_tcp};
use crate::listen::local_socket;
use dichroic_beam_attach::destination::{Destinations, RelayDestination, Token};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::net::{TcpStream, UnixStream};

/// Where the token is looked up when no file is named, as Python does.
const TOKEN_VARIABLE: &str = "DICHROIC_TOKEN";

/// The TCP port as a place for a relay of this machine.
pub fn tcp_place(at: SocketAddr, token: &Secret) -> RelayDestination {
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    RelayDestination::Tcp {
        at: SocketAddr::new(ip, at.port()),
        token: Token::new(&token.0),
    }
}

/// What a node gets of the places that there are.
pub fn choose(
    by: Transport,
    socket: Option<RelayDestination>,
    tcp: Option<RelayDestination>,
) -> Option<Destinations> {
    match (by, socket, tcp) {
        (Transport::Auto, Some(place), otherwise) => Some(Destinations {
            first: place,
            fallback: otherwise,
        }),
        (Transport::Auto | Transport::Tcp, _, Some(tcp)) => Some(tcp.into()),
        (Transport::Socket, Some(socket), _) => Some(socket.into()),
        _ => None,
    }
}

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
        Some((at, tcp)) => Ok(Some((at, tcp.secret()?))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_sent_to_the_socket_first_and_to_a_loopback_port() {
        let token = Secret("SECRET".to_owned());
        let tcp = tcp_place("0.0.0.0:4319".parse().unwrap(), &token);
        assert_eq!(tcp.name(), "tcp://127.0.0.1:4319");
        assert_eq!(
            tcp_place("[::]:1".parse().unwrap(), &token).name(),
            "tcp://[::1]:1"
        );
        let check = |by, socket: bool, port: bool, expected: &[&str]| {
            let places = choose(
                by,
                socket.then(|| RelayDestination::Socket("/s".into())),
                port.then(|| tcp.clone()),
            );
            let names: Vec<String> = places
                .iter()
                .flat_map(|data| std::iter::once(&data.first).chain(&data.fallback))
                .map(RelayDestination::name)
                .collect();
            assert_eq!(names, expected, "{by:?} {socket} {port}");
        };
        check(Transport::Auto, true, true, &["/s", "tcp://127.0.0.1:4319"]);
        check(Transport::Auto, true, false, &["/s"]);
        check(Transport::Auto, false, true, &["tcp://127.0.0.1:4319"]);
        check(Transport::Socket, true, true, &["/s"]);
        check(Transport::Tcp, true, true, &["tcp://127.0.0.1:4319"]);
        check(Transport::Tcp, true, false, &[]);
    }
}
