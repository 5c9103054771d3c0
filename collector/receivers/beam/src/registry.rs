//! The nodes by name: which connection supersedes which, and the state passed from one connection to the next.
//!
//! `instance` is the node name; only the newest incarnation is shown. Within an epoch the higher attempt wins, across epochs the
//! later connection; unread bytes of the superseded one are never applied. Several BEAMs may have no name (`nonode@nohost`): a second
//! one gets its process id in its name instead of superseding the first. A node that gets its name later connects again within its
//! epoch: its source without a name is removed, because the totals continue under the name.

use crate::config::Config;
use crate::relay::{Relay, RetainedState, source_spec};
use crate::status::StatusBoard;
use dichroic_model::clock::steady;
use dichroic_model::{SECOND, SourceId, UnixNanos};
use dichroic_pipeline::{Core, NodeStart};
use dichroic_wire::control::RETRY_DEFAULT_BACKOFF;
use dichroic_wire::hello::RelayMode;
use dichroic_wire::{Goodbye, GoodbyeCode, RelayHello};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::Notify;

/// Time for which a disconnected node is kept, longer than its series.
const RETAIN_NODE: UnixNanos = 120 * SECOND;
/// Reconnect delay of a superseded VM of the same name, so that two VMs do not alternate.
const RETRY_OTHER_VM_MS: u32 = 60_000;
/// Name of a BEAM without distribution.
const UNNAMED_NODE: &str = "nonode@nohost";

/// The nodes and what their connections share. Cheap to clone; lives on the ingest thread.
#[derive(Clone)]
pub(crate) struct Registry(Rc<Inner>);

struct Inner {
    config: RefCell<Rc<Config>>,
    revision: Cell<u64>,
    generation: Cell<i64>,
    nodes: RefCell<HashMap<String, Node>>,
    sessions: Cell<usize>,
    closing: Cell<bool>,
    quiet: Notify,
    board: StatusBoard,
}

#[derive(Default)]
struct Node {
    live: Option<Rc<Connection>>,
    source: Option<SourceId>,
    os_pid: i64,
    epoch: i64,
    attempt: i64,
    retained: RetainedState,
    ended: UnixNanos,
    crashes: u64,
}

/// A connection, as other tasks access it.
pub(crate) struct Connection {
    pub(crate) key: String,
    pub(crate) relay: RefCell<Relay>,
    pub(crate) wake: Notify,
    goodbye: RefCell<Option<Goodbye>>,
}

impl Connection {
    /// Requests the end of the connection: frames read from then on are not applied, unless the code is shutdown.
    fn close(&self, goodbye: Goodbye) {
        *self.goodbye.borrow_mut() = Some(goodbye);
        self.wake.notify_one();
    }

    /// The GOODBYE to send, if one was requested.
    pub(crate) fn goodbye(&self) -> Option<Goodbye> {
        self.goodbye.borrow().clone()
    }
}

/// How a connection ended, for the status, the logs and the ledger.
pub(crate) enum ConnectionEnd {
    /// The relay sent GOODBYE.
    Goodbye(String),
    /// The connection closed or failed without GOODBYE.
    Crash(String),
    /// The collector ended it.
    Ours(String),
}

impl Registry {
    /// A registry without relays.
    pub(crate) fn new(config: Config) -> Self {
        Registry(Rc::new(Inner {
            config: RefCell::new(Rc::new(config)),
            revision: Cell::new(0),
            // From the clock, so that generations ascend across restarts of the collector.
            generation: Cell::new((dichroic_model::clock::now() / 1_000_000) as i64),
            nodes: RefCell::default(),
            sessions: Cell::new(0),
            closing: Cell::new(false),
            quiet: Notify::new(),
            board: StatusBoard::default(),
        }))
    }

    /// Replaces packs, definitions and limits.
    pub(crate) fn reload(&self, config: Config) {
        *self.0.config.borrow_mut() = Rc::new(config);
        self.0.revision.set(self.0.revision.get() + 1);
    }

