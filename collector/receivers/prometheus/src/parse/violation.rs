//! Violations of OpenMetrics that Prometheus accepts, counted by reason.

use serde::Serialize;

use super::error::{Fault, ParseError, fault};

/// A rule of OpenMetrics that Prometheus does not enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Violation {
    /// A comma after the last label, or a quoted name that the content type does not announce.
    Syntax,
    /// Metadata twice, or of a type that does not have it.
    Metadata,
    /// Two families share a sample name, or the samples of a family are not contiguous.
    Families,
    /// The samples of one metric are not contiguous.
    Order,
    /// A counter without `_total`.
    Suffix,
    /// Timestamps that decrease, or on some samples of a metric only.
    Timestamps,
    /// A value that the type forbids: a negative or NaN count or sum, an info other than 1.
    Values,
    /// Buckets that are not sorted, not cumulative or incomplete, or a count or sum that does not fit them.
    Histogram,
    /// A bucket, quantile or state without its label.
    Labels,
    /// A misplaced or too long exemplar.
    Exemplars,
    /// Samples that do not form a complete histogram, summary, info or state; they are kept one by one, with unknown type.
    Incomplete,
}

impl Violation {
    /// All of them, in the order of their declaration.
    pub const ALL: &'static [Self] = &[
        Self::Syntax,
        Self::Metadata,
        Self::Families,
        Self::Order,
        Self::Suffix,
        Self::Timestamps,
        Self::Values,
        Self::Histogram,
        Self::Labels,
        Self::Exemplars,
        Self::Incomplete,
    ];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Metadata => "metadata",
            Self::Families => "families",
            Self::Order => "order",
            Self::Suffix => "suffix",
            Self::Timestamps => "timestamps",
            Self::Values => "values",
            Self::Histogram => "histogram",
            Self::Labels => "labels",
            Self::Exemplars => "exemplars",
            Self::Incomplete => "incomplete",
        }
    }
}

const REASONS: usize = Violation::ALL.len();

/// The violations of one page: how many of each reason, and where the first is.
#[derive(Debug, Default, Clone)]
pub struct Violations {
    counts: [u64; REASONS],
    first: [Option<(Fault, usize)>; REASONS],
}

impl Violations {
    pub(crate) fn note(&mut self, violation: Violation, fault: Fault, at: usize) {
        let reason = violation as usize;
        self.counts[reason] += 1;
        self.first[reason].get_or_insert((fault, at));
    }

    /// Counts a sample at byte `at` as one of an incomplete point.
    pub(crate) fn incomplete(&mut self, at: usize) {
        let problem = "no whole histogram, summary, info or state";
        let help = "its samples are kept one by one, with unknown type; write all its parts, with values that fit each other";
        self.note(Violation::Incomplete, fault(problem, help), at);
    }

    /// Each reason that occurred, with its count and its first place on the page.
    pub fn on(&self, page: &[u8]) -> Vec<(Violation, u64, ParseError)> {
        let seen = Violation::ALL.iter().filter_map(|&violation| {
            let (fault, at) = self.first[violation as usize]?;
            Some((violation, self.counts[violation as usize], fault.at(page, at)))
        });
        seen.collect()
    }
}
