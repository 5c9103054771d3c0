//! Families: metrics that share a name on a Prometheus page, kept in page order.
//!
//! A metric is canonical (dotted name, unit, kind); a family is what a page shows (`# TYPE` once, all samples together). Metrics of one
//! family may come from several sources and runtimes. A metric whose page name or suffixes are taken by a family of another
//! type cannot be shown beside it: its series are in streams and in the catalog, but hidden from pages, and counted. They are shown once the
//! other family is removed.
//!
//! A metric lives as long as a series of it, a family as long as a metric of it; both are accounted in bytes.

use crate::hash::{HashMap, Seeded};
use crate::series::metric::{Family, FamilyId, Metric, MetricId};
use dichroic_model::attributes::cut;
use dichroic_model::names::{PageName, page_name};
use dichroic_model::{MetricKind, NameStyle, PageType};
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// Bytes of a help text that are kept.
const HELP_BYTES: usize = 1_024;

pub(crate) struct Members {
    family: Arc<Family>,
    /// Slots; [`GONE`] where a series was removed since the last [`Families::tidy`].
    pub(crate) slots: Vec<u32>,
    /// Positions of [`GONE`].
    holes: Vec<u32>,
    metrics: usize,
    shown: bool,
}

pub(crate) const GONE: u32 = u32::MAX;

/// Base name, type, whether its samples carry `_total`.
type HiddenKey = (String, u8, bool);

fn hidden_key(page: &PageName, kind: PageType) -> HiddenKey {
    (page.base.clone(), kind as u8, page.total)
}

struct Known {
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
    /// A name became free that a hidden family may need.
    freed: bool,
    metrics: HashTable<Known>,
    hasher: Seeded,
    next_metric: MetricId,
    /// Families with holes or without metrics, to be tidied while no copy is under way.
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

/// The key of a hidden family in page order.
fn hidden_place(base: &str, id: FamilyId) -> String {
    format!("{base}\u{0}{id}")
}

impl Families {
    /// Finds or makes the metric and its family. Release a metric that gets no series: [`Families::release`].
    pub(crate) fn metric(
        &mut self,
        name: &str,
        unit: &str,
        kind: MetricKind,
        style: NameStyle,
        help: &str,
    ) -> Arc<Metric> {
        let hash = self.hasher.hash_one((name, unit, kind, style));
        if let Some(known) = self.find(hash, name, unit, kind, style) {
            return known.metric.clone();
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
        let known = Known {
            metric: metric.clone(),
            series: 0,
        };
        self.metrics.insert_unique(hash, known, |known| known.metric.hash);
        if let Some(members) = &mut self.members[family_id as usize] {
            members.metrics += 1;
        }
        metric
    }

    /// Hidden metrics get a hidden family, so that copies still visit their series in order.
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
        let place = if shown {
            base.clone()
        } else {
            hidden_place(base, id)
        };
        self.by_name.insert(place, id);
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
        if let Some(known) = self.known(metric) {
            known.series += 1;
        }
        let Some(members) = &mut self.members[metric.family_id as usize] else {
            return 0;
        };
        members.slots.push(slot);
        (members.slots.len() - 1) as u32
    }

    /// Removes a series. Leaves a hole, so that a copy under way neither skips nor repeats others.
    pub(crate) fn remove(&mut self, metric: &Metric, place: u32) {
        if let Some(members) = &mut self.members[metric.family_id as usize] {
            if members.holes.is_empty() {
                self.untidy.push(metric.family_id);
            }
            members.slots[place as usize] = GONE;
            members.holes.push(place);
        }
        let last = self.known(metric).is_some_and(|known| {
            known.series -= 1;
            known.series == 0
        });
        if last {
            self.release(metric);
        }
    }

    /// Removes the metric if it has no series.
    pub(crate) fn release(&mut self, metric: &Metric) {
        let unused = |known: &Known| known.metric.id == metric.id && known.series == 0;
        let Ok(entry) = self.metrics.find_entry(metric.hash, unused) else {
            return;
        };
        entry.remove();
        self.bytes -= metric.bytes();
        if let Some(members) = &mut self.members[metric.family_id as usize] {
            members.metrics -= 1;
            if members.metrics == 0 && members.slots.is_empty() {
                // No copy can be within a family that never had a member.
                self.forget(metric.family_id);
            } else if members.metrics == 0 {
                self.untidy.push(metric.family_id);
            }
        }
    }

    fn find(&self, hash: u64, name: &str, unit: &str, kind: MetricKind, style: NameStyle) -> Option<&Known> {
        self.metrics.find(hash, |known| {
            let metric = &known.metric;
            (metric.kind, metric.style) == (kind, style) && metric.name == name && metric.unit == unit
        })
    }

    fn known(&mut self, metric: &Metric) -> Option<&mut Known> {
        self.metrics
            .find_mut(metric.hash, |known| known.metric.id == metric.id)
    }

    /// Closes holes with the family's last series and removes families without metrics, calling `moved(slot, new position)`. Only
    /// while no copy is under way.
    pub(crate) fn tidy(&mut self, mut moved: impl FnMut(u32, u32)) {
        for id in std::mem::take(&mut self.untidy) {
            let Some(members) = &mut self.members[id as usize] else {
                continue;
            };
            for hole in std::mem::take(&mut members.holes) {
                while members.slots.last() == Some(&GONE) {
                    members.slots.pop();
                }
                if (hole as usize) < members.slots.len()
                    && let Some(last) = members.slots.pop()
                {
                    members.slots[hole as usize] = last;
                    moved(last, hole);
                }
            }
            while members.slots.last() == Some(&GONE) {
                members.slots.pop();
            }
            members.slots.shrink_to(members.slots.len() * 2 + 16);
            if members.metrics == 0 {
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: FamilyId) {
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
            self.by_name.remove(&hidden_place(&page.base, id));
            self.hidden.remove(&hidden_key(page, members.family.kind));
        }
    }

    /// Shows families whose names have become free, calling `renewed(their slots, their metrics by number)`. Only while no copy is under way.
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
            self.by_name.remove(&hidden_place(&family.page.base, id));
            self.by_name.insert(family.page.base.clone(), id);
            let mut metrics = HashMap::default();
            for known in self.metrics.iter_mut().filter(|k| k.metric.family_id == id) {
                known.metric = Arc::new(known.metric.shown_as(&family));
                metrics.insert(known.metric.id, known.metric.clone());
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
        self.metrics.iter().map(|known| &known.metric)
    }

    /// Bytes accounted for metrics and families.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
