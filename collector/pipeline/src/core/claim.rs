//! Claiming exposition identities: series with equal labels get distinguishing ones, are added up, or are hidden with a reason.

use super::Core;
use crate::exposition::families::HOLE;
use crate::exposition::groups::Difference;
use crate::exposition::identity::PageLabels;
use crate::ledger::{DropReason, HiddenReason, Written};
use crate::series::attribute_encoding::SeriesAttributes;
use crate::series::meta::{GroupKey, SeriesMeta};
use crate::series::metric::FamilyId;
use crate::series::slot::{SeriesRef, Shown};
use crate::series::write::Outcome;
use dichroic_model::{UnixNanos, labels};
use std::sync::Arc;

impl Core {
    /// Gives a new series its identity. `start`: the start of its first point, or 0.
    pub(super) fn claim(&mut self, index: u32, start: UnixNanos) {
        let key = self.series.placements[index as usize].key;
        if !self.exposition.claims.claim_free(index, key) {
            self.claim_all(vec![index], Some((index, start)));
        }
    }

    fn claim_all(&mut self, mut waiting: Vec<u32>, new: Option<(u32, UnixNanos)>) {
        while let Some(next) = waiting.pop() {
            if self.exposition.claims.is_contender(next) {
                continue;
            }
            let Some(holder) = self.exposition.claims.claim(next, &mut self.series) else {
                waiting.extend(self.displace_rivals(next));
                continue;
            };
            let superseded =
                new.is_some_and(|(index, start)| index == next && self.supersedes(next, holder, start));
            match self.difference(next, holder).filter(|_| !superseded) {
                Some(difference) => {
                    let groups = [next, holder].map(|index| self.group_of(index));
                    waiting.push(next);
                    for group in groups.into_iter().flatten() {
                        waiting.extend(self.tell_apart(group, &difference));
                    }
                }
                None => {
                    let claims = &mut self.exposition.claims;
                    claims.contend(next, holder, superseded, &mut self.series);
                    waiting.extend(self.displace_rivals(next));
                }
            }
        }
    }

    /// Series that hold a sample of a new holder must contend with it.
    fn displace_rivals(&mut self, holder: u32) -> Vec<u32> {
        let mut displaced = Vec::new();
        while let Some(rival) = self.exposition.claims.rival(holder, &self.series) {
            self.relabel_all(&[rival]);
            displaced.push(rival);
        }
        displaced
    }

    fn difference(&self, a: u32, b: u32) -> Option<Difference> {
        let meta = |index: u32| self.series.slots[index as usize].meta.as_ref();
        self.exposition.groups.difference(meta(a)?, meta(b)?)
    }

    fn group_of(&self, index: u32) -> Option<GroupKey> {
        self.series.slots[index as usize]
            .meta
            .as_ref()
            .map(|meta| meta.group)
    }

    /// Gives the series of families new identities, because they share samples with other families now.
    pub(super) fn reclaim(&mut self, families: Vec<FamilyId>) {
        for family in families {
            let slots = self.exposition.families.slots(family).iter().copied();
            let members: Vec<u32> = slots.filter(|index| *index != HOLE).collect();
            self.relabel_all(&members);
            self.claim_all(members, None);
        }
    }

    /// Whether the new series belongs to a process that replaced the holder's: it counts from after the holder's last point.
    fn supersedes(&self, index: u32, holder: u32, start: UnixNanos) -> bool {
        let (new, old) = (
            &self.series.slots[index as usize],
            &self.series.slots[holder as usize],
        );
        let (Some(meta), Some(other)) = (&new.meta, &old.meta) else {
            return false;
        };
        meta.source.id != other.source.id
            && self.exposition.groups.difference(meta, other).is_some()
            && old.time != 0
            && start >= old.time
    }

