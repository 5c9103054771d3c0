//! Meeting a series: its key, its meaning, its place on the page, admission, and what happens when two want one place.

use super::attribute_encoding::Told;
use super::cell::Cell;
use super::meta::{Parts, stream_bytes};
use super::{Core, Generation, Key, NotAdmitted, Places, SeriesMeta, SeriesRef, Slot, point};
use crate::ledger::DropReason;
use dichroic_model::{
    AttributeValue, Attributes, Expiry, Factor, Fingerprint, MetricKind, Query, SeriesDef, Temporality,
    attributes::cut, labels, labels::Label,
};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// The attribute of series that take what has no room. Source: OpenTelemetry metrics SDK, "Cardinality limits".
const OVERFLOW: (&str, &str) = ("otel_metric_overflow", "true");

/// What a fingerprint is accounted for under which a series was met before: itself, and its part of the list.
pub(super) const ALIAS_BYTES: usize = 32;

/// A series that wants to be admitted.
struct Candidate {
    meta: SeriesMeta,
    /// It takes what has no room.
    overflow: bool,
    bounds: Option<Arc<[f64]>>,
    /// Its place on the page.
    page: Fingerprint,
}

/// Labels as a page shows them.
struct OnPage {
    /// Each with a comma behind it.
    text: String,
    /// Where those of the source end.
    split: usize,
    /// What stands there stands once.
    place: Fingerprint,
}

impl OnPage {
    fn of_source(&self) -> &str {
        self.text[..self.split].strip_suffix(',').unwrap_or_default()
    }

    fn own(&self) -> &str {
        self.text[self.split..].strip_suffix(',').unwrap_or_default()
    }
}

impl Core {
    /// Meets a series: finds the one with this key, or admits it. The fingerprint finds it from now on.
    ///
    /// A series is visible from its first point, not from here. A delta that has no room is folded into the metric's overflow
    /// series (`otel_metric_overflow="true"`), under no fingerprint of its own.
    pub fn define(&mut self, fp: Fingerprint, mut def: SeriesDef<'_>) -> Result<SeriesRef, NotAdmitted> {
        self.check_texts(&mut def)?;
        let source = self
            .sources
            .get(&def.source)
            .ok_or(NotAdmitted(DropReason::SeriesGone))?
            .source
            .clone();
        let meaning = self.resolver.resolve(&Query {
            source: &source,
            def: &def,
        });
        let factor = def.factor.then(meaning.factor);
        let factor = factor.ok_or(NotAdmitted(DropReason::Malformed))?;
        let bounds = self.bounds_of(&def, meaning.factor)?;
        for (from, to) in &meaning.rename {
            def.attributes
                .iter_mut()
                .filter(|(key, _)| key == from)
                .for_each(|(key, _)| *key = to.clone().into());
        }
        let attributes = Attributes::pack(&mut def.attributes);
        let metric = self
            .families
            .metric(&meaning.name, &meaning.unit, def.kind, def.style, &meaning.help);
        let (shown, before) = labels::page_labels(&source, meaning.mapped, &attributes);
        let on_page = self.on_page(metric.family_id, &shown, before);
        let labels = shown.len() - before;
        drop(shown);
        let overflow = is_overflow(&attributes);
        let parts = Parts {
            metric,
            source,
            scope: self.scope(def.scope),
            temporality: def.temporality,
            factor,
        };
        let meta = SeriesMeta {
            stream: self.metric_streams.meet(parts, on_page.of_source()),
            told: self.told(attributes, &def.attributes, labels),
            own_labels: on_page.own().into(),
        };
        let page = on_page.place;
        let candidate = Candidate {
            meta,
            overflow,
            bounds,
            page,
        };
        if let Some(index) = self.known(&candidate) {
            return Ok(self.meet_again(index, fp, candidate));
        }
        let metric = candidate.meta.metric.clone();
        let met = match self.room(&candidate) {
            Ok(()) => Ok(self.admit(Some(fp), candidate)),
            Err(reason) => self.fold(candidate, meaning.mapped, reason),
        };
        if met.is_err() {
            self.families.release(&metric);
        }
        met
    }

