//! Writes points into cells: cumulative points replace, deltas add.
//!
//! Every call returns `Err(reason)` if the point was not applied; the caller counts it as dropped for that reason.

use super::Series;
use super::cell::Cell;
use super::explicit::Explicit;
use super::points::{ExponentialPoint, HistogramPoint, SummaryPoint};
use super::slot::{SeriesRef, Slot};
use super::times::Times;
use super::values::{ExponentialCell, SummaryCell, total};
use crate::classic::known::{self, known_below};
use crate::ledger::DropReason;
use dichroic_model::{Exemplar, MetricKind, Number, Protocol};
use std::sync::Arc;

type WriteResult = Result<Outcome, DropReason>;

/// The series that a point was written into.
pub(crate) enum Outcome {
    /// It is a row by itself.
    Plain,
    /// Its row combines several slots, or it is hidden.
    Composite,
}

impl Series {
    /// Replaces a gauge or a cumulative sum. A monotonic sum that decreases is a reset (its start becomes `time`) unless the point
    /// states a new start.
    #[inline]
    pub(crate) fn set_number(&mut self, series: SeriesRef, value: Number, times: Times) -> WriteResult {
        let touched = self.touched(times.now);
        let mut slot = live(&mut self.slots, series)?;
        if is_other_start(slot, times) {
            self.switch_writer(series.index, times)?;
            slot = live(&mut self.slots, series)?;
        }
        let mut reset = false;
        match &slot.cell {
            Cell::Number(old) if slot.monotonic && value.to_f64() < old.to_f64() => {
                reset = is_reset(slot, times)?;
            }
            Cell::Number(old) if is_late(slot, times) => {
                let same = old.int == value.int && old.float.to_bits() == value.float.to_bits();
                late(slot, times, touched, same)?;
            }
            Cell::Number(_) => {}
            _ => first_number(slot)?,
        }
        if slot.composite && slot.monotonic && begins_new_total(slot, times, reset) {
            self.ended_totals
                .extend(slot.copy(&self.bounds).map(|total| (series.index, total)));
        }
        if let Cell::Number(held) = &mut slot.cell {
            *held = value;
        } else {
            slot.cell = Cell::Number(value);
        }
        stamp(slot, times, touched, reset);
        let written = outcome(slot);
        if reset {
            self.count_reset(series.index, times);
        }
        Ok(written)
    }

    /// Adds a delta to a sum.
    #[inline]
    pub(crate) fn add_number(&mut self, series: SeriesRef, value: Number, times: Times) -> WriteResult {
        self.delta(series, times, |slot, _| {
            match &mut slot.cell {
                Cell::Number(current) => current.add(value),
                _ => {
                    first_number(slot)?;
                    slot.cell = Cell::Number(value);
                }
            }
            Ok(())
        })
    }

    /// Replaces a cumulative histogram. A count that decreases is a reset.
    #[inline]
    pub(crate) fn set_histogram(
        &mut self,
        series: SeriesRef,
        point: &HistogramPoint<'_>,
        times: Times,
    ) -> WriteResult {
        let touched = self.touched(times.now);
        let mut slot = live(&mut self.slots, series)?;
        if is_other_start(slot, times) {
            let bounds = match &slot.cell {
                Cell::Histogram(held) => Some(held.bounds),
                _ => None,
            };
            self.switch_writer(series.index, times)?;
            self.keep_bounds(series.index, bounds);
            slot = live(&mut self.slots, series)?;
        }
        let (last, count) = (histogram(slot, point)?.count(), total(point.counts));
        let mut reset = count < last;
        if reset {
            reset = is_reset(slot, times)?;
        } else if is_late(slot, times) {
            late_total(slot, times, touched, count == last)?;
        }
        if slot.composite && begins_new_total(slot, times, reset) {
            self.ended_totals
                .extend(slot.copy(&self.bounds).map(|total| (series.index, total)));
        }
        let Cell::Histogram(held) = &mut slot.cell else {
            return Err(DropReason::Buckets);
        };
        let before = held.heap_bytes();
        held.set(point);
        let grown = held.heap_bytes() - before;
        stamp(slot, times, touched, reset);
        self.bytes += grown;
        let written = outcome(slot);
        if reset {
            self.count_reset(series.index, times);
        }
        Ok(written)
    }

