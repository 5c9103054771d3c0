//! The relay's account of itself: rows under reserved keys, the source of ledger terms and of gaps in streams.
//!
//! A relay raises `rows_sent` before it sends rows, and sends it first on a new connection, before any EVENTS: at that point, and only
//! there, its excess over the rows received is the number of rows lost by the disconnect. A collector that sees the epoch for the first
//! time uses that reading as its baseline.

use dichroic_model::GapReason;
use dichroic_wire::define::RelaySeries;
use dichroic_wire::limits::ACCOUNT_TERMS;
use dichroic_wire::value::Cell;
use std::collections::HashMap;

/// Reason for a skip. Reasons of later versions are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SkipReason {
    NotNumeric,
    OutOfRange,
    Other,
}

impl SkipReason {
    fn read(text: &str) -> Self {
        match text {
            "not_numeric" => SkipReason::NotNumeric,
            "out_of_range" => SkipReason::OutOfRange,
            _ => SkipReason::Other,
        }
    }

    /// The name in the ledger.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            SkipReason::NotNumeric => "not_numeric",
            SkipReason::OutOfRange => "out_of_range",
            SkipReason::Other => "other",
        }
    }
}

/// The term of an id of this connection, and its last value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReportedTerm {
    pub(crate) term: Term,
    pub(crate) value: u64,
}

/// The meaning of a reserved key and its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    /// Rows written to the socket, by schema.
    Sent(u32),
    /// Rows dropped in the VM, by schema and reason.
    Dropped(u32, u8),
    /// Events that an aggregate could not use, by key and reason.
    Skipped(u64, SkipReason),
    /// Handlers that failed.
    Failures,
    /// Handlers that were detached by other code and reattached by the relay.
    Reattached,
    /// Events counted in the overflow series, by key.
    Overflowed(u64),
    /// Measurements sent as null in rows, by schema and reason.
    RowSkipped(u32, SkipReason),
    /// A term of a later version, by key.
    Unknown(u64),
}

impl Term {
    /// Reads a definition with a reserved key; `None` when the labels are invalid for the key.
    pub(crate) fn read(series: &RelaySeries<'_>) -> Option<Self> {
        let labels: Vec<Cell<'_>> = series.labels.iter().collect();
        let schema = |cell: &Cell<'_>| match cell {
            Cell::Int(id) => u32::try_from(*id).ok(),
            _ => None,
        };
        Some(match (series.key, labels.as_slice()) {
            (1, [id]) => Term::Sent(schema(id)?),
            (2, [id, Cell::Int(reason)]) => Term::Dropped(schema(id)?, u8::try_from(*reason).ok()?),
            (
                3,
                [
                    Cell::Int(key),
                    Cell::Str(reason) | Cell::CutStr { kept: reason, .. },
                ],
            ) => Term::Skipped(*key as u64, SkipReason::read(reason)),
            (4, []) => Term::Failures,
            (5, []) => Term::Reattached,
            (6, [Cell::Int(key)]) => Term::Overflowed(*key as u64),
            (7, [id, Cell::Str(reason) | Cell::CutStr { kept: reason, .. }]) => {
                Term::RowSkipped(schema(id)?, SkipReason::read(reason))
            }
            (1..=7, _) => return None,
            (key, _) => Term::Unknown(key),
        })
    }
}

/// The gap reason for dropped rows. Rows that could not be written belong to a broken connection.
pub(crate) fn gap_reason(code: u8) -> GapReason {
    match code {
        5 => GapReason::RateLimit,
        6 => GapReason::RelayBroke,
        7 => GapReason::RowTooLarge,
        _ => GapReason::RelayOverload,
    }
}

/// The name of a drop reason in the ledger.
pub(crate) fn reason_name(code: u8) -> &'static str {
    match code {
        4 => "overload",
        5 => "rate_limit",
        6 => "broken",
        7 => "too_large",
        _ => "other",
    }
}

/// The account of one epoch, across its connections.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Rows of each schema that were received or are known to be lost, since the relay's term started.
    rows: HashMap<u32, Held>,
    dropped: HashMap<(u32, u8), Held>,
    /// Terms for which the maps have no room.
    rows_rest: Rest,
    dropped_rest: Rest,
    /// Number of the connection in this process.
    connection: u32,
    /// Earlier connections of the epoch may have had rows: first readings are baselines.
    joined_late: bool,
    /// The first flush of this connection is not complete.
    first: bool,
}

/// The value of one term, and the connection that last reported it.
#[derive(Debug, Clone, Copy)]
struct Held {
    value: u64,
    connection: u32,
}

/// All terms beyond [`ACCOUNT_TERMS`] as one: their sum as earlier connections reported it, and as this one did.
#[derive(Debug, Default)]
struct Rest {
    before: u64,
    reported: u64,
}

impl Rest {
    /// Adds a rise of its terms; returns the part that was not counted before.
    fn rise(&mut self, by: u64) -> u64 {
        self.reported = self.reported.saturating_add(by);
        let new = self.reported.saturating_sub(self.before);
        self.before = self.before.max(self.reported);
        new
    }

