//! The rows that a subscriber claims: delivered, or in a gap.

use super::gap::Gap;
use dichroic_model::{SourceId, UnixNanos};

/// Since when a subscriber claims the rows of nodes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Claim {
    /// From now on; the rows of a node that was connected before, as soon as it sends them.
    Live(UnixNanos),
    /// From this time on.
    Time(UnixNanos),
    /// Everything behind a cursor.
    Cursor {
        /// The start of a gap that began at an unknown time.
        earliest: UnixNanos,
        /// The cursor is of an earlier collector, to which nodes sent rows until it ended.
        restarted: bool,
    },
}

impl Claim {
    /// The claimed part of a gap.
    pub fn part_of(self, gap: &Gap) -> Option<Gap> {
        let mut part = gap.clone();
        match (self, &mut part.time) {
            (_, None) => Some(part),
            (Claim::Live(from) | Claim::Time(from), Some(_)) => part.since(from),
            (Claim::Cursor { earliest, restarted }, Some(time)) => {
                let start = match gap.after_restart {
                    Some(until) if restarted => until,
                    _ if time.start == 0 => earliest,
                    _ => time.start,
                };
                part.since(start)
            }
        }
    }

    /// Whether rows from before this time are claimed.
    pub fn is_before(self, time: UnixNanos) -> bool {
        match self {
            Claim::Live(from) | Claim::Time(from) => from < time,
            Claim::Cursor { .. } => true,
        }
    }
}

/// The claim of a subscriber, and its state for each node that did not send all of it at its start.
#[derive(Debug)]
pub(super) struct Claims {
    pub claim: Claim,
    /// Nodes that do not have a plan with the subscription yet.
    pub awaited: Vec<SourceId>,
    /// Nodes of which a gap has been reported whose rows are still missing, and its end.
    pub reported: Vec<(SourceId, UnixNanos)>,
}

impl Claims {
    pub fn part_of(&self, gap: &Gap) -> Option<Gap> {
        let Some(source) = gap.source.as_ref().map(|source| source.id) else {
            return self.claim.part_of(gap);
        };
        // Rows that the node sent for others may be interrupted before its plan for this subscriber.
        if let (Claim::Live(from), Some(time)) = (self.claim, gap.time)
            && time.start < from
            && self.awaited.contains(&source)
        {
            return None;
        }
        let part = self.claim.part_of(gap)?;
        match self.reported.iter().find(|(reported, _)| *reported == source) {
            Some((_, end)) => part.since(*end),
            None => Some(part),
        }
    }

    /// A gap of the node's rows that are still missing was reported until this time.
    pub fn report(&mut self, source: SourceId, end: UnixNanos) {
        self.reported.retain(|(reported, _)| *reported != source);
        self.reported.push((source, end));
    }
}
