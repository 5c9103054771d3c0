//! The main thread's part: the listeners of relays and subscribers, the Prometheus page, health, the admin API, streams.
//!
//! It accesses the store only through a handle, so nothing here can block a receiver.

use crate::admin::connection::WriteLimits;
use crate::admin::forbidden::HttpGuard;
use crate::admin::http;
use crate::admin::pages::Pages;
use crate::admin::responses::Responses;
use crate::admin::server::{AdminServer, lint_config};
use crate::attach::status::AttachBoard;
use crate::config::Config;
use crate::config::loaded::Loaded;
use crate::config::selection::selection;
use crate::config::values::Listen;
use crate::listen::handshake::{Accepted, close_with, goodbye_frame};
use crate::listen::refused::{Reason, Refusals};
use crate::listen::stream::LocalStream;
use crate::listen::{Listener, local_socket, tcp};
use crate::runtime::error::RunError;
use crate::runtime::handoff::{PENDING_RELAYS, RelayConnection};
use crate::runtime::ingest_thread::IngestHandles;
use crate::runtime::shutdown::Stop;
use crate::self_telemetry::Stages;
use dichroic_exporter_prometheus as prometheus;
use dichroic_exporter_stream as stream;
use dichroic_wire::{Goodbye, GoodbyeCode, Role, SubscriberHello};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The store aborts a copy of its series that takes longer.
const LONGEST_COPY: Duration = Duration::from_secs(30);
/// Reconnect delay of a relay that is refused because too many relays wait for the ingest thread.
const RELAY_RETRY_MS: u32 = 1_000;

/// What the main thread needs.
pub struct MainThread<'a> {
    /// The configuration at the start.
    pub config: &'a Config,
    /// The running ingest thread.
    pub ingest: &'a IngestHandles,
    /// State of the nodes of `receivers.beam.attach`.
    pub attachments: AttachBoard,
    /// Relays, to the ingest thread.
    pub relays: mpsc::Sender<RelayConnection>,
    /// Counts pages and responses that were cut off.
    pub responses: Arc<Responses>,
    /// Counts refused connections.
    pub refusals: Arc<Refusals>,
    /// When to stop.
    pub stop: Stop,
    /// Latencies, measured by both threads.
    pub stages: Stages,
    /// Reloaded configurations.
    pub reload: watch::Receiver<Option<Arc<Loaded>>>,
}

/// The main thread's running listeners and exporters.
pub struct Serving {
    /// Address of the Prometheus page.
    pub prometheus: Option<SocketAddr>,
    /// Address of the admin API.
    pub admin: Option<SocketAddr>,
    /// Path of the local socket.
    pub socket: PathBuf,
    /// Real address of `security.local_tcp`.
    pub local_tcp: Option<SocketAddr>,
    listeners: Vec<JoinHandle<()>>,
    ready: Rc<Cell<bool>>,
    streams: stream::Exporter,
}

impl Serving {
    /// Makes `/readyz` answer 503.
    pub fn not_ready(&self) {
        self.ready.set(false);
    }

    /// Stops accepting relays and subscribers. Connected ones are not affected.
    pub fn stop_accepting(&self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }

    /// Sends subscribers their queued rows.
    pub async fn finish(&self, deadline: Duration) {
        if !self.streams.shutdown(deadline).await {
            tracing::warn!(
                "shutdown deadline reached; rows that were queued for slow subscribers are lost; raise limits.shutdown to wait longer"
            );
        }
    }
}

