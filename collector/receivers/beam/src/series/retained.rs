//! State of series that outlives a connection: the incarnation in the store, and counters that the VM has evicted.

use dichroic_model::UnixNanos;
use dichroic_pipeline::{Core, SeriesRef};
use std::collections::{HashMap, HashSet, VecDeque};

/// State of one series beyond its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    pub(super) start: UnixNanos,
}

/// Counters that the VM evicted. The oldest expire when there are more than the relay's limit of live series.
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

/// State of series passed from one connection of a node to the next.
#[derive(Debug, Default)]
pub struct RetainedSeries {
    pub(super) series: HashMap<SeriesRef, Retained>,
    pub(super) evicted: Evicted,
}

impl RetainedSeries {
    /// A new incarnation of the node: counters that the previous one evicted expire unless it defines them.
    pub fn new_epoch(&mut self) {
        for series in std::mem::take(&mut self.evicted).members {
            self.series.entry(series).or_insert(Retained { start: 0 });
        }
    }
}
