//! What packs and definitions may say, and what a reader is told when they do not.
#![allow(clippy::too_many_lines, reason = "a test reads best in one piece")]

use dichroic_model::names::page_name;
use dichroic_model::{NameStyle, PageType};
use dichroic_packs::Variables;
use dichroic_packs::{Aggregation, Definition, Pack, PackError, Packs, Selection, Transform};
use std::collections::{BTreeMap, BTreeSet};

fn definition(yaml: &str) -> Result<Definition, String> {
    serde_saphyr::from_str(yaml).map_err(|e: serde_saphyr::Error| {
        // What is wrong with a document as a whole has no place; in a list, as in a configuration, it is the item's.
        let (line, column) = e.location().map_or((1, 1), |at| (at.line(), at.column()));
        format!("{line}:{column}: {}", e.without_snippet())
    })
}

#[test]
fn every_built_in_pack_is_read() {
    let packs = Packs::builtin();
    assert_eq!(
        packs.names().collect::<Vec<_>>(),
        [
            "absinthe",
            "ash",
            "bandit",
            "beam_runtime",
            "broadway",
            "commanded",
            "cowboy",
            "crucible",
            "ecto",
            "finch",
            "live_view",
            "llm_guard",
            "logger",
            "nebulex",
            "oban",
            "phoenix",
            "plug",
            "redix",
            "snakebridge",
            "snakepit",
            "tesla",
            "vm",
        ]
    );
}

#[test]
fn no_metric_has_two_types_or_two_units() {
    let selection = Selection {
        packs: Packs::builtin(),
        ..Selection::default()
    };
    let mut seen: BTreeMap<String, (std::mem::Discriminant<Aggregation>, String)> = BTreeMap::new();
    for metric in selection.compile("shop", &Variables::new()).metrics {
        let this = (std::mem::discriminant(&metric.aggregation), metric.unit.clone());
        let first = seen.entry(metric.name.clone()).or_insert_with(|| this.clone());
        assert_eq!(*first, this, "{}", metric.name);
        assert!(!metric.help.is_empty(), "{} has no help", metric.name);
    }
}

#[test]
fn metrics_of_one_name_and_event_differ_by_a_fixed_label_or_exclude_each_other() {
    let several = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    let variables = [
        ("plug_prefix", several(&["shop.plug", "admin.plug"])),
        ("hedging_prefix", several(&["crucible_hedging", "shop.hedging"])),
        ("ash_domain", several(&["orders", "accounts"])),
    ];
    let selection = Selection {
        packs: Packs::builtin(),
        variables: variables.map(|(name, values)| (name.to_owned(), values)).into(),
        ..Selection::default()
    };
    let metrics = selection.compile("shop", &Variables::new()).metrics;
    for (i, a) in metrics.iter().enumerate() {
        for b in &metrics[i + 1..] {
            // Events of several repositories or caches: each names its own.
            let own = ["repo", "cache", "domain"];
            let labels_by_repo = a.labels.iter().any(|(label, _)| own.contains(&label.as_str()));
            let same = a.name == b.name && a.fixed == b.fixed && a.labels == b.labels;
            assert!(
                !same || labels_by_repo,
                "{} from {:?} and {:?}",
                a.name,
                a.event,
                b.event
            );
        }
    }
}

#[test]
fn the_vocabulary_of_telemetry_metrics_is_understood() {
    let ok = |yaml: &str| definition(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}"));
    let d = ok("{name: http.request.stop.duration, type: distribution, unit: [native, millisecond]}");
    assert_eq!(d.event.0, "http.request.stop");
    assert_eq!(d.unit.unwrap().base(), "s");
    let d =
        ok("{name: a.b, type: counter, event: x.y, tags: [plan, result], drop: [{path: result, eq: ping}]}");
    assert_eq!(d.tags.len(), 2);
    assert_eq!(d.keep.len(), 1);
    ok("{name: a.b, type: sum, event: x.y, measurement: bytes, unit: byte, monotonic: false}");
    ok(
        "{name: a.b, type: summary, event: x.y, measurement: {path: messages, from: metadata, transform: [length]}}",
    );
    ok("{name: a.b, type: distribution, event: x.y, measurement: d, buckets: {scale: 2, octaves: [-4, 8]}}");
}

