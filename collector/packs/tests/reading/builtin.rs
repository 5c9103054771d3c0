//! The built-in packs: names, units, labels, and packs that exclude each other.

use dichroic_packs::{Aggregation, Packs, Selection, Transform, Variables};
use std::collections::BTreeMap;

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
            "brod",
            "commanded",
            "cowboy",
            "crucible",
            "db_connection",
            "ecto",
            "finch",
            "grpc",
            "horde",
            "libcluster",
            "live_view",
            "llm_guard",
            "logger",
            "membrane",
            "nebulex",
            "oban",
            "phoenix",
            "plug",
            "quantum",
            "redix",
            "snakebridge",
            "snakepit",
            "swoosh",
            "tesla",
            "thousand_island",
            "tinkex",
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
fn metrics_with_one_name_and_event_differ_by_a_fixed_label_or_exclude_each_other() {
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
            // Events of several repositories or caches differ by these labels.
            let instance = ["repo", "cache", "domain"];
            let labels_by_repo = a
                .labels
                .iter()
                .any(|(label, _)| instance.contains(&label.as_str()));
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
fn the_error_for_an_unknown_pack_lists_the_known_packs() {
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
        "the mapping is always included"
    );
}

#[test]
fn a_definition_is_left_out_if_another_chosen_pack_counts_the_same() {
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
    assert_eq!(
        names(&["finch", "tesla"]),
        ["finch.request.stop", "finch.request.exception"]
    );
    assert_eq!(names(&["tesla"]), ["tesla.request.stop"]);
}

#[test]
fn no_pack_has_a_label_with_unbounded_values() {
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
    let (builtin, promex) = (Packs::builtin(), Packs::builtin().promex());
    for definition in builtin
        .iter()
        .chain(promex.iter())
        .flat_map(|pack| &pack.definitions)
    {
        for (label, expression) in &definition.tags {
            let last = expression
                .path
                .last()
                .map(|step| format!("{step:?}"))
                .unwrap_or_default();
            // The part of an id before a fixed text is a bounded name.
            let bounded = expression
                .transforms
                .iter()
                .any(|transform| matches!(transform, Transform::Before(_)));
            let read = !bounded && forbidden.iter().any(|name| last == format!("Key({name:?})"));
            assert!(
                !read && !forbidden.contains(&label.as_str()),
                "{}: {label}",
                definition.name
            );
        }
    }
}

#[test]
fn a_shared_metric_comes_from_a_pack_whose_library_the_node_has_loaded() {
    let selection = Selection {
        packs: Packs::builtin(),
        ..Selection::default()
    };
    let check = |metric: &str, loaded: Option<&[&str]>, expected: &[&str]| {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut node = Variables::from([("plug_prefix".to_owned(), names(&["my_plug"]))]);
        if let Some(loaded) = loaded {
            node.insert("loaded".to_owned(), names(loaded));
        }
        let compiled = selection.compile("shop", &node);
        let of_name = compiled.metrics.iter().filter(|m| m.name == metric);
        let mut libraries: Vec<_> = of_name.map(|m| m.event[0].as_str()).collect();
        libraries.sort_unstable();
        libraries.dedup();
        // The events of other libraries do not occur.
        if let Some(loaded) = loaded {
            let occurs = |event: &str| {
                loaded
                    .iter()
                    .any(|name| name.trim_end_matches("_telemetry") == event)
            };
            libraries.retain(|event| occurs(event) || (*event == "my_plug" && occurs("plug")));
        }
        assert_eq!(libraries, expected, "{metric} with {loaded:?}");
    };
    let server = "http.server.request.duration";
    check(server, None, &["phoenix"]);
    check(server, Some(&["bandit", "phoenix", "plug"]), &["phoenix"]);
    check(
        server,
        Some(&["cowboy_telemetry", "phoenix", "plug"]),
        &["phoenix"],
    );
    check(server, Some(&["bandit", "plug"]), &["bandit"]);
    check(server, Some(&["cowboy_telemetry", "plug"]), &["cowboy"]);
    check(server, Some(&["plug"]), &["my_plug"]);
    let client = "http.client.request.duration";
    check(client, None, &["finch"]);
    check(client, Some(&["finch", "tesla"]), &["finch"]);
    check(client, Some(&["tesla"]), &["tesla"]);
}
