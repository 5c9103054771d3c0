//! Configurations and the reports of their mistakes.
#![allow(clippy::too_many_lines, reason = "a test reads best in one piece")]

use super::types::{LOOPBACK, Naming};
use super::values::{Listen, Size};
use super::*;

#[test]
fn an_empty_file_gives_the_defaults() {
    for text in ["", "\n# nothing\n", "receivers: {}\n"] {
        let config = parse(text, "f").unwrap();
        assert_eq!(config.exporters.prometheus.listen, LOOPBACK(9464), "{text:?}");
        assert_eq!(config.limits.memory, Size(512 << 20));
    }
}

#[test]
fn the_documented_example_is_read() {
    let text = r#"
receivers:
  otlp: { grpc: 127.0.0.1:4317, http: false }
  prometheus:
    scrape_configs:
      - job_name: workers
        scrape_interval: 5s
        static_configs: [{ targets: ["127.0.0.1:8000"], labels: { env: dev } }]
metrics:
  packs: auto
exporters:
  prometheus: { listen: 127.0.0.1:0 }
limits: { series: 1_000_000, memory: 512MiB }
"#;
    let config = parse(text, "f").unwrap();
    assert_eq!(config.receivers.otlp.http, Listen::Off);
    assert_eq!(
        config.receivers.prometheus.scrape_configs[0].static_configs[0].labels["env"],
        "dev"
    );
    assert_eq!(config.limits.series.0, 1_000_000);
}

fn check(text: &str, expected: &str) {
    let report = parse(text, "f.yaml").expect_err(text).report();
    assert_eq!(report, expected.trim(), "{text}");
}

#[test]
fn values_outside_their_range_are_reported_with_range_default_and_example() {
    check(
        "limits: {series: -1}\n",
        r"
f.yaml:1:18: limits.series: invalid value -1: expected an integer from 1 to 4294967295 (default 1000000)
  1 | limits: {series: -1}
    |                  ^^
  help: largest number of series in the store; for example `series: 100000`
",
    );
    check(
        "limits:\n  memory: many\n",
        r#"
f.yaml:2:11: limits.memory: invalid value "many": expected a size of at least 1MiB (default 512MiB)
  2 |   memory: many
    |           ^^^^
  help: memory for all series: values, labels and tables; for example `memory: 256MiB`
"#,
    );
    check(
        "receivers: { beam: { flush_interval: 5 } }\n",
        r"
f.yaml:1:38: receivers.beam.flush_interval: invalid value 5: expected a duration from 10ms to 1m (default 1s)
  1 | receivers: { beam: { flush_interval: 5 } }
    |                                      ^
  help: interval at which relays send changed metrics; for example `flush_interval: 1s`
",
    );
    check(
        "receivers: { beam: { flush_interval: 2h } }\n",
        r#"
f.yaml:1:38: receivers.beam.flush_interval: invalid value "2h": expected a duration from 10ms to 1m (default 1s)
  1 | receivers: { beam: { flush_interval: 2h } }
    |                                      ^^
  help: interval at which relays send changed metrics; for example `flush_interval: 1s`
"#,
    );
    check(
        "receivers: { beam: { logs: { max_body: 1MiB } } }\n",
        r#"
f.yaml:1:40: receivers.beam.logs.max_body: invalid value "1MiB": expected a size from 1 byte to 16KiB (default 2KiB)
  1 | receivers: { beam: { logs: { max_body: 1MiB } } }
    |                                        ^^^^
  help: length at which a message is cut; for example `max_body: 4KiB`
"#,
    );
    check(
        "receivers: { beam: { logs: { level: loud } } }\n",
        r#"
f.yaml:1:37: receivers.beam.logs.level: invalid value "loud": expected one of debug, info, notice, warning, error, critical, alert, emergency (default info)
  1 | receivers: { beam: { logs: { level: loud } } }
    |                                     ^^^^
  help: lowest level that leaves the node; the node's own primary level applies as well; for example `level: warning`
"#,
    );
    check(
        "exporters:\n  prometheus: { listen: localhost:9464 }\n",
        r#"
f.yaml:2:25: exporters.prometheus.listen: invalid value "localhost:9464": expected HOST:PORT with a numeric host, such as 127.0.0.1:9464, or false (default 127.0.0.1:9464)
  2 |   prometheus: { listen: localhost:9464 }
    |                         ^^^^^^^^^^^^^^
  help: address of the listener that serves `/metrics`; for example `listen: 127.0.0.1:9464`
"#,
    );
    check(
        "metrics: { packs: everything }\n",
        r#"
f.yaml:1:19: metrics.packs: invalid value "everything": expected auto, or a list of packs such as [vm, phoenix] (default auto)
  1 | metrics: { packs: everything }
    |                   ^^^^^^^^^^
  help: packs in use: `auto` for all of them, or a list of names; for example `packs: [vm, phoenix, ecto]`
"#,
    );
    check(
        "security: { allow_non_loopback: perhaps }\n",
        r#"
f.yaml:1:33: security.allow_non_loopback: invalid value "perhaps": expected true or false (default false)
  1 | security: { allow_non_loopback: perhaps }
    |                                 ^^^^^^^
  help: whether listeners that accept data without encryption or authentication may use an address that is not loopback; for example `allow_non_loopback: true`
"#,
    );
    check(
        "receivers: { otlp: [] }\n",
        r"
f.yaml:1:20: receivers.otlp: invalid value (a list): expected a section with the keys expire_after, expire_deltas_after, grpc, http, in_flight, max_request, promote_resource_attributes
  1 | receivers: { otlp: [] }
    |                    ^
  help: OTLP listeners
",
    );
    check(
        "receivers: { beam: { ecto_prefixes: my_app.repo } }\n",
        r#"
f.yaml:1:37: receivers.beam.ecto_prefixes: invalid value "my_app.repo": expected a list of text (default [])
  1 | receivers: { beam: { ecto_prefixes: my_app.repo } }
    |                                     ^^^^^^^^^^^
  help: telemetry prefixes of Ecto repositories that relays do not find by themselves; for example `ecto_prefixes: [my_app.repo]`
"#,
    );
    check(
        "receivers: { beam: { attach: [{ node: a@127.0.0.1, port: 70000 }] } }\n",
        r"
f.yaml:1:58: receivers.beam.attach[0].port: invalid value 70000: expected an integer from 0 to 65535
  1 | receivers: { beam: { attach: [{ node: a@127.0.0.1, port: 70000 }] } }
    |                                                          ^^^^^
  help: distribution port of the node, for nodes without epmd; for example `port: 9100`
",
    );
    check(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, scrape_interval: often }] } }\n",
        r#"
