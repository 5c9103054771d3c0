//! Findings about the pages of scrape targets.

use super::finding::{Finding, Level};
use dichroic_model::text::plural;
use dichroic_receiver_prometheus::parse::Violation;
use dichroic_receiver_prometheus::scrape::TargetStatus;

/// What the last page of a scrape target does that OpenMetrics forbids.
pub(super) fn of_target(target: &TargetStatus) -> impl Iterator<Item = Finding> + '_ {
    target.violations.iter().map(|violation| Finding {
        level: Level::Warning,
        check: "openmetrics",
        subject: target.url.clone(),
        source: format!("{}/{}", target.job, target.instance),
        message: {
            // Incomplete points are allowed.
            let refuse = match violation.reason {
                Violation::Incomplete => "",
                _ => " (`strict: true` refuses such pages)",
            };
            format!(
                "{} on its page: {}, first at {}; the page is kept, as Prometheus keeps it{refuse}",
                violation.reason.as_str(),
                plural(violation.count, "time"),
                violation.first,
            )
        },
        details: Vec::new(),
    })
}
