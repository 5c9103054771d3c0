//! Where an attached relay connects to the collector: its local socket, or its TCP port with the token.
//!
//! The token is sent to the node over the connection authenticated by the cookie; a holder of the cookie could read it there anyway.
//! It is never shown.

use crate::error::Error;
use crate::term::{Term, atom, text};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The token of a collector's TCP port.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token from its text.
    pub fn new(text: &str) -> Self {
        Token(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<token>")
    }
}

/// One address of the collector for relays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayDestination {
    /// Its local socket.
    Socket(PathBuf),
    /// Its TCP port.
    Tcp {
        /// Address of the port.
        at: SocketAddr,
        /// Token that the port requires.
        token: Token,
    },
}

impl RelayDestination {
    /// Its text in messages, the same as in the relay's status.
    pub fn name(&self) -> String {
        match self {
            RelayDestination::Socket(path) => path.display().to_string(),
            RelayDestination::Tcp { at, .. } => format!("tcp://{at}"),
        }
    }

    pub(crate) fn term(&self) -> Result<Term, Error> {
        match self {
            RelayDestination::Socket(path) => {
                let text = path.to_str();
                let text = text.ok_or_else(|| {
                    Error::Usage(format!("socket {}: its path is not UTF-8", path.display()))
                })?;
                let characters = text.chars().map(|c| Term::Int(i64::from(u32::from(c))));
                Ok(Term::List(characters.collect()))
            }
            RelayDestination::Tcp { at, token } => {
                let part = |n: i64| Term::Int(n);
                let address = match at.ip() {
                    IpAddr::V4(ip) => ip.octets().iter().map(|n| part(i64::from(*n))).collect(),
                    IpAddr::V6(ip) => ip.segments().iter().map(|n| part(i64::from(*n))).collect(),
                };
                Ok(Term::Tuple(vec![
                    atom("tcp"),
                    Term::Tuple(address),
                    part(i64::from(at.port())),
                    text(&token.0),
                ]))
            }
        }
    }
}

/// The destinations of a relay, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destinations {
    /// Tried first.
    pub first: RelayDestination,
    /// Used when the node cannot reach the first.
    pub fallback: Option<RelayDestination>,
}

impl Destinations {
    /// The destination with this name.
    pub fn named(&self, name: &str) -> Option<&RelayDestination> {
        let all = std::iter::once(&self.first).chain(&self.fallback);
        all.into_iter().find(|destination| destination.name() == name)
    }
}

impl Destinations {
    /// Fails for a destination that a node of another machine cannot reach, or that would leave this machine without explicit
    /// configuration: the connection of a relay and its token are not encrypted.
    pub(crate) fn reaches(&self, local: bool) -> Result<(), Error> {
        match &self.first {
            _ if local => Ok(()),
            RelayDestination::Tcp { at, .. } if !at.ip().is_loopback() => Ok(()),
            destination => Err(Error::Usage(format!(
                "the node is on another machine, from which its relay cannot reach {}: run `dichroic` there; or, if telemetry may cross the network unencrypted, set security.local_tcp to an address that the node can reach and transport: tcp (--transport tcp --tcp ADDR)",
                destination.name()
            ))),
        }
    }

    /// The warning for a node of another machine, whose telemetry is not encrypted.
    pub fn warning(&self, local: bool) -> Option<String> {
        (!local).then(|| {
            format!(
                "its relay sends telemetry and the token to {} over the network without encryption; TLS protects only control",
                self.first.name()
            )
        })
    }
}

impl From<RelayDestination> for Destinations {
    fn from(destination: RelayDestination) -> Self {
        Destinations {
            first: destination,
            fallback: None,
        }
    }
}

impl From<&Path> for Destinations {
    fn from(socket: &Path) -> Self {
        RelayDestination::Socket(socket.to_owned()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(at: &str) -> RelayDestination {
        RelayDestination::Tcp {
            at: at.parse().unwrap(),
            token: Token::new("SECRET"),
        }
    }

    #[test]
    fn a_token_is_sent_and_not_shown() {
        let destination = tcp("127.0.0.1:4319");
        assert!(!format!("{destination:?} {}", destination.name()).contains("SECRET"));
        let expected = "{tcp,{127,0,0,1},4319,<<\"SECRET\">>}";
        assert_eq!(destination.term().unwrap().to_string(), expected);
        let Term::Tuple(parts) = tcp("[::1]:4319").term().unwrap() else {
            panic!("no tuple");
        };
        assert_eq!(parts[1].to_string(), "{0,0,0,0,0,0,0,1}");
    }

    #[test]
    fn data_leaves_the_machine_only_when_configured() {
        let check = |destinations: Destinations, good: bool| {
            assert!(destinations.reaches(true).is_ok() && destinations.warning(true).is_none());
            match destinations.reaches(false) {
                Ok(()) => assert!(
                    good && destinations
                        .warning(false)
                        .unwrap()
                        .contains("without encryption")
                ),
                Err(error) => assert!(!good && error.to_string().contains("transport: tcp"), "{error}"),
            }
        };
        check(tcp("192.0.2.1:4319").into(), true);
        check(tcp("127.0.0.1:4319").into(), false);
        check(tcp("[::1]:4319").into(), false);
        let socket_first = Destinations {
            fallback: Some(tcp("192.0.2.1:4319")),
            ..Destinations::from(Path::new("/run/d.sock"))
        };
        check(socket_first, false);
    }

    #[test]
    fn destinations_are_found_by_the_names_that_relays_report() {
        let destinations = Destinations {
            fallback: Some(tcp("[::1]:9")),
            ..Destinations::from(Path::new("/run/d.sock"))
        };
        assert_eq!(
            destinations.named("tcp://[::1]:9"),
            destinations.fallback.as_ref()
        );
        assert_eq!(destinations.named("/run/d.sock"), Some(&destinations.first));
        assert_eq!(destinations.named("/run/other.sock"), None);
    }
}
