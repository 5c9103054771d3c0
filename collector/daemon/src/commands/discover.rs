//! `dichroic discover`: which events a node can emit, which it does emit, and what knows them.

use super::attach::warn;
use super::{json, line, table};
use crate::cli::{self, Format};
use crate::config::values::parse_span;
use crate::lint::unsubscribed::Known;
use dichroic_beam_attach::discover::{self, Discovery, Event, MAX_LIVE};
use dichroic_model::Pattern;
use dichroic_packs::compile::application_name;
use dichroic_packs::{Pack, Packs, Selection, Variables};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Asks and prints.
pub async fn discover(args: cli::Discover) -> Result<(), String> {
    let (found, alive) = ask(&args.reach, args.live.as_deref()).await?;
    let knowledge = Knowledge::new(&found, &alive);
    match args.format {
        Format::Json => json(&knowledge.document(&found).to_string()),
        Format::Text => knowledge.show(&found, args.all),
    }
    Ok(())
}

/// What a node tells, and the first part of its name.
pub async fn ask(reach: &cli::Reach, live: Option<&str>) -> Result<(Discovery, String), String> {
    let live = live
        .map(parse_span)
        .transpose()
        .map_err(|e| e.to_string())?
        .unwrap_or(Duration::ZERO);
    if live > MAX_LIVE {
        return Err(format!("--live: {} s are the most", MAX_LIVE.as_secs()));
    }
    let target = reach.entry().target(Path::new("")).map_err(|e| e.to_string())?;
    warn(&target);
    let message = |e: dichroic_beam_attach::Error| e.to_string();
    let mut node = target.connect().await.map_err(message)?;
    let found = discover::discover(&mut node, &known(&target.node.alive), live)
        .await
        .map_err(message)?;
    Ok((found, target.node.alive))
}

/// What packs know, of a node with these repositories of Ecto.
pub fn packs(found: &Discovery, alive: &str) -> Vec<Known> {
    Knowledge::new(found, alive).packs
}

