//! Recognizes values that look like ids, and units at the end of names.

/// The kind of id that the value of a label looks like.
pub fn id(value: &str) -> Option<&'static str> {
    if uuid(value) {
        return Some("UUIDs");
    }
    if value.starts_with("#PID<") || value.starts_with("#Reference<") || value.starts_with("#Port<") {
        return Some("processes or references");
    }
    if let Some((_, path)) = value.split_once('/')
        && path
            .split('/')
            .any(|part| !part.is_empty() && (uuid(part) || number(part, 2) || hex(part)))
    {
        return Some("paths with ids");
    }
    if number(value, 6) {
        return Some("numbers");
    }
    hex(value).then_some("hashes")
}

fn number(text: &str, digits: usize) -> bool {
    text.len() >= digits && text.bytes().all(|b| b.is_ascii_digit())
}

/// Sixteen or more hexadecimal digits, both letters and decimal digits.
fn hex(text: &str) -> bool {
    text.len() >= 16
        && text.bytes().all(|b| b.is_ascii_hexdigit())
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b.is_ascii_alphabetic())
}

fn uuid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    parts.len() == 5
        && parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts
            .iter()
            .all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The unit at the end of the name of a metric, unless it is a base unit.
pub fn unit_in_name(name: &str) -> Option<&'static str> {
    let known = [
        "ms",
        "millis",
        "milliseconds",
        "us",
        "micros",
        "microseconds",
        "ns",
        "nanos",
        "nanoseconds",
        "minutes",
        "kb",
        "mb",
        "gb",
        "kilobytes",
        "megabytes",
    ];
    let name = name.strip_suffix("_total").unwrap_or(name);
    known.into_iter().find(|word| {
        name.strip_suffix(word)
            .is_some_and(|rest| rest.ends_with(['_', '.']))
    })
}
