//! Nodes that the configuration attaches to: one task each that connects, attaches, watches, and tries again.
//!
//! Runs on the main thread; only control passes here. A node that goes away is tried again with backoff. When the collector comes back
//! within 30 s of its death the relay that it left on the node is taken over, with its totals. On SIGHUP the nodes become those of the
//! file, and those that stay are not disturbed.

use crate::attach::destination::choose;
use crate::attach::report::{instead, unreachable};
use crate::config::attach::Attach;
use dichroic_beam_attach::Error;
use dichroic_beam_attach::attach::{self, AttachResult, NodeTarget};
use dichroic_beam_attach::connection::Connection;
use dichroic_beam_attach::destination::RelayDestination;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Span};

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A connection that held so long begins with the shortest pause again.
const HELD: Duration = Duration::from_secs(30);
/// How long a watch lasts before it begins anew.
const WATCH: Duration = Duration::from_secs(3600);

/// Where relays find this collector.
pub struct Places {
    pub socket: RelayDestination,
    pub tcp: Option<RelayDestination>,
}

/// The nodes that are attached to now, each kept by a task.
pub struct Attachments {
    places: Places,
    kept: Vec<Kept>,
    /// Those that are being left, by name, and are in no configuration any more.
    leaving: HashMap<String, JoinHandle<()>>,
}

/// A node and its task.
struct Kept {
    entry: Attach,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Starts a task for each node. Called inside a `LocalSet`.
pub fn start(nodes: &[Attach], places: Places) -> Attachments {
    let mut attachments = Attachments {
        places,
        kept: Vec::new(),
        leaving: HashMap::new(),
    };
    attachments.reload(nodes);
    attachments
}

impl Attachments {
    /// Makes these the nodes: new ones are attached to, those that are not among them are left, one whose entry has changed is left and
    /// attached to again. One whose entry is the same is not disturbed.
    pub fn reload(&mut self, nodes: &[Attach]) {
        self.leaving.retain(|_, task| !task.is_finished());
        let (same, gone) = std::mem::take(&mut self.kept)
            .into_iter()
            .partition::<Vec<_>, _>(|kept| nodes.contains(&kept.entry));
        self.kept = same;
        for Kept { entry, stop, task } in gone {
            stop.send_replace(true);
            tracing::info!(node = entry.node, "attach: its entry is gone or another");
            self.leaving.insert(entry.node, task);
        }
        for node in nodes {
            if !self.kept.iter().any(|kept| kept.entry == *node) {
                let before = self.leaving.remove(&node.node);
                self.kept.extend(keep_from_now(node, &self.places, before));
            }
        }
    }

