//! The plan that an installed relay counts by before it has a collector: that of all packs, with the templates unfilled.
//!
//! A test writes it to `beam-relay/priv/plan.bin`, and fails if that differs from the packs. The relay fills in the templates, and then
//! computes the keys of their entries as [`crate::plan`] does, so that the first collector's plan continues the totals. Metrics that several
//! packs share are all in it: the collector decides which of them a node uses; its plan lacks the others.

use crate::plan::{self, Blueprint};
use dichroic_packs::{Packs, Selection, Variables};
use dichroic_wire::Value;
use dichroic_wire::limits::SERIES_DEFAULT;
use dichroic_wire::value::Map;
use std::collections::{BTreeMap, BTreeSet};

/// Native time units per second of the VMs that can use it: those of Linux, macOS and BSD.
const NATIVE_PER_S: u64 = 1_000_000_000;

/// The plan as the relay reads it: a PLAN without streams, plus
///
/// - `variables`: default values of the templates, with `{app}` for the name of the application;
/// - in entries with templates, which have the form `{name}`: `names`, the texts that are part of the key, instead of `key`.
pub fn early_plan(packs: &Packs) -> Value {
    let mut unshared: Vec<_> = packs.iter().cloned().collect();
    for definition in unshared.iter_mut().flat_map(|pack| &mut pack.definitions) {
        definition.unless.clear();
    }
    let mut variables = Variables::new();
    for pack in &unshared {
        for (name, values) in &pack.variables {
            let values = values
                .iter()
                .map(|value| value.replace("${app}", "{app}"))
                .collect();
            variables.insert(name.clone(), values);
        }
    }
    let unfilled = |name: &String| (name.clone(), vec![format!("{{{name}}}")]);
    let selection = Selection {
        packs: Packs::of(unshared),
        variables: variables.keys().map(unfilled).collect(),
        ..Selection::default()
    };
    let compiled = selection.compile("{app}", &Variables::new());
    let blueprint = Blueprint::compiled(&compiled, NATIVE_PER_S);
    let mut seen = BTreeSet::new();
    let aggregates = compiled.metrics.iter().filter_map(|metric| {
        let (entry, _) = plan::aggregate(metric, NATIVE_PER_S).ok()?;
        if !seen.insert(entry.key) {
            return None;
        }
        let mut map = entry.to_map();
        let names = plan::names(metric);
        if entry.event.iter().chain(&names).any(|text| text.contains('{')) {
            map.remove("key");
            map.insert("names".to_owned(), strings(names));
        }
        Some(Value::Map(map))
    });
    let carries = blueprint.carries.iter().map(|carry| Value::Map(carry.to_map()));
    let limits = BTreeMap::from([("series", i64::from(SERIES_DEFAULT))]);
    Value::Map(Map::from_iter([
        ("generation".to_owned(), Value::Int(0)),
        ("flush_ms".to_owned(), Value::Int(1_000)),
        ("linger_s".to_owned(), Value::Int(0)),
        ("limits".to_owned(), map(limits, Value::Int)),
        ("streams".to_owned(), Value::List(Vec::new())),
        ("aggregates".to_owned(), Value::List(aggregates.collect())),
        ("carries".to_owned(), Value::List(carries.collect())),
        ("variables".to_owned(), map(variables, strings)),
    ]))
}

fn map<K: Into<String>, V>(entries: BTreeMap<K, V>, value: impl Fn(V) -> Value) -> Value {
    Value::Map(
        entries
            .into_iter()
            .map(|(key, each)| (key.into(), value(each)))
            .collect(),
    )
}

fn strings(texts: Vec<String>) -> Value {
    Value::List(texts.iter().map(|text| Value::from(text.as_str())).collect())
}
