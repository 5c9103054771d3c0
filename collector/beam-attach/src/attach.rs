//! Attaching: load the relay, start it, monitor it, remove it.
//!
//! The relay connects to the collector at the given destination and gets its plan there; this module is control only. If the collector
//! dies, the relay's keeper process on the node sees the connection close, waits 30 s for another guardian, and removes the relay.

use crate::connection::{self, Connection, Idle};
use crate::destination::{Destinations, RelayDestination};
use crate::error::Error;
use crate::modules::{self, ModuleSet};
use crate::term::{Term, atom, string};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Name of the keeper: a registered process and the module that it runs.
const KEEPER: &str = "dichroic_attach";
/// Time limit of a call that reads state.
const CALL: Duration = Duration::from_secs(10);
/// Time limit of loading, starting and adopting.
const START: Duration = Duration::from_secs(30);
/// Time limit of removal: last totals, processes, code.
const REMOVE: Duration = Duration::from_secs(40);
/// Time for the relay to connect to the collector.
const RELAY_CONNECT: Duration = Duration::from_secs(10);

/// The code of a collector's GOODBYE to a wrong token.
const UNAUTHORIZED: i64 = 2;

/// State of a node before attaching.
#[derive(Debug, Clone, PartialEq)]
pub enum Presence {
    /// No relay.
    Nothing,
    /// The relay is part of the application.
    Installed,
    /// It is attached.
    Attached(AttachedRelay),
}

/// An attached relay.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AttachedRelay {
    /// Name of the connection that guards it; `None` while the relay waits for another guardian.
    pub guardian: Option<String>,
    /// Its destination: a path, or `tcp://host:port`.
    pub socket: String,
    /// The destination that it could not reach before it was redirected to `socket`, and the reason.
    pub instead_of: Option<(String, String)>,
    /// State of its connection to the collector.
    pub state: String,
    /// Events with a handler.
    pub events: u64,
    /// Last error of its connection to the collector, as an Erlang term.
    pub last_error: Option<String>,
    /// Whether that error is a failure to connect.
    pub unreachable: bool,
    /// Whether the collector rejected its token.
    pub unauthorized: bool,
    /// Loaded modules and the MD5 of their code, as the node reports.
    pub modules: Vec<(String, String)>,
}

/// Result of attaching.
#[derive(Debug, Clone, PartialEq)]
pub enum AttachResult {
    /// The relay runs on the node, guarded by this connection.
    Attached,
    /// The relay is part of the application: nothing was loaded.
    Installed,
    /// Another collector has attached it: nothing was changed.
    AlreadyAttached(AttachedRelay),
}

/// Result of detaching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachResult {
    /// Modules whose code a process of the application still runs: deleted, not purged.
    pub kept: Vec<String>,
}

/// The state of a node.
pub async fn presence(node: &mut Connection) -> Result<Presence, Error> {
    if whereis(node, KEEPER).await? {
        let info = node.call(KEEPER, "info", Vec::new(), CALL).await?;
        return match info {
            Term::Map(_) => Ok(Presence::Attached(attached(&info))),
            // It was removed during the call.
            _ => Ok(Presence::Nothing),
        };
    }
    Ok(if whereis(node, "dichroic_sup").await? {
        Presence::Installed
    } else {
        Presence::Nothing
    })
}

pub(crate) async fn whereis(node: &mut Connection, name: &str) -> Result<bool, Error> {
    let answer = node.call("erlang", "whereis", vec![atom(name)], CALL).await?;
    Ok(matches!(answer, Term::Pid(_)))
}

/// Loads the relay and starts it with a destination, or takes over one that waits for a guardian.
pub async fn attach(node: &mut Connection, destinations: &Destinations) -> Result<AttachResult, Error> {
    destinations.reaches(node.is_local())?;
    match presence(node).await? {
        Presence::Installed => return Ok(AttachResult::Installed),
        Presence::Attached(found) if found.guardian.is_some() => {
            return Ok(AttachResult::AlreadyAttached(found));
        }
        Presence::Attached(found) => {
            let set = ModuleSet::of(node).await?;
            match destinations
                .named(&found.socket)
                .filter(|_| has_this_code(&found, set))
            {
                Some(destination) => match start(node, destination, Vec::new()).await? {
                    Started::Yes => (),
                    Started::Unloaded(_) => load_and_start(node, &destinations.first).await?,
                },
                None => {
                    detach(node).await?;
                    load_and_start(node, &destinations.first).await?;
                }
            }
        }
        Presence::Nothing => load_and_start(node, &destinations.first).await?,
    }
    node.monitor(KEEPER).await?;
    Ok(AttachResult::Attached)
}

