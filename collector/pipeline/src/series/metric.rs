//! Canonical metrics, and their families on pages.

use dichroic_model::names::PageName;
use dichroic_model::{MetricKind, NameStyle, PageType};
use std::sync::Arc;

/// The id of a family.
pub(crate) type FamilyId = u32;

/// The id of a metric; never reused.
pub(crate) type MetricId = u64;

/// A family on a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Name, without `_total`.
    pub page: PageName,
    /// Type on the page.
    pub kind: PageType,
    /// The help text of its first metric.
    pub help: String,
}

/// A canonical metric.
#[derive(Debug)]
pub struct Metric {
    /// Canonical name.
    pub name: String,
    /// UCUM unit of exported values, or empty.
    pub unit: String,
    /// Help text, or empty.
    pub help: String,
    /// Its kind.
    pub kind: MetricKind,
    /// The style of its name.
    pub style: NameStyle,
    /// Its family on pages; `None` if a family of another type has taken the name.
    pub family: Option<Arc<Family>>,
    pub(crate) family_id: FamilyId,
    pub(crate) id: MetricId,
    /// Its hash in the table of metrics.
    pub(crate) hash: u64,
}

impl Metric {
    pub(crate) fn with_family(&self, family: &Arc<Family>) -> Metric {
        Metric {
            name: self.name.clone(),
            unit: self.unit.clone(),
            help: self.help.clone(),
            kind: self.kind,
            style: self.style,
            family: Some(family.clone()),
            family_id: self.family_id,
            id: self.id,
            hash: self.hash,
        }
    }

    /// Accounted bytes of the metric and its part of the family.
    pub(crate) fn bytes(&self) -> usize {
        // The name is in the metric, its key, the family and up to six claimed names; tables have spare capacity.
        1_024 + 12 * self.name.len() + 2 * self.unit.len() + 2 * self.help.len()
    }
}
