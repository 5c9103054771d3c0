//! Claims: which series has an exposition identity, and what becomes of others that have the same one.
//!
//! The holder of an identity has a row on pages. A contender whose value can be added to the holder's is part of that row; any other is
//! hidden, with a reason. Which of them is the holder is decided by their keys, not by their order of arrival.

use super::clashes::{has_one_sample, sample_names};
use super::groups::{same_scope, same_text};
use super::identity::series_key;
use crate::hash::HashMap;
use crate::ledger::HiddenReason;
use crate::row::RowValue;
use crate::series::Series;
use crate::series::admission::{Candidate, Removed, RemovedPart};
use crate::series::meta::SeriesMeta;
use crate::series::metric::Family;
use crate::series::slot::Shown;
use crate::series::table::{Key, Table};
use crate::series::writers::{adds_up, retire};
use dichroic_model::{Fingerprinter, MetricKind, Protocol};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

/// Series that contend for one identity.
#[derive(Default)]
struct Contest {
    contenders: Vec<u32>,
    /// The totals of removed series that were part of the row: a total never falls.
    retired: Option<RowValue>,
}

pub(crate) struct Claims {
    pub(crate) hasher: Fingerprinter,
    /// Key → slot, on a miss of the fingerprint: the exposition identity of a holder, the series key of a contender.
    table: Table,
    /// By the identity that they contend for.
    contests: HashMap<Key, Contest>,
    /// The identity that each contender contends for.
    contended: HashMap<u32, Key>,
    /// Identities of samples that are held apart: see [`Claims::apart`].
    held: HashSet<Key>,
    /// Hidden series whose process another one has replaced.
    superseded: HashSet<u32>,
    /// Number of definitions that found their identity taken.
    pub(crate) collisions: u64,
}

