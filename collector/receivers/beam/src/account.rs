//! The relay's own account: rows under reserved keys, of which the ledger and the gaps of streams are made.
//!
//! `rows_sent` is raised before rows are sent and comes first on a new connection, ahead of any EVENTS: there, and only there, what it
//! says beyond the rows that came is what was lost when the last connection broke. A collector that is new to the epoch takes
//! that first reading as its zero.

use dichroic_model::GapReason;
use dichroic_wire::define::RelaySeries;
use dichroic_wire::limits::ACCOUNT_TERMS;
use dichroic_wire::value::Cell;
use std::collections::HashMap;

/// Why something was skipped. Words of a later version are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    NotNumeric,
    OutOfRange,
    Other,
}

impl Why {
    fn read(word: &str) -> Self {
        match word {
            "not_numeric" => Why::NotNumeric,
            "out_of_range" => Why::OutOfRange,
            _ => Why::Other,
        }
    }

    /// The word of the ledger.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Why::NotNumeric => "not_numeric",
            Why::OutOfRange => "out_of_range",
            Why::Other => "other",
        }
    }
}

/// A term that an id of this connection stands for, and what it said last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said {
    pub(crate) term: Term,
    pub(crate) value: u64,
}

/// What a reserved key and its labels mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    /// Rows given to the socket, by schema.
    Sent(u32),
    /// Rows dropped in the VM, by schema and reason.
    Dropped(u32, u8),
    /// Events that an entry could not use, by key and why.
    Skipped(u64, Why),
    /// Handlers that failed.
    Failures,
    /// Handlers that something detached and the relay attached again.
    Reattached,
    /// Events that went to the overflow series, by key.
    Overflowed(u64),
    /// Measurements that a row is without, by schema and why.
    RowSkipped(u32, Why),
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
            (3, [Cell::Int(key), Cell::Str(why) | Cell::CutStr { kept: why, .. }]) => {
                Term::Skipped(*key as u64, Why::read(why))
            }
            (4, []) => Term::Failures,
            (5, []) => Term::Reattached,
            (6, [Cell::Int(key)]) => Term::Overflowed(*key as u64),
            (7, [id, Cell::Str(why) | Cell::CutStr { kept: why, .. }]) => {
                Term::RowSkipped(schema(id)?, Why::read(why))
            }
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
    rows: HashMap<u32, Held>,
    dropped: HashMap<(u32, u8), Held>,
    /// Those for which the maps have no room.
    rows_rest: Rest,
    dropped_rest: Rest,
    /// Number of the connection in this process.
    connection: u32,
    /// Connections before this process may have had rows: first readings are zeros.
    stranger: bool,
    /// The first flush of this connection is not complete.
    first: bool,
}

/// What is held of one term, and the connection that last told of it.
#[derive(Debug, Clone, Copy)]
struct Held {
    value: u64,
    connection: u32,
}

/// All terms beyond [`ACCOUNT_TERMS`] as one: their sum, as connections before this one and as this one told it.
#[derive(Debug, Default)]
struct Rest {
    before: u64,
    told: u64,
}

impl Rest {
    /// Terms of it rose; by how much they rose beyond what is known.
    fn rise(&mut self, by: u64) -> u64 {
        self.told = self.told.saturating_add(by);
        let new = self.told.saturating_sub(self.before);
        self.before = self.before.max(self.told);
        new
    }

    /// Whether a term that is not held may be one of them: the maps are full, or were in a connection before this one.
    fn claims(&self, held: usize) -> bool {
        held >= ACCOUNT_TERMS || self.told < self.before
    }

