//! Recorded events in, expected metrics and rows out, for every pack. The events are in the shapes that the libraries emit.

mod interpreter;

use dichroic_packs::{Packs, Selection};
use interpreter::{Recorded, play};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    events: Vec<Recorded>,
    metrics: Vec<String>,
    rows: Vec<String>,
}

fn check(pack: &str, text: &str) {
    let fixture: Fixture = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{pack}: {e}"));
    let selection = Selection {
        packs: Packs::builtin().choose(&[pack.to_owned()]).unwrap(),
        ..Selection::default()
    };
    let (metrics, rows) = play(&selection.work("shop"), &fixture.events);
    assert_eq!(
        metrics,
        fixture.metrics,
        "{pack}: metrics\n{}",
        metrics.join("\n")
    );
    assert_eq!(rows, fixture.rows, "{pack}: rows\n{}", rows.join("\n"));
}

macro_rules! fixtures {
    ($($pack:ident: $name:ident,)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($pack), include_str!(concat!("fixtures/", stringify!($pack), ".yaml")));
        })*

        #[test]
        fn every_pack_has_a_fixture() {
            assert_eq!(Packs::builtin().names().collect::<Vec<_>>(), [$(stringify!($pack)),*]);
        }
    };
}

fixtures! {
    ecto: ecto_queries_are_database_operations_and_absent_times_are_skipped,
    oban: oban_jobs_are_counted_by_how_they_ended,
    phoenix: phoenix_requests_have_the_route_of_their_own_process,
    snakepit: snakepit_calls_are_counted_once_in_their_own_units_without_worker_ids,
    vm: vm_samples_become_gauges_by_type,
}
