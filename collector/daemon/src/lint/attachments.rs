//! Findings about nodes of `receivers.beam.attach`.

use super::finding::{Finding, Level};
use crate::attach::status::{AttachStatus, State};

/// A node that is not attached.
pub(super) fn of_attachment(status: &AttachStatus) -> Option<Finding> {
    let retry = match status.state {
        State::Connecting | State::Attached => return None,
        State::Retrying => "",
        State::Refused => ", or when the node or a file of its entry changes",
    };
    let help = match status.help.as_str() {
        "" => String::new(),
        help => format!("; {help}"),
    };
    Some(Finding {
        level: Level::Warning,
        check: "not_attached",
        subject: status.node.clone(),
        source: String::new(),
        message: format!(
            "{}{help}; next attempt in {} s{retry}",
            status.reason,
            status.next_seconds().unwrap_or_default()
        ),
        details: Vec::new(),
    })
}
