//! Discovering: which events a node can emit, and which it does. Loads one module, asks it once; it unloads itself.

use crate::attach::in_turn;
use crate::connection::Connection;
use crate::error::Error;
use crate::modules::{self, ModuleSet};
use crate::term::{Term, atom, tuple};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Time for loading.
const START: Duration = Duration::from_secs(30);
/// Time for reading the node's modules.
const SCAN: Duration = Duration::from_secs(120);
/// Time for leaving.
const LEAVE: Duration = Duration::from_secs(15);
/// Longest time of listening.
pub const MAX_LIVE: Duration = Duration::from_secs(600);

/// What a node told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovery {
    /// Name of the node.
    pub node: String,
    /// OTP release.
    pub otp: String,
    /// Version of telemetry; empty without.
    pub telemetry: String,
    /// Loaded modules, and how many of them could not be read.
    pub modules: u64,
    /// Modules that could not be read.
    pub unread: u64,
    /// More events than are told.
    pub truncated: bool,
    /// Loaded applications and their versions.
    pub applications: Vec<(String, String)>,
    /// Events that the code of the node names.
    pub events: Vec<Event>,
    /// Events of Ecto's repositories.
    pub ecto: Vec<String>,
    /// Handlers of others.
    pub handlers: Vec<Handler>,
    /// Handlers of a relay, and the events that they are attached to.
    pub relay: u64,
    /// Events with a handler of a relay.
    pub subscribed: Vec<String>,
    /// What was emitted while we listened.
    pub live: Option<Live>,
}

/// An event that the node's code names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Dotted.
    pub name: String,
    /// Whether its name looks like an event's; others are lists of atoms in modules that emit.
    pub likely: bool,
    /// Modules that name it.
    pub modules: Vec<String>,
}

/// A handler that is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Id of the handler.
    pub id: String,
    /// Dotted name of the event.
    pub event: String,
    /// The function, `Module:Function/Arity`.
    pub function: String,
}

/// How often events were emitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// How long the node was traced.
    pub time: Duration,
    /// Dotted name and number of emissions.
    pub counts: Vec<(String, u64)>,
    /// Names that were emitted too, and could not be counted. `None`: the node could not be traced, because somebody
    /// else does, or because the trace fell behind and was ended.
    pub others: Option<Vec<String>>,
    /// Names made at run time that are counted, from when they were first seen.
    pub late: Vec<String>,
}

/// Asks the node. `also` are names of events that may be there, beside those that are found; `live` is for how long to listen.
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
    let load = vec![modules::to_load(ModuleSet::of(node).await?.discover())];
    in_turn(node, load, modules::DISCOVER, "run", options, START).await?;
    let limit = SCAN + live;
    let answer = node.answer(&tag, limit).await?;
    let answer = answer.ok_or_else(|| Error::timeout("reading the node's modules", limit))?;
    gone(node).await?;
    match answer.as_tuple() {
        Some([Term::Atom(ok), found]) if ok == "ok" => read(found),
        _ => None,
    }
    .ok_or_else(|| Error::Call(format!("the node could not be read: {answer}")))
}

async fn gone(node: &mut Connection) -> Result<(), Error> {
    let until = Instant::now() + LEAVE;
    loop {
        let loaded = node
            .call("code", "is_loaded", vec![atom(modules::DISCOVER)], LEAVE)
            .await?;
        if loaded.as_atom() == Some("false") {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::timeout("unloading what discovered", LEAVE));
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
        [Term::Int(micros), Term::List(counts), others, Term::List(late)] => Some(Live {
            late: late.iter().filter_map(Term::to_text).collect(),
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
