//! Packs: the definitions for one library. Read from YAML, by the same reader as the configuration; the built-in packs are compiled
//! in.

use crate::definition::{Carry, Definition, EventName};
use crate::expression::Expression;
use dichroic_model::Pattern;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// The pack of one library.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Its name in the configuration.
    pub name: String,
    /// Description.
    #[serde(default)]
    pub help: String,
    /// How the definitions were checked against the library: `ran VERSION`, `read VERSION (COMMIT)` or `not checked`.
    #[serde(default)]
    pub checked: String,
    /// The OTP application that emits its events, where the relay reports whether the node has loaded it: a metric that several
    /// packs share comes from the first pack whose application is loaded.
    #[serde(default)]
    pub application: Option<String>,
    /// Patterns of the library's events, for the catalog; templates are not replaced.
    pub events: Vec<String>,
    /// Default values of templates such as `${ecto_prefix}`. `${app}` is the node's main application.
    #[serde(default)]
    pub variables: BTreeMap<String, Vec<String>>,
    /// Event → measurement → unit, for definitions and streams without a unit.
    #[serde(default)]
    pub event_units: BTreeMap<String, BTreeMap<String, String>>,
    /// Values that definitions and streams of this pack read as `{carry: NAME}`.
    #[serde(default)]
    pub carry: BTreeMap<String, Carry>,
    /// Its metrics.
    #[serde(default)]
    pub definitions: Vec<Definition>,
    /// Its raw events.
    #[serde(default)]
    pub streams: Vec<StreamDefinition>,
    /// Metrics that runtimes share.
    #[serde(default)]
    pub mapped: Vec<Mapped>,
}

/// The stream of a raw event, with the names that subscribers see.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamDefinition {
    /// The event.
    pub event: EventName,
    /// Measurement → unit; empty uses `event_units`.
    #[serde(default)]
    pub measurements: BTreeMap<String, String>,
    /// Metadata name → expression of its value.
    #[serde(default)]
    pub metadata: BTreeMap<String, Expression>,
}

/// A metric of the semantic conventions, and its older names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapped {
    /// Canonical name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Help text, if the sender has none.
    #[serde(default)]
    pub help: String,
    /// Older names.
    #[serde(default)]
    pub from: Vec<OlderName>,
}

/// An older name, whose unit converts to that of the canonical one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OlderName {
    /// The name.
    pub name: String,
    /// Attributes with an older name, and their canonical name.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
}

/// An invalid pack, or the name of an unknown one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The file is invalid.
    #[error("{file}:{line}:{column}: {message}")]
    File {
        /// Name of the file.
        file: String,
        /// Line, from 1; 0 when unknown.
        line: u64,
        /// Column, from 1; 0 when unknown.
        column: u64,
        /// The error, and what to write instead.
        message: String,
    },
    /// The configuration names an unknown pack.
    #[error("metrics.packs: unknown pack {name:?}; the packs are {known}; write auto to use all of them")]
    Unknown {
        /// The name in the configuration.
        name: String,
        /// Names of the packs, joined.
        known: String,
    },
}

macro_rules! files {
    ($folder:literal: $($name:literal)*) => {
        &[$((concat!($name, ".yaml"), include_str!(concat!("../packs/", $folder, $name, ".yaml")))),*]
    };
}

const BUILTIN: &[(&str, &str)] = files!("":
    "absinthe" "ash" "bandit" "beam_runtime" "broadway" "brod" "commanded" "cowboy" "crucible" "db_connection" "ecto"
    "finch" "grpc" "horde" "libcluster" "live_view" "llm_guard" "logger" "membrane" "nebulex" "oban" "phoenix" "plug"
    "quantum" "redix" "semconv" "snakebridge" "snakepit" "swoosh" "tesla" "thousand_island" "tinkex" "vm"
);

/// Packs of the same names whose metrics are those of PromEx 1.11.
const PROMEX: &[(&str, &str)] = files!("promex/":
    "absinthe" "broadway" "cowboy" "ecto" "live_view" "oban" "phoenix" "plug" "vm"
);

/// The variable in which a relay lists the loaded applications among those that packs name as their `application`.
pub const LOADED: &str = "loaded";

/// Packs by name. Clones share them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Packs(Arc<Vec<Pack>>);

