//! Cells: the cumulative state of one series.
//!
//! A number is stored in the slot; other states are allocated separately, so that they cost number series nothing. Values are raw, in
//! the sender's unit; the series' factor converts them to the declared unit in copies, so integers remain exact.

use super::bounds::BoundLists;
use super::explicit::Explicit;
use super::values::{ExponentialCell, SummaryCell};
use crate::row::RowValue;
use dichroic_model::{MetricKind, Number};
use std::sync::Arc;

/// The state of a series.
#[derive(Debug, Clone)]
pub(crate) enum Cell {
    /// Defined, without a point: on no page and in no copy.
    Empty,
    /// A gauge, sum, unknown, info or state.
    Number(Number),
    /// Explicit buckets.
    Histogram(Explicit),
    /// Base-2 exponential buckets, shared with the copies that exporters hold.
    Exponential(Arc<ExponentialCell>),
    /// Quantiles.
    Summary(Box<SummaryCell>),
}

impl Cell {
    /// The cell of a series without a point; retains its bounds.
    pub(super) fn empty(lists: &mut BoundLists, kind: MetricKind, bounds: Option<Arc<[f64]>>) -> Cell {
        match (kind, bounds) {
            (MetricKind::Histogram | MetricKind::GaugeHistogram, Some(bounds)) => {
                let buckets = bounds.len() + 1;
                Cell::Histogram(Explicit::new(buckets, lists.retain(bounds)))
            }
            _ => Cell::Empty,
        }
    }

    /// Releases the bounds of the cell.
    #[inline]
    pub(super) fn release(&self, lists: &mut BoundLists) {
        if let Cell::Histogram(histogram) = self {
            lists.release(histogram.bounds);
        }
    }

    /// A copy for exporters.
    #[inline]
    pub(crate) fn copy(&self, bounds: &BoundLists) -> Option<RowValue> {
        Some(match self {
            Cell::Empty => return None,
            Cell::Number(n) => RowValue::Number(*n),
            Cell::Histogram(h) => RowValue::Histogram(Box::new(h.cell(bounds.get(h.bounds)))),
            Cell::Exponential(e) => RowValue::Exponential(e.clone()),
            Cell::Summary(s) => RowValue::Summary(s.clone()),
        })
    }

    /// Samples of a page that it is made of.
    pub(crate) fn samples(&self) -> u64 {
        let samples = match self {
            Cell::Empty | Cell::Number(_) => 1,
            Cell::Histogram(h) => h.buckets() + 2,
            Cell::Exponential(e) => e.positive.1.len() + e.negative.1.len() + 3,
            Cell::Summary(s) => s.quantiles.len() + 2,
        };
        samples as u64
    }

    /// Bytes besides the slot, for admission.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Cell::Empty | Cell::Number(_) => 0,
            Cell::Histogram(h) => h.heap_bytes(),
            Cell::Exponential(e) => {
                let known = e.known_below.as_deref().map_or(0, size_of_val);
                size_of::<ExponentialCell>() + (e.positive.1.capacity() + e.negative.1.capacity()) * 8 + known
            }
            Cell::Summary(s) => size_of::<SummaryCell>() + s.quantiles.len() * 16,
        }
    }
}
