//! `dichroic lint`: reports likely problems of the collector's metrics and, with NODE, of a node.

use super::discover;
use super::error::CommandError;
use super::output::{json, line};
use crate::admin::client;
use crate::cli::{self, Format};
use crate::lint::{Finding, Level, unsubscribed};
use dichroic_model::text::plural;
use serde_json::Value;

/// Requests the findings and prints them. With `--strict`, a warning is an error.
pub async fn lint(args: cli::Lint) -> Result<(), CommandError> {
    let mut document = client::document(&args.admin.address, "/api/v1/lint").await?;
    if let Some(reach) = &args.reach {
        let (found, alive) = discover::query_node(reach, Some(args.live)).await?;
        let packs = discover::pack_patterns(&found, &alive);
        add(&mut document, &unsubscribed::findings(&found, &packs));
    }
    match args.format {
        Format::Json => json(&document.to_string())?,
        Format::Text => text(&document, args.verbose)
            .iter()
            .try_for_each(|each| line(each))?,
    }
    match document["warnings"].as_u64() {
        Some(warnings @ 1..) if args.strict => Err(CommandError::Warnings(warnings)),
        _ => Ok(()),
    }
}

/// Adds findings to those of the collector, warnings first.
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

/// A line for each finding, and a line with their number. `verbose`: also what a finding only counts.
pub fn text(document: &Value, verbose: bool) -> Vec<String> {
    let findings = document["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<String> = findings.iter().flat_map(|each| finding(each, verbose)).collect();
    lines.push(match findings.len() {
        0 => "no problems found".to_owned(),
        _ => {
            let counted = |key: &str, one: &str| plural(document[key].as_u64().unwrap_or(0), one);
            format!("{}, {}", counted("warnings", "warning"), counted("notes", "note"))
        }
    });
    lines
}

fn finding(finding: &Value, verbose: bool) -> Vec<String> {
    let field = |key: &str| finding[key].as_str().unwrap_or_default();
    let from = match field("source") {
        "" => String::new(),
        source => format!(" ({source})"),
    };
    let (level, subject, message, check) =
        (field("level"), field("subject"), field("message"), field("check"));
    let details = finding["details"].as_array().map_or(&[][..], Vec::as_slice);
    let more = match details.is_empty() || verbose {
        true => "",
        false => "; --verbose lists them",
    };
    let mut lines = vec![format!("{level}: {subject}{from}: {message}{more} [{check}]")];
    if verbose {
        let details = details.iter().filter_map(Value::as_str);
        lines.extend(details.map(|each| format!("  {each}")));
    }
    lines
}
