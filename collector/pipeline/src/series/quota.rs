//! Limits that a series counts against.

/// Which limits apply to a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    /// All.
    Limited,
    /// The overflow series of a metric. Only the memory limit applies, because it is needed when another limit is reached.
    Overflow,
    /// A series about the collector or about a scrape ([`crate::Core::define_report`]). None applies, because it states that a limit is
    /// reached.
    Report,
}
