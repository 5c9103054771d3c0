//! Canonical metrics, and their families on pages.

use dichroic_model::names::PageName;
use dichroic_model::{MetricKind, NameStyle, PageType};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The id of a family.
pub(crate) type FamilyId = u32;

/// The id of a metric; never reused.
pub(crate) type MetricId = u64;

/// What a page shows once per family.
#[derive(Debug)]
pub struct Family {
    /// Name, without `_total`.
    pub page: PageName,
    /// Type on the page.
    pub kind: PageType,
    /// The help text of its first metric.
    pub help: String,
    pub(crate) split_in_text: AtomicBool,
    pub(crate) split_in_openmetrics: AtomicBool,
}

impl Family {
    pub(crate) fn new(page: PageName, kind: PageType, help: String) -> Self {
        Family {
            page,
            kind,
            help,
            split_in_text: AtomicBool::new(false),
            split_in_openmetrics: AtomicBool::new(false),
        }
    }

    /// Whether text pages write each of its sample names as a family of unknown type, because another family has one of its names.
    /// Changes when such a family is added or removed.
    pub fn split_in_text(&self) -> bool {
        self.split_in_text.load(Ordering::Relaxed)
    }

    /// The same in OpenMetrics.
    pub fn split_in_openmetrics(&self) -> bool {
        self.split_in_openmetrics.load(Ordering::Relaxed)
    }
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
    /// What pages show.
    pub family: Arc<Family>,
    pub(crate) family_id: FamilyId,
    pub(crate) id: MetricId,
    /// Its hash in the table of metrics.
    pub(crate) hash: u64,
}

impl Metric {
    /// Bytes that the metric and its part of the family are accounted for.
    pub(crate) fn bytes(&self) -> usize {
        // The name is in the metric, its key, the family and up to six claimed names; tables have spare capacity.
        1_024 + 12 * self.name.len() + 2 * self.unit.len() + 2 * self.help.len()
    }
}