    /// Adds a delta to a histogram.
    #[inline]
    pub(crate) fn add_histogram(
        &mut self,
        series: SeriesRef,
        point: &HistogramPoint<'_>,
        times: Times,
    ) -> WriteResult {
        self.delta(series, times, |slot, _| {
            histogram(slot, point)?.add(point);
            Ok(())
        })
    }

    /// Replaces a cumulative exponential histogram.
    #[inline]
    pub(crate) fn set_exponential(
        &mut self,
        series: SeriesRef,
        point: &ExponentialPoint<'_>,
        times: Times,
    ) -> WriteResult {
        let (touched, max) = (self.touched(times.now), self.limits.buckets);
        let mut new = exponential(point, max)?;
        let mut slot = live(&mut self.slots, series)?;
        if is_other_start(slot, times) {
            self.switch_writer(series.index, times)?;
            slot = live(&mut self.slots, series)?;
        }
        let mut reset = false;
        match &slot.cell {
            Cell::Exponential(old) if new.count() < old.count() => reset = is_reset(slot, times)?,
            Cell::Exponential(old) if is_late(slot, times) => {
                late_total(slot, times, touched, new.count() == old.count())?;
            }
            Cell::Exponential(_) => {}
            _ => first_of(slot, &[MetricKind::ExponentialHistogram])?,
        }
        if slot.composite && begins_new_total(slot, times, reset) {
            self.ended_totals
                .extend(slot.copy(&self.bounds).map(|total| (series.index, total)));
        }
        let before = slot.cell.heap_bytes();
        if !reset && times.start <= slot.start {
            keep_known(slot, &mut new);
        }
        slot.cell = Cell::Exponential(Arc::new(new));
        let after = slot.cell.heap_bytes();
        stamp(slot, times, touched, reset);
        self.bytes = (self.bytes + after).saturating_sub(before);
        let written = outcome(slot);
        if reset {
            self.count_reset(series.index, times);
        }
        Ok(written)
    }

    /// Adds a delta to an exponential histogram, at the coarser scale of both.
    #[inline]
    pub(crate) fn add_exponential(
        &mut self,
        series: SeriesRef,
        point: &ExponentialPoint<'_>,
        times: Times,
    ) -> WriteResult {
        self.delta(series, times, |slot, max| {
            let mut new = exponential(point, max)?;
            match (&mut slot.cell, &slot.meta) {
                (Cell::Exponential(current), Some(meta)) => {
                    let current = Arc::make_mut(current);
                    if new.scale > current.scale {
                        new.downscale((new.scale - current.scale) as u32);
                    }
                    let merged = if current.absorbs(&new, max) {
                        current.merge(new, max)
                    } else {
                        known::merge(current, new, max, meta)
                    };
                    merged.then_some(()).ok_or(DropReason::Buckets)
                }
                _ => {
                    first_of(slot, &[MetricKind::ExponentialHistogram])?;
                    slot.cell = Cell::Exponential(Arc::new(new));
                    Ok(())
                }
            }
        })
    }

    /// Replaces a summary.
    #[inline]
    pub(crate) fn set_summary(
        &mut self,
        series: SeriesRef,
        point: &SummaryPoint<'_>,
        times: Times,
    ) -> WriteResult {
        let (touched, max) = (self.touched(times.now), self.limits.buckets);
        if point.quantiles.len() > max {
            return Err(DropReason::Buckets);
        }
        let slot = live(&mut self.slots, series)?;
        let mut reset = false;
        match &slot.cell {
            Cell::Summary(old) if point.count < old.count => reset = is_reset(slot, times)?,
            Cell::Summary(old) if is_late(slot, times) => {
                late_total(slot, times, touched, point.count == old.count)?;
            }
            Cell::Summary(_) => {}
            _ => first_of(slot, &[MetricKind::Summary])?,
        }
        let cell = SummaryCell {
            count: point.count,
            sum: point.sum,
            quantiles: point.quantiles.into(),
        };
        let before = slot.cell.heap_bytes();
        slot.cell = Cell::Summary(Box::new(cell));
        let after = slot.cell.heap_bytes();
        stamp(slot, times, touched, reset);
        self.bytes = (self.bytes + after).saturating_sub(before);
        let written = outcome(slot);
        if reset {
            self.count_reset(series.index, times);
        }
        Ok(written)
    }