    fn check_texts(&mut self, def: &mut SeriesDef<'_>) -> Result<(), NotAdmitted> {
        let max = self.limits.label_name_bytes;
        let too_long = |(name, _): &(Cow<'_, str>, AttributeValue<'_>)| name.len() > max;
        let of_metric = [def.name, def.unit, &def.scope.name, &def.scope.version];
        if def.attributes.len() > self.limits.labels
            || def.attributes.iter().any(too_long)
            || of_metric
                .iter()
                .any(|text| text.len() > self.limits.label_value_bytes)
        {
            return Err(NotAdmitted(DropReason::LabelLimit));
        }
        for (_, value) in &mut def.attributes {
            if let AttributeValue::Str(text) = value
                && text.len() > self.limits.label_value_bytes
            {
                *text = Cow::Owned(cut(text, self.limits.label_value_bytes).to_owned());
                self.warnings.cut_values += 1;
            }
        }
        Ok(())
    }

    fn bounds_of(&self, def: &SeriesDef<'_>, factor: Factor) -> Result<Option<Arc<[f64]>>, NotAdmitted> {
        let Some(bounds) = &def.bounds else {
            return Ok(None);
        };
        let fits = |bounds: &[f64]| {
            bounds.len() <= self.limits.buckets
                && bounds.iter().all(|b| b.is_finite())
                && bounds.windows(2).all(|w| w[0] < w[1])
        };
        if factor.is_one() {
            return if fits(bounds) {
                Ok(Some(bounds.clone()))
            } else {
                Err(NotAdmitted(DropReason::Buckets))
            };
        }
        let scaled: Vec<f64> = bounds.iter().map(|b| factor.apply(*b)).collect();
        // Scaling may bring neighbours together.
        if !fits(&scaled) {
            return Err(NotAdmitted(DropReason::Buckets));
        }
        Ok(Some(scaled.into()))
    }

    // ---- identity ---------------------------------------------------------------------------------------------------------

