//! The two ports: sockets in, whole bodies to [`Ingest`], answers out; all on the ingest thread.
//!
//! [`bind`] takes the ports, so that a busy one is known before anything starts; [`serve`] runs until it is told to stop, then lets
//! requests in flight finish within `stop_timeout`. Both ports understand both protocols, told apart by the content type: a sender
//! pointed to the wrong one works. Nothing here is `Send`: run it in a `LocalSet`.

mod body;
mod budget;
mod counters;
mod grpc;
mod http;
mod inflate;
mod io;
mod offload;
mod response;

use crate::config::{Config, Limits};
use crate::protobuf::ProtobufError;
use crate::{Checked, Ingest, RequestOutcome, Service};
use body::RequestError;
use budget::{Budget, Share};
use bytes::Bytes;
use counters::One;
pub use counters::{Counters, Verdict};
use dichroic_model::clock::now;
use dichroic_pipeline::Store;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use inflate::{Encoding, InflateError, inflate};
use offload::Offload;
use response::GrpcCode;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};

/// Bytes applied between two looks at other tasks: below a millisecond of work.
const STEP_BYTES: usize = 1 << 20;
/// How often silent sources are looked for.
const TICK: Duration = Duration::from_secs(5);
/// HTTP/2 windows: with the default of 64 KiB a large body waits for a round trip every few chunks.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const FRAME_BYTES: u32 = 1 << 20;
const HEADER_BYTES: u32 = 16 << 10;
/// What one HTTP/1 connection reads ahead, which also bounds the head of a request.
const READ_BYTES: usize = 256 << 10;
const PING: Duration = Duration::from_secs(30);
/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A port could not be taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for OTLP: {source}; change {key} in the configuration, or stop what uses the port"
)]
pub struct BindError {
    /// The configuration key to change.
    pub key: &'static str,
    /// What was asked for.
    pub address: SocketAddr,
    /// Why not.
    pub source: std::io::Error,
}

/// The ports, taken.
#[derive(Debug)]
pub struct Bound {
    /// Where gRPC is expected.
    pub grpc: Option<SocketAddr>,
    /// Where HTTP is expected.
    pub http: Option<SocketAddr>,
    /// What will be counted.
    pub counters: Rc<Counters>,
    listeners: Vec<TcpListener>,
    limits: Limits,
}

/// Takes the ports.
///
/// # Errors
/// [`BindError`] names the configuration key of the port that could not be taken.
pub async fn bind(config: Config) -> Result<Bound, BindError> {
    let mut bound = Bound {
        grpc: None,
        http: None,
        counters: Rc::default(),
        listeners: Vec::new(),
        limits: config.limits,
    };
    let ports = [
        (config.grpc, "receivers.otlp.grpc", &mut bound.grpc),
        (config.http, "receivers.otlp.http", &mut bound.http),
    ];
    for (address, key, real) in ports {
        let Some(address) = address else { continue };
        let failed = |source| BindError { key, address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        *real = Some(listener.local_addr().map_err(failed)?);
        bound.listeners.push(listener);
    }
    Ok(bound)
}

/// What all requests share.
struct ServerState {
    store: Rc<RefCell<Store>>,
    ingest: RefCell<Ingest>,
    budget: Budget,
    offload: Offload,
    limits: Limits,
    counters: Rc<Counters>,
}

impl ServerState {
    /// Applies a body, giving way to other tasks every [`STEP_BYTES`].
    async fn ingest(&self, service: Service, body: Bytes) -> Result<RequestOutcome, RequestError> {
        let short = body.len() <= STEP_BYTES;
        let checked = self.offload.run(short, move || Checked::new(service, body)).await;
        let checked = checked.map_err(|malformed| match malformed.broken {
            ProtobufError::TooMany => {
                RequestError::new(413, GrpcCode::ResourceExhausted, malformed.to_string())
            }
            _ => RequestError::bad(malformed.to_string()),
        })?;
        let mut request = self
            .ingest
            .borrow_mut()
            .begin_checked(&self.store.borrow(), checked);
        loop {
            let outcome = {
                let (mut ingest, mut store) = (self.ingest.borrow_mut(), self.store.borrow_mut());
                ingest.step(&mut store, &mut request, STEP_BYTES, now())
            };
            match outcome {
                Some(outcome) => return Ok(outcome),
                None => tokio::task::yield_now().await,
            }
        }
    }
}

impl ServerState {
    /// A body out of its compression, its bytes taken from the budget; what it is and which header says so stand in the error.
    async fn inflate(
        &self,
        encoding: Encoding,
        body: Bytes,
        share: &mut Share,
        (what, header): (&str, &str),
    ) -> Result<Bytes, RequestError> {
        let max = self.limits.request_bytes;
        let little = max.min(STEP_BYTES);
        // How large it becomes shows only when it is done: at first it may become no more than what is done quickly.
        let mut inflated = Err(InflateError::TooLarge);
        if body.len() <= little {
            inflated = inflate(encoding, &body, little);
        }
        if inflated == Err(InflateError::TooLarge) && (little < max || body.len() > little) {
            let work = move || inflate(encoding, &body, max);
            inflated = self.offload.run(false, work).await;
        }
        let inflated = inflated.map_err(|failed| match failed {
            InflateError::TooLarge => RequestError::too_large(&self.limits),
            InflateError::Corrupt => {
                RequestError::bad(format!("the {what} is not {encoding:?} as its {header} says"))
            }
        })?;
        share.take(inflated.len())?;
        Ok(inflated.into())
    }
}

/// Serves until `stop` turns true or its sender is gone, then lets requests in flight finish for `limits.stop_timeout`.
///
/// Connections that had to be cut off are in [`Counters::aborted_connections`].
pub async fn serve(bound: Bound, store: Rc<RefCell<Store>>, mut stop: watch::Receiver<bool>) {
    let state = Rc::new(ServerState {
        store,
        ingest: RefCell::default(),
        budget: Budget::new(bound.limits.in_flight_bytes),
        offload: Offload::new(),
        limits: bound.limits,
        counters: bound.counters,
    });
    let mut accepting = JoinSet::new();
    for listener in bound.listeners {
        accepting.spawn_local(accept(listener, state.clone(), stop.clone()));
    }
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = tick.tick() => {
                state.ingest.borrow_mut().tick(&mut state.store.borrow_mut(), now());
            }
        }
    }
    while accepting.join_next().await.is_some() {}
}