f.yaml:1:77: receivers.prometheus.scrape_configs[0].scrape_interval: invalid value "often": expected a duration such as 500ms, 5s or 1m30s (default 1m)
  1 | receivers: { prometheus: { scrape_configs: [{ job_name: a, scrape_interval: often }] } }
    |                                                                             ^^^^^
  help: interval between two scrapes of a target; for example `scrape_interval: 15s`
"#,
    );
}

#[test]
fn unknown_missing_and_duplicate_keys_are_reported_with_the_keys_that_exist() {
    check(
        "receivers:\n  otpl: {}\n",
        r"
f.yaml:2:3: receivers.otpl: unknown key
  2 |   otpl: {}
    |   ^^^^
  help: did you mean otlp? The keys here are beam, otlp, prometheus
",
    );
    check(
        "limits: { replay: 5MiB }\n",
        r"
f.yaml:1:11: limits.replay: unknown key
  1 | limits: { replay: **** }
    |           ^^^^^^
  help: did you mean replay_bytes or replay_time? The keys here are in_flight, label_value, labels, lease_time, memory, replay_bytes, replay_time, response_time, series, series_per_metric, series_per_source, shutdown, sources, subscribers, write_stall
",
    );
    check(
        "zebra: 1\n",
        r"
f.yaml:1:1: zebra: unknown key
  1 | zebra: *
    | ^^^^^
  help: the keys here are admin, exporters, limits, metrics, receivers, security, telemetry
",
    );
    check(
        "exporters:\n  remote_write: []\n",
        r"
f.yaml:2:3: exporters.remote_write: not supported in this version
  2 |   remote_write: []
    |   ^^^^^^^^^^^^
  help: let Prometheus scrape exporters.prometheus
",
    );
    check(
        "receivers: { beam: { attach: [{ cookie_file: a }] } }\n",
        r"
f.yaml:1:31: receivers.beam.attach[0].node: missing key
  1 | receivers: { beam: { attach: [{ cookie_file: a }] } }
    |                               ^
  help: name of the node, as `node()` returns it in the node; a node of another machine requires `tls`; for example `node: shop@127.0.0.1`
",
    );
    check(
        "limits: { series: 1 }\nlimits: { series: 2 }\n",
        r"
f.yaml:2:1: limits: duplicate key
  2 | limits: { series: 2 }
    | ^^^^^^
  help: remove one of the two; the first is on line 1
",
    );
    check(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, scrape_intervall: 5s }] } }\n",
        r"
