//! Nodes that the configuration attaches to: one task each that connects, attaches, watches, and tries again.
//!
//! Runs on the main thread; only control passes here. A node that goes away is tried again with backoff. When the collector comes back
//! within 30 s of its death the relay that it left on the node is taken over, with its totals.

use crate::commands::attach::{instead, unreachable};
use crate::commands::attach_data::choose;
use crate::config;
use dichroic_receiver_attach::Error;
use dichroic_receiver_attach::attach::{self, Outcome, Target};
use dichroic_receiver_attach::connection::Connection;
use dichroic_receiver_attach::data::Place;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A connection that held so long begins with the shortest pause again.
const HELD: Duration = Duration::from_secs(30);
/// How long a watch lasts before it begins anew.
const WATCH: Duration = Duration::from_secs(3600);

/// The tasks.
pub struct Attachments {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Where relays find this collector.
pub struct Places {
    pub socket: Place,
    pub tcp: Option<Place>,
}

/// Starts a task for each node. Called inside a `LocalSet`.
pub fn start(nodes: &[config::Attach], places: &Places) -> Attachments {
    let (stop, stopped) = watch::channel(false);
    let tasks = nodes
        .iter()
        .filter_map(|node| target(node, places))
        .map(|target| tokio::task::spawn_local(keep(target, stopped.clone())))
        .collect();
    Attachments { stop, tasks }
}

impl Attachments {
    /// Detaches every node, within the deadline; those that are left behind leave by themselves.
    pub async fn finish(self, deadline: Duration) {
        self.stop.send_replace(true);
        let all = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        if timeout(deadline, all).await.is_err() {
            tracing::warn!("shutdown deadline reached: some nodes will detach by themselves");
        }
    }
}

/// What the configuration's check has let through can be attached to.
fn target(node: &config::Attach, places: &Places) -> Option<Target> {
    let data = choose(node.data, Some(places.socket.clone()), places.tcp.clone())?;
    node.target(data).ok()
}

async fn keep(target: Target, mut stopped: watch::Receiver<bool>) {
    let mut pause = BACKOFF_MIN;
    let mut told = String::new();
    if let Some(words) = target.places.warning() {
        tracing::warn!(node = %target.node, "{words}");
    }
    loop {
        let begun = Instant::now();
        let mut node = None;
        let outcome = tokio::select! {
            outcome = once(&target, &mut node) => Some(outcome),
            _ = stopped.wait_for(|stop| *stop) => None,
        };
        match outcome {
            None => return leave(&target, node).await,
            Some(Ok(words)) => tell(&mut told, &target, words),
            Some(Err(error)) => tell(&mut told, &target, error.to_string()),
        }
        drop(node);
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
fn tell(told: &mut String, target: &Target, words: String) {
    if *told != words {
        tracing::warn!(node = %target.node, "attach: {words}");
        *told = words;
    }
}

/// Attaches and watches until something ends it.
async fn once(target: &Target, slot: &mut Option<Connection>) -> Result<String, Error> {
    let node = slot.insert(target.connect().await?);
    match attach::attach(node, &target.data).await? {
        Outcome::Ours => {}
        Outcome::Installed => {
            // Nothing to do; look again when it may have changed.
            *slot = None;
            sleep(BACKOFF_MAX).await;
            return Ok("runs the relay as part of its application: nothing to attach".to_owned());
        }
        Outcome::Taken(other) => {
            *slot = None;
            let by = other.guardian.unwrap_or_default();
            return Ok(format!("is attached already, to {} by {by}", other.socket));
        }
    }
    let now = attach::settle(node, &target.data).await?;
    if now.state == "steady" {
        if let Some(words) = instead(&now) {
            tracing::warn!(node = %target.node, "attach: {words}");
        }
        tracing::info!(node = %target.node, modules = now.modules.len(), events = now.events, data = now.socket, "attached");
    } else {
        tracing::warn!("attach: {}", unreachable(&target.node.to_string(), &now));
    }
    while !attach::watch(node, Instant::now() + WATCH).await? {}
    *slot = None;
    Ok("was detached by another".to_owned())
}

async fn leave(target: &Target, node: Option<Connection>) {
    let Some(mut node) = node else { return };
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
