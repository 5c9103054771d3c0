//! Keeps the nodes of `receivers.beam.attach` attached: one task per node connects, attaches, watches, and retries.
//!
//! Runs on the main thread and exchanges only control messages with the nodes. A collector that restarts within 30 s of a crash takes
//! over the relay on the node, with its totals.

use crate::attach::destination::choose;
use crate::attach::report::{instead, unreachable};
use crate::attach::retry::{BACKOFF_MAX, Lasts, Pause, Retry};
use crate::attach::status::{AttachBoard, AttachStatus, State};
use crate::config::attach::Attach;
use dichroic_beam_attach::Error;
use dichroic_beam_attach::attach::{self, AttachResult, DetachResult, NodeTarget};
use dichroic_beam_attach::connection::Connection;
use dichroic_beam_attach::destination::RelayDestination;
use dichroic_tasks::{Kind, Stopped};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// Length of one watch call; it is repeated.
const WATCH: Duration = Duration::from_secs(3600);
const REMOVE_ENTRY: &str = "remove its entry from receivers.beam.attach";

/// Where relays connect to this collector.
pub struct CollectorDestinations {
    /// The local socket.
    pub socket: RelayDestination,
    /// `security.local_tcp`, unless it is off.
    pub tcp: Option<RelayDestination>,
}

/// The configured nodes, each with its task.
pub struct Attachments {
    destinations: CollectorDestinations,
    board: AttachBoard,
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

/// Starts a task for each node, which writes its state to the board. Called inside a `LocalSet`.
pub fn start(nodes: &[Attach], destinations: CollectorDestinations, board: AttachBoard) -> Attachments {
    let mut attachments = Attachments {
        destinations,
        board,
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
            .partition::<Vec<_>, _>(|attachment| nodes.contains(&attachment.entry));
        self.attached = same;
        for Attachment { entry, stop, task } in removed {
            stop.send_replace(true);
            tracing::info!(node = entry.node, "entry removed or changed; detaching");
            self.detaching.insert(entry.node, task);
        }
        for node in nodes {
            if !self.attached.iter().any(|attachment| attachment.entry == *node) {
                let previous = self.detaching.remove(&node.node);
                self.attached
                    .extend(supervise(node, &self.destinations, previous, &self.board));
            }
        }
    }

    /// Detaches every node within the deadline. A relay that is not detached in time detaches itself when its connection closes.
    pub async fn finish(self, deadline: Duration) {
        let mut tasks: Vec<(String, JoinHandle<()>)> = self.detaching.into_iter().collect();
        for Attachment { entry, stop, task } in self.attached {
            stop.send_replace(true);
            tasks.push((entry.node, task));
        }
        let all = async {
            for (_, task) in &mut tasks {
                let _ = task.await;
            }
        };
        if timeout(deadline, all).await.is_err() {
            tasks.retain(|(_, task)| !task.is_finished());
            let nodes: Vec<String> = tasks.into_iter().map(|(node, _)| node).collect();
            tracing::warn!(
                nodes = nodes.join(", "),
                "shutdown deadline reached before these nodes were detached; their relays remove themselves after 30 s; raise limits.shutdown to wait longer"
            );
        }
    }
}

/// Starts the task of a node, which first waits for the end of the task of its previous entry. `None`: the node cannot be attached
/// with the listeners of this process.
fn supervise(
    node: &Attach,
    destinations: &CollectorDestinations,
    previous: Option<JoinHandle<()>>,
    board: &AttachBoard,
) -> Option<Attachment> {
    let Some(destinations) = choose(
        node.transport,
        Some(destinations.socket.clone()),
        destinations.tcp.clone(),
    ) else {
        // A reload can add security.local_tcp to the configuration, but not bind its listener.
        tracing::warn!(
            node = node.node,
            reason = "transport: tcp requires security.local_tcp, which takes effect after a restart",
            help = "restart the collector, or write transport: auto",
            "cannot attach"
        );
        return None;
    };
    let target = node.target(destinations).ok()?;
    let (stop, stopped) = watch::channel(false);
    let (name, mut stopped, mut previous, board) = (node.node.clone(), stopped, previous, board.clone());
    let task = dichroic_tasks::restart(Kind::AttachLoop, name, async move || {
        if let Some(previous) = previous.take() {
            let _ = previous.await;
        }
        attach_until_stopped(&target, &mut stopped, &board).await
    });
    Some(Attachment {
        entry: node.clone(),
        stop,
        task,
    })
}

/// Why a node is not attached, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct NotAttached {
    reason: String,
    help: Option<String>,
    lasts: Lasts,
}

impl NotAttached {
    fn new(reason: impl Into<String>, help: impl Into<String>) -> Self {
        NotAttached {
            reason: reason.into(),
            help: Some(help.into()),
            lasts: Lasts::Shortly,
        }
    }
}

impl From<Error> for NotAttached {
    fn from(error: Error) -> Self {
        NotAttached {
            reason: error.to_string(),
            help: None,
            lasts: Lasts::of(&error),
        }
    }
}

/// What is known and shown about a node between attempts.
struct Progress<'a> {
    node: String,
    board: &'a AttachBoard,
    /// The failure that was logged last, and whether as a refusal.
    last: Option<(NotAttached, bool)>,
}

