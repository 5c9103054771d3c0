//! Switching between the writers of a series, adding them up, and retiring those that are idle.

use super::Series;
use super::cell::Cell;
use super::expiry::idle_time;
use super::explicit::Explicit;
use super::slot::Slot;
use super::times::Times;
use super::writers::{MAX_WRITERS, Writer, WriterSet, adds_up, retire};
use crate::ledger::DropReason;
use crate::row::RowValue;
use dichroic_model::{MetricKind, UnixNanos};

impl Series {
    /// Handles a cumulative point with another start than the last one: puts its writer into the slot if there are several. Otherwise the
    /// caller treats it as a restart.
    #[cold]
    pub(super) fn switch_writer(&mut self, index: u32, times: Times) -> Result<(), DropReason> {
        let slot = &self.slots[index as usize];
        let Some(meta) = &slot.meta else { return Ok(()) };
        if !adds_up(meta.metric.kind) || slot.time == 0 {
            return Ok(());
        }
        let at_once = times.start < slot.time;
        let known = self.writers.sets.get(&index);
        if known.is_some_and(|set| set.sliding) || (known.is_none() && !at_once) {
            return Ok(());
        }
        let before = self.writer_bytes(index);
        let switched = self.switch(index, times.start, at_once);
        let after = self.writer_bytes(index);
        self.bytes = (self.bytes + after).saturating_sub(before);
        switched
    }

    fn switch(&mut self, index: u32, start: UnixNanos, at_once: bool) -> Result<(), DropReason> {
        let slot = &mut self.slots[index as usize];
        let set = self.writers.sets.entry(index).or_default();
        if let Some(at) = set.others.iter().position(|writer| writer.start == start) {
            swap(slot, &mut set.others[at]);
            self.writers.seen += u64::from(!set.confirmed);
            set.confirmed = true;
            slot.composite = true;
            return Ok(());
        }
        if set.confirmed && set.others.len() + 1 >= MAX_WRITERS {
            return Err(DropReason::WriterLimit);
        }
        if !set.confirmed && (!at_once || set.others.len() + 1 >= MAX_WRITERS) {
            set.sliding = at_once;
            for writer in std::mem::take(&mut set.others) {
                writer.cell.release(&mut self.bounds);
            }
            if !at_once {
                self.writers.sets.remove(&index);
            }
            return Ok(());
        }
        let fresh = match &slot.cell {
            Cell::Histogram(held) => {
                let bounds = self.bounds.get(held.bounds).clone();
                Cell::Histogram(Explicit::new(held.buckets(), self.bounds.retain(bounds)))
            }
            _ => Cell::Empty,
        };
        let mut writer = Writer {
            cell: fresh,
            start: 0,
            time: 0,
            touched: slot.touched,
        };
        swap(slot, &mut writer);
        slot.start_explicit = false;
        set.others.push(writer);
        Ok(())
    }

    /// The sum of the writers of a series, with what is retired.
    pub(crate) fn add_writers(&self, index: u32, value: &mut Option<RowValue>) {
        let Some(set) = self.writers.sets.get(&index).filter(|set| set.confirmed) else {
            return;
        };
        let Some(meta) = &self.slots[index as usize].meta else {
            return;
        };
        let max = self.limits.buckets;
        let others = set.others.iter().filter(|writer| writer.time != 0);
        let cells = others.filter_map(|writer| writer.cell.copy(&self.bounds));
        for other in cells.chain(set.retired.clone()) {
            retire(value, other, max, meta);
        }
    }

    /// The earliest start and the latest time of all writers.
    pub(crate) fn writer_times(&self, index: u32) -> impl Iterator<Item = (UnixNanos, UnixNanos)> + '_ {
        let set = self.writers.sets.get(&index).filter(|set| set.confirmed);
        let others = set.into_iter().flat_map(|set| &set.others);
        others.map(|writer| (writer.start, writer.time))
    }

    /// Removes writers that were idle for longer than their source allows; their totals are retired.
    pub(crate) fn retire_idle_writers(&mut self, index: u32, now: UnixNanos) {
        let slot = &self.slots[index as usize];
        let Some(meta) = slot.meta.clone() else { return };
        let Some(idle) = idle_time(&meta) else { return };
        let monotonic = meta.metric.kind != MetricKind::Sum { monotonic: false };
        let oldest = self.tenths(now.saturating_sub(idle));
        let before = self.writer_bytes(index);
        let max = self.limits.buckets;
        let Some(set) = self.writers.sets.get_mut(&index) else {
            return;
        };
        let mut at = 0;
        while at < set.others.len() {
            if set.others[at].touched >= oldest {
                at += 1;
                continue;
            }
            let writer = set.others.swap_remove(at);
            if set.confirmed
                && monotonic
                && let Some(value) = writer.cell.copy(&self.bounds)
            {
                retire(&mut set.retired, value, max, &meta);
            }
            writer.cell.release(&mut self.bounds);
        }
        let after = self.writer_bytes(index);
        self.bytes = (self.bytes + after).saturating_sub(before);
    }

    /// Removes all writers but the one in the slot.
    pub(crate) fn remove_writers(&mut self, index: u32) {
        self.writers.remove_findings(index);
        if self.writers.sets.is_empty() {
            return;
        }
        self.bytes -= self.writer_bytes(index);
        if let Some(set) = self.writers.sets.remove(&index) {
            set.others
                .iter()
                .for_each(|writer| writer.cell.release(&mut self.bounds));
        }
    }

    fn writer_bytes(&self, index: u32) -> usize {
        let Some(set) = self.writers.sets.get(&index) else {
            return 0;
        };
        let cells = set.others.iter().map(|writer| writer.cell.heap_bytes());
        size_of::<WriterSet>() + set.others.len() * size_of::<Writer>() + cells.sum::<usize>()
    }
}

fn swap(slot: &mut Slot, writer: &mut Writer) {
    std::mem::swap(&mut slot.cell, &mut writer.cell);
    std::mem::swap(&mut slot.start, &mut writer.start);
    std::mem::swap(&mut slot.time, &mut writer.time);
    std::mem::swap(&mut slot.touched, &mut writer.touched);
}
