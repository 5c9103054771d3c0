use super::*;
use dichroic_model::{
    AttributeValue, Attributes, Factor, Fingerprint, Identity, Limits, MetricKind, Number, Runtime, Scope,
    SeriesDef, Source, SourceSpec, Temporality,
};
use dichroic_pipeline::{Core, HistogramPoint, Job, Progress, Snapshot, SnapshotRequest, Times};
use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Waker};

const NOW: u64 = 1_700_000_000_000_000_000;

struct World {
    core: Core,
    node: Arc<Source>,
    python: Arc<Source>,
    targets: Vec<TargetStatus>,
    drops: Vec<Drops>,
    next: u64,
}

/// A series: whether a BEAM node sends it, name, unit, kind, labels, style.
struct Line<'a>(
    bool,
    &'a str,
    &'a str,
    MetricKind,
    &'a [(&'a str, &'a str)],
    NameStyle,
);

impl World {
    fn new() -> Self {
        let mut core = Core::new(Limits::default(), Arc::new(Identity), NOW);
        let mut open = |protocol, runtime, name: &str| {
            let spec = SourceSpec {
                runtime,
                job: "shop".into(),
                instance: name.into(),
                resource: Attributes::of(&[("service.name", "shop")]),
                ..SourceSpec::new(protocol, name)
            };
            core.open_source(spec, NOW).unwrap()
        };
        World {
            node: open(Protocol::Beam, Runtime::Beam, "shop@host"),
            python: open(Protocol::Otlp, Runtime::Python, "worker"),
            core,
            targets: Vec::new(),
            drops: Vec::new(),
            next: 1,
        }
    }

    fn define(&mut self, line: &Line<'_>, bounds: Option<&[f64]>) -> dichroic_pipeline::SeriesRef {
        let Line(beam, name, unit, kind, labels, style) = *line;
        self.next += 1;
        let labels = labels
            .iter()
            .map(|(k, v)| (Cow::Borrowed(*k), AttributeValue::from(*v)));
        let def = SeriesDef {
            source: if beam { self.node.id } else { self.python.id },
            scope: &Scope::default(),
            name,
            style,
            unit,
            help: "",
            kind,
            temporality: Temporality::Cumulative,
            factor: Factor::ONE,
            attributes: labels.collect(),
            start: 0,
            bounds: bounds.map(Into::into),
        };
        self.core
            .define(
                Fingerprint {
                    low: self.next,
                    high: self.next,
                },
                def,
            )
            .unwrap()
    }

    fn number(&mut self, beam: bool, name: &str, unit: &str, labels: &[(&str, &str)]) {
        let line = Line(
            beam,
            name,
            unit,
            MetricKind::COUNTER,
            labels,
            NameStyle::OpenTelemetry,
        );
        self.set(&line);
    }

    fn set(&mut self, line: &Line<'_>) {
        let series = self.define(line, None);
        self.core
            .set_number(
                series,
                Number::int(1),
                Times {
                    start: NOW,
                    time: NOW,
                    now: NOW,
                },
            )
            .unwrap();
    }

    fn histogram(&mut self, name: &str, unit: &str, bounds: &[f64], counts: &[u64], sum: f64) {
        self.histogram_of(false, name, unit, bounds, counts, sum);
    }

    fn histogram_of(&mut self, beam: bool, name: &str, unit: &str, bounds: &[f64], counts: &[u64], sum: f64) {
        let line = Line(
            beam,
            name,
            unit,
            MetricKind::Histogram,
            &[],
            NameStyle::OpenTelemetry,
        );
        let series = self.define(&line, Some(bounds));
        let point = HistogramPoint {
            counts,
            sum: Some(Number::float(sum)),
            min_max: None,
        };
        self.core
            .set_histogram(
                series,
                &point,
                Times {
                    start: NOW,
                    time: NOW,
                    now: NOW,
                },
            )
            .unwrap();
    }