/// Names of the events that packs ask for, for an application that is named as the node is.
fn known(alive: &str) -> Vec<String> {
    let selection = Selection {
        packs: Packs::builtin(),
        definitions: Vec::new(),
        variables: Variables::default(),
    };
    let compiled = selection.compile(&application_name(alive), &Variables::new());
    let metrics = compiled.metrics.iter().map(|m| m.event.join("."));
    let streams = compiled.streams.iter().map(|s| s.event.join("."));
    metrics
        .chain(streams)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// What packs know of a node.
struct Knowledge {
    /// Name of the pack and its patterns.
    packs: Vec<Known>,
    counts: BTreeMap<String, u64>,
    handlers: BTreeMap<String, usize>,
}

impl Knowledge {
    fn new(found: &Discovery, alive: &str) -> Self {
        let prefixes = found.ecto.iter().filter_map(|event| event.strip_suffix(".query"));
        let repositories: Vec<String> = prefixes.map(str::to_owned).collect();
        let app = application_name(alive);
        let patterns = |pack: &Pack| -> Vec<Pattern> {
            let mut variables = pack.variables.clone();
            if let Some(prefixes) = variables.get_mut("ecto_prefix") {
                prefixes.extend(repositories.iter().cloned());
            }
            variables.insert("app".to_owned(), vec![app.clone()]);
            let names = pack.events.iter().flat_map(|name| filled(name, &variables));
            names.filter_map(|name| Pattern::new(&name).ok()).collect()
        };
        let mut handlers = BTreeMap::new();
        for handler in &found.handlers {
            *handlers.entry(handler.event.clone()).or_default() += 1;
        }
        let counts = found.live.iter().flat_map(|live| live.counts.iter().cloned());
        Knowledge {
            packs: Packs::builtin()
                .iter()
                .map(|pack| (pack.name.clone(), patterns(pack)))
                .collect(),
            counts: counts.collect(),
            handlers,
        }
    }

    fn pack(&self, event: &str) -> Option<&str> {
        self.packs
            .iter()
            .find(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(event)))
            .map(|(name, _)| name.as_str())
    }

    /// Every event, and those that were emitted although no loaded code names them.
    fn events(&self, found: &Discovery) -> Vec<Event> {
        let mut events = found.events.clone();
        let others = found
            .live
            .iter()
            .filter_map(|live| live.others.as_ref())
            .flatten();
        for name in self.counts.keys().chain(others) {
            if !events.iter().any(|event| event.name == *name) {
                events.push(Event {
                    name: name.clone(),
                    likely: true,
                    modules: Vec::new(),
                });
            }
        }
        for event in &mut events {
            event.likely |= self.pack(&event.name).is_some() || self.counts.contains_key(&event.name);
        }
        events.sort_by(|a, b| a.name.cmp(&b.name));
        events
    }

    /// Packs that have something to say about the node.
    fn matching(&self, events: &[Event]) -> Vec<&str> {
        let used: BTreeSet<&str> = events.iter().filter_map(|event| self.pack(&event.name)).collect();
        used.into_iter().collect()
    }

    fn document(&self, found: &Discovery) -> Value {
        let seconds = found.live.as_ref().map(|live| live.time.as_secs_f64());
        let events = self.events(found);
        let rows: Vec<Value> = events
            .iter()
            .map(|event| {
                let mut row = json!({
                    "event": event.name, "likely": event.likely, "modules": event.modules,
                    "pack": self.pack(&event.name), "handlers": self.handlers.get(&event.name).unwrap_or(&0),
                });
                if let Some(seconds) = seconds {
                    let count = self.counts.get(&event.name).copied().unwrap_or(0);
                    row["count"] = count.into();
                    row["per_second"] = (count as f64 / seconds).into();
                }
                row
            })
            .collect();
        let handlers: Vec<Value> = found
            .handlers
            .iter()
            .map(|h| json!({ "id": h.id, "event": h.event, "function": h.function }))
            .collect();
        json!({
            "node": found.node, "otp": found.otp, "telemetry": found.telemetry, "modules": found.modules,
            "unread": found.unread, "truncated": found.truncated, "live_seconds": seconds, "events": rows,
            "uncounted": found.live.as_ref().map(|live| &live.others), "counted_late": found.live.as_ref().map(|live| &live.late), "relay_handlers": found.relay, "ecto": found.ecto, "handlers": handlers, "packs": self.matching(&events),
            "applications": found.applications.iter().map(|(name, version)| json!({ "name": name, "version": version })).collect::<Vec<_>>(),
        })
    }

    fn show(&self, found: &Discovery, all: bool) {
        let events = self.events(found);
        let telemetry = match found.telemetry.as_str() {
            "" => "without telemetry".to_owned(),
            version => format!("telemetry {version}"),
        };
        line(&format!(
            "{}: OTP {}, {telemetry}, {} modules, {} handlers attached",
            found.node,
            found.otp,
            found.modules,
            found.handlers.len()
        ));
        if found.relay > 0 {
            line(&format!(
                "a relay of dichroic is there, with {} handlers",
                found.relay
            ));
        }
        let packs = self.matching(&events);
        line(&format!(
            "packs that know it: {}",
            if packs.is_empty() {
                "none".to_owned()
            } else {
                packs.join(" ")
            }
        ));
        if !found.ecto.is_empty() {
            line(&format!("events of Ecto repositories: {}", found.ecto.join(" ")));
        }
        line("");
        self.rows(found, events.iter().filter(|event| all || event.likely));
        line("");
        if found.unread > 0 {
            line(&format!("{} loaded modules could not be read", found.unread));
        }
        if let Some(live) = found.live.as_ref().filter(|_| !found.telemetry.is_empty()) {
            if !live.late.is_empty() {
                line(&format!(
                    "made at run time, counted from when they were first seen: {}",
                    live.late.join(" ")
                ));
            }
            match &live.others {
                Some(others) if !others.is_empty() => {
                    line(&format!("emitted too, not counted: {}", others.join(" ")))
                }
                Some(_) => {}
                None => line(
                    "names made at run time were not looked for: another traces the node, or it emits too much",
                ),
            }
        }
        if found.truncated {
            line("there are more names than are shown");
        }
        let hidden = events.iter().filter(|event| !event.likely).count();
        if hidden > 0 && !all {
            line(&format!(
                "{hidden} other lists of atoms in modules that emit may be events too: --all shows them"
            ));
        }
    }

    fn rows<'e>(&self, found: &Discovery, events: impl Iterator<Item = &'e Event>) {
        let mut header = vec!["EVENT", "PACK", "HANDLERS"];
        if found.live.is_some() {
            header.extend(["COUNT", "PER SECOND"]);
        }
        header.push("NAMED IN");
        let mut rows = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        for event in events {
            let mut row = vec![
                event.name.clone(),
                self.pack(&event.name).unwrap_or("-").to_owned(),
                self.handlers.get(&event.name).unwrap_or(&0).to_string(),
            ];
            if let Some(live) = &found.live {
                let count = self.counts.get(&event.name).copied().unwrap_or(0);
                row.push(count.to_string());
                row.push(format!("{:.1}", count as f64 / live.time.as_secs_f64()));
            }
            // As Elixir writes them.
            let names = event
                .modules
                .iter()
                .map(|name| name.strip_prefix("Elixir.").unwrap_or(name));
            row.push(names.collect::<Vec<_>>().join(" "));
            rows.push(row);
        }
        table(&rows);
    }
}

/// A pattern with every value of its variables in turn. Values may have variables themselves; no variable leads in a circle for ever,
/// because each step uses one up.
fn filled(pattern: &str, variables: &Variables) -> Vec<String> {
    let mut done = vec![pattern.to_owned()];
    for _ in 0..variables.len() {
        done = done
            .iter()
            .flat_map(|text| filled_once(text, variables))
            .collect();
    }
    done.retain(|text| !text.contains("${"));
    done
}

fn filled_once(text: &str, variables: &Variables) -> Vec<String> {
    let used = variables
        .iter()
        .map(|(name, values)| (format!("${{{name}}}"), values))
        .find(|(name, _)| text.contains(name));
    match used {
        Some((name, values)) => values.iter().map(|value| text.replace(&name, value)).collect(),
        None => vec![text.to_owned()],
    }
}
