//! The ingest thread: every receiver, the store, and nothing else that takes long.
//!
//! One tokio runtime with one thread. Receivers run as tasks on it and write into the store synchronously; between requests the
//! thread serves reads ([`dichroic_pipeline::serve`]), lets due series leave, and reads the collector's own metrics.

use crate::config::Config;
use crate::config::loaded::Loaded;
use crate::config::selection::selection;
use crate::listen::handshake::Greeted;
use crate::listen::local_socket;
use crate::listen::stream::Peer;
use crate::listen::{Door, Refusals};
use crate::runtime::handoff::{Arrival, OtlpAddresses};
use crate::runtime::shutdown::Stop;
use crate::self_telemetry::otlp as otlp_export;
use crate::self_telemetry::{SelfTelemetry, Stages};
use dichroic_model::clock::now;
use dichroic_model::{Pattern, Protocol, SourceSpec};
use dichroic_packs::{PackResolver, Selection};
use dichroic_pipeline::{Core, Handle, Inbox, inbox, serve};
use dichroic_receiver_beam as beam;
use dichroic_receiver_otlp as otlp;
use dichroic_receiver_prometheus::config::ScrapeTarget;
use dichroic_receiver_prometheus::scrape::{Scraper, TargetStatuses};
use dichroic_wire::Role;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

/// Subscribers that may wait to be taken over.
const WAITING_SUBSCRIBERS: usize = 64;
/// How often due series leave while there are many, or while copies of them are made.
const TICK: Duration = Duration::from_millis(100);
/// How often it is looked whether there are any. Waking up is most of what an idle collector costs.
const QUIET: Duration = Duration::from_millis(400);

/// What the thread is given.
pub struct Ingest {
    pub config: Config,
    pub targets: Vec<ScrapeTarget>,
    pub stop: Stop,
    /// Latencies, measured by both threads.
    pub stages: Stages,
    /// Of the export of own traces and logs.
    pub exported: Option<otlp_export::Counts>,
    /// Configurations that are to take effect now.
    pub reload: watch::Receiver<Option<Arc<Loaded>>>,
}

/// What the thread hands back when it receives.
pub struct Started {
    pub handle: Handle,
    pub board: TargetStatuses,
    pub relays: beam::StatusBoard,
    pub otlp: OtlpAddresses,
    pub socket: PathBuf,
    /// Real address of `security.local_tcp`.
    pub tcp: Option<SocketAddr>,
    pub subscribers: mpsc::Receiver<Arrival>,
    /// Completes when every receiver has ended.
    pub receivers_done: oneshot::Receiver<()>,
}

/// Now, in the collector's unit of time.
/// Starts the thread; returns when it receives, or with the words of what prevents it.
pub fn spawn(ingest: Ingest) -> Result<(JoinHandle<()>, Started), String> {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name("ingest".to_owned())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error.to_string()))),
            };
            let local = LocalSet::new();
            runtime.block_on(local.run_until(ingest.run(tell)));
        })
        .map_err(|e| e.to_string())?;
    match told.recv() {
        Ok(Ok(started)) => Ok((thread, started)),
        Ok(Err(message)) => {
            let _ = thread.join();
            Err(message)
        }
        Err(_) => Err("the ingest thread ended before it began".to_owned()),
    }
}

type Shared = Rc<RefCell<Core>>;

impl Ingest {
    async fn run(self, tell: std::sync::mpsc::SyncSender<Result<Started, String>>) {
        match self.start().await {
            Err(message) => drop(tell.send(Err(message))),
            Ok((started, running)) => {
                let mut exporters = self.stop.exporters.clone();
                if tell.send(Ok(started)).is_err() {
                    return;
                }
                let mut running = running;
                let (mut receivers, mut reload) = (self.stop.receivers.clone(), self.reload.clone());
                loop {
                    tokio::select! {
                        _ = receivers.wait_for(|stop| *stop) => break,
                        Ok(()) = reload.changed() => {
                            let loaded = reload.borrow_and_update().clone();
                            loaded.into_iter().for_each(|loaded| running.reload(&loaded));
                        }
                    }
                }
                running.finish().await;
                // Reads go on until the exporters have what they need.
                let _ = exporters.wait_for(|stop| *stop).await;
            }
        }
    }