impl MainThread<'_> {
    /// Binds and starts everything. Must run in a `LocalSet`.
    pub async fn start(self) -> Result<Serving, RunError> {
        let config = self.config;
        let streams = stream::Exporter::new(
            self.ingest.store.clone(),
            stream::Config {
                subscribers: config.limits.subscribers.0,
                ..stream::Config::default()
            },
        );
        let prometheus = bind(&config.exporters.prometheus.listen, "exporters.prometheus.listen").await?;
        let admin = bind(&config.admin.listen, "admin.listen").await?;
        let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|l| l.local_addr().ok());
        let (prometheus_address, admin_address) = (address(&prometheus), address(&admin));
        let ready = Rc::new(Cell::new(true));
        let pages = Rc::new(Pages {
            exporter: self.page_exporter(),
            responses: self.responses.clone(),
            core: self.ingest.store.clone(),
            ready: ready.clone(),
            stage: self.stages.page.clone(),
        });
        if let Some(listener) = prometheus {
            self.serve_pages(listener, pages.clone());
        }
        if let Some(listener) = admin {
            self.serve_admin(listener, pages, streams.clone())?;
        }
        let socket = local_socket::bind(&config.security.local_socket)?;
        let path = socket.path.clone();
        let mut listeners = vec![Listener::unix(socket, self.refusals.clone())];
        let mut local_tcp = None;
        let tcp = config.security.tcp();
        if let Some((address, token)) = tcp.map_err(|error| RunError::Config(error.to_string()))? {
            let listener = tcp::bind(address, "security.local_tcp.listen").await?;
            local_tcp = listener.local_addr().ok();
            listeners.push(Listener::tcp(listener, token, self.refusals.clone()));
        }
        let serving = Serving {
            prometheus: prometheus_address,
            admin: admin_address,
            socket: path,
            local_tcp,
            listeners: self.listen(listeners, &streams),
            ready,
            streams,
        };
        Ok(serving)
    }

    fn page_exporter(&self) -> prometheus::Pages {
        let limits = prometheus::pages::Limits {
            renderings: self.config.exporters.prometheus.max_renderings.0,
            page_time: self.config.limits.response_time.0.min(LONGEST_COPY),
        };
        prometheus::Pages::new(self.ingest.store.clone(), self.ingest.budget.clone(), limits)
    }

    fn write_limits(&self, listener: &'static str) -> WriteLimits {
        WriteLimits {
            stall: self.config.limits.write_stall.0,
            response: self.config.limits.response_time.0,
            listener,
            responses: self.responses.clone(),
        }
    }

    fn serve_pages(&self, listener: TcpListener, pages: Rc<Pages>) {
        let guard = Rc::new(HttpGuard::of_page(&listener, self.config, self.refusals.clone()));
        let handler = move |request| {
            let (pages, guard) = (pages.clone(), guard.clone());
            async move {
                match guard.refuse(&request) {
                    Some(answer) => answer,
                    None => pages.answer(&request).await,
                }
            }
        };
        let limits = self.write_limits("prometheus");
        http::start(listener, handler, limits, self.stop.exporters.clone());
    }

    fn serve_admin(
        &self,
        listener: TcpListener,
        pages: Rc<Pages>,
        streams: stream::Exporter,
    ) -> Result<(), RunError> {
        let selection = selection(self.config).map_err(|error| RunError::Config(error.to_string()))?;
        let admin = Rc::new(AdminServer {
            core: self.ingest.store.clone(),
            targets: self.ingest.targets.clone(),
            relays: self.ingest.relays.clone(),
            attachments: self.attachments.clone(),
            streams,
            pages,
            stages: self.stages.clone(),
            config: self.config.admin.clone(),
            guard: HttpGuard::of_admin(&listener, self.config, self.refusals.clone()),
            lint: lint_config(self.config, selection),
            reload: self.reload.clone(),
        });
        let handler = move |request| {
            let admin = admin.clone();
            async move { admin.answer(request).await }
        };
        let limits = self.write_limits("admin");
        http::start(listener, handler, limits, self.stop.exporters.clone());
        Ok(())
    }

    fn listen(&self, listeners: Vec<Listener>, streams: &stream::Exporter) -> Vec<JoinHandle<()>> {
        let page = self.config.exporters.prometheus.listen.address();
        let serve = |listener: Listener| {
            let (streams, relays, refusals) = (streams.clone(), self.relays.clone(), self.refusals.clone());
            let serve = move |stream, accepted| {
                serve(
                    stream,
                    accepted,
                    streams.clone(),
                    relays.clone(),
                    refusals.clone(),
                )
            };
            listener.start(page, serve)
        };
        listeners.into_iter().map(serve).collect()
    }
}

async fn bind(listen: &Listen, key: &'static str) -> Result<Option<TcpListener>, tcp::BindError> {
    match listen.address() {
        None => Ok(None),
        Some(address) => tcp::bind(address, key).await.map(Some),
    }
}

/// Serves a subscriber here; a relay goes to the ingest thread.
async fn serve(
    mut stream: LocalStream,
    accepted: Accepted,
    streams: stream::Exporter,
    relays: mpsc::Sender<RelayConnection>,
    refusals: Arc<Refusals>,
) {
    let Accepted { hello, read_ahead } = accepted;
    if hello.role != Role::Relay {
        let asked = SubscriberHello::read(&hello)
            .ok()
            .and_then(|hello| hello.subscribe);
        if let Some(rows) = asked.and_then(|subscribe| subscribe.buffer) {
            stream.limit_send_buffer(rows);
        }
        return streams.serve_subscriber(stream, &hello, &read_ahead).await;
    }
    let Ok(room) = relays.try_reserve() else {
        let message = format!("{PENDING_RELAYS} relays wait for the ingest thread; retry later");
        let (listener, peer) = (stream.listener(), stream.peer());
        tracing::warn!(
            listener,
            uid = peer.uid,
            pid = peer.pid,
            peer = peer.address,
            reason = message,
            "refused a connection"
        );
        refusals.count(listener, Reason::Limit);
        let goodbye = Goodbye::new(GoodbyeCode::Limit, RELAY_RETRY_MS, &message);
        return close_with(&mut stream, &goodbye_frame(&goodbye)).await;
    };
    if let Ok(stream) = stream.into_std() {
        room.send(RelayConnection {
            stream,
            hello,
            read_ahead,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_pipeline::inbox;
    use dichroic_wire::{FrameReader, FrameType, Hello, Map};
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_relay_that_finds_the_channel_to_the_ingest_thread_full_is_refused_and_counted() {
        let (handle, _inbox) = inbox();
        let (relays, _receiver) = mpsc::channel(1);
        let _full = relays.clone().try_reserve_owned().unwrap();
        let refusals = Arc::new(Refusals::default());
        let (mut relay, stream) = UnixStream::pair().unwrap();
        let accepted = Accepted {
            hello: Hello::new(Role::Relay, Map::default()),
            read_ahead: Vec::new(),
        };
        let serve = serve(
            LocalStream::Unix(stream),
            accepted,
            stream::Exporter::new(handle, stream::Config::default()),
            relays,
            refusals.clone(),
        );
        let read = async {
            let mut bytes = Vec::new();
            relay.read_to_end(&mut bytes).await.map(|_| bytes)
        };
        let ((), bytes) = tokio::join!(serve, read);
        let mut reader = FrameReader::new();
        reader.push(&bytes.unwrap());
        let frame = reader.next().unwrap().unwrap();
        assert_eq!(frame.frame_type, FrameType::Goodbye);
        let goodbye = Goodbye::decode(frame.body).unwrap();
        assert_eq!(
            (goodbye.code, goodbye.retry_ms),
            (GoodbyeCode::Limit, RELAY_RETRY_MS)
        );
        assert!(refusals.read().contains(&("local_socket", "limit", 1)));
        assert_eq!(refusals.read().iter().map(|(.., n)| n).sum::<u64>(), 1);
    }
}
