//! Discovery of the events that a node can emit and does emit. Loads one module and calls it once; the module unloads itself.

use crate::attach::{in_turn, of_each, whereis};
use crate::connection::Connection;
use crate::error::Error;
use crate::modules::{self, ModuleSet};
use crate::term::{Term, atom, tuple};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Time limit of loading.
const START: Duration = Duration::from_secs(30);
/// Time limit of reading the node's modules.
const SCAN: Duration = Duration::from_secs(120);
/// Time limit of unloading.
const UNLOAD: Duration = Duration::from_secs(15);
/// Longest time of tracing.
pub const MAX_LIVE: Duration = Duration::from_secs(600);

/// Result of a discovery.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovery {
    /// Name of the node.
    pub node: String,
    /// OTP release.
    pub otp: String,
    /// Version of telemetry; empty without.
    pub telemetry: String,
    /// Number of loaded modules.
    pub modules: u64,
    /// Modules that could not be read.
    pub unread: u64,
    /// There are more events than listed.
    pub truncated: bool,
    /// Loaded applications and their versions.
    pub applications: Vec<(String, String)>,
    /// Events in the code of the node.
    pub events: Vec<Event>,
    /// Events of Ecto's repositories.
    pub ecto: Vec<String>,
    /// Handlers other than the relay's.
    pub handlers: Vec<Handler>,
    /// Number of handlers of a relay.
    pub relay: u64,
    /// Events with a handler of a relay.
    pub subscribed: Vec<String>,
    /// Events emitted while tracing; `None` without tracing.
    pub live: Option<Live>,
}

/// An event in the node's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Dotted name.
    pub name: String,
    /// Whether the name looks like an event; others are lists of atoms in modules that emit events.
    pub likely: bool,
    /// Modules whose code contains it.
    pub modules: Vec<String>,
}

/// An attached handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Id of the handler.
    pub id: String,
    /// Dotted name of the event.
    pub event: String,
    /// The function, `Module:Function/Arity`.
    pub function: String,
}

/// Events emitted while the node was traced.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// How long the node was traced.
    pub time: Duration,
    /// Dotted name and number of emissions.
    pub counts: Vec<(String, u64)>,
    /// Names that were emitted but not counted. `None` when the node could not be traced: another tracer is active, or the trace
    /// fell behind and was stopped.
    pub others: Option<Vec<String>>,
    /// Names created at run time, and for how long each was counted: from its first emission on.
    pub late: Vec<(String, Duration)>,
    /// The trace stopped at its limit, so names created at run time may be missing.
    pub limited: bool,
}

impl Live {
    /// How long the event was counted.
    pub fn counted(&self, event: &str) -> Duration {
        let late = self.late.iter().find(|(name, _)| name == event);
        late.map_or(self.time, |(_, time)| *time)
    }
}

/// Runs a discovery. `also` are further names of events to look for; `live` is the time of tracing.
pub async fn discover(node: &mut Connection, also: &[String], live: Duration) -> Result<Discovery, Error> {
    let live = live.min(MAX_LIVE);
    let (address, tag) = node.address();
    let options = Term::Map(vec![
        (atom("guardian"), atom(node.own_name())),
        (atom("answer"), tuple([address, tag.clone()])),
        (
            atom("live_ms"),
            Term::Int(i64::try_from(live.as_millis()).unwrap_or(i64::MAX)),
        ),
        (
            atom("also"),
            Term::List(
                also.iter()
                    .map(|name| Term::Binary(name.as_bytes().to_vec()))
                    .collect(),
            ),
        ),
    ]);
    let set = ModuleSet::of(node).await?;
    check_free(node, set).await?;
    let load = vec![modules::to_load(set.discover())];
    let started = in_turn(node, load, modules::VISIT, "run", options, START).await?;
    if started.as_atom() == Some("busy") {
        return Err(busy());
    }
    let limit = SCAN + live;
    let answer = node.answer(&tag, limit).await?;
    let answer = answer.ok_or_else(|| Error::timeout("reading the node's modules", limit))?;
    wait_until_unloaded(node).await?;
    match answer.as_tuple() {
        Some([Term::Atom(ok), found]) if ok == "ok" => read(found),
        _ => None,
    }
    .ok_or_else(|| Error::Call(format!("discovery failed on the node: {answer}")))
}

