//! The gRPC and HTTP listeners: sockets in, whole bodies to [`crate::Ingest`], responses out; all on the ingest thread.
//!
//! [`bind`] opens the ports, so that a busy port is an error before anything starts. [`serve`] runs until it is stopped, then gives
//! requests in flight `stop_timeout` to finish. Both ports accept both protocols, chosen by content type, so a sender with the
//! wrong port works. Nothing here is `Send`: run it in a `LocalSet`.

mod accounted;
mod activity;
mod body;
mod budget;
mod counters;
pub mod framing;
mod grpc;
mod http;
pub mod inflate;
mod offload;
mod refusal_log;
mod request_error;
mod response;
mod sender;
mod stall;
mod state;

use crate::Ingest;
use crate::config::{Config, Limits, SourceRules};
use ::http::{HeaderMap, Request};
use accounted::Accounted;
use activity::Activity;
pub use counters::Counters;
use counters::One;
use dichroic_http_guard::{Guard, LimitedStream, Rules};
use dichroic_model::clock::now;
use dichroic_pipeline::{Core, RefusedReason};
use dichroic_tasks::{Kind, Stopped};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use request_error::RequestError;
use sender::Sender;
use state::ServerState;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

/// Interval of the check for silent sources.
const TICK: Duration = Duration::from_secs(5);
/// HTTP/2 windows. With the default of 64 KiB a large body waits for a round trip every few chunks.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME_BYTES: u32 = 1 << 20;
const HEADER_BYTES: u32 = 16 << 10;
/// Read buffer of an HTTP/1 connection; it also bounds the head of a request.
const READ_BYTES: usize = 256 << 10;
/// How long a connection without a request stays open after the receiver was stopped: for the GOAWAY, and for the last response.
const IDLE_GRACE: Duration = Duration::from_millis(250);
const PING: Duration = Duration::from_secs(30);
/// The first bytes of every HTTP/2 connection (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of every TLS connection (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for OTLP: {source}; change {key} in the configuration, or stop the process that uses the port"
)]
pub struct BindError {
    /// The configuration key to change.
    pub key: &'static str,
    /// The address in the configuration.
    pub address: SocketAddr,
    /// The operating system's error.
    pub source: std::io::Error,
}

/// The open ports.
#[derive(Debug)]
pub struct Bound {
    /// The gRPC port's address; `None` when gRPC is off.
    pub grpc: Option<SocketAddr>,
    /// The HTTP port's address; `None` when HTTP is off.
    pub http: Option<SocketAddr>,
    /// The receiver's counters, readable while it serves.
    pub counters: Rc<Counters>,
    /// With the transport that each port is for, and what keeps web pages out.
    listeners: Vec<(&'static str, TcpListener, Rc<Guard>)>,
    limits: Limits,
    sources: SourceRules,
}

/// Opens the ports.
///
/// # Errors
/// [`BindError`] names the configuration key of the port that could not be opened.
pub async fn bind(config: Config) -> Result<Bound, BindError> {
    let mut bound = Bound {
        grpc: None,
        http: None,
        counters: Rc::default(),
        listeners: Vec::new(),
        limits: config.limits,
        sources: config.sources,
    };
    let ports = [
        ("grpc", config.grpc, "receivers.otlp.grpc", &mut bound.grpc),
        ("http", config.http, "receivers.otlp.http", &mut bound.http),
    ];
    for (transport, address, key, real) in ports {
        let Some(address) = address else { continue };
        let failed = |source| BindError { key, address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        *real = Some(address);
        let rules = Rules {
            listener: transport,
            allowed_hosts: config.allowed_hosts.clone(),
            ..Rules::default()
        };
        let guard = Rc::new(Guard::new(address, rules));
        bound.listeners.push((transport, listener, guard));
    }
    Ok(bound)
}

/// Serves until `stop` is true or its sender is dropped, then gives requests in flight `limits.stop_timeout` to finish.
///
/// Connections that are still open after that are aborted and counted in [`Counters::aborted_connections`].
pub async fn serve(bound: Bound, store: Rc<RefCell<Core>>, mut stop: watch::Receiver<bool>) -> Stopped {
    let state = Rc::new(ServerState::new(
        bound.limits,
        Ingest::new(bound.sources),
        bound.counters,
        store,
    ));
    let listeners = bound.listeners.into_iter();
    let listeners = listeners
        .map(|(transport, listener, guard)| listen(transport, listener, guard, state.clone(), stop.clone()));
    let listeners: Vec<_> = listeners.collect();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = dichroic_tasks::stopped(&mut stop) => break,
            _ = tick.tick() => {
                state.ingest.borrow_mut().tick(&mut state.store.borrow_mut(), now());
            }
        }
    }
    for listener in listeners {
        let _ = listener.await;
    }
    Stopped
}

/// A port and its connections, which outlive a panic of the loop that accepts them.
struct Port {
    transport: &'static str,
    /// `None`: closed.
    listener: Option<TcpListener>,
    connections: JoinSet<()>,
    guard: Rc<Guard>,
    state: Rc<ServerState>,
    stop: watch::Receiver<bool>,
}

