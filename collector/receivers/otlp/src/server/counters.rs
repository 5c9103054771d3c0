//! Counters of requests and connections by result, for the collector's self telemetry. Updated and read on the ingest thread.

use crate::ingest::RequestOutcome;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Accepted as a whole.
    Ok,
    /// Accepted in part.
    Partial,
    /// Not a request of its service (400, INVALID_ARGUMENT).
    Bad,
    /// Unknown path, method or media type (404, 405, 415).
    Misdirected,
    /// The body did not arrive in time (408).
    Slow,
    /// Over the size limit (413).
    TooLarge,
    /// Over the budget of bytes in flight (503).
    Busy,
}

impl Verdict {
    /// The value of the `result` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Partial => "partial",
            Verdict::Bad => "bad",
            Verdict::Misdirected => "misdirected",
            Verdict::Slow => "slow",
            Verdict::TooLarge => "too_large",
            Verdict::Busy => "busy",
        }
    }

    pub(super) fn of(outcome: &RequestOutcome) -> Self {
        if outcome.rejected == 0 {
            Verdict::Ok
        } else {
            Verdict::Partial
        }
    }

    pub(super) fn refused(http: u16) -> Self {
        match http {
            404 | 405 | 415 => Verdict::Misdirected,
            408 => Verdict::Slow,
            413 => Verdict::TooLarge,
            503 => Verdict::Busy,
            _ => Verdict::Bad,
        }
    }
}

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
    requests: RefCell<BTreeMap<(&'static str, Verdict), u64>>,
    /// Connections open now.
    pub(super) open: Cell<usize>,
    /// Requests whose head was read and whose response is not sent.
    pub(super) in_flight: Cell<usize>,
    /// Connections closed at once because of `limits.connections`.
    pub(super) rejected_connections: Cell<u64>,
    /// Connections aborted after `limits.stop_timeout`.
    pub(super) aborted_connections: Cell<usize>,
}

impl Counters {
    pub(super) fn count(&self, transport: &'static str, verdict: Verdict) {
        *self
            .requests
            .borrow_mut()
            .entry((transport, verdict))
            .or_default() += 1;
    }

    /// Requests so far, by transport (`http`, `grpc`) and result.
    pub fn requests(&self) -> Vec<(&'static str, Verdict, u64)> {
        let requests = self.requests.borrow();
        requests
            .iter()
            .map(|((transport, verdict), n)| (*transport, *verdict, *n))
            .collect()
    }

    /// Requests of one transport with one result.
    pub fn of(&self, transport: &str, verdict: Verdict) -> u64 {
        let requests = self.requests.borrow();
        requests
            .iter()
            .find(|((t, v), _)| (*t, *v) == (transport, verdict))
            .map_or(0, |(_, n)| *n)
    }

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

    /// Connections closed at once because of `limits.connections`.
    pub fn rejected_connections(&self) -> u64 {
        self.rejected_connections.get()
    }
}
