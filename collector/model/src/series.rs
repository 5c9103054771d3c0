//! The series key: what makes two points belong to one series.
//!
//! Key = (source, scope, name, unit, kind, temporality, sorted attributes); the resource is part of the source. A receiver
//! describes a series once, on a miss, by a [`SeriesDef`]; the store canonicalises, resolves and keeps it.

use crate::attributes::AttributeValue;
use crate::metric::{MetricKind, Temporality};
use crate::source::SourceId;
use crate::units::Factor;
use std::borrow::Cow;
use std::sync::Arc;

/// How a name is spelled, which decides how it is shown on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameStyle {
    /// Dotted, unit apart: gets unit and `_total` suffixes on a page.
    OpenTelemetry,
    /// A Prometheus family name, kept to the letter.
    Verbatim,
}

/// Instrumentation scope of a series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Scope {
    /// Library that made the metric; empty when not told.
    pub name: String,
    /// Its version; empty when not told.
    pub version: String,
}

/// Everything a receiver knows about a series it meets for the first time.
pub struct SeriesDef<'a> {
    /// Who sends it.
    pub source: SourceId,
    /// Instrumentation scope.
    pub scope: &'a Scope,
    /// As it came: dotted for OTLP and BEAM; for scraped series the family name with `_total` where the counter had it.
    pub name: &'a str,
    /// How `name` is spelled.
    pub style: NameStyle,
    /// UCUM, or empty.
    pub unit: &'a str,
    /// What it says about itself, or empty.
    pub help: &'a str,
    /// What it measures.
    pub kind: MetricKind,
    /// How its points relate. Gauges say cumulative: a point replaces.
    pub temporality: Temporality,
    /// Raw values times this are in `unit` (relays send raw units).
    pub factor: Factor,
    /// Labels, in any order.
    pub attributes: Vec<(Cow<'a, str>, AttributeValue<'a>)>,
    /// Upper bounds of explicit buckets, ascending, in `unit` (after `factor`), without +Inf. `None` for other kinds.
    pub bounds: Option<Arc<[f64]>>,
}
