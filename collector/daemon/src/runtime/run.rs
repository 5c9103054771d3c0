//! `dichroic run`: start-up, two threads, shutdown.
//!
//! ```text
//! ingest thread  receivers (OTLP, scraper, relays on the local socket) and the store; nothing else writes it
//! main thread    signals, the Prometheus page, the admin API, streams to subscribers
//! ```
//!
//! Shutdown goes receivers → pipeline → exporters: receivers take in what is on its way, subscribers get what is held, then both
//! threads end. All of it against one deadline; what is left behind then is counted under `shutdown`.

use crate::admin::endpoints::{self, Endpoints};
use crate::attach::destination::tcp_place;
use crate::attach::supervisor as attached;
use crate::cli;
use crate::config::loaded::targets;
use crate::config::{self, Config, load};
use crate::logging;
use crate::runtime::ingest_thread::{self as ingest, Ingest, Started};
use crate::runtime::main_thread as export;
use crate::runtime::reload::Reloader;
use crate::runtime::shutdown::Stop;
use crate::self_telemetry::{Stages, otlp};
use dichroic_beam_attach::destination::RelayDestination;
use dichroic_receiver_prometheus::config::ScrapeTarget;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::LocalSet;

/// Bad configuration, as sysexits.h has it.
pub const BAD_CONFIG: u8 = 78;

/// Runs until a signal.
pub fn run(args: &cli::Run) -> ExitCode {
    let config = match args.config.as_deref().map(load).transpose() {
        Ok(config) => config.unwrap_or_default(),
        Err(bad) => {
            eprintln!("dichroic: {bad}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    if let Err(message) = config::telemetry::check_resolved(&config) {
        eprintln!("dichroic: {message}");
        return ExitCode::from(BAD_CONFIG);
    }
    let targets = match targets(&config, &args.scrape) {
        Ok(targets) => targets,
        Err(message) => {
            eprintln!("dichroic: {message}");
            return ExitCode::from(2);
        }
    };
    match run_with_telemetry(config, targets, args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("dichroic: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Starts logging and, where it is configured, the export of own traces and logs around [`serve`].
fn run_with_telemetry(config: Config, targets: Vec<ScrapeTarget>, args: &cli::Run) -> Result<(), String> {
    let export = config.telemetry.otlp.as_ref().map(otlp::start).transpose()?;
    logging::start(export.as_ref());
    let limit = config.limits.shutdown.0;
    let exported = export.as_ref().map(otlp::Export::counts);
    let served = serve(config, targets, args, exported);
    if let Some(export) = export {
        // A start that failed has nothing to wait for but its own log.
        let stopping = *served.as_ref().unwrap_or(&Instant::now());
        export.finish(stopping + limit);
    }
    served.map(drop)
}

/// Serves until a signal. Returns when the signal came.
fn serve(
    config: Config,
    targets: Vec<ScrapeTarget>,
    args: &cli::Run,
    exported: Option<otlp::Counts>,
) -> Result<Instant, String> {
    let ready_file = args.ready_file.as_deref();
    let (mut reloader, reload) = Reloader::new(args.config.clone(), args.scrape.clone(), config.clone());
    let (stop_receivers, receivers) = watch::channel(false);
    let (stop_exporters, exporters) = watch::channel(false);
    let stop = Stop { receivers, exporters };
    let stages = Stages::default();
    let deadline = config.limits.shutdown.0;

    let ingest = Ingest {
        config: config.clone(),
        targets,
        stop: stop.clone(),
        stages: stages.clone(),
        exported,
        reload: reload.clone(),
    };
    let (thread, started) = ingest::spawn(ingest)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let local = LocalSet::new();
    let result = runtime.block_on(local.run_until(async {
        let Started {
            handle,
            board,
            relays,
            otlp,
            socket,
            tcp,
            subscribers,
            receivers_done,
        } = started;
        let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
        let mut hangup = signal(SignalKind::hangup()).map_err(|e| e.to_string())?;
        let export = export::start(export::Parts {
            config: &config,
            handle,
            board,
            relays,
            subscribers,
            stop,
            stages,
            reload,
        })
        .await?;
        let endpoints = Endpoints {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            prometheus: export.prometheus,
            admin: export.admin,
            otlp_grpc: otlp.grpc,
            otlp_http: otlp.http,
            socket: socket.clone(),
            local_tcp: tcp,
        };
        let places = places(&config, socket, tcp)?;
        let mut attached = attached::start(&config.receivers.beam.attach, places);
        announce(&config, &endpoints, ready_file)?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    reloader.reload();
                    attached.reload(&reloader.current().receivers.beam.attach);
                }
            }
        }
        tracing::info!("stopping: receivers first");
        let begun = Instant::now();
        export.not_ready();
        attached.finish(deadline / 2).await;
        stop_receivers.send_replace(true);
        let left = |begun: Instant| deadline.saturating_sub(begun.elapsed());
        if tokio::time::timeout(left(begun), receivers_done).await.is_err() {
            tracing::warn!("shutdown deadline reached: receivers did not finish");
        }
        export.finish(left(begun)).await;
        stop_exporters.send_replace(true);
        tokio::time::sleep(Duration::from_millis(20).min(left(begun))).await;
        Ok(begun)
    }));
    // Whatever happened, the other thread must end too.
    stop_receivers.send_replace(true);
    stop_exporters.send_replace(true);
    if let Some(path) = ready_file {
        let _ = std::fs::remove_file(path);
    }
    thread
        .join()
        .map_err(|_| "the ingest thread panicked".to_owned())?;
    result
}

/// Where relays of attached nodes find us.
fn places(config: &Config, socket: PathBuf, tcp: Option<SocketAddr>) -> Result<attached::Places, String> {
    let token = config.security.tcp()?.map(|(_, token)| token);
    let tcp = tcp.zip(token).map(|(at, token)| tcp_place(at, &token));
    // A relay has another working directory than we.
    let socket = std::path::absolute(&socket).unwrap_or(socket);
    Ok(attached::Places {
        socket: RelayDestination::Socket(socket),
        tcp,
    })
}

fn announce(config: &Config, endpoints: &Endpoints, ready_file: Option<&Path>) -> Result<(), String> {
    print!("{}", endpoints::describe(endpoints, config));
    if let Some(path) = ready_file {
        endpoints
            .write(path)
            .map_err(|e| format!("ready file {}: {e}", path.display()))?;
    }
    println!("ready");
    use std::io::Write;
    std::io::stdout().flush().map_err(|e| e.to_string())
}
