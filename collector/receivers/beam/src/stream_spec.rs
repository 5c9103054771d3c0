//! One stream of rows that a plan can request: raw events of one name, or log records.

use crate::config::Config;
use dichroic_model::{EventKind, Pattern};
use dichroic_pipeline::Interest;
use dichroic_wire::plan::{Condition, Expression};
use dichroic_wire::{StreamEntry, StreamKind};

/// A stream that a plan can request.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSpec {
    /// Event or log.
    pub kind: EventKind,
    /// Schema id in the plan: a hash of its names, so that the relay's account of its rows has the same meaning for a later
    /// collector.
    pub schema: u32,
    /// Dotted name.
    pub name: String,
    /// (name, unit) of each measurement.
    pub measurements: Vec<(String, String)>,
    /// Names of the metadata columns.
    pub metadata: Vec<String>,
    pub(crate) event: Vec<String>,
    pub(crate) columns: Vec<Expression>,
    pub(crate) keep: Vec<Condition>,
}

impl StreamSpec {
    /// Whether a subscriber or the configuration requests it.
    pub fn wanted(&self, config: &Config, interest: &Interest) -> bool {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&self.name));
        match self.kind {
            EventKind::Event => matches(&interest.events) || matches(&config.retain),
            EventKind::Log => config.logs.retain || matches(&interest.logs),
        }
    }

    /// The entry of the plan.
    pub fn entry(&self) -> StreamEntry {
        StreamEntry {
            schema: self.schema,
            kind: match self.kind {
                EventKind::Event => StreamKind::Event,
                EventKind::Log => StreamKind::Log,
            },
            event: self.event.clone(),
            columns: self.columns.clone(),
            keep: self.keep.clone(),
            sample: None,
            numbers: match self.kind {
                EventKind::Event => self.measurements.len() as u32,
                EventKind::Log => 0,
            },
        }
    }
}
