//! `dichroic attach` and `dichroic detach`: the relay into a running node, and out of it.

use super::{destination, line};
use crate::attach::report::{instead, unreachable};
use crate::cli;
use crate::config::values::parse_span;
use dichroic_beam_attach::attach::{self, AttachResult, AttachedRelay, DetachResult, NodeTarget, Presence};
use dichroic_beam_attach::connection::Connection;
use dichroic_beam_attach::destination::Destinations;
use dichroic_beam_attach::modules;
use dichroic_model::text::escape_control;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// Attaches, stays as the relay's guardian, and detaches at the end.
pub async fn attach(args: cli::Attach) -> Result<(), String> {
    let end = args
        .duration
        .as_deref()
        .map(parse_span)
        .transpose()
        .map_err(|e| e.to_string())?;
    let data = destination::of_running(&args.destination).await?;
    let target = args.reach.entry().target(data).map_err(|e| e.to_string())?;
    warn(&target);
    let name = target.node.to_string();
    let message = |e: dichroic_beam_attach::Error| e.to_string();
    // From here on Ctrl-C does not kill us before the node is left.
    let mut ends = Ends::new()?;
    let mut node = target.connect().await.map_err(message)?;
    match attach::attach(&mut node, &target.destinations)
        .await
        .map_err(message)?
    {
        AttachResult::Attached => {
            if let Some(message) = target.destinations.warning(node.is_local()) {
                eprintln!(
                    "dichroic: warning: {name}: {}",
                    escape_control(&message.to_string())
                );
            }
        }
        AttachResult::Installed => {
            line(&format!(
                "{name} runs the relay as part of its application: nothing was loaded, nothing is to be attached"
            ));
            return Ok(());
        }
        AttachResult::AlreadyAttached(other) => return Err(already(&name, &other)),
    }
    let until = end.map(|end| Instant::now() + end);
    let watched = stay(&mut node, &name, &target.destinations, until, &mut ends).await;
    match watched {
        Ok(true) => {
            line(&format!("{name}: detached by another"));
            Ok(())
        }
        Ok(false) => report(&name, attach::detach(&mut node).await.map_err(message)?),
        Err(why) => {
            // The node may be gone, and then this fails too.
            match attach::detach(&mut node).await {
                Ok(_) => Err(format!("{why}\n{name} was left as it was")),
                Err(_) => Err(why),
            }
        }
    }
}

/// Tells what is there, then waits for the end. True when another detached it.
async fn stay(
    node: &mut Connection,
    name: &str,
    data: &Destinations,
    until: Option<Instant>,
    ends: &mut Ends,
) -> Result<bool, String> {
    let begin = async |node: &mut Connection| {
        let now = attach::wait_until_connected(node, data)
            .await
            .map_err(|e| e.to_string())?;
        line(&format!(
            "{name}: loaded {} modules (MD5 of the code)",
            now.modules.len()
        ));
        for (module, md5) in &now.modules {
            line(&format!("  {md5} {module}"));
        }
        if now.state != "steady" {
            return Err(unreachable(name, &now));
        }
        if let Some(message) = instead(&now) {
            line(&format!("{name}: {message}"));
        }
        line(&format!(
            "{name}: attached to {} events; data goes to {}; Ctrl-C or `dichroic detach {name}` ends it",
            now.events, now.socket
        ));
        if now.events == 0 {
            line(&format!(
                "{name}: telemetry does not run there; the relay attaches when it does"
            ));
        }
        let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365 * 30));
        attach::watch(node, until)
            .await
            .map_err(|e| format!("{name}: {e}"))
    };
    tokio::select! {
        watched = begin(node) => watched,
        () = ends.next() => Ok(false),
    }
}

/// Detaches a node from whoever attached it.
pub async fn detach(args: cli::Detach) -> Result<(), String> {
    let target = args
        .reach
        .entry()
        .target(Path::new(""))
        .map_err(|e| e.to_string())?;
    warn(&target);
    let name = target.node.to_string();
    let mut node = target.connect().await.map_err(|e| e.to_string())?;
    let presence = attach::presence(&mut node).await.map_err(|e| e.to_string())?;
    match presence {
        Presence::Nothing => Err(format!("{name} is not attached")),
        Presence::Installed => Err(format!(
            "{name} runs the relay as part of its application, which detach does not touch"
        )),
        Presence::Attached(_) => report(&name, attach::detach(&mut node).await.map_err(|e| e.to_string())?),
    }
}

fn report(name: &str, left: Option<DetachResult>) -> Result<(), String> {
    match left {
        Some(left) if !left.kept.is_empty() => Err(format!(
            "{name}: detached, but processes of the application still run {}; their old code stays until they leave it",
            left.kept.join(" ")
        )),
        Some(_) => {
            line(&format!(
                "{name}: detached; {} modules unloaded, nothing is left",
                modules::names().count()
            ));
            Ok(())
        }
        None => {
            line(&format!("{name}: had left already"));
            Ok(())
        }
    }
}

fn already(name: &str, other: &AttachedRelay) -> String {
    format!(
        "{name} is attached already, to {} by {}; end that with `dichroic detach {name}`",
        other.socket,
        other.guardian.as_deref().unwrap_or("nobody")
    )
}

/// Says what should be said of the cookie's file.
pub fn warn(target: &NodeTarget) {
    if let Some(message) = target.cookie.warning() {
        eprintln!("dichroic: warning: {}", escape_control(&message.to_string()));
    }
}

/// What ends the command from outside.
struct Ends([tokio::signal::unix::Signal; 3]);

impl Ends {
    fn new() -> Result<Self, String> {
        let on = |kind| signal(kind).map_err(|e| e.to_string());
        Ok(Ends([
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
