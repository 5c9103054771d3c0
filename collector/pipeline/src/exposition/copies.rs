//! Copies in progress. A series that becomes visible during a copy appears only in the next one, so that no copy shows a series twice.

use crate::hash::HashMap;
use dichroic_model::{SECOND, UnixNanos};
use std::collections::BTreeMap;

/// A copy that takes longer is aborted, so that holes in families can be closed.
const MAX_AGE: UnixNanos = 30 * SECOND;

#[derive(Default)]
pub(crate) struct Copies {
    /// Start of each copy.
    open: BTreeMap<u64, UnixNanos>,
    next: u64,
    /// Series that became visible during a copy, with the last copy that had started by then.
    new: HashMap<u32, u64>,
}

impl Copies {
    /// Begins a copy.
    pub(crate) fn begin(&mut self, now: UnixNanos) -> u64 {
        self.next += 1;
        self.open.insert(self.next, now);
        self.next
    }

    /// Whether the copy was not aborted.
    pub(crate) fn is_open(&self, copy: u64) -> bool {
        self.open.contains_key(&copy)
    }

    /// Whether no copy is in progress.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn end(&mut self, copy: u64) {
        self.open.remove(&copy);
        self.clear_new();
    }

    /// Aborts copies that take too long.
    pub(crate) fn abort_late(&mut self, now: UnixNanos) {
        self.open.retain(|_, started| *started + MAX_AGE >= now);
        self.clear_new();
    }

    fn clear_new(&mut self) {
        if self.open.is_empty() {
            self.new.clear();
        }
    }

    /// Whether the series became visible after the copy started.
    #[inline]
    pub(crate) fn is_new(&self, index: u32, copy: u64) -> bool {
        !self.new.is_empty() && self.new.get(&index).is_some_and(|since| *since >= copy)
    }

    /// Records that a series becomes visible.
    pub(crate) fn add(&mut self, index: u32) {
        if !self.open.is_empty() {
            self.new.insert(index, self.next);
        }
    }

    /// Records that a series was removed.
    pub(crate) fn remove(&mut self, index: u32) {
        if !self.new.is_empty() {
            self.new.remove(&index);
        }
    }
}
