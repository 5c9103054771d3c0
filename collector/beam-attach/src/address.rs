//! Names and addresses of nodes.
//!
//! Plain distribution is not encrypted, and the cookie gives full control of the node. Therefore only addresses of this machine (or
//! network namespace) are contacted without TLS: nothing crosses the network.

use crate::error::Error;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// Default port of epmd.
pub const EPMD_PORT: u16 = 4369;

/// `name@host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// Part before the `@`.
    pub alive: String,
    /// Part after the `@`.
    pub host: String,
}

impl NodeName {
    /// Reads `name@host`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| {
            Error::Usage(format!(
                "invalid node name {text:?}: {reason}; expected name@host, as node() returns it"
            ))
        };
        let (alive, host) = text.split_once('@').ok_or_else(|| invalid("no @"))?;
        if text.chars().count() > 255 {
            return Err(invalid("more than 255 characters"));
        }
        if alive.is_empty() || host.is_empty() {
            return Err(invalid("empty part"));
        }
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '/' | '\'' | '"');
        let ats = text.chars().filter(|c| *c == '@').count();
        if ats > 1 || alive.contains(forbidden) || host.contains(forbidden) {
            return Err(invalid("invalid character"));
        }
        Ok(NodeName {
            alive: alive.to_owned(),
            host: host.to_owned(),
        })
    }
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.alive, self.host)
    }
}

/// How the distribution port of a node is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortLookup {
    /// By a request to epmd.
    Epmd {
        /// Host of epmd; `None` for the machine of the node.
        host: Option<String>,
        /// Port of epmd.
        port: u16,
    },
    /// A known port.
    Port(u16),
}

impl Default for PortLookup {
    /// The epmd of the node's machine, at `$ERL_EPMD_PORT` or 4369.
    fn default() -> Self {
        let port = std::env::var("ERL_EPMD_PORT").ok().and_then(|p| p.parse().ok());
        PortLookup::Epmd {
            host: None,
            port: port.unwrap_or(EPMD_PORT),
        }
    }
}

impl PortLookup {
    /// Reads `HOST:PORT`, `HOST` or `:PORT`.
    pub fn epmd(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::Usage(format!(
                "invalid epmd address {text:?}: expected HOST:PORT, such as 127.0.0.1:4369"
            ))
        };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (text, EPMD_PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(PortLookup::Epmd {
            host: (!host.is_empty()).then(|| host.to_owned()),
            port,
        })
    }
}

/// A resolved host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// Whether it is an address of this machine.
    pub local: bool,
}

/// Resolves a host, preferring addresses of this machine.
///
/// # Errors
/// An unknown host; a host of another machine unless the connection is `secure`.
pub async fn resolve(host: &str, secure: bool) -> Result<HostAddress, Error> {
    let all: Vec<IpAddr> = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host((host, 0))
            .await
            .map_err(|e| Error::Connection(format!("cannot resolve host {host}: {e}")))?
            .map(|address| address.ip())
            .collect(),
    };
    if let Some(ip) = all.iter().copied().find(|address| is_local(*address)) {
        return Ok(HostAddress { ip, local: true });
    }
    match all.iter().copied().find(|address| is_unicast(*address)) {
        Some(ip) if secure => Ok(HostAddress { ip, local: false }),
        _ => Err(Error::Usage(format!(
            "{host} is another machine: plain Erlang distribution is refused, because it would send the cookie (root access to the node) and all traffic over the network unencrypted; run `dichroic` in the network namespace of the node, or use TLS for distribution on the node (-proto_dist inet_tls) and set its CA with --tls-ca (tls.ca_file in the configuration)"
        ))),
    }
}

/// Whether a host is written as an address that is not of this machine. Names are not resolved.
pub fn is_address_elsewhere(host: &str) -> bool {
    host.parse().is_ok_and(|address: IpAddr| !is_local(address))
}

fn is_unicast(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// Only addresses of this machine can be bound.
fn is_local(address: IpAddr) -> bool {
    is_unicast(address) && (address.is_loopback() || TcpListener::bind(SocketAddr::new(address, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_parsed_or_rejected_with_a_message() {
        let check = |text: &str, good: bool| match NodeName::parse(text) {
            Ok(name) => {
                assert!(good, "{text}");
                assert_eq!(name.to_string(), text);
            }
            Err(error) => {
                assert!(!good, "{error}");
                assert!(error.to_string().contains("name@host"), "{error}");
            }
        };
        check("shop@127.0.0.1", true);
        check("my_app-1@host.example", true);
        for bad in ["shop", "@h", "a@", "a@b@c", "a b@c", "a@b/c", ""] {
            check(bad, false);
        }
        check(&format!("{}@h", "x".repeat(300)), false);
    }

    #[test]
    fn addresses_of_epmd_are_parsed() {
        let check = |text: &str, host: &str, port: u16| {
            let host = (!host.is_empty()).then(|| host.to_owned());
            assert_eq!(
                PortLookup::epmd(text).unwrap(),
                PortLookup::Epmd { host, port },
                "{text}"
            );
        };
        check("127.0.0.1:4370", "127.0.0.1", 4370);
        check("localhost", "localhost", 4369);
        check(":5000", "", 5000);
        check("[::1]:5000", "::1", 5000);
        assert!(PortLookup::epmd("host:many").is_err());
    }

    #[tokio::test]
    async fn other_machines_are_rejected_without_tls_because_the_cookie_gives_root_access() {
        for local in ["127.0.0.1", "127.0.0.5", "localhost"] {
            for secure in [true, false] {
                assert!(resolve(local, secure).await.unwrap().local, "{local}");
            }
        }
        for other in ["192.0.2.1", "203.0.113.9", "2001:db8::1"] {
            let message = resolve(other, false).await.unwrap_err().to_string();
            assert!(
                message.contains("root") && message.contains("--tls-ca"),
                "{message}"
            );
            assert!(!resolve(other, true).await.unwrap().local, "{other}");
        }
        for invalid in ["0.0.0.0", "224.0.0.1", "::"] {
            assert!(resolve(invalid, true).await.is_err(), "{invalid}");
        }
    }
}
