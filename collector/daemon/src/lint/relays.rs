//! Checks of a relay: rejected definitions, and events without a value.

use super::finding::{Finding, Level};
use super::inputs::{Drops, Inputs, has_fired};
use super::seen::{Fired, Seen};
use crate::limit_drops;
use dichroic_model::text::{plural, plural_of};
use dichroic_packs::compile::application_name;
use dichroic_packs::{Pack, Packs, Selection};
use dichroic_receiver_beam::RelayStatus;
use std::collections::{BTreeMap, BTreeSet};

/// A worker of Snakepit may well live longer than this.
const SNAKEPIT_STREAM_MS: u64 = 3_600_000;

impl Seen {
    pub(super) fn of_relay(
        &self,
        inputs: &Inputs<'_>,
        relay: &RelayStatus,
        service: &str,
        found: &mut BTreeSet<Finding>,
    ) {
        let mut add = |level, check, subject: &str, message: String| {
            found.insert(Finding {
                level,
                check,
                subject: subject.to_owned(),
                source: relay.node.clone(),
                message,
                details: Vec::new(),
            });
        };
        for (what, message) in &relay.refused {
            add(
                Level::Warning,
                "refused",
                what,
                format!("rejected by the relay: {message}"),
            );
        }
        let Some(source) = relay
            .source
            .filter(|_| relay.ended.is_none() && relay.flushes > 0)
        else {
            return;
        };
        let app = application_name(service);
        let none = BTreeMap::new();
        let fired = self.fired.get(&source).unwrap_or(&none);
        snakepit_stream(relay, &mut add);
        // A series that a limit refused has no value either.
        let limited = |drops: &Drops| drops.source == source && limit_drops::key(drops.reason).is_some();
        if inputs.drops.iter().any(limited) {
            return;
        }
        silent_definitions(inputs, relay, &app, fired, &mut add);
        found.extend(silent_packs(inputs, relay, &app, fired));
    }

    /// Events of packs of which no event has occurred on any node: their library may not be in use.
    pub fn unused_events(&self, inputs: &Inputs<'_>) -> BTreeSet<String> {
        let (mut used, mut unused) = (BTreeSet::new(), BTreeSet::new());
        let none = BTreeMap::new();
        for (relay, service) in inputs.relays {
            let app = application_name(service);
            let fired = relay
                .source
                .and_then(|source| self.fired.get(&source))
                .unwrap_or(&none);
            for pack in inputs.config.selection.packs.iter() {
                let (all, silent) = inputs.silent_events(pack, relay, &app, fired);
                let compiled = inputs
                    .only(pack, &relay.variables)
                    .compile(&app, &relay.variables);
                let streams = compiled.streams.iter().map(|stream| stream.name());
                let metrics = compiled.metrics.iter().map(|metric| metric.event.join("."));
                let is_used = of_the_relay(pack) || all == 0 || silent.len() < all;
                let events = if is_used { &mut used } else { &mut unused };
                events.extend(streams.chain(metrics));
            }
        }
        unused.retain(|event| !used.contains(event));
        unused
    }
}

/// Snakepit up to 0.13 takes the timeout for opening a worker's stream of telemetry for that of the whole stream.
fn snakepit_stream(relay: &RelayStatus, add: &mut impl FnMut(Level, &'static str, &str, String)) {
    let limits = relay.variables.get("snakepit_stream_ms").into_iter().flatten();
    let shortest = limits.filter_map(|text| text.parse::<u64>().ok()).min();
    let Some(ms) = shortest.filter(|ms| *ms < SNAKEPIT_STREAM_MS) else {
        return;
    };
    let message = format!(
        "Snakepit ends the telemetry of a Python worker {} s after its start, and snakepit.python.* events of Python end with it; set `config :snakepit, grpc_stream_open_timeout_ms: 86_400_000`, or more than the lifetime of a worker",
        ms as f64 / 1000.0
    );
    add(Level::Warning, "snakepit_stream", "snakepit.python", message);
}

/// Packs of which no event has occurred, and packs of which some events have not occurred.
fn silent_packs(inputs: &Inputs<'_>, relay: &RelayStatus, app: &str, fired: &Fired) -> Vec<Finding> {
    let packs = inputs.config.selection.packs.iter();
    let mut found = Vec::new();
    for pack in packs.filter(|pack| !of_the_relay(pack)) {
        let (all, silent) = inputs.silent_events(pack, relay, app, fired);
        if all == 0 || silent.is_empty() {
            continue;
        }
        let (level, message, details) = if silent.len() == all {
            if !inputs.config.chosen {
                continue;
            }
            let message = format!(
                "none of its {} has occurred since the relay started; check that the library is in use and that its event prefix is the default",
                plural(all, "event")
            );
            (Level::Warning, message, Vec::new())
        } else {
            // Events of failures are expected to be absent.
            let details: Vec<String> = silent.into_iter().filter(|event| !rare(event)).collect();
            if details.is_empty() {
                continue;
            }
            let message = format!(
                "{} not occurred yet, while others of the pack have",
                plural_of(details.len(), "event has", "events have")
            );
            (Level::Note, message, details)
        };
        found.push(Finding {
            level,
            check: "never_fired",
            subject: pack.name.clone(),
            source: relay.node.clone(),
            message,
            details,
        });
    }
    found
}

/// Metrics of `metrics.definitions` without a value.
fn silent_definitions(
    inputs: &Inputs<'_>,
    relay: &RelayStatus,
    app: &str,
    fired: &Fired,
    add: &mut impl FnMut(Level, &'static str, &str, String),
) {
    let own = Selection {
        packs: Packs::of(Vec::new()),
        definitions: inputs.config.selection.definitions.clone(),
        variables: inputs.config.selection.variables.clone(),
    };
    for metric in own
        .compile(app, &relay.variables)
        .metrics
        .iter()
        .filter(|m| !has_fired(m, fired))
    {
        let message = format!(
            "event {} of metrics.definitions has given no value; check with `dichroic tap '{}.**'` that it occurs, then check measurement and keep of the definition",
            metric.event.join("."),
            metric.event.first().map_or("", String::as_str),
        );
        add(Level::Warning, "never_fired", &metric.name, message);
    }
}

/// Whether the relay itself emits the events of the pack. Some need conditions of the node, such as other nodes.
fn of_the_relay(pack: &Pack) -> bool {
    !pack.events.is_empty() && pack.events.iter().all(|event| event.starts_with("dichroic."))
}

/// Whether the name is that of a failure, which healthy programs do not emit.
fn rare(event: &str) -> bool {
    let failures = [
        "exception",
        "error",
        "fail",
        "timeout",
        "crash",
        "oom",
        "cancelled",
        "disconnect",
        "saturated",
        "tainted",
        "unmapped",
        "mismatch",
        "emfile",
        "econnaborted",
    ];
    failures.iter().any(|word| event.contains(word))
}
