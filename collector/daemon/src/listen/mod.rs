//! The ways in for relays and subscribers: the local socket and, where configured, a TCP port that wants a token.
//!
//! Behind both is the same framing, the same greeting, the same limits. Each has a bound of its own on connections that have not
//! said who they are, so that silence on one door does not close the other.

pub mod handshake;
pub mod local_socket;
pub mod stream;

use crate::config::values::Secret;
use crate::listen::handshake::{Greeted, goodbye, greet, last_words};
use crate::listen::local_socket::Bound;
use crate::listen::stream::Peer;
use dichroic_wire::limits::PENDING_HANDSHAKES;
use dichroic_wire::{Goodbye, GoodbyeCode};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How long a connection waits for others to say who they are. An honest crowd, as after a restart, takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// When a refused peer may come again.
const RETRY_MS: u32 = 1_000;

/// One way in.
pub struct Door {
    listener: Listener,
    /// What peers have to show here.
    token: Option<Secret>,
    refusals: Rc<Refusals>,
}

enum Listener {
    Unix(Bound),
    Tcp(TcpListener),
}

impl Door {
    /// The local socket: who may open it is the file's business and that of the peer's user.
    pub fn unix(bound: Bound, refusals: Rc<Refusals>) -> Self {
        Door {
            listener: Listener::Unix(bound),
            token: None,
            refusals,
        }
    }

    /// A TCP port, bound here, and its real address.
    pub async fn tcp(
        address: SocketAddr,
        token: Secret,
        refusals: Rc<Refusals>,
    ) -> Result<(Self, SocketAddr), String> {
        let listener = crate::admin::http::bind(address, "security.local_tcp.listen").await?;
        let real = listener.local_addr().map_err(|e| e.to_string())?;
        let door = Door {
            listener: Listener::Tcp(listener),
            token: Some(token),
            refusals,
        };
        Ok((door, real))
    }

    /// As the configuration names it.
    pub fn name(&self) -> &'static str {
        match self.listener {
            Listener::Unix(_) => "local_socket",
            Listener::Tcp(_) => "local_tcp",
        }
    }

    /// What is asked of peers here.
    pub fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// Accepts for as long as it is polled, and hands over who has said who it is. `pages` is told to who speaks HTTP.
    pub async fn serve<F>(self, pages: String, hand_over: impl Fn(Peer, Greeted) -> F + Clone + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let room = Arc::new(Semaphore::new(PENDING_HANDSHAKES));
        let (door, pages) = (Rc::new(self), Rc::new(pages));
        loop {
            let mut peer = match door.accept().await {
                Ok(Some(peer)) => peer,
                Ok(None) => {
                    door.count(Reason::User);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(listener = door.name(), %error, "cannot accept");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(Ok(permit)) = timeout(PATIENCE, room.clone().acquire_owned()).await else {
                door.refuse_crowd(&mut peer).await;
                continue;
            };
            let (door, pages, hand_over) = (door.clone(), pages.clone(), hand_over.clone());
            tokio::task::spawn_local(async move {
                let greeted = greet(&mut peer, &door, &pages).await;
                drop(permit);
                match greeted {
                    Ok(Some(greeted)) => hand_over(peer, greeted).await,
                    Ok(None) => {}
                    Err(reason) => door.count(reason),
                }
            });
        }
    }

    /// The next connection; `None` when its user may not speak to us.
    async fn accept(&self) -> io::Result<Option<Peer>> {
        match &self.listener {
            Listener::Unix(bound) => Ok(bound.accept().await?.map(Peer::Unix)),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Frames are whole messages: waiting for more to send only delays them.
                stream.set_nodelay(true)?;
                Ok(Some(Peer::Tcp(stream)))
            }
        }
    }

    async fn refuse_crowd(&self, peer: &mut Peer) {
        let message = format!("{PENDING_HANDSHAKES} connections have not said who they are; try again");
        tracing::warn!(listener = self.name(), message, "a connection was refused");
        self.count(Reason::Limit);
        last_words(
            peer,
            &goodbye(&Goodbye::new(GoodbyeCode::Limit, RETRY_MS, &message)),
        )
        .await;
    }

    fn count(&self, reason: Reason) {
        self.refusals.count(self.name(), reason);
    }
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its user is not in `security.local_socket.allow_uids`.
    User,
    /// It has not shown the token.
    Token,
    /// Too many have not said who they are.
    Limit,
    /// It did not say who it is in time.
    Timeout,
    /// What it said is no HELLO that we answer.
    Malformed,
}

/// What each door can refuse, in words of `dichroic_connections_refused_total{listener, reason}`.
const COUNTED: [(&str, Reason, &str); 8] = [
    ("local_socket", Reason::User, "user"),
    ("local_socket", Reason::Limit, "limit"),
    ("local_socket", Reason::Timeout, "timeout"),
    ("local_socket", Reason::Malformed, "malformed"),
    ("local_tcp", Reason::Token, "token"),
    ("local_tcp", Reason::Limit, "limit"),
    ("local_tcp", Reason::Timeout, "timeout"),
    ("local_tcp", Reason::Malformed, "malformed"),
];

/// Refused connections, by door and reason.
#[derive(Debug, Default)]
pub struct Refusals([Cell<u64>; COUNTED.len()]);

impl Refusals {
    fn count(&self, listener: &str, reason: Reason) {
        let at = COUNTED
            .iter()
            .position(|row| row.0 == listener && row.1 == reason);
        if let Some(cell) = at.map(|at| &self.0[at]) {
            cell.set(cell.get() + 1);
        }
    }

    /// (listener, reason, connections), every pair that there is.
    pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let cells = COUNTED.iter().zip(&self.0);
        cells.map(|(row, cell)| (row.0, row.2, cell.get())).collect()
    }
}
