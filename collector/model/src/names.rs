//! Metric names and label names on a Prometheus page.
//!
//! Dotted names are translated to underscores with unit and `_total` suffixes; scraped names keep all their characters.
//! Source: OpenTelemetry specification, "Prometheus and OpenMetrics compatibility", metric metadata; Prometheus data model.

use crate::metric::{MetricKind, PageType};
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

impl PageName {
    /// The name of its samples with a suffix, such as `_total`.
    pub fn sample(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.base)
    }
}

/// Translates a canonical name.
pub fn page_name(name: &str, unit: &str, kind: MetricKind, style: NameStyle) -> PageName {
    match style {
        NameStyle::Verbatim => verbatim(&readable_metric(name), unit, kind),
        NameStyle::Scraped => verbatim(name, unit, kind),
        NameStyle::OpenTelemetry => translated(name, unit, kind),
    }
}

fn verbatim(name: &str, unit: &str, kind: MetricKind) -> PageName {
    let stripped = match kind.page_type() {
        PageType::Counter => without_total(name),
        _ => None,
    };
    let base = stripped.unwrap_or(name);
    let unit = if !unit.is_empty() && has_suffix(base, unit) {
        unit
    } else {
        ""
    };
    PageName {
        base: match (kind.page_type(), base) {
            // Parsers take `_total` off the name of a counter.
            (PageType::Counter, "_total") => encode(base, true),
            _ => escape(base, true).into_owned(),
        },
        total: stripped.is_some(),
        unit: unit.to_owned(),
    }
}

fn translated(name: &str, unit: &str, kind: MetricKind) -> PageName {
    let mut base = collapse(&readable_metric(name));
    let counter = kind.page_type() == PageType::Counter;
    if counter && let Some(stripped) = without_total(&base) {
        base.truncate(stripped.len());
    }
    let mut unit = unit_words(unit, kind);
    if !unit.is_empty() && !has_words(&base, &unit) {
        if !base.ends_with('_') {
            base.push('_');
        }
        base.push_str(&unit);
    }
    if !has_suffix(&base, &unit) {
        unit.clear();
    }
    PageName {
        base: escape(&base, true).into_owned(),
        total: counter,
        unit,
    }
}

/// The name without `_total`, unless nothing else is left.
fn without_total(name: &str) -> Option<&str> {
    name.strip_suffix("_total").filter(|rest| !rest.is_empty())
}

fn has_suffix(base: &str, unit: &str) -> bool {
    base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

/// Whether the words of a unit are among those of a name, one after the other. Then the name needs no suffix.
fn has_words(base: &str, unit: &str) -> bool {
    format!("_{base}_").contains(&format!("_{unit}_"))
}

/// Before a name that is escaped by the `values` scheme.
pub const ESCAPED: &str = "U__";

/// Makes a label name valid: invalid ASCII characters become `_`, and a name that is empty or begins with a digit gets the prefix `_`.
/// A name with other characters is escaped by the `values` scheme of Prometheus, so that no two names become one. So is a name that
/// looks like an escaped one.
pub fn label_name(name: &str) -> Cow<'_, str> {
    let readable = readable_label(name);
    if readable.is_ascii() && !readable.starts_with(ESCAPED) {
        return readable;
    }
    Cow::Owned(encode(&readable, false))
}

/// The name of a scraped label: characters that are invalid in an older Prometheus are escaped, not replaced.
pub fn scraped_label_name(name: &str) -> Cow<'_, str> {
    escape(name, false)
}

fn readable_metric(name: &str) -> Cow<'_, str> {
    readable(name, |byte| is_label_byte(byte) || byte == b':')
}

fn readable_label(name: &str) -> Cow<'_, str> {
    readable(name, is_label_byte)
}

/// Letters, digits, `_`, and bytes of characters that are not ASCII.
fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// The name with `_` in place of invalid ASCII characters, and before a leading digit.
fn readable(name: &str, valid: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if starts_well && name.bytes().all(&valid) {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len() + 1);
    if !starts_well {
        out.push(b'_');
    }
    out.extend_from_slice(name.as_bytes());
    for byte in &mut out {
        *byte = if valid(*byte) { *byte } else { b'_' };
    }
    Cow::Owned(String::from_utf8(out).expect("only ASCII characters are replaced"))
}

/// A name that every scraper reads, and that no other name becomes. Only metric names may have colons. Source: Prometheus "Escaping
/// schemes", `values`; there a name that looks like an escaped one is not escaped.
fn escape(name: &str, colons: bool) -> Cow<'_, str> {
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    // A byte of a character that is not ASCII is not plain either.
    let plain = |byte| is_plain(char::from(byte), colons);
    if starts_well && name.bytes().all(plain) && !name.starts_with(ESCAPED) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(encode(name, colons))
}