    /// Labels as the page shows them, of which so many are the source's, and the place there: family and set of labels. Order does
    /// not matter in a set, so the hashes of labels are added; and an empty value is no label.
    fn on_page(&self, family: super::family::FamilyId, shown: &[Label<'_>], of_source: usize) -> OnPage {
        // To the byte, unless something is escaped.
        let length: usize = shown.iter().map(|(k, v)| k.len() + v.len() + 4).sum();
        let mut text = String::with_capacity(length);
        let mut split = 0;
        let mut place = [0; 20];
        let (mut low, mut high) = (0_u64, 0_u64);
        for (at, (name, value)) in shown.iter().enumerate() {
            let from = text.len();
            text.push_str(name);
            text.push_str("=\"");
            if value.bytes().any(|b| matches!(b, b'\\' | b'"' | b'\n')) {
                labels::escape(value, &mut text);
            } else {
                text.push_str(value);
            }
            text.push('"');
            if !value.is_empty() {
                let label = self.pages.of(&text.as_bytes()[from..]);
                (low, high) = (low.wrapping_add(label.low), high.wrapping_add(label.high));
            }
            text.push(',');
            if at + 1 == of_source {
                split = text.len();
            }
        }
        place[..4].copy_from_slice(&family.to_le_bytes());
        place[4..12].copy_from_slice(&low.to_le_bytes());
        place[12..].copy_from_slice(&high.to_le_bytes());
        OnPage {
            text,
            split,
            place: self.pages.of(&place),
        }
    }

    /// Where a series is found whose place on the page another has: by its whole key.
    fn own_key(&self, meta: &SeriesMeta) -> Key {
        let attributes = meta.attributes();
        let mut bytes = Vec::with_capacity(attributes.as_bytes().len() + 64);
        bytes.push(1);
        bytes.extend_from_slice(&meta.source.id.0.to_le_bytes());
        bytes.extend_from_slice(&meta.metric.id.to_le_bytes());
        bytes.push(meta.temporality as u8);
        for text in [&meta.scope.name, &meta.scope.version] {
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(attributes.as_bytes());
        self.pages.of(&bytes).into()
    }

    fn known(&self, candidate: &Candidate) -> Option<u32> {
        let same = |index: &u32| self.same_key(*index, &candidate.meta);
        let there = self.places.find(candidate.page)?;
        Some(there)
            .filter(same)
            .or_else(|| self.places.find_key(self.own_key(&candidate.meta)).filter(same))
    }

    fn same_key(&self, index: u32, wanted: &SeriesMeta) -> bool {
        let Some(have) = &self.slots[index as usize].meta else {
            return false;
        };
        Arc::ptr_eq(&have.metric, &wanted.metric)
            && have.source.id == wanted.source.id
            && have.temporality == wanted.temporality
            && have.scope == wanted.scope
            && have.attributes() == wanted.attributes()
    }

    /// Another spelling of a series we have: an alias. Other bounds or another raw unit begin a new count.
    fn meet_again(&mut self, index: u32, fp: Fingerprint, candidate: Candidate) -> SeriesRef {
        let Candidate { meta, bounds, .. } = candidate;
        let slot = &mut self.slots[index as usize];
        let other_factor = slot.meta.as_ref().is_some_and(|have| have.factor != meta.factor);
        let other_bounds = match (&slot.cell, &bounds) {
            (Cell::Histogram(cell), Some(bounds)) => *self.bounds.get(cell.bounds) != *bounds,
            (Cell::Empty, Some(_)) => true,
            _ => false,
        };
        if other_factor || other_bounds {
            let empty = point::empty_cell(&mut self.bounds, &meta, bounds);
            let old = std::mem::replace(&mut slot.cell, empty);
            point::release(&mut self.bounds, &old);
            self.bytes = (self.bytes + slot.cell.heap_bytes()).saturating_sub(old.heap_bytes());
            (slot.start, slot.start_explicit) = (slot.time, false);
            if other_factor {
                self.metric_streams.hold(&meta.stream);
                self.bytes += series_bytes(&meta);
                if let Some(old) = slot.meta.replace(Arc::new(meta)) {
                    self.metric_streams.release(&old.stream);
                    self.bytes -= series_bytes(&old);
                }
            }
            // Old fingerprints meant the old bounds or unit: they must miss, and be met again.
            self.forget_aliases(index);
        }
        let slot = &mut self.slots[index as usize];
        slot.meaning = self.meaning;
        let generation = slot.generation;
        self.add_alias(index, fp.into());
        SeriesRef { index, generation }
    }

    fn add_alias(&mut self, index: u32, alias: Key) {
        if self.table.find_key(alias) == Some(index) {
            return;
        }
        let standing = &mut self.standing[index as usize];
        let last = std::mem::replace(&mut standing.alias, alias);
        if last != standing.key {
            let all = self.aliases.entry(index).or_default();
            all.push(last);
            self.bytes += ALIAS_BYTES;
            while all.len() + 1 > self.limits.aliases_per_series.max(1) {
                self.table.remove(all.remove(0), index);
                self.bytes -= ALIAS_BYTES;
            }
            if all.is_empty() {
                self.aliases.remove(&index);
            }
        }
        self.table.insert(alias, index);
    }

    /// The series is found by what it is alone.
    pub(super) fn forget_aliases(&mut self, index: u32) {
        let standing = &mut self.standing[index as usize];
        if standing.alias != standing.key {
            self.table.remove(standing.alias, index);
            standing.alias = standing.key;
        }
        let all = self.aliases.remove(&index).unwrap_or_default();
        self.bytes -= all.len() * ALIAS_BYTES;
        all.iter().for_each(|alias| self.table.remove(*alias, index));
    }

    // ---- admission --------------------------------------------------------------------------------------------------------

    fn room(&self, candidate: &Candidate) -> Result<(), DropReason> {
        let meta = &candidate.meta;
        let tenant = self.sources.get(&meta.source.id).ok_or(DropReason::SeriesGone)?;
        let of_metric = tenant.by_metric.get(&meta.metric.id).copied().unwrap_or(0);
        if self.series() >= self.limits.series {
            Err(DropReason::SeriesLimit)
        } else if tenant.slots.len() >= self.limits.series_per_source {
            Err(DropReason::SeriesPerSource)
        } else if of_metric >= self.limits.series_per_metric {
            Err(DropReason::SeriesPerMetric)
        } else {
            self.memory(candidate)
        }
    }

    fn memory(&self, candidate: &Candidate) -> Result<(), DropReason> {
        let cell = candidate.bounds.as_ref().map_or(0, |b| 128 + 8 * b.len());
        let stream = stream_bytes(&candidate.meta);
        let fits = self.bytes() + series_bytes(&candidate.meta) + stream + cell <= self.limits.memory_bytes;
        fits.then_some(()).ok_or(DropReason::MemoryLimit)
    }

    /// Folds a delta into the overflow series of its metric and source. One stands outside the caps on numbers, else it could never be
    /// made; but not outside of memory, and all of them together are at most a sixteenth of the series allowed.
    fn fold(
        &mut self,
        candidate: Candidate,
        mapped: bool,
        reason: DropReason,
    ) -> Result<SeriesRef, NotAdmitted> {
        if candidate.meta.temporality != Temporality::Delta {
            return Err(NotAdmitted(reason));
        }
        let Candidate { meta, bounds, .. } = candidate;
        let attributes = Attributes::of(&[OVERFLOW]);
        let (shown, before) = labels::page_labels(&meta.source, mapped, &attributes);
        let on_page = self.on_page(meta.metric.family_id, &shown, before);
        drop(shown);
        let meta = SeriesMeta {
            stream: self.metric_streams.meet(meta.stream.parts(), on_page.of_source()),
            own_labels: on_page.own().into(),
            told: Told::Packed(attributes),
        };
        let page = on_page.place;
        let candidate = Candidate {
            meta,
            overflow: true,
            bounds,
            page,
        };
        if let Some(index) = self.known(&candidate) {
            return self.fold_into(index, &candidate, reason);
        }
        if self.memory(&candidate).is_err() || self.overflows >= self.limits.series / 16 + 64 {
            return Err(NotAdmitted(reason));
        }
        Ok(self.admit(None, candidate))
    }

    /// Only what counts the same way is added up.
    fn fold_into(
        &mut self,
        index: u32,
        folded: &Candidate,
        reason: DropReason,
    ) -> Result<SeriesRef, NotAdmitted> {
        let slot = &mut self.slots[index as usize];
        let have = slot.meta.as_ref();
        if have.is_none_or(|have| have.factor != folded.meta.factor) {
            return Err(NotAdmitted(reason));
        }
        if let (Cell::Histogram(cell), Some(bounds)) = (&slot.cell, &folded.bounds)
            && *self.bounds.get(cell.bounds) != *bounds
        {
            return Err(NotAdmitted(DropReason::Buckets));
        }
        slot.meaning = self.meaning;
        let generation = slot.generation;
        Ok(SeriesRef { index, generation })
    }

    fn admit(&mut self, fp: Option<Fingerprint>, candidate: Candidate) -> SeriesRef {
        let Candidate {
            meta,
            overflow,
            bounds,
            page,
        } = candidate;
        let page = Key::from(page);
        let cell = point::empty_cell(&mut self.bounds, &meta, bounds);
        self.bytes += series_bytes(&meta) + cell.heap_bytes();
        self.metric_streams.hold(&meta.stream);
        self.overflows += usize::from(overflow);
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        let generation = self
            .slots
            .get(index as usize)
            .map_or_else(Generation::default, |slot| slot.generation);
        let tenant = self
            .sources
            .get_mut(&meta.source.id)
            .expect("define found the source");
        tenant.slots.push(index);
        *tenant.by_metric.entry(meta.metric.id).or_default() += 1;
        let standing = Places {
            family: self.families.add(&meta.metric, index),
            tenant: (tenant.slots.len() - 1) as u32,
            key: page,
            alias: page,
        };
        let slot = Slot {
            monotonic: meta.metric.kind == MetricKind::COUNTER,
            idles: matches!(meta.source.spec.expiry, Expiry::AfterIdle(_)),
            hidden: meta.metric.family.is_none(),
            contested: false,
            cell,
            start: 0,
            start_explicit: false,
            exemplified: false,
            overflow,
            time: 0,
            generation,
            touched: (self.clock.saturating_sub(self.epoch) / super::TENTH) as u32,
            meaning: self.meaning,
            meta: Some(Arc::new(meta)),
        };
        self.warnings.name_conflicts += u64::from(slot.hidden);
        if (index as usize) < self.slots.len() {
            self.slots[index as usize] = slot;
            self.standing[index as usize] = standing;
        } else {
            self.slots.push(slot);
            self.standing.push(standing);
        }
        self.take_place(index, page);
        if let Some(fp) = fp {
            self.add_alias(index, fp.into());
        }
        self.note_fresh(index);
        SeriesRef { index, generation }
    }

    // ---- two that want one place on the page ------------------------------------------------------------------------------

    /// Gives the newcomer the place, unless another has it that goes first.
    fn take_place(&mut self, index: u32, page: Key) {
        let Some(holder) = self.places.find_key(page) else {
            self.places.insert(page, index);
            return;
        };
        let newcomer_first = self.order(index, holder) == Ordering::Less;
        let (first, second) = if newcomer_first {
            (index, holder)
        } else {
            (holder, index)
        };
        let own = self.slots[second as usize]
            .meta
            .as_ref()
            .map_or(page, |meta| self.own_key(meta));
        self.set_key(second, own);
        self.set_key(first, page);
        self.slots[second as usize].hidden = true;
        for index in [first, second] {
            self.slots[index as usize].contested = true;
        }
        self.rivals.entry(page).or_default().push(second);
        self.wanted_places.insert(second, page);
        self.warnings.label_collisions += 1;
    }

    fn set_key(&mut self, index: u32, key: Key) {
        let standing = &mut self.standing[index as usize];
        if standing.alias == standing.key {
            standing.alias = key;
        }
        standing.key = key;
        self.places.insert(key, index);
    }

    /// Which of two goes first on the page: by what they are, whoever came first.
    fn order(&self, a: u32, b: u32) -> Ordering {
        let (Some(a), Some(b)) = (&self.slots[a as usize].meta, &self.slots[b as usize].meta) else {
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

    /// A series leaves that others want to follow, or that waits to follow another.
    pub(super) fn leave_place(&mut self, index: u32, key: Key) {
        if let Some(page) = self.wanted_places.remove(&index) {
            if let Some(rivals) = self.rivals.get_mut(&page) {
                rivals.retain(|rival| *rival != index);
                if rivals.is_empty() {
                    self.rivals.remove(&page);
                }
            }
            return;
        }
        let Some(mut rivals) = self.rivals.remove(&key) else {
            return;
        };
        let first = (0..rivals.len()).min_by(|a, b| self.order(rivals[*a], rivals[*b]));
        let Some(heir) = first.map(|at| rivals.swap_remove(at)) else {
            return;
        };
        self.wanted_places.remove(&heir);
        self.places.remove(self.standing[heir as usize].key, heir);
        self.set_key(heir, key);
        let slot = &mut self.slots[heir as usize];
        slot.hidden = slot.meta.as_ref().is_none_or(|meta| meta.metric.family.is_none());
        slot.contested = !rivals.is_empty();
        self.note_fresh(heir);
        if !rivals.is_empty() {
            self.rivals.insert(key, rivals);
        }
    }
}

/// What a series is accounted for beside its slot: labels, and attributes where they do not tell them, their headers, its places in
/// lists.
pub(super) fn series_bytes(meta: &SeriesMeta) -> usize {
    size_of::<SeriesMeta>() + 16 + meta.own_labels.len() + meta.told.bytes() + 48
}

fn is_overflow(attributes: &Attributes) -> bool {
    let mut all = attributes.iter();
    let only = all.next().is_some_and(|(name, _)| name == OVERFLOW.0);
    only && all.next().is_none()
}