    fn relay(&self) -> RelayStatus {
        RelayStatus {
            variables: Default::default(),
            source: Some(self.node.id),
            node: "shop@host".into(),
            os_pid: 1,
            agent: String::new(),
            otp: "25".into(),
            telemetry: "1.4.1".into(),
            attached_mode: false,
            epoch: 1,
            attempt: 1,
            since: NOW,
            ended: None,
            end: String::new(),
            generation: 1,
            attached: 1,
            refused: Vec::new(),
            series: 0,
            rows: 0,
            backwards: 0,
            events: 0,
            flushes: 3,
            unknown_frames: 0,
        }
    }

    fn seen(&mut self) -> Seen {
        let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut seen = Seen::default();
        while job.step(&mut self.core, &mut cx) != Progress::Done {
            std::iter::from_fn(|| chunks.try_recv())
                .flatten()
                .for_each(|row| seen.note(&row));
        }
        std::iter::from_fn(|| chunks.try_recv())
            .flatten()
            .for_each(|row| seen.note(&row));
        seen
    }

    /// `level check subject` of each finding, and all messages.
    fn lint(&mut self, packs: &[&str], definitions: &str, relays: &[RelayStatus]) -> (Vec<String>, String) {
        let names: Vec<_> = packs.iter().map(|name| (*name).to_owned()).collect();
        let config = Config {
            selection: Selection {
                packs: if packs.is_empty() {
                    Packs::of(Vec::new())
                } else {
                    Packs::builtin().choose(&names).unwrap()
                },
                definitions: serde_saphyr::from_str(definitions).unwrap(),
                ..Selection::default()
            },
            chosen: true,
            retain: vec![Pattern::new("shop.**").unwrap(), Pattern::new("vm.**").unwrap()],
        };
        let relays: Vec<_> = relays
            .iter()
            .map(|relay| (relay.clone(), "shop".to_owned()))
            .collect();
        let seen = self.seen();
        let findings = seen.findings(&Inputs {
            config: &config,
            relays: &relays,
            targets: &self.targets,
            drops: &self.drops,
        });
        let short = |f: &Finding| format!("{:?} {} {}", f.level, f.check, f.subject);
        let messages: Vec<_> = findings.iter().map(|f| f.message.as_str()).collect();
        (findings.iter().map(short).collect(), messages.join("\n"))
    }

    fn check(&mut self, expected: &[&str], parts: &[&str]) {
        let (found, all) = self.lint(&[], "[]", &[]);
        assert_eq!(found, expected, "{all}");
        for part in parts {
            assert!(all.contains(part), "{part:?} not in {all}");
        }
    }
}

#[test]
fn metrics_without_problems_give_no_findings() {
    let mut world = World::new();
    world.number(true, "shop.orders", "{order}", &[("plan", "pro")]);
    world.histogram(
        "http.server.request.duration",
        "s",
        &[0.005, 0.1, 1.0],
        &[50, 3, 1, 0],
        0.9,
    );
    world.histogram("fast.duration", "s", &[0.005, 0.1], &[50, 0, 0], 0.01);
    world.histogram("few.values", "s", &[0.1], &[0, 3], 9.0);
    world.histogram("rpc.duration", "ms", DEFAULT_BOUNDS, &[1; 16], 9.0);
    world.check(&[], &[]);
}

#[test]
fn a_definition_whose_event_never_occurred_is_reported_with_the_event() {
    let mut world = World::new();
    world.number(true, "shop.orders", "", &[("event", "stop")]);
    let definitions = "[{name: shop.orders, type: counter, event: shop.order.stop, labels: {event: stop}}, \
                       {name: shop.orders, type: counter, event: shop.order.exception, labels: {event: exception}}, \
                       {name: shop.carts, type: counter, event: shop.cart.created}]";
    let relay = world.relay();
    let (found, message) = world.lint(&[], definitions, std::slice::from_ref(&relay));
    assert_eq!(
        found,
        [
            "Warning never_fired shop.carts",
            "Warning never_fired shop.orders",
            "Warning retain_matches_nothing vm.**"
        ]
    );
    assert!(
        message.contains("shop.cart.created") && message.contains("shop.order.exception"),
        "{message}"
    );
    // Before the first flush and after the relay disconnected, a missing value means nothing.
    for early in [
        RelayStatus {
            flushes: 0,
            ..relay.clone()
        },
        RelayStatus {
            ended: Some(NOW),
            ..relay
        },
    ] {
        let (found, _) = world.lint(&[], definitions, &[early]);
        assert_eq!(found, ["Warning retain_matches_nothing vm.**"]);
    }
}

