//! Findings about families.

use super::*;

#[test]
fn seconds_with_default_bounds_are_a_warning() {
    let mut world = World::new();
    world.histogram("http.client.request.duration", "s", DEFAULT_BOUNDS, &[0; 16], 0.0);
    world.check(
        &["Warning default_bounds http.client.request.duration"],
        &["below 5 s are in one bucket"],
    );
}

#[test]
fn values_that_are_all_outside_their_bounds_are_a_warning() {
    let mut world = World::new();
    world.histogram("a.above", "s", &[0.1, 1.0], &[0, 0, 30], 45_000.0);
    world.histogram("b.below", "By", &[1_000.0, 10_000.0], &[30, 0, 0], 3.0);
    world.check(
        &["Warning outside_bounds a.above", "Warning outside_bounds b.below"],
        &["above the last bound, 1 s", "far below the first bound, 1000 By"],
    );
}

#[test]
fn units_in_names_are_a_warning_for_dotted_names_and_a_note_for_scraped_ones() {
    let mut world = World::new();
    world.number(false, "job.elapsed_ms", "", &[]);
    world.number(false, "terms", "", &[]);
    let scraped = Line(
        false,
        "gc_time_milliseconds_total",
        "",
        MetricKind::COUNTER,
        &[],
        NameStyle::Verbatim,
    );
    world.set(&scraped);
    // The configuration sets this name, for example one of PromEx.
    world.set(&Line(
        true,
        "shop_prom_ex_time_milliseconds",
        "ms",
        MetricKind::COUNTER,
        &[],
        NameStyle::Verbatim,
    ));
    world.check(
        &[
            "Warning unit_in_name job.elapsed_ms",
            "Note unit_in_name gc_time_milliseconds_total",
        ],
        &["declare the unit"],
    );
}

#[test]
fn labels_that_look_like_ids_or_have_many_values_are_a_warning() {
    let mut world = World::new();
    for n in 0..4 {
        let uuid = format!("01234567-89ab-cdef-0123-45678900000{n}");
        world.number(true, "a.uuids", "", &[("request", &uuid)]);
        let path = format!("/orders/471{n}/items");
        world.number(true, "b.paths", "", &[("path", &path)]);
        let route = ["/orders/:id", "/v1/orders", "/users/:id/x", "/"][n];
        world.number(
            true,
            "c.routes",
            "",
            &[("route", route), ("status", ["200", "404", "500", "503"][n])],
        );
        let hash = format!("deadbeef0123456{n}");
        world.number(true, "d.hashes", "", &[("key", &hash)]);
        world.number(true, "e.pids", "", &[("pid", &format!("#PID<0.1{n}.0>"))]);
        world.number(true, "f.ids", "", &[("user", &format!("10000{n}"))]);
    }
    for n in 0..=MANY {
        world.number(true, "g.many", "", &[("customer", &format!("c-{n}x"))]);
    }
    world.check(
        &[
            "Warning cardinality a.uuids",
            "Warning cardinality b.paths",
            "Warning cardinality d.hashes",
            "Warning cardinality e.pids",
            "Warning cardinality f.ids",
            "Warning cardinality g.many",
        ],
        &[
            "UUIDs",
            "paths with ids",
            "hashes",
            "processes",
            "numbers",
            "201 values",
            "/orders/4710/items",
        ],
    );
}

#[test]
fn conflicts_of_names_and_labels_on_the_page_are_a_warning() {
    let mut world = World::new();
    world.number(false, "a.b", "", &[]);
    world.set(&Line(
        false,
        "a.b.total",
        "",
        MetricKind::Gauge,
        &[],
        NameStyle::OpenTelemetry,
    ));
    world.set(&Line(
        false,
        "jobs.total",
        "",
        MetricKind::Gauge,
        &[],
        NameStyle::OpenTelemetry,
    ));
    world.set(&Line(
        false,
        "jobs_total",
        "",
        MetricKind::Gauge,
        &[],
        NameStyle::OpenTelemetry,
    ));
    let (found, _) = world.lint(&[], "[]", &[]);
    assert!(
        found
            .iter()
            .any(|f| f.starts_with("Warning label_collision a.b.total")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|f| f.starts_with("Warning label_collision jobs")),
        "{found:?}"
    );
}

#[test]
fn histograms_of_one_family_with_different_bounds_are_noted() {
    let mut world = World::new();
    for (name, bounds) in [("same.time", &[0.1, 1.0]), ("other.time", &[0.1, 2.0])] {
        world.histogram_of(true, name, "s", bounds, &[1, 0, 0], 0.1);
        world.histogram_of(false, name, "s", &[0.1, 1.0], &[1, 0, 0], 0.1);
    }
    world.check(
        &["Note mixed_bounds other_time_seconds"],
        &["a sum over `le` is wrong"],
    );
}

#[test]
fn an_exponential_histogram_shares_its_bounds_with_explicit_ones_while_they_fit() {
    let mut world = World::new();
    world.exponential("work.time", "s", (-6, &[30]));
    world.page();
    world.histogram("work.time", "s", &[0.003, 0.1], &[1, 0, 0], 0.1);
    world.check(&[], &[]);
    world.page();
    world.check(&[], &[]);
    world.histogram_of(true, "work.time", "s", &[0.1, 2.0], &[1, 0, 0], 0.1);
    world.page();
    world.check(
        &["Note mixed_bounds work_time_seconds"],
        &["pages show all of them at all bounds"],
    );
    let long: Vec<f64> = (1..100).map(f64::from).collect();
    world.labeled_histogram("work.time", "s", &[("a", "b")], &long);
    world.page();
    world.check(
        &["Warning mixed_bounds work_time_seconds"],
        &["do not fit into one list"],
    );
}

#[test]
fn values_far_above_the_bounds_of_an_exponential_histogram_are_noted() {
    let mut world = World::new();
    let mut counts = vec![100; 60];
    counts[1..59].fill(0);
    counts[59] = 1;
    world.exponential("wild.time", "s", (0, &counts));
    world.exponential("long.time", "s", (6, &[1]));
    world.page();
    world.check(
        &["Note added_bounds long.time", "Note outside_bounds wild.time"],
        &["1 of 101 values are above the last bound of the page, 10 s"],
    );
}

#[test]
fn a_counter_that_openmetrics_forbids_is_a_warning() {
    let mut world = World::new();
    for (name, value) in [("a.negative", -1.0), ("b.undefined", f64::NAN), ("c.fine", 1.0)] {
        let line = Line(true, name, "", MetricKind::COUNTER, &[], NameStyle::OpenTelemetry);
        let series = world.define(&line, None);
        world
            .core
            .set_number(series, Number::float(value), Times::at(NOW))
            .unwrap();
    }
    world.check(
        &[
            "Warning forbidden_value a.negative",
            "Warning forbidden_value b.undefined",
        ],
        &["there all series of a_negative have type unknown"],
    );
}
