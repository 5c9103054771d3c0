//! `telemetry`: the interval of the collector's own metrics, and the endpoint of its own traces and logs.

use super::Config;
use super::error::Violation;
use super::position::KeyPath;
use super::values::{EXPECTED, HOUR, Listen, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// The collector's own telemetry.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Interval at which the collector updates its own metrics.
    #[schemars(example = &"15s")]
    pub interval: Span<10, { 24 * HOUR }>,
    /// Export of the collector's own traces and logs over OTLP; off unless this section is present.
    #[serde(skip_serializing_if = "Option::is_none")]
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

    /// Addresses of the endpoint that need no name server.
    fn literal_addresses(&self) -> Vec<SocketAddr> {
        let (host, port) = self.host_and_port();
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return loopback.map(|ip: IpAddr| SocketAddr::new(ip, port)).into();
        }
        let ip = host.parse().into_iter();
        ip.map(|ip: IpAddr| SocketAddr::new(ip, port)).collect()
    }

    /// All addresses of the endpoint. May wait for a name server; a name that does not resolve has none.
    fn resolved_addresses(&self) -> Vec<SocketAddr> {
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

/// Rejects an endpoint whose address is one of the collector's own listeners. Resolves no names.
pub fn check(config: &Config) -> Result<(), Violation> {
    refuse_own(config, OtlpExport::literal_addresses)
}

/// The same for host names. Called at the start, because it may wait for a name server.
pub fn check_resolved(config: &Config) -> Result<(), Violation> {
    refuse_own(config, OtlpExport::resolved_addresses)
}

fn refuse_own(config: &Config, addresses: impl Fn(&OtlpExport) -> Vec<SocketAddr>) -> Result<(), Violation> {
    let Some(export) = &config.telemetry.otlp else {
        return Ok(());
    };
    let otlp = &config.receivers.otlp;
    let listeners = [("grpc", &otlp.grpc), ("http", &otlp.http)];
    let own = |listen: &Listen| {
        let listener = listen.address();
        listener.is_some_and(|listener| addresses(export).iter().any(|to| reaches(*to, listener)))
    };
    match listeners.into_iter().find(|(_, listen)| own(listen)) {
        None => Ok(()),
        Some((key, _)) => Err(Violation::new(
            KeyPath::of("telemetry.otlp.endpoint"),
            format!("{} is this collector's own receivers.otlp.{key}", export.endpoint),
            "name another collector, or remove telemetry.otlp",
        )),
    }
}

/// Whether a connection to this address arrives at this listener.
fn reaches(to: SocketAddr, listener: SocketAddr) -> bool {
    // Linux connects to the own machine when the address is unspecified.
    let to_ip = match to.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let at = listener.ip().to_canonical();
    let same_address = match at.is_unspecified() {
        true => is_local(to_ip),
        false => at == to_ip,
    };
    same_address && to.port() == listener.port()
}

/// Whether an interface of this machine has the address.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
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

    #[test]
    fn the_collectors_own_listeners_are_refused_in_every_spelling() {
        let check = |listen: &str, endpoint: &str, own: bool| {
            let text = format!(
                "receivers: {{ otlp: {{ grpc: false, http: \"{listen}\" }} }}\nsecurity: {{ allow_non_loopback: true }}\n\
                 telemetry: {{ otlp: {{ endpoint: \"{endpoint}\", protocol: http }} }}\n"
            );
            let refused = parse(&text, "f").map_err(|error| error.to_string());
            let named = |error: &String| {
                error.contains("telemetry.otlp.endpoint") && error.contains("receivers.otlp.http")
            };
            assert_eq!(
                refused.as_ref().is_err_and(named),
                own,
                "{listen} {endpoint}: {refused:?}"
            );
            assert!(refused.is_ok() != own);
        };
        for endpoint in [
            "http://127.0.0.1:4318",
            "http://localhost:4318",
            "http://LOCALHOST.",
            "http://collector.localhost",
            "http://0.0.0.0:4318",
            "http://[::ffff:127.0.0.1]:4318",
            "127.0.0.1",
        ] {
            check("127.0.0.1:4318", endpoint, true);
            check("0.0.0.0:4318", endpoint, true);
        }
        check("[::]:4318", "http://127.0.0.1:4318", true);
        check("[::1]:4318", "http://localhost:4318", true);
        check("0.0.0.0:4318", "http://127.3.2.1:4318", true);
        check("127.0.0.1:4318", "http://127.0.0.1:4319", false);
        check("127.0.0.1:4318", "http://192.0.2.7:4318", false);
        check("0.0.0.0:4318", "http://192.0.2.7:4318", false);
        check("127.0.0.1:4319", "http://localhost", false);
    }
}
