//! Durations and sizes as in Prometheus's configuration.

use std::time::Duration;

/// Parses a duration such as `1h30m`, `5s` or `100ms`: whole numbers with units, largest first. `None` for anything else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    let (mut rest, mut millis, mut next) = (text.trim(), 0u64, 0);
    if rest.is_empty() || rest == "0" {
        return (rest == "0").then_some(Duration::ZERO);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = digits + rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = UNITS
            .iter()
            .position(|(name, _)| *name == &rest[digits..unit_end])?;
        if unit < next {
            return None;
        }
        next = unit + 1;
        millis = millis.checked_add(number.checked_mul(UNITS[unit].1)?)?;
        rest = &rest[unit_end..];
    }
    Some(Duration::from_millis(millis))
}

pub(crate) fn format_duration(duration: Duration) -> String {
    match duration.as_millis() {
        0 => "0s".into(),
        millis if millis % 60_000 == 0 => format!("{}m", millis / 60_000),
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    }
}

/// Parses a size in bytes such as `512KiB`, `10MB` or `1048576`. As in Prometheus, KB and KiB are both 1024 bytes. `None` for
/// anything else.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim() {
        "" | "B" => 0,
        "KB" | "KiB" => 10,
        "MB" | "MiB" => 20,
        "GB" | "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_parsed_as_in_prometheus() {
        let millis = |text: &str| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(millis("1m30s"), Some(90_000));
        assert_eq!(millis("100ms"), Some(100));
        assert_eq!(millis("1d"), Some(86_400_000));
        for bad in ["", "5", "s", "5s1m", "1.5s", "5 s", "99999999999999999999s"] {
            assert_eq!(millis(bad), None, "{bad:?}");
        }
        assert_eq!(
            (
                parse_size("10MB"),
                parse_size("1KiB"),
                parse_size("7"),
                parse_size("x")
            ),
            (Some(10 << 20), Some(1024), Some(7), None)
        );
    }
}