fn has_this_code(found: &AttachedRelay, set: ModuleSet) -> bool {
    set.relay().all(|m| {
        found
            .modules
            .iter()
            .any(|(name, md5)| name == m.name && md5 == m.md5)
    })
}

/// Code of an earlier attachment remains callable until the new code replaces it.
async fn load_and_start(node: &mut Connection, destination: &RelayDestination) -> Result<(), Error> {
    reject_if_installed(node).await?;
    let set = ModuleSet::of(node).await?;
    let until = Instant::now() + CALL;
    loop {
        let busy = clear(node).await?;
        let reason = if busy.is_empty() {
            match start(node, destination, vec![modules::to_load(set.relay())]).await? {
                Started::Yes => break,
                Started::Unloaded(removed) => {
                    format!(
                        "the cleanup of an earlier attachment removed {removed} during loading; try again"
                    )
                }
            }
        } else {
            format!(
                "processes of the application still run code of an earlier attachment: {}; try again when they have finished",
                busy.join(" ")
            )
        };
        if Instant::now() >= until {
            return Err(Error::Call(reason));
        }
        sleep(Duration::from_millis(100)).await;
    }
    // Purge the replaced code. Code still in use is purged on detach.
    clear(node).await.map(drop)
}

/// In interactive mode a node may have the relay on its code path without having started it: attached modules would break its start.
async fn reject_if_installed(node: &mut Connection) -> Result<(), Error> {
    let found = node
        .call("code", "where_is_file", vec![string("dichroic.app")], CALL)
        .await?;
    match found.as_atom() {
        Some("non_existing") => Ok(()),
        _ => Err(part_of_application(&format!(
            "the node finds {}",
            found.to_text().unwrap_or_default()
        ))),
    }
}

fn part_of_application(what: &str) -> Error {
    Error::Call(format!(
        "{what}: the relay is part of its application; start that instead: application:ensure_all_started(dichroic)"
    ))
}

/// Purges old code of the relay's modules and returns the names of modules in use.
///
/// # Errors
/// When a module of such a name was loaded from a file.
async fn clear(node: &mut Connection) -> Result<Vec<&'static str>, Error> {
    let names: Vec<&'static str> = modules::names().collect();
    for (name, loaded) in names.iter().zip(of_each(node, "is_loaded", &names).await?) {
        if let Some([_, file]) = loaded.as_tuple()
            && let file = file.to_text().unwrap_or_default()
            && file != modules::FILE
        {
            return Err(part_of_application(&format!(
                "the node has loaded {name} from {file}"
            )));
        }
    }
    let purged = of_each(node, "soft_purge", &names).await?;
    let busy = names
        .iter()
        .zip(purged)
        .filter(|(_, purged)| purged.as_atom() != Some("true"));
    Ok(busy.map(|(name, _)| *name).collect())
}

/// The results of a function of `code` for each module.
pub(crate) async fn of_each(
    node: &mut Connection,
    function: &str,
    names: &[&str],
) -> Result<Vec<Term>, Error> {
    let arguments = vec![
        Term::Export("code".to_owned(), function.to_owned(), 1),
        Term::List(names.iter().copied().map(atom).collect()),
    ];
    match node.call("lists", "map", arguments, CALL).await? {
        Term::List(answers) if answers.len() == names.len() => Ok(answers),
        other => Err(Error::Protocol(format!("code:{function} answered {other}"))),
    }
}

/// Where a module was loaded from; `None` when it is not loaded.
async fn loaded_from(node: &mut Connection, module: &str) -> Result<Option<String>, Error> {
    let answer = node.call("code", "is_loaded", vec![atom(module)], CALL).await?;
    Ok(match answer.as_tuple() {
        Some([_, file]) => Some(file.to_text().unwrap_or_default()),
        _ => None,
    })
}

enum Started {
    Yes,
    /// Not started: these modules were removed.
    Unloaded(String),
}