#[test]
fn a_wrong_definition_says_where_and_what_to_write() {
    let check = |yaml: &str, place: &str, message: &[&str]| {
        let error = definition(yaml).expect_err(yaml);
        assert!(error.starts_with(place), "{yaml}\n{error}");
        for word in message {
            assert!(error.contains(word), "{yaml}\n{error}\nlacks {word}");
        }
    };
    let base = "name: a.b\nevent: x.y\nmeasurement: d\n";
    check(
        &format!("{base}type: histogram\n"),
        "4:",
        &["histogram", "distribution", "last_value"],
    );
    check(
        &format!("{base}type: sum\nmesurement: d\n"),
        "5:",
        &["mesurement", "measurement"],
    );
    check(
        &format!("{base}type: sum\nunit: [ms, By]\n"),
        "5:",
        &["does not convert", "native"],
    );
    check(
        &format!("{base}type: sum\nbuckets: [1, 2]\n"),
        "1:",
        &["a.b", "distribution"],
    );
    check(
        &format!("{base}type: sum\nlabels: {{of: '${{shop_prefix}}'}}\n"),
        "1:",
        &["a.b", "${shop_prefix}", "${prefix}"],
    );
    check(
        &format!("{base}type: distribution\nbuckets: [2, 1]\n"),
        "5:",
        &["ascending"],
    );
    check(
        &format!("{base}type: distribution\nbuckets: exp\n"),
        "5:",
        &["exponential"],
    );
    check(
        &format!("{base}type: sum\ntags: {{s: conn..status}}\n"),
        "5:",
        &["conn.status"],
    );
    check(
        &format!("{base}type: sum\ntags:\n  s: {{path: a, transform: [upcase]}}\n"),
        "6:",
        &["upcase", "class"],
    );
    check(
        &format!("{base}type: sum\ntags:\n  s: {{path: a, transform: [{{before: ''}}]}}\n"),
        "6:",
        &["before", "_worker_"],
    );
    check(
        &format!("{base}type: sum\nkeep: [{{path: a}}]\n"),
        "5:",
        &["eq", "lacks"],
    );
    check(&format!("{base}type: sum\nexpire_s: 5\n"), "1:", &["300"]);
    check("name: a.b\nevent: x.**\ntype: counter\n", "2:", &["one event"]);
    check(
        "name: a.b\nevent: x.y\ntype: sum\n",
        "1:",
        &["measurement is missing", "measurement: KEY"],
    );
    check("type: sum\n", "1:", &["name"]);
    check(
        "{name: a.b, event: x, type: counter, keep: [{path: a, eq: 1}], drop: [{path: b, eq: 1}]}",
        "1:",
        &["exclude"],
    );
}

#[test]
fn what_is_wrong_with_a_whole_definition_is_placed_at_its_beginning() {
    let yaml = "- {name: a.b, type: counter, event: x}\n- name: c.d\n  event: x.y\n  type: sum\n";
    let error = serde_saphyr::from_str::<Vec<Definition>>(yaml).unwrap_err();
    let at = error.location().expect("a place");
    assert_eq!((at.line(), at.column()), (2, 3));
}

#[test]
fn a_wrong_pack_says_file_line_and_column() {
    let error = Pack::parse(
        "my.yaml",
        "name: my\nevents: []\ndefinitions:\n  - {name: a.b, type: zebra}\n",
    )
    .unwrap_err();
    let PackError::File {
        file, line, column, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((file.as_str(), *line), ("my.yaml", 4));
    assert!(*column > 1 && error.to_string().contains("zebra"), "{error}");
    let error = Pack::parse(
        "my.yaml",
        "name: my\nevents: []\nstreams: [{event: a.b, metadata: {r: {carry: x}}}]\n",
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("carried value \"x\" is not defined")
    );
}

#[test]
fn an_unknown_pack_is_answered_with_those_that_there_are() {
    let error = Packs::builtin()
        .choose(&["pheonix".to_owned()])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("pheonix") && error.contains("phoenix") && !error.contains("semconv"),
        "{error}"
    );
    let chosen = Packs::builtin().choose(&["vm".to_owned()]).unwrap();
    assert_eq!(chosen.names().collect::<Vec<_>>(), ["vm"]);
    assert!(
        chosen.iter().any(|pack| pack.name == "semconv"),
        "the mapping stays"
    );
}