    /// Stores the newest exemplar of a series, unless its attributes exceed [`EXEMPLAR_BYTES`].
    pub(crate) fn set_exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) {
        if self.slot(series).is_none() || exemplar.attributes.as_bytes().len() > EXEMPLAR_BYTES {
            return;
        }
        self.bytes += exemplar_bytes(&exemplar);
        self.slots[series.index as usize].has_exemplar = true;
        if let Some(old) = self.exemplars.insert(series.index, Arc::new(exemplar)) {
            self.bytes -= exemplar_bytes(&old);
        }
    }

    /// The raw number of a live series.
    pub(crate) fn number(&self, series: SeriesRef) -> Option<Number> {
        match self.slot(series)?.cell {
            Cell::Number(value) => Some(value),
            _ => None,
        }
    }

    /// The raw explicit histogram of a live series.
    pub(crate) fn histogram(&self, series: SeriesRef) -> Option<&Explicit> {
        match &self.slot(series)?.cell {
            Cell::Histogram(cell) => Some(cell),
            _ => None,
        }
    }

    /// The raw exponential histogram of a live series.
    pub(crate) fn exponential(&self, series: SeriesRef) -> Option<&ExponentialCell> {
        match &self.slot(series)?.cell {
            Cell::Exponential(cell) => Some(cell),
            _ => None,
        }
    }

    fn delta(
        &mut self,
        series: SeriesRef,
        times: Times,
        add: impl FnOnce(&mut Slot, usize) -> Result<(), DropReason>,
    ) -> WriteResult {
        let (touched, max) = (self.touched(times.now), self.limits.buckets);
        let Times { start, time, now } = times;
        let slot = live(&mut self.slots, series)?;
        let last = slot.time;
        let time = if time == 0 { now } else { time };
        let before = slot.cell.heap_bytes();
        let added = add(slot, max);
        // Also if the point was rejected: the attempt may have made the cell coarser.
        let after = slot.cell.heap_bytes();
        self.bytes = (self.bytes + after).saturating_sub(before);
        added?;
        if last == 0 {
            slot.start = if start == 0 { time } else { start };
            slot.start_explicit = start != 0;
        }
        slot.time = last.max(time);
        slot.touched = touched;
        self.counters.delta_gaps += u64::from(last != 0 && start > last);
        self.counters.delta_overlaps += u64::from(last != 0 && start != 0 && start < last);
        Ok(outcome(slot))
    }
}

#[inline]
fn outcome(slot: &Slot) -> Outcome {
    if slot.composite {
        Outcome::Composite
    } else {
        Outcome::Plain
    }
}

#[inline]
fn live(slots: &mut [Slot], series: SeriesRef) -> Result<&mut Slot, DropReason> {
    match slots.get_mut(series.index as usize) {
        Some(slot) if slot.generation == series.generation && slot.meta.is_some() => Ok(slot),
        _ => Err(DropReason::SeriesGone),
    }
}

impl Series {
    #[cold]
    fn count_reset(&mut self, index: u32, times: Times) {
        self.counters.resets += 1;
        let meta = self.slots[index as usize].meta.as_ref();
        let pushed = meta.is_some_and(|meta| meta.source.spec.protocol == Protocol::Otlp);
        if times.start != 0 || pushed {
            self.writers.fell(index, times);
        }
    }
}

/// Detects a counter reset without a new start time, for a total that decreased. `Err` if the point is only late: its time is before
/// the last one and its start is not newer.
fn is_reset(slot: &Slot, times: Times) -> Result<bool, DropReason> {
    let Times { start, time, .. } = times;
    if start > slot.start {
        return Ok(false);
    }
    if time != 0 && time < slot.time {
        return Err(DropReason::Backwards);
    }
    Ok(true)
}

/// Whether a point is not newer than the current one, by the time that the sender states.
#[inline]
fn is_late(slot: &Slot, times: Times) -> bool {
    times.time <= slot.time && times.time != times.now && times.time != 0
}

/// Whether a late histogram or summary is dropped: if it was counted twice in one request.
#[cold]
fn late_total(slot: &Slot, times: Times, touched: u32, same: bool) -> Result<(), DropReason> {
    match late(slot, times, touched, same) {
        Err(DropReason::Duplicate) => Err(DropReason::Duplicate),
        _ => Ok(()),
    }
}

