//! The items of a page: metadata and samples that borrow from it.

use super::escaped::Escaped;
use super::family::{FamilyKind, Role};
use super::labels::Labels;

/// One line of a page; comments and blank lines are skipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// `# TYPE name kind`
    Type {
        /// Name of the family.
        family: Escaped<'a>,
        /// Its type.
        kind: FamilyKind,
    },
    /// `# HELP name text`
    Help {
        /// Name of the family.
        family: Escaped<'a>,
        /// Its description.
        text: Escaped<'a>,
    },
    /// `# UNIT name unit`, in OpenMetrics only.
    Unit {
        /// Name of the family.
        family: Escaped<'a>,
        /// Its unit.
        unit: &'a str,
    },
    /// A value of one series.
    Sample(Sample<'a>),
}

/// One sample line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// Name and labels.
    pub series: Series<'a>,
    /// The family by its `# TYPE` line; the name of the sample without one.
    pub family: Escaped<'a>,
    /// The type of the family.
    pub kind: FamilyKind,
    /// The role of the sample within its family.
    pub role: Role,
    /// The value.
    pub value: f64,
    /// The timestamp in nanoseconds since the epoch, if there is one.
    pub timestamp_ns: Option<i64>,
    /// The exemplar, in OpenMetrics only.
    pub exemplar: Option<Exemplar<'a>>,
}

/// Name and labels of a sample line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series<'a> {
    /// `name{...}` as written; equal bytes are the same series.
    pub raw: &'a [u8],
    /// The metric name.
    pub name: Escaped<'a>,
    /// The labels, without the name.
    pub labels: Labels<'a>,
}

/// An OpenMetrics exemplar: `# {trace_id="…"} value [time]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar<'a> {
    /// Its labels.
    pub labels: Labels<'a>,
    /// Its value.
    pub value: f64,
    /// Its timestamp in nanoseconds since the epoch, if there is one.
    pub timestamp_ns: Option<i64>,
}
