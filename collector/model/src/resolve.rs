//! How meaning is given to a series: once, on a miss, in one place.
//!
//! The store asks a [`Resolver`] when it meets a series for the first time and keeps the answer with it. Packs implement the
//! resolver; [`Identity`] is what holds without packs. A reload bumps the generation and series resolve again as they come.

use crate::attributes::AttributeValue;
use crate::metric::MetricKind;
use crate::series::{NameStyle, SeriesDef};
use crate::source::Source;
use crate::units::{self, Factor};

/// What is asked: a series as it came, and its source.
pub struct Query<'a> {
    /// Who sends it.
    pub source: &'a Source,
    /// What it says of itself.
    pub def: &'a SeriesDef<'a>,
}

impl Query<'_> {
    /// An attribute as it came, by name.
    pub fn attribute(&self, key: &str) -> Option<&AttributeValue<'_>> {
        self.def.attributes.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }
}

/// The meaning of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// Canonical name.
    pub name: String,
    /// Unit of what is exported.
    pub unit: String,
    /// Values in the definition's unit times this are in `unit`.
    pub factor: Factor,
    /// Help text, or empty.
    pub help: String,
    /// A family shared across runtimes: its series get a `runtime` label.
    pub mapped: bool,
    /// Attributes to rename, (from, to).
    pub rename: Vec<(String, String)>,
}

impl Resolution {
    /// The meaning that needs no knowledge of the name: the base unit of the declared one, nothing renamed.
    ///
    /// Scraped series keep everything as it came. Exponential buckets cannot be rescaled exactly, so such a histogram keeps its
    /// unit.
    pub fn plain(query: &Query<'_>) -> Self {
        let def = query.def;
        let rescale = def.style == NameStyle::OpenTelemetry && def.kind != MetricKind::ExponentialHistogram;
        let base = units::base(def.unit);
        let factor = if rescale {
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

/// Gives meaning to series. Called on the ingest thread, once per new series: must not block.
pub trait Resolver: Send + Sync {
    /// Changes when the same query may have another answer.
    fn generation(&self) -> u64;
    /// The meaning of a series. Always answers; what it does not know is [`Resolution::plain`].
    fn resolve(&self, query: &Query<'_>) -> Resolution;
}

/// The resolver without knowledge.
pub struct Identity;

impl Resolver for Identity {
    fn generation(&self) -> u64 {
        0
    }

    fn resolve(&self, query: &Query<'_>) -> Resolution {
        Resolution::plain(query)
    }
}
