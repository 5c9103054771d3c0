//! The selection of packs, definitions and template values that a configuration makes.

use super::position::KeyPath;
use super::types::{Config, Naming};
use super::violation::Violation;
use dichroic_packs::{PackError, Packs, Selection, Variables};
use std::collections::BTreeSet;

/// What relays extract.
pub fn selection(config: &Config) -> Result<Selection, Violation> {
    let available = match config.metrics.naming {
        Naming::Opentelemetry => Packs::builtin(),
        Naming::Promex => Packs::builtin().promex(),
    };
    let packs = match config.metrics.packs.names() {
        None => available,
        Some(names) => available
            .choose(names)
            .map_err(|error| unknown_pack(&error, names))?,
    };
    let mut variables: Variables = config.metrics.variables.clone();
    let used = packs.iter().flat_map(|pack| pack.variables.keys());
    let used: BTreeSet<&str> = used.map(String::as_str).collect();
    if let Some(name) = variables.keys().find(|name| !used.contains(name.as_str())) {
        return Err(Violation::new(
            KeyPath::of("metrics.variables").key(name),
            "unknown template",
            format!(
                "the packs in use have the templates {}",
                used.into_iter().collect::<Vec<_>>().join(", ")
            ),
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

fn unknown_pack(error: &PackError, names: &[String]) -> Violation {
    let packs = KeyPath::of("metrics.packs");
    match error {
        PackError::Unknown { name, known } => {
            let at = names.iter().position(|other| other == name).unwrap_or_default();
            Violation::new(
                packs.item(at),
                format!("unknown pack {name:?}"),
                format!("the packs are {known}; write auto for all of them"),
            )
        }
        PackError::File { .. } => Violation::new(packs, error.to_string(), "write auto, or a list of packs"),
    }
}
