//! What one snapshot of all series has: its families with their labels and bounds, and the metrics of each relay.

use super::finding::Problem;
use super::{heuristics, page};
use dichroic_model::{NameStyle, Protocol, SourceId};
use dichroic_pipeline::{HiddenReason, Row, RowValue};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Values that are recorded for each label of a metric.
pub(super) const VALUES: usize = 10_000;
/// More values of a label than this are reported.
pub(super) const MANY: usize = 200;

/// The data of one snapshot of all series.
#[derive(Default)]
pub struct Seen {
    /// By metric and source.
    pub(super) families: BTreeMap<(String, String), Family>,
    /// By the name of the family on the page.
    pub(super) lists: BTreeMap<String, page::BoundLists>,
    /// Series of relays.
    pub(super) fired: BTreeMap<SourceId, Fired>,
}

/// Attributes of each series, by the name of its metric.
pub(super) type Fired = BTreeMap<String, Vec<Vec<(String, String)>>>;

#[derive(Default)]
pub(super) struct Family {
    pub(super) unit: String,
    pub(super) verbatim: bool,
    /// A verbatim name from a pack or a definition.
    pub(super) named_here: bool,
    pub(super) hidden: BTreeMap<HiddenReason, u64>,
    /// Most processes that write one of its series.
    pub(super) writers: usize,
    pub(super) share_start: bool,
    pub(super) lost_bounds: bool,
    pub(super) bounds: Option<Arc<[f64]>>,
    pub(super) exponential: Option<page::Exponential>,
    /// A value that makes its family one of unknown type.
    pub(super) forbidden: Option<Problem>,
    pub(super) below: u64,
    pub(super) above: u64,
    pub(super) points: u64,
    pub(super) sum: f64,
    pub(super) labels: BTreeMap<String, Label>,
}

#[derive(Default)]
pub(super) struct Label {
    pub(super) values: HashSet<String>,
    pub(super) ids: BTreeMap<&'static str, usize>,
}

impl Seen {
    /// Records one series. Self telemetry is skipped.
    pub fn note(&mut self, row: &Row) {
        let (metric, source) = (&row.meta.metric, &row.meta.source);
        if source.spec.protocol == Protocol::Internal {
            return;
        }
        let key = (metric.name.clone(), source.name().to_owned());
        let family = self.families.entry(key).or_default();
        family.unit.clone_from(&metric.unit);
        family.verbatim = metric.style != NameStyle::OpenTelemetry;
        family.named_here = family.verbatim && source.spec.protocol == Protocol::Beam;
        if let Some(reason) = row.hidden.filter(|reason| *reason != HiddenReason::Superseded) {
            *family.hidden.entry(reason).or_default() += 1;
        }
        family.writers = family.writers.max(row.writers);
        family.share_start |= row.share_start;
        family.lost_bounds |= row.lost_bounds;
        if let RowValue::Histogram(cell) = &row.value {
            let ends = (cell.counts.first(), cell.counts.last());
            family.below = family.below.saturating_add(ends.0.copied().unwrap_or(0));
            family.above = family.above.saturating_add(ends.1.copied().unwrap_or(0));
            family.points = family.points.saturating_add(cell.count());
            family.sum += cell.sum.map_or(0.0, |sum| row.meta.factor.apply(sum.to_f64()));
            family.bounds = Some(cell.bounds.clone());
        }
        if let RowValue::Exponential(cell) = &row.value
            && let Some(classic) = metric.family.classic_bounds()
        {
            let noted = family
                .exponential
                .get_or_insert_with(|| page::Exponential::new(classic));
            noted.note(cell, &row.meta);
        }
        if matches!(row.value, RowValue::Histogram(_) | RowValue::Exponential(_)) {
            let page = metric.family.page.base.clone();
            self.lists.entry(page).or_default().note(row);
        }
        family.forbidden = family.forbidden.take().or_else(|| page::forbidden(row));
        for (name, value) in row.meta.pairs() {
            let label = family.labels.entry(name.to_owned()).or_default();
            let value = value.render();
            if label.values.len() >= VALUES || !label.values.insert(value.as_ref().to_owned()) {
                continue;
            }
            if let Some(kind) = heuristics::id(&value) {
                *label.ids.entry(kind).or_default() += 1;
            }
        }
        self.note_fired(row);
    }

    /// Records which metrics of a relay have a value.
    pub fn note_fired(&mut self, row: &Row) {
        let (metric, source) = (&row.meta.metric, &row.meta.source);
        if source.spec.protocol != Protocol::Beam {
            return;
        }
        let attributes = row.meta.pairs();
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value.render().into_owned()));
        let series = self.fired.entry(source.id).or_default();
        let series = series.entry(metric.name.clone()).or_default();
        // This many suffice to distinguish the definitions of one name.
        if series.len() < MANY {
            series.push(attributes.collect());
        }
    }
}
