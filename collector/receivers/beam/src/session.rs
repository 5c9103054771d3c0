//! One relay's connection: handshake, plans, frames, timeouts, GOODBYE. All waiting happens here; frames are applied without waiting.

use crate::config::Config;
use crate::registry::{Connection, ConnectionEnd, Registry};
use crate::relay::{FrameOutcome, Violation};
use dichroic_model::clock::now;
use dichroic_pipeline::{Core, Interest};
use dichroic_wire::control::RETRY_DEFAULT_BACKOFF;
use dichroic_wire::{CollectorHello, FrameReader, Goodbye, GoodbyeCode, Hello, RelayHello};
use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Duration, Instant, sleep_until};
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// Bytes per read.
const READ_BYTES: usize = 64 * 1024;
/// Unsent bytes at which reading pauses: back-pressure for a relay that does not read. Above the largest plan, so that a relay that is
/// busy sending cannot deadlock.
const MAX_UNSENT_BYTES: usize = 1024 * 1024 + 64 * 1024;
/// Bytes applied before the task yields.
const TURN_BYTES: usize = 1024 * 1024;
/// How often the status is published.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

struct Session<IO> {
    read: ReadHalf<IO>,
    write: WriteHalf<IO>,
    buffer: Box<[u8]>,
    reader: FrameReader,
    out: Vec<u8>,
    sent: usize,
    heard: Instant,
    /// When the incomplete frame started.
    unfinished: Option<Instant>,
    /// When writing stopped making progress.
    stuck: Option<Instant>,
}

/// Why the steady state ended.
enum SteadyEnd {
    /// The collector ends it with this GOODBYE.
    Close(Goodbye),
    /// The relay ended it, or the connection broke.
    Ended(ConnectionEnd),
}

/// Releases the node, also when the task is dropped.
struct Guard {
    registry: Registry,
    connection: Option<Rc<Connection>>,
    store: Rc<RefCell<Core>>,
}

impl Guard {
    fn release(&mut self, ended: &ConnectionEnd) {
        if let Some(connection) = self.connection.take()
            && let Ok(mut store) = self.store.try_borrow_mut()
        {
            self.registry.release(&connection, &mut store, ended, now());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.release(&ConnectionEnd::Ours(
            "connection task dropped by the collector".to_owned(),
        ));
        self.registry.exit();
    }
}

/// Serves one connection of a relay, in a span that ends with it.
pub(crate) async fn run<IO>(
    registry: Registry,
    io: IO,
    hello: Hello,
    read_ahead: &[u8],
    store: Rc<RefCell<Core>>,
) where
    IO: AsyncRead + AsyncWrite,
{
    let span = tracing::info_span!(
        "relay_session",
        otel.kind = "server",
        node = Empty,
        os_pid = Empty,
        attempt = Empty,
        rows = Empty,
        events = Empty,
        result = Empty,
    );
    serve(registry, io, hello, read_ahead, store)
        .instrument(span)
        .await;
}

async fn serve<IO>(registry: Registry, io: IO, hello: Hello, read_ahead: &[u8], store: Rc<RefCell<Core>>)
where
    IO: AsyncRead + AsyncWrite,
{
    registry.enter();
    let mut guard = Guard {
        registry: registry.clone(),
        connection: None,
        store: store.clone(),
    };
    let config = registry.config();
    let mut session = Session::new(io, &config, read_ahead);
    let mut node = None;
    let claimed = match RelayHello::read(&hello) {
        Ok(hello) => {
            node = Some(hello.node.clone());
            registry.claim(hello, &mut store.borrow_mut(), now())
        }
        Err(error) => Err(goodbye(Violation::from(error))),
    };
    let connection = match claimed {
        Ok(connection) => connection,
        Err(goodbye) => {
            Span::current().record("result", "refused");
            tracing::warn!(node, reason = %goodbye.message, "rejected a relay");
            return session.close(&config, &goodbye, None, &store).await;
        }
    };
    guard.connection = Some(connection.clone());
    session.open(&registry, &connection, &store);
    match session.steady(&registry, &connection, &store).await {
        SteadyEnd::Ended(ended) => {
            let _ = tokio::time::timeout(config.goodbye_timeout, session.flush()).await;
            guard.release(&ended);
        }
        SteadyEnd::Close(goodbye) if goodbye.code == GoodbyeCode::Shutdown => {
            session.close(&config, &goodbye, Some(&connection), &store).await;
            guard.release(&ConnectionEnd::Ours(goodbye.message));
        }
        SteadyEnd::Close(goodbye) => {
            // Another connection may claim the node while the relay still reads GOODBYE.
            guard.release(&ConnectionEnd::Ours(goodbye.message.clone()));
            session.close(&config, &goodbye, None, &store).await;
        }
    }
}

fn goodbye(violation: Violation) -> Goodbye {
    Goodbye::new(violation.code, RETRY_DEFAULT_BACKOFF, &violation.message)
}

impl<IO: AsyncRead + AsyncWrite> Session<IO> {
    fn new(io: IO, config: &Config, read_ahead: &[u8]) -> Self {
        let (read, write) = tokio::io::split(io);
        let mut reader = FrameReader::new();
        reader.hello_accepted(config.max_frame);
        reader.push(read_ahead);
        Session {
            read,
            write,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            reader,
            out: Vec::new(),
            sent: 0,
            heard: Instant::now(),
            unfinished: None,
            stuck: None,
        }
    }

