//! `dichroic ledger`: prints how many points, events and logs were received, exported and dropped.

use super::error::CommandError;
use super::output::{columns, json, line};
use crate::admin::client;
use crate::cli::{self, Format};
use dichroic_model::text::plural_of;
use serde_json::Value;

/// Requests the ledger and prints it. With `--check`, an account that does not balance is an error.
pub async fn ledger(args: cli::Ledger) -> Result<(), CommandError> {
    let document = client::document(&args.admin.address, "/api/v1/ledger").await?;
    match args.format {
        Format::Json => json(&document.to_string())?,
        Format::Text => text(&document, args.all).iter().try_for_each(|each| line(each))?,
    }
    if args.check && document["balances"] != true {
        return Err(CommandError::Unbalanced);
    }
    Ok(())
}

/// The tables of the hops, the terms that relays report, and whether the ledger balances.
fn text(document: &Value, all: bool) -> Vec<String> {
    let tables = [
        ingest(document),
        requests(document),
        exporters(document),
        stages(document),
    ];
    let mut lines = tables.concat();
    for relay in document["relays"].as_array().into_iter().flatten() {
        lines.extend(relay_terms(relay, all));
    }
    lines.push(match document["balances"] == true {
        true => "the ledger balances".to_owned(),
        false => "the ledger DOES NOT BALANCE".to_owned(),
    });
    lines
}

/// The table of a part, and an empty line; nothing if the part is empty.
fn rows(document: &Value, part: &str, header: &[&str], cells: impl Fn(&Value) -> Vec<String>) -> Vec<String> {
    let list = document[part].as_array().map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![header.iter().map(|h| (*h).to_owned()).collect()];
    rows.extend(list.iter().map(cells));
    let mut lines = columns(&rows);
    lines.push(String::new());
    lines
}

fn ingest(document: &Value) -> Vec<String> {
    rows(
        document,
        "ingest",
        &[
            "SOURCE", "SIGNAL", "RECEIVED", "APPLIED", "HIDDEN", "STAGED", "DROPPED", "",
        ],
        |account| {
            vec![
                format!("{} ({})", field(&account["source"]), field(&account["protocol"])),
                field(&account["signal"]),
                account["received"].to_string(),
                account["applied"].to_string(),
                by_reason(&account["hidden"]),
                account["staged"].to_string(),
                by_reason(&account["dropped"]),
                verdict(account),
            ]
        },
    )
}

fn requests(document: &Value) -> Vec<String> {
    rows(
        document,
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
        |account| {
            let number = |key: &str| account[key].to_string();
            vec![
                field(&account["transport"]),
                field(&account["signal"]),
                number("received"),
                number("accepted"),
                number("partial"),
                number("in_flight"),
                by_reason(&account["refused"]),
                verdict(account),
            ]
        },
    )
}

fn exporters(document: &Value) -> Vec<String> {
    rows(
        document,
        "exporters",
        &["EXPORTER", "OFFERED", "SENT", "DROPPED", "QUEUED", ""],
        |hop| {
            let number = |key: &str| hop[key].to_string();
            vec![
                field(&hop["exporter"]),
                number("offered"),
                number("sent"),
                number("dropped"),
                number("queued"),
                verdict(hop),
            ]
        },
    )
}

fn stages(document: &Value) -> Vec<String> {
    rows(
        document,
        "stages",
        &["STAGE", "COUNT", "P50", "P99", "P99.9", "MAX", "TOTAL"],
        |stage| {
            let time = |key: &str| stage[key].as_f64().map_or_else(|| "-".to_owned(), duration);
            vec![
                field(&stage["stage"]),
                stage["count"].to_string(),
                time("p50_seconds"),
                time("p99_seconds"),
                time("p999_seconds"),
                time("max_seconds"),
                time("sum_seconds"),
            ]
        },
    )
}

/// The terms that a relay reports. One is 0 for each event that never occurred: these are only counted.
fn relay_terms(relay: &Value, all: bool) -> Vec<String> {
    let mut lines = vec![format!("relay {} reports:", field(&relay["source"]))];
    let terms = relay["account"].as_object();
    let (zero, others): (Vec<_>, Vec<_>) = terms
        .into_iter()
        .flatten()
        .partition(|(_, value)| !all && **value == 0);
    lines.extend(
        others
            .into_iter()
            .map(|(term, value)| format!("  {term} {value}")),
    );
    if !zero.is_empty() {
        let zero = plural_of(zero.len(), "term is", "terms are");
        lines.push(format!("  {zero} 0; --all shows them"));
    }
    lines
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

fn field(value: &Value) -> String {
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
    use serde_json::json;

    #[test]
    fn hidden_points_have_a_column_with_their_reasons() {
        let ledger = json!({
            "balances": true,
            "ingest": [{
                "source": "shop", "protocol": "otlp", "signal": "metrics", "received": 10, "applied": 4, "staged": 1,
                "hidden": { "label_text": 2, "source": 1 }, "dropped": { "malformed": 2 }, "balances": true,
            }],
        });
        assert_eq!(
            text(&ledger, false),
            [
                "SOURCE       SIGNAL   RECEIVED  APPLIED  HIDDEN                  STAGED  DROPPED",
                "shop (otlp)  metrics  10        4        2 label_text, 1 source  1       2 malformed",
                "",
                "the ledger balances",
            ]
        );
    }

    #[test]
    fn terms_of_a_relay_that_are_0_are_counted_and_shown_with_all() {
        let ledger = |zeros: usize| {
            let zeros = (0..zeros).map(|at| (format!("rows_sent{{event=\"e{at}\"}}"), json!(0)));
            let account: serde_json::Map<_, _> = zeros.chain([("handled".to_owned(), json!(7))]).collect();
            json!({ "balances": false, "relays": [{ "source": "shop@a", "account": account }] })
        };
        let check = |zeros, all, expected: &[&str]| assert_eq!(text(&ledger(zeros), all), expected);
        let (head, end) = ("relay shop@a reports:", "the ledger DOES NOT BALANCE");
        check(0, false, &[head, "  handled 7", end]);
        check(
            1,
            false,
            &[head, "  handled 7", "  1 term is 0; --all shows them", end],
        );
        check(
            254,
            false,
            &[head, "  handled 7", "  254 terms are 0; --all shows them", end],
        );
        check(
            1,
            true,
            &[head, "  handled 7", "  rows_sent{event=\"e0\"} 0", end],
        );
    }

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