    /// Whether a term that is not in the maps may be part of it: the maps are full, or were in an earlier connection.
    fn may_include_others(&self, held: usize) -> bool {
        held >= ACCOUNT_TERMS || self.reported < self.before
    }

    fn remove(&mut self, value: u64) {
        self.reported = self.reported.saturating_sub(value);
        self.before = self.before.saturating_sub(value);
    }
}

impl Account {
    /// A new epoch. `attempt` 1 is its first connection: no other connection had rows of it.
    pub(crate) fn new(attempt: i64) -> Self {
        Account {
            joined_late: attempt > 1,
            first: true,
            ..Account::default()
        }
    }

    /// Another connection of the same epoch.
    pub(crate) fn reconnected(&mut self) {
        self.first = true;
        self.connection = self.connection.wrapping_add(1);
        (self.rows_rest.reported, self.dropped_rest.reported) = (0, 0);
    }

    /// The first flush is complete: terms that appear later start at zero. The flush reports every live term; terms that it lacks have
    /// ended.
    pub(crate) fn flushed(&mut self) {
        if self.first {
            let connection = self.connection;
            self.rows.retain(|_, held| held.connection == connection);
            self.dropped.retain(|_, held| held.connection == connection);
            self.rows_rest.before = self.rows_rest.reported;
            self.dropped_rest.before = self.dropped_rest.reported;
        }
        (self.first, self.joined_late) = (false, false);
    }

    /// Adds received rows.
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

    /// Adds a reading of `rows_sent`, after `last` by the same id. Returns the rows lost by the disconnect.
    pub(crate) fn sent(&mut self, schema: u32, value: u64, last: u64) -> u64 {
        if !self.first {
            return 0;
        }
        let held = Held {
            value,
            connection: self.connection,
        };
        match self.rows.get_mut(&schema) {
            // Below the rows received: the relay's term was reset in between.
            Some(received) => value.saturating_sub(std::mem::replace(received, held).value),
            None => {
                let lost = if self.rows_rest.may_include_others(self.rows.len()) {
                    self.rows_rest.rise(value.saturating_sub(last))
                } else {
                    self.rows.insert(schema, held);
                    value
                };
                if self.joined_late { 0 } else { lost }
            }
        }
    }

    /// Adds a reading of `rows_dropped`, after `last` by the same id. Returns the rise.
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
                // A term that is part of the rest remains there for the connection.
                let lost = if last > 0 || self.dropped_rest.may_include_others(self.dropped.len()) {
                    self.dropped_rest.rise(value.saturating_sub(last))
                } else {
                    self.dropped.insert((schema, reason), held);
                    value
                };
                if self.first && self.joined_late { 0 } else { lost }
            }
        }
    }

    /// Removes a term, whose last value is `last`. If the relay defines it again, it starts at zero.
    pub(crate) fn remove(&mut self, term: &Term, last: u64) {
        match term {
            Term::Sent(schema) if self.rows.remove(schema).is_none() => {
                self.rows_rest.remove(last);
            }
            Term::Dropped(schema, reason) if self.dropped.remove(&(*schema, *reason)).is_none() => {
                self.dropped_rest.remove(last);
            }
            _ => {}
        }
    }

    /// Number of terms kept.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.rows.len() + self.dropped.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_sent_but_not_received_were_lost_by_the_disconnect() {
        let mut account = Account::new(1);
        account.flushed();
        account.received(7, 100);
        assert_eq!(
            account.sent(7, 250, 0),
            0,
            "later readings race with rows in transit"
        );
        account.reconnected();
        assert_eq!(account.sent(7, 130, 0), 30);
        account.flushed();
        account.reconnected();
        assert_eq!(account.sent(7, 130, 0), 0, "once only");
    }

    #[test]
    fn a_collector_new_to_the_epoch_uses_the_first_reading_as_baseline() {
        let mut account = Account::new(3);
        assert_eq!(account.sent(7, 1_000, 0), 0);
        assert_eq!(account.dropped(7, 4, 50, 0), 0);
        account.flushed();
        assert_eq!(account.dropped(7, 4, 60, 50), 10);
        assert_eq!(
            account.dropped(8, 4, 5, 0),
            5,
            "a term that appears later started at zero"
        );
        account.reconnected();
        assert_eq!(account.sent(7, 1_010, 0), 10);
    }

    #[test]
    fn a_reset_term_is_not_a_loss() {
        let mut account = Account::new(1);
        account.received(7, 100);
        account.remove(&Term::Sent(7), 100);
        account.reconnected();
        assert_eq!(account.sent(7, 4, 0), 4);
        account.reconnected();
        assert_eq!(account.sent(7, 2, 0), 0);
    }

    #[test]
    fn terms_that_a_new_connection_does_not_report_have_ended() {
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
        assert_eq!(account.held(), 2, "one was reported, and one had rows");
        assert_eq!(account.dropped(7, 4, 2, 0), 2, "it started at zero again");
    }

    #[test]
    fn terms_beyond_the_limit_share_one_count_without_loss_or_duplicates() {
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
            "readings of rows_sent race with their rows"
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
