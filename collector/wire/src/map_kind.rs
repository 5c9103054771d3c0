//! The maps of the format: errors name them, and the code of GOODBYE depends on them.

use std::fmt;

/// A map of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapKind {
    /// A body that consists of one map.
    Body,
    /// The fields of HELLO.
    Hello,
    /// The subscription in a subscriber's HELLO.
    Subscribe,
    /// A PLAN.
    Plan,
    /// The `limits` of a PLAN.
    PlanLimits,
    /// An aggregate of a PLAN.
    Aggregate,
    /// A stream of a PLAN.
    Stream,
    /// A carry of a PLAN.
    Carry,
    /// The reply to a PLAN.
    PlanReply,
    /// The definition of a series.
    Series,
    /// The definition of a schema.
    Schema,
    /// The definition of a source.
    Source,
}

impl MapKind {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Hello => "HELLO",
            Self::Subscribe => "subscribe",
            Self::Plan => "PLAN",
            Self::PlanLimits => "limits",
            Self::Aggregate => "aggregate",
            Self::Stream => "stream",
            Self::Carry => "carry",
            Self::PlanReply => "PLAN reply",
            Self::Series => "series",
            Self::Schema => "schema",
            Self::Source => "source",
        }
    }
}

impl fmt::Display for MapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
