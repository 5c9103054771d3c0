//! Where an attached relay sends its data: the local socket, the TCP port, or the second when the node cannot reach the first.

use crate::config::attach::Transport;
use crate::config::values::Secret;
use dichroic_beam_attach::destination::{Destinations, RelayDestination, Token};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