/// Loads the code, if there is any, and starts the relay in one call, so that a failure cannot leave the relay partly started.
async fn start(
    node: &mut Connection,
    destination: &RelayDestination,
    load: Vec<Term>,
) -> Result<Started, Error> {
    let options = Term::Map(vec![
        (atom("guardian"), atom(node.own_name())),
        (atom("socket"), destination.term()?),
        (atom("modules"), Term::List(modules::names().map(atom).collect())),
        (atom("vsn"), Term::Binary(env!("CARGO_PKG_VERSION").into())),
    ]);
    let answer = in_turn(node, load, KEEPER, "start", options, START).await?;
    match answer.as_tuple() {
        Some([Term::Atom(ok), _]) if ok == "ok" => Ok(Started::Yes),
        Some([Term::Atom(error), Term::Tuple(reason)])
            if error == "error" && reason.first().and_then(Term::as_atom) == Some("unloaded") =>
        {
            Ok(Started::Unloaded(
                reason.last().map(ToString::to_string).unwrap_or_default(),
            ))
        }
        Some([Term::Atom(error), Term::Atom(reason)]) if error == "error" && reason == "installed" => Err(
            Error::Call("the application started the relay during loading; nothing was attached".to_owned()),
        ),
        _ => Err(Error::Call(format!("the relay did not start: {answer}"))),
    }
}

/// `code:atomic_load(Load)`, then a function of the loaded code, as one call that the node completes without the collector.
pub(crate) async fn in_turn(
    node: &mut Connection,
    load: Vec<Term>,
    module: &str,
    function: &str,
    argument: Term,
    limit: Duration,
) -> Result<Term, Error> {
    let call = Term::Export(module.to_owned(), function.to_owned(), 1);
    let Some(beams) = load.into_iter().next() else {
        return node.call(module, function, vec![argument], limit).await;
    };
    let arguments = vec![
        Term::Export("erlang".to_owned(), "apply".to_owned(), 2),
        Term::List(vec![
            Term::Export("code".to_owned(), "atomic_load".to_owned(), 1),
            call,
        ]),
        Term::List(vec![Term::List(vec![beams.clone()]), Term::List(vec![argument])]),
    ];
    match node.call("lists", "zipwith", arguments, limit).await {
        Ok(Term::List(mut answers)) if answers.len() == 2 => {
            let answer = answers.remove(1);
            match answers[0].as_atom() {
                Some("ok") => Ok(answer),
                _ => Err(not_loaded(&answers[0])),
            }
        }
        Ok(other) => Err(Error::Protocol(format!("the node answered {other}"))),
        Err(Error::Call(message)) => {
            // The function is undefined when loading failed: get the reason.
            match node.call("code", "prepare_loading", vec![beams], limit).await? {
                Term::Tuple(parts) if parts.first().and_then(Term::as_atom) == Some("error") => {
                    Err(not_loaded(&Term::Tuple(parts)))
                }
                _ => Err(Error::Call(message)),
            }
        }
        Err(error) => Err(error),
    }
}

fn not_loaded(answer: &Term) -> Error {
    let message = format!("the node cannot load the relay's modules (OTP 25 or newer is required): {answer}");
    match message.contains("not_purged") {
        // Loaded at the same time by another process.
        true => Error::Call(message),
        false => Error::Refused(message),
    }
}

/// Waits until the relay has a plan from the collector, or the time is over, and returns its status. A relay that cannot reach the
/// first destination is redirected to the fallback, if there is one.
pub async fn wait_until_connected(
    node: &mut Connection,
    destinations: &Destinations,
) -> Result<AttachedRelay, Error> {
    let first = destinations.first.name();
    let mut instead_of = None;
    let mut until = Instant::now() + RELAY_CONNECT;
    loop {
        let now = relay_status(node).await?;
        if now.state == "steady" || now.unauthorized || Instant::now() >= until {
            return Ok(AttachedRelay { instead_of, ..now });
        }
        if let Some(destination) = &destinations.fallback
            && now.unreachable
            && now.socket == first
        {
            redirect(node, destination).await?;
            instead_of = Some((first.clone(), now.last_error.unwrap_or_default()));
            until = Instant::now() + RELAY_CONNECT;
        }
        node.idle(Instant::now() + Duration::from_millis(50)).await?;
    }
}

async fn redirect(node: &mut Connection, destination: &RelayDestination) -> Result<(), Error> {
    // In a map, because errors do not show the content of maps.
    let options = Term::Map(vec![(atom("socket"), destination.term()?)]);
    let answer = node.call(KEEPER, "redirect", vec![options], CALL).await?;
    match answer.as_atom() {
        Some("ok") => Ok(()),
        _ => Err(Error::Call(format!(
            "the relay could not be redirected: {answer}"
        ))),
    }
}

/// The status of the attached relay.
pub async fn relay_status(node: &mut Connection) -> Result<AttachedRelay, Error> {
    match node.call(KEEPER, "info", Vec::new(), CALL).await? {
        info @ Term::Map(_) => Ok(attached(&info)),
        other => Err(Error::Call(format!("the relay was removed: {other}"))),
    }
}

