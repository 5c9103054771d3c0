//! Whether `telemetry.otlp` would export to the collector itself.

use super::position::KeyPath;
use super::telemetry::OtlpExport;
use super::types::Config;
use super::values::Listen;
use super::violation::Violation;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

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

    use crate::config::parse;

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