/// Whether a late point is dropped. A gauge keeps the newest value. A point of the same time within a tenth of a second is the same series
/// twice in one request, unless it states the `same` value.
#[cold]
fn late(slot: &Slot, times: Times, touched: u32, same: bool) -> Result<(), DropReason> {
    let at_once = times.time == slot.time && touched == slot.touched;
    let same_start = times.start == 0 || times.start == slot.start;
    if times.time < slot.time && !slot.monotonic {
        Err(DropReason::Backwards)
    } else if at_once && same_start && !same {
        Err(DropReason::Duplicate)
    } else {
        Ok(())
    }
}

/// The first point decides the variant of the cell, which must fit the kind of the metric.
fn first_of(slot: &Slot, kinds: &[MetricKind]) -> Result<(), DropReason> {
    let fits = matches!(slot.cell, Cell::Empty)
        && slot
            .meta
            .as_ref()
            .is_some_and(|meta| kinds.contains(&meta.metric.kind));
    fits.then_some(()).ok_or(DropReason::Malformed)
}

fn first_number(slot: &Slot) -> Result<(), DropReason> {
    first_of(
        slot,
        &[
            MetricKind::Gauge,
            MetricKind::COUNTER,
            MetricKind::Sum { monotonic: false },
            MetricKind::Unknown,
            MetricKind::Info,
            MetricKind::StateSet,
        ],
    )
}

/// Whether a cumulative point states another start than the last one: it comes from another writer, or follows a restart.
#[inline]
pub(super) fn is_other_start(slot: &Slot, times: Times) -> bool {
    times.start != slot.start && slot.start_explicit && times.start != 0 && slot.expires_idle
}

/// Whether a cumulative point begins another total than the one held.
fn begins_new_total(slot: &Slot, times: Times, reset: bool) -> bool {
    slot.time != 0 && (reset || (slot.start_explicit && times.start > slot.start))
}

fn stamp(slot: &mut Slot, times: Times, touched: u32, reset: bool) {
    let Times { start, time, now } = times;
    // A time of 0 in a slot means that it has no point.
    let time = if time == 0 { now } else { time };
    if start > slot.start {
        (slot.start, slot.start_explicit) = (start, true);
    } else if reset || slot.start == 0 {
        (slot.start, slot.start_explicit) = (time, false);
    }
    slot.time = time;
    slot.touched = touched;
}

/// Largest size of an exemplar's attributes.
const EXEMPLAR_BYTES: usize = 1_024;

/// Accounted bytes of an exemplar.
pub(super) fn exemplar_bytes(exemplar: &Exemplar) -> usize {
    size_of::<Exemplar>() + 64 + exemplar.attributes.as_bytes().len()
}

fn histogram<'a>(slot: &'a mut Slot, point: &HistogramPoint<'_>) -> Result<&'a mut Explicit, DropReason> {
    match &mut slot.cell {
        Cell::Histogram(cell) if cell.buckets() == point.counts.len() => Ok(cell),
        _ => Err(DropReason::Buckets),
    }
}

/// Keeps what is known of the values of a histogram that a later point of the same total replaces.
#[inline]
fn keep_known(slot: &Slot, new: &mut ExponentialCell) {
    let (Cell::Exponential(old), Some(meta)) = (&slot.cell, &slot.meta) else {
        return;
    };
    if new.has_layout_of(old) {
        new.known_below.clone_from(&old.known_below);
    } else {
        new.known_below = known_below(&[old], new, meta);
    }
}

fn exponential(point: &ExponentialPoint<'_>, max: usize) -> Result<ExponentialCell, DropReason> {
    let valid = (-10..=20).contains(&point.scale)
        && [point.positive, point.negative]
            .iter()
            .all(|side| i64::from(side.offset) + side.counts.len() as i64 <= i64::from(i32::MAX));
    if !valid {
        return Err(DropReason::Buckets);
    }
    let mut cell = ExponentialCell {
        scale: point.scale,
        zero_count: point.zero_count,
        zero_threshold: point.zero_threshold,
        positive: (point.positive.offset, point.positive.counts.to_vec()),
        negative: (point.negative.offset, point.negative.counts.to_vec()),
        sum: point.sum,
        min_max: point.min_max,
        known_below: None,
    };
    if !cell.fit(max) {
        return Err(DropReason::Buckets);
    }
    Ok(cell)
}