fn attached(info: &Term) -> AttachedRelay {
    let relay = info.get("relay");
    let of_relay = |key: &str| relay.and_then(|relay| relay.get(key));
    let last_error = of_relay("last_error").filter(|e| e.as_atom() != Some("none"));
    let modules = info.get("modules").and_then(Term::as_list).unwrap_or_default();
    AttachedRelay {
        guardian: info
            .get("guardian")
            .and_then(Term::as_atom)
            .filter(|name| *name != "none")
            .map(str::to_owned),
        socket: info.get("socket").and_then(Term::to_text).unwrap_or_default(),
        state: of_relay("state").and_then(Term::to_text).unwrap_or_default(),
        events: of_relay("attached")
            .and_then(Term::as_int)
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(0),
        last_error: last_error.map(ToString::to_string),
        unreachable: last_error.is_some_and(is_connect_error),
        unauthorized: last_error.is_some_and(is_unauthorized),
        instead_of: None,
        modules: modules.iter().filter_map(name_and_md5).collect(),
    }
}

/// `{cannot_connect, Reason}`; or closed before HELLO, as the local socket does for users without permission.
fn is_connect_error(error: &Term) -> bool {
    match error {
        Term::Tuple(parts) => parts.first().and_then(Term::as_atom) == Some("cannot_connect"),
        Term::Atom(reason) => matches!(reason.as_str(), "closed" | "econnreset" | "epipe" | "enotconn"),
        _ => false,
    }
}

/// `{goodbye, 2, Message}`
fn is_unauthorized(error: &Term) -> bool {
    matches!(error.as_tuple(), Some([Term::Atom(goodbye), Term::Int(UNAUTHORIZED), _]) if goodbye == "goodbye")
}

fn name_and_md5(entry: &Term) -> Option<(String, String)> {
    match entry.as_tuple()? {
        [Term::Atom(name), Term::Binary(md5)] => Some((
            name.clone(),
            md5.iter().map(|byte| format!("{byte:02x}")).collect(),
        )),
        _ => None,
    }
}

/// Keeps the connection alive until `until`; true when the relay was removed by a detach.
pub async fn watch(node: &mut Connection, until: Instant) -> Result<bool, Error> {
    Ok(matches!(node.idle(until).await?, Idle::Down(_)))
}

/// Removes the relay and returns when its code is unloaded. `None` when there was none.
pub async fn detach(node: &mut Connection) -> Result<Option<DetachResult>, Error> {
    if !whereis(node, KEEPER).await? {
        return Ok(None);
    }
    let answer = node.request(KEEPER, atom("detach"), REMOVE).await?;
    let kept = match answer.as_tuple() {
        Some([_, Term::List(kept)]) => kept.iter().filter_map(Term::to_text).collect(),
        _ => Vec::new(),
    };
    // The keeper unloads itself after its reply.
    let until = Instant::now() + CALL;
    while loaded_from(node, KEEPER).await?.is_some() {
        if Instant::now() >= until {
            return Err(Error::timeout("unloading the keeper", CALL));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(Some(DetachResult { kept }))
}

/// A node to attach to.
#[derive(Debug, Clone)]
pub struct NodeTarget {
    /// Name of the node.
    pub node: crate::address::NodeName,
    /// How the port of its listener is found.
    pub lookup: crate::address::PortLookup,
    /// Where its cookie is read from.
    pub cookie: crate::cookie::CookieSources,
    /// For nodes whose distribution uses TLS.
    pub tls: Option<crate::tls::Tls>,
    /// Where its relay connects to.
    pub destinations: Destinations,
}

impl NodeTarget {
    /// Reads the cookie and connects.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let cookie = crate::cookie::Cookie::find(&self.cookie)?;
        Connection::open(&self.node, &self.lookup, &cookie, self.tls.as_ref()).await
    }

    /// The creation of the running node, which changes when it restarts.
    ///
    /// # Errors
    /// As [`NodeTarget::connect`], except for the cookie.
    pub async fn creation(&self) -> Result<u32, Error> {
        connection::creation(&self.node, &self.lookup, self.tls.as_ref()).await
    }

    /// The files that a connection reads, also those that do not exist yet.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.cookie.files();
        if let Some(tls) = &self.tls {
            files.push(tls.ca_file.clone());
            if let Some((certificate, key)) = &tls.identity {
                files.extend([certificate.clone(), key.clone()]);
            }
        }
        files
    }
}
