//! Gauges and counters of connections, for tests and tools. The ledger has the account of requests.

use std::cell::Cell;

/// Increments a gauge for as long as it lives.
pub(super) struct One<'a>(&'a Cell<usize>);

impl<'a> One<'a> {
    pub(super) fn of(gauge: &'a Cell<usize>) -> Self {
        gauge.set(gauge.get() + 1);
        One(gauge)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The receiver's counters.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open now.
    pub(super) open: Cell<usize>,
    /// Requests whose head was read and whose response is not sent.
    pub(super) in_flight: Cell<usize>,
    /// Connections aborted after `limits.stop_timeout`.
    pub(super) aborted_connections: Cell<usize>,
}

impl Counters {
    /// Requests in flight: head read, response not sent.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.open.get()
    }

    /// Connections aborted after `limits.stop_timeout` when the receiver stopped.
    pub fn aborted_connections(&self) -> usize {
        self.aborted_connections.get()
    }
}
