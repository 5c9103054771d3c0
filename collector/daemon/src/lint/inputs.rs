//! What the series are compared with: the configuration, relays, targets, and what was dropped.

use super::seen::Fired;
use crate::attach::status::AttachStatus;
use dichroic_model::{Pattern, SourceId};
use dichroic_packs::{Metric, Pack, Packs, Selection, Variables};
use dichroic_pipeline::{DropReason, Signal};
use dichroic_receiver_beam::RelayStatus;
use dichroic_receiver_prometheus::scrape::TargetStatus;
use std::collections::BTreeSet;

/// The parts of the configuration that the checks need.
#[derive(Debug, Clone)]
pub struct Config {
    /// Packs and definitions in use.
    pub selection: Selection,
    /// Whether the configuration lists the packs; otherwise all are in use.
    pub chosen: bool,
    /// `exporters.stream.retain`.
    pub retain: Vec<Pattern>,
}

/// What the series are compared with.
pub struct Inputs<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Relays, with the service name of each.
    pub relays: &'a [(RelayStatus, String)],
    /// Scrape targets.
    pub targets: &'a [TargetStatus],
    /// Nodes of `receivers.beam.attach`.
    pub attachments: &'a [AttachStatus],
    /// What was dropped at the ingest hop.
    pub drops: &'a [Drops],
}

/// What was dropped of one source and signal for one reason.
#[derive(Debug, Clone)]
pub struct Drops {
    /// The source.
    pub source: SourceId,
    /// Its name.
    pub name: String,
    /// The signal.
    pub signal: Signal,
    /// The reason.
    pub reason: DropReason,
    /// Number of points, events, log records or spans since the start.
    pub count: u64,
}

impl Inputs<'_> {
    /// A selection of one pack, without the definitions that another selected pack replaces.
    pub(super) fn only(&self, pack: &Pack, node: &Variables) -> Selection {
        let mut pack = pack.clone();
        let packs = &self.config.selection.packs;
        pack.definitions
            .retain(|d| !d.unless.iter().any(|other| packs.in_use(other, node)));
        Selection {
            packs: Packs::of(vec![pack]),
            definitions: Vec::new(),
            variables: self.config.selection.variables.clone(),
        }
    }

    /// The number of events from which a pack has metrics on this node, and those that have given no value.
    pub(super) fn silent_events(
        &self,
        pack: &Pack,
        relay: &RelayStatus,
        app: &str,
        fired: &Fired,
    ) -> (usize, BTreeSet<String>) {
        let metrics = self
            .only(pack, &relay.variables)
            .compile(app, &relay.variables)
            .metrics;
        let all: BTreeSet<String> = metrics.iter().map(|m| m.event.join(".")).collect();
        let mut silent = all.clone();
        for metric in metrics.iter().filter(|m| has_fired(m, fired)) {
            silent.remove(&metric.event.join("."));
        }
        (all.len(), silent)
    }
}

/// Whether the metric has a series: one with its name and all its fixed labels.
pub(super) fn has_fired(metric: &Metric, fired: &Fired) -> bool {
    fired.get(&metric.name).is_some_and(|series| {
        series
            .iter()
            .any(|labels| metric.fixed.iter().all(|fixed| labels.contains(fixed)))
    })
}
