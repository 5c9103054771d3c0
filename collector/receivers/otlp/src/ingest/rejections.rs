//! The rejected items of a request, as text for its sender: how many, of which metrics, why, and what to do.

use crate::service::Service;
use dichroic_model::attributes::cut;
use dichroic_pipeline::DropReason;
use std::fmt::Write;

/// Most names for one reason in a message; further ones are only mentioned.
const NAMES: usize = 3;
/// Most bytes of a name in a message.
const NAME_BYTES: usize = 96;

/// The items rejected for one reason.
#[derive(Debug)]
struct Rejected {
    reason: DropReason,
    count: u64,
    /// Names of the first metrics.
    names: Vec<String>,
    /// Whether there are other names.
    others: bool,
}

/// The rejected items of a request, by reason.
#[derive(Debug, Default)]
pub(super) struct Rejections(Vec<Rejected>);

impl Rejections {
    /// Adds items of a metric; an empty name is none.
    pub(super) fn add(&mut self, reason: DropReason, count: u64, name: &str) {
        let at = self.0.iter().position(|rejected| rejected.reason == reason);
        let at = at.unwrap_or_else(|| {
            self.0.push(Rejected {
                reason,
                count: 0,
                names: Vec::new(),
                others: false,
            });
            self.0.len() - 1
        });
        let rejected = &mut self.0[at];
        rejected.count += count;
        let name = cut(name, NAME_BYTES);
        if name.is_empty() || rejected.names.iter().any(|known| known == name) {
            return;
        }
        if rejected.names.len() < NAMES {
            rejected.names.push(name.to_owned());
        } else {
            rejected.others = true;
        }
    }

    /// The number of items.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|rejected| rejected.count).sum()
    }

    /// The message for the sender; empty without rejections.
    pub(super) fn message(&self, service: Service, accepted: u64) -> String {
        let (mut message, count) = (String::new(), self.count());
        if count == 0 {
            return message;
        }
        let _ = write!(
            message,
            "{count} of {} {} were rejected",
            count + accepted,
            service.items()
        );
        for rejected in &self.0 {
            let Rejected {
                reason, count, names, ..
            } = rejected;
            let _ = write!(message, "; {count}");
            for (at, name) in names.iter().enumerate() {
                let separator = if at == 0 { " of" } else { "," };
                let _ = write!(message, "{separator} {name:?}");
            }
            if rejected.others {
                message.push_str(" and others");
            }
            let (cause, remedy) = explain(*reason);
            let _ = write!(message, ": {cause} [{}]", reason.as_str());
            if !remedy.is_empty() {
                let _ = write!(message, ", {remedy}");
            }
        }
        message
    }
}

/// The cause, and what to do about it.
fn explain(reason: DropReason) -> (&'static str, &'static str) {
    match reason {
        DropReason::SeriesLimit => (
            "the collector holds limits.series series",
            "remove attributes with many values, or raise the limit",
        ),
        DropReason::SeriesPerSource => (
            "the source has limits.series_per_source series",
            "remove attributes with many values, or raise the limit",
        ),
        DropReason::SeriesPerMetric => (
            "the metric has limits.series_per_metric series",
            "remove attributes with many values, or raise the limit",
        ),
        DropReason::MemoryLimit => (
            "the series use limits.memory bytes",
            "send fewer series, or raise the limit",
        ),
        DropReason::SourceLimit => (
            "the collector has limits.sources sources",
            "check for resource attributes that change with every start, or raise the limit",
        ),
        DropReason::LabelLimit => (
            "more attributes than limits.labels, or a name, unit or scope that is too long",
            "send fewer attributes and shorter names",
        ),
        DropReason::Buckets => (
            "bounds that are not finite and ascending, too many buckets, or counts that do not match bounds or total",
            "check the view or the exporter of the histogram",
        ),
        DropReason::SchemaLimit => (
            "too many different event names",
            "move what varies from the event's name to an attribute",
        ),
        DropReason::Malformed => (
            "no name, no value, an invalid number, an unknown temporality, or invalid attributes",
            "check the instrument and the exporter",
        ),
        DropReason::Backwards => (
            "older than the present value, or a negative delta of a monotonic sum",
            "check that one process sends each series, in order, and only adds to its counters",
        ),
        DropReason::WriterLimit => (
            "more than 64 processes write one series",
            "give each process its own service.instance.id",
        ),
        DropReason::TooLarge => ("over the size limit", "send smaller records"),
        DropReason::SeriesGone => ("the source or series has expired meanwhile", "send it again"),
        DropReason::Unsupported => (
            "this kind of data is not supported",
            "turn off its exporter, such as with OTEL_TRACES_EXPORTER=none, or use another endpoint for it",
        ),
        other => (other.as_str(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_states_how_many_of_which_metrics_why_and_what_to_do() {
        let mut rejections = Rejections::default();
        assert_eq!(rejections.message(Service::Metrics, 5), "");
        for name in ["a", "b", "b", "c", "d", "d"] {
            rejections.add(DropReason::SeriesLimit, 2, name);
        }
        rejections.add(DropReason::NoRecordedValue, 1, "");
        assert_eq!(
            rejections.message(Service::Metrics, 7),
            "13 of 20 data points were rejected; 12 of \"a\", \"b\", \"c\" and others: the collector holds limits.series \
             series [series_limit], remove attributes with many values, or raise the limit; 1: no_recorded_value [no_recorded_value]"
        );
    }

    #[test]
    fn every_reason_of_this_receiver_has_a_cause_and_a_remedy() {
        for reason in [
            DropReason::SeriesLimit,
            DropReason::SeriesPerSource,
            DropReason::SeriesPerMetric,
            DropReason::MemoryLimit,
            DropReason::SourceLimit,
            DropReason::LabelLimit,
            DropReason::Buckets,
            DropReason::SchemaLimit,
            DropReason::Malformed,
            DropReason::Backwards,
            DropReason::WriterLimit,
            DropReason::TooLarge,
            DropReason::SeriesGone,
            DropReason::Unsupported,
        ] {
            let (cause, remedy) = explain(reason);
            assert!(cause != reason.as_str() && !remedy.is_empty(), "{reason:?}");
        }
    }
}