    /// Adds labels to all streams of a group. Returns its series, which have no identity now.
    fn tell_apart(&mut self, group: GroupKey, difference: &Difference) -> Vec<u32> {
        if self.exposition.groups.shows(group, difference) {
            return Vec::new();
        }
        let members = self.members(group);
        let series = members.len();
        self.exposition.groups.qualify(group, difference.clone(), series);
        self.relabel_all(&members);
        members
    }

    /// Takes the identities of series and renders their labels again.
    fn relabel_all(&mut self, members: &[u32]) {
        for index in members {
            if let Some(successor) = self.exposition.claims.withdraw(*index, &mut self.series) {
                self.exposition.copies.add(successor);
            }
        }
        for index in members {
            self.relabel(*index);
        }
    }

    /// The series of a group, whose sources have equal labels.
    fn members(&self, group: GroupKey) -> Vec<u32> {
        let in_group = |index: &u32| {
            let meta = self.series.slots[*index as usize].meta.as_ref();
            meta.is_some_and(|meta| meta.group == group)
        };
        let Some(example) = self.sources.iter().find_map(|state| {
            let any = state.slots.iter().any(in_group);
            any.then(|| state.source.clone())
        }) else {
            return Vec::new();
        };
        self.sources
            .iter()
            .filter(|state| labels::same_source_labels(&state.source, &example))
            .flat_map(|state| state.slots.iter().copied().filter(in_group))
            .collect()
    }

    /// Renders the labels of a series with those that its group has now.
    fn relabel(&mut self, index: u32) {
        let Some(old) = self.series.slots[index as usize].meta.clone() else {
            return;
        };
        let attributes = old.attributes().into_owned();
        let key = old.stream.key();
        let qualifiers = self.exposition.groups.qualifiers(old.group);
        let (shown, of_source) = labels::page_labels(&key.labels_of(&qualifiers), &attributes);
        let samples = self.exposition.families.samples(old.metric.family_id);
        let hasher = &self.exposition.claims.hasher;
        let page = PageLabels::render(hasher, samples, &shown, of_source);
        let encoded = match &old.encoded {
            SeriesAttributes::ByLabels(_) if shown.len() - of_source != attributes.iter().count() => {
                SeriesAttributes::Packed(attributes.clone())
            }
            encoded => encoded.clone(),
        };
        let meta = SeriesMeta {
            stream: self.series.streams.resolve(key, page.of_source()),
            own_labels: page.own().into(),
            encoded,
        };
        self.series.replace_meta(index, Arc::new(meta));
        self.series.set_key(index, page.identity.into());
    }

    /// After a write: a series whose process was thought to be replaced is alive, and totals that a reset ended stay in their sums.
    #[inline]
    pub(super) fn wrote(
        &mut self,
        series: SeriesRef,
        outcome: Result<Outcome, DropReason>,
    ) -> Result<Written, DropReason> {
        match outcome? {
            Outcome::Plain => Ok(Written::Applied),
            Outcome::Composite => Ok(self.wrote_composite(series.index)),
        }
    }

    #[cold]
    fn wrote_composite(&mut self, index: u32) -> Written {
        self.retire_totals();
        match self.series.slots[index as usize].written() {
            Written::Hidden(HiddenReason::Superseded) => self.revive(index),
            written => written,
        }
    }

    fn retire_totals(&mut self) {
        for (index, total) in std::mem::take(&mut self.series.ended_totals) {
            if self.series.writers.is_sum(index) {
                let max = self.series.limits.buckets;
                self.series.writers.retire(index, total, max);
            } else {
                self.exposition.claims.retire(index, total, &self.series);
            }
        }
    }

    /// Both processes are alive: they have distinguishing labels from now on.
    fn revive(&mut self, index: u32) -> Written {
        self.exposition.claims.withdraw(index, &mut self.series);
        self.relabel(index);
        self.claim(index, 0);
        let slot = &self.series.slots[index as usize];
        if slot.shown == Shown::Row {
            self.exposition.copies.add(index);
        }
        slot.written()
    }
}
