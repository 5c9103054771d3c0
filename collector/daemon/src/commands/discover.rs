//! `dichroic discover`: lists the events that a node can emit and does emit, with their packs and handlers.

use super::attach::warn;
use super::error::CommandError;
use super::output::{OutputError, json, line, table};
use crate::cli::{self, Format};
use crate::lint::unsubscribed::PackPatterns;
use dichroic_beam_attach::discover::{self, Discovery, Event, Live};
use dichroic_model::Pattern;
use dichroic_model::text::{plural, plural_of};
use dichroic_packs::compile::application_name;
use dichroic_packs::{Pack, Packs, Selection, Variables};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// Runs a discovery on the node and prints the result.
pub async fn discover(args: cli::Discover) -> Result<(), CommandError> {
    let (found, alive) = query_node(&args.reach, args.live).await?;
    let report = Report::new(&found, &alive);
    match args.format {
        Format::Json => json(&report.document(&found).to_string())?,
        Format::Text => report.show(&found, args.all)?,
    }
    Ok(())
}

/// The result of a discovery, and the part of the node's name before the `@`.
pub async fn query_node(
    reach: &cli::Reach,
    live: Option<Duration>,
) -> Result<(Discovery, String), CommandError> {
    let target = reach.entry().target(Path::new(""))?;
    warn(&target);
    let mut node = target.connect().await?;
    let also = pack_events(&target.node.alive);
    let found = discover::discover(&mut node, &also, live.unwrap_or_default()).await?;
    Ok((found, target.node.alive))
}

/// The event patterns of each pack, with the Ecto repositories of this node.
pub fn pack_patterns(found: &Discovery, alive: &str) -> Vec<PackPatterns> {
    Report::new(found, alive).packs
}

/// Names of the events that packs use, if the application has the name of the node.
fn pack_events(alive: &str) -> Vec<String> {
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

/// A discovery's counts and handlers by event, with the patterns of the packs.
struct Report {
    packs: Vec<PackPatterns>,
    counts: BTreeMap<String, u64>,
    handlers: BTreeMap<String, usize>,
}

impl Report {
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
        Report {
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

    /// Events named in loaded code, and events that were emitted without being named there.
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

    /// How often the event was emitted, and in how many seconds.
    fn counted(&self, live: &Live, event: &str) -> (u64, f64) {
        let count = self.counts.get(event).copied().unwrap_or(0);
        (count, live.counted(event).as_secs_f64())
    }

    /// Packs with an event of the node.
    fn matching(&self, events: &[Event]) -> Vec<&str> {
        let used: BTreeSet<&str> = events.iter().filter_map(|event| self.pack(&event.name)).collect();
        used.into_iter().collect()
    }

    fn document(&self, found: &Discovery) -> Value {
        let live = found.live.as_ref();
        let late = live.map(|live| live.late.iter().map(|(name, _)| name).collect::<Vec<_>>());
        let events = self.events(found);
        let rows: Vec<Value> = events
            .iter()
            .map(|event| {
                let mut row = json!({
                    "event": event.name, "likely": event.likely, "modules": event.modules,
                    "pack": self.pack(&event.name), "handlers": self.handlers.get(&event.name).unwrap_or(&0),
                });
                if let Some(live) = live {
                    let (count, seconds) = self.counted(live, &event.name);
                    row["count"] = count.into();
                    row["counted_seconds"] = seconds.into();
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
            "unread": found.unread, "truncated": found.truncated, "live_seconds": live.map(|live| live.time.as_secs_f64()), "events": rows,
            "uncounted": live.map(|live| &live.others), "counted_late": late, "trace_limited": live.map(|live| live.limited),
            "relay_handlers": found.relay, "ecto": found.ecto, "handlers": handlers, "packs": self.matching(&events),
            "applications": found.applications.iter().map(|(name, version)| json!({ "name": name, "version": version })).collect::<Vec<_>>(),
        })
    }

    fn show(&self, found: &Discovery, all: bool) -> Result<(), OutputError> {
        let events = self.events(found);
        let telemetry = match found.telemetry.as_str() {
            "" => "without telemetry".to_owned(),
            version => format!("telemetry {version}"),
        };
        line(&format!(
            "{}: OTP {}, {telemetry}, {}, {}",
            found.node,
            found.otp,
            plural(found.modules, "module"),
            plural(found.handlers.len(), "other handler")
        ))?;
        if found.relay > 0 {
            line(&format!(
                "a Dichroic relay counts {} of telemetry",
                plural(found.relay, "event")
            ))?;
        }
        let packs = self.matching(&events);
        line(&format!(
            "matching packs: {}",
            if packs.is_empty() {
                "none".to_owned()
            } else {
                packs.join(" ")
            }
        ))?;
        if !found.ecto.is_empty() {
            line(&format!("events of Ecto repositories: {}", found.ecto.join(" ")))?;
        }
        line("")?;
        self.rows(found, events.iter().filter(|event| all || event.likely))?;
        line("")?;
        if found.unread > 0 {
            line(&format!(
                "{} not be read; events that only they name are missing",
                plural_of(found.unread, "loaded module could", "loaded modules could")
            ))?;
        }
        if let Some(live) = found.live.as_ref().filter(|_| !found.telemetry.is_empty()) {
            show_trace(live)?;
        }
        if found.truncated {
            line("the list is incomplete: the node has more names than can be listed")?;
        }
        let hidden = events.iter().filter(|event| !event.likely).count();
        if hidden > 0 && !all {
            line(&format!(
                "{} hidden; --all shows them",
                plural_of(
                    hidden,
                    "name that is less likely to be an event is",
                    "names that are less likely to be events are"
                )
            ))?;
        }
        Ok(())
    }

    fn rows<'e>(
        &self,
        found: &Discovery,
        events: impl Iterator<Item = &'e Event>,
    ) -> Result<(), OutputError> {
        let mut header = vec!["EVENT", "PACK", "OTHER HANDLERS"];
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
                let (count, seconds) = self.counted(live, &event.name);
                row.push(count.to_string());
                row.push(format!("{:.1}", count as f64 / seconds));
            }
            // Module names as Elixir writes them.
            let names = event
                .modules
                .iter()
                .map(|name| name.strip_prefix("Elixir.").unwrap_or(name));
            row.push(names.collect::<Vec<_>>().join(" "));
            rows.push(row);
        }
        table(&rows)
    }
}

/// Prints what limits the counts of names created at run time.
fn show_trace(live: &Live) -> Result<(), OutputError> {
    if !live.late.is_empty() {
        let names: Vec<&str> = live.late.iter().map(|(name, _)| name.as_str()).collect();
        line(&format!(
            "names created at run time, counted from their first emission on: {}",
            names.join(" ")
        ))?;
    }
    if live.limited {
        line("names created at run time may be missing: the node emits more of them than can be recorded")?;
    }
    match &live.others {
        Some(others) if !others.is_empty() => {
            line(&format!("also emitted, but not counted: {}", others.join(" ")))?;
        }
        Some(_) => {}
        None => line(
            "names created at run time were not recorded: another tracer is active on the node, or it emits too many events",
        )?,
    }
    Ok(())
}

/// The pattern with its variables replaced, once for each combination of values. Values can contain variables. The number of
/// rounds is bounded, so a variable that refers to itself cannot cause an endless loop; names that keep one are dropped.
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