f.yaml:1:60: receivers.prometheus.scrape_configs[0].scrape_intervall: unknown key
  1 | receivers: { prometheus: { scrape_configs: [{ job_name: a, scrape_intervall: ** }] } }
    |                                                            ^^^^^^^^^^^^^^^^
  help: did you mean scrape_interval?
",
    );
    check(
        "metrics:\n  definitions:\n    - { name: a.b, type: counter, evnt: x }\n",
        r"
f.yaml:3:35: metrics.definitions[0].evnt: unknown key
  3 |     - { name: a.b, type: counter, evnt: * }
    |                                   ^^^^
  help: did you mean event?
",
    );
}

#[test]
fn keys_of_prometheus_that_are_not_supported_are_answered_with_what_to_do_instead() {
    let check = |key: &str, advice: &str| {
        let text =
            format!("receivers: {{ prometheus: {{ scrape_configs: [{{ job_name: a, {key}: x }}] }} }}\n");
        let error = parse(&text, "f.yaml").unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.ends_with(&format!("{key}: not supported in this version")),
            "{shown}"
        );
        assert!(
            error.help().is_some_and(|help| help.contains(advice)),
            "{:?}",
            error.help()
        );
    };
    for key in [
        "azure",
        "consul",
        "digitalocean",
        "dns",
        "docker",
        "ec2",
        "file",
        "http",
        "kubernetes",
        "nomad",
        "stackit",
    ] {
        check(&format!("{key}_sd_configs"), "static_configs");
    }
    check("relabel_configs", "static_configs");
    check("metric_relabel_configs", "the Prometheus that scrapes this page");
    for key in [
        "basic_auth",
        "authorization",
        "oauth2",
        "bearer_token",
        "bearer_token_file",
    ] {
        check(key, "authentication");
    }
    check("tls_config", "plain HTTP");
    check("proxy_url", "directly");
    check("follow_redirects", "metrics_path");
    check("enable_http2", "HTTP/1.1");
    check("scrape_native_histograms", "classic");
    for (text, advice) in [
        ("scrape_configs: []\n", "under receivers.prometheus"),
        ("global: {}\n", "into each job"),
    ] {
        let error = parse(text, "f.yaml").unwrap_err();
        assert!(error.help().is_some_and(|help| help.contains(advice)), "{error}");
    }
}

#[test]
fn a_key_that_is_not_similar_to_another_is_answered_with_all_keys() {
    let error = parse(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, evaluate: x }] } }\n",
        "f.yaml",
    );
    let error = error.unwrap_err();
    let help = error.help().unwrap();
    assert!(help.starts_with("the keys here are body_size_limit, "), "{help}");
}

#[test]
fn the_line_of_an_invalid_address_is_shown() {
    let check = |text: &str| {
        let report = parse(text, "f.yaml").unwrap_err().report();
        assert!(
            report.contains(&format!("\n  1 | {}", text.trim_end())),
            "{report}"
        );
    };
    check("telemetry: { otlp: { endpoint: 'https://127.0.0.1:1' } }\n");
    check(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, static_configs: [{ targets: ['http://a:1/x'] }] }] } }\n",
    );
}

#[test]
fn values_near_a_limit_of_their_type() {
    let memory = |value: &str| parse(&format!("limits: {{ memory: {value} }}\n"), "f.yaml");
    for value in ["0", "12", "1023KiB"] {
        let error = memory(value).unwrap_err().to_string();
        assert!(
            error.contains("limits.memory: invalid value") && error.contains("1MiB"),
            "{error}"
        );
    }
    assert_eq!(memory("1MiB").unwrap().limits.memory.0, 1 << 20);
    assert_eq!(memory("12MB").unwrap().limits.memory.0, 12 << 20);
    for mode in ["660", "0660", "'0660'"] {
        let config = parse(
            &format!("security: {{ local_socket: {{ mode: {mode} }} }}\n"),
            "f.yaml",
        )
        .unwrap();
        let mode = u32::from_str_radix(&config.security.local_socket.mode, 8);
        assert_eq!(mode, Ok(0o660));
    }
}