/// Checks that loading the modules of discovery replaces no code in use.
async fn check_free(node: &mut Connection, set: ModuleSet) -> Result<(), Error> {
    if whereis(node, modules::VISIT).await? {
        return Err(busy());
    }
    let names: Vec<&str> = set.discover().map(|module| module.name).collect();
    for (name, loaded) in names.iter().zip(of_each(node, "is_loaded", &names).await?) {
        if let Some([_, file]) = loaded.as_tuple()
            && let file = file.to_text().unwrap_or_default()
            && file != modules::FILE
        {
            return Err(Error::Call(format!(
                "the node has loaded {name} from {file}: remove that module from its application"
            )));
        }
    }
    for (name, purged) in names.iter().zip(of_each(node, "soft_purge", &names).await?) {
        if purged.as_atom() != Some("true") {
            return Err(Error::Call(format!(
                "processes of the application still run {name} of an earlier discovery; try again when they have finished"
            )));
        }
    }
    Ok(())
}

fn busy() -> Error {
    Error::Call("another discovery is running on the node; try again when it has ended".to_owned())
}

async fn wait_until_unloaded(node: &mut Connection) -> Result<(), Error> {
    let until = Instant::now() + UNLOAD;
    loop {
        let loaded = node
            .call("code", "is_loaded", vec![atom(modules::VISIT)], UNLOAD)
            .await?;
        if loaded.as_atom() == Some("false") {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::timeout("unloading the discovery module", UNLOAD));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn read(answer: &Term) -> Option<Discovery> {
    let text = |key: &str| answer.get(key).and_then(Term::to_text);
    let list = |key: &str| answer.get(key).and_then(Term::as_list);
    let number = |key: &str| answer.get(key)?.as_int()?.try_into().ok();
    Some(Discovery {
        node: text("node")?,
        otp: text("otp")?,
        telemetry: text("telemetry")?,
        modules: number("modules")?,
        unread: number("unread")?,
        truncated: answer.get("truncated")?.as_atom() == Some("true"),
        applications: list("applications")?.iter().filter_map(pair).collect(),
        events: list("events")?.iter().filter_map(event).collect(),
        ecto: list("ecto")?.iter().filter_map(Term::to_text).collect(),
        handlers: list("handlers")?.iter().filter_map(handler).collect(),
        relay: number("relay")?,
        subscribed: list("subscribed")?.iter().filter_map(Term::to_text).collect(),
        live: live(answer.get("live")?),
    })
}

fn pair(term: &Term) -> Option<(String, String)> {
    match term.as_tuple()? {
        [a, b] => Some((a.to_text()?, b.to_text()?)),
        _ => None,
    }
}

fn event(term: &Term) -> Option<Event> {
    match term.as_tuple()? {
        [name, likely, Term::List(modules)] => Some(Event {
            name: name.to_text()?,
            likely: likely.as_atom() == Some("true"),
            modules: modules.iter().filter_map(Term::to_text).collect(),
        }),
        _ => None,
    }
}

fn handler(term: &Term) -> Option<Handler> {
    match term.as_tuple()? {
        [id, event, function] => Some(Handler {
            id: id.to_text()?,
            event: event.to_text()?,
            function: function.to_text()?,
        }),
        _ => None,
    }
}

fn live(term: &Term) -> Option<Live> {
    match term.as_tuple()? {
        [
            Term::Int(micros),
            Term::List(counts),
            others,
            Term::List(late),
            limited,
        ] => Some(Live {
            late: late
                .iter()
                .filter_map(|entry| match entry.as_tuple()? {
                    [name, Term::Int(micros)] => Some((
                        name.to_text()?,
                        Duration::from_micros(u64::try_from(*micros).ok()?),
                    )),
                    _ => None,
                })
                .collect(),
            limited: limited.as_atom() == Some("true"),
            time: Duration::from_micros(u64::try_from(*micros).ok()?),
            counts: counts
                .iter()
                .filter_map(|entry| match entry.as_tuple()? {
                    [name, Term::Int(n)] => Some((name.to_text()?, u64::try_from(*n).ok()?)),
                    _ => None,
                })
                .collect(),
            others: others
                .as_list()
                .map(|names| names.iter().filter_map(Term::to_text).collect()),
        }),
        _ => None,
    }
}
