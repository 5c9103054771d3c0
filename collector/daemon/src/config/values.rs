//! Values of the configuration with a range or a unit: integers, durations, sizes, addresses, secrets.
//!
//! The range is part of the type, so that reading, the JSON Schema and the reference in `docs/` state the same one.

use dichroic_receiver_prometheus::units;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapDeserializer;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Keyword of the schema with the expectation as error messages state it, such as `an integer from 1 to 65535`.
pub const EXPECTED: &str = "x-expected";
/// Keyword of the schema for values that are never shown.
pub const SECRET: &str = "x-secret";

/// An integer from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Count<const MIN: u64, const MAX: u64>(pub usize);

/// A duration from `MIN` to `MAX` milliseconds, written as `500ms`, `5s`, `2m`, `1h`, or a sum such as `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Span<const MIN: u64, const MAX: u64>(pub Duration);

/// A size from `MIN` to `MAX` bytes, written as `64KiB`, `512MiB`, `1GiB` or a plain number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Size<const MIN: u64, const MAX: u64>(pub usize);

/// One hour in milliseconds, the longest [`Span`] of most keys.
pub const HOUR: u64 = 3_600_000;
/// The largest [`Size`] of most keys: 64 TiB.
pub const MAX_SIZE: u64 = 1 << 46;
/// The largest [`Count`] of most keys.
pub const MAX_COUNT: u64 = u32::MAX as u64;

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Secret {
    /// Compares in a time that does not depend on where the two differ.
    pub fn matches(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// An address to listen on, or `false` to switch the listener off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Written as `false` or `off`.
    Off,
    /// Numeric host and port.
    On(SocketAddr),
}

impl Listen {
    /// The address, unless the listener is off.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Listen::Off => None,
            Listen::On(address) => Some(*address),
        }
    }
}

/// Text that is not a duration or a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a duration.
    #[error("invalid duration {0:?}: expected a number with a unit, such as 500ms, 5s or 1h30m")]
    Duration(String),
    /// Not a size.
    #[error(
        "invalid size {0:?}: expected a number of bytes or a number with a unit, such as 64KiB or 512MiB"
    )]
    Size(String),
}

/// Reads a duration in Prometheus's notation.
pub fn parse_span(text: &str) -> Result<Duration, ValueError> {
    units::parse_duration(text).ok_or_else(|| ValueError::Duration(text.to_owned()))
}

/// Reads a size in Prometheus's notation.
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    units::parse_size(text)
        .filter(|bytes| *bytes <= MAX_SIZE)
        .ok_or_else(|| ValueError::Size(text.to_owned()))
}

/// The addresses of a host and port that are known without a name server.
pub fn literal_addresses(host: &str, port: u16) -> Vec<SocketAddr> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return loopback.map(|ip: IpAddr| SocketAddr::new(ip, port)).into();
    }
    let ip = host.parse().into_iter();
    ip.map(|ip: IpAddr| SocketAddr::new(ip, port)).collect()
}

fn show_span(millis: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (HOUR, "h"), (60_000, "m"), (1_000, "s")];
    let unit = UNITS.iter().find(|(unit, _)| millis.is_multiple_of(*unit));
    match unit {
        _ if millis == 0 => "0s".to_owned(),
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// The size in the notation of the configuration.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS
        .iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    match unit {
        Some((shift, name)) => format!("{}{name}", bytes >> shift),
        None if bytes == 1 => "1 byte".to_owned(),
        None => format!("{bytes} bytes"),
    }
}

/// Reads a value that is written as text or as a plain scalar; `None` is refused with `expected`.
struct Text<T> {
    read: fn(&str) -> Option<T>,
    expected: String,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.read)(&number.to_string())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.read)(&number.to_string())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        (self.read)(if value { "true" } else { "false" })
            .ok_or_else(|| E::invalid_value(de::Unexpected::Bool(value), &self))
    }
}

impl<const MIN: u64, const MAX: u64> Count<MIN, MAX> {
    fn expected() -> String {
        format!("an integer from {MIN} to {MAX}")
    }
}

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    fn expected() -> String {
        format!("a duration from {} to {}", show_span(MIN), show_span(MAX))
    }
}

impl<const MIN: u64, const MAX: u64> Size<MIN, MAX> {
    fn expected() -> String {
        match MAX {
            MAX_SIZE if MIN == 0 => "a size".to_owned(),
            MAX_SIZE => format!("a size of at least {}", show_size(MIN)),
            _ => format!("a size from {} to {}", show_size(MIN), show_size(MAX)),
        }
    }
}

