//! What outlives a connection: which incarnation of a series the store holds, and counters that the VM has evicted.

use dichroic_model::UnixNanos;
use dichroic_pipeline::{Core, SeriesRef};
use std::collections::{HashMap, HashSet, VecDeque};

/// What is held of a series beyond its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub(super) start: UnixNanos,
    pub(super) wraps: i32,
}

/// Counters that the VM evicted. The oldest leave when there are more than the relay may have alive.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    pub(super) order: VecDeque<SeriesRef>,
    pub(super) members: HashSet<SeriesRef>,
}

impl Forgotten {
    pub(super) fn add(&mut self, series: SeriesRef, max: usize, store: &mut Core) {
        if self.members.insert(series) {
            self.order.push_back(series);
        }
        while self.order.len() > max {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if self.members.remove(&oldest) {
                store.expire(oldest);
            }
        }
    }

    pub(super) fn back(&mut self, series: SeriesRef) {
        self.members.remove(&series);
    }
}

/// What connections of one node hand on.
#[derive(Debug, Default)]
pub struct Legacy {
    pub(super) held: HashMap<SeriesRef, Held>,
    pub(super) forgotten: Forgotten,
}

impl Legacy {
    /// A new incarnation of the node: counters that the old one forgot do not outlive it.
    pub fn new_epoch(&mut self) {
        for series in std::mem::take(&mut self.forgotten).members {
            self.held.entry(series).or_insert(Held { start: 0, wraps: 0 });
        }
    }
}