    async fn start(&self) -> Result<(Started, Running), String> {
        let config = &self.config;
        let selection = selection(config)?;
        let resolver = Arc::new(PackResolver::new(&selection.packs));
        let store: Shared = Rc::new(RefCell::new(Core::new(config.limits.model(), resolver, now())));
        let (handle, inbox) = inbox();
        let refusals = Rc::new(Refusals::default());
        self.spawn_upkeep(&store, inbox, refusals.clone());

        let otlp = otlp::bind(otlp_config(config)).await.map_err(|e| e.to_string())?;
        let addresses = OtlpAddresses {
            grpc: otlp.grpc,
            http: otlp.http,
        };
        let otlp_task =
            tokio::task::spawn_local(otlp::serve(otlp, store.clone(), self.stop.receivers.clone()));

        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(self.targets.clone());
        let board = scraper.statuses();

        let relays = beam::Receiver::new(beam_config(config, selection));
        let relay_board = relays.board();
        let socket = local_socket::bind(&config.security.local_socket)?;
        let path = socket.path.clone();
        let mut doors = vec![Door::unix(socket, refusals.clone())];
        let mut tcp = None;
        if let Some((address, token)) = config.security.tcp()? {
            let (door, real) = Door::tcp(address, token, refusals).await?;
            doors.push(door);
            tcp = Some(real);
        }
        let (to_export, subscribers) = mpsc::channel(WAITING_SUBSCRIBERS);
        let served = Served {
            relays: relays.clone(),
            store: store.clone(),
            to_export,
        };
        let doors = serve_doors(doors, config, &served);

        let (done, receivers_done) = oneshot::channel();
        let running = Running {
            store: store.clone(),
            metrics: metrics_text(config),
            otlp: otlp_task,
            scraper,
            relays,
            doors,
            done,
        };
        let started = Started {
            handle,
            board,
            relays: relay_board,
            otlp: addresses,
            socket: path,
            tcp,
            subscribers,
            receivers_done,
        };
        Ok((started, running))
    }

    fn spawn_upkeep(&self, store: &Shared, inbox: Inbox, refusals: Rc<Refusals>) {
        tokio::task::spawn_local(serve(store.clone(), inbox));
        let upkeep = Upkeep {
            store: store.clone(),
            stages: self.stages.clone(),
            exported: self.exported.clone(),
            refusals,
        };
        tokio::task::spawn_local(upkeep.run(self.config.telemetry.interval.0));
    }
}

/// Receivers at work.
struct Running {
    store: Shared,
    /// The `metrics` section in force, as text.
    metrics: String,
    otlp: tokio::task::JoinHandle<()>,
    scraper: Scraper,
    relays: beam::Receiver,
    doors: Vec<tokio::task::JoinHandle<()>>,
    done: oneshot::Sender<()>,
}

impl Running {
    /// Applies what can change while running. The configuration was checked before it was handed over.
    fn reload(&mut self, loaded: &Loaded) {
        let Ok(selection) = selection(&loaded.config) else {
            return;
        };
        let metrics = metrics_text(&loaded.config);
        if metrics != self.metrics {
            self.metrics = metrics;
            let resolver = Arc::new(PackResolver::new(&selection.packs));
            self.store.borrow_mut().set_resolver(resolver);
        }
        self.relays.reload(beam_config(&loaded.config, selection));
        self.scraper.set_targets(loaded.targets.clone());
    }

    /// Lets every receiver take in what is on its way. The caller holds the deadline.
    async fn finish(mut self) {
        self.doors.iter().for_each(tokio::task::JoinHandle::abort);
        self.scraper.stop();
        self.relays.shutdown().await;
        let _ = self.otlp.await;
        let _ = self.done.send(());
    }
}

fn metrics_text(config: &Config) -> String {
    serde_json::to_string(&config.metrics).unwrap_or_default()
}

