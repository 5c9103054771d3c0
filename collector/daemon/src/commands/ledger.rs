//! `dichroic ledger`: what became of every point, event and log.

use super::{json, line, table};
use crate::cli::{self, Format};
use crate::commands::client;
use serde_json::Value;

/// Asks and prints; with `--check` an account that does not balance is a failure.
pub async fn ledger(args: cli::Ledger) -> Result<(), String> {
    let document = client::document(&args.admin.address, "/api/v1/ledger").await?;
    match args.format {
        Format::Json => json(&document.to_string()),
        Format::Text => show(&document),
    }
    if args.check && document["balances"] != true {
        return Err("the ledger does not balance".to_owned());
    }
    Ok(())
}

fn show(document: &Value) {
    let rows = |part: &str, header: &[&str], cells: &dyn Fn(&Value) -> Vec<String>| {
        let list = document[part].as_array().map_or(&[][..], Vec::as_slice);
        if list.is_empty() {
            return;
        }
        let mut rows = vec![header.iter().map(|h| (*h).to_owned()).collect()];
        rows.extend(list.iter().map(cells));
        table(&rows);
        line("");
    };
    rows(
        "ingest",
        &["SOURCE", "SIGNAL", "RECEIVED", "APPLIED", "STAGED", "DROPPED", ""],
        &|account| {
            vec![
                format!("{} ({})", text(&account["source"]), text(&account["protocol"])),
                text(&account["signal"]),
                account["received"].to_string(),
                account["applied"].to_string(),
                account["staged"].to_string(),
                drops(&account["dropped"]),
                verdict(account),
            ]
        },
    );
    rows(
        "exporters",
        &["EXPORTER", "OFFERED", "SENT", "DROPPED", "QUEUED", ""],
        &|hop| {
            let number = |key: &str| hop[key].to_string();
            vec![
                text(&hop["exporter"]),
                number("offered"),
                number("sent"),
                number("dropped"),
                number("queued"),
                verdict(hop),
            ]
        },
    );
    for relay in document["relays"].as_array().into_iter().flatten() {
        line(&format!("relay {} says:", text(&relay["source"])));
        for (term, value) in relay["account"].as_object().into_iter().flatten() {
            line(&format!("  {term} {value}"));
        }
    }
    let balanced = if document["balances"] == true {
        "balances"
    } else {
        "DOES NOT BALANCE"
    };
    line(&format!("the ledger {balanced}"));
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

fn drops(dropped: &Value) -> String {
    let each: Vec<String> = dropped
        .as_object()
        .into_iter()
        .flatten()
        .map(|(reason, n)| format!("{n} {reason}"))
        .collect();
    if each.is_empty() {
        "0".to_owned()
    } else {
        each.join(", ")
    }
}

fn verdict(account: &Value) -> String {
    if account["balances"] == true {
        String::new()
    } else {
        "DOES NOT BALANCE".to_owned()
    }
}