const ADDRESS: &str = "HOST:PORT with a numeric host, such as 127.0.0.1:9464, or false";

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| {
            let number = text.parse().ok().filter(|n| (MIN..=MAX).contains(n))?;
            usize::try_from(number).ok().map(Count)
        };
        let expected = Self::expected();
        deserializer.deserialize_any(Text { read, expected })
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| {
            let range = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
            parse_span(text)
                .ok()
                .filter(|span| range.contains(span))
                .map(Span)
        };
        let expected = Self::expected();
        deserializer.deserialize_any(Text { read, expected })
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Size<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| {
            let bytes = parse_size(text)
                .ok()
                .filter(|bytes| (MIN..=MAX).contains(bytes))?;
            usize::try_from(bytes).ok().map(Size)
        };
        let expected = Self::expected();
        deserializer.deserialize_any(Text { read, expected })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| match text {
            "false" | "off" => Some(Listen::Off),
            text => text.parse().map(Listen::On).ok(),
        };
        let expected = ADDRESS.to_owned();
        deserializer.deserialize_any(Text { read, expected })
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Count<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0 as u64)
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Span<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_span(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Size<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 as u64 {
            bytes if bytes > 0 && bytes.is_multiple_of(1 << 10) => {
                serializer.serialize_str(&show_size(bytes))
            }
            bytes => serializer.serialize_u64(bytes),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<redacted>")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Serialize for Listen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Listen::Off => serializer.serialize_bool(false),
            Listen::On(address) => serializer.serialize_str(&address.to_string()),
        }
    }
}

/// Reads a section of the file; one without content has all its defaults.
pub fn section<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    match Option::<T>::deserialize(deserializer)? {
        Some(section) => Ok(section),
        None => T::deserialize(MapDeserializer::new(std::iter::empty::<(&str, &str)>())),
    }
}

/// Reads a section that is off unless it is present.
pub fn present_section<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    section(deserializer).map(Some)
}

/// Reads a secret. One without content is an empty secret, which the checks reject: an unset variable must not switch it off.
pub fn present_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let secret = Option::<Secret>::deserialize(deserializer)?;
    Ok(Some(secret.unwrap_or(Secret(String::new()))))
}

/// A schema without a definition of its own.
macro_rules! inline_schema {
    ($name:literal, $schema:expr) => {
        fn schema_name() -> Cow<'static, str> {
            $name.into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            $schema
        }
    };
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Count<MIN, MAX> {
    inline_schema!(
        "Count",
        json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX, (EXPECTED): Self::expected()})
    );
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Span<MIN, MAX> {
    inline_schema!(
        "Span",
        json_schema!({
            "type": "string",
            "pattern": "^ *(0|([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?) *$",
            "minLength": 1,
            (EXPECTED): Self::expected()
        })
    );
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Size<MIN, MAX> {
    inline_schema!(
        "Size",
        json_schema!({
            "type": ["string", "integer"],
            "minimum": MIN,
            "maximum": MAX,
            "pattern": "^ *[0-9]+ *([KMG]i?)?B? *$",
            (EXPECTED): Self::expected()
        })
    );
}

impl JsonSchema for Secret {
    inline_schema!(
        "Secret",
        json_schema!({"type": "string", (EXPECTED): "text", (SECRET): true})
    );
}

impl JsonSchema for Listen {
    inline_schema!(
        "Listen",
        json_schema!({
            "oneOf": [{"type": "string"}, {"const": false}],
            (EXPECTED): ADDRESS
        })
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_with_their_units() {
        let span =
            |text: &str, ms: u64| assert_eq!(parse_span(text), Ok(Duration::from_millis(ms)), "{text}");
        span("500ms", 500);
        span("5s", 5_000);
        span("1m30s", 90_000);
        span("1h30m", 5_400_000);
        let size = |text: &str, bytes: u64| assert_eq!(parse_size(text), Ok(bytes), "{text}");
        size("0", 0);
        size("64KiB", 65_536);
        size("512 MiB", 512 << 20);
        size("1GiB", 1 << 30);
    }

    #[test]
    fn text_without_a_number_and_a_unit_is_refused_with_an_example() {
        for text in ["", "5", "s", "5 parsecs", "99999999999999999999h", "-5s"] {
            assert_eq!(parse_span(text), Err(ValueError::Duration(text.to_owned())));
        }
        for text in ["", "MiB", "5 elephants", "-1", "1e99", "99999999TB"] {
            assert_eq!(parse_size(text), Err(ValueError::Size(text.to_owned())));
        }
        assert_eq!(
            parse_span("x").unwrap_err().to_string(),
            "invalid duration \"x\": expected a number with a unit, such as 500ms, 5s or 1h30m"
        );
    }

    #[test]
    fn values_are_printed_in_the_largest_unit_that_is_exact() {
        let spans = [0, 250, 1_000, 90_000, 60_000, HOUR, 86_400_000].map(show_span);
        assert_eq!(spans, ["0s", "250ms", "1s", "90s", "1m", "1h", "1d"]);
        let sizes = [0, 1, 1_500, 2_048, 512 << 20, 1 << 30].map(show_size);
        assert_eq!(
            sizes,
            ["0 bytes", "1 byte", "1500 bytes", "2KiB", "512MiB", "1GiB"]
        );
    }

    #[test]
    fn a_secret_matches_only_in_full() {
        let secret = Secret("hunter2".into());
        assert!(secret.matches("hunter2"));
        for other in ["", "hunter", "hunter22", "Hunter2", "hunter3"] {
            assert!(!secret.matches(other), "{other}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "<redacted>");
        assert_eq!(
            serde_json::to_string(&Secret("hunter2".into())).unwrap(),
            "\"<redacted>\""
        );
    }
}
