//! Families: metrics that share a name on a Prometheus page, in page order.
//!
//! A metric is canonical (dotted name, unit, kind); a family is what a page shows (`# TYPE` once, all samples together). Metrics of one
//! family may come from several sources and runtimes. Families of other types or with overlapping names are on the page too: see
//! [`super::clashes`].
//!
//! A metric is removed with its last series, a family with its last metric; both are accounted in bytes.

use super::clashes;
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
    /// Series of families with the same number may be the same sample if their labels are equal.
    samples: u64,
}

/// Marks the slot of a removed series.
pub(crate) const HOLE: u32 = u32::MAX;

struct MetricEntry {
    metric: Arc<Metric>,
    series: usize,
}

#[derive(Default)]
pub(crate) struct Families {
    members: Vec<Option<Members>>,
    free: Vec<FamilyId>,
    /// In page order.
    by_name: BTreeMap<String, FamilyId>,
    /// Every name that a family may have on a page, with the families that have it.
    claimed: HashMap<String, Vec<FamilyId>>,
    /// Families whose number of [`Members::samples`] has changed.
    renumbered: Vec<FamilyId>,
    last_number: u64,
    metrics: HashTable<MetricEntry>,
    hasher: Seeded,
    next_metric: MetricId,
    /// Families with holes or without metrics, to be tidied while no copy is in progress.
    untidy: Vec<FamilyId>,
    bytes: usize,
}

/// The key of a family in page order.
fn page_order(page: &PageName, kind: PageType) -> String {
    format!("{}\u{0}{}{}", page.base, kind as u8, u8::from(page.total))
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
        let (family_id, family) = self.family(page_name(name, unit, kind, style), kind.page_type(), help);
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

    fn family(&mut self, page: PageName, kind: PageType, help: &str) -> (FamilyId, Arc<Family>) {
        let order = page_order(&page, kind);
        if let Some(id) = self.by_name.get(&order).copied()
            && let Some(members) = &self.members[id as usize]
        {
            return (id, members.family.clone());
        }
        let id = self.free.pop().unwrap_or(self.members.len() as FamilyId);
        if id as usize == self.members.len() {
            self.members.push(None);
        }
        let names = clashes::names(&page, kind);
        let family = Arc::new(Family::new(page, kind, help.to_owned()));
        self.by_name.insert(order, id);
        self.last_number += 1;
        self.members[id as usize] = Some(Members {
            family: family.clone(),
            slots: Vec::new(),
            holes: Vec::new(),
            metrics: 0,
            samples: self.last_number,
        });
        let mut alone = true;
        for name in names {
            let families = self.claimed.entry(name).or_default();
            families.push(id);
            alone &= families.len() == 1;
        }
        if !alone {
            self.resolve_clash(id);
        }
        (id, family)
    }

    /// Decides again how to show the families whose names overlap with those of this one.
    #[cold]
    fn resolve_clash(&mut self, id: FamilyId) {
        let mut all = vec![id];
        let mut at = 0;
        while let Some(next) = all.get(at).copied() {
            at += 1;
            let Some(members) = &self.members[next as usize] else {
                continue;
            };
            let names = clashes::names(&members.family.page, members.family.kind);
            for other in names.iter().filter_map(|name| self.claimed.get(name)).flatten() {
                if !all.contains(other) {
                    all.push(*other);
                }
            }
        }
        let families = all
            .iter()
            .filter_map(|id| Some((*id, &*self.members[*id as usize].as_ref()?.family)));
        let families: Vec<(FamilyId, &Family)> = families.collect();
        clashes::resolve(&mut families.iter().map(|(_, family)| *family).collect::<Vec<_>>());
        for set in clashes::shared_samples(&families) {
            let number = |id: FamilyId| self.members[id as usize].as_ref().map(|members| members.samples);
            let least = set.iter().filter_map(|id| number(*id)).min();
            for id in set {
                if let (Some(members), Some(least)) = (&mut self.members[id as usize], least)
                    && members.samples != least
                {
                    members.samples = least;
                    self.renumbered.push(id);
                }
            }
        }
    }

    /// Families whose series need new identities, because they share samples with others now.
    pub(crate) fn take_renumbered(&mut self) -> Vec<FamilyId> {
        std::mem::take(&mut self.renumbered)
    }

    /// Slots of a family, [`HOLE`] among them.
    pub(crate) fn slots(&self, id: FamilyId) -> &[u32] {
        self.members[id as usize]
            .as_ref()
            .map_or(&[], |members| &members.slots)
    }

    /// The number that the samples of a family share with those of others.
    pub(crate) fn samples(&self, id: FamilyId) -> u64 {
        self.members[id as usize]
            .as_ref()
            .map_or(0, |members| members.samples)
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
        let Family { page, kind, .. } = &*members.family;
        self.by_name.remove(&page_order(page, *kind));
        let mut others = Vec::new();
        for name in clashes::names(page, *kind) {
            if let Some(families) = self.claimed.get_mut(&name) {
                families.retain(|other| *other != id);
                others.extend_from_slice(families);
                if families.is_empty() {
                    self.claimed.remove(&name);
                }
            }
        }
        others.sort_unstable();
        others.dedup();
        others.into_iter().for_each(|other| self.resolve_clash(other));
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