fn listen(
    transport: &'static str,
    listener: TcpListener,
    guard: Rc<Guard>,
    state: Rc<ServerState>,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let mut port = Port {
        transport,
        listener: Some(listener),
        connections: JoinSet::new(),
        guard,
        state,
        stop,
    };
    dichroic_tasks::restart(Kind::OtlpListener, transport.to_owned(), async move || {
        accept(&mut port).await
    })
}

/// Accepts connections until `stop` is true, then waits for the open ones, at most `limits.stop_timeout`.
async fn accept(port: &mut Port) -> Stopped {
    let Port {
        transport,
        listener: listening,
        connections,
        guard,
        state,
        stop,
    } = port;
    let transport = *transport;
    let builder = Rc::new(builder(&state.limits));
    while let Some(listener) = listening {
        let accepted = tokio::select! {
            () = dichroic_tasks::stopped(stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((_, peer)) if connections.len() >= state.limits.connections => {
                let message = format!(
                    "there are {} connections already, the most for one port; reuse connections",
                    state.limits.connections
                );
                refuse_connection(state, transport, peer.ip(), RefusedReason::Connections, message);
            }
            Ok((stream, peer)) => {
                let shared = (builder.clone(), guard.clone(), state.clone());
                let serving = connection(stream, peer.ip(), shared, stop.clone());
                dichroic_tasks::contained_in(connections, Kind::OtlpConnection, serving);
            }
            // Out of file descriptors, or the peer has disconnected: neither may end or spin the loop.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; if too many files are open, raise the open-file limit (ulimit -n)");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    *listening = None;
    let deadline = Instant::now() + state.limits.stop_timeout;
    while !connections.is_empty() {
        if timeout_at(deadline, connections.join_next()).await.is_err() {
            break;
        }
    }
    let counters = &state.counters;
    counters
        .aborted_connections
        .set(counters.aborted_connections.get() + connections.len());
    Stopped
}

/// Spawns the tasks of HTTP/2 streams on this thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        dichroic_tasks::contained(Kind::OtlpConnection, async move {
            future.await;
        });
    }
}

fn builder(limits: &Limits) -> Builder<Local> {
    let mut builder = Builder::new(Local);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(READ_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

/// Counts and logs a connection that is closed before it has a request.
fn refuse_connection(
    state: &ServerState,
    transport: &'static str,
    peer: IpAddr,
    reason: RefusedReason,
    message: impl Into<String>,
) {
    let sender = Sender::new(peer, &HeaderMap::new());
    Accounted::start(state, transport, None, sender).refused(&RequestError::new(reason, message));
}

async fn connection(
    stream: TcpStream,
    peer: IpAddr,
    (builder, guard, state): (Rc<Builder<Local>>, Rc<Guard>, Rc<ServerState>),
    mut stop: watch::Receiver<bool>,
) {
    let counters = state.counters.clone();
    let _open = One::of(&counters.open);
    let _ = stream.set_nodelay(true);
    let version = tokio::select! {
        version = timeout(state.limits.head_timeout, protocol(&stream)) => version,
        () = dichroic_tasks::stopped(&mut stop) => return,
    };
    let Ok(Ok(protocol)) = version else { return };
    let builder = (*builder).clone();
    let builder = match protocol {
        Protocol::Http2 => builder.http2_only(),
        Protocol::Http1 => builder.http1_only(),
        Protocol::Tls => {
            let message = "the sender starts a TLS handshake, and this port has no TLS; use http:// or an insecure channel";
            return refuse_connection(&state, "http", peer, RefusedReason::NotHttp, message);
        }
    };
    let io = LimitedStream::new(stream, stall::Stall(state.limits.stall_timeout));
    let (shared, activity) = (state.clone(), Rc::new(Activity::default()));
    let active = activity.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, active) = (shared.clone(), active.clone());
        let judged = guard.judge(
            request.version(),
            request.method(),
            request.uri(),
            request.headers(),
        );
        let forbidden = judged.err();
        async move {
            let _in_flight = One::of(&state.counters.in_flight);
            let _active = active.begin();
            Ok::<_, Infallible>(if grpc::is_grpc(request.headers()) {
                grpc::handle(&state, peer, request, forbidden).await
            } else {
                http::handle(&state, peer, request, forbidden).await
            })
        }
    });
    let mut serving = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = dichroic_tasks::stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                ended = serving.as_mut() => ended,
                () = activity.idle_for(IDLE_GRACE) => return,
            }
        }
    };
    if let Err(error) = ended {
        if error.downcast_ref().is_some_and(hyper::Error::is_parse) {
            let message = format!("invalid head of a request: {error}");
            refuse_connection(&state, "http", peer, RefusedReason::NotHttp, message);
        }
        tracing::debug!(%error, "OTLP connection ended with an error");
    }
}

enum Protocol {
    Http1,
    Http2,
    Tls,
}

/// The protocol of a connection, by its first bytes, which remain in the socket.
async fn protocol(stream: &TcpStream) -> std::io::Result<Protocol> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let n = stream.peek(&mut seen).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if seen[0] == TLS_HANDSHAKE {
            return Ok(Protocol::Tls);
        }
        if seen[..n] != PREFACE[..n] {
            return Ok(Protocol::Http1);
        }
        if n == PREFACE.len() {
            return Ok(Protocol::Http2);
        }
        // Waiting for readability would spin: the socket stays readable while the rest of the preface is in transit.
        sleep(Duration::from_millis(2)).await;
    }
}
