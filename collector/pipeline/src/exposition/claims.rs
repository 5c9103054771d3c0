//! Claims: the series that has each exposition identity, and its contenders.

use super::identity::series_key;
use crate::hash::HashMap;
use crate::series::Series;
use crate::series::admission::{Candidate, Removed};
use crate::series::meta::SeriesMeta;
use crate::series::table::{Key, Table};
use dichroic_model::Fingerprinter;
use std::cmp::Ordering;
use std::sync::Arc;

pub(crate) struct Claims {
    pub(crate) hasher: Fingerprinter,
    /// Key → slot, used on a miss of the fingerprint. The key is the exposition identity of a shown series, the series key of a hidden
    /// one.
    table: Table,
    /// Hidden series by the identity for which they contend.
    contenders: HashMap<Key, Vec<u32>>,
    /// The identity for which each hidden series contends.
    contended: HashMap<u32, Key>,
    /// Number of definitions that found their identity taken.
    pub(crate) collisions: u64,
}

impl Claims {
    pub(crate) fn new(hasher: Fingerprinter) -> Self {
        Claims {
            hasher,
            table: Table::default(),
            contenders: HashMap::default(),
            contended: HashMap::default(),
            collisions: 0,
        }
    }

    /// Bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Whether the series contends for the identity of another.
    pub(crate) fn is_contender(&self, index: u32) -> bool {
        self.contended.contains_key(&index)
    }

    /// The series with the key of the candidate.
    pub(crate) fn find(&self, candidate: &Candidate, series: &Series) -> Option<u32> {
        let same = |index: &u32| same_key(series, *index, &candidate.meta);
        let holder = self.table.find(candidate.identity)?;
        Some(holder).filter(same).or_else(|| {
            let key = series_key(&self.hasher, &candidate.meta);
            self.table.find_key(key).filter(same)
        })
    }

    /// Claims the identity for a new series. If another has it, the order of their keys decides.
    pub(super) fn claim(&mut self, index: u32, series: &mut Series) {
        let identity = series.placements[index as usize].key;
        let Some(holder) = self.table.find_key(identity) else {
            self.table.insert(identity, index);
            return;
        };
        let (winner, loser) = if order(series, index, holder) == Ordering::Less {
            (index, holder)
        } else {
            (holder, index)
        };
        let meta = series.slots[loser as usize].meta.as_ref();
        let own = meta.map_or(identity, |meta| series_key(&self.hasher, meta));
        self.set_key(loser, own, series);
        self.set_key(winner, identity, series);
        series.slots[loser as usize].hidden = true;
        for index in [winner, loser] {
            series.slots[index as usize].contested = true;
        }
        self.contenders.entry(identity).or_default().push(loser);
        self.contended.insert(loser, identity);
        self.collisions += 1;
    }

    fn set_key(&mut self, index: u32, key: Key, series: &mut Series) {
        series.set_key(index, key);
        self.table.insert(key, index);
    }

    /// Removes a series. The first contender for its identity becomes its successor, which is returned.
    pub(super) fn release(&mut self, index: u32, removed: &Removed, series: &mut Series) -> Option<u32> {
        let identity = removed.placement.key;
        self.table.remove(identity, index);
        if !removed.contested {
            return None;
        }
        if let Some(identity) = self.contended.remove(&index) {
            self.withdraw(index, identity);
            return None;
        }
        let mut contenders = self.contenders.remove(&identity)?;
        let first = (0..contenders.len()).min_by(|a, b| order(series, contenders[*a], contenders[*b]));
        let successor = contenders.swap_remove(first?);
        self.contended.remove(&successor);
        self.table
            .remove(series.placements[successor as usize].key, successor);
        self.set_key(successor, identity, series);
        let slot = &mut series.slots[successor as usize];
        slot.hidden = slot.meta.as_ref().is_none_or(|meta| meta.metric.family.is_none());
        slot.contested = !contenders.is_empty();
        if !contenders.is_empty() {
            self.contenders.insert(identity, contenders);
        }
        Some(successor)
    }

    fn withdraw(&mut self, index: u32, identity: Key) {
        if let Some(contenders) = self.contenders.get_mut(&identity) {
            contenders.retain(|contender| *contender != index);
            if contenders.is_empty() {
                self.contenders.remove(&identity);
            }
        }
    }
}

fn same_key(series: &Series, index: u32, other: &SeriesMeta) -> bool {
    let Some(current) = &series.slots[index as usize].meta else {
        return false;
    };
    Arc::ptr_eq(&current.metric, &other.metric)
        && current.source.id == other.source.id
        && current.temporality == other.temporality
        && current.scope == other.scope
        && current.attributes() == other.attributes()
}

/// The order of two series in a claim: by their keys, not by their arrival.
fn order(series: &Series, a: u32, b: u32) -> Ordering {
    let meta = |index: u32| series.slots[index as usize].meta.as_ref();
    let (Some(a), Some(b)) = (meta(a), meta(b)) else {
        return Ordering::Equal;
    };
    let source = |meta: &SeriesMeta| (meta.source.spec.protocol, meta.source.spec.key.clone());
    let metric = |meta: &SeriesMeta| {
        let metric = &meta.metric;
        (
            metric.name.clone(),
            metric.unit.clone(),
            metric.kind,
            metric.style,
        )
    };
    source(a)
        .cmp(&source(b))
        .then_with(|| metric(a).cmp(&metric(b)))
        .then_with(|| a.scope.cmp(&b.scope))
        .then_with(|| (a.temporality as u8).cmp(&(b.temporality as u8)))
        .then_with(|| a.attributes().as_bytes().cmp(b.attributes().as_bytes()))
}
