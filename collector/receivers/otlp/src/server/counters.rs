//! Requests and connections by what became of them, for the collector's own metrics. Counted and read on the ingest thread.

use crate::ingest::RequestOutcome;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Taken whole.
    Ok,
    /// Taken in part.
    Partial,
    /// Not what its service takes (400, and gRPC's like).
    Bad,
    /// No such path, method or media type (404, 405, 415).
    Misdirected,
    /// Did not arrive in time (408).
    Slow,
    /// Over the size limit (413).
    TooLarge,
    /// Over the budget of bytes in flight (503).
    Busy,
}

impl Verdict {
    /// The word of the `result` label.
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

/// One of what a gauge counts, while this lives.
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
    /// Requests whose head was read and that are not answered yet.
    pub(super) in_flight: Cell<usize>,
    /// Connections closed at once because there were too many.
    pub(super) rejected_connections: Cell<u64>,
    /// Connections that did not finish in time when the receiver stopped.
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

    /// Requests in flight: head read, not answered yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.open.get()
    }

    /// Connections that had to be cut off when the receiver stopped.
    pub fn aborted_connections(&self) -> usize {
        self.aborted_connections.get()
    }

    /// Connections closed at once because there were as many as allowed.
    pub fn rejected_connections(&self) -> u64 {
        self.rejected_connections.get()
    }
}
