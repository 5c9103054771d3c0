//! Checks of how pages show histograms and counters.

use super::finding::{Level, POINTS, Problem};
use dichroic_model::PageType;
use dichroic_pipeline::classic::ClassicCounts;
use dichroic_pipeline::{ClassicBounds, ExponentialCell, Row, RowValue, SeriesMeta};
use std::sync::Arc;

/// Lists of bounds that are recorded for each family.
const LISTS: usize = 5;

/// The bounds of one family on the page.
#[derive(Default)]
pub(super) struct BoundLists {
    /// Different lists of explicit histograms, at most [`LISTS`].
    explicit: Vec<Arc<[f64]>>,
    /// The list of the family, if it has exponential histograms.
    classic: Option<Arc<[f64]>>,
    /// The next page includes more explicit bounds.
    is_pending: bool,
}

impl BoundLists {
    pub(super) fn note(&mut self, row: &Row) {
        if let RowValue::Histogram(cell) = &row.value
            && self.explicit.len() < LISTS
            && !self.explicit.contains(&cell.bounds)
        {
            self.explicit.push(cell.bounds.clone());
        }
        let family = &row.meta.metric.family;
        if let Some(classic) = family.classic_bounds() {
            self.is_pending |= classic.lists < family.explicit_bounds().count();
            self.classic = Some(classic.bounds);
        }
    }

    pub(super) fn problem(&self) -> Option<(Level, &'static str, String)> {
        let Some(classic) = &self.classic else {
            let message = "its histograms have different bounds, so that a sum over `le` is wrong; give all of them the same bounds";
            return (self.explicit.len() > 1).then(|| (Level::Note, "mixed_bounds", message.to_owned()));
        };
        let is_shown = |list: &Arc<[f64]>| list.iter().all(|bound| classic.contains(bound));
        if !self.is_pending && !self.explicit.iter().all(is_shown) {
            let message = "it has exponential histograms and explicit ones whose bounds do not fit into one list, so that a sum over `le` is wrong; give the explicit histograms the same bounds, then restart the collector";
            return Some((Level::Warning, "mixed_bounds", message.to_owned()));
        }
        let message = "its explicit histograms have different bounds; pages show all of them at all bounds, but at a bound that a histogram lacks, it counts only values below its next lower bound; give all of them the same bounds";
        (self.explicit.len() > 1).then(|| (Level::Note, "mixed_bounds", message.to_owned()))
    }
}

/// The exponential histograms of one metric and source.
pub(super) struct Exponential {
    classic: ClassicBounds,
    counts: ClassicCounts,
    /// Values, and those above the last bound.
    points: u64,
    above: u64,
}

impl Exponential {
    pub(super) fn new(classic: ClassicBounds) -> Self {
        Exponential {
            classic,
            counts: ClassicCounts::default(),
            points: 0,
            above: 0,
        }
    }

    pub(super) fn note(&mut self, cell: &ExponentialCell, meta: &SeriesMeta) {
        let counts = self.counts.counts(cell, meta.factor, &self.classic.bounds);
        self.above = self.above.saturating_add(counts.last().copied().unwrap_or(0));
        self.points = self.points.saturating_add(cell.count());
    }

    pub(super) fn problems(&self, with_unit: impl Fn(f64) -> String) -> Vec<Problem> {
        let mut all = Vec::new();
        let ClassicBounds { bounds, ends, .. } = &self.classic;
        let (Some(first), Some(last)) = (bounds.first().copied(), bounds.last().copied()) else {
            return all;
        };
        let outside = |bound: &&f64| **bound < ends.0 || **bound > ends.1;
        let added = bounds.iter().filter(outside).count();
        if added > 0 {
            let message = format!(
                "exponential histogram, shown with {} bounds from {} to {}: {added} were added because values lie outside of the standard ones; check the unit if these values are not expected",
                bounds.len(),
                with_unit(first),
                with_unit(last),
            );
            all.push((Level::Note, "added_bounds", message));
        }
        if self.above > 0 {
            let level = if self.points >= POINTS && self.above == self.points {
                Level::Warning
            } else {
                Level::Note
            };
            let message = format!(
                "exponential histogram: {} of {} values are above the last bound of the page, {}, and count only in +Inf; bounds are added far away only where many values lie; check the unit, and the program for wrong values",
                self.above,
                self.points,
                with_unit(last),
            );
            all.push((level, "outside_bounds", message));
        }
        all
    }
}

/// What OpenMetrics forbids of a row, so that its family has type unknown there.
pub(super) fn forbidden(row: &Row) -> Option<Problem> {
    let family = &row.meta.metric.family;
    let scaled = |value: f64| row.meta.factor.apply(value);
    let is_unfit = |value: f64| value.is_nan() || value < 0.0;
    if row.hidden.is_some() {
        return None;
    }
    let (level, what) = match (&row.value, family.kind) {
        (RowValue::Number(value), PageType::Counter) if family.page.total => {
            let what =
                is_unfit(scaled(value.to_f64())).then_some("a counter that is negative or not a number");
            (Level::Warning, what?)
        }
        (RowValue::Summary(cell), _) => {
            let unfit =
                is_unfit(scaled(cell.sum.to_f64())) || cell.quantiles.iter().any(|(_, value)| *value < 0.0);
            (Level::Note, unfit.then_some("a summary with negative values")?)
        }
        (RowValue::Histogram(cell), PageType::Histogram) => (
            Level::Note,
            unfit_histogram(cell.sum.map(|sum| scaled(sum.to_f64())), &cell.bounds)?,
        ),
        (RowValue::Exponential(cell), PageType::Histogram) => {
            let classic = family.classic_bounds()?;
            (
                Level::Note,
                unfit_histogram(cell.sum.map(|sum| scaled(sum.to_f64())), &classic.bounds)?,
            )
        }
        _ => return None,
    };
    let message = format!(
        "{what}, which OpenMetrics forbids: there all series of {} have type unknown, while text pages keep the type; correct the value, or use a kind of instrument that allows it",
        family.page.base
    );
    Some((level, "forbidden_value", message))
}

fn unfit_histogram(sum: Option<f64>, bounds: &[f64]) -> Option<&'static str> {
    match sum {
        None => Some("a histogram without a sum"),
        Some(sum) if sum.is_nan() || sum < 0.0 => Some("a histogram whose sum is negative or not a number"),
        Some(_) => bounds
            .first()
            .is_some_and(|bound| *bound < 0.0)
            .then_some("a histogram with negative bounds, whose sum may fall"),
    }
}
