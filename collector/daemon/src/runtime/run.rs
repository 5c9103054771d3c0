//! `dichroic run`: start, two threads, shutdown.
//!
//! ```text
//! ingest thread  receivers (OTLP, scraper, relays) and the store, which no other thread writes
//! main thread    signals, listeners of relays and subscribers, the Prometheus page, the admin API, streams to subscribers
//! ```
//!
//! Shutdown stops receivers, pipeline and exporters in this order, with one deadline: receivers finish the data in flight, subscribers
//! get their queued rows, then both threads end. What remains at the deadline is counted as dropped with the reason `shutdown`.

use crate::admin::endpoints::{self, Endpoints};
use crate::attach::destination::tcp_destination;
use crate::attach::supervisor::{self, Attachments, CollectorDestinations};
use crate::cli;
use crate::cli::INVALID_CONFIG;
use crate::commands::output::plain_lines;
use crate::config::loaded::targets;
use crate::config::{self, Config, load};
use crate::listen::refused::Refusals;
use crate::logging;
use crate::runtime::error::RunError;
use crate::runtime::handoff::PENDING_RELAYS;
use crate::runtime::ingest_thread::{self, IngestHandles, IngestThread};
use crate::runtime::main_thread::{MainThread, Serving};
use crate::runtime::reload::Reloader;
use crate::runtime::shutdown::{Deadline, StopSender};
use crate::self_telemetry::{Stages, otlp};
use dichroic_beam_attach::destination::RelayDestination;
use dichroic_receiver_prometheus::config::ScrapeTarget;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Runs until a signal.
pub fn run(args: &cli::Run) -> ExitCode {
    let config = match args.config.as_deref().map(load).transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(error) => {
            eprintln!("dichroic: {}", plain_lines(&error.report()));
            return ExitCode::from(INVALID_CONFIG);
        }
    };
    let targets = match targets(&config, &args.scrape) {
        Ok(targets) => targets,
        Err(message) => {
            eprintln!("dichroic: {message}");
            return ExitCode::from(INVALID_CONFIG);
        }
    };
    if let Err(message) = config::own_endpoint::check_resolved(&config, &targets) {
        eprintln!("dichroic: {message}");
        return ExitCode::from(INVALID_CONFIG);
    }
    match run_with_telemetry(config, targets, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dichroic: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts logging and, if configured, the OTLP export of self telemetry around [`serve`].
fn run_with_telemetry(config: Config, targets: Vec<ScrapeTarget>, args: &cli::Run) -> Result<(), RunError> {
    let export = config.telemetry.otlp.as_ref().map(otlp::start).transpose();
    let export = export.map_err(|error| RunError::Config(error.to_string()))?;
    logging::start(export.as_ref());
    let limit = config.limits.shutdown.0;
    let exported = export.as_ref().map(otlp::Export::counts);
    let served = serve(config, targets, args, exported);
    if let Some(export) = export {
        // After a failed start there is only its log to export.
        let stopping = *served.as_ref().unwrap_or(&Instant::now());
        export.finish(stopping + limit);
    }
    served.map(drop)
}

/// Serves until a signal. Returns the time of the signal.
fn serve(
    config: Config,
    targets: Vec<ScrapeTarget>,
    args: &cli::Run,
    exported: Option<otlp::Counts>,
) -> Result<Instant, RunError> {
    let (reloader, reload) = Reloader::new(args.config.clone(), args.scrape.clone(), config.clone());
    let (stop_sender, stop) = StopSender::new();
    let (to_ingest, relays) = mpsc::channel(PENDING_RELAYS);
    let (stages, refusals) = (Stages::default(), Arc::new(Refusals::default()));
    let (thread, ingest) = ingest_thread::spawn(IngestThread {
        config: config.clone(),
        targets,
        stop: stop.clone(),
        stages: stages.clone(),
        exported,
        refusals: refusals.clone(),
        relays,
        reload: reload.clone(),
    })?;
    let result = on_this_thread(async {
        let signals = Signals::new()?;
        let main = MainThread {
            config: &config,
            ingest: &ingest,
            relays: to_ingest,
            refusals,
            stop,
            stages,
            reload,
        };
        let serving = main.start().await?;
        let destinations = relay_destinations(&config, &serving)?;
        let mut attachments = supervisor::start(&config.receivers.beam.attach, destinations);
        announce(&config, &ingest, &serving, args.ready_file.as_deref())?;
        signals.until_stop(reloader, &mut attachments).await;
        let deadline = Deadline::new(config.limits.shutdown.0);
        shut_down(deadline, ingest, serving, attachments, &stop_sender).await;
        Ok(deadline.begun())
    });
    // The ingest thread must end after an error too.
    stop_sender.stop_all();
    if let Some(path) = &args.ready_file {
        let _ = std::fs::remove_file(path);
    }
    thread.join().map_err(|_| RunError::IngestThreadPanicked)?;
    result
}

fn on_this_thread<T>(work: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    runtime.block_on(LocalSet::new().run_until(work))
}

async fn shut_down(
    deadline: Deadline,
    ingest: IngestHandles,
    serving: Serving,
    attachments: Attachments,
    stop: &StopSender,
) {
    tracing::info!("stopping: detaching nodes, then receivers, then exporters");
    serving.not_ready();
    attachments.finish(deadline.left() / 2).await;
    serving.stop_accepting();
    stop.stop_receivers();
    if tokio::time::timeout(deadline.left(), ingest.receivers_done)
        .await
        .is_err()
    {
        tracing::warn!(
            "shutdown deadline reached; requests and frames that receivers had not finished are lost; raise limits.shutdown to wait longer"
        );
    }
    serving.finish(deadline.left()).await;
    stop.stop_all();
    // The last HTTP responses are written by tasks of this thread.
    tokio::time::sleep(Duration::from_millis(20).min(deadline.left())).await;
}

/// SIGTERM and SIGINT stop, SIGHUP reloads.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, RunError> {
        let on = |kind| signal(kind).map_err(RunError::Runtime);
        Ok(Signals {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// Reloads until a signal to stop.
    async fn until_stop(mut self, mut reloader: Reloader, attachments: &mut Attachments) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    reloader.reload();
                    attachments.reload(&reloader.current().receivers.beam.attach);
                }
            }
        }
    }
}

