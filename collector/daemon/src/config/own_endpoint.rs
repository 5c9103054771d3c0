//! Addresses of the collector's own listeners: none may be used twice, exported to, or scraped.

use super::position::KeyPath;
use super::telemetry::OtlpExport;
use super::types::Config;
use super::values::literal_addresses;
use super::violation::Violation;
use dichroic_receiver_prometheus::config::ScrapeTarget;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

/// Rejects two listeners at one address, and an export or a scrape whose destination is a listener. Resolves no names.
pub fn check(config: &Config) -> Result<(), Violation> {
    check_listeners(config)?;
    check_export(config, OtlpExport::literal_addresses)?;
    let jobs = KeyPath::of("receivers.prometheus.scrape_configs");
    for (at, job) in config.receivers.prometheus.scrape_configs.iter().enumerate() {
        // Invalid targets are reported by their own check.
        for target in job.targets().unwrap_or_default() {
            let addresses = literal_addresses(&target.host, target.port);
            if let Some(violation) = scrape_of_itself(config, &target, &addresses) {
                return Err(Violation {
                    key: jobs.clone().item(at).key("static_configs"),
                    ..violation
                });
            }
        }
    }
    Ok(())
}

/// The same for host names, and for targets of the command line. Called at the start, because it may wait for a name server.
pub fn check_resolved(config: &Config, targets: &[ScrapeTarget]) -> Result<(), Violation> {
    check_export(config, OtlpExport::resolved_addresses)?;
    let own = |target: &ScrapeTarget| {
        let resolved = (target.host.as_str(), target.port).to_socket_addrs();
        let addresses: Vec<SocketAddr> = resolved.map_or_else(|_| Vec::new(), Iterator::collect);
        scrape_of_itself(config, target, &addresses)
    };
    targets.iter().find_map(own).map_or(Ok(()), Err)
}

/// Keys and addresses of the listeners that are on, without those whose port the system chooses.
fn listeners(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let tcp = config.security.local_tcp.as_ref();
    let listeners = [
        ("receivers.otlp.grpc", config.receivers.otlp.grpc.address()),
        ("receivers.otlp.http", config.receivers.otlp.http.address()),
        (
            "exporters.prometheus.listen",
            config.exporters.prometheus.listen.address(),
        ),
        ("admin.listen", config.admin.listen.address()),
        (
            "security.local_tcp.listen",
            tcp.and_then(|tcp| tcp.listen.address()),
        ),
    ];
    let on = listeners
        .into_iter()
        .filter_map(|(key, address)| Some((key, address?)));
    on.filter(|(_, address)| address.port() != 0).collect()
}

fn check_listeners(config: &Config) -> Result<(), Violation> {
    let listeners = listeners(config);
    for (at, (key, address)) in listeners.iter().enumerate() {
        let other = listeners[..at]
            .iter()
            .find(|(_, other)| overlap(*address, *other));
        if let Some((other_key, other)) = other {
            return Err(Violation::new(
                KeyPath::of(key),
                format!("{address} is in use by {other_key} ({other})"),
                "write another port, or false to switch the listener off",
            ));
        }
    }
    Ok(())
}

/// Whether two listeners cannot be bound at the same time. A listener on `[::]` accepts IPv4 too.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let (one, other) = (a.ip().to_canonical(), b.ip().to_canonical());
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    a.port() == b.port() && (one == other || covers(one, other) || covers(other, one))
}

fn check_export(
    config: &Config,
    addresses: impl Fn(&OtlpExport) -> Vec<SocketAddr>,
) -> Result<(), Violation> {
    let Some(export) = &config.telemetry.otlp else {
        return Ok(());
    };
    match reached(config, &addresses(export)) {
        None => Ok(()),
        Some(key) => Err(Violation::new(
            KeyPath::of("telemetry.otlp.endpoint"),
            format!("{} is this collector's own {key}", export.endpoint),
            "name another collector, or remove telemetry.otlp",
        )),
    }
}

fn scrape_of_itself(config: &Config, target: &ScrapeTarget, addresses: &[SocketAddr]) -> Option<Violation> {
    let key = reached(config, addresses)?;
    Some(Violation::new(
        KeyPath::of("--scrape"),
        format!("{} is this collector's own {key}", target.url()),
        "remove the target; the page contains the collector's own metrics",
    ))
}

/// The key of the listener at which connections to one of the addresses arrive.
fn reached(config: &Config, addresses: &[SocketAddr]) -> Option<&'static str> {
    let reached = |(_, listener): &(&str, SocketAddr)| addresses.iter().any(|to| reaches(*to, *listener));
    listeners(config).into_iter().find(reached).map(|(key, _)| key)
}

