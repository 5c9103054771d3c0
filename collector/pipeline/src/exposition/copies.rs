//! Copies under way: what becomes visible meanwhile waits for the next one, so that no copy shows a series twice.

use crate::hash::HashMap;
use dichroic_model::{SECOND, UnixNanos};
use std::collections::BTreeMap;

/// A copy that takes longer is aborted, so that holes in families can be closed.
const MAX_AGE: UnixNanos = 30 * SECOND;

#[derive(Default)]
pub(crate) struct Copies {
    /// When each began.
    open: BTreeMap<u64, UnixNanos>,
    next: u64,
    /// Series that became visible during a copy, with the last copy that began before.
    new: HashMap<u32, u64>,
}

impl Copies {
    /// Begins a copy.
    pub(crate) fn begin(&mut self, now: UnixNanos) -> u64 {
        self.next += 1;
        self.open.insert(self.next, now);
        self.next
    }

    /// Whether the copy may go on.
    pub(crate) fn is_open(&self, copy: u64) -> bool {
        self.open.contains_key(&copy)
    }

    /// Whether no copy is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn end(&mut self, copy: u64) {
        self.open.remove(&copy);
        self.clear_new();
    }

    /// Aborts copies that take too long.
    pub(crate) fn abort_late(&mut self, now: UnixNanos) {
        self.open.retain(|_, began| *began + MAX_AGE >= now);
        self.clear_new();
    }

    fn clear_new(&mut self) {
        if self.open.is_empty() {
            self.new.clear();
        }
    }

    /// Whether the series became visible after the copy began.
    #[inline]
    pub(crate) fn is_new(&self, index: u32, copy: u64) -> bool {
        !self.new.is_empty() && self.new.get(&index).is_some_and(|since| *since >= copy)
    }

    /// The series becomes visible now.
    pub(crate) fn note(&mut self, index: u32) {
        if !self.open.is_empty() {
            self.new.insert(index, self.next);
        }
    }

    /// The series was removed.
    pub(crate) fn forget(&mut self, index: u32) {
        self.new.remove(&index);
    }
}
