//! `telemetry`: the interval of the collector's own metrics, and the endpoint of its own traces and logs.

use super::values::{EXPECTED, HOUR, Span, literal_addresses, present_section};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// The collector's own telemetry.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Interval at which the collector updates its own metrics.
    #[schemars(example = &"15s")]
    pub interval: Span<10, { 24 * HOUR }>,
    /// Export of the collector's own traces and logs over OTLP; off unless this section is present.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present_section")]
    pub otlp: Option<OtlpExport>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            interval: Span(Duration::from_secs(5)),
            otlp: None,
        }
    }
}

/// An OTLP endpoint for the collector's own traces and logs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpExport {
    /// Endpoint, without TLS. The default port is 4317 for gRPC and 4318 for HTTP. The collector's own listeners are rejected.
    #[schemars(example = &"http://127.0.0.1:4317")]
    pub endpoint: Endpoint,
    /// Protocol: gRPC, or protobuf over HTTP/1.1.
    #[serde(default)]
    #[schemars(example = OtlpProtocol::Http)]
    pub protocol: OtlpProtocol,
}

/// How OTLP is transported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OtlpProtocol {
    /// gRPC, usually on port 4317.
    #[default]
    Grpc,
    /// Protobuf over HTTP/1.1, usually on port 4318.
    Http,
}

impl OtlpExport {
    /// Host, without the brackets of an IPv6 address, and port.
    pub fn host_and_port(&self) -> (&str, u16) {
        let default = match self.protocol {
            OtlpProtocol::Grpc => 4317,
            OtlpProtocol::Http => 4318,
        };
        (&self.endpoint.host, self.endpoint.port.unwrap_or(default))
    }

    /// Addresses of the endpoint that are known without a name server.
    pub(super) fn literal_addresses(&self) -> Vec<SocketAddr> {
        let (host, port) = self.host_and_port();
        literal_addresses(host, port)
    }

    /// All addresses of the endpoint. May wait for a name server; a name that does not resolve has none.
    pub(super) fn resolved_addresses(&self) -> Vec<SocketAddr> {
        let resolved = self.host_and_port().to_socket_addrs();
        resolved.map_or_else(|_| Vec::new(), Iterator::collect)
    }
}

/// Host and port of `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: Option<u16>,
}

/// Text that is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid endpoint {text:?}: {reason}; write host and port, such as http://127.0.0.1:4317")]
pub struct InvalidEndpoint {
    text: String,
    reason: &'static str,
}

impl std::str::FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |reason| InvalidEndpoint {
            text: text.to_owned(),
            reason,
        };
        if text.starts_with("https://") {
            return Err(invalid("TLS is not supported here"));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(invalid("only a host and a port are allowed"));
        }
        let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("-"))),
            None => authority
                .rsplit_once(':')
                .map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(invalid("the port is not a number from 1 to 65535")),
        };
        let valid = match bracketed {
            Some(_) => host.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.contains(':'),
        };
        if !valid {
            return Err(invalid("the host is missing or malformed"));
        }
        Ok(Endpoint {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]", self.host)?,
            false => write!(f, "http://{}", self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "pattern": "^(http://)?[^/?#@ ]+/?$",
            (EXPECTED): "a host and a port without TLS, such as http://127.0.0.1:4317"
        })
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        let check = |text: &str, shown: &str, port: Option<u16>| {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(
                (endpoint.to_string().as_str(), endpoint.port),
                (shown, port),
                "{text}"
            );
        };
        check("http://127.0.0.1:4317", "http://127.0.0.1:4317", Some(4317));
        check("http://otel.internal:80/", "http://otel.internal:80", Some(80));
        check("otel:4317", "http://otel:4317", Some(4317));
        check("http://otel", "http://otel", None);
        check("http://[::1]:4317", "http://[::1]:4317", Some(4317));
        for (text, why) in [
            ("https://otel:4317", "TLS"),
            ("http://otel:4317/v1/traces", "only a host and a port"),
            ("http://user@otel", "only a host and a port"),
            ("http://otel:0", "port"),
            ("http://otel:grpc", "port"),
            ("http://::1:4317", "host"),
            ("", "host"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(
                error.reason.contains(why) && error.to_string().contains("http://127.0.0.1:4317"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_section_is_off_unless_written_and_reads_back() {
        assert_eq!(parse("", "f").unwrap().telemetry.otlp, None);
        let text = "telemetry: { otlp: { endpoint: \"http://otel:4000\", protocol: http } }\n";
        let config = parse(text, "f").unwrap();
        let shown = serde_saphyr::to_string(&config).unwrap();
        assert_eq!(
            parse(&shown, "f").unwrap().telemetry.otlp,
            config.telemetry.otlp,
            "{shown}"
        );
        let grpc = parse("telemetry: { otlp: { endpoint: otel } }\n", "f").unwrap();
        assert_eq!(grpc.telemetry.otlp.unwrap().host_and_port(), ("otel", 4317));
        for bad in [
            "{}",
            "{ endpoint: otel, protocol: json }",
            "{ endpoint: \"https://otel\" }",
        ] {
            assert!(
                parse(&format!("telemetry: {{ otlp: {bad} }}\n"), "f").is_err(),
                "{bad}"
            );
        }
    }
}
