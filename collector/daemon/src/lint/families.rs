//! Checks of a family: its bounds, unit and labels, and what hides its series.

use super::finding::{Level, POINTS, Problem};
use super::heuristics;
use super::seen::{Family, Label, MANY, VALUES};
use dichroic_model::text::plural_of;
use dichroic_pipeline::HiddenReason;

/// Least number of values that look like ids for a report.
const IDS: usize = 3;
/// Default bounds of OpenTelemetry SDKs, meant for milliseconds.
pub(super) const DEFAULT_BOUNDS: &[f64] = &[
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10_000.0,
];

/// Why a series is not on the page.
pub fn hidden_because(reason: HiddenReason) -> &'static str {
    match reason {
        HiddenReason::LabelText => "another series differs only in the types of its attributes",
        HiddenReason::MetricName => "another metric has the same name and labels there",
        HiddenReason::Source => "another source has a series with the same name and labels",
        HiddenReason::Superseded => "a process with the same identity has replaced theirs",
    }
}

impl Family {
    pub(super) fn problems(&self, name: &str) -> Vec<Problem> {
        let mut all = Vec::new();
        all.extend(self.bounds());
        let exponential = self.exponential.iter();
        all.extend(exponential.flat_map(|noted| noted.problems(|bound| self.with_unit(bound))));
        all.extend(self.forbidden.clone());
        all.extend(self.unit(name));
        all.extend(self.labels.iter().filter_map(|(label, seen)| seen.problem(label)));
        for (reason, series) in &self.hidden {
            let message = format!(
                "{} not on the page: {}; add a label that distinguishes them",
                plural_of(*series, "series is", "series are"),
                hidden_because(*reason)
            );
            all.push((Level::Warning, "label_collision", message));
        }
        if self.lost_bounds {
            let message = "points of one histogram have several lists of bounds, so only the bounds that all have in common are kept; set one list, in the SDK or in a view".to_owned();
            all.push((Level::Warning, "changed_bounds", message));
        }
        if self.share_start {
            let message = "several processes write one series with one start time or none, so each point replaces the total of another process; give each process its own `service.instance.id`, and set the SDK up after the fork".to_owned();
            all.push((Level::Warning, "shared_start", message));
        }
        if self.writers > 1 {
            let message = format!(
                "{} processes write one series, whose totals are added up; give each process its own `service.instance.id`",
                self.writers
            );
            all.push((Level::Warning, "several_writers", message));
        }
        all
    }

    fn bounds(&self) -> Option<Problem> {
        let bounds = self.bounds.as_deref()?;
        let default = bounds == DEFAULT_BOUNDS || bounds == &DEFAULT_BOUNDS[1..];
        if default && self.unit == "s" {
            let message = "recorded in seconds with the SDK's default bounds, which are meant for milliseconds: all values below 5 s are in one bucket; set explicit bounds, or a view with exponential buckets".to_owned();
            return Some((Level::Warning, "default_bounds", message));
        }
        if self.points < POINTS {
            return None;
        }
        let (first, last) = (*bounds.first()?, *bounds.last()?);
        let mean = self.sum / self.points as f64;
        if self.above == self.points {
            let message = format!(
                "all {} values are above the last bound, {}; check the unit, or raise the bounds",
                self.points,
                self.with_unit(last)
            );
            return Some((Level::Warning, "outside_bounds", message));
        }
        // Values below the first bound can be intended; values a thousand times smaller are not.
        if self.below == self.points && first > 0.0 && mean < first / 1000.0 {
            let message = format!(
                "all {} values are far below the first bound, {}: their mean is {mean:e}; check the unit, or lower the bounds",
                self.points,
                self.with_unit(first)
            );
            return Some((Level::Warning, "outside_bounds", message));
        }
        None
    }

    fn with_unit(&self, bound: f64) -> String {
        format!("{bound} {}", self.unit).trim_end().to_owned()
    }

    fn unit(&self, name: &str) -> Option<Problem> {
        let word = heuristics::unit_in_name(name).filter(|_| !self.named_here)?;
        if self.verbatim {
            let message = format!(
                "the name ends with the unit {word}; use base units (seconds, bytes), so that dashboards and rules can be shared"
            );
            return Some((Level::Note, "unit_in_name", message));
        }
        let message = match self.unit.as_str() {
            "" => format!(
                "the name ends with the unit {word}, but the metric has no unit; declare the unit, and remove it from the name"
            ),
            unit => format!(
                "the name ends with the unit {word}, but the metric is exported in {unit}; remove the unit from the name"
            ),
        };
        Some((Level::Warning, "unit_in_name", message))
    }
}

impl Label {
    fn problem(&self, name: &str) -> Option<Problem> {
        let ids: usize = self.ids.values().sum();
        if ids >= IDS && ids * 2 >= self.values.len() {
            let kind = self
                .ids
                .iter()
                .max_by_key(|(_, n)| **n)
                .map_or("ids", |(kind, _)| *kind);
            let example = self.values.iter().filter(|v| heuristics::id(v).is_some()).min()?;
            let message = format!(
                "values of label {name} look like {kind} ({} values, such as {example:?}), so the number of series is unbounded; remove the label, or limit it to a list of values",
                self.values.len()
            );
            return Some((Level::Warning, "cardinality", message));
        }
        if self.values.len() > MANY {
            let at_least = if self.values.len() >= VALUES {
                "at least "
            } else {
                ""
            };
            let message = format!(
                "label {name} has {at_least}{} values; each adds a series, and a dozen to a histogram; remove the label, or limit it to a list of values",
                self.values.len()
            );
            return Some((Level::Warning, "cardinality", message));
        }
        None
    }
}