fn encode(name: &str, colons: bool) -> String {
    let mut out = ESCAPED.to_owned();
    for (at, c) in name.char_indices() {
        match c {
            '_' => out.push_str("__"),
            c if is_plain(c, colons) && (at > 0 || !c.is_ascii_digit()) => out.push(c),
            c => out.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
    out
}

fn is_plain(c: char, colons: bool) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || (c == ':' && colons)
}

/// The name that was escaped. `None` if it is not such a name.
pub fn unescape(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix(ESCAPED)?;
    let mut out = String::with_capacity(rest.len());
    while let Some((plain, after)) = rest.split_once('_') {
        out.push_str(plain);
        if let Some(after) = after.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (digits, after) = after.split_once('_')?;
        out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
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
fn unit_words(unit: &str, kind: MetricKind) -> String {
    if unit == "1" {
        return if kind == MetricKind::Gauge {
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
            let text = collapse(&readable_label(&plain));
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
    use MetricKind::{Gauge, Histogram};

    const COUNTER: MetricKind = MetricKind::COUNTER;
    const UP_DOWN: MetricKind = MetricKind::Sum { monotonic: false };

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
        check("oban.job.count", "", COUNTER, "oban_job_count", true);
        check("requests_total", "1", COUNTER, "requests", true);
        check("vm.memory", "By", Gauge, "vm_memory_bytes", false);
        check("load", "1", Gauge, "load_ratio", false);
        check("net.speed", "By/s", Gauge, "net_speed_bytes_per_second", false);
        check("net.speed.bytes", "By", COUNTER, "net_speed_bytes", true);
        check("9.lives", "", Gauge, "_9_lives", false);
        check("a..b__c", "", Gauge, "a_b_c", false);
        check("жар", "Cel", Gauge, "U___436__430__440___celsius", false);
        check("ratio", "1", Gauge, "ratio", false);
        check("cache.hit.ratio", "1", Gauge, "cache_hit_ratio", false);
        check("pool.size", "1", UP_DOWN, "pool_size", false);
        check("seconds", "s", COUNTER, "seconds", true);
        check("_total", "", COUNTER, "_total", true);
        check("total", "", COUNTER, "total", true);
        check("uptime.seconds", "s", Gauge, "uptime_seconds", false);
        check("bytes.used", "By", Gauge, "bytes_used", false);
        check("kilobytes", "By", Gauge, "kilobytes_bytes", false);
    }

    #[test]
    fn invalid_characters_and_leading_digits_are_replaced_in_attributes_and_escaped_in_scraped_labels() {
        let check = |name: &str, attribute: &str, scraped: &str| {
            let names = (&*label_name(name), &*scraped_label_name(name));
            assert_eq!(names, (attribute, scraped), "{name:?}");
        };
        check("status_code", "status_code", "status_code");
        check("2xx", "_2xx", "U___32_xx");
        check("a:b", "a_b", "U__a_3a_b");
        check("a.b", "a_b", "U__a_2e_b");
        check("é-9", "U___e9___9", "U___e9__2d_9");
        check("", "_", "U__");
        check("U__a_2e_b", "U__U____a__2e__b", "U__U____a__2e__b");
        check("U__", "U__U____", "U__U____");
        check("U_", "U_", "U_");
    }

    #[test]
    fn scraped_names_are_unchanged_and_a_unit_is_shown_only_if_the_name_has_it() {
        let check = |name, unit, kind, base: &str, total, shown: &str| {
            let page = page_name(name, unit, kind, NameStyle::Scraped);
            assert_eq!(
                (page.base.as_str(), page.total, page.unit.as_str()),
                (base, total, shown),
                "{name}"
            );
        };
        check("http_requests_total", "", COUNTER, "http_requests", true, "");
        check("http_requests", "", COUNTER, "http_requests", false, "");
        check("vllm:tokens_total", "", COUNTER, "vllm:tokens", true, "");
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
        check(
            "http.server.active",
            "",
            Gauge,
            "U__http_2e_server_2e_active",
            false,
            "",
        );
        check("a.b_total", "", COUNTER, "U__a_2e_b", true, "");
        check("2xx", "", Gauge, "U___32_xx", false, "");
        check("U__a_2e_b", "", Gauge, "U__U____a__2e__b", false, "");
        check("_total", "", COUNTER, "U____total", false, "");
        check("_total", "", Gauge, "_total", false, "");
        let defined = page_name("prom_ex.beam.up-time", "", Gauge, NameStyle::Verbatim);
        assert_eq!(defined.base, "prom_ex_beam_up_time");
    }

    #[test]
    fn names_with_other_letters_stay_apart_and_can_be_read_back() {
        let names = [
            "größe",
            "grösse",
            "größe.x",
            "größe_x",
            "жар",
            "жаз",
            "数",
            "a数",
            "数a_",
        ];
        let mut seen = std::collections::HashSet::new();
        for name in names {
            let escaped = label_name(name);
            assert!(
                escaped.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                "{escaped}"
            );
            assert_eq!(unescape(&escaped), Some(name.replace('.', "_")), "{escaped}");
            seen.insert(escaped.into_owned());
        }
        for name in [
            "a.b",
            "2xx",
            "a \"b\"\n",
            "U__a_2e_b",
            "U___22_:",
            "U______name____",
            "",
            "_.",
        ] {
            assert_eq!(unescape(&scraped_label_name(name)).as_deref(), Some(name));
        }
        assert_eq!(seen.len(), names.len() - 1, "a dot is an underscore everywhere");
        for other in ["plain", "U__x_", "U__x_zz_", "U__x_110000_", "U_x"] {
            assert_eq!(unescape(other), None, "{other}");
        }
    }
}
