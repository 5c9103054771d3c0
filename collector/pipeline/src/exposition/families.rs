//! Families: metrics that share a name on a Prometheus page, in page order.
//!
//! A metric is canonical (dotted name, unit, kind); a family is its form on a page (one `# TYPE`, all samples together). A family may
//! have metrics of several sources and runtimes. If a family of another type has taken the page name or a suffix of a metric, its series
//! are hidden from pages and counted, but remain in streams and in the catalog. They are shown once the other family is removed.
//!
//! A metric is removed with its last series, a family with its last metric; both are accounted in bytes.

use crate::hash::{HashMap, Seeded};
use crate::series::metric::{Family, FamilyId, Metric, MetricId};
use dichroic_model::attributes::cut;
use dichroic_model::names::{PageName, page_name};
use dichroic_model::{MetricKind, NameStyle, PageType};
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Largest help text in bytes; longer ones are cut.
const HELP_BYTES: usize = 1_024;

pub(crate) struct Members {
    family: Arc<Family>,
    /// Slots; [`HOLE`] where a series was removed since the last [`Families::tidy`].
    pub(crate) slots: Vec<u32>,
    /// Positions of [`HOLE`].
    holes: Vec<u32>,
    metrics: usize,
    shown: bool,
}

/// Marks the slot of a removed series.
pub(crate) const HOLE: u32 = u32::MAX;

/// Base name, type, whether its samples end with `_total`.
type HiddenKey = (String, u8, bool);

fn hidden_key(page: &PageName, kind: PageType) -> HiddenKey {
    (page.base.clone(), kind as u8, page.total)
}

struct MetricEntry {
    metric: Arc<Metric>,
    series: usize,
}

#[derive(Default)]
pub(crate) struct Families {
    members: Vec<Option<Members>>,
    free: Vec<FamilyId>,
    by_name: BTreeMap<String, FamilyId>,
    /// Every sample name that a family may produce, so that two families never produce the same one.
    claimed: HashMap<String, FamilyId>,
    /// Families that are hidden from pages, by their name and type there.
    hidden: BTreeMap<HiddenKey, FamilyId>,
    /// Whether a name has become free that a hidden family may need.
    freed: bool,
    metrics: HashTable<MetricEntry>,
    hasher: Seeded,
    next_metric: MetricId,
    /// Families with holes or without metrics, to be tidied while no copy is in progress.
    untidy: Vec<FamilyId>,
    bytes: usize,
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

/// The name of a hidden family in page order.
fn hidden_name(base: &str, id: FamilyId) -> String {
    format!("{base}\u{0}{id}")
}

impl Families {
    /// Finds or creates the metric and its family. A metric that gets no series must be released: [`Families::release`].
    pub(crate) fn metric(
        &mut self,
        name: &str,
        unit: &str,
        kind: MetricKind,
        style: NameStyle,
        help: &str,
    ) -> Arc<Metric> {
        let hash = self.hasher.hash_one((name, unit, kind, style));
        if let Some(entry) = self.find(hash, name, unit, kind, style) {
            return entry.metric.clone();
        }
        let help = cut(help, HELP_BYTES);
        let (family_id, family) = self.family(
            page_name(name, unit, kind.page_type(), style),
            kind.page_type(),
            help,
        );
        self.next_metric += 1;
        let metric = Arc::new(Metric {
            name: name.to_owned(),
            unit: unit.to_owned(),
            help: help.to_owned(),
            kind,
            style,
            family,
            family_id,
            id: self.next_metric,
            hash,
        });
        self.bytes += metric.bytes();
        let entry = MetricEntry {
            metric: metric.clone(),
            series: 0,
        };
        self.metrics.insert_unique(hash, entry, |entry| entry.metric.hash);
        if let Some(members) = &mut self.members[family_id as usize] {
            members.metrics += 1;
        }
        metric
    }

    /// Finds or creates the family. Hidden metrics have a hidden family, so that copies visit their series in order.
    fn family(&mut self, page: PageName, kind: PageType, help: &str) -> (FamilyId, Option<Arc<Family>>) {
        if let Some(id) = self.by_name.get(&page.base).copied()
            && let Some(members) = &self.members[id as usize]
            && (members.family.kind, members.family.page.total) == (kind, page.total)
        {
            return (id, Some(members.family.clone()));
        }
        let names = sample_names(&page, kind);
        let shown = !names.iter().any(|name| self.claimed.contains_key(name));
        if let Some(id) = self.hidden.get(&hidden_key(&page, kind)).copied() {
            self.freed |= shown;
            return (id, None);
        }
        let id = self.free.pop().unwrap_or(self.members.len() as FamilyId);
        if id as usize == self.members.len() {
            self.members.push(None);
        }
        let family = Arc::new(Family {
            page,
            kind,
            help: help.to_owned(),
        });
        let base = &family.page.base;
        let name = if shown {
            base.clone()
        } else {
            hidden_name(base, id)
        };
        self.by_name.insert(name, id);
        self.members[id as usize] = Some(Members {
            family: family.clone(),
            slots: Vec::new(),
            holes: Vec::new(),
            metrics: 0,
            shown,
        });
        if !shown {
            self.hidden.insert(hidden_key(&family.page, kind), id);
            return (id, None);
        }
        for name in names {
            self.claimed.insert(name, id);
        }
        (id, Some(family))
    }

