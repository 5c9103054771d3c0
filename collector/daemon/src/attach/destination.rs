//! Destinations of attached relays: the local socket, the TCP port, or the port as the fallback for the socket.

use crate::config::attach::Transport;
use crate::config::values::Secret;
use dichroic_beam_attach::destination::{Destinations, RelayDestination, Token};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The TCP port as the destination of a relay on this machine: an unspecified address becomes loopback.
pub fn tcp_destination(at: SocketAddr, token: &Secret) -> RelayDestination {
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

/// The destinations of a node's relay: those of the available ones that its transport allows. `None`: there is none.
pub fn choose(
    transport: Transport,
    socket: Option<RelayDestination>,
    tcp: Option<RelayDestination>,
) -> Option<Destinations> {
    match (transport, socket, tcp) {
        (Transport::Auto, Some(first), fallback) => Some(Destinations { first, fallback }),
        (Transport::Auto | Transport::Tcp, _, Some(tcp)) => Some(tcp.into()),
        (Transport::Socket, Some(socket), _) => Some(socket.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_preferred_and_an_unspecified_address_becomes_loopback() {
        let token = Secret("SECRET".to_owned());
        let tcp = tcp_destination("0.0.0.0:4319".parse().unwrap(), &token);
        assert_eq!(tcp.name(), "tcp://127.0.0.1:4319");
        assert_eq!(
            tcp_destination("[::]:1".parse().unwrap(), &token).name(),
            "tcp://[::1]:1"
        );
        let check = |transport, socket: bool, port: bool, expected: &[&str]| {
            let destinations = choose(
                transport,
                socket.then(|| RelayDestination::Socket("/s".into())),
                port.then(|| tcp.clone()),
            );
            let names: Vec<String> = destinations
                .iter()
                .flat_map(|both| std::iter::once(&both.first).chain(&both.fallback))
                .map(RelayDestination::name)
                .collect();
            assert_eq!(names, expected, "{transport:?} {socket} {port}");
        };
        check(Transport::Auto, true, true, &["/s", "tcp://127.0.0.1:4319"]);
        check(Transport::Auto, true, false, &["/s"]);
        check(Transport::Auto, false, true, &["tcp://127.0.0.1:4319"]);
        check(Transport::Socket, true, true, &["/s"]);
        check(Transport::Tcp, true, true, &["tcp://127.0.0.1:4319"]);
        check(Transport::Tcp, true, false, &[]);
    }
}