#[test]
fn invalid_yaml_and_references_are_reported_at_their_position() {
    check(
        "a: [1\n",
        r"
f.yaml:1:4: invalid YAML: unclosed bracket '['
  1 | *: [*
    |    ^
",
    );
    check(
        "limits:\n\tseries: 1\n",
        r"
f.yaml:2:2: invalid YAML: tabs disallowed within this context (block indentation)
  2 | 	series: *
    |  ^
",
    );
    check(
        "limits: *other\n",
        r"
f.yaml:1:9: invalid YAML: while parsing node, found unknown anchor
  1 | limits: ******
    |         ^
",
    );
    check(
        "limits: { memory: '${env:DICHROIC_TEST_UNSET}' }\n",
        r"
f.yaml:1:20: environment variable DICHROIC_TEST_UNSET is not set
  1 | limits: { memory: '${env:DICHROIC_TEST_UNSET}' }
    |                    ^^^^^^^^^^^^^^^^^^^^^^^^^^
  help: set the variable, or write a default: ${env:DICHROIC_TEST_UNSET:-default}
",
    );
    check(
        "limits: { series: '${env:DICHROIC_TEST_UNSET:-x}', sources: -1 }\n",
        r#"
f.yaml:1:19: limits.series: invalid value "${env:DICHROIC_TEST_UNSET:-x}": expected an integer from 1 to 4294967295 (default 1000000)
  1 | limits: { series: '${env:DICHROIC_TEST_UNSET:-x}', sources: -1 }
    |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  help: largest number of series in the store; for example `series: 100000`
"#,
    );
}

#[test]
fn rules_between_keys_are_reported_at_the_key_to_change() {
    check(
        "admin: { token: short }\n",
        r"
f.yaml:1:17: admin.token: the token is shorter than 16 characters
  1 | admin: { token: ***** }
    |                 ^^^^^
  help: write a secret of at least 16 characters, such as token: ${env:DICHROIC_ADMIN_TOKEN}
",
    );
    check(
        "admin: { listen: 0.0.0.0:9465 }\n",
        r"
f.yaml:1:1: admin.token: a token is required, because admin.listen is not a loopback address
  1 | admin: { listen: 0.0.0.0:9465 }
    | ^^^^^
  help: write a secret of at least 16 characters, such as token: ${env:DICHROIC_ADMIN_TOKEN}
",
    );
    check(
        "receivers: { otlp: { http: 0.0.0.0:4318 } }\n",
        r"
f.yaml:1:28: receivers.otlp.http: not a loopback address, and OTLP is accepted without authentication
  1 | receivers: { otlp: { http: 0.0.0.0:4318 } }
    |                            ^^^^^^^^^^^^
  help: if that is intended, set security.allow_non_loopback: true
",
    );
    check(
        "limits: { in_flight: 64MiB }\nreceivers: { otlp: { max_request: 33MiB } }\n",
        r"
f.yaml:2:35: receivers.otlp.max_request: a request of this size exceeds 32MiB, half of limits.in_flight
  2 | receivers: { otlp: { max_request: 33MiB } }
    |                                   ^^^^^
  help: write a smaller size, or set limits.in_flight to at least 66MiB
",
    );
    check(
        "limits: { replay_bytes: 65MiB }\n",
        r"
f.yaml:1:25: limits.replay_bytes: the replay of events and logs together exceeds 128MiB, half of limits.in_flight
  1 | limits: { replay_bytes: 65MiB }
    |                         ^^^^^
  help: write a smaller size, or set limits.in_flight to at least 260MiB
",
    );
    check(
        "metrics: { packs: [vm, pheonix] }\n",
        r#"
f.yaml:1:24: metrics.packs[1]: unknown pack "pheonix"
  1 | metrics: { packs: [vm, pheonix] }
    |                        ^^^^^^^
  help: the packs are absinthe, ash, bandit, beam_runtime, broadway, brod, commanded, cowboy, crucible, db_connection, ecto, finch, grpc, horde, libcluster, live_view, llm_guard, logger, membrane, nebulex, oban, phoenix, plug, quantum, redix, snakebridge, snakepit, swoosh, tesla, thousand_island, tinkex, vm; write auto for all of them
"#,
    );
    check(
        "metrics: { packs: [ecto], variables: { ecto_prefx: [a] } }\n",
        r"
f.yaml:1:40: metrics.variables.ecto_prefx: unknown template
  1 | metrics: { packs: [ecto], variables: { ecto_prefx: [a] } }
    |                                        ^^^^^^^^^^
  help: the packs in use have the templates ecto_prefix
",
    );
    check(
        "metrics:\n  definitions:\n    - { name: a.b, type: sum, event: x }\n",
        r#"
f.yaml:3:7: metrics.definitions[0]: definition "a.b": measurement is missing; write measurement: KEY
  3 |     - { name: a.b, type: sum, event: x }
    |       ^
"#,
    );
    check(
        "security: { local_tcp: {} }\n",
        r"
f.yaml:1:13: security.local_tcp: token or token_file is required
  1 | security: { local_tcp: {} }
    |             ^^^^^^^^^
  help: set token_file, or token; make a token with `openssl rand -hex 32`
",
    );
    check(
        "security: { local_tcp: { token: 0123456789abcdef } }\n",
        r"
f.yaml:1:33: security.local_tcp.token: the token is too short: 16 such characters hold less than 128 bits
  1 | security: { local_tcp: { token: **************** } }
    |                                 ^^^^^^^^^^^^^^^^
  help: make a token with `openssl rand -hex 32`
",
    );
    let exposed = format!(
        "security: {{ local_tcp: {{ listen: 0.0.0.0:4319, token: {} }} }}\n",
        "ab".repeat(16)
    );
    check(
        &exposed,
        r"
f.yaml:1:34: security.local_tcp.listen: not a loopback address, and neither the token nor the data is encrypted in transit
  1 | security: { local_tcp: { listen: 0.0.0.0:4319, token: ******************************** } }
    |                                  ^^^^^^^^^^^^
  help: if that is intended, set security.allow_non_loopback: true
",
    );
    check(
        "security: { local_socket: { mode: rw } }\n",
        r#"
f.yaml:1:35: security.local_socket.mode: invalid file mode "rw"
  1 | security: { local_socket: { mode: rw } }
    |                                   ^^
  help: write an octal file mode from "0000" to "0777" in quotes, such as "0660"
"#,
    );
    check(
        "security: { local_socket: { mode: '1777' } }\n",
        r#"
f.yaml:1:35: security.local_socket.mode: invalid file mode "1777"
  1 | security: { local_socket: { mode: '1777' } }
    |                                   ^^^^^^
  help: write an octal file mode from "0000" to "0777" in quotes, such as "0660"
"#,
    );
    check(
        "security: { local_socket: { path: '' } }\n",
        r"
f.yaml:1:35: security.local_socket.path: the path is empty
  1 | security: { local_socket: { path: '' } }
    |                                   ^^
  help: write a shorter path, such as /run/dichroic/dichroic.sock, or remove the key
",
    );
    check(
        "limits: { replay_time: 1500ms }\n",
        r"
f.yaml:1:24: limits.replay_time: 1.5s is not a whole number of seconds
  1 | limits: { replay_time: 1500ms }
    |                        ^^^^^^
  help: write whole seconds, such as 60s
",
    );
    check(
        "limits: { lease_time: 100ms }\n",
        r"
f.yaml:1:23: limits.lease_time: 100ms is not a whole number of seconds
  1 | limits: { lease_time: 100ms }
    |                       ^^^^^
  help: write whole seconds, such as 60s
",
    );
    check(
        "receivers: { beam: { attach: [{ node: a@h, cookie_file: /c, release: /r }] } }\n",
        r"
f.yaml:1:70: receivers.beam.attach[0].release: cookie_file and release exclude each other
  1 | receivers: { beam: { attach: [{ node: a@h, cookie_file: /c, release: /r }] } }
    |                                                                      ^^
  help: remove one of the two
",
    );
    check(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a }, { job_name: a }] } }\n",
        r#"