/// Accepts until told to stop, then waits for the connections as long as allowed.
async fn accept(listener: TcpListener, state: Rc<ServerState>, mut stop: watch::Receiver<bool>) {
    let builder = Rc::new(builder(&state.limits));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(_) if connections.len() >= state.limits.connections => {
                state
                    .counters
                    .rejected_connections
                    .set(state.counters.rejected_connections.get() + 1);
            }
            Ok((stream, _)) => {
                connections.spawn_local(connection(stream, builder.clone(), state.clone(), stop.clone()));
            }
            // Out of file descriptors, or a peer that left already: neither may end or spin the loop.
            Err(error) => {
                tracing::warn!(%error, "an OTLP connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
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
}

/// Tasks of HTTP/2 streams, on this thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
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

async fn connection(
    stream: TcpStream,
    builder: Rc<Builder<Local>>,
    state: Rc<ServerState>,
    mut stop: watch::Receiver<bool>,
) {
    let counters = state.counters.clone();
    let _open = One::of(&counters.open);
    let _ = stream.set_nodelay(true);
    let version = tokio::select! {
        version = timeout(state.limits.head_timeout, is_http2(&stream)) => version,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let Ok(Ok(http2)) = version else { return };
    let builder = (*builder).clone();
    let builder = if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    };
    let io = io::Watched::new(stream, state.limits.stall_timeout);
    let service = service_fn(move |request| {
        let state = state.clone();
        async move {
            let _in_flight = One::of(&state.counters.in_flight);
            Ok::<_, Infallible>(if grpc::is_grpc(request.headers()) {
                grpc::answer(&state, request).await
            } else {
                http::answer(&state, request).await
            })
        }
    });
    let mut serving = pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        _ = stop.wait_for(|stop| *stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an OTLP connection ended badly");
    }
}

/// Whether the peer speaks HTTP/2, from its first bytes, which stay in the socket.
async fn is_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let n = stream.peek(&mut seen).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if seen[..n] != PREFACE[..n] || n == PREFACE.len() {
            return Ok(n == PREFACE.len() && seen == *PREFACE);
        }
        // The socket stays readable while the rest of the preface is on its way.
        sleep(Duration::from_millis(2)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_model::Limits as StoreLimits;
    use std::io::Write;
    use std::sync::Arc;

    fn state() -> Rc<ServerState> {
        let store = Store::new(StoreLimits::default(), Arc::new(dichroic_model::Identity), 1);
        let limits = Limits::default();
        Rc::new(ServerState {
            store: Rc::new(RefCell::new(store)),
            ingest: RefCell::default(),
            budget: Budget::new(limits.in_flight_bytes),
            offload: Offload::new(),
            limits,
            counters: Rc::default(),
        })
    }

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory takes all");
        encoder.finish().expect("memory takes all").into()
    }

    /// A field that nobody knows, of so many bytes: a good request without an item.
    fn nothing(bytes: usize) -> Vec<u8> {
        let mut body = Vec::new();
        crate::protobuf::put_bytes(&mut body, 15, &vec![0; bytes]);
        body
    }

    async fn take(state: Rc<ServerState>, body: Bytes) -> Result<RequestOutcome, u16> {
        let mut share = state.budget.share();
        let inflated = state.inflate(Encoding::Gzip, body, &mut share, ("body", "header"));
        let body = inflated.await.map_err(|error| error.http)?;
        let taken = state.ingest(Service::Metrics, body).await;
        taken.map_err(|error| error.http)
    }

    #[test]
    fn while_a_large_body_is_worked_on_others_are_answered() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            let state = state();
            let (good, broken) = (
                nothing(2 * STEP_BYTES),
                [&nothing(2 * STEP_BYTES)[..], &[7]].concat(),
            );
            let large = |body: &[u8]| tokio::task::spawn_local(take(state.clone(), gzip(body)));
            let working = state.offload.occupy().await;
            let (good, broken, bomb) = (large(&good), large(&broken), large(&vec![0; 65 << 20]));
            for _ in 0..100 {
                let small = take(state.clone(), gzip(&nothing(100))).await;
                assert_eq!(small, Ok(RequestOutcome::default()));
                tokio::task::yield_now().await;
            }
            let waiting = [&good, &broken].iter().all(|large| !large.is_finished());
            assert!(waiting, "large bodies are not worked on here");
            drop(working);
            assert_eq!(good.await.expect("no panic"), Ok(RequestOutcome::default()));
            assert_eq!(broken.await.expect("no panic"), Err(400));
            assert_eq!(bomb.await.expect("no panic"), Err(413));
            assert!(
                state.budget.share().grow(state.limits.in_flight_bytes),
                "all bytes came back"
            );
        });
    }
}
