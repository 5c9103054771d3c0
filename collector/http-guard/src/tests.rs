//! Requests of browsers and of other programs.

use super::*;
use http::{HeaderName, HeaderValue};

fn guard(address: &str, rules: Rules) -> Guard {
    Guard::new(address.parse().unwrap(), rules)
}

fn allowing(hosts: &[&str]) -> Rules {
    Rules {
        allowed_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        ..Rules::default()
    }
}

fn check(guard: &Guard, method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<(), Refused> {
    let header = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    let headers: HeaderMap = headers.iter().map(header).collect();
    guard.check(Version::HTTP_11, &method, &uri.parse().unwrap(), &headers)
}

fn hosts(guard: &Guard, hosts: &[&str], expected: Result<(), Refused>) {
    for host in hosts {
        assert_eq!(
            check(guard, Method::GET, "/", &[("host", host)]),
            expected,
            "{host}"
        );
    }
}

const LOCAL: [&str; 7] = [
    "localhost",
    "LOCALHOST:9465",
    "localhost.:9465",
    "127.0.0.1:9465",
    "127.1.2.3",
    "[::1]:9465",
    "[::ffff:127.0.0.1]",
];
const FOREIGN: [&str; 6] = [
    "evil.example",
    "127.0.0.1.evil.example",
    "evil.localhost",
    "localhost.evil.example:80",
    "",
    "1",
];

#[test]
fn a_listener_on_loopback_accepts_loopback_and_allowed_hosts() {
    for address in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        let guard = guard(address, allowing(&["collector.internal", "10.0.0.7"]));
        hosts(&guard, &LOCAL, Ok(()));
        hosts(
            &guard,
            &["collector.internal:1", "Collector.Internal", "10.0.0.7:1"],
            Ok(()),
        );
        hosts(&guard, &FOREIGN, Err(Refused::Host));
        hosts(
            &guard,
            &["10.0.0.1:9465", "0.0.0.0:9465", "[2001:db8::1]"],
            Err(Refused::Host),
        );
    }
}

#[test]
fn a_listener_beyond_loopback_accepts_every_address_and_names_that_are_allowed() {
    for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
        let guard = guard(address, allowing(&["dichroic"]));
        hosts(&guard, &LOCAL, Ok(()));
        hosts(
            &guard,
            &["10.0.0.1:9464", "[2001:db8::1]:9464", "dichroic:9464"],
            Ok(()),
        );
        hosts(&guard, &FOREIGN, Err(Refused::Host));
    }
}

#[test]
fn a_missing_host_passes_and_a_token_guards_every_name() {
    let with_token = Rules {
        token: true,
        ..Rules::default()
    };
    hosts(&guard("127.0.0.1:1", with_token), &FOREIGN, Ok(()));
    for address in ["127.0.0.1:1", "0.0.0.0:1"] {
        let guard = guard(address, Rules::default());
        assert_eq!(check(&guard, Method::GET, "/", &[]), Ok(()));
        let absolute = check(
            &guard,
            Method::GET,
            "http://evil.example/",
            &[("host", "localhost")],
        );
        assert_eq!(absolute, Err(Refused::Host), "the URI counts too");
    }
}

#[test]
fn requests_of_other_sites_are_refused() {
    let guard = guard("127.0.0.1:1", Rules::default());
    let check = |method: Method, headers: &[(&str, &str)], expected: Result<(), Refused>| {
        let headers = [&[("host", "127.0.0.1:1")], headers].concat();
        assert_eq!(
            check(&guard, method, "/v1/stream", &headers),
            expected,
            "{headers:?}"
        );
    };
    let refused = Err(Refused::CrossSite);
    check(Method::GET, &[("sec-fetch-site", "cross-site")], refused);
    check(Method::GET, &[("sec-fetch-site", "same-origin")], Ok(()));
    check(Method::GET, &[("sec-fetch-site", "none")], Ok(()));
    check(Method::POST, &[("origin", "http://evil.example")], refused);
    check(Method::POST, &[("origin", "null")], refused);
    check(Method::POST, &[("origin", "http://127.0.0.1:1")], Ok(()));
    check(Method::POST, &[("origin", "http://127.0.0.1:3000")], Ok(()));
}

#[test]
fn a_link_to_a_page_without_side_effects_may_be_followed() {
    let followed = [
        ("host", "10.0.0.1:9464"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    let embedded = followed.map(|(name, value)| (name, if value == "document" { "iframe" } else { value }));
    let pages = Rules {
        pages: true,
        ..Rules::default()
    };
    let (page, other) = (guard("0.0.0.0:1", pages), guard("0.0.0.0:1", Rules::default()));
    assert_eq!(check(&page, Method::GET, "/metrics", &followed), Ok(()));
    assert_eq!(
        check(&page, Method::GET, "/metrics", &embedded),
        Err(Refused::CrossSite)
    );
    assert_eq!(
        check(&page, Method::POST, "/metrics", &followed),
        Err(Refused::CrossSite)
    );
    assert_eq!(
        check(&other, Method::GET, "/v1/stream", &followed),
        Err(Refused::CrossSite)
    );
}

#[test]
fn http_2_without_tls_is_not_sent_by_browsers() {
    let guard = guard("127.0.0.1:1", Rules::default());
    let uri: Uri = "http://collector.example/x".parse().unwrap();
    assert_eq!(
        guard.check(Version::HTTP_2, &Method::POST, &uri, &HeaderMap::new()),
        Ok(())
    );
}
