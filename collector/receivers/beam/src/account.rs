//! The relay's own account: rows under reserved keys, of which the ledger and the gaps of streams are made.
//!
//! `rows_sent` is raised before rows are sent and comes first on a new connection, ahead of any EVENTS: there, and only there, what it
//! says beyond the rows that came is what was lost when the last connection broke. A collector that is new to the epoch takes
//! that first reading as its zero.

use dichroic_model::GapReason;
use dichroic_wire::define::RelaySeries;
use dichroic_wire::value::Cell;
use std::collections::HashMap;

/// What a reserved key and its labels mean.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    /// Rows given to the socket, by schema.
    Sent(u32),
    /// Rows dropped in the VM, by schema and reason.
    Dropped(u32, u8),
    /// Events that an entry could not use, by key and why.
    Skipped(u64, String),
    /// Handlers that failed.
    Failures,
    /// Handlers that something detached and the relay attached again.
    Reattached,
    /// Events that went to the overflow series, by key.
    Overflowed(u64),
    /// Measurements that a row is without, by schema and why.
    RowSkipped(u32, String),
    /// Of a later version.
    Unknown(u64),
}

impl Term {
    /// Reads a definition whose key is reserved; `None` when its labels are not those of the key.
    pub(crate) fn read(series: &RelaySeries<'_>) -> Option<Self> {
        let labels: Vec<Cell<'_>> = series.labels.iter().collect();
        let schema = |cell: &Cell<'_>| match cell {
            Cell::Int(id) => u32::try_from(*id).ok(),
            _ => None,
        };
        Some(match (series.key, labels.as_slice()) {
            (1, [id]) => Term::Sent(schema(id)?),
            (2, [id, Cell::Int(reason)]) => Term::Dropped(schema(id)?, u8::try_from(*reason).ok()?),
            (3, [Cell::Int(key), Cell::Str(why)]) => Term::Skipped(*key as u64, (*why).to_owned()),
            (4, []) => Term::Failures,
            (5, []) => Term::Reattached,
            (6, [Cell::Int(key)]) => Term::Overflowed(*key as u64),
            (7, [id, Cell::Str(why)]) => Term::RowSkipped(schema(id)?, (*why).to_owned()),
            (1..=7, _) => return None,
            (key, _) => Term::Unknown(key),
        })
    }
}

/// Why a relay dropped rows, as a gap tells it. Rows that it could not write are those of a broken connection.
pub(crate) fn gap_reason(code: u8) -> GapReason {
    match code {
        5 => GapReason::RateLimit,
        6 => GapReason::RelayBroke,
        7 => GapReason::RowTooLarge,
        _ => GapReason::RelayOverload,
    }
}

/// The word of the ledger.
pub(crate) fn reason_word(code: u8) -> &'static str {
    match code {
        4 => "overload",
        5 => "rate_limit",
        6 => "broken",
        7 => "too_large",
        _ => "other",
    }
}

/// What is held of one epoch's account, over its connections.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Rows of each schema that came, or are known to be lost, since the relay's account of it began.
    rows: HashMap<u32, u64>,
    dropped: HashMap<(u32, u8), u64>,
    /// Connections before this process may have had rows: first readings are zeros.
    stranger: bool,
    /// The first flush of this connection is not complete.
    first: bool,
}

impl Account {
    /// A new epoch. `attempt` 1 is its first connection, so nobody else had rows of it.
    pub(crate) fn new(attempt: i64) -> Self {
        Account {
            stranger: attempt > 1,
            first: true,
            ..Account::default()
        }
    }

    /// Another connection of the same epoch.
    pub(crate) fn reconnected(&mut self) {
        self.first = true;
    }

    /// The first flush is complete: whatever appears from now on begins at zero.
    pub(crate) fn flushed(&mut self) {
        (self.first, self.stranger) = (false, false);
    }

    /// Rows came.
    pub(crate) fn received(&mut self, schema: u32, rows: u64) {
        *self.rows.entry(schema).or_default() += rows;
    }

    /// A reading of `rows_sent`; how many were lost when the last connection broke.
    pub(crate) fn sent(&mut self, schema: u32, value: u64) -> u64 {
        if !self.first {
            return 0;
        }
        match self.rows.insert(schema, value) {
            // Lower than what came: the relay's account of it began anew in between.
            Some(received) => value.saturating_sub(received),
            None if self.stranger => 0,
            None => value,
        }
    }

    /// A reading of `rows_dropped`; by how much it rose.
    pub(crate) fn dropped(&mut self, schema: u32, reason: u8, value: u64) -> u64 {
        match self.dropped.insert((schema, reason), value) {
            Some(before) => value.checked_sub(before).unwrap_or(value),
            None if self.first && self.stranger => 0,
            None => value,
        }
    }

    /// The relay's account of it is closed; it would begin at zero again.
    pub(crate) fn forget(&mut self, term: &Term) {
        match term {
            Term::Sent(schema) => {
                self.rows.remove(schema);
            }
            Term::Dropped(schema, reason) => {
                self.dropped.remove(&(*schema, *reason));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_and_did_not_come_was_lost_in_the_break() {
        let mut account = Account::new(1);
        account.flushed();
        account.received(7, 100);
        assert_eq!(
            account.sent(7, 250),
            0,
            "later readings race with rows on their way"
        );
        account.reconnected();
        assert_eq!(account.sent(7, 130), 30);
        account.flushed();
        account.reconnected();
        assert_eq!(account.sent(7, 130), 0, "once only");
    }

    #[test]
    fn a_collector_that_is_new_to_the_epoch_begins_with_what_it_reads() {
        let mut account = Account::new(3);
        assert_eq!(account.sent(7, 1_000), 0);
        assert_eq!(account.dropped(7, 4, 50), 0);
        account.flushed();
        assert_eq!(account.dropped(7, 4, 60), 10);
        assert_eq!(
            account.dropped(8, 4, 5),
            5,
            "a term that appears later began at zero"
        );
        account.reconnected();
        assert_eq!(account.sent(7, 1_010), 10);
    }

    #[test]
    fn an_account_that_began_anew_is_not_a_loss() {
        let mut account = Account::new(1);
        account.received(7, 100);
        account.forget(&Term::Sent(7));
        account.reconnected();
        assert_eq!(account.sent(7, 4), 4);
        account.reconnected();
        assert_eq!(account.sent(7, 2), 0);
    }
}
