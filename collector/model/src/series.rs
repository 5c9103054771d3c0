//! The series key. Points with equal keys belong to one series.
//!
//! Key = (source, scope, name, unit, kind, temporality, sorted attributes); the resource is part of the source. On a miss, a
//! receiver describes the series by a [`SeriesDef`]; the core canonicalizes, resolves and stores it.

use crate::UnixNanos;
use crate::attributes::{AttributeValue, Attributes};
use crate::metric::{MetricKind, Temporality};
use crate::source::SourceId;
use crate::units::Factor;
use std::borrow::Cow;
use std::sync::Arc;

/// The style of a name, which decides its form on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameStyle {
    /// A dotted name with a separate unit: gets unit and `_total` suffixes on a page.
    OpenTelemetry,
    /// A Prometheus family name from a definition: characters that it may not have become `_`, nothing is added.
    Verbatim,
    /// The family name of a scraped page: shown as it is where UTF-8 names are accepted, else escaped.
    Scraped,
}

/// Instrumentation scope of a series. All of it is part of the identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Scope {
    /// Name of the instrumentation library; empty if not stated.
    pub name: String,
    /// Its version; empty if not stated.
    pub version: String,
    /// URL of its schema; empty if not stated.
    pub schema_url: String,
    /// Its attributes.
    pub attributes: Attributes,
}

/// The definition of a series by a receiver.
pub struct SeriesDef<'a> {
    /// Its source.
    pub source: SourceId,
    /// Instrumentation scope.
    pub scope: &'a Scope,
    /// The name as received: dotted for OTLP and BEAM; for scraped series the family name, with `_total` if the counter has it.
    pub name: &'a str,
    /// The style of `name`.
    pub style: NameStyle,
    /// UCUM, or empty.
    pub unit: &'a str,
    /// Help text, or empty.
    pub help: &'a str,
    /// Its kind.
    pub kind: MetricKind,
    /// The temporality of its points. Gauges are cumulative.
    pub temporality: Temporality,
    /// Converts raw values to `unit` (relays send raw units).
    pub factor: Factor,
    /// Labels, in any order.
    pub attributes: Vec<(Cow<'a, str>, AttributeValue<'a>)>,
    /// Start of the first point; 0 when it is not stated. It distinguishes a restarted process from a second one with the same identity.
    pub start: UnixNanos,
    /// Upper bounds of explicit buckets, ascending, in `unit` (after `factor`), without +Inf. `None` for other kinds.
    pub bounds: Option<Arc<[f64]>>,
}
