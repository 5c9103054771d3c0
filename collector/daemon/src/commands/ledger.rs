//! `dichroic ledger`: prints how many points, events and logs were received, exported and dropped.

use super::error::CommandError;
use super::output::{OutputError, json, line, table};
use crate::admin::client;
use crate::cli::{self, Format};
use serde_json::Value;

/// Requests the ledger and prints it. With `--check`, an account that does not balance is an error.
pub async fn ledger(args: cli::Ledger) -> Result<(), CommandError> {
    let document = client::document(&args.admin.address, "/api/v1/ledger").await?;
    match args.format {
        Format::Json => json(&document.to_string())?,
        Format::Text => show(&document)?,
    }
    if args.check && document["balances"] != true {
        return Err(CommandError::Unbalanced);
    }
    Ok(())
}

fn show(document: &Value) -> Result<(), OutputError> {
    let rows = |part: &str, header: &[&str], cells: &dyn Fn(&Value) -> Vec<String>| {
        let list = document[part].as_array().map_or(&[][..], Vec::as_slice);
        if list.is_empty() {
            return Ok(());
        }
        let mut rows = vec![header.iter().map(|h| (*h).to_owned()).collect()];
        rows.extend(list.iter().map(cells));
        table(&rows)?;
        line("")
    };
    rows(
        "ingest",
        &[
            "SOURCE", "SIGNAL", "RECEIVED", "APPLIED", "STAGED", "HIDDEN", "DROPPED", "",
        ],
        &|account| {
            vec![
                format!("{} ({})", text(&account["source"]), text(&account["protocol"])),
                text(&account["signal"]),
                account["received"].to_string(),
                account["applied"].to_string(),
                account["staged"].to_string(),
                by_reason(&account["hidden"]),
                by_reason(&account["dropped"]),
                verdict(account),
            ]
        },
    )?;
    rows(
        "requests",
        &[
            "REQUESTS",
            "SIGNAL",
            "RECEIVED",
            "ACCEPTED",
            "PARTIAL",
            "IN FLIGHT",
            "REFUSED",
            "",
        ],
        &|account| {
            let number = |key: &str| account[key].to_string();
            vec![
                text(&account["transport"]),
                text(&account["signal"]),
                number("received"),
                number("accepted"),
                number("partial"),
                number("in_flight"),
                by_reason(&account["refused"]),
                verdict(account),
            ]
        },
    )?;
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
    )?;
    rows(
        "stages",
        &["STAGE", "COUNT", "P50", "P99", "P99.9", "MAX", "TOTAL"],
        &|stage| {
            let time = |key: &str| stage[key].as_f64().map_or_else(|| "-".to_owned(), duration);
            vec![
                text(&stage["stage"]),
                stage["count"].to_string(),
                time("p50_seconds"),
                time("p99_seconds"),
                time("p999_seconds"),
                time("max_seconds"),
                time("sum_seconds"),
            ]
        },
    )?;
    for relay in document["relays"].as_array().into_iter().flatten() {
        line(&format!("relay {} reports:", text(&relay["source"])))?;
        for (term, value) in relay["account"].as_object().into_iter().flatten() {
            line(&format!("  {term} {value}"))?;
        }
    }
    let balanced = if document["balances"] == true {
        "balances"
    } else {
        "DOES NOT BALANCE"
    };
    line(&format!("the ledger {balanced}"))
}

/// Seconds with three digits, in s, ms or us.
fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "us"),
    };
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("").to_owned()
}

fn by_reason(counts: &Value) -> String {
    let each: Vec<String> = counts
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let check = |seconds, shown| assert_eq!(duration(seconds), shown);
        check(0.0, "0.00 us");
        check(0.000_198_144, "198 us");
        check(0.010_997, "11.0 ms");
        check(1.5, "1.50 s");
        check(12.0, "12.0 s");
    }
}
