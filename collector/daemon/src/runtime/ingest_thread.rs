//! The ingest thread: all receivers and the store.
//!
//! One single-threaded tokio runtime. Receivers run as tasks and write into the store synchronously. Between requests the thread serves
//! reads ([`dichroic_pipeline::run_jobs`]), expires series, and records the self telemetry.

use crate::admin::responses::Responses;
use crate::config::Config;
use crate::config::loaded::Loaded;
use crate::config::selection::selection;
use crate::config::types::ScopeLabels;
use crate::listen::refused::Refusals;
use crate::listen::stream::LocalStream;
use crate::logging;
use crate::runtime::error::RunError;
use crate::runtime::handoff::{OtlpAddresses, RelayConnection};
use crate::runtime::shutdown::Stop;
use crate::self_telemetry::otlp as otlp_export;
use crate::self_telemetry::{SelfTelemetry, Stages};
use dichroic_model::clock::now;
use dichroic_model::{Pattern, Protocol, SourceSpec};
use dichroic_packs::{PackResolver, Selection};
use dichroic_pipeline::budget::Budget;
use dichroic_pipeline::{Core, Handle, Inbox, inbox, run_jobs};
use dichroic_receiver_beam as beam;
use dichroic_receiver_otlp as otlp;
use dichroic_receiver_prometheus::config::ScrapeTarget;
use dichroic_receiver_prometheus::scrape::{Scraper, TargetStatuses};
use dichroic_tasks::{Kind, Panicked, Stopped, fault};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

/// Interval of expiry while many series are due, or while a snapshot is copied.
const TICK: Duration = Duration::from_millis(100);
/// Interval of expiry otherwise. Wake-ups are most of the cost of an idle collector.
const QUIET: Duration = Duration::from_millis(400);

/// What the ingest thread needs.
pub struct IngestThread {
    /// The configuration at the start.
    pub config: Config,
    /// The targets to scrape.
    pub targets: Vec<ScrapeTarget>,
    /// When to stop.
    pub stop: Stop,
    /// Latencies, measured by both threads.
    pub stages: Stages,
    /// Counters of the OTLP export of self telemetry, if it is on.
    pub exported: Option<otlp_export::Counts>,
    /// Connections that the listeners refused.
    pub refusals: Arc<Refusals>,
    /// Pages, and responses that were cut off.
    pub responses: Arc<Responses>,
    /// The log, for its counts.
    pub log: logging::Output,
    /// Relays, after their handshake on the main thread.
    pub relays: mpsc::Receiver<RelayConnection>,
    /// Reloaded configurations.
    pub reload: watch::Receiver<Option<Arc<Loaded>>>,
}

/// The main thread's access to the running receivers.
pub struct IngestHandles {
    /// Access to the store.
    pub store: Handle,
    /// The memory budget of data in flight.
    pub budget: Budget,
    /// State of the scraped targets.
    pub targets: TargetStatuses,
    /// State of the relays.
    pub relays: beam::StatusBoard,
    /// Real addresses of the OTLP listeners.
    pub otlp: OtlpAddresses,
    /// Completes when every receiver has ended.
    pub receivers_done: oneshot::Receiver<()>,
}

type Started = Result<IngestHandles, RunError>;

/// Starts the thread. Returns when the receivers run or the start failed.
pub fn spawn(ingest: IngestThread) -> Result<(JoinHandle<Result<(), Panicked>>, IngestHandles), RunError> {
    let (started, result) = std::sync::mpsc::sync_channel(1);
    let thread = dichroic_tasks::thread(Kind::Ingest, move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(RunError::Runtime(error)))),
        };
        let local = LocalSet::new();
        let run = fault::injected(Kind::Ingest, ingest.run(started));
        runtime.block_on(local.run_until(run));
        // A pending name lookup must not delay the exit.
        runtime.shutdown_background();
    });
    let thread = thread.map_err(RunError::Runtime)?;
    match result.recv() {
        Ok(Ok(handles)) => Ok((thread, handles)),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(RunError::IngestThreadEnded),
    }
}