f.yaml:1:74: receivers.prometheus.scrape_configs[1].job_name: duplicate job name "a"
  1 | receivers: { prometheus: { scrape_configs: [{ job_name: a }, { job_name: a }] } }
    |                                                                          ^
  help: give each job its own name, or write the targets into one job
"#,
    );
    check(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, static_configs: [{ targets: ['b:1'], labels: { a-b: c } }] }] } }\n",
        r#"
f.yaml:1:60: receivers.prometheus.scrape_configs[0].static_configs: invalid label name "a-b"
  1 | receivers: { prometheus: { scrape_configs: [{ job_name: a, static_configs: [{ targets: ['b:1'], labels: { a-b: c } }] }] } }
    |                                                            ^^^^^^^^^^^^^^
  help: use letters, digits and `_` only, and begin with a letter or `_`
"#,
    );
    check(
        "receivers: { beam: { attach: [{ node: nohost }] } }\n",
        r#"
f.yaml:1:39: receivers.beam.attach[0].node: invalid node name "nohost"
  1 | receivers: { beam: { attach: [{ node: nohost }] } }
    |                                       ^^^^^^
  help: write name@host, as node() returns it in the node
"#,
    );
    check(
        "receivers: { beam: { attach: [{ node: a@h, transport: tcp }] } }\n",
        r"
f.yaml:1:55: receivers.beam.attach[0].transport: tcp requires security.local_tcp
  1 | receivers: { beam: { attach: [{ node: a@h, transport: tcp }] } }
    |                                                       ^^^
  help: set security.local_tcp, or write transport: auto
",
    );
    check(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, scrape_interval: 5s, scrape_timeout: 6s }] } }\n",
        r"
