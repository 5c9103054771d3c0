//! `dichroic run`: start, two threads, shutdown.
//!
//! ```text
//! ingest thread  receivers (OTLP, scraper, relays) and the store, which no other thread writes
//! main thread    signals, listeners of relays and subscribers, the Prometheus page, the admin API, streams to subscribers
//! ```
//!
//! Shutdown stops receivers, pipeline and exporters in this order, with one deadline: receivers finish the data in flight, subscribers
//! get their queued rows, then both threads end. What remains at the deadline is counted as dropped with the reason `shutdown`.
//! The panic of an essential task stops in the same way, with an exit code.

use crate::admin::endpoints::{self, Endpoints, ReadyFile};
use crate::admin::responses::Responses;
use crate::attach::destination::tcp_destination;
use crate::attach::status::AttachBoard;
use crate::attach::supervisor::{self, Attachments, CollectorDestinations};
use crate::cli;
use crate::commands::output::{message, plain_lines};
use crate::config::loaded::{Loaded, targets};
use crate::config::{self, Config, load};
use crate::listen::refused::Refusals;
use crate::logging;
use crate::runtime::error::RunError;
use crate::runtime::handoff::PENDING_RELAYS;
use crate::runtime::ingest_thread::{self, IngestHandles, IngestThread};
use crate::runtime::main_thread::{MainThread, Serving};
use crate::runtime::reload::{self, Reloader};
use crate::runtime::shutdown::{Deadline, StopSender};
use crate::self_telemetry::{Stages, otlp};
use dichroic_beam_attach::destination::RelayDestination;
use dichroic_tasks::{Kind, Panicked, fault};
use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Longest wait for the log to be written before the exit.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// Part of `limits.shutdown` that the last export of own traces and logs may take: its endpoint may be gone.
const EXPORT_SHARE: u32 = 5;
/// How long the ingest thread may take to end after its receivers have stopped.
const JOIN_LIMIT: Duration = Duration::from_secs(1);

/// Runs until a signal, or until an essential task ends.
pub fn run(args: &cli::Run) -> ExitCode {
    let log = match logging::open() {
        Ok(log) => log,
        Err(error) => {
            message(&RunError::Runtime(error).to_string());
            return ExitCode::FAILURE;
        }
    };
    let result = dichroic_tasks::call(Kind::Main, || {
        on_this_thread(fault::injected(Kind::Main, start(args, &log)))
    });
    let result = result.unwrap_or(Err(RunError::TaskPanicked(Kind::Main)));
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log.push(format!("dichroic: {}\n", plain_lines(&error.to_string())).as_bytes());
            error.exit_code().into()
        }
    };
    log.flush(FLUSH_LIMIT);
    code
}

fn on_this_thread<T>(work: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let result = runtime.block_on(LocalSet::new().run_until(work));
    // A pending name lookup must not delay the exit.
    runtime.shutdown_background();
    result
}

/// Installs the signal handlers before everything else, then reads the configuration: a signal during the start ends the process in
/// order.
async fn start(args: &cli::Run, log: &logging::Output) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    let loaded = tokio::select! {
        loaded = configuration(args) => loaded?,
        () = signals.stop() => return Ok(()),
    };
    run_with_telemetry(loaded, args, log, signals).await
}

/// Reads on a thread: a file may be a pipe, and names of hosts are resolved.
async fn configuration(args: &cli::Run) -> Result<Loaded, RunError> {
    let (path, scrape) = (args.config.clone(), args.scrape.clone());
    let read = move || {
        let config = path.as_deref().map(load).transpose();
        let config = config.map_err(RunError::InvalidConfig)?.unwrap_or_default();
        let targets = targets(&config, &scrape).map_err(RunError::InvalidTarget)?;
        config::own_endpoint::check_resolved(&config, &targets).map_err(RunError::Itself)?;
        Ok(Loaded { config, targets })
    };
    let read = dichroic_tasks::blocking(Kind::ConfigReader, read).await;
    let read = read.map_err(RunError::Runtime)?;
    read.unwrap_or(Err(RunError::TaskPanicked(Kind::ConfigReader)))
}

/// Starts logging and, if configured, the OTLP export of self telemetry around [`serve`].
async fn run_with_telemetry(
    loaded: Loaded,
    args: &cli::Run,
    log: &logging::Output,
    signals: Signals,
) -> Result<(), RunError> {
    let export = loaded.config.telemetry.otlp.as_ref().map(otlp::start).transpose();
    let export = export.map_err(RunError::Config)?;
    logging::start(log, export.as_ref());
    let limit = loaded.config.limits.shutdown.0;
    let exported = export.as_ref().map(otlp::Export::counts);
    let served = serve(loaded, args, log, exported, signals).await;
    if let Some(export) = export {
        // After a failed start there is only its log to export.
        let stopping = *served.as_ref().unwrap_or(&Instant::now());
        let share = Instant::now() + limit / EXPORT_SHARE;
        export.finish(share.min(stopping + limit));
    }
    served.map(drop)
}