#[test]
fn what_is_printed_reads_back_as_the_same_definition() {
    let configured = [
        "{name: a.b, type: counter, event: x.y, tags: [plan, result], drop: [{path: result, in: [ping, 1, 2.5, true, 'true', '7']}]}",
        "{name: a.b, type: sum, event: x.y, measurement: bytes, unit: byte, monotonic: false, labels: {a: 'yes', b: '1.5'}}",
        "{name: a.b, type: summary, event: x.y, measurement: {path: messages.0.1, from: metadata, transform: [length, upper, {default: 0}, {cut: 5}, {before: _worker_}, {allow: [a, 1]}]}}",
        "{name: a.b, type: distribution, event: x.y, measurement: d, buckets: {scale: 2, octaves: [-4, 8]}, unit: [native, ms], verbatim: true, unless: [phoenix]}",
        "{name: a.b, type: distribution, event: x.y, measurement: d, buckets: [0.1, 1], unit: ['{call}', '{call}'], series: 7, expire_s: 400}",
        "{name: a.b, type: last_value, event: x.y, measurement: [a, b], measurement_tag: type, help: \"'tis: a # colon\"}",
        "{name: a.b, type: counter, event: x.y, tags: {r: {carry: route}}, carry: {route: {event: x.z, path: {path: '1.2', transform: [name]}, clear: [x.start, x.stop]}}}",
    ];
    let configured = configured
        .iter()
        .map(|yaml| definition(yaml).unwrap_or_else(|e| panic!("{yaml}: {e}")));
    let (own, promex) = (Packs::builtin(), Packs::builtin().promex());
    let packed = own
        .iter()
        .chain(promex.iter())
        .flat_map(|pack| pack.definitions.clone());
    for one in configured.chain(packed) {
        let printed = serde_saphyr::to_string(&one).expect("prints");
        let read: Definition = serde_saphyr::from_str(&printed).unwrap_or_else(|e| panic!("{printed}\n{e}"));
        assert_eq!(read, one, "{printed}");
    }
}

#[test]
fn a_label_tells_what_filled_the_template_of_its_event() {
    let definition = |yaml: &str| definition(yaml).unwrap();
    let selection = Selection {
        definitions: vec![definition(
            "{name: a.b, type: counter, event: '${of}.request.${kind}.stop', labels: {of: '${of}', both: '${kind} of ${of}', prefix: '${prefix}'}}",
        )],
        variables: [
            (
                "of".to_owned(),
                vec!["${app}.hedging".to_owned(), "other".to_owned()],
            ),
            ("kind".to_owned(), vec!["get".to_owned()]),
        ]
        .into(),
        ..Selection::default()
    };
    let metrics = selection.compile("shop", &Variables::new()).metrics;
    let fixed: Vec<Vec<&str>> = metrics
        .iter()
        .map(|m| m.fixed.iter().map(|(_, value)| value.as_str()).collect())
        .collect();
    assert_eq!(
        fixed,
        [
            ["get of other", "other", "other.request.get"],
            ["get of shop.hedging", "shop.hedging", "shop.hedging.request.get"]
        ]
    );
}

#[test]
fn templates_that_stand_in_one_another_have_no_value() {
    let check = |values: &[(&str, &str)], events: &[&str]| {
        let several = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
        let selection = Selection {
            definitions: vec![definition("{name: a.b, type: counter, event: '${a}.stop}'}").unwrap()],
            variables: several.collect(),
            ..Selection::default()
        };
        let metrics = selection.compile("shop", &Variables::new()).metrics;
        let found: Vec<_> = metrics.iter().map(|metric| metric.event.join(".")).collect();
        assert_eq!(found, events, "{values:?}");
    };
    check(&[("a", "${b}.x"), ("b", "${app}.y")], &["shop.y.x.stop}"]);
    check(&[("a", "${b}"), ("b", "${a}")], &[]);
    check(&[("a", "${a}")], &[]);
    check(&[("a", "${")], &[]);
    check(&[("a", "${a")], &[]);
}

#[test]
fn what_a_node_tells_of_templates_gets_the_declared_stream_and_no_more() {
    let selection = Selection {
        packs: Packs::builtin().choose(&["ecto".to_owned()]).unwrap(),
        ..Selection::default()
    };
    let node = Variables::from([("ecto_prefix".to_owned(), vec!["other.repo".to_owned()])]);
    let streams = selection.compile("shop", &node).streams;
    let columns = |name: &str| {
        let stream = streams.iter().find(|stream| stream.name() == name).unwrap();
        (stream.measurements.clone(), stream.metadata.clone())
    };
    // The one is known to the pack, the other was found where the node runs.
    assert_eq!(columns("other.repo.query"), columns("shop.repo.query"));
}

