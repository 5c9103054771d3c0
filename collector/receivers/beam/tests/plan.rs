//! Blueprints of plans: stable keys, templates, and the built-in definitions.

mod common;

use common::{DEFINITIONS, T0, definitions, hello};
use dichroic_model::EventKind;
use dichroic_packs::{Packs, Selection, Variables};
use dichroic_receiver_beam::Config;
use dichroic_receiver_beam::plan::Blueprint;
use dichroic_wire::Value;

fn config(selection: Selection) -> Config {
    Config {
        selection,
        ..Config::default()
    }
}

#[test]
fn keys_are_the_same_in_every_build() {
    // Relays keep totals under these keys across restarts and upgrades of the collector: a changed key resets its counters.
    let selection = Selection {
        definitions: definitions(DEFINITIONS),
        ..Selection::default()
    };
    let blueprint = Blueprint::new(&config(selection), &hello("a@a", 1, T0, 1));
    let keys: Vec<String> = blueprint
        .aggregates
        .iter()
        .map(|a| format!("{:016x}", a.key))
        .collect();
    assert_eq!(keys, KEYS);
}

const KEYS: [&str; 6] = [
    "3697fa8cb2fd58c5",
    "957e8790435675fe",
    "b53545c1acb474f6",
    "8951cd82ae0e5afe",
    "d3a19b38e591fdc9",
    "c7b3360c34a79c96",
];

#[test]
fn keys_change_with_everything_that_changes_the_meaning_of_a_total() {
    let key = |yaml: &str, native: i64| {
        let selection = Selection {
            definitions: definitions(yaml),
            ..Selection::default()
        };
        let mut relay = hello("a@a", 1, T0, 1);
        relay.native_per_s = native;
        Blueprint::new(&config(selection), &relay).aggregates[0].key
    };
    let ns = 1_000_000_000;
    let base = "[{name: a.b, type: distribution, event: x.y, measurement: d, unit: [native, s], tags: [t]}]";
    assert_eq!(
        key(base, ns),
        key(
            &base.replace("unit: [native, s]", "help: other, unit: [native, s]"),
            ns
        )
    );
    for (from, to) in [
        ("a.b", "a.c"),
        ("x.y", "x.z"),
        ("measurement: d", "measurement: e"),
        ("[t]", "[u]"),
        ("[t]", "{u: t}"),
        ("tags: [t]", "tags: [t], labels: {f: g}"),
        ("tags: [t]", "tags: [t], keep: [{path: t, has: true}]"),
        ("tags: [t]", "tags: [t], buckets: [1, 2]"),
    ] {
        assert_ne!(key(base, ns), key(&base.replace(from, to), ns), "{from} → {to}");
    }
    assert_ne!(key(base, ns), key(base, 1_000_000), "bounds are in native units");
}

#[test]
fn templates_get_values_from_the_node_and_the_configuration() {
    let events = |selection: Selection, service: &str| {
        let mut relay = hello("a@a", 1, T0, 1);
        relay.resource = [("service.name".to_owned(), Value::from(service))].into();
        let blueprint = Blueprint::new(&config(selection), &relay);
        let events = blueprint.streams.iter().filter(|s| s.kind == EventKind::Event);
        let mut events: Vec<String> = events.map(|s| s.name.clone()).collect();
        events.dedup();
        events
    };
    let ecto = || Selection {
        packs: Packs::builtin().choose(&["ecto".to_owned()]).unwrap(),
        ..Selection::default()
    };
    assert_eq!(
        events(ecto(), "Check-Out"),
        ["check_out.repo.query", "my_app.repo.query", "dichroic.ecto.pool"]
    );
    assert_eq!(events(ecto(), ""), ["my_app.repo.query", "dichroic.ecto.pool"]);
    let configured = Selection {
        variables: Variables::from([("ecto_prefix".to_owned(), vec!["shop.read_repo".to_owned()])]),
        ..ecto()
    };
    assert_eq!(
        events(configured, "shop"),
        ["shop.read_repo.query", "dichroic.ecto.pool"]
    );
}

#[test]
fn every_builtin_definition_compiles_into_a_plan() {
    let selection = Selection {
        packs: Packs::builtin(),
        ..Selection::default()
    };
    let blueprint = Blueprint::new(&config(selection), &hello("a@a", 1, T0, 1));
    assert_eq!(blueprint.left_out, []);
    assert_eq!(blueprint.measures.len(), blueprint.aggregates.len());
    assert!(blueprint.aggregates.len() > 60, "{}", blueprint.aggregates.len());
}