    /// Detaches every node, within the deadline; those that are left behind leave by themselves.
    pub async fn finish(self, deadline: Duration) {
        let all = async {
            for kept in &self.kept {
                kept.stop.send_replace(true);
            }
            let kept = self.kept.into_iter().map(|kept| kept.task);
            for task in kept.chain(self.leaving.into_values()) {
                let _ = task.await;
            }
        };
        if timeout(deadline, all).await.is_err() {
            tracing::warn!("shutdown deadline reached: some nodes will detach by themselves");
        }
    }
}

/// Attaches to a node, after it was left by `before`. What the configuration's check has let through can be attached to.
fn keep_from_now(node: &Attach, places: &Places, before: Option<JoinHandle<()>>) -> Option<Kept> {
    let Some(data) = choose(node.transport, Some(places.socket.clone()), places.tcp.clone()) else {
        // The configuration that is in force has none, whatever the file says by now.
        tracing::warn!(
            node = node.node,
            "attach: transport: tcp wants security.local_tcp, which takes effect at the next start"
        );
        return None;
    };
    let target = node.target(data).ok()?;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::task::spawn_local(async move {
        if let Some(before) = before {
            let _ = before.await;
        }
        keep(target, stopped).await;
    });
    Some(Kept {
        entry: node.clone(),
        stop,
        task,
    })
}

async fn keep(target: NodeTarget, mut stopped: watch::Receiver<bool>) {
    let mut pause = BACKOFF_MIN;
    let mut told = String::new();
    if let Some(message) = target.cookie.warning() {
        tracing::warn!(node = %target.node, "{message}");
    }
    loop {
        let begun = Instant::now();
        match once(&target, &mut stopped).await {
            Ok(None) => return,
            Ok(Some(message)) => tell(&mut told, &target, message),
            Err(error) => tell(&mut told, &target, error.to_string()),
        }
        if begun.elapsed() > HELD {
            pause = BACKOFF_MIN;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// The same words once, not at every try.
fn tell(told: &mut String, target: &NodeTarget, message: String) {
    if *told != message {
        tracing::warn!(node = %target.node, "attach: {message}");
        *told = message;
    }
}

/// Attaches and watches until something ends it. `None` when it was stopped and has detached.
async fn once(target: &NodeTarget, stopped: &mut watch::Receiver<bool>) -> Result<Option<String>, Error> {
    let span = tracing::info_span!(
        "attach",
        otel.kind = "client",
        node = %target.node,
        result = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    );
    let mut node = tokio::select! {
        node = target.connect().instrument(span.clone()) => node.inspect_err(|error| failed(&span, error))?,
        _ = stopped.wait_for(|stop| *stop) => return Ok(None),
    };
    // A stop does not cancel this. The node completes a call whose caller is gone, and a detach could run before that start.
    let attached = attach::attach(&mut node, &target.destinations);
    let attached = attached.instrument(span.clone()).await;
    let attached = attached.inspect_err(|error| failed(&span, error))?;
    span.record(
        "result",
        match &attached {
            AttachResult::Attached => "attached",
            AttachResult::Installed => "installed",
            AttachResult::AlreadyAttached(_) => "already_attached",
        },
    );
    drop(span);
    match attached {
        AttachResult::Attached => {}
        AttachResult::Installed => {
            drop(node);
            return Ok(tokio::select! {
                // It may have changed by then.
                () = sleep(BACKOFF_MAX) => Some("runs the relay as part of its application: nothing to attach".to_owned()),
                _ = stopped.wait_for(|stop| *stop) => None,
            });
        }
        AttachResult::AlreadyAttached(other) => {
            let by = other.guardian.unwrap_or_default();
            return Ok(Some(format!("is attached already, to {} by {by}", other.socket)));
        }
    }
    let ended = tokio::select! {
        ended = until_detached(target, &mut node) => Some(ended?),
        _ = stopped.wait_for(|stop| *stop) => None,
    };
    if ended.is_none() {
        leave(target, node).await;
    }
    Ok(ended)
}

fn failed(span: &Span, error: &Error) {
    span.record("result", "error")
        .record("otel.status_code", "error")
        .record("otel.status_description", tracing::field::display(error));
}

/// Reports the state of the relay and watches it until another detaches it.
async fn until_detached(target: &NodeTarget, node: &mut Connection) -> Result<String, Error> {
    if let Some(message) = target.destinations.warning(node.is_local()) {
        tracing::warn!(node = %target.node, "attach: {message}");
    }
    let now = attach::wait_until_connected(node, &target.destinations).await?;
    if now.state == "steady" {
        if let Some(message) = instead(&now) {
            tracing::warn!(node = %target.node, "attach: {message}");
        }
        tracing::info!(node = %target.node, modules = now.modules.len(), events = now.events, data = now.socket, "attached");
    } else {
        tracing::warn!("attach: {}", unreachable(&target.node.to_string(), &now));
    }
    while !attach::watch(node, Instant::now() + WATCH).await? {}
    Ok("was detached by another".to_owned())
}

async fn leave(target: &NodeTarget, mut node: Connection) {
    let mut left = attach::detach(&mut node).await;
    if left.is_err() {
        // What was interrupted may have left half a message on the connection.
        left = match target.connect().await {
            Ok(mut node) => attach::detach(&mut node).await,
            Err(error) => Err(error),
        };
    }
    match left {
        Ok(_) => tracing::info!(node = %target.node, "detached"),
        Err(error) => tracing::warn!(node = %target.node, "detach: {error}"),
    }
}