#[test]
fn what_a_limit_dropped_is_reported_with_its_key_and_not_as_events_that_did_not_occur() {
    let definitions = "[{name: shop.carts, type: counter, event: shop.cart.created}]";
    let check = |signal, reason, n, limited: bool, expected: &[&str], part: &str| {
        let mut world = World::new();
        world.number(true, "shop.orders", "", &[]);
        let source = if limited { world.node.id } else { world.python.id };
        world.drops = vec![Drops {
            source,
            name: "worker".to_owned(),
            signal,
            reason,
            count: n,
        }];
        let relay = world.relay();
        let (mut found, message) = world.lint(&["ecto"], definitions, &[relay]);
        found.retain(|finding| !finding.contains("retain_matches_nothing"));
        assert_eq!(found, expected, "{message}");
        assert!(message.contains(part), "{message}");
    };
    let silent = ["Warning never_fired ecto", "Warning never_fired shop.carts"];
    let with = |one: &'static str| [one, silent[0], silent[1]];
    check(
        Signal::Metrics,
        DropReason::SeriesLimit,
        1,
        true,
        &["Warning limit_reached limits.series"],
        "1 point dropped: no series is defined at this limit",
    );
    check(
        Signal::Metrics,
        DropReason::MemoryLimit,
        2,
        false,
        &with("Warning limit_reached limits.memory"),
        "2 points dropped: ",
    );
    check(
        Signal::Metrics,
        DropReason::LabelLimit,
        2,
        false,
        &with("Warning limit_reached limits.labels"),
        "more labels",
    );
    check(
        Signal::Events,
        DropReason::SourceLimit,
        2,
        false,
        &with("Warning limit_reached limits.sources"),
        "2 events dropped: no source",
    );
    check(
        Signal::Traces,
        DropReason::Unsupported,
        7,
        false,
        &[silent[0], silent[1], "Warning traces traces"],
        "7 spans discarded; set OTEL_TRACES_EXPORTER=none",
    );
    check(Signal::Metrics, DropReason::Malformed, 2, false, &silent, "");
}

#[test]
fn a_chosen_pack_without_any_event_is_a_warning_and_a_silent_event_a_note() {
    let mut world = World::new();
    world.number(true, "redix.connections", "", &[("reconnection", "false")]);
    let relay = world.relay();
    let (found, message) = world.lint(&["redix", "ecto"], "[]", &[relay]);
    assert!(
        message.contains("not occurred yet, while others of the pack have"),
        "{message}"
    );
    let notes = found.iter().filter(|f| f.starts_with("Note never_fired"));
    assert_eq!(notes.count(), 1, "one for each pack: {found:?}");
    let never: Vec<_> = found.iter().filter(|f| f.contains("never_fired")).collect();
    assert!(
        never.contains(&&"Warning never_fired ecto".to_owned()),
        "{never:?}"
    );
    assert!(never.contains(&&"Note never_fired redix".to_owned()), "{never:?}");
    // Events of failures are expected to be absent.
    assert!(
        !never
            .iter()
            .any(|f| f.contains("disconnection") || f.contains("failed")),
        "{never:?}"
    );
}

