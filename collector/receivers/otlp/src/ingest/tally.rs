//! The counts of one request, for the ledger and for the response.

use super::outcome::RequestOutcome;
use super::rejections::Rejections;
use crate::service::Service;
use dichroic_model::SourceId;
use dichroic_pipeline::ledger::count_reason;
use dichroic_pipeline::{DropReason, HiddenReason, Ledger, Signal};

const SIGNALS: [Signal; 4] = [Signal::Metrics, Signal::Events, Signal::Logs, Signal::Traces];

/// Counts since the last [`Tally::flush_to`], and over the whole request.
#[derive(Debug)]
pub(super) struct Tally {
    service: Service,
    received: [u64; 4],
    applied: [u64; 4],
    hidden: Vec<(HiddenReason, u64)>,
    dropped: Vec<((Signal, DropReason), u64)>,
    accepted: u64,
    /// Over the whole request.
    rejected: Rejections,
}

impl Tally {
    pub(super) fn new(service: Service) -> Self {
        Tally {
            service,
            received: [0; 4],
            applied: [0; 4],
            hidden: Vec::new(),
            dropped: Vec::new(),
            accepted: 0,
            rejected: Rejections::default(),
        }
    }

    /// `n` items were received and reached the store.
    #[inline]
    pub(super) fn applied(&mut self, signal: Signal, n: u64) {
        self.received[signal as usize] += n;
        self.applied[signal as usize] += n;
        self.accepted += n;
    }

    /// A point was received and written into a series that no page shows. Streams have it, so the sender gets no error.
    pub(super) fn hidden(&mut self, reason: HiddenReason) {
        self.received[Signal::Metrics as usize] += 1;
        self.accepted += 1;
        count_reason(&mut self.hidden, reason, 1);
    }

    /// `n` items were received and dropped.
    pub(super) fn dropped(&mut self, signal: Signal, reason: DropReason, n: u64) {
        self.dropped_of(signal, reason, n, "");
    }

    /// `n` items of `name` were received and dropped.
    pub(super) fn dropped_of(&mut self, signal: Signal, reason: DropReason, n: u64, name: &str) {
        if n == 0 {
            return;
        }
        self.received[signal as usize] += n;
        count_reason(&mut self.dropped, (signal, reason), n);
        if reason == DropReason::NoRecordedValue {
            // The sender stated that there is no value, so nothing was rejected.
            self.accepted += n;
            return;
        }
        self.rejected.add(reason, n, name);
    }

    /// Writes the counts since the last flush into the account of `source`.
    pub(super) fn flush_to(&mut self, ledger: &mut Ledger, source: SourceId) {
        for signal in SIGNALS {
            let at = signal as usize;
            if self.received[at] > 0 {
                ledger.received(source, signal, std::mem::take(&mut self.received[at]));
            }
            if self.applied[at] > 0 {
                ledger.applied(source, signal, std::mem::take(&mut self.applied[at]));
            }
        }
        for (reason, n) in self.hidden.drain(..) {
            ledger.hidden(source, Signal::Metrics, reason, n);
        }
        for ((signal, reason), n) in self.dropped.drain(..) {
            ledger.dropped(source, signal, reason, n);
        }
    }

    /// The outcome of the whole request.
    pub(super) fn outcome(&self) -> RequestOutcome {
        RequestOutcome {
            accepted: self.accepted,
            rejected: self.rejected.count(),
            message: self.rejected.message(self.service, self.accepted),
        }
    }
}
