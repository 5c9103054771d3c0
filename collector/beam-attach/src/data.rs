//! Where an attached relay sends what it counts: the collector's local socket, or its TCP port with the token.
//!
//! The token goes to the node over the connection that the cookie has opened; whoever holds the cookie could read it there anyway.
//! It is never shown.

use crate::Error;
use crate::term::{Term, atom, text};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The token of a collector's TCP port.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn new(text: &str) -> Self {
        Token(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<token>")
    }
}

/// One place of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Socket(PathBuf),
    Tcp { at: SocketAddr, token: Token },
}

impl Place {
    /// As it is shown, here and by the relay.
    pub fn name(&self) -> String {
        match self {
            Place::Socket(path) => path.display().to_string(),
            Place::Tcp { at, .. } => format!("tcp://{at}"),
        }
    }

    pub(crate) fn term(&self) -> Result<Term, Error> {
        match self {
            Place::Socket(path) => {
                let text = path.to_str();
                let text = text.ok_or_else(|| {
                    Error::Usage(format!("socket {}: its path is not UTF-8", path.display()))
                })?;
                let characters = text.chars().map(|c| Term::Int(i64::from(u32::from(c))));
                Ok(Term::List(characters.collect()))
            }
            Place::Tcp { at, token } => {
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

/// Where to send, and where else when the node cannot reach that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    pub place: Place,
    pub otherwise: Option<Place>,
}

impl Data {
    /// The place of this name.
    pub fn named(&self, name: &str) -> Option<&Place> {
        let places = std::iter::once(&self.place).chain(&self.otherwise);
        places.into_iter().find(|place| place.name() == name)
    }
}

impl Data {
    /// Refuses what a node of another machine cannot reach, and what would leave this machine without being asked for by name: the
    /// connection of a relay is not encrypted, and neither is the token on it.
    pub(crate) fn reaches(&self, local: bool) -> Result<(), Error> {
        match &self.place {
            _ if local => Ok(()),
            Place::Tcp { at, .. } if !at.ip().is_loopback() => Ok(()),
            place => Err(Error::Usage(format!(
                "the node is on another machine, where its relay cannot reach {}: run `dichroic` there; or, if what is counted may cross the network without encryption, let security.local_tcp listen on an address that the node can reach and set transport: tcp (--transport tcp --tcp ADDR)",
                place.name()
            ))),
        }
    }

    /// What should be told of how the data of such a node travels.
    pub fn warning(&self, local: bool) -> Option<String> {
        (!local).then(|| {
            format!(
                "its relay sends to {} over the network, the token too, without encryption; only control uses TLS",
                self.place.name()
            )
        })
    }
}

impl From<Place> for Data {
    fn from(place: Place) -> Self {
        Data {
            place,
            otherwise: None,
        }
    }
}

impl From<&Path> for Data {
    fn from(socket: &Path) -> Self {
        Place::Socket(socket.to_owned()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(at: &str) -> Place {
        Place::Tcp {
            at: at.parse().unwrap(),
            token: Token::new("SECRET"),
        }
    }

    #[test]
    fn a_token_is_sent_and_not_shown() {
        let place = tcp("127.0.0.1:4319");
        assert!(!format!("{place:?} {}", place.name()).contains("SECRET"));
        let expected = "{tcp,{127,0,0,1},4319,<<\"SECRET\">>}";
        assert_eq!(place.term().unwrap().to_string(), expected);
        let Term::Tuple(parts) = tcp("[::1]:4319").term().unwrap() else {
            panic!("no tuple");
        };
        assert_eq!(parts[1].to_string(), "{0,0,0,0,0,0,0,1}");
    }

    #[test]
    fn data_leaves_the_machine_only_when_that_is_asked_for() {
        let check = |data: Data, good: bool| {
            assert!(data.reaches(true).is_ok() && data.warning(true).is_none());
            match data.reaches(false) {
                Ok(()) => assert!(good && data.warning(false).unwrap().contains("without encryption")),
                Err(error) => assert!(!good && error.to_string().contains("transport: tcp"), "{error}"),
            }
        };
        check(tcp("192.0.2.1:4319").into(), true);
        check(tcp("127.0.0.1:4319").into(), false);
        check(tcp("[::1]:4319").into(), false);
        let socket_first = Data {
            otherwise: Some(tcp("192.0.2.1:4319")),
            ..Data::from(Path::new("/run/d.sock"))
        };
        check(socket_first, false);
    }

    #[test]
    fn places_are_found_by_the_names_that_relays_tell() {
        let data = Data {
            otherwise: Some(tcp("[::1]:9")),
            ..Data::from(Path::new("/run/d.sock"))
        };
        assert_eq!(data.named("tcp://[::1]:9"), data.otherwise.as_ref());
        assert_eq!(data.named("/run/d.sock"), Some(&data.place));
        assert_eq!(data.named("/run/other.sock"), None);
    }
}
