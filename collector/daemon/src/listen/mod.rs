//! The listeners of relays and subscribers: the local socket and, if configured, a TCP port that requires a token.
//!
//! Both have the same framing, handshake and limits. Each has its own limit of pending handshakes, so that idle connections to one do
//! not block the other. They run on the main thread: a flood of connections does not delay the receivers.

pub mod directory;
pub mod handshake;
pub mod local_socket;
pub mod refused;
pub mod stream;
pub mod tcp;

use crate::config::values::Secret;
use crate::listen::handshake::{Accepted, Terms, close_with, goodbye_frame, handshake};
use crate::listen::local_socket::Bound;
use crate::listen::refused::{Reason, Refusals};
use crate::listen::stream::LocalStream;
use dichroic_tasks::{Kind, Stopped};
use dichroic_wire::limits::PENDING_HANDSHAKES;
use dichroic_wire::{Goodbye, GoodbyeCode};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a new connection waits while there are too many pending handshakes. When all peers reconnect after a restart, their
/// handshakes take milliseconds.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after an error of accept, such as too few file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Reconnect delay of a peer that was refused because of the limit.
const RETRY_MS: u32 = 1_000;
/// When a peer whose user was refused may reconnect: the configuration must change first.
const USER_RETRY_MS: u32 = 60_000;

/// A bound listener.
pub struct Listener {
    socket: Socket,
    /// Required in every HELLO.
    token: Option<Secret>,
    refusals: Arc<Refusals>,
}

enum Socket {
    Unix(Bound),
    Tcp(TcpListener),
}

impl Listener {
    /// The local socket. Access depends on the file mode and the peer's user.
    pub fn unix(bound: Bound, refusals: Arc<Refusals>) -> Self {
        Listener {
            socket: Socket::Unix(bound),
            token: None,
            refusals,
        }
    }

    /// The TCP port.
    pub fn tcp(listener: TcpListener, token: Secret, refusals: Arc<Refusals>) -> Self {
        Listener {
            socket: Socket::Tcp(listener),
            token: Some(token),
            refusals,
        }
    }

    /// Its name in the configuration.
    fn name(&self) -> &'static str {
        match self.socket {
            Socket::Unix(_) => "local_socket",
            Socket::Tcp(_) => "local_tcp",
        }
    }

    /// Accepts until the task is aborted, and passes each connection to `serve` after its handshake. `page` is the address of the page,
    /// for peers that send HTTP requests.
    pub fn start<F>(
        self,
        page: Option<SocketAddr>,
        serve: impl Fn(LocalStream, Accepted) -> F + Clone + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + 'static,
    {
        let handshakes = Arc::new(Semaphore::new(PENDING_HANDSHAKES));
        let listener = Rc::new(self);
        let name = listener.name().to_owned();
        dichroic_tasks::restart(Kind::LocalListener, name, async move || {
            listener.run(&handshakes, page, &serve).await
        })
    }

    async fn run<F>(
        self: &Rc<Self>,
        handshakes: &Arc<Semaphore>,
        page: Option<SocketAddr>,
        serve: &(impl Fn(LocalStream, Accepted) -> F + Clone + 'static),
    ) -> Stopped
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = self;
        loop {
            let mut stream = match listener.accept().await {
                Ok((stream, None)) => stream,
                Ok((stream, Some(message))) => {
                    listener.count(Reason::User);
                    // Too many at once are closed without an answer.
                    if let Ok(permit) = handshakes.clone().try_acquire_owned() {
                        let refuse = refuse_user(stream, message, permit);
                        dichroic_tasks::contained(Kind::LocalConnection, refuse);
                    }
                    continue;
                }
                Err(error) => {
                    tracing::warn!(listener = listener.name(), %error, "cannot accept a connection; if too many files are open, raise the open-file limit (ulimit -n)");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let admitted = timeout(ADMISSION_TIMEOUT, handshakes.clone().acquire_owned()).await;
            let Ok(Ok(permit)) = admitted else {
                listener.refuse_for_limit(&mut stream).await;
                continue;
            };
            let (listener, serve) = (listener.clone(), serve.clone());
            dichroic_tasks::contained(Kind::LocalConnection, async move {
                let terms = Terms {
                    listener: listener.name(),
                    token: listener.token.as_ref(),
                    page,
                };
                let accepted = handshake(&mut stream, terms).await;
                drop(permit);
                match accepted {
                    Ok(Some(accepted)) => serve(stream, accepted).await,
                    Ok(None) => {}
                    Err(reason) => listener.count(reason),
                }
            });
        }
    }

    /// The next connection, and why its user is not allowed.
    async fn accept(&self) -> io::Result<(LocalStream, Option<String>)> {
        match &self.socket {
            Socket::Unix(bound) => {
                let (stream, refusal) = bound.accept().await?;
                Ok((LocalStream::Unix(stream), refusal))
            }
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Each write is a whole frame: Nagle's algorithm would only delay it.
                stream.set_nodelay(true)?;
                Ok((LocalStream::Tcp(stream), None))
            }
        }
    }

    async fn refuse_for_limit(&self, stream: &mut LocalStream) {
        let message = format!("too many pending handshakes ({PENDING_HANDSHAKES}); retry later");
        let peer = stream.peer();
        tracing::warn!(
            listener = self.name(),
            uid = peer.uid,
            pid = peer.pid,
            peer = peer.address,
            reason = message,
            "refused a connection"
        );
        self.count(Reason::Limit);
        let goodbye = Goodbye::new(GoodbyeCode::Limit, RETRY_MS, &message);
        close_with(stream, &goodbye_frame(&goodbye)).await;
    }

    fn count(&self, reason: Reason) {
        self.refusals.count(self.name(), reason);
    }
}

async fn refuse_user(mut stream: LocalStream, message: String, _permit: OwnedSemaphorePermit) {
    let goodbye = Goodbye::new(GoodbyeCode::Unauthorized, USER_RETRY_MS, &message);
    close_with(&mut stream, &goodbye_frame(&goodbye)).await;
}
