//! `dichroic tap`: prints live events, logs and metric points.

use super::error::{CommandError, StreamError};
use super::output::{self, OutputError, json};
use crate::admin::client::{self, ClientError};
use crate::cli::{self, Format, Kind, LabelFilter};
use dichroic_model::text::{encode_query, escape_control};
use http_body_util::BodyExt;
use serde_json::Value;
use std::io::IsTerminal;
use std::time::Duration;

/// Longest accepted line, in bytes.
const MAX_LINE: usize = 4 << 20;
/// Default interval at which changed points are shown.
const EVERY: Duration = Duration::from_secs(1);

/// Subscribes and prints rows until the limit is reached or the stream ends.
pub async fn tap(args: cli::Tap) -> Result<(), CommandError> {
    if args.every.is_some() && args.kind != Kind::Metric {
        return Err(CommandError::Usage(
            "--every is for points of metrics; add --kind metric",
        ));
    }
    let answer = client::get(&args.admin.address, &query(&args)).await;
    let mut body = answer.map_err(ClientError::of_request)?.into_body();
    let mut rest: Vec<u8> = Vec::new();
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut goodbye = None;
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(StreamError::Connection)?;
        rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let text: Vec<u8> = rest.drain(..=end).collect();
            let row: Value = serde_json::from_slice(&text).map_err(StreamError::Json)?;
            left -= u64::from(print(&text, &row, args.format, colours)?);
            if row["type"] == "goodbye" {
                goodbye = row["message"].as_str().map(str::to_owned);
            }
            if left == 0 {
                return Ok(());
            }
        }
        if rest.len() > MAX_LINE {
            return Err(StreamError::LineTooLong(MAX_LINE).into());
        }
    }
    Err(StreamError::Closed(goodbye).into())
}

fn query(args: &cli::Tap) -> String {
    let mut query = format!("/v1/stream?format=ndjson&kind={}", args.kind.as_str());
    for pattern in &args.patterns {
        query.push_str(&format!("&match={}", encode_query(pattern.as_str())));
    }
    for LabelFilter { label, glob } in &args.wheres {
        query.push_str(&format!("&where.{}={}", encode_query(label), encode_query(glob)));
    }
    if let Some(replay) = args.replay {
        query.push_str(&format!("&replay_ms={}", replay.as_millis()));
    }
    if args.kind == Kind::Metric {
        let every = args.every.unwrap_or(EVERY);
        query.push_str(&format!("&every_ms={}", every.as_millis()));
    }
    query
}

/// The note on a pattern that matches no known name.
pub fn unmatched(pattern: &str, near: &[String]) -> String {
    let near: Vec<_> = near.iter().map(|name| format!("{name:?}")).collect();
    let nearest = if near.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", near.join(" or "))
    };
    format!("{pattern:?} matches no name that the collector knows yet{nearest}")
}

/// The notes of a HELLO on its patterns.
fn notes(hello: &Value) -> Vec<String> {
    let patterns = hello["unmatched"].as_object().into_iter().flatten();
    let unmatched = patterns.map(|(pattern, near)| {
        let near = near.as_array().into_iter().flatten().filter_map(Value::as_str);
        unmatched(pattern, &near.map(str::to_owned).collect::<Vec<_>>())
    });
    let defined = hello["without_sender"].as_array().into_iter().flatten();
    let defined = defined.filter_map(Value::as_str).map(|pattern| {
        format!("{pattern:?} matches names that packs define, but no sender of these events is connected")
    });
    unmatched.chain(defined).collect()
}

/// Prints one line of the stream. Returns whether it was a row, not a HELLO, a gap or a GOODBYE.
fn print(text: &[u8], row: &Value, format: Format, colours: bool) -> Result<bool, OutputError> {
    let kind = row["type"].as_str().unwrap_or("");
    for note in notes(row) {
        output::warning(&note);
    }
    if format == Format::Json {
        if kind != "hello" {
            json(String::from_utf8_lossy(text).trim_end())?;
        }
    } else if let Some(shown) = describe(kind, row, colours) {
        output::print(&shown)?;
    }
    Ok(matches!(kind, "event" | "log" | "point"))
}

fn describe(kind: &str, value: &Value, colours: bool) -> Option<String> {
    let paint = |code: &str, text: &str| {
        if colours {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    };
    let name = value["name"].as_str().unwrap_or("");
    let time = paint("2", &clock(value["time"].as_i64().unwrap_or(0)));
    let name = paint("36", &escape_control(name));
    Some(match kind {
        "event" => format!(
            "{time} {name} {} {}",
            measurements(value),
            pairs(&value["metadata"])
        ),
        "log" => format!("{time} {name} {}", pairs(&value["metadata"])),
        "point" => format!("{time} {name} {} {}", pairs(&value["labels"]), reading(value)),
        "gap" => {
            let lost = value["lost"]
                .as_u64()
                .map_or("an unknown number of".to_owned(), |n| n.to_string());
            let rows = if value["lost"] == 1 { "row" } else { "rows" };
            paint(
                "33",
                &format!(
                    "gap: {lost} {rows}{} lost, {}{}",
                    of(value["name"].as_str()),
                    escape_control(value["reason"].as_str().unwrap_or("")),
                    span(value)
                ),
            )
        }
        _ => return None,
    })
}

fn of(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" of {}", escape_control(name)))
}