fn otlp_config(config: &Config) -> otlp::Config {
    let otlp = &config.receivers.otlp;
    let limits = otlp::Limits {
        request_bytes: otlp.max_request.0,
        in_flight_bytes: otlp.in_flight.0,
        stop_timeout: config.limits.shutdown.0,
        ..otlp::Limits::default()
    };
    otlp::Config {
        grpc: otlp.grpc.address(),
        http: otlp.http.address(),
        limits,
    }
}

fn beam_config(config: &Config, selection: Selection) -> beam::Config {
    let beam = &config.receivers.beam;
    beam::Config {
        selection,
        // Checked when the configuration was read.
        retain: config
            .exporters
            .stream
            .retain
            .iter()
            .filter_map(|p| Pattern::new(p).ok())
            .collect(),
        logs: beam::Logs {
            retain: config.exporters.stream.retain_logs,
            severity: beam.logs.level.severity(),
            exclude_domains: beam.logs.exclude_domains.clone(),
            attributes: beam.logs.attributes.clone(),
            max_body: u32::try_from(beam.logs.max_body.0).unwrap_or(u32::MAX),
        },
        flush: beam.flush_interval.0,
        series: u32::try_from(beam.series).unwrap_or(u32::MAX),
        max_events_per_second: u32::try_from(beam.max_events_per_second).unwrap_or(u32::MAX),
        ..beam::Config::default()
    }
}

/// Serves relays here, and hands subscribers over.
fn serve_doors(doors: Vec<Door>, config: &Config, to: &Served) -> Vec<tokio::task::JoinHandle<()>> {
    let pages = config.exporters.prometheus.listen.address();
    let pages = pages.map_or_else(|| "-".to_owned(), |a| a.to_string());
    let serve = |door: Door| {
        let to = to.clone();
        let hand_over = move |peer, greeted| to.clone().serve(peer, greeted);
        tokio::task::spawn_local(door.serve(pages.clone(), hand_over))
    };
    doors.into_iter().map(serve).collect()
}

/// Where a connection goes that has said who it is.
#[derive(Clone)]
struct Served {
    relays: beam::Receiver,
    store: Shared,
    to_export: mpsc::Sender<Arrival>,
}

impl Served {
    async fn serve(self, peer: Peer, Greeted { hello, leftover }: Greeted) {
        if hello.role == Role::Relay {
            self.relays.serve_relay(peer, hello, &leftover, self.store).await;
        } else if let Ok(stream) = peer.park() {
            // A full hand-over means that the export thread is stuck: the peer's connection closes and it tries again.
            let _ = self.to_export.try_send(Arrival {
                stream,
                hello,
                leftover,
            });
        }
    }
}

/// What the thread does besides receiving.
struct Upkeep {
    store: Shared,
    stages: Stages,
    exported: Option<otlp_export::Counts>,
    refusals: Rc<Refusals>,
}

impl Upkeep {
    async fn run(self, interval: Duration) {
        let started = Duration::from_nanos(now());
        let source = self.store.borrow_mut().open_source(own_source(), now());
        let Ok(source) = source else { return };
        let mut telemetry = SelfTelemetry::new(
            &self.store.borrow(),
            source,
            self.stages.clone(),
            self.exported.clone(),
            started,
        );
        let mut due = Instant::now() + TICK;
        let mut next_reading = Instant::now();
        loop {
            tokio::time::sleep_until(due.into()).await;
            self.stages.ingest_lag.record(due.elapsed());
            let busy = self.store.borrow_mut().sweep(now());
            due = Instant::now() + if busy { TICK } else { QUIET };
            if Instant::now() >= next_reading {
                next_reading = Instant::now() + interval;
                telemetry.record(&mut self.store.borrow_mut(), &self.refusals.read(), now());
            }
        }
    }
}

/// The collector as a source of its own.
pub fn own_source() -> SourceSpec {
    SourceSpec {
        job: "dichroic".to_owned(),
        ..SourceSpec::new(Protocol::Internal, "dichroic")
    }
}
