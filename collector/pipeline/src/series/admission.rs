//! Admission: limits on series, and the creation and removal of slots.

use super::Series;
use super::cell::Cell;
use super::meta::{SeriesMeta, stream_bytes};
use super::quota::Quota;
use super::slot::{Generation, Placement, SeriesRef, Shown, Slot};
use super::sources::SourceState;
use super::table::Key;
use super::write::exemplar_bytes;
use crate::ledger::DropReason;
use crate::row::RowValue;
use dichroic_model::{
    AttributeValue, Attributes, Expiry, Factor, Fingerprint, Limits, MetricKind, Protocol, SeriesDef,
    UnixNanos, attributes::cut,
};
use std::borrow::Cow;
use std::sync::Arc;

/// The attribute of overflow series. Source: OpenTelemetry metrics SDK, "Cardinality limits".
pub(crate) const OVERFLOW: (&str, &str) = ("otel_metric_overflow", "true");

/// A series was not admitted. The point must be counted as dropped for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAdmitted(pub DropReason);

/// A series before its admission.
pub(crate) struct Candidate {
    pub(crate) meta: SeriesMeta,
    pub(crate) quota: Quota,
    pub(crate) bounds: Option<Arc<[f64]>>,
    /// Its exposition identity.
    pub(crate) identity: Fingerprint,
    /// Start of its first point; 0 when not stated.
    pub(crate) start: UnixNanos,
}

/// The entries of a removed series in other lists and tables.
pub(crate) struct Removed {
    pub(crate) meta: Arc<SeriesMeta>,
    pub(crate) placement: Placement,
    pub(crate) quota: Quota,
    /// Set if its row combined several slots.
    pub(crate) part: Option<Box<RemovedPart>>,
}

/// A removed series whose row combined several slots.
pub(crate) struct RemovedPart {
    pub(crate) shown: Shown,
    /// What it counted.
    pub(crate) total: Option<RowValue>,
}

