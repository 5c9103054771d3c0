//! Where a node is: its name, and the one address at which it may be reached.
//!
//! Plain distribution has no encryption, and the cookie is as good as root on the node. So without TLS only addresses of this very
//! machine (or network namespace) are dialled: what is sent to them never passes a wire.

use crate::error::Error;
use std::net::{IpAddr, SocketAddr, TcpListener};

/// Where epmd listens unless said otherwise.
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
        let wrong = |why: &str| {
            Error::Usage(format!(
                "{text:?} is no node name: {why}; write name@host, as the node's own node() says"
            ))
        };
        let (alive, host) = text.split_once('@').ok_or_else(|| wrong("there is no @"))?;
        if text.chars().count() > 255 {
            return Err(wrong("it has more than 255 characters"));
        }
        if alive.is_empty() || host.is_empty() {
            return Err(wrong("a part is empty"));
        }
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '/' | '\'' | '"');
        if text.chars().filter(|c| *c == '@').count() > 1 || alive.contains(odd) || host.contains(odd) {
            return Err(wrong("it has a character that no node name has"));
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

/// How the port of a node's listener is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortLookup {
    /// Ask this epmd; without a host that of the node's machine.
    Epmd {
        /// Host of epmd; `None` for the machine of the node.
        host: Option<String>,
        /// Port of epmd.
        port: u16,
    },
    /// It is known.
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
                "{text:?} is no place of epmd; write HOST:PORT, such as 127.0.0.1:4369"
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

/// Where a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub ip: IpAddr,
    /// Whether that is this machine.
    pub local: bool,
}

/// The address of a host; of one that is this machine, an own one. Others are found only when what is sent to them is `secure`.
pub async fn resolve(host: &str, secure: bool) -> Result<HostAddress, Error> {
    let all: Vec<IpAddr> = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host((host, 0))
            .await
            .map_err(|e| Error::Connection(format!("host {host} is unknown: {e}")))?
            .map(|address| address.ip())
            .collect(),
    };
    if let Some(ip) = all.iter().copied().find(|address| is_own(*address)) {
        return Ok(HostAddress { ip, local: true });
    }
    match all.iter().copied().find(|address| is_real(*address)) {
        Some(ip) if secure => Ok(HostAddress { ip, local: false }),
        _ => Err(Error::Usage(format!(
            "{host} is not this machine: plain Erlang distribution is refused, because the cookie, which is root on the node, and all that is said would cross the network; run `dichroic` beside the node, in its network namespace, or let the node use TLS for distribution (-proto_dist inet_tls) and name its CA with --tls-ca, tls.ca_file in the configuration"
        ))),
    }
}

fn is_real(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// Only an own address can be bound.
fn is_own(address: IpAddr) -> bool {
    is_real(address) && (address.is_loopback() || TcpListener::bind(SocketAddr::new(address, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_read_or_refused_in_words() {
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
    fn places_of_epmd_are_read() {
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
    async fn other_machines_are_refused_without_tls_because_the_cookie_is_root() {
        for own in ["127.0.0.1", "127.0.0.5", "localhost"] {
            for secure in [true, false] {
                assert!(resolve(own, secure).await.unwrap().local, "{own}");
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
        for nowhere in ["0.0.0.0", "224.0.0.1", "::"] {
            assert!(resolve(nowhere, true).await.is_err(), "{nowhere}");
        }
    }
}
