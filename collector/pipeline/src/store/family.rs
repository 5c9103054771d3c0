//! Families: metrics that share a name on a Prometheus page, kept in page order.
//!
//! A metric is canonical (dotted name, unit, kind); a family is what a page shows (`# TYPE` once, all samples together). Metrics of one
//! family may come from several sources and runtimes. A metric whose page name or suffixes are taken by a family of another
//! type cannot be shown beside it: its series are kept for streams and the catalog, hidden from pages, and counted.

use dichroic_model::names::{PageName, page_name};
use dichroic_model::{MetricKind, NameStyle, PageType};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A family's place.
pub(crate) type FamilyId = u32;

/// What a page shows once per family.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// Name, without `_total`.
    pub page: PageName,
    /// Type on the page.
    pub kind: PageType,
    /// The first help text that was not empty.
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
    /// What it measures.
    pub kind: MetricKind,
    /// How its name is spelled.
    pub style: NameStyle,
    /// What pages show. `None` when the name is taken by a family of another type.
    pub family: Option<Arc<Family>>,
    pub(crate) family_id: FamilyId,
}

pub(crate) struct Members {
    pub(crate) family: Arc<Family>,
    /// Slots, in order of arrival; [`GONE`] where one left while a copy was under way.
    pub(crate) slots: Vec<u32>,
    gone: usize,
}

pub(crate) const GONE: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Families {
    members: Vec<Option<Members>>,
    free: Vec<FamilyId>,
    by_name: BTreeMap<String, FamilyId>,
    /// Every sample name that a family may produce, so that two families never produce the same one.
    claimed: HashMap<String, FamilyId>,
    metrics: HashMap<(String, String, MetricKind, NameStyle), Arc<Metric>>,
}

fn sample_names(page: &PageName, kind: PageType) -> Vec<String> {
    let with = |suffixes: &[&str]| suffixes.iter().map(|s| format!("{}{s}", page.base)).collect();
    match kind {
        PageType::Counter => with(&["", "_total", "_created"]),
        PageType::Histogram => with(&["", "_bucket", "_sum", "_count", "_created"]),
        PageType::GaugeHistogram => with(&["", "_bucket", "_gsum", "_gcount", "_sum", "_count"]),
        PageType::Summary => with(&["", "_sum", "_count", "_created"]),
        PageType::Info => with(&["", "_info"]),
        PageType::Gauge | PageType::StateSet | PageType::Unknown => with(&[""]),
    }
}

impl Families {
    /// Finds or makes the metric and its family.
    pub(crate) fn metric(
        &mut self,
        name: &str,
        unit: &str,
        kind: MetricKind,
        style: NameStyle,
        help: &str,
    ) -> Arc<Metric> {
        let key = (name.to_owned(), unit.to_owned(), kind, style);
        if let Some(metric) = self.metrics.get(&key) {
            return metric.clone();
        }
        let (family_id, family) = self.family(
            page_name(name, unit, kind.page_type(), style),
            kind.page_type(),
            help,
        );
        let metric = Arc::new(Metric {
            name: name.to_owned(),
            unit: unit.to_owned(),
            help: help.to_owned(),
            kind,
            style,
            family,
            family_id,
        });
        self.metrics.insert(key, metric.clone());
        metric
    }

    /// A hidden metric gets a family of its own without a place on pages, so that its series are still kept in order.
    fn family(&mut self, page: PageName, kind: PageType, help: &str) -> (FamilyId, Option<Arc<Family>>) {
        if let Some(id) = self.by_name.get(&page.base).copied()
            && let Some(members) = &self.members[id as usize]
            && (members.family.kind, members.family.page.total) == (kind, page.total)
        {
            return (id, Some(members.family.clone()));
        }
        let names = sample_names(&page, kind);
        let clash = names.iter().any(|name| self.claimed.contains_key(name));
        let id = self.free.pop().unwrap_or(self.members.len() as FamilyId);
        if id as usize == self.members.len() {
            self.members.push(None);
        }
        let family = Arc::new(Family {
            page,
            kind,
            help: help.to_owned(),
        });
        let place = if clash {
            format!("{}\u{0}{id}", family.page.base)
        } else {
            family.page.base.clone()
        };
        self.members[id as usize] = Some(Members {
            family: family.clone(),
            slots: Vec::new(),
            gone: 0,
        });
        self.by_name.insert(place, id);
        if clash {
            return (id, None);
        }
        for name in names {
            self.claimed.insert(name, id);
        }
        (id, Some(family))
    }

    pub(crate) fn add(&mut self, id: FamilyId, slot: u32) -> u32 {
        let Some(members) = &mut self.members[id as usize] else {
            return 0;
        };
        members.slots.push(slot);
        (members.slots.len() - 1) as u32
    }

    /// Leaves a hole, so that a copy under way neither skips nor repeats others.
    pub(crate) fn remove(&mut self, id: FamilyId, place: u32) {
        if let Some(members) = &mut self.members[id as usize] {
            members.slots[place as usize] = GONE;
            members.gone += 1;
        }
    }

    /// Closes holes and forgets empty families, calling `moved(slot, new place)`. Only while nobody copies.
    pub(crate) fn compact(&mut self, mut moved: impl FnMut(u32, u32)) {
        for id in 0..self.members.len() {
            let Some(members) = &mut self.members[id] else {
                continue;
            };
            if members.gone * 2 > members.slots.len()
                || (members.gone > 0 && members.slots.len() == members.gone)
            {
                members.slots.retain(|slot| *slot != GONE);
                members.gone = 0;
                for (place, slot) in members.slots.iter().enumerate() {
                    moved(*slot, place as u32);
                }
                if members.slots.is_empty() {
                    self.forget(id as FamilyId);
                }
            }
        }
    }

    fn forget(&mut self, id: FamilyId) {
        self.members[id as usize] = None;
        self.free.push(id);
        self.by_name.retain(|_, other| *other != id);
        self.claimed.retain(|_, other| *other != id);
        self.metrics.retain(|_, metric| metric.family_id != id);
    }

    /// The first family at or after `name` in page order.
    pub(crate) fn at_or_after(&self, name: &str, inclusive: bool) -> Option<(&str, &Members)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = if inclusive { Included(name) } else { Excluded(name) };
        let (name, id) = self.by_name.range::<str, _>((from, Unbounded)).next()?;
        self.members[*id as usize]
            .as_ref()
            .map(|members| (name.as_str(), members))
    }

    pub(crate) fn metrics(&self) -> impl Iterator<Item = &Arc<Metric>> {
        self.metrics.values()
    }
}
