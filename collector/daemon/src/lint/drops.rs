//! Findings about what was dropped.

use super::finding::{Finding, Level};
use super::inputs::Drops;
use crate::limit_drops;
use dichroic_model::text::plural;
use dichroic_pipeline::{DropReason, Signal};

/// What a limit dropped, and spans.
pub(super) fn of_drops(drops: &Drops) -> Option<Finding> {
    let n = drops.count;
    let (check, subject, message) = if let Some(key) = limit_drops::key(drops.reason) {
        let what = match drops.reason {
            DropReason::LabelLimit => {
                "a series has more labels, or a longer name, than the limits allow; remove the labels, or raise"
            }
            DropReason::SourceLimit => "no source is opened at this limit; remove senders, or raise",
            _ => "no series is defined at this limit; remove a label that has many values, or raise",
        };
        let message = format!("{} dropped: {what} {key}", plural(n, item(drops.signal)));
        ("limit_reached", key, message)
    } else if drops.signal == Signal::Traces {
        let message = format!(
            "{} discarded; set OTEL_TRACES_EXPORTER=none or send spans elsewhere",
            plural(n, "span")
        );
        ("traces", "traces", message)
    } else {
        return None;
    };
    Some(Finding {
        level: Level::Warning,
        check,
        subject: subject.to_owned(),
        source: drops.name.clone(),
        message,
        details: Vec::new(),
    })
}

fn item(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "point",
        Signal::Events => "event",
        Signal::Logs => "log record",
        Signal::Traces => "span",
    }
}
