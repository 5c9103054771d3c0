//! A pack: what is known of one library. Read from YAML, by the same reader as the configuration; the known libraries' are compiled in.

use crate::definition::{Carry, Definition, EventName};
use crate::expression::Expression;
use dichroic_model::Pattern;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One library.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// How configuration names it.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub help: String,
    /// Patterns of the events it knows, for the catalog; templates are left as they are.
    pub events: Vec<String>,
    /// Values of templates such as `${ecto_prefix}`, unless configuration says otherwise. `${app}` stands for the node's main
    /// application.
    #[serde(default)]
    pub variables: BTreeMap<String, Vec<String>>,
    /// Event → measurement → unit, for definitions and streams that name none.
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
    /// Metrics that it shares with other runtimes.
    #[serde(default)]
    pub mapped: Vec<Mapped>,
}

/// A raw event under the names that subscribers see.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamDefinition {
    /// The event.
    pub event: EventName,
    /// Measurement → unit; empty asks `event_units`.
    #[serde(default)]
    pub measurements: BTreeMap<String, String>,
    /// Metadata name → where its value is.
    #[serde(default)]
    pub metadata: BTreeMap<String, Expression>,
}

/// A metric of the semantic conventions, and older names of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapped {
    /// Canonical name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Help text where the sender has none.
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
    /// Attributes that changed their names too.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
}

/// A pack or a choice of packs that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The file does not say what it should.
    #[error("{file}:{line}:{column}: {message}")]
    File {
        /// Where it came from.
        file: String,
        /// Line, from 1; 0 when not known.
        line: u64,
        /// Column, from 1; 0 when not known.
        column: u64,
        /// What is wrong and what to write.
        message: String,
    },
    /// Configuration names a pack that there is not.
    #[error("metrics.packs: there is no pack {name:?}; there are {known}, or write auto for all that match")]
    Unknown {
        /// As it was written.
        name: String,
        /// Those that there are.
        known: String,
    },
}

macro_rules! files {
    ($folder:literal: $($name:literal)*) => {
        &[$((concat!($name, ".yaml"), include_str!(concat!("../packs/", $folder, $name, ".yaml")))),*]
    };
}

const BUILTIN: &[(&str, &str)] = files!("":
    "absinthe" "ash" "bandit" "beam_runtime" "broadway" "commanded" "cowboy" "crucible" "ecto" "finch" "live_view" "llm_guard"
    "logger" "nebulex" "oban" "phoenix" "plug" "redix" "semconv" "snakebridge" "snakepit" "tesla" "vm"
);

/// Packs of the same names whose metrics are those of PromEx 1.11.
const PROMEX: &[(&str, &str)] = files!("promex/":
    "absinthe" "broadway" "cowboy" "ecto" "live_view" "oban" "phoenix" "plug" "vm"
);

/// Packs by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Packs(Vec<Pack>);

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

    /// Whether it has metrics or events, not only a mapping.
    fn is_choosable(&self) -> bool {
        !self.definitions.is_empty() || !self.streams.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        let carried = |expression: &Expression| match expression.carried() {
            Some(name) if !self.carry.contains_key(name) => Err(format!(
                "pack {}: nothing carries {name:?}; add it under carry",
                self.name
            )),
            _ => Ok(()),
        };
        for definition in &self.definitions {
            let own = |e: &&Expression| {
                e.carried()
                    .is_none_or(|name| !definition.carry.contains_key(name))
            };
            definition.tags.values().filter(own).try_for_each(carried)?;
        }
        self.streams
            .iter()
            .flat_map(|s| s.metadata.values())
            .try_for_each(carried)?;
        for pattern in &self.events {
            // A template is no pattern yet; what it becomes is a plain name.
            Pattern::new(&pattern.replace("${", "").replace('}', "")).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

impl Packs {
    /// Those that are compiled in.
    ///
    /// # Panics
    /// Never: a test reads every one of them.
    pub fn builtin() -> Self {
        let parse = |(file, text): &(&str, &str)| Pack::parse(file, text).expect("built-in packs are tested");
        Packs(BUILTIN.iter().map(parse).collect())
    }

    /// With the metrics of PromEx (names, labels, buckets, milliseconds) in place of our own, where PromEx has any for a library.
    ///
    /// # Panics
    /// Never: a test reads every variant.
    pub fn promex(mut self) -> Self {
        for (file, text) in PROMEX {
            let variant = Pack::parse(file, text).expect("built-in packs are tested");
            let Some(pack) = self.0.iter_mut().find(|pack| pack.name == variant.name) else {
                continue;
            };
            pack.definitions = variant.definitions;
            pack.carry.extend(variant.carry);
            pack.variables.extend(variant.variables);
        }
        self
    }

    /// These, for tests and for packs of configuration.
    pub fn of(packs: Vec<Pack>) -> Self {
        Packs(packs)
    }

    /// Only the named ones, in their order. The mapping of semantic conventions is always among them.
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
        Ok(Packs(chosen))
    }

    /// Names of packs that have something to choose: metrics or events.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|pack| pack.is_choosable())
            .map(|pack| pack.name.as_str())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Pack> {
        self.0.iter()
    }
}
