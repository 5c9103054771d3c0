use super::target::accept;
use super::*;
use std::collections::BTreeMap;

#[test]
fn a_url_becomes_a_target() {
    let check = |url: &str, expected: &str| match ScrapeTarget::from_url(url) {
        Ok(target) => assert_eq!(
            format!("{} {} {}", target.url(), target.job, target.instance),
            expected,
            "{url}"
        ),
        Err(error) => assert_eq!(error.to_string(), expected, "{url}"),
    };
    check(
        "http://127.0.0.1:8000",
        "http://127.0.0.1:8000/metrics scrape 127.0.0.1:8000",
    );
    check(
        "127.0.0.1:8000",
        "http://127.0.0.1:8000/metrics scrape 127.0.0.1:8000",
    );
    check("http://worker/m?a=b", "http://worker:80/m?a=*** scrape worker:80");
    check(
        "http://[::1]:9100/",
        "http://[::1]:9100/metrics scrape [::1]:9100",
    );
    check(
        "https://worker",
        "--scrape: unsupported scheme in \"https://worker\"; write http://host:port/path",
    );
    check(
        "https://user:pw@worker/m?key=x",
        "--scrape: unsupported scheme in \"https://***@worker/m?key=***\"; write http://host:port/path",
    );
    assert!(ScrapeTarget::from_url("http://").is_err());
    assert!(ScrapeTarget::from_url("http://a:70000").is_err());
}

#[test]
fn a_scrape_config_has_the_defaults_of_prometheus() {
    let config: ScrapeConfig = serde_json::from_str(
        r#"{"job_name": "w", "static_configs": [{"targets": ["a:1", "b:2"], "labels": {"env": "dev", "instance": "i"}}]}"#,
    )
    .expect("a valid config");
    let targets = config.targets().expect("valid targets");
    let first = &targets[0];
    assert_eq!(
        (
            first.interval.as_secs(),
            first.timeout.as_secs(),
            first.body_bytes
        ),
        (60, 10, 64 << 20)
    );
    assert_eq!(
        (first.url().as_str(), first.job.as_str(), first.instance.as_str()),
        ("http://a:1/metrics", "w", "i")
    );
    assert_eq!(
        (first.honor_labels, first.honor_timestamps, first.compression),
        (false, true, true)
    );
    assert_eq!(first.labels, BTreeMap::from([("env".into(), "dev".into())]));
    assert_eq!(targets.len(), 2);
}

#[test]
fn the_accept_header_is_that_of_prometheus() {
    assert_eq!(
        accept(&ScrapeProtocol::DEFAULT),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.7,\
         application/openmetrics-text;version=0.0.1;q=0.6,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
    );
    assert_eq!(
        accept(&[ScrapeProtocol::PrometheusText0_0_4]),
        "text/plain;version=0.0.4;q=0.7,*/*;q=0.6"
    );
}

#[test]
fn parameters_are_encoded() {
    let mut config = ScrapeConfig::new("j");
    config
        .params
        .0
        .insert("match[]".into(), vec!["a b".into(), "c".into()]);
    assert_eq!(
        config.path_and_query(),
        "/metrics?match%5B%5D=a%20b&match%5B%5D=c"
    );
}

#[test]
fn values_of_a_query_are_never_shown() {
    let json = r#"{"job_name": "a", "metrics_path": "/m?key=hunter1", "params": {"token": ["hunter2"]},
                   "static_configs": [{"targets": ["a:1"]}]}"#;
    let config: ScrapeConfig = serde_json::from_str(json).expect("a valid config");
    let target = &config.targets().expect("valid targets")[0];
    assert_eq!(target.path.as_str(), "/m?key=hunter1&token=hunter2");
    for shown in [
        serde_json::to_string(&config).expect("JSON"),
        format!("{config:?} {target:?} {target} {}", target.url()),
    ] {
        assert!(shown.contains("token") && !shown.contains("hunter"), "{shown}");
    }
    for address in ["user:hunter@a:1", "a:1/?hunter"] {
        let json = format!(r#"{{"job_name": "a", "static_configs": [{{"targets": ["{address}"]}}]}}"#);
        let config: ScrapeConfig = serde_json::from_str(&json).expect("a valid document");
        let error = config.targets().expect_err("an invalid address").to_string();
        assert!(!error.contains("hunter"), "{error}");
    }
}

