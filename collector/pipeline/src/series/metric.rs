//! Canonical metrics, and their families on pages.

use dichroic_model::names::PageName;
use dichroic_model::{MetricKind, NameStyle, PageType};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The id of a family.
pub(crate) type FamilyId = u32;

/// The id of a metric; never reused.
pub(crate) type MetricId = u64;

/// Different lists of explicit bounds that a family keeps.
const EXPLICIT_LISTS: usize = 4;

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
    /// Set by exporters: a page of text, or of OpenMetrics, had a value that its type does not allow.
    found_forbidden: [AtomicBool; 2],
    /// Written by the ingest thread, in this order.
    explicit_bounds: [OnceLock<Arc<[f64]>>; EXPLICIT_LISTS],
    /// Set by exporters; the ingest thread does not use it.
    classic_bounds: Mutex<Option<ClassicBounds>>,
}

/// The bounds on which pages show the exponential histograms of a family.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassicBounds {
    /// Upper bounds, ascending, in the exported unit, without +Inf.
    pub bounds: Arc<[f64]>,
    /// The first and the last bound without those that were added because values lie outside.
    pub ends: (f64, f64),
    /// The lists of [`Family::explicit_bounds`] that were considered.
    pub lists: usize,
}

impl Family {
    pub(crate) fn new(page: PageName, kind: PageType, help: String) -> Self {
        Family {
            page,
            kind,
            help,
            split_in_text: AtomicBool::new(false),
            split_in_openmetrics: AtomicBool::new(false),
            found_forbidden: Default::default(),
            explicit_bounds: Default::default(),
            classic_bounds: Mutex::new(None),
        }
    }

    /// Whether text pages write each of its sample names as a family of unknown type: another family has one of its names, or
    /// [`Family::split_from_next_page`]. Changes when such a family is added or removed.
    pub fn split_in_text(&self) -> bool {
        self.split_in_text.load(Ordering::Relaxed) || self.found_forbidden[0].load(Ordering::Relaxed)
    }

    /// The same in OpenMetrics.
    pub fn split_in_openmetrics(&self) -> bool {
        self.split_in_openmetrics.load(Ordering::Relaxed) || self.found_forbidden[1].load(Ordering::Relaxed)
    }

    /// Splits the family on all later pages: one had a value that the format forbids under its type, after the family's first
    /// lines had been sent.
    pub fn split_from_next_page(&self, openmetrics: bool) {
        self.found_forbidden[usize::from(openmetrics)].store(true, Ordering::Relaxed);
    }

    /// The bounds of its histograms with explicit ones: the first four different lists.
    pub fn explicit_bounds(&self) -> impl Iterator<Item = &Arc<[f64]>> {
        self.explicit_bounds.iter().map_while(OnceLock::get)
    }

    pub(crate) fn note_explicit_bounds(&self, bounds: &Arc<[f64]>) {
        for known in &self.explicit_bounds {
            if known.get_or_init(|| bounds.clone()) == bounds {
                return;
            }
        }
    }

    /// The bounds on which pages show its exponential histograms, once it had one.
    pub fn classic_bounds(&self) -> Option<ClassicBounds> {
        let bounds = self.classic_bounds.lock();
        bounds.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the bounds by what `change` returns for the present ones.
    pub fn change_classic_bounds(
        &self,
        change: impl FnOnce(Option<&ClassicBounds>) -> Option<ClassicBounds>,
    ) {
        let bounds = self.classic_bounds.lock();
        let mut bounds = bounds.unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = change(bounds.as_ref()) {
            *bounds = Some(changed);
        }
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
        // The name is in the metric, its key, the family and up to six claimed names; tables have spare capacity. Classic bounds are
        // at most a hundred.
        let classic = if self.kind == MetricKind::ExponentialHistogram {
            1_024
        } else {
            0
        };
        1_024 + classic + 12 * self.name.len() + 2 * self.unit.len() + 2 * self.help.len()
    }
}
