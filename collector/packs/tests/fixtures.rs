//! Replays recorded events through every pack and compares metrics and rows. The events have the shapes that the libraries emit.

mod interpreter;

use dichroic_packs::{Definition, Pack, Packs, Selection, Variables};
use interpreter::{Recorded, play};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    /// Values of templates, as in the configuration.
    #[serde(default)]
    variables: Variables,
    events: Vec<Recorded>,
    metrics: Vec<String>,
    /// Raw rows; variants of a pack have the same.
    rows: Option<Vec<String>>,
    /// Texts in the events that must not be in any label.
    never: Vec<String>,
}

/// Rewrites the expected metrics and rows, which end the file.
fn bless(file: &str, text: &str, with_rows: bool, metrics: &[String], rows: &[String]) {
    let mut written = text.split("metrics:\n").next().unwrap().to_owned();
    let parts = [("metrics", metrics, true), ("rows", rows, with_rows)];
    for (part, lines, _) in parts.iter().filter(|(_, _, wanted)| *wanted) {
        written.push_str(&format!("{part}:\n"));
        for line in *lines {
            written.push_str(&format!("  - '{line}'\n"));
        }
    }
    std::fs::write(file, written).unwrap();
}

fn check(packs: Packs, pack: &str, file: &str, text: &str) {
    let fixture: Fixture = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{pack}: {e}"));
    let selection = Selection {
        packs: packs.choose(&[pack.to_owned()]).unwrap(),
        variables: fixture.variables,
        ..Selection::default()
    };
    let (metrics, rows) = play(&selection.compile("shop", &Variables::new()), &fixture.events);
    if std::env::var_os("DICHROIC_BLESS").is_some() {
        return bless(file, text, fixture.rows.is_some(), &metrics, &rows);
    }
    let lines = |of: &[String]| {
        let quoted: Vec<_> = of.iter().map(|line| format!("  - '{line}'")).collect();
        quoted.join("\n")
    };
    assert_eq!(
        metrics,
        fixture.metrics,
        "{pack}:\nmetrics:\n{}\nrows:\n{}\n",
        lines(&metrics),
        lines(&rows)
    );
    if let Some(expected) = &fixture.rows {
        assert_eq!(&rows, expected, "{pack}:\nrows:\n{}\n", lines(&rows));
    }
    let events = text.split("\nmetrics:").next().unwrap();
    for never in &fixture.never {
        assert!(events.contains(never), "{pack}: no event has {never:?}");
        let found: Vec<_> = metrics.iter().filter(|line| line.contains(never)).collect();
        assert!(found.is_empty(), "{pack}: {never:?} is a label of {found:?}");
    }
}

macro_rules! fixtures {
    ($names:ident, $packs:expr, $folder:literal: $($pack:ident: $name:ident,)*) => {
        $(#[test]
        fn $name() {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/", $folder, stringify!($pack), ".yaml");
            check($packs, stringify!($pack), file, include_str!(concat!("fixtures/", $folder, stringify!($pack), ".yaml")));
        })*

        const $names: &[&str] = &[$(stringify!($pack)),*];
    };
}

fixtures! { BUILTIN, Packs::builtin(), "":
    absinthe: absinthe_operations_are_labeled_with_their_first_field_not_with_the_clients_name,
    ash: ash_actions_are_labeled_with_domain_resource_and_kind,
    bandit: bandit_requests_have_bounded_methods_and_timestamps_are_not_durations,
    beam_runtime: beam_runtime_has_sums_that_start_at_zero_and_gauges_by_scheduler_and_process,
    broadway: broadway_messages_are_counted_by_the_lengths_of_lists,
    brod: brod_messages_are_counted_by_topic,
    commanded: commanded_commands_are_labeled_with_the_names_of_their_structs,
    cowboy: cowboy_statuses_are_numbers_even_with_a_reason_phrase,
    crucible: crucible_has_three_units_and_numbers_in_metadata,
    db_connection: db_connection_errors_have_a_reason_and_no_message,
    ecto: ecto_queries_are_database_operations_and_absent_times_are_skipped,
    finch: finch_requests_are_counted_once_and_their_phases_separately,
    grpc: grpc_calls_have_the_status_of_their_error_and_nothing_of_their_message,
    horde: horde_supervisors_are_gauges,
    libcluster: libcluster_connections_are_not_labeled_with_nodes,
    live_view: live_view_mounts_are_labeled_as_static_or_connected,
    llm_guard: llm_guard_confidences_are_a_histogram,
    logger: logger_counts_messages_by_level_and_crashes_by_initial_call,
    membrane: membrane_callbacks_are_labeled_without_paths_of_components,
    nebulex: nebulex_keys_and_values_stay_in_the_node,
    oban: oban_jobs_are_counted_by_final_state,
    phoenix: phoenix_requests_have_the_route_of_the_same_process,
    plug: plug_requests_are_counted_under_the_configured_prefix,
    quantum: quantum_jobs_without_a_name_have_no_label,
    redix: redix_commands_are_labeled_with_their_first_word,
    snakebridge: snakebridge_duplicate_events_of_calls_are_not_counted,
    snakepit: snakepit_calls_are_counted_once_in_each_events_unit_without_worker_ids,
    swoosh: swoosh_emails_are_counted_without_addresses,
    tesla: tesla_requests_are_counted_without_the_older_event_and_without_urls,
    thousand_island: thousand_island_connections_have_no_addresses,
    tinkex: tinkex_requests_and_losses_have_no_ids,
    vm: vm_samples_become_gauges_by_type,
}

