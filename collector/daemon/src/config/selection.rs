//! The packs and definitions that a configuration selects.

use super::{Config, Naming};
use dichroic_packs::{Packs, Selection, Variables};
use std::collections::BTreeSet;

/// What relays are asked for.
pub fn selection(config: &Config) -> Result<Selection, String> {
    let known = match config.metrics.naming {
        Naming::Opentelemetry => Packs::builtin(),
        Naming::Promex => Packs::builtin().promex(),
    };
    let packs = match config.metrics.packs.names()? {
        None => known,
        Some(names) => known.choose(names).map_err(|e| e.to_string())?,
    };
    let mut variables: Variables = config.metrics.variables.clone();
    let used = packs.iter().flat_map(|pack| pack.variables.keys());
    let used: BTreeSet<&str> = used.map(String::as_str).collect();
    if let Some(name) = variables.keys().find(|name| !used.contains(name.as_str())) {
        let used: Vec<_> = used.into_iter().collect();
        return Err(format!(
            "metrics.variables: no pack in use has a template {name:?}; there are {}",
            used.join(", ")
        ));
    }
    if !config.receivers.beam.ecto_prefixes.is_empty() {
        variables.insert(
            "ecto_prefix".to_owned(),
            config.receivers.beam.ecto_prefixes.clone(),
        );
    }
    Ok(Selection {
        packs,
        definitions: config.metrics.definitions.clone(),
        variables,
    })
}
