//! The counts of one request: what goes into the ledger, and what its sender is told.

use super::outcome::RequestOutcome;
use crate::service::Service;
use dichroic_model::SourceId;
use dichroic_pipeline::{DropReason, Ledger, Signal};
use std::fmt::Write;

const SIGNALS: [Signal; 4] = [Signal::Metrics, Signal::Events, Signal::Logs, Signal::Traces];
/// Bytes of an example's name in an answer.
const EXAMPLE_BYTES: usize = 128;

/// Counts since the last [`Tally::flush_to`], and over the whole request.
#[derive(Debug)]
pub(super) struct Tally {
    service: Service,
    received: [u64; 4],
    applied: [u64; 4],
    dropped: Vec<(Signal, DropReason, u64)>,
    accepted: u64,
    /// Over the whole request, with the name of the first that was dropped for the reason.
    rejected: Vec<(DropReason, u64, String)>,
}

impl Tally {
    pub(super) fn new(service: Service) -> Self {
        Tally {
            service,
            received: [0; 4],
            applied: [0; 4],
            dropped: Vec::new(),
            accepted: 0,
            rejected: Vec::new(),
        }
    }

    /// `n` came in and reached the store.
    #[inline]
    pub(super) fn applied(&mut self, signal: Signal, n: u64) {
        self.received[signal as usize] += n;
        self.applied[signal as usize] += n;
        self.accepted += n;
    }

    /// `n` came in and were dropped.
    pub(super) fn dropped(&mut self, signal: Signal, reason: DropReason, n: u64) {
        self.dropped_of(signal, reason, n, "");
    }

    /// `n` of `name` came in and were dropped.
    pub(super) fn dropped_of(&mut self, signal: Signal, reason: DropReason, n: u64, name: &str) {
        if n == 0 {
            return;
        }
        self.received[signal as usize] += n;
        match self
            .dropped
            .iter_mut()
            .find(|(s, r, _)| (*s, *r) == (signal, reason))
        {
            Some((_, _, count)) => *count += n,
            None => self.dropped.push((signal, reason, n)),
        }
        if reason == DropReason::NoRecordedValue {
            // The sender said that there is no value, and it was understood.
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

    /// Writes the counts into the account of `source` and begins anew.
    pub(super) fn flush_to(&mut self, ledger: &mut Ledger, source: SourceId) {
        for signal in SIGNALS {
            let place = signal as usize;
            if self.received[place] > 0 {
                ledger.received(source, signal, std::mem::take(&mut self.received[place]));
            }
            if self.applied[place] > 0 {
                ledger.applied(source, signal, std::mem::take(&mut self.applied[place]));
            }
        }
        for (signal, reason, n) in self.dropped.drain(..) {
            ledger.dropped(source, signal, reason, n);
        }
    }

    /// What the sender is told.
    pub(super) fn outcome(&self) -> RequestOutcome {
        let rejected = self.rejected.iter().map(|(_, n, _)| n).sum();
        let mut message = String::new();
        if rejected > 0 && self.service == Service::Traces && self.only(DropReason::Unsupported) {
            message = format!("traces are not kept yet: {rejected} spans were counted and dropped");
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

/// A reason with the limit's name or what to change.
fn explain(reason: DropReason) -> String {
    let message = match reason {
        DropReason::SeriesLimit => "over limits.series",
        DropReason::SeriesPerSource => "over limits.series_per_source",
        DropReason::SeriesPerMetric => "over limits.series_per_metric",
        DropReason::MemoryLimit => "over limits.memory",
        DropReason::SourceLimit => "over limits.sources",
        DropReason::LabelLimit => "with more labels than limits.labels, or with a name that is too long",
        DropReason::Buckets => "with too many buckets, or counts that do not fit their bounds or their sum",
        DropReason::SchemaLimit => "over the number of event names",
        DropReason::Malformed => {
            "not as OTLP says (missing value or name, unknown temporality, broken attributes)"
        }
        DropReason::Backwards => "negative deltas of a monotonic sum",
        DropReason::TooLarge => "too large",
        other => other.as_str(),
    };
    format!("{message} [{}]", reason.as_str())
}