static PARSED: LazyLock<Packs> = LazyLock::new(|| {
    let parse = |(file, text): &(&str, &str)| Pack::parse(file, text).expect("built-in packs are tested");
    Packs::of(BUILTIN.iter().map(parse).collect())
});

impl Pack {
    /// Reads a pack; `file` is for errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, PackError> {
        let error = |line, column, message| PackError::File {
            file: file.to_owned(),
            line,
            column,
            message,
        };
        let pack: Pack = serde_saphyr::from_str(text).map_err(|e| {
            let (line, column) = e.location().map_or((0, 0), |at| (at.line(), at.column()));
            error(line, column, e.without_snippet().to_string())
        })?;
        pack.check().map_err(|message| error(0, 0, message))?;
        Ok(pack)
    }

    /// Whether the node has loaded its library, as far as the relay reports it.
    fn is_loaded(&self, node: &BTreeMap<String, Vec<String>>) -> bool {
        match (&self.application, node.get(LOADED)) {
            (Some(application), Some(loaded)) => loaded.contains(application),
            _ => true,
        }
    }

    /// Whether the configuration can choose it: it has metrics or events, not only mapped metrics.
    fn is_choosable(&self) -> bool {
        !self.definitions.is_empty() || !self.streams.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        let carried = |expression: &Expression| match expression.carried() {
            Some(name) if !self.carry.contains_key(name) => Err(format!(
                "pack {}: carried value {name:?} is not defined; add it under carry",
                self.name
            )),
            _ => Ok(()),
        };
        for definition in &self.definitions {
            let of_pack = |e: &&Expression| {
                e.carried()
                    .is_none_or(|name| !definition.carry.contains_key(name))
            };
            definition.tags.values().filter(of_pack).try_for_each(carried)?;
        }
        self.streams
            .iter()
            .flat_map(|s| s.metadata.values())
            .try_for_each(carried)?;
        for pattern in &self.events {
            // The name of a template is checked in place of its value, which is a plain name too.
            Pattern::new(&pattern.replace("${", "").replace('}', "")).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

impl Packs {
    /// The built-in packs, which are parsed once.
    ///
    /// # Panics
    /// Never: a test reads every built-in pack.
    pub fn builtin() -> Self {
        PARSED.clone()
    }

    /// Replaces the metrics of libraries that PromEx supports by those of PromEx: names, labels, buckets, milliseconds.
    ///
    /// # Panics
    /// Never: a test reads every variant.
    pub fn promex(mut self) -> Self {
        let packs = Arc::make_mut(&mut self.0);
        for (file, text) in PROMEX {
            let variant = Pack::parse(file, text).expect("built-in packs are tested");
            let Some(pack) = packs.iter_mut().find(|pack| pack.name == variant.name) else {
                continue;
            };
            pack.definitions = variant.definitions;
            pack.carry.extend(variant.carry);
            pack.variables.extend(variant.variables);
        }
        self
    }

    /// A set of packs.
    pub fn of(packs: Vec<Pack>) -> Self {
        Packs(Arc::new(packs))
    }

    /// The packs with these names, in this order, and the mapping of semantic conventions.
    pub fn choose(&self, names: &[String]) -> Result<Self, PackError> {
        let find = |name: &String| {
            self.0
                .iter()
                .find(|pack| pack.name == *name && pack.is_choosable())
                .cloned()
                .ok_or_else(|| PackError::Unknown {
                    name: name.clone(),
                    known: self.names().collect::<Vec<_>>().join(", "),
                })
        };
        let mut chosen: Vec<Pack> = names.iter().map(find).collect::<Result<_, _>>()?;
        chosen.extend(self.0.iter().filter(|pack| !pack.is_choosable()).cloned());
        Ok(Packs::of(chosen))
    }

    /// Names of the packs that the configuration can choose.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|pack| pack.is_choosable())
            .map(|pack| pack.name.as_str())
    }

    /// Whether a pack of this name is in use on a node that reports these variables.
    pub fn in_use(&self, name: &str, node: &BTreeMap<String, Vec<String>>) -> bool {
        let used = |pack: &&Pack| pack.name == name && pack.is_choosable();
        self.0.iter().find(used).is_some_and(|pack| pack.is_loaded(node))
    }

    /// All packs.
    pub fn iter(&self) -> impl Iterator<Item = &Pack> {
        self.0.iter()
    }
}
