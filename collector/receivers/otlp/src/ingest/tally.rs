//! The counts of one request, for the ledger and for the response.

use super::outcome::RequestOutcome;
use crate::service::Service;
use dichroic_model::SourceId;
use dichroic_pipeline::ledger::count_reason;
use dichroic_pipeline::{DropReason, HiddenReason, Ledger, Signal};
use std::fmt::Write;

const SIGNALS: [Signal; 4] = [Signal::Metrics, Signal::Events, Signal::Logs, Signal::Traces];
/// Most bytes of an example's name in a response.
const EXAMPLE_BYTES: usize = 128;

/// Counts since the last [`Tally::flush_to`], and over the whole request.
#[derive(Debug)]
pub(super) struct Tally {
    service: Service,
    received: [u64; 4],
    applied: [u64; 4],
    hidden: Vec<(HiddenReason, u64)>,
    dropped: Vec<((Signal, DropReason), u64)>,
    accepted: u64,
    /// Over the whole request, by reason, with the name of the first item dropped for it.
    rejected: Vec<(DropReason, u64, String)>,
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
            rejected: Vec::new(),
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
        match self.rejected.iter_mut().find(|(r, _, _)| *r == reason) {
            Some((_, count, _)) => *count += n,
            None => {
                let name = dichroic_model::attributes::cut(name, EXAMPLE_BYTES).to_owned();
                self.rejected.push((reason, n, name));
            }
        }
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
        let rejected = self.rejected.iter().map(|(_, n, _)| n).sum();
        let mut message = String::new();
        if rejected > 0 && self.service == Service::Traces && self.only(DropReason::Unsupported) {
            message = format!("traces are not supported: {rejected} spans were counted and dropped");
        } else if rejected > 0 {
            let _ = write!(message, "{rejected} {} were dropped:", self.service.items());
            for (reason, n, name) in &self.rejected {
                let _ = write!(message, " {n} {}", explain(*reason));
                if !name.is_empty() {
                    let _ = write!(message, ", the first of {name:?}");
                }
                message.push(';');
            }
            message.pop();
        }
        RequestOutcome {
            accepted: self.accepted,
            rejected,
            message,
        }
    }

    fn only(&self, reason: DropReason) -> bool {
        self.rejected.iter().all(|(r, _, _)| *r == reason)
    }
}

/// A reason with the limit to raise or the error to correct.
fn explain(reason: DropReason) -> String {
    let message = match reason {
        DropReason::SeriesLimit => "over limits.series",
        DropReason::SeriesPerSource => "over limits.series_per_source",
        DropReason::SeriesPerMetric => "over limits.series_per_metric",
        DropReason::MemoryLimit => "over limits.memory",
        DropReason::SourceLimit => "over limits.sources",
        DropReason::LabelLimit => "with more labels than limits.labels, or with a name over its length limit",
        DropReason::Buckets => {
            "with too many buckets, or with counts that do not match their bounds or total"
        }
        DropReason::SchemaLimit => "over the limit of event names",
        DropReason::Malformed => {
            "that violate OTLP (missing value or name, unknown temporality, or malformed attributes)"
        }
        DropReason::Backwards => "with a negative delta of a monotonic sum",
        DropReason::TooLarge => "over the size limit",
        other => other.as_str(),
    };
    format!("{message} [{}]", reason.as_str())
}
