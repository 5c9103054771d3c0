//! `dichroic lint`: what looks wrong, in the collector and, when asked, on a node.

use super::{discover, json, line};
use crate::admin::client;
use crate::cli::{self, Format};
use crate::lint::{Finding, Level, unsubscribed};
use serde_json::Value;

/// Asks and prints; with `--strict` a warning is a failure.
pub async fn lint(args: cli::Lint) -> Result<(), String> {
    let mut document = client::document(&args.admin.address, "/api/v1/lint").await?;
    if let Some(reach) = &args.reach {
        let (found, alive) = discover::ask(reach, Some(&args.live)).await?;
        let packs = discover::packs(&found, &alive);
        add(&mut document, &unsubscribed::findings(&found, &packs));
    }
    match args.format {
        Format::Json => json(&document.to_string()),
        Format::Text => text(&document).iter().for_each(|each| line(each)),
    }
    match document["warnings"].as_u64() {
        Some(warnings @ 1..) if args.strict => Err(format!("{warnings} warnings")),
        _ => Ok(()),
    }
}

/// Findings of ours among those of the collector, warnings first.
fn add(document: &mut Value, findings: &[Finding]) {
    let (warnings, notes): (Vec<_>, Vec<_>) = findings.iter().partition(|f| f.level == Level::Warning);
    for (key, new) in [("warnings", &warnings), ("notes", &notes)] {
        document[key] = (document[key].as_u64().unwrap_or(0) + new.len() as u64).into();
    }
    if let Some(all) = document["findings"].as_array_mut() {
        let first_note = all.iter().position(|f| f["level"] == "note").unwrap_or(all.len());
        all.splice(
            first_note..first_note,
            warnings.into_iter().map(Finding::document),
        );
        all.extend(notes.into_iter().map(Finding::document));
    }
}

/// A line for each finding, and one for their number.
pub fn text(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<String> = findings.iter().map(finding).collect();
    lines.push(match findings.len() {
        0 => "nothing looks wrong".to_owned(),
        _ => {
            let many = |key: &str, one: &str| {
                let n = document[key].as_u64().unwrap_or(0);
                format!("{n} {one}{}", if n == 1 { "" } else { "s" })
            };
            format!("{}, {}", many("warnings", "warning"), many("notes", "note"))
        }
    });
    lines
}

fn finding(finding: &Value) -> String {
    let word = |key: &str| finding[key].as_str().unwrap_or_default();
    let from = match word("source") {
        "" => String::new(),
        source => format!(" ({source})"),
    };
    let (level, subject, message, check) = (word("level"), word("subject"), word("message"), word("check"));
    format!("{level}: {subject}{from}: {message} [{check}]")
}
