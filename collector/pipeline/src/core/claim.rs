//! Claiming exposition identities: series with equal labels get distinguishing ones, are added up, or are hidden with a reason.

use super::Core;
use crate::exposition::claims::same_sum;
use crate::exposition::families::HOLE;
use crate::exposition::groups::{Difference, is_restart};
use crate::exposition::identity::PageLabels;
use crate::ledger::{DropReason, HiddenReason, Written};
use crate::series::attribute_encoding::SeriesAttributes;
use crate::series::meta::{GroupKey, SeriesMeta};
use crate::series::metric::FamilyId;
use crate::series::slot::{SeriesRef, Shown};
use crate::series::write::Outcome;
use dichroic_model::labels::{self, Qualifiers};
use dichroic_model::{Protocol, Temporality, UnixNanos};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

impl Core {
    /// Gives a new series its identity. `start`: the start of its first point, or 0.
    pub(super) fn claim(&mut self, index: u32, start: UnixNanos) {
        let key = self.series.placements[index as usize].key;
        if !self.exposition.claims.claim_free(index, key) {
            self.claim_all(vec![index], Some((index, start)));
        }
    }

    /// Claims an identity for each of these series. `new`: a new one of them, with the start of its first point.
    fn claim_all(&mut self, mut waiting: Vec<u32>, new: Option<(u32, UnixNanos)>) {
        self.order(&mut waiting, new);
        while let Some(next) = waiting.pop() {
            if self.exposition.claims.is_contender(next) {
                continue;
            }
            let Some(holder) = self.exposition.claims.claim(next, &mut self.series) else {
                self.exposition.claims.supersede(next, false);
                waiting.extend(self.displace_rivals(next));
                continue;
            };
            if new.is_some_and(|(index, start)| index == next && self.supersedes(next, holder, start)) {
                self.exposition.claims.supersede(holder, true);
            }
            let claims = &self.exposition.claims;
            let superseded =
                claims.is_superseded(next) != claims.is_superseded(holder) && self.is_restart(next, holder);
            match self.difference(next, holder).filter(|_| !superseded) {
                Some(difference) => {
                    let groups = [next, holder].map(|index| self.group_of(index));
                    waiting.push(next);
                    for group in groups.into_iter().flatten() {
                        waiting.extend(self.tell_apart(group, &difference));
                    }
                    self.order(&mut waiting, new);
                }
                None => {
                    self.exposition.claims.contend(next, holder, &mut self.series);
                    waiting.extend(self.displace_rivals(next));
                }
            }
        }
    }

    /// The last one claims first: then those whose process was replaced, and a new one, find the series that they contend with.
    fn order(&self, waiting: &mut [u32], new: Option<(u32, UnixNanos)>) {
        let claims = &self.exposition.claims;
        waiting.sort_by_key(|index| {
            let is_new = new.is_some_and(|(new, _)| new == *index);
            (!is_new, !claims.is_superseded(*index))
        });
    }

    fn is_restart(&self, a: u32, b: u32) -> bool {
        let source = |index: u32| Some(&self.series.slots[index as usize].meta.as_ref()?.source);
        matches!((source(a), source(b)), (Some(a), Some(b)) if is_restart(a, b))
    }

    /// Series that hold a sample of a new holder must contend with it.
    fn displace_rivals(&mut self, holder: u32) -> Vec<u32> {
        let mut displaced = Vec::new();
        while let Some(rival) = self.exposition.claims.rival(holder, &self.series) {
            displaced.extend(self.relabel_all(&[rival]));
            displaced.push(rival);
        }
        displaced
    }