type Shared = Rc<RefCell<Core>>;

impl IngestThread {
    async fn run(self, started: std::sync::mpsc::SyncSender<Started>) {
        let (mut receivers, mut exporters) = (self.stop.receivers.clone(), self.stop.exporters.clone());
        let mut reload = self.reload.clone();
        let mut running = match self.start().await {
            Err(error) => return drop(started.send(Err(error))),
            Ok((handles, running)) => {
                if started.send(Ok(handles)).is_err() {
                    return;
                }
                running
            }
        };
        loop {
            tokio::select! {
                () = dichroic_tasks::stopped(&mut receivers) => break,
                Ok(()) = reload.changed() => {
                    let loaded = reload.borrow_and_update().clone();
                    loaded.into_iter().for_each(|loaded| running.reload(&loaded));
                }
            }
        }
        running.finish().await;
        // Exporters read the store until they have stopped.
        dichroic_tasks::stopped(&mut exporters).await;
    }

    async fn start(self) -> Result<(IngestHandles, Running), RunError> {
        let config = &self.config;
        let selection = selection(config).map_err(|error| RunError::Config(error.to_string()))?;
        let resolver = Arc::new(PackResolver::new(&selection.packs).with_names(&selection));
        let mut core = Core::new(config.limits.model(), resolver, now());
        if config.exporters.prometheus.scope_labels == ScopeLabels::Always {
            core.always_show_scopes();
        }
        let budget = core.budget().clone();
        let core: Shared = Rc::new(RefCell::new(core));
        let (handle, inbox) = inbox();
        self.spawn_upkeep(&core, inbox);

        let otlp = otlp::bind(otlp_config(config)).await?;
        let addresses = OtlpAddresses {
            grpc: otlp.grpc,
            http: otlp.http,
        };
        let otlp_task = otlp::serve(otlp, core.clone(), self.stop.receivers.clone());
        let otlp_task = dichroic_tasks::essential(Kind::OtlpReceiver, otlp_task);

        let mut scraper = Scraper::new(core.clone());
        scraper.set_targets(self.targets.clone());
        let targets = scraper.statuses();

        let relays = beam::Receiver::new(beam_config(config, selection));
        let relay_statuses = relays.board();
        let metrics = metrics_text(config);
        let (mut connections, intake, store) = (self.relays, relays.clone(), core.clone());
        let accept_relays = dichroic_tasks::restart(Kind::RelayIntake, String::new(), async move || {
            accept_relays(&mut connections, &intake, &store).await
        });

        let (done, receivers_done) = oneshot::channel();
        let running = Running {
            core,
            metrics,
            otlp: otlp_task,
            scraper,
            relays,
            accept_relays,
            done,
        };
        let handles = IngestHandles {
            store: handle,
            budget,
            targets,
            relays: relay_statuses,
            otlp: addresses,
            receivers_done,
        };
        Ok((handles, running))
    }

    fn spawn_upkeep(&self, core: &Shared, inbox: Inbox) {
        let store = core.clone();
        dichroic_tasks::restart(Kind::CoreJobs, String::new(), async move || {
            match run_jobs(&store, &inbox).await {}
        });
        let upkeep = Upkeep {
            core: core.clone(),
            stages: self.stages.clone(),
            exported: self.exported.clone(),
            refusals: self.refusals.clone(),
            responses: self.responses.clone(),
            log: self.log.clone(),
        };
        dichroic_tasks::essential(Kind::Upkeep, upkeep.run(self.config.telemetry.interval.0));
    }
}

