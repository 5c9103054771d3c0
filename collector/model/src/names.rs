//! Metric names on a Prometheus page.
//!
//! Dotted names are translated to underscores with unit and `_total` suffixes; scraped names are unchanged.
//! Source: OpenTelemetry specification, "Prometheus and OpenMetrics compatibility", metric metadata; Prometheus data model.

use crate::metric::PageType;
use crate::series::NameStyle;
use std::borrow::Cow;

/// The name of a family on a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PageName {
    /// OpenMetrics family name, without `_total`.
    pub base: String,
    /// Whether counter samples end with `_total`. A scraped counter without it is `unknown` in OpenMetrics.
    pub total: bool,
    /// Unit for `# UNIT` if `base` ends with it, otherwise empty.
    pub unit: String,
}

/// Translates a canonical name.
pub fn page_name(name: &str, unit: &str, kind: PageType, style: NameStyle) -> PageName {
    match style {
        NameStyle::Verbatim => verbatim(name, unit, kind),
        NameStyle::OpenTelemetry => translated(name, unit, kind),
    }
}

fn verbatim(name: &str, unit: &str, kind: PageType) -> PageName {
    let name = sanitize(name, true);
    let stripped = match kind {
        PageType::Counter => name.strip_suffix("_total"),
        _ => None,
    };
    let base = stripped.unwrap_or(&name).to_owned();
    let unit = if !unit.is_empty() && has_suffix(&base, unit) {
        unit.to_owned()
    } else {
        String::new()
    };
    PageName {
        base,
        total: stripped.is_some(),
        unit,
    }
}

fn translated(name: &str, unit: &str, kind: PageType) -> PageName {
    let mut base = collapse(&sanitize(name, true));
    let counter = kind == PageType::Counter;
    if counter && let Some(stripped) = base.strip_suffix("_total") {
        base.truncate(stripped.len());
    }
    let unit = unit_words(unit, kind);
    if !unit.is_empty() && !has_suffix(&base, &unit) {
        if !base.ends_with('_') {
            base.push('_');
        }
        base.push_str(&unit);
    }
    PageName {
        base,
        total: counter,
        unit,
    }
}

fn has_suffix(base: &str, unit: &str) -> bool {
    base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

/// A valid metric or label name: invalid characters become `_`, a leading digit gets the prefix `_`. Metric names may have colons.
pub fn sanitize(name: &str, colons: bool) -> Cow<'_, str> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let valid_start = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    if valid_start && name.chars().all(valid) {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len() + 1);
    if !valid_start {
        out.push(b'_');
    }
    out.extend_from_slice(name.as_bytes());
    // Drops the continuation bytes of multi-byte characters.
    if !name.is_ascii() {
        out.retain(|byte| !(0x80..0xc0).contains(byte));
    }
    for byte in &mut out {
        if !valid(char::from(*byte)) {
            *byte = b'_';
        }
    }
    Cow::Owned(String::from_utf8(out).expect("ASCII"))
}

fn collapse(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    out.truncate(out.trim_end_matches('_').len().max(1));
    out
}

/// Converts UCUM to the unit words of Prometheus names.
fn unit_words(unit: &str, kind: PageType) -> String {
    if unit == "1" {
        return if kind == PageType::Gauge {
            "ratio".to_owned()
        } else {
            String::new()
        };
    }
    match unit.split_once('/') {
        None => unit_word(unit).into_owned(),
        Some((of, per)) => {
            let (of, per) = (unit_word(of), per_word(per));
            match (of.is_empty(), per.is_empty()) {
                (_, true) => of.into_owned(),
                (true, false) => format!("per_{per}"),
                (false, false) => format!("{of}_per_{per}"),
            }
        }
    }
}

fn unit_word(unit: &str) -> Cow<'static, str> {
    let word = match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "kBy" | "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "%" => "percent",
        "1" | "" => "",
        _ => {
            // Annotations in braces are not units.
            let mut depth = 0usize;
            let plain: String = unit
                .chars()
                .filter(|c| {
                    depth += usize::from(*c == '{');
                    let outside = depth == 0;
                    depth -= usize::from(*c == '}' && depth > 0);
                    outside
                })
                .collect();
            let text = collapse(&sanitize(&plain, false));
            return if plain.is_empty() {
                Cow::Borrowed("")
            } else {
                Cow::Owned(text.trim_matches('_').to_owned())
            };
        }
    };
    Cow::Borrowed(word)
}

fn per_word(unit: &str) -> Cow<'static, str> {
    match unit {
        "s" => Cow::Borrowed("second"),
        "m" => Cow::Borrowed("minute"),
        "min" => Cow::Borrowed("minute"),
        "h" => Cow::Borrowed("hour"),
        "d" => Cow::Borrowed("day"),
        "w" => Cow::Borrowed("week"),
        "mo" => Cow::Borrowed("month"),
        "y" => Cow::Borrowed("year"),
        other => unit_word(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PageType::{Counter, Gauge, Histogram};

    #[test]
    fn dotted_names_get_units_and_total() {
        let check = |name, unit, kind, base: &str, total| {
            let page = page_name(name, unit, kind, NameStyle::OpenTelemetry);
            assert_eq!((page.base.as_str(), page.total), (base, total), "{name} {unit}");
        };
        check(
            "http.server.request.duration",
            "s",
            Histogram,
            "http_server_request_duration_seconds",
            false,
        );
        check(
            "http.server.active_requests",
            "{request}",
            Gauge,
            "http_server_active_requests",
            false,
        );
        check("oban.job.count", "", Counter, "oban_job_count", true);
        check("requests_total", "1", Counter, "requests", true);
        check("vm.memory", "By", Gauge, "vm_memory_bytes", false);
        check("load", "1", Gauge, "load_ratio", false);
        check("net.speed", "By/s", Gauge, "net_speed_bytes_per_second", false);
        check("net.speed.bytes", "By", Counter, "net_speed_bytes", true);
        check("9.lives", "", Gauge, "_9_lives", false);
        check("a..b__c", "", Gauge, "a_b_c", false);
        check("жар", "Cel", Gauge, "_celsius", false);
    }

    #[test]
    fn scraped_names_are_unchanged_and_a_unit_is_shown_only_if_the_name_has_it() {
        let check = |name, unit, kind, base: &str, total, shown: &str| {
            let page = page_name(name, unit, kind, NameStyle::Verbatim);
            assert_eq!(
                (page.base.as_str(), page.total, page.unit.as_str()),
                (base, total, shown),
                "{name}"
            );
        };
        check("http_requests_total", "", Counter, "http_requests", true, "");
        check("http_requests", "", Counter, "http_requests", false, "");
        check("vllm:tokens_total", "", Counter, "vllm:tokens", true, "");
        check(
            "iteration_tokens_total",
            "",
            Histogram,
            "iteration_tokens_total",
            false,
            "",
        );
        check("rss_bytes", "bytes", Gauge, "rss_bytes", false, "bytes");
        check("rss", "bytes", Gauge, "rss", false, "");
        check("http.server.active", "", Gauge, "http_server_active", false, "");
    }
}