    fn forget(&mut self, value: u64) {
        self.told = self.told.saturating_sub(value);
        self.before = self.before.saturating_sub(value);
    }
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
        self.connection = self.connection.wrapping_add(1);
        (self.rows_rest.told, self.dropped_rest.told) = (0, 0);
    }

    /// The first flush is complete: whatever appears from now on begins at zero. The flush tells of every term that is alive, so
    /// those that it left out are closed.
    pub(crate) fn flushed(&mut self) {
        if self.first {
            let connection = self.connection;
            self.rows.retain(|_, held| held.connection == connection);
            self.dropped.retain(|_, held| held.connection == connection);
            self.rows_rest.before = self.rows_rest.told;
            self.dropped_rest.before = self.dropped_rest.told;
        }
        (self.first, self.stranger) = (false, false);
    }

    /// Rows came.
    pub(crate) fn received(&mut self, schema: u32, rows: u64) {
        let (connection, full) = (self.connection, self.rows.len() >= ACCOUNT_TERMS);
        match self.rows.get_mut(&schema) {
            Some(held) => {
                (held.value, held.connection) = (held.value.saturating_add(rows), connection);
            }
            None if full => {
                self.rows_rest.rise(rows);
            }
            None => {
                let held = Held {
                    value: rows,
                    connection,
                };
                self.rows.insert(schema, held);
            }
        }
    }

    /// A reading of `rows_sent` after one of `last` by the same id; how many were lost when the last connection broke.
    pub(crate) fn sent(&mut self, schema: u32, value: u64, last: u64) -> u64 {
        if !self.first {
            return 0;
        }
        let held = Held {
            value,
            connection: self.connection,
        };
        match self.rows.get_mut(&schema) {
            // Lower than what came: the relay's account of it began anew in between.
            Some(received) => value.saturating_sub(std::mem::replace(received, held).value),
            None => {
                let lost = if self.rows_rest.claims(self.rows.len()) {
                    self.rows_rest.rise(value.saturating_sub(last))
                } else {
                    self.rows.insert(schema, held);
                    value
                };
                if self.stranger { 0 } else { lost }
            }
        }
    }

    /// A reading of `rows_dropped` after one of `last` by the same id; by how much it rose.
    pub(crate) fn dropped(&mut self, schema: u32, reason: u8, value: u64, last: u64) -> u64 {
        let held = Held {
            value,
            connection: self.connection,
        };
        match self.dropped.get_mut(&(schema, reason)) {
            Some(before) => {
                let before = std::mem::replace(before, held).value;
                value.checked_sub(before).unwrap_or(value)
            }
            None => {
                // One that was told of as part of the rest stays there while the connection lasts.
                let lost = if last > 0 || self.dropped_rest.claims(self.dropped.len()) {
                    self.dropped_rest.rise(value.saturating_sub(last))
                } else {
                    self.dropped.insert((schema, reason), held);
                    value
                };
                if self.first && self.stranger { 0 } else { lost }
            }
        }
    }

    /// The relay's account of it, which stood at `last`, is closed; it would begin at zero again.
    pub(crate) fn forget(&mut self, term: &Term, last: u64) {
        match term {
            Term::Sent(schema) if self.rows.remove(schema).is_none() => {
                self.rows_rest.forget(last);
            }
            Term::Dropped(schema, reason) if self.dropped.remove(&(*schema, *reason)).is_none() => {
                self.dropped_rest.forget(last);
            }
            _ => {}
        }
    }

    /// Terms that are held, for the bound on them.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.rows.len() + self.dropped.len()
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
            account.sent(7, 250, 0),
            0,
            "later readings race with rows on their way"
        );
        account.reconnected();
        assert_eq!(account.sent(7, 130, 0), 30);
        account.flushed();
        account.reconnected();
        assert_eq!(account.sent(7, 130, 0), 0, "once only");
    }

    #[test]
    fn a_collector_that_is_new_to_the_epoch_begins_with_what_it_reads() {
        let mut account = Account::new(3);
        assert_eq!(account.sent(7, 1_000, 0), 0);
        assert_eq!(account.dropped(7, 4, 50, 0), 0);
        account.flushed();
        assert_eq!(account.dropped(7, 4, 60, 50), 10);
        assert_eq!(
            account.dropped(8, 4, 5, 0),
            5,
            "a term that appears later began at zero"
        );
        account.reconnected();
        assert_eq!(account.sent(7, 1_010, 0), 10);
    }

    #[test]
    fn an_account_that_began_anew_is_not_a_loss() {
        let mut account = Account::new(1);
        account.received(7, 100);
        account.forget(&Term::Sent(7), 100);
        account.reconnected();
        assert_eq!(account.sent(7, 4, 0), 4);
        account.reconnected();
        assert_eq!(account.sent(7, 2, 0), 0);
    }

    #[test]
    fn what_a_new_connection_does_not_tell_of_is_closed() {
        let mut account = Account::new(1);
        for schema in 0..1_000 {
            account.sent(schema, 5, 0);
            account.dropped(schema, 4, 5, 0);
        }
        account.flushed();
        account.reconnected();
        assert_eq!(account.sent(7, 6, 0), 1);
        account.received(8, 1);
        account.flushed();
        assert_eq!(account.held(), 2, "one was told of, of one rows came");
        assert_eq!(account.dropped(7, 4, 2, 0), 2, "it began at zero again");
    }

    #[test]
    fn terms_beyond_the_limit_are_one_and_none_of_their_rows_is_lost_or_counted_twice() {
        let terms = 3 * ACCOUNT_TERMS as u32;
        let mut account = Account::new(1);
        let read = |account: &mut Account, value: u64, last: u64| {
            let sent: u64 = (0..terms).map(|schema| account.sent(schema, value, last)).sum();
            let dropped: u64 = (0..terms)
                .map(|schema| account.dropped(schema, 4, value, last))
                .sum();
            (sent, dropped)
        };
        let all = u64::from(terms);
        assert_eq!(read(&mut account, 2, 0), (2 * all, 2 * all));
        account.flushed();
        assert_eq!(
            read(&mut account, 3, 2),
            (0, all),
            "what was sent races with its rows"
        );
        for _ in 0..10 {
            account.reconnected();
        }
        assert_eq!(read(&mut account, 4, 0), (2 * all, all));
        account.flushed();
        account.reconnected();
        assert_eq!(read(&mut account, 4, 0), (0, 0));
        assert!(account.held() <= 2 * ACCOUNT_TERMS);
    }
}
