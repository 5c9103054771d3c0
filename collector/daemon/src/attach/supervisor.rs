//! Keeps the nodes of `receivers.beam.attach` attached: one task per node connects, attaches, watches, and retries with backoff.
//!
//! Runs on the main thread; only control messages pass here. A collector that restarts within 30 s of a crash takes over the relay on
//! the node, with its totals. A reload detaches removed and changed entries and attaches new ones; unchanged entries are not affected.

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
/// A connection of at least this time resets the backoff.
const STABLE: Duration = Duration::from_secs(30);
/// Length of one watch call; it is repeated.
const WATCH: Duration = Duration::from_secs(3600);

/// Where relays find this collector.
pub struct Places {
    pub socket: RelayDestination,
    pub tcp: Option<RelayDestination>,
}

/// The configured nodes, each with its task.
pub struct Attachments {
    places: Places,
    attached: Vec<Attachment>,
    /// Tasks of removed or changed entries that still detach, by node name.
    detaching: HashMap<String, JoinHandle<()>>,
}

/// A configured node and its task.
struct Attachment {
    entry: Attach,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Starts a task for each node. Called inside a `LocalSet`.
pub fn start(nodes: &[Attach], places: Places) -> Attachments {
    let mut attachments = Attachments {
        places,
        attached: Vec::new(),
        detaching: HashMap::new(),
    };
    attachments.reload(nodes);
    attachments
}

impl Attachments {
    /// Replaces the entries: detaches removed and changed ones, attaches new and changed ones. Unchanged entries are not affected.
    pub fn reload(&mut self, nodes: &[Attach]) {
        self.detaching.retain(|_, task| !task.is_finished());
        let (same, removed) = std::mem::take(&mut self.attached)
            .into_iter()
            .partition::<Vec<_>, _>(|kept| nodes.contains(&kept.entry));
        self.attached = same;
        for Attachment { entry, stop, task } in removed {
            stop.send_replace(true);
            tracing::info!(node = entry.node, "entry removed or changed; detaching");
            self.detaching.insert(entry.node, task);
        }
        for node in nodes {
            if !self.attached.iter().any(|kept| kept.entry == *node) {
                let before = self.detaching.remove(&node.node);
                self.attached.extend(supervise(node, &self.places, before));
            }
        }
    }

    /// Detaches every node within the deadline. A relay that is not detached in time detaches itself when its connection closes.
    pub async fn finish(self, deadline: Duration) {
        let all = async {
            for kept in &self.attached {
                kept.stop.send_replace(true);
            }
            let kept = self.attached.into_iter().map(|kept| kept.task);
            for task in kept.chain(self.detaching.into_values()) {
                let _ = task.await;
            }
        };
        if timeout(deadline, all).await.is_err() {
            tracing::warn!("shutdown deadline reached; remaining relays will detach themselves");
        }
    }
}

/// Starts the task of a node, which first waits for the end of `before`. `None`: the node cannot be attached with the listeners of this
/// process.
fn supervise(node: &Attach, places: &Places, before: Option<JoinHandle<()>>) -> Option<Attachment> {
    let Some(data) = choose(node.transport, Some(places.socket.clone()), places.tcp.clone()) else {
        // The reloaded file may have security.local_tcp, but the listener was not bound at the start.
        tracing::warn!(
            node = node.node,
            reason = "transport: tcp requires security.local_tcp, which takes effect after a restart",
            "cannot attach"
        );
        return None;
    };
    let target = node.target(data).ok()?;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::task::spawn_local(async move {
        if let Some(before) = before {
            let _ = before.await;
        }
        attach_until_stopped(target, stopped).await;
    });
    Some(Attachment {
        entry: node.clone(),
        stop,
        task,
    })
}

async fn attach_until_stopped(target: NodeTarget, mut stopped: watch::Receiver<bool>) {
    let mut pause = BACKOFF_MIN;
    let mut last = String::new();
    if let Some(message) = target.cookie.warning() {
        tracing::warn!(node = %target.node, "{message}");
    }
    loop {
        let started = Instant::now();
        let result = once(&target, &mut stopped, &mut last).await;
        match result {
            Ok(None) => return,
            Ok(Some(message)) => log_once(&mut last, &target, message),
            Err(error) => log_once(&mut last, &target, error.to_string()),
        }
        if started.elapsed() > STABLE {
            pause = BACKOFF_MIN;
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// Logs a message unless it is that of the previous attempt.
fn log_once(last: &mut String, target: &NodeTarget, message: String) {
    if *last != message {
        tracing::warn!(node = %target.node, reason = message, "not attached; retrying");
        *last = message;
    }
}

/// Attaches, and watches until the end. `None`: stopped and detached. Else the reason.
/// Clears `last` once attached, so that the next failure is logged even if it is the same.
async fn once(
    target: &NodeTarget,
    stopped: &mut watch::Receiver<bool>,
    last: &mut String,
) -> Result<Option<String>, Error> {
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
        AttachResult::Attached => last.clear(),
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
            return Ok(Some(format!("is already attached to {} by {by}", other.socket)));
        }
    }
    let ended = tokio::select! {
        ended = until_detached(target, &mut node) => Some(ended?),
        _ = stopped.wait_for(|stop| *stop) => None,
    };
    if ended.is_none() {
        detach(target, node).await;
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
        tracing::warn!(node = %target.node, "{message}");
    }
    let now = attach::wait_until_connected(node, &target.destinations).await?;
    if now.state == "steady" {
        if let Some(message) = instead(&now) {
            tracing::warn!(node = %target.node, reason = message, "using the fallback transport");
        }
        tracing::info!(node = %target.node, modules = now.modules.len(), events = now.events, data = now.socket, "attached");
    } else {
        let reason = unreachable(&target.node.to_string(), &now);
        tracing::warn!(node = %target.node, reason, "no data from the relay");
    }
    while !attach::watch(node, Instant::now() + WATCH).await? {}
    Ok("was detached by someone else; to keep it detached, remove it from receivers.beam.attach".to_owned())
}

async fn detach(target: &NodeTarget, mut node: Connection) {
    let mut result = attach::detach(&mut node).await;
    if result.is_err() {
        // The interrupted call may have left a partial message on the connection.
        result = match target.connect().await {
            Ok(mut node) => attach::detach(&mut node).await,
            Err(error) => Err(error),
        };
    }
    match result {
        Ok(_) => tracing::info!(node = %target.node, "detached"),
        Err(error) => {
            tracing::warn!(node = %target.node, %error, "cannot detach; the relay removes itself after 30 s")
        }
    }
}