    /// Requests a last flush from every relay and waits, with a deadline. No relay is accepted from then on.
    pub(crate) async fn shutdown(&self) {
        self.0.closing.set(true);
        let live: Vec<_> = self
            .0
            .nodes
            .borrow()
            .values()
            .filter_map(|node| node.live.clone())
            .collect();
        for connection in live {
            connection.close(closing());
        }
        let deadline = tokio::time::Instant::now() + 2 * self.config().goodbye_timeout;
        while self.0.sessions.get() > 0 {
            if tokio::time::timeout_at(deadline, self.0.quiet.notified())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// The status of all relays, readable from any thread. At most a second old.
    pub(crate) fn board(&self) -> StatusBoard {
        self.0.board.clone()
    }

    /// Relays connected at present.
    pub(crate) fn connected(&self) -> usize {
        self.0
            .nodes
            .borrow()
            .values()
            .filter(|node| node.live.is_some())
            .count()
    }

    pub(crate) fn config(&self) -> Rc<Config> {
        self.0.config.borrow().clone()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.0.revision.get()
    }

    pub(crate) fn next_generation(&self) -> i64 {
        self.0.generation.set(self.0.generation.get() + 1);
        self.0.generation.get()
    }

    pub(crate) fn enter(&self) {
        self.0.sessions.set(self.0.sessions.get() + 1);
    }

    pub(crate) fn exit(&self) {
        self.0.sessions.set(self.0.sessions.get() - 1);
        self.0.quiet.notify_one();
    }

    pub(crate) fn show(&self, connection: &Connection) {
        self.0
            .board
            .write(&connection.key, connection.relay.borrow_mut().status());
    }

    /// Registers a relay after the handshake as the one of its node.
    ///
    /// # Errors
    /// The GOODBYE for a relay that is not accepted.
    pub(crate) fn claim(
        &self,
        hello: RelayHello,
        store: &mut Core,
        now: UnixNanos,
    ) -> Result<Rc<Connection>, Goodbye> {
        if self.0.closing.get() {
            return Err(closing());
        }
        self.prune(now);
        let config = self.config();
        let key = self.key(&hello);
        if !self.is_live(&key) && self.connected() >= config.relays {
            let message = format!("limit of {} connected relays reached", config.relays);
            return Err(Goodbye::new(GoodbyeCode::Limit, RETRY_OTHER_VM_MS, &message));
        }
        let mut nodes = self.0.nodes.borrow_mut();
        if let Some(former) = take_unnamed(&mut nodes, &hello) {
            self.0.board.remove(&former.0);
            if let Some(source) = former.1.source {
                store.remove_source(source);
            }
            nodes.insert(key.clone(), former.1);
        }
        let node = nodes.entry(key.clone()).or_default();
        let same_vm = node.os_pid == hello.os_pid;
        let same_epoch = same_vm && node.epoch == hello.epoch;
        if let Some(loser) = node.live.take() {
            if same_epoch && hello.attempt <= node.attempt {
                let message = format!(
                    "attempt {} of this epoch is already connected; refusing attempt {}",
                    node.attempt, hello.attempt
                );
                node.live = Some(loser);
                return Err(Goodbye::new(
                    GoodbyeCode::Superseded,
                    RETRY_DEFAULT_BACKOFF,
                    &message,
                ));
            }
            let mut relay = loser.relay.borrow_mut();
            relay.disconnected(store, now);
            node.retained = relay.retain();
            drop(relay);
            loser.close(superseded(&hello, same_vm));
        }
        let spec = source_spec(&key, &hello);
        let source = match store.open_source(spec, now) {
            Ok(source) => source,
            Err(refused) => {
                let message = format!(
                    "the collector accepts no more sources ({}); raise limits.sources",
                    refused.0.as_str()
                );
                return Err(Goodbye::new(GoodbyeCode::Limit, RETRY_OTHER_VM_MS, &message));
            }
        };
        let mut retained = std::mem::take(&mut node.retained);
        if node.source != Some(source.id) {
            // The retained series belong to an expired source.
            retained.series = Default::default();
        }
        node.source = Some(source.id);
        (node.os_pid, node.epoch, node.attempt) = (hello.os_pid, hello.epoch, hello.attempt);
        store.node_connected(&source, node_start(&hello, same_epoch, now));
        let relay = Relay::new(store, &config, source, hello, retained, same_epoch, now);
        let connection = Rc::new(Connection {
            key,
            relay: RefCell::new(relay),
            wake: Notify::new(),
            goodbye: RefCell::new(None),
        });
        node.live = Some(connection.clone());
        Ok(connection)
    }

    /// Ends a connection. Has no effect for a superseded one.
    pub(crate) fn release(
        &self,
        connection: &Rc<Connection>,
        store: &mut Core,
        ended: &ConnectionEnd,
        now: UnixNanos,
    ) {
        let mut nodes = self.0.nodes.borrow_mut();
        let Some(node) = nodes.get_mut(&connection.key) else {
            self.0.board.remove(&connection.key);
            return;
        };
        if !node
            .live
            .as_ref()
            .is_some_and(|live| Rc::ptr_eq(live, connection))
        {
            return;
        }
        let mut relay = connection.relay.borrow_mut();
        let mut status = relay.status();
        let id = relay.source().id;
        let end = match ended {
            ConnectionEnd::Goodbye(message) | ConnectionEnd::Ours(message) => message.clone(),
            ConnectionEnd::Crash(message) => {
                node.crashes += 1;
                store
                    .ledger_mut()
                    .relay(id, "ended_without_goodbye", node.crashes);
                message.clone()
            }
        };
        match ended {
            ConnectionEnd::Crash(_) => {
                tracing::warn!(node = %status.node, os_pid = status.os_pid, reason = %end, "relay disconnected without GOODBYE");
            }
            ConnectionEnd::Goodbye(_) | ConnectionEnd::Ours(_) => {
                tracing::info!(node = %status.node, os_pid = status.os_pid, reason = %end, "relay disconnected");
            }
        }
        tracing::Span::current()
            .record("rows", status.rows as i64)
            .record("events", status.events as i64)
            .record("result", &end);
        (status.ended, status.end) = (Some(now), end);
        self.0.board.write(&connection.key, status);
        relay.disconnected(store, now);
        store.end_source(id, now);
        (node.live, node.ended, node.retained) = (None, steady(now), relay.retain());
    }

    fn is_live(&self, key: &str) -> bool {
        self.0
            .nodes
            .borrow()
            .get(key)
            .is_some_and(|node| node.live.is_some())
    }

    fn key(&self, hello: &RelayHello) -> String {
        if hello.node != UNNAMED_NODE {
            return hello.node.clone();
        }
        let nodes = self.0.nodes.borrow();
        let unique = format!("{UNNAMED_NODE}#{}", hello.os_pid);
        let taken = nodes
            .get(UNNAMED_NODE)
            .is_some_and(|node| node.live.is_some() && node.os_pid != hello.os_pid);
        if taken || nodes.contains_key(&unique) {
            unique
        } else {
            hello.node.clone()
        }
    }

    /// Removes nodes that disconnected long ago, and the oldest when there are too many.
    fn prune(&self, now: UnixNanos) {
        let most = 4 * self.config().relays;
        let mut nodes = self.0.nodes.borrow_mut();
        let disconnected = |node: &Node| node.live.is_none();
        let mut removed: Vec<String> = nodes
            .iter()
            .filter(|(_, node)| disconnected(node) && node.ended + RETAIN_NODE < steady(now))
            .map(|(key, _)| key.clone())
            .collect();
        if nodes.len() - removed.len() > most {
            let oldest = nodes
                .iter()
                .filter(|(_, node)| disconnected(node))
                .min_by_key(|(_, node)| node.ended);
            removed.extend(oldest.map(|(key, _)| key.clone()));
        }
        for key in removed {
            nodes.remove(&key);
            self.0.board.remove(&key);
        }
    }
}

/// Takes the entry that this VM had before it got its name.
fn take_unnamed(nodes: &mut HashMap<String, Node>, hello: &RelayHello) -> Option<(String, Node)> {
    if hello.node == UNNAMED_NODE || nodes.contains_key(&hello.node) {
        return None;
    }
    let same_vm = |node: &Node| node.os_pid == hello.os_pid && node.epoch == hello.epoch;
    let key = nodes
        .iter()
        .find(|(key, node)| key.starts_with(UNNAMED_NODE) && same_vm(node))?
        .0
        .clone();
    nodes.remove_entry(&key)
}

/// When the events of a node started: an application may have run before its relay was attached.
fn events_start(hello: &RelayHello, now: UnixNanos) -> UnixNanos {
    match hello.mode {
        RelayMode::Installed => u64::try_from(hello.epoch).unwrap_or(0).min(now),
        RelayMode::Attached => 0,
    }
}

fn node_start(hello: &RelayHello, continues: bool, now: UnixNanos) -> NodeStart {
    NodeStart {
        events: events_start(hello, now),
        continues,
        rows_until: rows_until(hello),
    }
}

/// Until when the relay sent rows on an earlier connection.
fn rows_until(hello: &RelayHello) -> Option<UnixNanos> {
    u64::try_from(hello.rows_until?).ok().filter(|time| *time > 0)
}

fn closing() -> Goodbye {
    let message = "the collector is shutting down";
    Goodbye::new(GoodbyeCode::Shutdown, RETRY_DEFAULT_BACKOFF, message)
}

fn superseded(by: &RelayHello, same_vm: bool) -> Goodbye {
    let retry = if same_vm {
        RETRY_DEFAULT_BACKOFF
    } else {
        RETRY_OTHER_VM_MS
    };
    let message = format!(
        "superseded: {} connected as process {}, epoch {}, attempt {}",
        by.node, by.os_pid, by.epoch, by.attempt
    );
    Goodbye::new(GoodbyeCode::Superseded, retry, &message)
}