    fn difference(&self, a: u32, b: u32) -> Option<Difference> {
        let meta = |index: u32| self.series.slots[index as usize].meta.as_ref();
        let (a, b) = (meta(a)?, meta(b)?);
        let difference = self.exposition.groups.difference(a, b)?;
        // Values that can be added up need no unusual names.
        (!matches!(difference, Difference::Names(_)) || !same_sum(a, b)).then_some(difference)
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
            let old: HashSet<GroupKey> = members.iter().filter_map(|index| self.group_of(*index)).collect();
            let groups = &self.exposition.groups;
            let samples = self.exposition.families.samples(family);
            // A group keeps its labels when it becomes part of another one, which gets them.
            let joined: Vec<(GroupKey, Arc<Qualifiers>)> = old
                .into_iter()
                .map(|key| {
                    (
                        GroupKey { samples, ..key },
                        groups.qualifiers(key),
                        groups.is_qualified(key),
                    )
                })
                .filter(|(key, _, qualified)| *qualified || groups.is_qualified(*key))
                .map(|(key, qualifiers, _)| (key, qualifiers))
                .collect();
            for index in &members {
                if let Some(group) = self.group_of(*index) {
                    self.exposition.groups.remove(group);
                }
            }
            let mut waiting = self.relabel_all(&members);
            waiting.extend(members);
            for (group, qualifiers) in joined {
                waiting.extend(self.qualify(group, None, &qualifiers));
            }
            self.claim_all(waiting, None);
        }
        self.settle();
    }

    /// Whether the new series belongs to a process that replaced the holder's. It counts from after the holder's last point, or has the
    /// same `service.instance.id`, which two processes must not have at a time.
    fn supersedes(&self, index: u32, holder: u32, start: UnixNanos) -> bool {
        let (new, old) = (
            &self.series.slots[index as usize],
            &self.series.slots[holder as usize],
        );
        let (Some(meta), Some(other)) = (&new.meta, &old.meta) else {
            return false;
        };
        let instance = !meta.source.spec.instance.is_empty();
        let later = match (start, meta.temporality) {
            (0, _) => instance,
            // A delta starts after the previous one, not with the process.
            (_, Temporality::Delta) => instance && start >= old.time,
            (_, Temporality::Cumulative) => start >= old.time,
        };
        old.time != 0
            && later
            && Arc::ptr_eq(&meta.metric, &other.metric)
            && is_restart(&meta.source, &other.source)
    }

    /// Adds labels to all streams of a group. Returns its series, which have no identity now.
    fn tell_apart(&mut self, group: GroupKey, difference: &Difference) -> Vec<u32> {
        if self.exposition.groups.shows(group, difference) {
            return Vec::new();
        }
        self.qualify(group, Some(difference), &Qualifiers::default())
    }

    fn qualify(
        &mut self,
        group: GroupKey,
        difference: Option<&Difference>,
        inherited: &Qualifiers,
    ) -> Vec<u32> {
        let mut members = self.members(group);
        let metas = members
            .iter()
            .filter_map(|index| self.series.slots[*index as usize].meta.as_deref());
        self.exposition
            .groups
            .qualify(group, difference, inherited, metas);
        members.extend(self.relabel_all(&members));
        members
    }

    /// Renders the labels of a group anew, which has got more of them. `new`: a new series, with the start of its first point.
    pub(super) fn requalify(&mut self, group: GroupKey, new: Option<(u32, UnixNanos)>) {
        let mut members = self.members(group);
        members.extend(self.relabel_all(&members));
        self.claim_all(members, new);
    }

    /// Lets series that contended in vain claim an identity again.
    pub(super) fn claim_again(&mut self, waiting: &[u32]) {
        let mut all = self.relabel_all(waiting);
        all.extend_from_slice(waiting);
        self.claim_all(all, None);
    }

    /// Takes the identities of series and renders their labels again. Returns others that must claim an identity anew.
    #[must_use]
    fn relabel_all(&mut self, members: &[u32]) -> Vec<u32> {
        let (mut waiting, mut members) = (Vec::new(), members.to_vec());
        while let Some(index) = members.pop() {
            let left = self.exposition.claims.withdraw(index, &mut self.series);
            if let Some(successor) = left.successor {
                self.exposition.copies.add(successor);
            }
            self.relabel(index);
            waiting.extend_from_slice(&left.waiting);
            members.extend(left.waiting);
        }
        waiting
    }

    /// The series of a group, whose sources have equal labels.
    fn members(&self, group: GroupKey) -> Vec<u32> {
        let in_group = |index: &u32| {
            let meta = self.series.slots[*index as usize].meta.as_ref();
            meta.is_some_and(|meta| meta.group == group)
        };
        self.sources
            .iter()
            .filter(|state| state.labels[usize::from(group.mapped)] == group.labels)
            .flat_map(|state| state.slots.iter().copied().filter(in_group))
            .collect()
    }

    /// Renders the labels of a series with those that its group has now.
    fn relabel(&mut self, index: u32) {
        let Some(old) = self.series.slots[index as usize].meta.clone() else {
            return;
        };
        let attributes = old.attributes().into_owned();
        let mut key = old.stream.key();
        let samples = self.exposition.families.samples(old.metric.family_id);
        key.group.samples = samples;
        let qualifiers = self.exposition.groups.qualifiers(key.group);
        let (shown, of_source) = labels::page_labels(&key.labels_of(&qualifiers), &attributes);
        let hasher = &self.exposition.claims.hasher;
        let page = PageLabels::render(hasher, samples, &shown, of_source);
        let encoded = match &old.encoded {
            SeriesAttributes::ByLabels(_) if shown.len() - of_source != attributes.iter().count() => {
                SeriesAttributes::Packed(attributes.clone())
            }
            encoded => encoded.clone(),
        };
        let meta = SeriesMeta {
            stream: self.series.streams.resolve(key, qualifiers, page.of_source()),
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
            written => {
                if let Some(later) = self.exposition.claims.later(index, &self.series) {
                    self.give_way(index, later);
                }
                written
            }
        }
    }

    /// The first point of a series is older than the last one of the process that it was thought to have replaced. The point is still
    /// counted as applied, and then moved.
    fn give_way(&mut self, index: u32, later: u32) {
        self.exposition.claims.supersede(index, true);
        self.exposition.claims.supersede(later, false);
        self.claim_again(&[index]);
        self.settle();
        self.exposition.copies.add(later);
    }

    fn retire_totals(&mut self) {
        for (index, total) in std::mem::take(&mut self.series.ended_totals) {
            let Some(meta) = &self.series.slots[index as usize].meta else {
                continue;
            };
            if self.series.writers.is_sum(index) {
                let max = self.series.limits.buckets;
                self.series.writers.retire(index, total, max, meta);
            } else {
                self.exposition.claims.retire(index, total, &self.series);
            }
        }
    }

    /// Counts points that pages do not show any more as hidden, and those that they show again as applied.
    #[inline]
    pub(super) fn settle(&mut self) {
        if !self.series.moves.is_empty() {
            self.settle_moves();
        }
    }

    #[cold]
    fn settle_moves(&mut self) {
        let mut moves: BTreeMap<_, u64> = BTreeMap::new();
        for (index, before, after) in std::mem::take(&mut self.series.moves) {
            let slot = &self.series.slots[index as usize];
            let Some(meta) = &slot.meta else { continue };
            let samples = match meta.source.spec.protocol {
                Protocol::Prometheus => slot.cell.samples(),
                _ => 1,
            };
            let back = moves.entry((meta.source.id, after, before)).or_default();
            let undone = samples.min(*back);
            *back -= undone;
            *moves.entry((meta.source.id, before, after)).or_default() += samples - undone;
        }
        for ((source, before, after), points) in moves {
            self.ledger.moved(source, before, after, points);
        }
    }

    /// Both processes are alive: they have distinguishing labels from now on.
    fn revive(&mut self, index: u32) -> Written {
        self.exposition.claims.supersede(index, false);
        self.claim_again(&[index]);
        self.settle();
        let slot = &self.series.slots[index as usize];
        if slot.shown == Shown::Row {
            self.exposition.copies.add(index);
        }
        slot.written()
    }
}