f.yaml:1:97: receivers.prometheus.scrape_configs[0].scrape_timeout: longer than scrape_interval
  1 | receivers: { prometheus: { scrape_configs: [{ job_name: a, scrape_interval: 5s, scrape_timeout: 6s }] } }
    |                                                                                                 ^^
  help: shorten it, or raise scrape_interval
",
    );
    check(
        "receivers: { beam: { attach: [{ node: a@h, epmd: nowhere:x }] } }\n",
        r#"
f.yaml:1:50: receivers.beam.attach[0].epmd: invalid address "nowhere:x"
  1 | receivers: { beam: { attach: [{ node: a@h, epmd: nowhere:x }] } }
    |                                                  ^^^^^^^^^
  help: write HOST:PORT, such as 127.0.0.1:4369
"#,
    );
    check(
        "receivers: { beam: { attach: [{ node: a@h }, { node: a@h }] } }\n",
        r#"
f.yaml:1:54: receivers.beam.attach[1].node: duplicate node "a@h"
  1 | receivers: { beam: { attach: [{ node: a@h }, { node: a@h }] } }
    |                                                      ^^^
  help: keep one entry for each node
"#,
    );
    check(
        "exporters: { stream: { retain: [a.b, ''] } }\n",
        r#"
f.yaml:1:38: exporters.stream.retain[1]: invalid pattern "": empty; use ** to match all names
  1 | exporters: { stream: { retain: [a.b, ''] } }
    |                                      ^^
  help: write a dotted name, in which * is any text within a segment and ** any number of segments
"#,
    );
}

#[test]
fn the_path_of_the_socket_has_at_most_107_bytes() {
    let path = |length: usize| {
        format!(
            "security: {{ local_socket: {{ path: /{} }} }}\n",
            "s".repeat(length - 1)
        )
    };
    assert!(parse(&path(107), "f").is_ok());
    let error = parse(&path(108), "f").unwrap_err().to_string();
    assert!(
        error.contains("security.local_socket.path: the path has 108 bytes"),
        "{error}"
    );
}

#[test]
fn a_token_that_is_empty_or_has_control_characters_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = parse(text, "f").expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("admin: { token: '' }\n", "admin.token: the token is empty");
    // An unset variable with an empty default leaves no text.
    check(
        "admin:\n  token: ${env:DICHROIC_TEST_UNSET:-}\n",
        "admin.token: the token is empty",
    );
    check("admin: { token: ~ }\n", "admin.token: the token is empty");
    check(
        "admin: { token: \"0123456789abcdef\\nx\" }\n",
        "admin.token: the token contains a line break",
    );
    check(
        "security:\n  local_tcp:\n    token: ${env:DICHROIC_TEST_UNSET:-}\n",
        "security.local_tcp.token: the token is too short",
    );
}

#[test]
fn a_section_without_content_has_its_defaults() {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    for text in [
        "limits:\n",
        "limits: ~\nadmin:\nmetrics:\nexporters:\ntelemetry:\nsecurity:\n",
        "receivers:\n  otlp:\n  prometheus:\n  beam:\n",
        "receivers:\n  beam:\n    logs:\nexporters:\n  prometheus:\n  stream:\nsecurity:\n  local_socket:\n",
    ] {
        let config = parse(text, "f").unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(serde_json::to_value(config).unwrap(), defaults, "{text}");
    }
    let error = parse("security:\n  local_tcp:\n", "f").unwrap_err().to_string();
    assert!(error.contains("token or token_file is required"), "{error}");
    let error = parse("telemetry:\n  otlp:\n", "f").unwrap_err().to_string();
    assert!(error.contains("endpoint"), "{error}");
}