impl Claims {
    pub(crate) fn new(hasher: Fingerprinter) -> Self {
        Claims {
            hasher,
            table: Table::default(),
            contests: HashMap::default(),
            contended: HashMap::default(),
            held: HashSet::new(),
            superseded: HashSet::new(),
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
        let of_key = |key: Key| self.table.find_key(key).filter(same);
        let apart = |meta: &SeriesMeta| {
            if self.held.is_empty() {
                return None;
            }
            let own = only_sample(&meta.metric.family)?;
            of_key(self.apart(candidate.identity.into(), &own))
        };
        Some(holder)
            .filter(same)
            .or_else(|| of_key(series_key(&self.hasher, &candidate.meta)))
            .or_else(|| apart(&candidate.meta))
    }

    /// Gives a new series its identity if it is certainly free: the usual case.
    pub(crate) fn claim_free(&mut self, index: u32, identity: Key) -> bool {
        self.held.is_empty() && self.table.insert_new(identity, index)
    }

    /// Gives a free identity to the series. Otherwise returns the holder.
    pub(crate) fn claim(&mut self, index: u32, series: &mut Series) -> Option<u32> {
        let mut identity = series.placements[index as usize].key;
        let holder = self.table.find_key(identity);
        if holder == Some(index) {
            return None;
        }
        // A series with several samples takes its identity, and displaces those that hold one of them.
        if !self.held.is_empty()
            && !has_several_samples(series, index)
            && let Some(rival) = self.held_apart(index, identity, series)
        {
            return Some(rival);
        }
        if let Some(holder) = holder {
            let Some(own) = own_sample(series, index, holder) else {
                return Some(holder);
            };
            identity = self.apart(identity, &own);
            self.held.insert(identity);
        }
        self.set_key(index, identity, series);
        None
    }

    /// The identity of a sample if another sample holds the identity of its labels. Families that share samples with a third have
    /// identities in common, although two of them may have no sample in common: `a_sum` and `a_count` beside a histogram `a`.
    fn apart(&self, identity: Key, sample: &str) -> Key {
        let mut bytes = identity.to_bytes().to_vec();
        bytes.extend_from_slice(sample.as_bytes());
        self.hasher.of(&bytes).into()
    }

    /// A series that holds one of the samples of this holder apart.
    pub(crate) fn rival(&self, holder: u32, series: &Series) -> Option<u32> {
        if self.held.is_empty() {
            return None;
        }
        let key = series.placements[holder as usize].key;
        let holds = !self.is_contender(holder) && !self.held.contains(&key);
        self.held_apart(holder, key, series)
            .filter(|rival| holds && *rival != holder)
    }

    /// A series that holds a sample of this one apart from `identity`, which is that of its labels.
    fn held_apart(&self, index: u32, identity: Key, series: &Series) -> Option<u32> {
        let family = &series.slots[index as usize].meta.as_ref()?.metric.family;
        if self.held.is_empty() {
            return None;
        }
        let samples = sample_names(&family.page, family.kind);
        let held = |sample: &String| self.table.find_key(self.apart(identity, sample));
        samples.iter().find_map(held)
    }

    /// Whether the process of a hidden series was replaced by another one.
    pub(crate) fn is_superseded(&self, index: u32) -> bool {
        !self.superseded.is_empty() && self.superseded.contains(&index)
    }

    /// Notes whether the process of a series was replaced by another one.
    pub(crate) fn supersede(&mut self, index: u32, superseded: bool) {
        if superseded {
            self.superseded.insert(index);
        } else {
            self.superseded.remove(&index);
        }
    }

    /// A series whose process this holder is thought to have replaced, although that process has the later point. Without a start time,
    /// only the times of points tell which process is the newer one; of equal times, the keys decide.
    pub(crate) fn later(&self, holder: u32, series: &Series) -> Option<u32> {
        if self.superseded.is_empty() || self.is_contender(holder) {
            return None;
        }
        let contest = self.contests.get(&series.placements[holder as usize].key)?;
        let time = |index: u32| series.slots[index as usize].time;
        let is_later = |index: u32| {
            let times = time(index).cmp(&time(holder)).reverse();
            times.then_with(|| order(series, index, holder)) == Ordering::Less
        };
        let mut replaced = contest.contenders.iter().copied();
        replaced.find(|index| self.superseded.contains(index) && is_later(*index))
    }

    /// Lets a series contend for the identity of a holder.
    pub(crate) fn contend(&mut self, index: u32, holder: u32, series: &mut Series) {
        let identity = series.placements[holder as usize].key;
        let superseded = [index, holder].map(|index| self.is_superseded(index));
        let wins = match superseded {
            [false, true] => true,
            [true, false] => false,
            _ => order(series, index, holder) == Ordering::Less,
        };
        let (winner, loser) = if wins { (index, holder) } else { (holder, index) };
        self.supersede(winner, false);
        let meta = series.slots[loser as usize].meta.as_ref();
        let own = meta.map_or(identity, |meta| series_key(&self.hasher, meta));
        self.set_key(loser, own, series);
        self.set_key(winner, identity, series);
        self.contended.insert(loser, identity);
        let contest = self.contests.entry(identity).or_default();
        contest.contenders.push(loser);
        if winner == index {
            if !add_up(series, index, holder) {
                contest.retired = None;
            }
            appoint(series, winner, &contest.contenders, &self.superseded);
        } else {
            appoint(series, winner, &[loser], &self.superseded);
        }
        self.collisions += u64::from(series.slots[loser as usize].hidden().is_some());
    }

    fn set_key(&mut self, index: u32, key: Key, series: &mut Series) {
        series.set_key(index, key);
        self.table.insert(key, index);
    }

    /// Removes the claim of a live series, because it gets another identity.
    pub(crate) fn withdraw(&mut self, index: u32, series: &mut Series) -> Left {
        let slot = &mut series.slots[index as usize];
        let (key, shown) = (series.placements[index as usize].key, slot.shown);
        if !slot.composite {
            self.free(index, key);
            return Left::default();
        }
        set_shown(series, index, Shown::Row);
        series.slots[index as usize].composite = series.writers.is_sum(index);
        self.leave(index, key, shown, None, series)
    }

    /// Frees the key of a series. Returns whether it was the identity of one sample.
    #[inline]
    fn free(&mut self, index: u32, key: Key) -> bool {
        self.table.remove(key, index);
        !self.held.is_empty() && self.held.remove(&key)
    }

    /// Removes the claim of a removed series. The first contender for its identity succeeds it.
    #[inline]
    pub(super) fn release(&mut self, index: u32, removed: &Removed, series: &mut Series) -> Left {
        if let Some(part) = &removed.part {
            return self.release_part(index, removed, part, series);
        }
        self.free(index, removed.placement.key);
        Left::default()
    }

    #[cold]
    fn release_part(
        &mut self,
        index: u32,
        removed: &Removed,
        part: &RemovedPart,
        series: &mut Series,
    ) -> Left {
        let key = removed.placement.key;
        self.superseded.remove(&index);
        let kind = removed.meta.metric.kind;
        let total = part
            .total
            .clone()
            .filter(|_| kind != MetricKind::Sum { monotonic: false });
        let retired = total.clone().map(|total| (total, &*removed.meta));
        let left = self.leave(index, key, part.shown, retired, series);
        if let Some(successor) = &left.successor {
            self.superseded.remove(successor);
        }
        if let Some(successor) = left.successor
            && let Some(meta) = &series.slots[successor as usize].meta
            && let Some(contest) = self.contests.get_mut(&series.placements[successor as usize].key)
        {
            match total.filter(|_| same_sum(meta, &removed.meta)) {
                Some(total) => retire(&mut contest.retired, total, series.limits.buckets, meta),
                None => contest.retired = None,
            }
        }
        left
    }

    /// Removes a series that may be part of a contest. `total` is retired if it was a part of the holder's row.
    #[cold]
    fn leave(
        &mut self,
        index: u32,
        key: Key,
        shown: Shown,
        total: Option<(RowValue, &SeriesMeta)>,
        series: &mut Series,
    ) -> Left {
        let is_apart = self.free(index, key);
        if let Some(identity) = self.contended.remove(&index) {
            if let Some(contest) = self.contests.get_mut(&identity) {
                contest.contenders.retain(|contender| *contender != index);
                if shown == Shown::Added
                    && let Some((total, meta)) = total
                {
                    retire(&mut contest.retired, total, series.limits.buckets, meta);
                }
            }
            return Left::default();
        }
        let mut left = Left::default();
        let Some(mut contest) = self.contests.remove(&key) else {
            return left;
        };
        let contenders = &mut contest.contenders;
        while left.successor.is_none() && !contenders.is_empty() {
            let rank = |index: u32| self.superseded.contains(&index);
            let precedes = |a: u32, b: u32| rank(a).cmp(&rank(b)).then_with(|| order(series, a, b));
            let first = (0..contenders.len()).min_by(|a, b| precedes(contenders[*a], contenders[*b]));
            let next = contenders.swap_remove(first.unwrap_or_default());
            match self.held_apart(next, key, series) {
                // Another series holds one of its samples.
                Some(rival) => self.join(next, rival, series),
                // A series with several samples cannot take the identity of one.
                None if is_apart && has_several_samples(series, next) => left.waiting.push(next),
                None => left.successor = Some(next),
            }
        }
        if let Some(successor) = left.successor {
            // Series that collided with the last holder, but share no sample with this one.
            let shares = |contender: &u32| own_sample(series, *contender, successor).is_none();
            let (stay, go) = contenders.iter().copied().partition(shares);
            *contenders = stay;
            left.waiting.extend::<Vec<u32>>(go);
            self.contended.remove(&successor);
            self.table
                .remove(series.placements[successor as usize].key, successor);
            self.set_key(successor, key, series);
            if is_apart {
                self.held.insert(key);
            }
            appoint(series, successor, contenders, &self.superseded);
            self.contests.insert(key, contest);
        }
        for index in &left.waiting {
            self.contended.remove(index);
        }
        left
    }

    /// Makes a contender of one holder a contender of another.
    fn join(&mut self, contender: u32, holder: u32, series: &mut Series) {
        let identity = series.placements[holder as usize].key;
        self.contended.insert(contender, identity);
        let contest = self.contests.entry(identity).or_default();
        contest.contenders.push(contender);
        set_shown(series, holder, Shown::Row);
        let hidden = reason(series, contender, holder);
        set_shown(series, contender, Shown::Hidden(hidden));
    }

    /// Retires a total that a reset ended, if the series is part of a sum.
    pub(crate) fn retire(&mut self, index: u32, total: RowValue, series: &Series) {
        let identity = match self.contended.get(&index) {
            Some(_) if series.slots[index as usize].shown != Shown::Added => return,
            Some(identity) => *identity,
            None => series.placements[index as usize].key,
        };
        let Some(meta) = &series.slots[index as usize].meta else {
            return;
        };
        let added = |index: &u32| series.slots[*index as usize].shown == Shown::Added;
        if let Some(contest) = self.contests.get_mut(&identity)
            && (contest.retired.is_some() || contest.contenders.iter().any(added))
        {
            retire(&mut contest.retired, total, series.limits.buckets, meta);
        }
    }

    /// Series whose values are added to the row of the holder, and what is retired.
    pub(crate) fn parts(&self, holder: u32, series: &Series) -> Option<(Vec<u32>, Option<RowValue>)> {
        let contest = self
            .contests
            .get(&series.placements[holder as usize].key)
            .filter(|_| !self.contended.contains_key(&holder))?;
        let added = |index: &u32| series.slots[*index as usize].shown == Shown::Added;
        let parts = contest.contenders.iter().copied().filter(added).collect();
        Some((parts, contest.retired.clone()))
    }
}

/// What becomes of the contenders for an identity whose holder left.
#[derive(Default)]
pub(crate) struct Left {
    /// The new holder.
    pub(crate) successor: Option<u32>,
    /// Contenders that must claim an identity anew.
    pub(crate) waiting: Vec<u32>,
}

/// Sets what is shown of a holder and of contenders for its identity.
fn appoint(series: &mut Series, holder: u32, contenders: &[u32], superseded: &HashSet<u32>) {
    set_shown(series, holder, Shown::Row);
    for contender in contenders {
        let shown = if superseded.contains(contender) {
            Shown::Hidden(HiddenReason::Superseded)
        } else if add_up(series, *contender, holder) {
            Shown::Added
        } else {
            Shown::Hidden(reason(series, *contender, holder))
        };
        set_shown(series, *contender, shown);
    }
}

fn set_shown(series: &mut Series, index: u32, shown: Shown) {
    let slot = &mut series.slots[index as usize];
    let before = slot.hidden();
    (slot.shown, slot.composite) = (shown, true);
    if slot.hidden() != before && slot.time != 0 {
        series.moves.push((index, before, slot.hidden()));
    }
}

/// Whether two series with one identity are parts of one total: the same metric of one program, which differ only in what labels do not
/// show. A scraped page is not added up: there the second sample is a duplicate.
fn add_up(series: &Series, a: u32, b: u32) -> bool {
    let meta = |index: u32| series.slots[index as usize].meta.as_ref();
    matches!((meta(a), meta(b)), (Some(a), Some(b)) if same_sum(a, b))
}

/// As [`add_up`], by the metadata of both.
pub(crate) fn same_sum(a: &SeriesMeta, b: &SeriesMeta) -> bool {
    adds_up(a.metric.kind)
        && a.source.spec.protocol != Protocol::Prometheus
        && Arc::ptr_eq(&a.metric, &b.metric)
        && same_text(&a.source, &b.source)
        && same_scope(&a.scope, &b.scope)
        && a.factor == b.factor
}

fn reason(series: &Series, hidden: u32, holder: u32) -> HiddenReason {
    let meta = |index: u32| series.slots[index as usize].meta.as_ref();
    match (meta(hidden), meta(holder)) {
        (Some(a), Some(b)) if !same_text(&a.source, &b.source) => HiddenReason::Source,
        (Some(a), Some(b)) if Arc::ptr_eq(&a.metric, &b.metric) => HiddenReason::LabelText,
        _ => HiddenReason::MetricName,
    }
}

/// The sample name of a family, if it has exactly one.
fn only_sample(family: &Family) -> Option<String> {
    if !has_one_sample(family.kind) {
        return None;
    }
    sample_names(&family.page, family.kind).pop()
}

fn has_several_samples(series: &Series, index: u32) -> bool {
    let meta = series.slots[index as usize].meta.as_ref();
    meta.is_some_and(|meta| !has_one_sample(meta.metric.family.kind))
}

/// The sample name of a series, if the holder of its identity has another one. Both have exactly one.
fn own_sample(series: &Series, index: u32, holder: u32) -> Option<String> {
    let family = |index: u32| Some(&*series.slots[index as usize].meta.as_ref()?.metric.family);
    let own = only_sample(family(index)?)?;
    (only_sample(family(holder)?)? != own).then_some(own)
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