    /// Adds a series. Returns its position in the family.
    pub(crate) fn add(&mut self, metric: &Metric, slot: u32) -> u32 {
        if let Some(entry) = self.entry_mut(metric) {
            entry.series += 1;
        }
        let Some(members) = &mut self.members[metric.family_id as usize] else {
            return 0;
        };
        members.slots.push(slot);
        (members.slots.len() - 1) as u32
    }

    /// Removes a series. Leaves a hole, so that a copy in progress neither skips nor repeats others.
    pub(crate) fn remove(&mut self, metric: &Metric, position: u32) {
        if let Some(members) = &mut self.members[metric.family_id as usize] {
            if members.holes.is_empty() {
                self.untidy.push(metric.family_id);
            }
            members.slots[position as usize] = HOLE;
            members.holes.push(position);
        }
        let last = self.entry_mut(metric).is_some_and(|entry| {
            entry.series -= 1;
            entry.series == 0
        });
        if last {
            self.release(metric);
        }
    }

    /// Removes the metric if it has no series.
    pub(crate) fn release(&mut self, metric: &Metric) {
        let unused = |entry: &MetricEntry| entry.metric.id == metric.id && entry.series == 0;
        let Ok(occupied) = self.metrics.find_entry(metric.hash, unused) else {
            return;
        };
        occupied.remove();
        self.bytes -= metric.bytes();
        if let Some(members) = &mut self.members[metric.family_id as usize] {
            members.metrics -= 1;
            if members.metrics == 0 && members.slots.is_empty() {
                // A family without slots is in no copy.
                self.remove_family(metric.family_id);
            } else if members.metrics == 0 {
                self.untidy.push(metric.family_id);
            }
        }
    }

    fn find(
        &self,
        hash: u64,
        name: &str,
        unit: &str,
        kind: MetricKind,
        style: NameStyle,
    ) -> Option<&MetricEntry> {
        self.metrics.find(hash, |entry| {
            let metric = &entry.metric;
            (metric.kind, metric.style) == (kind, style) && metric.name == name && metric.unit == unit
        })
    }

    fn entry_mut(&mut self, metric: &Metric) -> Option<&mut MetricEntry> {
        self.metrics
            .find_mut(metric.hash, |entry| entry.metric.id == metric.id)
    }

    /// Closes holes with the family's last series and removes families without metrics, calling `moved(slot, new position)`. Only
    /// valid while no copy is in progress.
    pub(crate) fn tidy(&mut self, mut moved: impl FnMut(u32, u32)) {
        for id in std::mem::take(&mut self.untidy) {
            let Some(members) = &mut self.members[id as usize] else {
                continue;
            };
            for hole in std::mem::take(&mut members.holes) {
                while members.slots.last() == Some(&HOLE) {
                    members.slots.pop();
                }
                if (hole as usize) < members.slots.len()
                    && let Some(last) = members.slots.pop()
                {
                    members.slots[hole as usize] = last;
                    moved(last, hole);
                }
            }
            while members.slots.last() == Some(&HOLE) {
                members.slots.pop();
            }
            members.slots.shrink_to(members.slots.len() * 2 + 16);
            if members.metrics == 0 {
                self.remove_family(id);
            }
        }
    }

    fn remove_family(&mut self, id: FamilyId) {
        let Some(members) = self.members[id as usize].take() else {
            return;
        };
        self.free.push(id);
        let page = &members.family.page;
        if members.shown {
            self.by_name.remove(&page.base);
            for name in sample_names(page, members.family.kind) {
                self.claimed.remove(&name);
            }
            self.freed |= !self.hidden.is_empty();
        } else {
            self.by_name.remove(&hidden_name(&page.base, id));
            self.hidden.remove(&hidden_key(page, members.family.kind));
        }
    }

    /// Shows families whose names have become free, calling `renewed(slots, metrics by id)` for each. Only valid while no copy is in
    /// progress.
    pub(crate) fn reveal(&mut self, mut renewed: impl FnMut(&[u32], &HashMap<MetricId, Arc<Metric>>)) {
        if !std::mem::take(&mut self.freed) {
            return;
        }
        for (key, id) in self.hidden.clone() {
            let Some(members) = &mut self.members[id as usize] else {
                continue;
            };
            let family = members.family.clone();
            let names = sample_names(&family.page, family.kind);
            if names.iter().any(|name| self.claimed.contains_key(name)) {
                continue;
            }
            members.shown = true;
            self.claimed.extend(names.into_iter().map(|name| (name, id)));
            self.hidden.remove(&key);
            self.by_name.remove(&hidden_name(&family.page.base, id));
            self.by_name.insert(family.page.base.clone(), id);
            let mut metrics = HashMap::default();
            for entry in self.metrics.iter_mut().filter(|k| k.metric.family_id == id) {
                entry.metric = Arc::new(entry.metric.with_family(&family));
                metrics.insert(entry.metric.id, entry.metric.clone());
            }
            renewed(&members.slots, &metrics);
        }
    }

    /// The first family at or after `name` in page order.
    pub(crate) fn at_or_after(&self, name: &str) -> Option<(&str, &Members)> {
        use std::ops::Bound::{Included, Unbounded};
        let (name, id) = self.by_name.range::<str, _>((Included(name), Unbounded)).next()?;
        self.members[*id as usize]
            .as_ref()
            .map(|members| (name.as_str(), members))
    }

    pub(crate) fn metrics(&self) -> impl Iterator<Item = &Arc<Metric>> {
        self.metrics.iter().map(|entry| &entry.metric)
    }

    /// Bytes accounted for metrics and families.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