#[test]
fn printed_definitions_read_back_as_equal_definitions() {
    let text = r#"
metrics:
  packs: [vm, plug]
  naming: promex
  variables: { plug_prefix: [shop.plug] }
  definitions:
    - { name: shop.checkout.duration, type: distribution, event: shop.checkout.stop, measurement: duration, unit: [native, ms], tags: [plan] }
    - { name: shop.carts, type: counter, event: shop.cart, keep: [{ path: kind, eq: "7" }] }
"#;
    let config = parse(text, "f").unwrap();
    let shown = serde_saphyr::to_string(&config).unwrap();
    assert!(shown.contains("shop.checkout.duration"), "{shown}");
    let again = parse(&shown, "printed").unwrap();
    assert_eq!(again.metrics.definitions, config.metrics.definitions, "{shown}");
    assert_eq!(again.metrics.variables, config.metrics.variables);
    assert_eq!(
        (again.metrics.naming, again.metrics.packs),
        (Naming::Promex, config.metrics.packs)
    );
}

#[test]
fn secrets_are_redacted_when_the_configuration_is_printed() {
    let check = |text: &str, secret: &str| {
        let config = parse(text, "f").unwrap();
        let shown = serde_saphyr::to_string(&config).unwrap();
        assert!(shown.contains("<redacted>") && !shown.contains(secret), "{shown}");
    };
    check("admin: { token: 0123456789abcdef }\n", "0123456789abcdef");
    let token = "0123456789abcdef".repeat(2);
    check(
        &format!("security: {{ local_tcp: {{ token: {token} }} }}\n"),
        &token,
    );
}

/// References to these variables in the tests below.
struct Variables;

impl Lookup for Variables {
    fn env(&self, name: &str) -> Option<String> {
        let value = match name {
            "N" => "1000",
            "TRUE" => "true",
            "SPAN" => "30s",
            "LIST" => "[vm]",
            "TOKEN" => "SECRETX\"x: [0123",
            "INJECT" => "SECRETX0123456789\", listen: \"0.0.0.0:1",
            "MODE" => "SECRETX",
            "PATH" => "SECRETX no path",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn file(&self, _: &str) -> Result<String, String> {
        Err("no file".to_owned())
    }
}

fn with_variables(text: &str) -> Result<Config, Box<ConfigError>> {
    parse_with(text, "f.yaml", &Variables)
}

#[test]
fn a_reference_takes_the_type_of_its_key() {
    for text in [
        "limits: { series: '${env:N}' }",
        "limits:\n  series: ${env:N}",
        "limits:\n  series: ${env:UNSET:-1000}",
        "limits:\n  series:\n    ${env:N}",
    ] {
        assert_eq!(with_variables(text).unwrap().limits.series.0, 1000, "{text}");
    }
    let config = with_variables(
        "receivers:\n  prometheus:\n    scrape_configs:\n      - job_name: ${env:N}\n        sample_limit: \"${env:N}\"\n        honor_labels: ${env:TRUE}\n        scrape_interval: ${env:SPAN}\n",
    )
    .unwrap();
    let job = &config.receivers.prometheus.scrape_configs[0];
    let read = (
        job.job_name.as_str(),
        job.sample_limit,
        job.honor_labels,
        job.scrape_interval.as_secs(),
    );
    assert_eq!(read, ("1000", 1000, true, 30));
}

#[test]
fn a_value_cannot_inject_keys_lists_or_sections() {
    let config = with_variables("admin: { token: \"${env:INJECT}\" }").unwrap();
    assert_eq!(config.admin.listen, LOOPBACK(9465));
    assert_eq!(config.admin.token.unwrap().0, Variables.env("INJECT").unwrap());
    let check = |text: &str, expected: &str| {
        assert_eq!(
            with_variables(text).expect_err(text).report(),
            expected.trim(),
            "{text}"
        );
    };
    check(
        "metrics:\n  packs: ${env:LIST}\n",
        r#"
f.yaml:2:10: metrics.packs: invalid value "${env:LIST}": expected auto, or a list of packs such as [vm, phoenix] (default auto)
  2 |   packs: ${env:LIST}
    |          ^^^^^^^^^^^
  help: packs in use: `auto` for all of them, or a list of names; for example `packs: [vm, phoenix, ecto]`
"#,
    );
    check(
        "receivers:\n  beam:\n    ecto_prefixes: ${env:LIST}\n",
        r#"
f.yaml:3:20: receivers.beam.ecto_prefixes: invalid value "${env:LIST}": expected a list of text (default [])
  3 |     ecto_prefixes: ${env:LIST}
    |                    ^^^^^^^^^^^
  help: the value of a reference is one text, number, true or false
"#,
    );
    let error = with_variables("\"${env:N}\": 1").unwrap_err().to_string();
    assert_eq!(error, "f.yaml:1:1: ${env:N}: unknown key");
}

#[test]
fn a_reference_that_yaml_cannot_read_without_quotes_is_answered_with_quotes() {
    for text in [
        "limits: { series: ${env:N} }\n",
        "admin: { token: ${env:TOKEN} }\n",
    ] {
        let report = with_variables(text).unwrap_err().report();
        assert!(
            report.contains("quotes are needed around a reference"),
            "{report}"
        );
    }
}

#[test]
fn errors_show_the_file_as_it_is_written() {
    for text in [
        "admin:\n  token: ${env:TOKEN}\n  listen: ${env:TOKEN}\n",
        "admin: { token: '${env:TOKEN}', zebra: 1 }\n",
        "security: { local_socket: { mode: '${env:MODE}' } }\n",
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, metrics_path: '${env:PATH}' }] } }\n",
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, static_configs: [{ targets: ['${env:PATH}'] }] }] } }\n",
        "telemetry: { otlp: { endpoint: 'http://${env:PATH}' } }\n",
        "metrics: { packs: ['${env:MODE}'] }\n",
        "receivers: { beam: { attach: [{ node: '${env:PATH}' }] } }\n",
        "admin:\n  token: ${env:TOKEN}\n\tlisten: x\n",
    ] {
        let error = with_variables(text).expect_err(text);
        let shown = format!("{} {:?} {:?}", error.report(), error, error.help());
        assert!(!shown.contains("SECRETX"), "{text}{shown}");
    }
}