/// The time of a gap that has one.
fn span(gap: &Value) -> String {
    match (gap["start"].as_i64(), gap["end"].as_i64()) {
        (Some(start), Some(end)) => format!(" from {} to {}", clock(start), clock(end)),
        _ => String::new(),
    }
}

/// The value of a point. A histogram has a count and a sum instead.
fn reading(point: &Value) -> String {
    let unit = &point["unit"];
    match (&point["value"], &point["count"]) {
        (Value::Null, Value::Null) => "no value".to_owned(),
        (Value::Null, count) => {
            let sum = match &point["sum"] {
                Value::Null => "none".to_owned(),
                sum => with_unit(sum, unit),
            };
            format!("count={count} sum={sum}")
        }
        (value, _) => with_unit(value, unit),
    }
}

fn measurements(event: &Value) -> String {
    let each = event["measurements"].as_object().into_iter().flatten();
    let each = each.map(|(name, value)| {
        format!(
            "{}={}",
            escape_control(name),
            with_unit(value, &event["units"][name])
        )
    });
    each.collect::<Vec<_>>().join(" ")
}

/// The value with its unit, if it has one.
fn with_unit(value: &Value, unit: &Value) -> String {
    match unit.as_str().unwrap_or_default() {
        "" | "1" => short(value),
        unit => format!("{} {}", short(value), escape_control(unit)),
    }
}

fn pairs(map: &Value) -> String {
    let each: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{}={}", escape_control(key), short(value)))
        .collect();
    each.join(" ")
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().any(char::is_whitespace) => format!("{text:?}"),
        Value::String(text) => escape_control(text).into_owned(),
        other => escape_control(&other.to_string()).into_owned(),
    }
}

/// The UTC time of day, with milliseconds.
fn clock(nanos: i64) -> String {
    let millis = nanos.div_euclid(1_000_000);
    let (seconds, millis) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
    let day = seconds.rem_euclid(86_400);
    format!(
        "{:02}:{:02}:{:02}.{millis:03}",
        day / 3_600,
        day / 60 % 60,
        day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_typo_is_answered_with_the_nearest_names() {
        let hello =
            json!({"unmatched": {"pheonix.**": ["phoenix.**", "b"], "x": []}, "without_sender": ["oban.**"]});
        assert_eq!(
            notes(&hello),
            [
                r#""pheonix.**" matches no name that the collector knows yet; did you mean "phoenix.**" or "b"?"#,
                r#""x" matches no name that the collector knows yet"#,
                r#""oban.**" matches names that packs define, but no sender of these events is connected"#,
            ]
        );
        assert!(notes(&json!({"type": "event"})).is_empty());
    }

    #[test]
    fn rows_are_shown_as_text_with_control_characters_escaped() {
        let check = |value: Value, expected: &str| {
            assert_eq!(
                describe(value["type"].as_str().unwrap(), &value, false).as_deref(),
                Some(expected)
            );
        };
        check(
            json!({"type": "event", "name": "a.stop", "time": 3_723_004_000_000i64, "measurements": {"d": 5}, "metadata": {"route": "/x y", "status": 200}}),
            "01:02:03.004 a.stop d=5 route=\"/x y\" status=200",
        );
        check(
            json!({"type": "event", "name": "\u{1b}[2Ja", "time": 0, "measurements": {}, "metadata": {"\u{9b}k": "\u{1b}[31m", "l": ["\u{7f}"]}}),
            "00:00:00.000 \\u{1b}[2Ja  l=[\"\\u{7f}\"] \\u{9b}k=\\u{1b}[31m",
        );
        check(
            json!({"type": "event", "name": "a", "time": 0, "measurements": {"d": 5, "n": 1}, "units": {"d": "ns"}, "metadata": {}}),
            "00:00:00.000 a d=5 ns n=1 ",
        );
        let point = |fields: Value| {
            let mut point = json!({"type": "point", "name": "m", "time": 0, "start": 0, "unit": "s", "labels": {"a": "b"}});
            point
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            point
        };
        // A counter, a gauge without a unit, and a quantile of a summary.
        check(
            point(json!({"kind": "counter", "value": 2.25})),
            "00:00:00.000 m a=b 2.25 s",
        );
        check(
            point(json!({"kind": "gauge", "unit": "", "value": "NaN"})),
            "00:00:00.000 m a=b NaN",
        );
        check(
            point(json!({"kind": "summary", "labels": {"quantile": "0.5"}, "value": 0.2})),
            "00:00:00.000 m quantile=0.5 0.2 s",
        );
        check(
            point(json!({"kind": "histogram", "count": 5, "sum": 4.5, "bounds": [0.1], "counts": [3, 2]})),
            "00:00:00.000 m a=b count=5 sum=4.5 s",
        );
        check(
            point(json!({"kind": "exponential_histogram", "count": 9, "sum": null, "scale": 3, "zero": 2})),
            "00:00:00.000 m a=b count=9 sum=none",
        );
        check(
            json!({"type": "gap", "lost": null, "reason": "slow"}),
            "gap: an unknown number of rows lost, slow",
        );
        check(
            json!({"type": "gap", "lost": 3, "reason": "slow"}),
            "gap: 3 rows lost, slow",
        );
        check(
            json!({"type": "gap", "lost": null, "reason": "not subscribed", "name": "a.b", "start": 1_000_000_000, "end": 3_800_000_000i64}),
            "gap: an unknown number of rows of a.b lost, not subscribed from 00:00:01.000 to 00:00:03.800",
        );
    }
}
