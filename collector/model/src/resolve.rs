//! Resolution of a series to its canonical name, unit and labels.
//!
//! The core calls a [`Resolver`] when a series is defined and stores the result. Packs implement the resolver; [`Identity`] is the
//! resolver without packs. A reload changes the generation; then every series is resolved again at its next point.

use crate::attributes::AttributeValue;
use crate::pattern::Pattern;
use crate::series::{NameStyle, SeriesDef};
use crate::source::Source;
use crate::units::{self, Factor};
use std::sync::Arc;

/// A series as received, and its source.
pub struct Query<'a> {
    /// Its source.
    pub source: &'a Source,
    /// Its definition.
    pub def: &'a SeriesDef<'a>,
}

impl Query<'_> {
    /// An attribute as received, by name.
    pub fn attribute(&self, key: &str) -> Option<&AttributeValue<'_>> {
        self.def.attributes.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }
}

/// The resolution of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// Canonical name.
    pub name: String,
    /// Unit of the exported values.
    pub unit: String,
    /// Converts values in the definition's unit to `unit`.
    pub factor: Factor,
    /// Help text, or empty.
    pub help: String,
    /// Whether the family is shared across runtimes: its series get a `runtime` label.
    pub mapped: bool,
    /// Attributes to rename, (from, to).
    pub rename: Vec<(String, String)>,
}

impl Resolution {
    /// The resolution without a pack: the base unit of the declared unit, no renamed attributes.
    ///
    /// Scraped series are unchanged.
    pub fn plain(query: &Query<'_>) -> Self {
        let def = query.def;
        let base = units::base(def.unit);
        let factor = if def.style == NameStyle::OpenTelemetry {
            units::conversion(def.unit, base)
        } else {
            None
        };
        Resolution {
            name: def.name.to_owned(),
            unit: if factor.is_some() { base } else { def.unit }.to_owned(),
            factor: factor.unwrap_or(Factor::ONE),
            help: def.help.to_owned(),
            mapped: false,
            rename: Vec::new(),
        }
    }
}

/// Resolves series. Called on the ingest thread for each new series; must not block.
pub trait Resolver: Send + Sync {
    /// Changes when results may change.
    fn generation(&self) -> u64;
    /// Resolves a series; [`Resolution::plain`] without a matching pack.
    fn resolve(&self, query: &Query<'_>) -> Resolution;
    /// Names that may come, although nothing has arrived under them yet.
    fn known(&self) -> Arc<KnownNames> {
        Arc::default()
    }
}

/// Names that packs and the configuration define.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownNames {
    /// Events.
    pub events: Vec<KnownEvent>,
    /// Metrics.
    pub metrics: Vec<String>,
}

/// An event that a pack defines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEvent {
    /// Its name; `**` stands for a template whose value only the nodes have.
    pub pattern: Pattern,
    /// Names of its measurements and metadata.
    pub columns: Vec<String>,
}

/// The resolver without packs.
pub struct Identity;

impl Resolver for Identity {
    fn generation(&self) -> u64 {
        0
    }

    fn resolve(&self, query: &Query<'_>) -> Resolution {
        Resolution::plain(query)
    }
}