#[test]
fn a_tag_that_yaml_does_not_define_is_refused() {
    for text in [
        "limits: !foo { series: 5 }\n",
        "admin: { token: !vault 0123456789abcdef }\n",
        "!foo limits: {}\n",
    ] {
        let error = parse(text, "f.yaml").unwrap_err().to_string();
        assert!(error.contains("tag"), "{error}");
    }
    assert!(parse("limits: !!map { series: !!int 5 }\n", "f.yaml").is_ok());
}

#[test]
fn an_address_of_another_machine_requires_tls() {
    let attach = |node: &str, tls: &str| {
        parse(
            &format!("receivers: {{ beam: {{ attach: [{{ node: '{node}'{tls} }}] }} }}\n"),
            "f.yaml",
        )
    };
    for node in ["a@192.0.2.7", "a@2001:db8::1"] {
        let error = attach(node, "").unwrap_err().to_string();
        assert!(
            error.contains("receivers.beam.attach[0].node: an address of another machine requires tls"),
            "{error}"
        );
        assert!(attach(node, ", tls: { ca_file: /ca.pem }").is_ok());
    }
    assert!(attach("a@127.0.0.1", "").is_ok() && attach("a@shop.internal", "").is_ok());
}

#[test]
fn errors_do_not_show_lines_that_may_hold_a_secret() {
    let hidden = |text: &str| {
        let shown = parse(text, "f.yaml").unwrap_err().report();
        assert!(!shown.contains("SECRETX"), "{shown}");
    };
    hidden("admin: { token: [SECRETX] }\n");
    hidden("receivers: { prometheus: { basic_auth: { username: a, password: SECRETX } } }\n");
    hidden("telemetry: { otlp: { endpoint: 'http://user:SECRETX@127.0.0.1:1', port: 1 } }\n");
    hidden(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, proxy_url: 'http://user:SECRETX@a' }] } }\n",
    );
    hidden("telemetry: { otlp: { endpoint: 'http://a/?key=SECRETX', port: 1 } }\n");
    hidden("tokn: SECRETX\n");
    hidden("admin: { pass: [a, SECRETX] }\n");
    hidden("admin: { pass: { a: SECRETX } }\n");
    hidden("admin:\n  listen: 'SECRETX\n");
    hidden("limits: { series: x } # SECRETX\n");
    hidden("receivers: [SECRETX]\n");
    hidden(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, params: { key: [SECRETX] }, x: 1 }] } }\n",
    );
    hidden(
        "receivers: { prometheus: { scrape_configs: [{ job_name: a, metrics_path: '/m?key=SECRETX', x: 1 }] } }\n",
    );
    hidden("admin: { token: { SECRETX: 1 } }\n");
    hidden(&format!(
        "limits: {{ series: x }} # {} SECRETX\n",
        "long ".repeat(50)
    ));
}
