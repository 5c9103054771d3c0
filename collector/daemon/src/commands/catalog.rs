//! `dichroic catalog`: lists all metrics and events of a collector.

use super::error::CommandError;
use super::output::{OutputError, json, line, table};
use crate::admin::client;
use crate::cli::{self, Format};
use serde_json::Value;

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
    for part in ["metrics", "events"] {
        if let Some(list) = document[part].as_array_mut() {
            list.retain(matches);
        }
    }
    match args.format {
        Format::Json => json(&document.to_string())?,
        Format::Text => show(&document)?,
    }
    Ok(())
}

fn show(document: &Value) -> Result<(), OutputError> {
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
    let events = list(document, "events");
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
                .map(|(name, unit)| format!("{name}[{}]", unit.as_str().unwrap_or("")))
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