    fn open(&mut self, registry: &Registry, connection: &Connection, store: &RefCell<Core>) {
        let config = registry.config();
        let mut store = store.borrow_mut();
        let hello = CollectorHello {
            unmatched: std::collections::BTreeMap::new(),
            without_sender: Vec::new(),
            agent: config.agent.clone(),
            epoch: store.epoch() as i64,
            max_frame: config.max_frame,
            position: None,
            resumed: None,
        };
        if let Err(error) = hello.to_hello().write(&mut self.out) {
            tracing::error!(%error, "cannot encode HELLO; this is a bug, please report it");
        }
        let interest = store.interest(now()).clone();
        let mut relay = connection.relay.borrow_mut();
        relay.plan(
            &config,
            &interest,
            registry.next_generation(),
            now(),
            &mut self.out,
        );
        relay.report_streams(&mut store, now());
        let hello = relay.hello();
        Span::current()
            .record("node", &hello.node)
            .record("os_pid", hello.os_pid)
            .record("attempt", hello.attempt);
        tracing::info!(node = %hello.node, os_pid = hello.os_pid, otp = %hello.otp, telemetry = %hello.telemetry,
            attempt = hello.attempt, "relay connected");
        drop(relay);
        registry.show(connection);
    }

    async fn steady(
        &mut self,
        registry: &Registry,
        connection: &Connection,
        store: &RefCell<Core>,
    ) -> SteadyEnd {
        let mut plans = Plans::new(registry, store);
        let mut shown = Instant::now();
        let mut turn = 0;
        let every = registry.config().check_every;
        let mut tick = pin!(sleep_until(Instant::now() + every));
        if let Some(end) = self.apply(connection, store) {
            return end;
        }
        loop {
            if let Some(goodbye) = connection.goodbye() {
                return SteadyEnd::Close(goodbye);
            }
            tokio::select! {
                biased;
                () = connection.wake.notified() => {}
                () = &mut tick => {
                    tick.as_mut().reset(Instant::now() + every);
                    if let Some(goodbye) = self.overdue(&registry.config()) {
                        return SteadyEnd::Close(goodbye);
                    }
                    // At most one plan is unsent.
                    if self.sent == self.out.len() {
                        plans.check(registry, connection, store, &mut self.out);
                    }
                    if shown.elapsed() >= STATUS_INTERVAL {
                        shown = Instant::now();
                        registry.show(connection);
                    }
                }
                written = self.write.write(&self.out[self.sent..]), if self.sent < self.out.len() => {
                    match written {
                        Ok(n) if n > 0 => self.wrote(n),
                        Ok(_) => return SteadyEnd::Ended(ConnectionEnd::Crash("connection closed without GOODBYE".to_owned())),
                        Err(error) => return SteadyEnd::Ended(ConnectionEnd::Crash(error.to_string())),
                    }
                }
                read = self.read.read(&mut self.buffer), if self.out.len() - self.sent < MAX_UNSENT_BYTES => {
                    let n = match read {
                        Ok(0) => return SteadyEnd::Ended(ConnectionEnd::Crash("connection closed without GOODBYE".to_owned())),
                        Ok(n) => n,
                        Err(error) => return SteadyEnd::Ended(ConnectionEnd::Crash(error.to_string())),
                    };
                    self.heard = Instant::now();
                    self.reader.push(&self.buffer[..n]);
                    if let Some(end) = self.apply(connection, store) {
                        return end;
                    }
                    turn += n;
                }
            }
            if turn >= TURN_BYTES {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Applies every complete frame.
    fn apply(&mut self, connection: &Connection, store: &RefCell<Core>) -> Option<SteadyEnd> {
        let now = now();
        let mut store = store.borrow_mut();
        let mut relay = connection.relay.borrow_mut();
        loop {
            let violation = match self.reader.next() {
                Ok(Some(frame)) => match relay.frame(&mut store, frame, now, &mut self.out) {
                    Ok(FrameOutcome::Continue) => {
                        self.unfinished = None;
                        continue;
                    }
                    Ok(FrameOutcome::Goodbye(goodbye)) => {
                        let message = format!("GOODBYE {}: {}", goodbye.code, goodbye.message);
                        return Some(SteadyEnd::Ended(ConnectionEnd::Goodbye(message)));
                    }
                    Err(violation) => violation,
                },
                Ok(None) => break,
                Err(error) => Violation::from(error),
            };
            tracing::warn!(node = %relay.hello().node, reason = %violation.message, "relay sent invalid data; closing its connection");
            return Some(SteadyEnd::Close(goodbye(violation)));
        }
        match self.reader.pending() {
            0 => self.unfinished = None,
            _ => {
                self.unfinished.get_or_insert_with(Instant::now);
            }
        }
        None
    }

    fn wrote(&mut self, n: usize) {
        self.sent += n;
        self.stuck = None;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
    }

    /// The GOODBYE for an exceeded timeout.
    fn overdue(&mut self, config: &Config) -> Option<Goodbye> {
        let silence = config.silence.max(3 * config.flush_interval);
        let waiting = self.sent < self.out.len();
        let stuck = waiting.then(|| *self.stuck.get_or_insert_with(Instant::now));
        let late =
            |since: Option<Instant>, limit: Duration| since.is_some_and(|since| since.elapsed() > limit);
        let goodbye = |code, message: String| Some(Goodbye::new(code, RETRY_DEFAULT_BACKOFF, &message));
        if late(stuck, config.frame_timeout) {
            return goodbye(
                GoodbyeCode::Slow,
                format!("no data read by the relay for {:?}", config.frame_timeout),
            );
        }
        if late(self.unfinished, config.frame_timeout) {
            return goodbye(
                GoodbyeCode::Timeout,
                format!("frame not complete after {:?}", config.frame_timeout),
            );
        }
        if self.heard.elapsed() > silence {
            return goodbye(GoodbyeCode::Timeout, format!("no data received for {silence:?}"));
        }
        None
    }

    async fn flush(&mut self) {
        while self.sent < self.out.len() {
            match self.write.write(&self.out[self.sent..]).await {
                Ok(n) if n > 0 => self.wrote(n),
                _ => return,
            }
        }
    }

    /// Sends GOODBYE and keeps reading until the end or the timeout, so that the peer receives the message instead of a reset. With
    /// `connection`, the last flush is applied and confirmed.
    async fn close(
        &mut self,
        config: &Config,
        goodbye: &Goodbye,
        connection: Option<&Connection>,
        store: &RefCell<Core>,
    ) {
        if goodbye.write(&mut self.out).is_err() {
            return;
        }
        let drain = async {
            loop {
                self.flush().await;
                match self.read.read(&mut self.buffer).await {
                    Ok(n) if n > 0 => {
                        let Some(connection) = connection else { continue };
                        self.reader.push(&self.buffer[..n]);
                        if self.apply(connection, store).is_some() {
                            return;
                        }
                    }
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(config.goodbye_timeout, drain).await;
        let _ = self.write.shutdown().await;
    }
}

/// Detects when a new plan is due: changed subscriptions, configuration or variables of the node.
struct Plans {
    revision: u64,
    interest: Interest,
    /// When variables last caused a plan.
    replanned: Option<Instant>,
}

impl Plans {
    fn new(registry: &Registry, store: &RefCell<Core>) -> Self {
        let mut store = store.borrow_mut();
        Plans {
            revision: registry.revision(),
            interest: store.interest(now()).clone(),
            replanned: None,
        }
    }

    fn check(
        &mut self,
        registry: &Registry,
        connection: &Connection,
        store: &RefCell<Core>,
        out: &mut Vec<u8>,
    ) {
        let mut store = store.borrow_mut();
        let interest = store.interest(now());
        let reloaded = self.revision != registry.revision();
        let mut requested = false;
        let changed = self.interest.generation != interest.generation;
        if changed {
            requested = self.interest.events != interest.events || self.interest.logs != interest.logs;
            self.interest.clone_from(interest);
        }
        let mut relay = connection.relay.borrow_mut();
        relay.resolve_again(&mut store, now());
        let config = registry.config();
        let rested = self
            .replanned
            .is_none_or(|last| last.elapsed() >= config.replan_every);
        let found = relay.is_stale() && rested;
        let reconfigure = reloaded || found;
        if !reconfigure && !requested {
            if changed {
                relay.covers(&mut store, self.interest.generation, now());
            }
            return;
        }
        if found {
            self.replanned = Some(Instant::now());
        }
        if reconfigure {
            self.revision = registry.revision();
            relay.configure(&mut store, &config);
        }
        if reconfigure || relay.streams_differ(&config, &self.interest) {
            relay.plan(&config, &self.interest, registry.next_generation(), now(), out);
            relay.report_streams(&mut store, now());
        } else {
            relay.covers(&mut store, self.interest.generation, now());
        }
    }
}