/// Serves until a signal. Returns the time of the signal.
async fn serve(
    loaded: Loaded,
    args: &cli::Run,
    log: &logging::Output,
    exported: Option<otlp::Counts>,
    mut signals: Signals,
) -> Result<Instant, RunError> {
    let Loaded { config, targets } = loaded;
    let (reloader, reload) = Reloader::new(args.config.clone(), args.scrape.clone(), config.clone());
    let (stop_sender, stop) = StopSender::new();
    let (to_ingest, relays) = mpsc::channel(PENDING_RELAYS);
    let (stages, refusals) = (Stages::default(), Arc::new(Refusals::default()));
    let responses = Arc::new(Responses::default());
    let (thread, ingest) = ingest_thread::spawn(IngestThread {
        config: config.clone(),
        targets,
        stop: stop.clone(),
        stages: stages.clone(),
        exported,
        refusals: refusals.clone(),
        responses: responses.clone(),
        log: log.clone(),
        relays,
        reload: reload.clone(),
    })?;
    let result = async {
        let board = AttachBoard::default();
        let main = MainThread {
            config: &config,
            attachments: board.clone(),
            ingest: &ingest,
            relays: to_ingest,
            refusals,
            responses,
            stop,
            stages,
            reload,
        };
        let serving = main.start().await?;
        let destinations = relay_destinations(&config, &serving)?;
        let mut attachments = supervisor::start(&config.receivers.beam.attach, destinations, board);
        let announced = announce(&config, &ingest, &serving, args.ready_file.as_deref());
        let mut ready_file = None;
        let end = tokio::select! {
            announced = announced => {
                ready_file = announced?;
                signals.until_end(reloader, &mut attachments).await
            }
            () = signals.stop() => End::Signal,
        };
        let deadline = Deadline::new(config.limits.shutdown.0);
        shut_down(deadline, ingest, serving, attachments, &stop_sender).await;
        drop(ready_file);
        match end {
            End::Signal => Ok(deadline),
            End::Panic(kind) => Err(RunError::TaskPanicked(kind)),
        }
    };
    let result = result.await;
    // The ingest thread must end after an error too.
    stop_sender.stop_all();
    let left = result.as_ref().map_or(Duration::ZERO, Deadline::left);
    join(thread, left + JOIN_LIMIT).await?;
    result.map(|deadline| deadline.begun())
}

/// Waits for the end of the ingest thread. One that does not end must not keep the process.
async fn join<T>(thread: JoinHandle<Result<T, Panicked>>, limit: Duration) -> Result<(), RunError> {
    let ended = async {
        while !thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(limit, ended).await.is_err() {
        return Err(RunError::IngestThreadStuck);
    }
    match thread.join() {
        Ok(Ok(_)) => Ok(()),
        _ => Err(RunError::TaskPanicked(Kind::Ingest)),
    }
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

/// Why the collector stops.
enum End {
    Signal,
    /// An essential task panicked.
    Panic(Kind),
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

    /// Completes at a signal to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Reloads until the collector has to stop. The file is read on a thread, so that a slow one delays no signal.
    async fn until_end(mut self, mut reloader: Reloader, attachments: &mut Attachments) -> End {
        let mut reading = pin!(None);
        // A signal that arrives while the file is read.
        let mut again = false;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return End::Signal,
                _ = self.interrupt.recv() => return End::Signal,
                kind = dichroic_tasks::failure() => return End::Panic(kind),
                _ = self.hangup.recv() => {
                    again = reading.is_some();
                    if again {
                        tracing::warn!("the configuration file is still being read; it is read again afterwards");
                    } else {
                        reading.set(reloader.begin().map(reload::read));
                    }
                }
                reread = pending_or(reading.as_mut().as_pin_mut()) => {
                    reading.set(None);
                    reloader.apply(reread);
                    attachments.reload(&reloader.current().receivers.beam.attach);
                    if std::mem::take(&mut again) {
                        reading.set(reloader.begin().map(reload::read));
                    }
                }
            }
        }
    }
}

/// The result of a future, if there is one.
async fn pending_or<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
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

async fn announce(
    config: &Config,
    ingest: &IngestHandles,
    serving: &Serving,
    ready_file: Option<&Path>,
) -> Result<Option<ReadyFile>, RunError> {
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
    print(endpoints::describe(&endpoints, config)).await?;
    let write = |path: &Path| {
        let written = endpoints.write(path);
        written.map_err(|error| RunError::ReadyFile {
            path: path.to_owned(),
            error,
        })
    };
    let ready_file = ready_file.map(write).transpose()?;
    print("ready\n".to_owned()).await?;
    Ok(ready_file)
}

/// Prints on a thread: a pipe that nobody reads blocks.
async fn print(text: String) -> Result<(), RunError> {
    let print = move || {
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
    let printed = dichroic_tasks::blocking(Kind::Output, print).await;
    let printed = printed.map_err(RunError::Runtime)?;
    let printed = printed.map_err(|_| RunError::TaskPanicked(Kind::Output))?;
    printed.map_err(RunError::Output)
}