impl Progress<'_> {
    /// The next failure is logged even if it is the same.
    fn attached(&mut self) {
        self.last = None;
        self.board
            .write(AttachStatus::of(self.node.clone(), State::Attached));
    }

    /// A failure that repeats at every attempt is logged once.
    fn failed(&mut self, failure: NotAttached, pause: Pause) {
        let refused = pause == Pause::Refused;
        let NotAttached { reason, help, .. } = &failure;
        self.board.write(AttachStatus {
            node: self.node.clone(),
            state: if refused { State::Refused } else { State::Retrying },
            reason: reason.clone(),
            help: help.clone().unwrap_or_default(),
            next: Some(Instant::now() + pause.length()),
        });
        // A refusal is logged when it is believed.
        let logged = self
            .last
            .as_ref()
            .is_some_and(|(last, as_refusal)| *last == failure && *as_refusal == refused);
        if logged || (failure.lasts != Lasts::Shortly && !refused) {
            return;
        }
        let help = help.as_deref();
        if refused {
            tracing::warn!(
                node = self.node,
                reason,
                help,
                retry_seconds = pause.length().as_secs(),
                "not attached; retrying hourly, and when the node or a file of its entry changes"
            );
        } else {
            tracing::warn!(node = self.node, reason, help, "not attached; retrying");
        }
        self.last = Some((failure, refused));
    }
}

async fn attach_until_stopped(
    target: &NodeTarget,
    stopped: &mut watch::Receiver<bool>,
    board: &AttachBoard,
) -> Stopped {
    if let Some(message) = target.cookie.warning() {
        tracing::warn!(node = %target.node, "{message}");
    }
    let mut progress = Progress {
        node: target.node.to_string(),
        board,
        last: None,
    };
    let mut retry = Retry::new();
    board.write(AttachStatus::of(progress.node.clone(), State::Connecting));
    loop {
        let before = tokio::select! {
            before = retry.before(target) => before,
            () = dichroic_tasks::stopped(stopped) => break,
        };
        let Some(failure) = attach_once(target, stopped, &mut progress).await else {
            break;
        };
        let lasts = failure.lasts;
        let pause = retry.after(&before, lasts);
        progress.failed(failure, pause);
        tokio::select! {
            changed = retry.wait(target, &before, pause, lasts) => {
                if changed {
                    progress.last = None;
                }
            }
            () = dichroic_tasks::stopped(stopped) => break,
        }
    }
    board.remove(&progress.node);
    Stopped
}

/// Attaches, and watches until the end. `None`: stopped and detached.
async fn attach_once(
    target: &NodeTarget,
    stopped: &mut watch::Receiver<bool>,
    progress: &mut Progress<'_>,
) -> Option<NotAttached> {
    match try_attach(target, stopped, progress).await {
        Ok(ended) => ended,
        Err(error) => Some(error.into()),
    }
}

async fn try_attach(
    target: &NodeTarget,
    stopped: &mut watch::Receiver<bool>,
    progress: &mut Progress<'_>,
) -> Result<Option<NotAttached>, Error> {
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
        () = dichroic_tasks::stopped(stopped) => return Ok(None),
    };
    // A stop does not cancel this: the node completes the call without its caller, and could start the relay after a detach.
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
        AttachResult::Attached => progress.attached(),
        AttachResult::Installed => {
            drop(node);
            return Ok(tokio::select! {
                // A later version of the application may not contain the relay.
                () = sleep(BACKOFF_MAX) => Some(NotAttached::new(
                    "the node runs the relay as part of its application",
                    REMOVE_ENTRY,
                )),
                () = dichroic_tasks::stopped(stopped) => None,
            });
        }
        AttachResult::AlreadyAttached(other) => {
            return Ok(Some(NotAttached::new(
                format!(
                    "already attached to {} by {}",
                    other.socket,
                    other.guardian.unwrap_or_default()
                ),
                format!("run `dichroic detach {}`, or {REMOVE_ENTRY}", target.node),
            )));
        }
    }
    let ended = tokio::select! {
        ended = until_detached(target, &mut node) => Some(ended?),
        () = dichroic_tasks::stopped(stopped) => None,
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

/// Logs the state of the relay and watches it until another process detaches it.
async fn until_detached(target: &NodeTarget, node: &mut Connection) -> Result<NotAttached, Error> {
    if let Some(message) = target.destinations.warning(node.is_local()) {
        tracing::warn!(node = %target.node, "{message}");
    }
    let now = attach::wait_until_connected(node, &target.destinations).await?;
    if now.state == "steady" {
        if let Some(message) = instead(&now) {
            tracing::warn!(node = %target.node, reason = message, "using the fallback transport");
        }
        tracing::info!(node = %target.node, modules = now.modules.len(), events = now.events, destination = now.socket, "attached");
    } else {
        tracing::warn!(node = %target.node, reason = unreachable(&now), "no data from the relay");
    }
    while !attach::watch(node, Instant::now() + WATCH).await? {}
    Ok(NotAttached::new(
        "detached by another process",
        format!("to keep the node detached, {REMOVE_ENTRY}"),
    ))
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
        Ok(Some(DetachResult { kept })) if !kept.is_empty() => tracing::warn!(
            node = %target.node,
            modules = kept.join(", "),
            "detached; these modules stay loaded, because processes of the application still run their code"
        ),
        Ok(_) => tracing::info!(node = %target.node, "detached"),
        Err(error) => tracing::warn!(
            node = %target.node,
            %error,
            help = format!("to remove the relay at once, run `dichroic detach {}`", target.node),
            "cannot detach; the relay removes itself after 30 s"
        ),
    }
}
