//! Values of the configuration with a unit in their text: durations, sizes, addresses, secrets.

use dichroic_receiver_prometheus::units as receiver;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// A duration written as `500ms`, `5s`, `2m`, `1h`, or a sum such as `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Span(pub Duration);

/// A size written as `64KiB`, `512MiB`, `1GiB` or a plain number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Size(pub usize);

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Secret {
    /// Whether it is the one that was given. Takes as long for a near miss as for a far one.
    pub fn matches(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// An address to listen on, or `false` for not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Off,
    On(std::net::SocketAddr),
}

impl Listen {
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        match self {
            Listen::Off => None,
            Listen::On(address) => Some(*address),
        }
    }
}

/// Reads a duration, as Prometheus writes them; the error says how.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    receiver::parse_duration(text)
        .ok_or_else(|| format!("{text:?} is no duration; write for example 500ms, 5s, 2m or 1h30m"))
}

/// Reads a size, as Prometheus writes them; the error says how.
pub fn parse_size(text: &str) -> Result<usize, String> {
    receiver::parse_size(text)
        .filter(|bytes| *bytes <= 1 << 46)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| format!("{text:?} is no size; write for example 64KiB, 512MiB or 1GiB"))
}

struct Text<T>(fn(&str) -> Result<T, String>, &'static str);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.0)(&number.to_string()).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.0)(&number.to_string()).map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        (self.0)(if value { "true" } else { "false" }).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text(|text| parse_span(text).map(Span), "a duration such as 5s"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text(|text| parse_size(text).map(Size), "a size such as 64MiB"))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| {
            match text {
            "false" | "off" => Ok(Listen::Off),
            text => text.parse().map(Listen::On).map_err(|_| {
                format!("{text:?} is no address to listen on; write HOST:PORT with a numeric host, such as 127.0.0.1:9464, or false")
            }),
        }
        };
        deserializer.deserialize_any(Text(read, "an address such as 127.0.0.1:9464, or false"))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_millis() {
            ms if ms % 1_000 == 0 => serializer.serialize_str(&format!("{}s", ms / 1_000)),
            ms => serializer.serialize_str(&format!("{ms}ms")),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            n if n > 0 && n % (1 << 20) == 0 => serializer.serialize_str(&format!("{}MiB", n >> 20)),
            n => serializer.serialize_u64(n as u64),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        let span =
            |text: &str, ms: u64| assert_eq!(parse_span(text), Ok(Duration::from_millis(ms)), "{text}");
        span("500ms", 500);
        span("5s", 5_000);
        span("1m30s", 90_000);
        span("1h30m", 5_400_000);
        let size = |text: &str, bytes: usize| assert_eq!(parse_size(text), Ok(bytes), "{text}");
        size("0", 0);
        size("64KiB", 65_536);
        size("512 MiB", 512 << 20);
        size("1GiB", 1 << 30);
    }

    #[test]
    fn what_cannot_be_read_says_how_to_write_it() {
        for text in ["", "5", "s", "5 parsecs", "99999999999999999999h", "-5s"] {
            assert!(
                parse_span(text).unwrap_err().contains("write for example"),
                "{text}"
            );
        }
        for text in ["", "MiB", "5 elephants", "-1", "1e99", "99999999TB"] {
            assert!(
                parse_size(text).unwrap_err().contains("write for example"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_secret_matches_whole_or_not_at_all() {
        let secret = Secret("hunter2".into());
        assert!(secret.matches("hunter2"));
        for other in ["", "hunter", "hunter22", "Hunter2", "hunter3"] {
            assert!(!secret.matches(other), "{other}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "<redacted>");
        assert_eq!(
            serde_json::to_string(&Secret("hunter2".into())).unwrap(),
            "\"<redacted>\""
        );
    }
}
