//! `dichroic attach` and `dichroic detach`: load the relay into a running node, and remove it.

use super::destination;
use super::error::{AttachError, CommandError};
use super::output::{line, warning};
use crate::attach::report::{instead, unreachable};
use crate::cli;
use dichroic_beam_attach::attach::{self, AttachResult, AttachedRelay, DetachResult, NodeTarget, Presence};
use dichroic_beam_attach::connection::Connection;
use dichroic_beam_attach::destination::Destinations;
use dichroic_beam_attach::modules;
use dichroic_model::text::plural;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Attaches a node, watches the relay, and detaches the node at the end.
pub async fn attach(args: cli::Attach) -> Result<(), CommandError> {
    let destinations = destination::of_running(&args.destination).await?;
    let target = args.reach.entry().target(destinations)?;
    warn(&target);
    let name = target.node.to_string();
    // From here on, signals no longer kill the process: the node must be detached first.
    let mut signals = StopSignals::new()?;
    let mut node = target.connect().await?;
    match attach::attach(&mut node, &target.destinations).await? {
        AttachResult::Attached => {
            if let Some(message) = target.destinations.warning(node.is_local()) {
                warning(&format!("{name}: {message}"));
            }
        }
        AttachResult::Installed => {
            return Ok(line(&format!(
                "{name} runs the relay as part of its application; nothing was loaded"
            ))?);
        }
        AttachResult::AlreadyAttached(other) => return Err(already_attached(name, other).into()),
    }
    let until = args.duration.map(|duration| Instant::now() + duration);
    match watch(&mut node, &name, &target.destinations, until, &mut signals).await {
        Ok(End::DetachedElsewhere) => Ok(line(&format!("{name}: detached by another process"))?),
        Ok(End::Stopped) => report(&name, attach::detach(&mut node).await?),
        // If the connection to the node is lost, this fails too, and the node removes the relay.
        Err(error) => match attach::detach(&mut node).await {
            Ok(_) => Err(removed(name, error)),
            Err(_) => Err(error),
        },
    }
}

/// Why an attachment ended without an error.
enum End {
    /// By a signal or after the time of `--for`.
    Stopped,
    /// By `detach` in another process.
    DetachedElsewhere,
}

/// Prints the state of the relay when it is connected, and waits for the end.
async fn watch(
    node: &mut Connection,
    name: &str,
    destinations: &Destinations,
    until: Option<Instant>,
    signals: &mut StopSignals,
) -> Result<End, CommandError> {
    let watched = async |node: &mut Connection| -> Result<End, CommandError> {
        let relay = attach::wait_until_connected(node, destinations).await?;
        line(&format!(
            "{name}: loaded {}; the MD5 of the code of each:",
            plural(relay.modules.len(), "module")
        ))?;
        for (module, md5) in &relay.modules {
            line(&format!("  {md5} {module}"))?;
        }
        if relay.state != "steady" {
            return Err(AttachError::Unreachable(format!("{name}: {}", unreachable(&relay))).into());
        }
        if let Some(message) = instead(&relay) {
            line(&format!("{name}: {message}"))?;
        }
        line(&format!(
            "{name}: attached to {}, including those of the log and of the VM; data goes to {}; to detach, press Ctrl-C or run `dichroic detach {name}`",
            plural(relay.events, "event"),
            relay.socket
        ))?;
        if relay.events == 0 {
            line(&format!(
                "{name}: the application telemetry is not running; the relay attaches its handlers when it starts"
            ))?;
        }
        let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365 * 30));
        match attach::watch(node, until).await {
            Ok(true) => Ok(End::DetachedElsewhere),
            Ok(false) => Ok(End::Stopped),
            Err(error) => Err(AttachError::Watch {
                node: name.to_owned(),
                error,
            }
            .into()),
        }
    };
    tokio::select! {
        end = watched(node) => end,
        () = signals.next() => Ok(End::Stopped),
    }
}

/// Detaches a node, also one that another process attached.
pub async fn detach(args: cli::Detach) -> Result<(), CommandError> {
    let target = args.reach.entry().target(Path::new(""))?;
    warn(&target);
    let name = target.node.to_string();
    let mut node = target.connect().await?;
    match attach::presence(&mut node).await? {
        Presence::Nothing => Err(AttachError::NotAttached(name).into()),
        Presence::Installed => Err(AttachError::Installed(name).into()),
        Presence::Attached(_) => report(&name, attach::detach(&mut node).await?),
    }
}

fn report(name: &str, detached: Option<DetachResult>) -> Result<(), CommandError> {
    match detached {
        Some(detached) if !detached.kept.is_empty() => Err(AttachError::CodeInUse {
            node: name.to_owned(),
            modules: detached.kept.join(" "),
        }
        .into()),
        Some(_) => Ok(line(&format!(
            "{name}: detached; all {} modules unloaded",
            modules::names().count()
        ))?),
        None => Ok(line(&format!("{name}: the relay was already removed"))?),
    }
}

fn already_attached(node: String, relay: AttachedRelay) -> AttachError {
    AttachError::AlreadyAttached {
        node,
        destination: relay.socket,
        guardian: relay.guardian.unwrap_or_default(),
    }
}

/// A closed pipe stays one, so that it is not reported.
fn removed(node: String, error: CommandError) -> CommandError {
    match error {
        CommandError::Output(_) => error,
        error => AttachError::Removed {
            node,
            error: Box::new(error),
        }
        .into(),
    }
}

/// Prints the warning about the cookie's file, if there is one.
pub fn warn(target: &NodeTarget) {
    if let Some(message) = target.cookie.warning() {
        warning(&message.to_string());
    }
}

/// The signals that end the command.
struct StopSignals([Signal; 3]);

impl StopSignals {
    fn new() -> Result<Self, CommandError> {
        let on = |kind| signal(kind).map_err(CommandError::Start);
        Ok(StopSignals([
            on(SignalKind::interrupt())?,
            on(SignalKind::terminate())?,
            on(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
    }
}