#[test]
fn a_definition_is_left_out_when_a_pack_counts_the_same() {
    let names = |packs: &[&str]| {
        let packs: Vec<_> = packs.iter().map(|name| (*name).to_owned()).collect();
        let selection = Selection {
            packs: Packs::builtin().choose(&packs).unwrap(),
            ..Selection::default()
        };
        let metrics = selection.compile("shop", &Variables::new()).metrics;
        let shared = metrics
            .iter()
            .filter(|m| m.name == "http.server.request.duration" || m.name == "http.client.request.duration");
        shared.map(|m| m.event.join(".")).collect::<Vec<_>>()
    };
    assert_eq!(names(&["bandit", "phoenix", "plug"]), ["phoenix.endpoint.stop"]);
    // A request of Cowboy ends in one of two events.
    assert_eq!(
        names(&["cowboy", "plug"]),
        ["cowboy.request.stop", "cowboy.request.exception"]
    );
    assert_eq!(names(&["bandit"]), ["bandit.request.stop"]);
    assert_eq!(names(&["finch", "tesla"]), ["finch.request.stop"]);
    assert_eq!(names(&["tesla"]), ["tesla.request.stop"]);
}

#[test]
fn labels_that_the_reference_forbids_are_in_no_pack() {
    let forbidden = [
        "worker_id",
        "worker_pid",
        "session_id",
        "correlation_id",
        "request_id",
        "experiment_id",
        "deployment_id",
        "stacktrace",
        "params",
        "args",
        "request_path",
        "remote_address",
        "remote_port",
        "aggregate_uuid",
        "query",
        "url",
        "host_header",
        "telemetry_span_context",
        "pid",
        "user_data",
        "actor",
    ];
    let (own, promex) = (Packs::builtin(), Packs::builtin().promex());
    for definition in own.iter().chain(promex.iter()).flat_map(|pack| &pack.definitions) {
        for (label, expression) in &definition.tags {
            let last = expression
                .path
                .last()
                .map(|step| format!("{step:?}"))
                .unwrap_or_default();
            // What stands before a word of an identity is a name.
            let folded = expression
                .transforms
                .iter()
                .any(|transform| matches!(transform, Transform::Before(_)));
            let read = !folded && forbidden.iter().any(|name| last == format!("Key({name:?})"));
            assert!(
                !read && !forbidden.contains(&label.as_str()),
                "{}: {label}",
                definition.name
            );
        }
    }
}