impl Series {
    /// Checks the lengths of names; cuts long values.
    pub(crate) fn check_texts(&mut self, def: &mut SeriesDef<'_>) -> Result<(), NotAdmitted> {
        let max = self.limits.label_name_bytes;
        let too_long = |(name, _): &(Cow<'_, str>, AttributeValue<'_>)| name.len() > max;
        let scope = def.scope;
        let of_metric = [def.name, def.unit, &scope.name, &scope.version, &scope.schema_url];
        if def.attributes.len() > self.limits.labels
            || def.attributes.iter().any(too_long)
            || !(scope.attributes.is_empty() || self.scope_fits(&scope.attributes))
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
                self.counters.cut_values += 1;
            }
        }
        Ok(())
    }

    /// Whether the attributes of a scope are within the limits of labels. They are not cut, because scopes must not become equal.
    fn scope_fits(&self, attributes: &Attributes) -> bool {
        let Limits {
            label_name_bytes,
            label_value_bytes,
            ..
        } = self.limits;
        let fits = |(name, value): (&str, AttributeValue<'_>)| {
            name.len() <= label_name_bytes && value.into_rendered().len() <= label_value_bytes
        };
        attributes.iter().count() <= self.limits.labels && attributes.iter().all(fits)
    }

    /// The bounds of a definition in the exported unit.
    pub(crate) fn scaled_bounds(
        &self,
        def: &SeriesDef<'_>,
        factor: Factor,
    ) -> Result<Option<Arc<[f64]>>, NotAdmitted> {
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
        // Scaling may make neighbors equal.
        if !fits(&scaled) {
            return Err(NotAdmitted(DropReason::Buckets));
        }
        Ok(Some(scaled.into()))
    }

    /// Checks all limits for another series. `accounted`: accounted bytes of the whole core.
    pub(crate) fn admissible(
        &self,
        candidate: &Candidate,
        source: Option<&SourceState>,
        accounted: usize,
    ) -> Result<(), DropReason> {
        let source = source.ok_or(DropReason::SeriesGone)?;
        if candidate.quota == Quota::Report {
            Ok(())
        } else if self.len() >= self.limits.series {
            Err(DropReason::SeriesLimit)
        } else if source.slots.len() >= self.limits.series_per_source {
            Err(DropReason::SeriesPerSource)
        } else if source.series_of_metric(candidate.meta.metric.id) >= self.limits.series_per_metric {
            Err(DropReason::SeriesPerMetric)
        } else if self.fits_memory(candidate, accounted) {
            Ok(())
        } else {
            Err(DropReason::MemoryLimit)
        }
    }

    fn fits_memory(&self, candidate: &Candidate, accounted: usize) -> bool {
        let cell = candidate.bounds.as_ref().map_or(0, |b| 128 + 8 * b.len());
        let stream = stream_bytes(&candidate.meta);
        accounted + series_bytes(&candidate.meta) + stream + cell <= self.limits.memory_bytes
    }

    /// Whether another overflow series is admitted. They are at most about a sixteenth of the allowed series.
    pub(crate) fn overflow_admissible(&self, candidate: &Candidate, accounted: usize) -> bool {
        self.fits_memory(candidate, accounted) && self.overflows < self.limits.series / 16 + 64
    }

    /// The quota of a series that is to be exempt from the limits. Those of a source are bounded: beyond that, the limits apply. The
    /// collector has some series for each source, exporter and event of a relay; a target has a fixed number.
    pub(crate) fn report_quota(&self, source: &SourceState) -> Quota {
        let most = match source.source.spec.protocol {
            Protocol::Internal => self.limits.series / 16 + 4_096,
            _ => 16,
        };
        match source.reports < most {
            true => Quota::Report,
            false => Quota::Limited,
        }
    }

    /// Creates the slot of a new series. The caller sets its positions in other lists.
    pub(crate) fn insert(&mut self, candidate: Candidate, steady: UnixNanos) -> SeriesRef {
        let Candidate {
            meta,
            quota,
            bounds,
            identity,
            start: _,
        } = candidate;
        let key = Key::from(identity);
        let cell = Cell::empty(&mut self.bounds, meta.metric.kind, bounds);
        self.bytes += series_bytes(&meta) + cell.heap_bytes();
        self.streams.retain(&meta.stream);
        self.overflows += usize::from(quota == Quota::Overflow);
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        let generation = self
            .slots
            .get(index as usize)
            .map_or_else(Generation::default, |slot| slot.generation);
        let slot = Slot {
            monotonic: meta.metric.kind == MetricKind::COUNTER,
            expires_idle: matches!(meta.source.spec.expiry, Expiry::AfterIdle(_)),
            shown: Shown::Row,
            composite: false,
            cell,
            start: 0,
            start_explicit: false,
            has_exemplar: false,
            quota,
            time: 0,
            generation,
            touched: self.tenths(steady),
            resolution: self.resolution,
            meta: Some(Arc::new(meta)),
        };
        let placement = Placement {
            family: 0,
            source: 0,
            key,
            alias: key,
        };
        if (index as usize) < self.slots.len() {
            self.slots[index as usize] = slot;
            self.placements[index as usize] = placement;
        } else {
            self.slots.push(slot);
            self.placements.push(placement);
        }
        SeriesRef { index, generation }
    }

    /// Resolves an existing series again: for another fingerprint, or for the first one after a reload. Another raw unit resets it. For
    /// other bounds see [`Series::change_bounds`].
    pub(crate) fn re_resolve(
        &mut self,
        index: u32,
        fp: Fingerprint,
        candidate: Candidate,
    ) -> Result<SeriesRef, NotAdmitted> {
        let Candidate {
            meta, bounds, start, ..
        } = candidate;
        let slot = &mut self.slots[index as usize];
        let other_factor = slot
            .meta
            .as_ref()
            .is_some_and(|current| current.factor != meta.factor);
        let other_bounds = match (&slot.cell, &bounds) {
            (Cell::Histogram(cell), Some(bounds)) => *self.bounds.get(cell.bounds) != *bounds,
            (Cell::Empty, Some(_)) => true,
            _ => false,
        };
        if let (false, true, Cell::Histogram(_), Some(bounds)) =
            (other_factor, other_bounds, &slot.cell, &bounds)
        {
            let is_fit = self.change_bounds(index, bounds, start).map_err(NotAdmitted)?;
            // Fingerprints imply the bounds of the cell.
            if !is_fit {
                return Ok(self.confirm(index));
            }
        } else if other_factor || other_bounds {
            self.remove_writers(index);
            let slot = &mut self.slots[index as usize];
            let empty = Cell::empty(&mut self.bounds, meta.metric.kind, bounds);
            let old = std::mem::replace(&mut slot.cell, empty);
            old.release(&mut self.bounds);
            self.bytes = (self.bytes + slot.cell.heap_bytes()).saturating_sub(old.heap_bytes());
            (slot.start, slot.start_explicit) = (slot.time, false);
            if other_factor {
                self.replace_meta(index, Arc::new(meta));
            }
            // Old fingerprints imply the old bounds or unit: they must miss and resolve again.
            self.remove_aliases(index);
        }
        self.add_alias(index, fp.into());
        Ok(self.confirm(index))
    }

    /// Marks the series as resolved since the last reload.
    fn confirm(&mut self, index: u32) -> SeriesRef {
        let slot = &mut self.slots[index as usize];
        slot.resolution = self.resolution;
        let generation = slot.generation;
        SeriesRef { index, generation }
    }

    /// The existing overflow series, for a point with the same factor: only such points can be added.
    pub(crate) fn fold_into(
        &mut self,
        index: u32,
        folded: &Candidate,
        reason: DropReason,
    ) -> Result<SeriesRef, NotAdmitted> {
        let slot = &self.slots[index as usize];
        let current = slot.meta.as_ref();
        if current.is_none_or(|current| current.factor != folded.meta.factor) {
            return Err(NotAdmitted(reason));
        }
        if let (Cell::Histogram(cell), Some(bounds)) = (&slot.cell, &folded.bounds)
            && *self.bounds.get(cell.bounds) != *bounds
        {
            self.change_bounds(index, bounds, folded.start)
                .map_err(NotAdmitted)?;
        }
        Ok(self.confirm(index))
    }

    /// Empties a slot. Its index must not be reused ([`Series::free`]) before the series is removed everywhere.
    pub(crate) fn vacate(&mut self, index: u32) -> Option<Removed> {
        self.remove_aliases(index);
        let part = self.slots[index as usize].composite.then(|| {
            Box::new(RemovedPart {
                shown: self.slots[index as usize].shown,
                total: self.value(index),
            })
        });
        self.remove_writers(index);
        let slot = &mut self.slots[index as usize];
        let meta = slot.meta.take()?;
        let cell = std::mem::replace(&mut slot.cell, Cell::Empty);
        slot.generation = slot.generation.of_next_series();
        let quota = slot.quota;
        self.overflows -= usize::from(quota == Quota::Overflow);
        self.bytes -= series_bytes(&meta) + cell.heap_bytes();
        cell.release(&mut self.bounds);
        self.streams.release(&meta.stream);
        if slot.has_exemplar
            && let Some(exemplar) = self.exemplars.remove(&index)
        {
            self.bytes -= exemplar_bytes(&exemplar);
        }
        Some(Removed {
            meta,
            placement: self.placements[index as usize],
            quota,
            part,
        })
    }

    /// Gives a live series other metadata.
    pub(crate) fn replace_meta(&mut self, index: u32, meta: Arc<SeriesMeta>) {
        self.streams.retain(&meta.stream);
        self.bytes += series_bytes(&meta);
        if let Some(old) = self.slots[index as usize].meta.replace(meta) {
            self.streams.release(&old.stream);
            self.bytes -= series_bytes(&old);
        }
    }

    /// Frees the index of a vacated slot.
    pub(crate) fn free(&mut self, index: u32) {
        self.free.push(index);
    }
}

/// Accounted bytes of a series besides its slot: labels, packed attributes, their headers, its entries in lists.
fn series_bytes(meta: &SeriesMeta) -> usize {
    size_of::<SeriesMeta>() + 16 + meta.own_labels.len() + meta.encoded.bytes() + 48
}

/// Whether these are the attributes of an overflow series.
pub(crate) fn is_overflow(attributes: &Attributes) -> bool {
    let mut all = attributes.iter();
    let only = all.next().is_some_and(|(name, _)| name == OVERFLOW.0);
    only && all.next().is_none()
}
