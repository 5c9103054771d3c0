//! The part of a `Metric` that all of its points share.

use dichroic_model::{MetricKind, Temporality};

/// A metric without its points.
pub(super) struct MetricHeader<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    pub(super) help: &'a str,
    pub(super) kind: MetricKind,
    pub(super) temporality: Temporality,
}