#[test]
fn what_dashboards_of_promex_choose_from_stays_while_the_service_is_quiet() {
    let listed = [
        "${prom_ex}.broadway.init.status.info",
        "${prom_ex}.ecto.repo.init.status.info",
        "${prom_ex}.oban.init.status.info",
        "${prom_ex}.phoenix.endpoint.port.info",
    ];
    let promex = Packs::builtin().promex();
    let definitions: Vec<_> = promex.iter().flat_map(|pack| &pack.definitions).collect();
    for name in listed {
        let found: Vec<_> = definitions.iter().filter(|d| d.name == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        assert!(found[0].expire_s >= 30 * 24 * 3600, "{name}");
    }
}

#[test]
fn the_dashboards_of_promex_find_their_metrics_on_the_page() {
    // What the panels of PromEx 1.11 ask for, after the prefix, as far as events tell it.
    let asked = [
        "absinthe_execute_complexity_size",
        "absinthe_execute_duration_milliseconds",
        "absinthe_execute_invalid_request_count",
        "absinthe_subscription_duration_milliseconds",
        "application_dependency_info",
        "application_primary_info",
        "application_uptime_milliseconds_count",
        "beam_memory_allocated_bytes",
        "beam_memory_atom_total_bytes",
        "beam_memory_binary_total_bytes",
        "beam_memory_code_total_bytes",
        "beam_memory_ets_total_bytes",
        "beam_memory_persistent_term_total_bytes",
        "beam_memory_processes_total_bytes",
        "beam_stats_active_task_count",
        "beam_stats_atom_count",
        "beam_stats_context_switch_count",
        "beam_stats_ets_count",
        "beam_stats_gc_count",
        "beam_stats_gc_reclaimed_bytes",
        "beam_stats_port_count",
        "beam_stats_port_io_byte_count",
        "beam_stats_process_count",
        "beam_stats_reduction_count",
        "beam_stats_run_queue_count",
        "beam_stats_uptime_milliseconds_count",
        "beam_system_atom_limit_info",
        "beam_system_dirty_cpu_schedulers_info",
        "beam_system_dirty_cpu_schedulers_online_info",
        "beam_system_dirty_io_schedulers_info",
        "beam_system_ets_limit_info",
        "beam_system_jit_support_info",
        "beam_system_logical_processors_info",
        "beam_system_logical_processors_available_info",
        "beam_system_logical_processors_online_info",
        "beam_system_port_limit_info",
        "beam_system_process_limit_info",
        "beam_system_schedulers_info",
        "beam_system_schedulers_online_info",
        "beam_system_smp_support_info",
        "beam_system_thread_support_info",
        "beam_system_time_correction_support_info",
        "beam_system_version_info",
        "beam_system_word_size_bytes_info",
        "broadway_init_status_info",
        "broadway_process_batch_duration_milliseconds",
        "broadway_process_batch_failure_size",
        "broadway_process_batch_success_size",
        "broadway_process_message_duration_milliseconds",
        "broadway_process_message_exception_duration_milliseconds",
        "ecto_repo_init_status_info",
        "ecto_repo_query_decode_time_milliseconds",
        "ecto_repo_query_execution_time_milliseconds",
        "ecto_repo_query_idle_time_milliseconds",
        "ecto_repo_query_queue_time_milliseconds",
        "ecto_repo_query_results_returned",
        "ecto_repo_query_total_time_milliseconds",
        "oban_init_status_info",
        "oban_job_complete_attempts",
        "oban_job_exception_attempts",
        "oban_job_exception_duration_milliseconds",
        "oban_job_exception_queue_time_milliseconds",
        "oban_job_processing_duration_milliseconds",
        "oban_job_queue_time_milliseconds",
        "oban_producer_dispatched_count",
        "oban_producer_duration_milliseconds",
        "oban_producer_exception_duration_milliseconds",
        "phoenix_channel_handled_in_duration_milliseconds",
        "phoenix_channel_joined_total",
        "phoenix_endpoint_port_info",
        "phoenix_http_request_duration_milliseconds",
        "phoenix_http_requests_total",
        "phoenix_live_view_handle_event_duration_milliseconds",
        "phoenix_live_view_handle_event_exception_duration_milliseconds",
        "phoenix_live_view_mount_duration_milliseconds",
        "phoenix_live_view_mount_exception_duration_milliseconds",
        "phoenix_socket_connected_duration_milliseconds",
        "plug_cowboy_http_request_duration_milliseconds",
        "plug_cowboy_http_requests_total",
        "plug_cowboy_http_response_size_bytes",
        "plug_router_http_request_duration_milliseconds",
        "plug_router_http_requests_total",
        "prom_ex_status_info",
    ];
    let selection = Selection {
        packs: Packs::builtin().promex(),
        ..Selection::default()
    };
    let kind = |aggregation: &Aggregation| match aggregation {
        Aggregation::Counter | Aggregation::Sum { monotonic: true } => PageType::Counter,
        Aggregation::Sum { .. } | Aggregation::LastValue => PageType::Gauge,
        Aggregation::Buckets(_) | Aggregation::Exponential { .. } => PageType::Histogram,
    };
    let metrics = selection.compile("shop", &Variables::new()).metrics;
    let shown: BTreeSet<String> = metrics
        .iter()
        .filter(|metric| metric.verbatim)
        .map(|metric| {
            let page = page_name(
                &metric.name,
                &metric.unit,
                kind(&metric.aggregation),
                NameStyle::Verbatim,
            );
            format!("{}{}", page.base, if page.total { "_total" } else { "" })
        })
        .collect();
    for name in asked {
        assert!(
            shown.contains(&format!("shop_prom_ex_{name}")),
            "{name} is not among {shown:#?}"
        );
    }
    let request = metrics
        .iter()
        .find(|m| m.name == "shop.prom_ex.phoenix.http.request.duration.milliseconds")
        .unwrap();
    assert_eq!(
        (request.raw_unit.as_str(), request.unit.as_str()),
        ("native", "ms")
    );
    assert_eq!(
        request.aggregation,
        Aggregation::Buckets(vec![10.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0, 30000.0])
    );
}