fixtures! { PROMEX, Packs::builtin().promex(), "promex/":
    absinthe: absinthe_has_the_names_and_labels_of_promex,
    broadway: broadway_has_the_names_and_labels_of_promex,
    cowboy: cowboy_has_the_names_and_labels_of_promex,
    ecto: ecto_has_the_names_and_labels_of_promex,
    live_view: live_view_has_the_names_and_labels_of_promex,
    oban: oban_has_the_names_and_labels_of_promex,
    phoenix: phoenix_has_the_names_and_labels_of_promex,
    plug: plug_has_the_names_and_labels_of_promex,
    vm: vm_has_the_names_and_labels_of_promex,
}

/// Packs with many definitions that differ only in a part of the event name or in one measurement; their fixtures have some of each.
const PARTIAL: &[&str] = &["beam_runtime", "oban", "vm", "promex/vm"];

fn fixture(folder: &str, pack: &str) -> Fixture {
    let file = format!(
        "{}/tests/fixtures/{folder}{pack}.yaml",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Definitions of a pack that count no event of its fixture.
fn uncounted(pack: &Pack, fixture: &Fixture) -> Vec<String> {
    let counts = |definition: &Definition| {
        let alone = Pack {
            definitions: vec![definition.clone()],
            ..pack.clone()
        };
        let selection = Selection {
            packs: Packs::of(vec![alone]),
            variables: fixture.variables.clone(),
            ..Selection::default()
        };
        let (metrics, _) = play(&selection.compile("shop", &Variables::new()), &fixture.events);
        !metrics.is_empty()
    };
    let uncounted = pack.definitions.iter().filter(|definition| !counts(definition));
    uncounted
        .map(|d| format!("{} from {}", d.name, d.event))
        .collect()
}

#[test]
fn every_definition_counts_an_event_of_its_fixture() {
    let (builtin, promex) = (Packs::builtin(), Packs::builtin().promex());
    let builtin = BUILTIN.iter().map(|name| ("", *name, &builtin));
    let promex = PROMEX.iter().map(|name| ("promex/", *name, &promex));
    let mut incomplete = Vec::new();
    for (folder, name, packs) in builtin.chain(promex) {
        let pack = packs.iter().find(|pack| pack.name == name).unwrap();
        let uncounted = uncounted(pack, &fixture(folder, name));
        if !uncounted.is_empty() {
            println!("{folder}{name}: no event for {uncounted:#?}");
            incomplete.push(format!("{folder}{name}"));
        }
    }
    assert_eq!(
        incomplete, PARTIAL,
        "all other fixtures have an event for every definition"
    );
}

#[test]
fn every_pack_and_every_variant_has_a_fixture() {
    assert_eq!(Packs::builtin().names().collect::<Vec<_>>(), BUILTIN);
    let (builtin, promex) = (Packs::builtin(), Packs::builtin().promex());
    let changed = builtin.iter().zip(promex.iter()).filter(|(a, b)| a != b);
    assert_eq!(
        changed.map(|(pack, _)| pack.name.as_str()).collect::<Vec<_>>(),
        PROMEX
    );
}

#[test]
fn every_pack_says_how_it_was_checked() {
    for pack in Packs::builtin()
        .iter()
        .filter(|pack| !pack.definitions.is_empty())
    {
        let known = ["ran ", "ran, ", "read ", "not checked"];
        assert!(
            known.iter().any(|how| pack.checked.starts_with(how)),
            "{}: {:?}",
            pack.name,
            pack.checked
        );
    }
}
