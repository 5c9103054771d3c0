//! `dichroic lint`: what looks wrong.

use super::line;
use crate::cli::{self, Format};
use crate::client;
use serde_json::Value;

/// Asks and prints; with `--strict` a warning is a failure.
pub async fn lint(args: cli::Lint) -> Result<(), String> {
    let document = client::document(&args.admin.address, "/api/v1/lint").await?;
    match args.format {
        Format::Json => line(&document.to_string()),
        Format::Text => text(&document).iter().for_each(|each| line(each)),
    }
    match document["warnings"].as_u64() {
        Some(warnings @ 1..) if args.strict => Err(format!("{warnings} warnings")),
        _ => Ok(()),
    }
}

/// A line for each finding, and one for their number.
pub fn text(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<String> = findings.iter().map(finding).collect();
    lines.push(match findings.len() {
        0 => "nothing looks wrong".to_owned(),
        _ => format!("{} warnings, {} notes", document["warnings"], document["notes"]),
    });
    lines
}

fn finding(finding: &Value) -> String {
    let word = |key: &str| finding[key].as_str().unwrap_or_default();
    let from = match word("source") {
        "" => String::new(),
        source => format!(" ({source})"),
    };
    let (level, subject, words, check) = (word("level"), word("subject"), word("words"), word("check"));
    format!("{level}: {subject}{from}: {words} [{check}]")
}
