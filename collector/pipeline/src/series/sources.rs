//! Open and lingering sources, each with its series.

use super::metric::MetricId;
use super::quota::Quota;
use crate::hash::HashMap;
use dichroic_model::{Expiry, Fingerprint, Protocol, Source, SourceId, SourceSpec, UnixNanos};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of one source.
pub(crate) struct SourceState {
    pub(crate) source: Arc<Source>,
    /// Hashes of its labels on pages, without and with `runtime`.
    pub(crate) labels: [Fingerprint; 2],
    /// Whether it has had a series with these labels.
    pub(crate) joined: [bool; 2],
    /// Slots of its series, in any order.
    pub(crate) slots: Vec<u32>,
    by_metric: HashMap<MetricId, usize>,
    /// Number of its series that are exempt from the limits.
    pub(crate) reports: usize,
    /// On the steady clock.
    pub(crate) ended: Option<UnixNanos>,
    bytes: usize,
}

impl SourceState {
    /// Number of series of one metric.
    pub(crate) fn series_of_metric(&self, metric: MetricId) -> usize {
        self.by_metric.get(&metric).copied().unwrap_or(0)
    }

    fn is_due(&self, now: UnixNanos) -> bool {
        let Some(ended) = self.ended else { return false };
        match self.source.spec.expiry {
            Expiry::ByReceiver => true,
            Expiry::AfterEnd(wait) => ended + wait < now,
            Expiry::AfterIdle(_) => self.slots.is_empty(),
        }
    }
}

pub(crate) struct Sources {
    by_id: BTreeMap<SourceId, SourceState>,
    by_key: HashMap<(Protocol, Vec<u8>), SourceId>,
    next: u32,
    shortest_idle: UnixNanos,
    bytes: usize,
}

impl Sources {
    pub(crate) fn new() -> Self {
        Sources {
            by_id: BTreeMap::new(),
            by_key: HashMap::default(),
            next: 0,
            shortest_idle: UnixNanos::MAX,
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The shortest idle time after which a series of any source expires.
    pub(crate) fn shortest_idle(&self) -> UnixNanos {
        self.shortest_idle
    }

    pub(crate) fn get(&self, id: SourceId) -> Option<&SourceState> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: SourceId) -> Option<&mut SourceState> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SourceState> {
        self.by_id.values()
    }

    /// The source with the key of this spec.
    pub(crate) fn find(&mut self, spec: &SourceSpec) -> Option<&mut SourceState> {
        let id = self.by_key.get(&(spec.protocol, spec.key.clone()))?;
        self.by_id.get_mut(id)
    }

    /// Accounted bytes of a new source.
    pub(crate) fn cost(spec: &SourceSpec) -> usize {
        size_of::<SourceState>() + 512 + 2 * spec.key.len() + spec.resource.as_bytes().len()
    }

    /// Adds a source. Its key must be new.
    pub(crate) fn add(&mut self, spec: SourceSpec) -> Arc<Source> {
        let id = SourceId(self.next);
        self.next += 1;
        if let Expiry::AfterIdle(idle) = spec.expiry {
            self.shortest_idle = self.shortest_idle.min(idle);
        }
        let bytes = Self::cost(&spec);
        self.by_key.insert((spec.protocol, spec.key.clone()), id);
        let source = Arc::new(Source { id, spec });
        let state = SourceState {
            source: source.clone(),
            labels: [Fingerprint { low: 0, high: 0 }; 2],
            joined: [false; 2],
            slots: Vec::new(),
            by_metric: HashMap::default(),
            reports: 0,
            ended: None,
            bytes,
        };
        self.bytes += bytes;
        self.by_id.insert(id, state);
        source
    }

    /// Removes a source. Returns the hashes of its labels.
    pub(crate) fn remove(&mut self, id: SourceId) -> Option<[Fingerprint; 2]> {
        let state = self.by_id.remove(&id)?;
        self.bytes -= state.bytes;
        let spec = &state.source.spec;
        self.by_key.remove(&(spec.protocol, spec.key.clone()));
        Some(state.labels)
    }

    /// Adds a series to an existing source. Returns its position among the source's series.
    pub(crate) fn add_series(&mut self, id: SourceId, metric: MetricId, quota: Quota, slot: u32) -> u32 {
        let state = self.by_id.get_mut(&id).expect("define found the source");
        state.reports += usize::from(quota == Quota::Report);
        state.slots.push(slot);
        *state.by_metric.entry(metric).or_default() += 1;
        (state.slots.len() - 1) as u32
    }

    /// Removes the series at a position. Returns the slot that has the position now.
    pub(crate) fn remove_series(
        &mut self,
        id: SourceId,
        metric: MetricId,
        quota: Quota,
        position: u32,
    ) -> Option<u32> {
        let state = self.by_id.get_mut(&id)?;
        state.reports -= usize::from(quota == Quota::Report);
        state.slots.swap_remove(position as usize);
        if let Some(n) = state.by_metric.get_mut(&metric) {
            *n -= 1;
            if *n == 0 {
                state.by_metric.remove(&metric);
            }
        }
        state.slots.get(position as usize).copied()
    }

    /// Sources whose series expire now.
    pub(crate) fn due(&self, now: UnixNanos) -> Vec<SourceId> {
        self.by_id
            .values()
            .filter(|state| state.is_due(now))
            .map(|state| state.source.id)
            .collect()
    }
}

/// Whether two specs have the same identity on pages.
pub(crate) fn same_identity(a: &SourceSpec, b: &SourceSpec) -> bool {
    (&a.job, &a.instance, &a.resource, &a.labels) == (&b.job, &b.instance, &b.resource, &b.labels)
        && (a.runtime, a.honor_labels) == (b.runtime, b.honor_labels)
}
