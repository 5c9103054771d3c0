//! `dichroic catalog`: lists all metrics and events of a collector.

use super::error::CommandError;
use super::output::{OutputError, json, line, table, warning};
use super::tap::unmatched;
use crate::admin::client;
use crate::cli::{self, Format};
use dichroic_exporter_stream::near_names;
use dichroic_model::text::plural_of;
use serde_json::Value;
use std::collections::BTreeSet;

/// Requests the catalog and prints the entries that match.
pub async fn catalog(args: cli::Catalog) -> Result<(), CommandError> {
    let mut document = client::document(&args.admin.address, "/api/v1/catalog").await?;
    let matches = |entry: &Value| {
        let names = [entry["name"].as_str(), entry["page_name"].as_str()];
        names
            .into_iter()
            .flatten()
            .any(|name| args.patterns.iter().any(|pattern| pattern.matches(name)))
    };
    let known = names(&document);
    for part in ["metrics", "events"] {
        if let Some(list) = document[part].as_array_mut() {
            list.retain(matches);
        }
    }
    for pattern in &args.patterns {
        let all = pattern.as_str() == "**";
        if !all && !known.iter().any(|name| pattern.matches(name)) {
            let near = near_names(pattern, known.iter().map(String::as_str));
            warning(&unmatched(pattern.as_str(), &near));
        }
    }
    match args.format {
        Format::Json => json(&document.to_string())?,
        // A pattern chooses among all.
        Format::Text => show(
            &document,
            args.all || args.patterns.iter().any(|p| p.as_str() != "**"),
        )?,
    }
    Ok(())
}

/// Names of metrics, also those on the page, and of events.
fn names(document: &Value) -> BTreeSet<String> {
    let entries = ["metrics", "events"]
        .into_iter()
        .flat_map(|part| list(document, part));
    let names = entries.flat_map(|entry| [text(entry, "name"), text(entry, "page_name")]);
    names.filter(|name| !name.is_empty()).collect()
}

fn show(document: &Value, all: bool) -> Result<(), OutputError> {
    let header = ["METRIC", "TYPE", "UNIT", "SERIES", "LABELS", "RUNTIMES"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for metric in list(document, "metrics") {
        let labels: Vec<String> = metric["labels"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, label)| format!("{name}({})", label["values"]))
            .collect();
        rows.push(vec![
            text(metric, "name"),
            text(metric, "type"),
            text(metric, "unit"),
            metric["series"].to_string(),
            labels.join(" "),
            joined(&metric["runtimes"]),
        ]);
    }
    table(&rows)?;
    let listed = |event: &&Value| all || event["in_use"] != false;
    let events: Vec<&Value> = list(document, "events").iter().filter(listed).collect();
    let events_listed = events.len();
    if !events.is_empty() {
        line("")?;
        let mut rows = vec![
            ["EVENT", "KIND", "MEASUREMENTS", "METADATA"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for event in events {
            let measurements: Vec<String> = event["measurements"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, unit)| match unit.as_str().unwrap_or_default() {
                    "" => name.clone(),
                    unit => format!("{name}[{unit}]"),
                })
                .collect();
            rows.push(vec![
                text(event, "name"),
                text(event, "kind"),
                measurements.join(" "),
                joined(&event["metadata"]),
            ]);
        }
        table(&rows)?;
    }
    let hidden = list(document, "events").len() - events_listed;
    if hidden > 0 {
        let hidden = plural_of(hidden, "event is", "events are");
        line(&format!(
            "{hidden} not listed, because no event of the same library has occurred; --all lists them"
        ))?;
    }
    for metric in list(document, "metrics") {
        for warning in metric["warnings"].as_array().into_iter().flatten() {
            line(&format!(
                "warning: {}: {}",
                text(metric, "name"),
                warning.as_str().unwrap_or_default()
            ))?;
        }
    }
    Ok(())
}

fn list<'a>(document: &'a Value, part: &str) -> &'a [Value] {
    document[part].as_array().map_or(&[], Vec::as_slice)
}

fn text(entry: &Value, key: &str) -> String {
    entry[key].as_str().unwrap_or("").to_owned()
}

fn joined(list: &Value) -> String {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}
