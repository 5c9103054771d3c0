//! What outlives a connection: which incarnation of a series the store holds, and counters that the VM has evicted.

use dichroic_model::UnixNanos;
use dichroic_pipeline::{Core, SeriesRef};
use std::collections::{HashMap, HashSet, VecDeque};

/// What is series of a series beyond its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    pub(super) start: UnixNanos,
    pub(super) wraps: i32,
}

/// Counters that the VM evicted. The oldest leave when there are more than the relay may have alive.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    pub(super) order: VecDeque<SeriesRef>,
    pub(super) members: HashSet<SeriesRef>,
}

impl Evicted {
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

    pub(super) fn remove(&mut self, series: SeriesRef) {
        self.members.remove(&series);
    }
}

/// What connections of one node hand on.
#[derive(Debug, Default)]
pub struct RetainedSeries {
    pub(super) series: HashMap<SeriesRef, Retained>,
    pub(super) evicted: Evicted,
}

impl RetainedSeries {
    /// A new incarnation of the node: counters that the old one forgot do not outlive it.
    pub fn new_epoch(&mut self) {
        for series in std::mem::take(&mut self.evicted).members {
            self.series
                .entry(series)
                .or_insert(Retained { start: 0, wraps: 0 });
        }
    }
}