#[test]
fn a_rejection_by_a_relay_is_reported_with_its_message() {
    let mut world = World::new();
    let relay = RelayStatus {
        refused: vec![("shop.x".into(), "more than 160 bounds".into())],
        ..world.relay()
    };
    let (found, message) = world.lint(&[], "[]", &[relay]);
    assert!(found.contains(&"Warning refused shop.x".to_owned()), "{found:?}");
    assert!(message.contains("more than 160 bounds"), "{message}");
}

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
fn telemetry_of_snakepit_that_ends_with_a_timeout_is_reported_with_the_setting() {
    let mut world = World::new();
    let relay = |ms: &[&str]| {
        let mut relay = World::new().relay();
        let values = ms.iter().map(|&ms| ms.to_owned()).collect();
        relay.variables.insert("snakepit_stream_ms".to_owned(), values);
        relay
    };
    let (found, message) = world.lint(&[], "[]", &[relay(&["5000"])]);
    assert!(
        found.contains(&"Warning snakepit_stream snakepit.python".to_owned()),
        "{found:?}"
    );
    assert!(
        message.contains("5 s after its start")
            && message.contains("grpc_stream_open_timeout_ms: 86_400_000"),
        "{message}"
    );
    for fine in [&["86400000"][..], &[]] {
        let (found, _) = world.lint(&[], "[]", &[relay(fine)]);
        assert!(!found.iter().any(|f| f.contains("snakepit")), "{found:?}");
    }
}

#[test]
fn events_of_the_relay_that_did_not_occur_are_not_reported() {
    let mut world = World::new();
    world.number(true, "vm.gc.count", "{collection}", &[]);
    world.number(true, "log.messages", "", &[("level", "info")]);
    let relay = world.relay();
    let (found, _) = world.lint(&["beam_runtime", "logger"], "[]", &[relay]);
    assert!(!found.iter().any(|f| f.contains("never_fired")), "{found:?}");
}

#[test]
fn findings_are_a_line_each_and_a_document() {
    let finding = Finding {
        level: Level::Note,
        check: "unit_in_name",
        subject: "a_ms".into(),
        source: "worker".into(),
        message: "the name ends with the unit ms".into(),
        details: Vec::new(),
    };
    let document = json!({ "warnings": 0, "notes": 1, "findings": [finding.document()] });
    assert_eq!(
        crate::commands::lint::text(&document, false),
        [
            "note: a_ms (worker): the name ends with the unit ms [unit_in_name]",
            "0 warnings, 1 note"
        ]
    );
    let silent = Finding {
        check: "never_fired",
        subject: "oban".into(),
        message: "2 events have not occurred yet".into(),
        details: vec!["oban.a".into(), "oban.b".into()],
        ..finding
    };
    let document = json!({ "warnings": 0, "notes": 1, "findings": [silent.document()] });
    let shown = |verbose| crate::commands::lint::text(&document, verbose);
    assert_eq!(
        shown(false)[0],
        "note: oban (worker): 2 events have not occurred yet; --verbose lists them [never_fired]"
    );
    assert_eq!(shown(true)[1..3], ["  oban.a", "  oban.b"]);
    let none = json!({ "warnings": 0, "notes": 0, "findings": [] });
    assert_eq!(crate::commands::lint::text(&none, false), ["no problems found"]);
}

#[test]
fn a_page_that_violates_openmetrics_is_reported_with_its_first_place() {
    use dichroic_receiver_prometheus::ingest::PageViolation;
    use dichroic_receiver_prometheus::parse::Violation;
    use dichroic_receiver_prometheus::scrape::Health;
    let mut world = World::new();
    world.targets.push(TargetStatus {
        job: "ray".into(),
        instance: "head:8080".into(),
        url: "http://head:8080/metrics".into(),
        health: Health::Up,
        last_error: None,
        last_scrape: NOW,
        last_scrape_duration_seconds: 0.1,
        samples: 2,
        body_bytes: 50,
        scrapes: 1,
        failures: 0,
        violations: vec![PageViolation {
            reason: Violation::Families,
            count: 3,
            first: "line 4, column 1: a sample name of this family belongs to an earlier family".into(),
        }],
    });
    world.check(
        &["Warning openmetrics http://head:8080/metrics"],
        &["families on its page: 3 times, first at line 4", "`strict: true`"],
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
