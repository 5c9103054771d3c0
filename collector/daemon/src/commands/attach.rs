//! `dichroic attach` and `dichroic detach`: the relay into a running node, and out of it.

use super::line;
use crate::cli;
use crate::config::values::parse_span;
use crate::local_socket;
use dichroic_receiver_attach::address::{Lookup, NodeName};
use dichroic_receiver_attach::attach::{self, Attached, Left, Outcome, Presence, Target};
use dichroic_receiver_attach::connection::Connection;
use dichroic_receiver_attach::cookie::Places;
use dichroic_receiver_attach::modules;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// Attaches, stays as the relay's guardian, and detaches at the end.
pub async fn attach(args: cli::Attach) -> Result<(), String> {
    let end = args.duration.as_deref().map(parse_span).transpose()?;
    let socket = collector_socket(args.socket.as_deref()).await?;
    let target = target(&args.reach, &socket)?;
    warn(&target);
    let name = target.node.to_string();
    let words = |e: dichroic_receiver_attach::Error| e.to_string();
    // From here on Ctrl-C does not kill us before the node is left.
    let mut ends = Ends::new()?;
    let mut node = target.connect().await.map_err(words)?;
    match attach::attach(&mut node, &socket).await.map_err(words)? {
        Outcome::Ours => {}
        Outcome::Installed => {
            line(&format!(
                "{name} runs the relay as part of its application: nothing was loaded, nothing is to be attached"
            ));
            return Ok(());
        }
        Outcome::Taken(other) => return Err(already(&name, &other)),
    }
    let until = end.map(|end| Instant::now() + end);
    let watched = stay(&mut node, &name, &socket, until, &mut ends).await;
    match watched {
        Ok(true) => {
            line(&format!("{name}: detached by another"));
            Ok(())
        }
        Ok(false) => report(&name, attach::detach(&mut node).await.map_err(words)?),
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
    socket: &Path,
    until: Option<Instant>,
    ends: &mut Ends,
) -> Result<bool, String> {
    let begin = async |node: &mut Connection| {
        let now = attach::settle(node).await.map_err(|e| e.to_string())?;
        line(&format!(
            "{name}: loaded {} modules (MD5 of the code)",
            now.modules.len()
        ));
        for (module, md5) in &now.modules {
            line(&format!("  {md5} {module}"));
        }
        if now.state != "steady" {
            return Err(unreachable(name, socket, &now));
        }
        line(&format!(
            "{name}: attached to {} events; data goes to {}; Ctrl-C or `dichroic detach {name}` ends it",
            now.events,
            socket.display()
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
    let target = target(&args.reach, Path::new(""))?;
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

fn report(name: &str, left: Option<Left>) -> Result<(), String> {
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

fn already(name: &str, other: &Attached) -> String {
    format!(
        "{name} is attached already, to {} by {}; end that with `dichroic detach {name}`",
        other.socket,
        other.guardian.as_deref().unwrap_or("nobody")
    )
}

pub fn unreachable(name: &str, socket: &Path, now: &Attached) -> String {
    format!(
        "{name}: the relay does not reach the collector at {} ({}, {}); the node's user must be able to open it: see security.local_socket.mode and allow_uids",
        socket.display(),
        now.state,
        now.last_error.as_deref().unwrap_or("no error")
    )
}

/// Says what should be said of the cookie's file.
pub fn warn(target: &Target) {
    if let Some(words) = target.places.warning() {
        eprintln!("dichroic: warning: {words}");
    }
}

/// How a node is reached, from the command line.
pub fn target(reach: &cli::Reach, socket: &Path) -> Result<Target, String> {
    let node = NodeName::parse(&reach.node).map_err(|e| e.to_string())?;
    let lookup = match (&reach.epmd, reach.port) {
        (_, Some(port)) => Lookup::Port(port),
        (Some(epmd), None) => Lookup::epmd(epmd).map_err(|e| e.to_string())?,
        (None, None) => Lookup::default(),
    };
    let places = Places {
        file: reach.cookie_file.clone(),
        release: reach.release.clone(),
    };
    Ok(Target {
        node,
        lookup,
        places,
        socket: socket.to_owned(),
    })
}

/// The socket of a collector that runs.
async fn collector_socket(given: Option<&Path>) -> Result<PathBuf, String> {
    let mut tried = Vec::new();
    for path in local_socket::candidates(given) {
        match UnixStream::connect(&path).await {
            Ok(_) => return std::path::absolute(&path).map_err(|e| e.to_string()),
            Err(error) => tried.push(format!("{}: {error}", path.display())),
        }
    }
    Err(format!(
        "no collector: {}; start one with `dichroic run`, or name its socket with --socket",
        tried.join("; ")
    ))
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
