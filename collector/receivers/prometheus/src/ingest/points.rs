//! The memory of a page: its lines, and the points they make up.

use dichroic_model::Fingerprint;
use dichroic_pipeline::{Core, DropReason, SeriesRef};
use hashbrown::HashTable;
use serde::Serialize;

use crate::parse::{FamilyKind, ParseError, Violation};

/// A rule that a page violates although it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PageViolation {
    /// The rule.
    pub reason: Violation,
    /// How often.
    pub count: u64,
    /// Where first, and what to do.
    pub first: String,
}

impl From<(Violation, u64, ParseError)> for PageViolation {
    fn from((reason, count, first): (Violation, u64, ParseError)) -> Self {
        Self {
            reason,
            count,
            first: first.to_string(),
        }
    }
}

/// Marks a missing line or list.
pub(super) const NONE: u32 = u32::MAX;

/// A sample without a timestamp.
pub(super) const NO_TIME: i64 = i64::MIN;

/// One sample line, in the order of the page. Kept small: there is one per sample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Fingerprint of `name{...}` as written.
    pub fp: Fingerprint,
    pub value: f64,
}

/// Lines that are one data point: a number, or the parts of a histogram or summary.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// Fingerprint of family, labels and bounds: the key in the store.
    pub fp: Fingerprint,
    /// Its series in the store, or why it has none.
    pub series: Result<SeriesRef, DropReason>,
    pub kind: FamilyKind,
    /// The value; the count of a histogram or summary.
    pub main: u32,
    pub sum: u32,
    /// The line with its start time.
    pub created: u32,
    /// The list of its bounds or quantiles in [`Memory::bounds`], or [`NONE`].
    pub bounds: u32,
    /// Index of its first line in [`Memory::parts`]; the others follow.
    pub parts: u32,
    /// Number of its lines.
    pub samples: u32,
}

impl Point {
    pub fn expire(&self, store: &mut Core) {
        if let Ok(series) = self.series {
            store.expire(series);
        }
    }

    pub fn is_histogram(&self) -> bool {
        matches!(self.kind, FamilyKind::Histogram | FamilyKind::GaugeHistogram)
    }
}

/// The last page.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub lines: Vec<Line>,
    /// Timestamps of the lines, [`NO_TIME`] for those without; empty if no line has one.
    pub times: Vec<i64>,
    /// A bit per line: whether the current replay has seen it.
    pub seen: Vec<u64>,
    /// Lines by fingerprint, for text pages, whose order may change.
    pub index: HashTable<u32>,
    pub points: Vec<Point>,
    /// Lines of buckets and quantiles.
    pub parts: Vec<u32>,
    /// Distinct lists of bounds or quantiles, ascending.
    pub bounds: Vec<Box<[f64]>>,
    /// Hash over all lines that begin with `#`.
    pub comments: u64,
    pub openmetrics: bool,
    /// Points with a value that OpenMetrics forbids. A replay must find the same.
    pub odd: Vec<u32>,
    /// Violations of OpenMetrics on the page.
    pub violations: Vec<PageViolation>,
    /// Whether a replay can replace parsing. Not if a series was rejected (it may be admitted now), or if a sample has parts that
    /// only the parser reads.
    pub replayable: bool,
}

impl Memory {
    pub fn find(&self, fp: Fingerprint) -> Option<u32> {
        self.index
            .find(fp.low, |&line| self.lines[line as usize].fp == fp)
            .copied()
    }

    pub fn insert(&mut self, line: Line, time: Option<i64>) -> u32 {
        let at = self.lines.len() as u32;
        self.lines.push(line);
        if time.is_some() || !self.times.is_empty() {
            self.times.resize(self.lines.len(), NO_TIME);
            self.set_time(at, time.unwrap_or(NO_TIME));
        }
        let lines = &self.lines;
        self.index
            .insert_unique(line.fp.low, at, |&line| lines[line as usize].fp.low);
        at
    }

    pub fn time(&self, line: u32) -> i64 {
        self.times.get(line as usize).copied().unwrap_or(NO_TIME)
    }

    pub fn set_time(&mut self, line: u32, time: i64) {
        if time != NO_TIME && self.times.is_empty() {
            self.times.resize(self.lines.len(), NO_TIME);
        }
        if let Some(slot) = self.times.get_mut(line as usize) {
            *slot = time;
        }
    }

    pub fn bounds_of(&self, point: &Point) -> &[f64] {
        self.bounds
            .get(point.bounds as usize)
            .map_or(&[], |bounds| bounds)
    }

    /// The lines of its buckets or quantiles, in the order of [`Memory::bounds_of`].
    pub fn parts_of(&self, point: &Point) -> &[u32] {
        let (first, count) = (point.parts as usize, self.bounds_of(point).len());
        &self.parts[first..first + count]
    }

    /// The value of a line, if there is one.
    pub fn value(&self, line: u32) -> Option<f64> {
        self.lines.get(line as usize).map(|line| line.value)
    }
}