/// Serves each relay in a task of its own.
async fn accept_relays(
    connections: &mut mpsc::Receiver<RelayConnection>,
    relays: &beam::Receiver,
    core: &Shared,
) -> Stopped {
    while let Some(connection) = connections.recv().await {
        // Fails without a free file descriptor; the relay reconnects.
        let Ok(stream) = LocalStream::from_std(connection.stream) else {
            continue;
        };
        let (relays, core) = (relays.clone(), core.clone());
        dichroic_tasks::contained(Kind::RelaySession, async move {
            let read_ahead = connection.read_ahead;
            relays
                .serve_relay(stream, connection.hello, &read_ahead, core)
                .await;
        });
    }
    Stopped
}

/// The running receivers.
struct Running {
    core: Shared,
    /// The `metrics` section in effect, as text.
    metrics: String,
    otlp: tokio::task::JoinHandle<()>,
    scraper: Scraper,
    relays: beam::Receiver,
    accept_relays: tokio::task::JoinHandle<()>,
    done: oneshot::Sender<()>,
}

impl Running {
    /// Applies the parts of a checked configuration that can change at run time.
    fn reload(&mut self, loaded: &Loaded) {
        let Ok(selection) = selection(&loaded.config) else {
            return;
        };
        let metrics = metrics_text(&loaded.config);
        if metrics != self.metrics {
            self.metrics = metrics;
            let resolver = Arc::new(PackResolver::new(&selection.packs).with_names(&selection));
            self.core.borrow_mut().set_resolver(resolver);
        }
        self.relays.reload(beam_config(&loaded.config, selection));
        self.scraper.set_targets(loaded.targets.clone());
    }

    /// Stops every receiver when its data in flight is applied. The caller enforces the deadline.
    async fn finish(mut self) {
        self.accept_relays.abort();
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
        max_request_bytes: otlp.max_request.0,
        in_flight_bytes: otlp.in_flight.0,
        stop_timeout: config.limits.shutdown.0,
        ..otlp::Limits::default()
    };
    otlp::Config {
        grpc: otlp.grpc.address(),
        http: otlp.http.address(),
        allowed_hosts: config.security.allowed_hosts.clone(),
        limits,
        sources: otlp::SourceRules {
            promote_resource_attributes: otlp.promote_resource_attributes.clone(),
            expire_after: otlp.expire_after.0,
            expire_deltas_after: otlp.expire_deltas_after.0,
        },
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
        flush_interval: beam.flush_interval.0,
        series: u32::try_from(beam.series.0).unwrap_or(u32::MAX),
        max_events_per_second: u32::try_from(beam.max_events_per_second.0).unwrap_or(u32::MAX),
        ..beam::Config::default()
    }
}

/// Periodic work: expiry and self telemetry.
struct Upkeep {
    core: Shared,
    stages: Stages,
    exported: Option<otlp_export::Counts>,
    refusals: Arc<Refusals>,
    responses: Arc<Responses>,
    log: logging::Output,
}

impl Upkeep {
    async fn run(self, interval: Duration) -> Stopped {
        let started = Duration::from_nanos(now());
        let source = self.core.borrow_mut().open_source(own_source(), now());
        let source = source.expect("the first source is within any limit");
        let mut telemetry = SelfTelemetry::new(
            &self.core.borrow(),
            source,
            self.stages.clone(),
            self.exported.clone(),
            self.log,
            started,
        )
        .with_responses(self.responses);
        let mut due = Instant::now() + TICK;
        let mut next_reading = Instant::now();
        loop {
            tokio::time::sleep_until(due.into()).await;
            self.stages.ingest_lag.record(due.elapsed());
            let busy = self.core.borrow_mut().sweep(now());
            due = Instant::now() + if busy { TICK } else { QUIET };
            if Instant::now() >= next_reading {
                next_reading = Instant::now() + interval;
                telemetry.record(&mut self.core.borrow_mut(), &self.refusals.read(), now());
            }
        }
    }
}

/// The source of the self telemetry.
pub fn own_source() -> SourceSpec {
    SourceSpec {
        job: "dichroic".to_owned(),
        ..SourceSpec::new(Protocol::Internal, "dichroic")
    }
}