fn check_invalid(json: &str, expected: &str) {
    let error = match serde_json::from_str::<ScrapeConfig>(json) {
        Ok(config) => config.targets().expect_err("an invalid config").to_string(),
        Err(error) => error.to_string(),
    };
    assert!(error.contains(expected), "{json}: {error}");
}

#[test]
fn invalid_protocols_are_rejected() {
    let check = check_invalid;
    check(
        r#"{"job_name": "a", "scrape_protocols": []}"#,
        "scrape_protocols: empty list",
    );
    check(
        r#"{"job_name": "a", "scrape_protocols": ["PrometheusText0.0.4", "PrometheusText0.0.4"]}"#,
        "scrape_protocols: duplicate protocol",
    );
    check(
        r#"{"job_name": "a", "scrape_protocols": ["PrometheusProto"]}"#,
        "unknown variant `PrometheusProto`",
    );
    check(
        r#"{"job_name": "a", "fallback_scrape_protocol": "text"}"#,
        "unknown variant `text`",
    );
}

#[test]
fn an_invalid_config_is_rejected_with_its_key() {
    let check = check_invalid;
    check(r#"{"job_name": ""}"#, "job_name: empty name");
    check(
        r#"{"job_name": "a", "scrape_interval": "5"}"#,
        "invalid duration \"5\"",
    );
    check(
        r#"{"job_name": "a", "scrape_interval": "5s", "scrape_timeout": "6s"}"#,
        "longer than scrape_interval",
    );
    check(
        r#"{"job_name": "a", "metrics_path": "m"}"#,
        "metrics_path: invalid path \"m\"",
    );
    check(
        r#"{"job_name": "a", "metrics_path": "/m\r\nx: y"}"#,
        r#"metrics_path: invalid path "/m\r\nx: y""#,
    );
    check(
        r#"{"job_name": "a", "metrics_path": "/a b"}"#,
        "metrics_path: invalid path",
    );
    check(
        r#"{"job_name": "a", "metrics_path": "/a#b"}"#,
        "metrics_path: invalid path",
    );
    for address in ["a:65536", "a:70000", "a:x", "a:"] {
        let json = format!(r#"{{"job_name": "a", "static_configs": [{{"targets": ["{address}"]}}]}}"#);
        check(&json, "targets: ");
    }
    check(
        r#"{"job_name": "a", "static_configs": [{"targets": ["[::1]:70000"]}]}"#,
        "targets: invalid address \"[::1]:70000\": the port is not a number up to 65535",
    );
    for name in ["a-b", "2xx", "a:b", "", "é"] {
        let json = format!(
            r#"{{"job_name": "a", "static_configs": [{{"targets": [], "labels": {{"{name}": "x"}}}}]}}"#
        );
        check(&json, &format!("labels: invalid label name {name:?}"));
    }
    check(
        r#"{"job_name": "a", "scheme": "https"}"#,
        "unknown variant `https`",
    );
    check(
        r#"{"job_name": "a", "scrape_intervall": "5s"}"#,
        "unknown field `scrape_intervall`",
    );
    check(
        r#"{"job_name": "a", "body_size_limit": "5 potatoes"}"#,
        "a size such as 10MB",
    );
    check(
        r#"{"job_name": "a", "static_configs": [{"targets": ["http://a:1"]}]}"#,
        "targets: ",
    );
    check(
        r#"{"job_name": "a", "static_configs": [{"targets": ["a:1/m"]}]}"#,
        "invalid address \"a:1/m\"",
    );
}
