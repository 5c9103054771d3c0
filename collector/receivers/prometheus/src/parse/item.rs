//! What a parser returns: metadata and samples that borrow from the page.

use super::escaped::Escaped;
use super::family::{FamilyKind, Role};
use super::labels::Labels;

/// One line of a page that carries meaning; comments and blank lines are passed over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'a> {
    /// `# TYPE name kind`
    Type { family: Escaped<'a>, kind: FamilyKind },
    /// `# HELP name text`
    Help { family: Escaped<'a>, text: Escaped<'a> },
    /// `# UNIT name unit`, in OpenMetrics only.
    Unit { family: Escaped<'a>, unit: &'a str },
    /// A value of one series.
    Sample(Sample<'a>),
}

/// One sample line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    pub series: Series<'a>,
    /// The family the sample belongs to, as its `# TYPE` line names it; the sample's own name if no line does.
    pub family: Escaped<'a>,
    pub kind: FamilyKind,
    /// What the sample is within its family.
    pub role: Role,
    pub value: f64,
    /// Nanoseconds since the epoch, if the line has a time.
    pub timestamp_ns: Option<i64>,
    pub exemplar: Option<Exemplar<'a>>,
}

/// Name and labels of a sample line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series<'a> {
    /// `name{...}` as it stands in the page: the same bytes always mean the same series.
    pub raw: &'a [u8],
    pub name: Escaped<'a>,
    pub labels: Labels<'a>,
}

/// An OpenMetrics exemplar: `# {trace_id="…"} value [time]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar<'a> {
    pub labels: Labels<'a>,
    pub value: f64,
    pub timestamp_ns: Option<i64>,
}