/// Whether a connection to this address arrives at this listener.
fn reaches(to: SocketAddr, listener: SocketAddr) -> bool {
    // Linux connects to this machine when the address is unspecified.
    let to_ip = match to.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let at = listener.ip().to_canonical();
    to.port() == listener.port()
        && match at.is_unspecified() {
            true => is_local(to_ip),
            false => at == to_ip,
        }
}

/// Whether an interface of this machine has the address.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    /// Whether the export to this endpoint is refused as one to `key`.
    fn check(config: &str, key: &str, endpoint: &str, own: bool) {
        let text = format!(
            "security: {{ allow_non_loopback: true }}\n{config}\ntelemetry: {{ otlp: {{ endpoint: \"{endpoint}\", protocol: http }} }}\n"
        );
        let refused = parse(&text, "f").map_err(|error| error.to_string());
        let named = |error: &String| error.contains("telemetry.otlp.endpoint") && error.contains(key);
        assert_eq!(refused.as_ref().is_err_and(named), own, "{text}: {refused:?}");
        assert!(refused.is_ok() != own, "{text}");
    }

    #[test]
    fn an_export_to_an_own_listener_is_refused_in_every_spelling() {
        let check = |listen: &str, endpoint: &str, own: bool| {
            let config = format!("receivers: {{ otlp: {{ grpc: false, http: \"{listen}\" }} }}");
            check(&config, "receivers.otlp.http", endpoint, own);
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

    #[test]
    fn an_export_to_any_own_listener_is_refused() {
        let token = "ab".repeat(16);
        check("", "receivers.otlp.grpc", "localhost:4317", true);
        check("", "exporters.prometheus.listen", "localhost:9464", true);
        check("", "admin.listen", "http://127.0.0.1:9465", true);
        check(
            "admin: { listen: false }",
            "admin.listen",
            "http://127.0.0.1:9465",
            false,
        );
        let tcp = format!("security: {{ local_tcp: {{ token: {token} }} }}");
        let error = parse(
            &format!("{tcp}\ntelemetry: {{ otlp: {{ endpoint: \"[::ffff:127.0.0.1]:4319\" }} }}\n"),
            "f",
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("security.local_tcp.listen"), "{error}");
    }

    #[test]
    fn a_scrape_of_an_own_listener_is_refused() {
        let check = |target: &str, own: Option<&str>| {
            let text = format!(
                "receivers: {{ prometheus: {{ scrape_configs: [{{ job_name: a, static_configs: [{{ targets: [\"{target}\"] }}] }}] }} }}\n"
            );
            match (parse(&text, "f"), own) {
                (Ok(_), None) => {}
                (Err(error), Some(key)) => {
                    let error = error.to_string();
                    let place = "receivers.prometheus.scrape_configs[0].static_configs: ";
                    assert!(error.contains(place) && error.contains(key), "{error}");
                }
                (read, _) => panic!("{target}: {read:?}"),
            }
        };
        check("127.0.0.1:9464", Some("exporters.prometheus.listen"));
        check("localhost:9464", Some("exporters.prometheus.listen"));
        check("[::ffff:127.0.0.1]:9465", Some("admin.listen"));
        check("0.0.0.0:4318", Some("receivers.otlp.http"));
        check("127.0.0.1:9466", None);
        check("192.0.2.7:9464", None);
        let config = Config::default();
        let from_url = |url: &str| [ScrapeTarget::from_url(url).unwrap()];
        let error = check_resolved(&config, &from_url("http://localhost:9464/metrics")).unwrap_err();
        assert!(error.to_string().starts_with("--scrape: "), "{error}");
        assert!(check_resolved(&config, &from_url("http://127.0.0.1:9466")).is_ok());
    }

    #[test]
    fn two_listeners_at_one_address_are_refused() {
        let check = |page: &str, admin: &str, refused: bool| {
            let text = format!(
                "exporters: {{ prometheus: {{ listen: \"{page}\" }} }}\nadmin: {{ listen: \"{admin}\", token: 0123456789abcdef }}\n"
            );
            let error = parse(&text, "f").err().map(|error| error.to_string());
            let expected = format!("admin.listen: {admin} is in use by exporters.prometheus.listen ({page})");
            assert_eq!(
                error.is_some_and(|error| error.contains(&expected)),
                refused,
                "{page} {admin}"
            );
        };
        check("127.0.0.1:9000", "127.0.0.1:9000", true);
        check("127.0.0.1:9000", "[::ffff:127.0.0.1]:9000", true);
        check("127.0.0.1:9000", "0.0.0.0:9000", true);
        check("127.0.0.1:9000", "[::]:9000", true);
        check("127.0.0.1:9000", "[::1]:9000", false);
        check("127.0.0.1:9000", "127.0.0.1:9001", false);
        check("127.0.0.1:0", "127.0.0.1:0", false);
    }
}