/// Where relays of attached nodes connect to this collector.
fn relay_destinations(config: &Config, serving: &Serving) -> Result<CollectorDestinations, RunError> {
    let tcp = config.security.tcp();
    let token = tcp
        .map_err(|error| RunError::Config(error.to_string()))?
        .map(|(_, token)| token);
    let tcp = serving
        .local_tcp
        .zip(token)
        .map(|(at, token)| tcp_destination(at, &token));
    // A relative path would be resolved in the working directory of the node.
    let socket = std::path::absolute(&serving.socket).unwrap_or_else(|_| serving.socket.clone());
    Ok(CollectorDestinations {
        socket: RelayDestination::Socket(socket),
        tcp,
    })
}

fn announce(
    config: &Config,
    ingest: &IngestHandles,
    serving: &Serving,
    ready_file: Option<&Path>,
) -> Result<(), RunError> {
    let endpoints = Endpoints {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
        prometheus: serving.prometheus,
        admin: serving.admin,
        otlp_grpc: ingest.otlp.grpc,
        otlp_http: ingest.otlp.http,
        socket: serving.socket.clone(),
        local_tcp: serving.local_tcp,
    };
    let mut out = std::io::stdout();
    out.write_all(endpoints::describe(&endpoints, config).as_bytes())
        .map_err(RunError::Output)?;
    if let Some(path) = ready_file {
        endpoints.write(path).map_err(|error| RunError::ReadyFile {
            path: path.to_owned(),
            error,
        })?;
    }
    out.write_all(b"ready\n")
        .and_then(|()| out.flush())
        .map_err(RunError::Output)
}
