//! A finding, and its JSON.

use serde_json::{Value, json};

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Wrong now, or will be soon.
    Warning,
    /// May be intended.
    Note,
}

/// Severity, check and message of a finding.
pub(super) type Problem = (Level, &'static str, String);

/// Least number of values in a histogram for a report about its bounds.
pub(super) const POINTS: u64 = 20;

/// A likely problem.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Severity.
    pub level: Level,
    /// Name of the check; stable, so that scripts can filter by it.
    pub check: &'static str,
    /// The metric, event, pack or pattern.
    pub subject: String,
    /// The source; empty if the finding is about no single one.
    pub source: String,
    /// The reason, and what to do.
    pub message: String,
    /// What the message counts.
    pub details: Vec<String>,
}

impl Finding {
    /// The JSON of the admin API and of `--format json`.
    pub fn document(&self) -> Value {
        let level = match self.level {
            Level::Warning => "warning",
            Level::Note => "note",
        };
        json!({
            "level": level, "check": self.check, "subject": self.subject, "source": self.source, "message": self.message,
            "details": self.details,
        })
    }
}
