use super::*;
use crate::logging::Output;
use dichroic_exporter_prometheus::{Format, page};
use dichroic_model::{Identity, Limits, SECOND};
use dichroic_pipeline::{DropReason, HiddenReason, RelayTerm, Signal, inbox, serve};
use std::cell::RefCell;
use std::rc::Rc;

/// Names, help, types and labels in the order of the page, without values.
const PAGE: &str = include_str!("page.txt");

fn core_of(series: usize) -> Core {
    let limits = Limits {
        series,
        ..Limits::default()
    };
    Core::new(limits, Arc::new(Identity), 1)
}

fn source(core: &mut Core) -> Arc<Source> {
    core.open_source(crate::runtime::ingest_thread::own_source(), 2)
        .expect("room")
}

fn stages() -> Stages {
    let stages = Stages::default();
    for stage in [&stages.page, &stages.ingest_lag] {
        stage.record(Duration::from_nanos(200_001));
        stage.record(Duration::from_nanos(3_000_000_001));
    }
    stages
}

/// The Prometheus page of a store.
fn rendered(core: Core) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let (handle, inbox) = inbox();
        tokio::task::spawn_local(serve(Rc::new(RefCell::new(core)), inbox));
        let bytes = page(&handle, Format::Text, false).await.expect("not busy");
        String::from_utf8(bytes.to_vec()).unwrap()
    }))
}

/// A page with every family, after two rounds.
fn full_page() -> String {
    let mut core = core_of(1_000);
    let own = source(&mut core);
    let ledger = core.ledger_mut();
    for hop in ["prometheus", "stream"] {
        ledger.hop(hop);
    }
    ledger.received(own.id, Signal::Metrics, 4);
    ledger.hidden(own.id, Signal::Metrics, HiddenReason::LabelText, 1);
    ledger.dropped(own.id, Signal::Metrics, DropReason::SeriesLimit, 3);
    let labels = [("event", "a \"b\"".to_owned()), ("reason", "overload".to_owned())];
    ledger.relay(own.id, RelayTerm::new("rows_dropped", labels), 4);
    ledger.relay(own.id, "reattached", 2);
    let refused = crate::listen::refused::Refusals::default().read();
    let mut telemetry = SelfTelemetry::new(
        &core,
        own,
        stages(),
        None,
        Output::default(),
        Duration::from_secs(7),
    );
    telemetry.record(&mut core, &refused, SECOND);
    telemetry.record(&mut core, &refused, 2 * SECOND);
    assert!(core.ledger().balances());
    rendered(core)
}

#[test]
fn names_types_help_texts_and_labels_match_the_golden_page() {
    let page = full_page();
    let without_value = |line: &str| match line.strip_prefix('#') {
        Some(_) => line.to_owned(),
        None => line.rsplit_once(' ').map_or("", |(series, _)| series).to_owned(),
    };
    let shown: Vec<String> = page
        .lines()
        .filter(|line| !line.contains("target_info"))
        .map(without_value)
        .collect();
    let expected = PAGE.replace("VERSION", env!("CARGO_PKG_VERSION"));
    assert_eq!(shown, expected.lines().collect::<Vec<_>>());
}

#[test]
fn values_are_exact() {
    let page = full_page();
    for line in [
        r#"dichroic_ingest_dropped_total{job="dichroic",protocol="internal",reason="series_limit",signal="metrics",source="dichroic"} 3"#,
        r#"dichroic_relay_rows_dropped_total{job="dichroic",event="a \"b\"",reason="overload",source="dichroic"} 4"#,
        r#"dichroic_stage_duration_seconds_bucket{job="dichroic",stage="page",le="0.0001"} 0"#,
        r#"dichroic_stage_duration_seconds_bucket{job="dichroic",stage="page",le="0.0005"} 1"#,
        r#"dichroic_stage_duration_seconds_bucket{job="dichroic",stage="page",le="1.0"} 1"#,
        r#"dichroic_stage_duration_seconds_bucket{job="dichroic",stage="page",le="+Inf"} 2"#,
        r#"dichroic_stage_duration_seconds_sum{job="dichroic",stage="page"} 3.000200002"#,
        r#"dichroic_stage_duration_seconds_count{job="dichroic",stage="page"} 2"#,
        r#"dichroic_series_limit{job="dichroic"} 1000"#,
        r#"process_start_time_seconds{job="dichroic"} 7"#,
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} not in\n{page}");
    }
}

#[test]
fn sources_with_the_same_name_share_a_series() {
    let mut core = core_of(1_000);
    let own = source(&mut core);
    for key in ["a", "b"] {
        let spec = dichroic_model::SourceSpec {
            key: key.as_bytes().to_vec(),
            name: "shop@a".to_owned(),
            ..crate::runtime::ingest_thread::own_source()
        };
        let id = core.open_source(spec, 2).expect("room").id;
        core.ledger_mut().received(id, Signal::Events, 5);
    }
    SelfTelemetry::new(
        &core,
        own,
        Stages::default(),
        None,
        Output::default(),
        Duration::ZERO,
    )
    .record(&mut core, &Vec::new(), SECOND);
    let line = r#"dichroic_ingest_received_total{job="dichroic",protocol="internal",signal="events",source="shop@a"} 10"#;
    let page = rendered(core);
    assert!(page.contains(line), "{page}");
}

#[test]
fn a_series_that_is_not_presented_in_a_round_expires() {
    let mut core = core_of(1_000);
    let own = source(&mut core);
    let mut writer = Writer::new(&core, own);
    for labels in [&[("kind", "a")], &[("kind", "b")]] {
        writer.begin(&core);
        writer.count(&WARNINGS, labels, 1);
        writer.finish(&mut core, SECOND);
        assert_eq!(core.series(), 1);
    }
    let page = rendered(core);
    assert!(
        page.contains(r#"kind="b""#) && !page.contains(r#"kind="a""#),
        "{page}"
    );
}

#[test]
fn what_a_limit_drops_is_on_the_page_of_a_collector_at_its_limit() {
    for limits in [
        Limits {
            series: 0,
            ..Limits::default()
        },
        Limits {
            series_per_source: 0,
            ..Limits::default()
        },
        Limits {
            memory_bytes: 4_096,
            ..Limits::default()
        },
    ] {
        let mut core = Core::new(limits, Arc::new(Identity), 1);
        let own = source(&mut core);
        let ledger = core.ledger_mut();
        ledger.received(own.id, Signal::Metrics, 3);
        ledger.dropped(own.id, Signal::Metrics, DropReason::SeriesLimit, 3);
        SelfTelemetry::new(&core, own, stages(), None, Output::default(), Duration::ZERO).record(
            &mut core,
            &Vec::new(),
            SECOND,
        );
        let page = rendered(core);
        for name in [
            "dichroic_ingest_dropped_total{",
            "dichroic_series{",
            "dichroic_series_limit{",
            "dichroic_series_bytes_limit{",
            "dichroic_stage_duration_seconds_count{",
        ] {
            assert!(page.contains(name), "{name} is not in\n{page}");
        }
    }
}

#[test]
fn a_series_beyond_the_own_bound_is_counted_and_admitted_when_there_is_room() {
    let mut core = core_of(1);
    let own = source(&mut core);
    let mut writer = Writer::new(&core, own.clone());
    // Exempt from the limit.
    let first: Vec<String> = (0..4_096).map(|at| at.to_string()).collect();
    let mut round = |core: &mut Core, exempt: usize, kinds: &[&'static str]| {
        writer.begin(core);
        for at in &first[..exempt] {
            writer.count(&REFUSED, &[("reason", at.as_str())], 1);
        }
        for kind in kinds {
            writer.count(&WARNINGS, &[("kind", kind)], 1);
        }
        writer.finish(core, SECOND);
        let account = core.ledger().account(own.id, Signal::Metrics).unwrap();
        assert!(account.balances());
        (account.applied, account.dropped(DropReason::SeriesLimit))
    };
    assert_eq!(round(&mut core, 4_096, &["a", "b"]), (4_096, 2));
    assert_eq!(round(&mut core, 4_096, &["a", "b"]), (8_192, 4));
    round(&mut core, 4_095, &[]);
    assert_eq!(round(&mut core, 4_095, &["b"]).1, 4);
    assert_eq!(core.series(), 4_096);
}

#[test]
fn series_survive_a_reload_of_the_packs() {
    let mut core = core_of(1_000);
    let own = source(&mut core);
    let mut telemetry = SelfTelemetry::new(&core, own, stages(), None, Output::default(), Duration::ZERO);
    telemetry.record(&mut core, &Vec::new(), SECOND);
    telemetry.record(&mut core, &Vec::new(), SECOND);
    let series = core.series();
    let packs = dichroic_packs::Packs::builtin();
    core.set_resolver(Arc::new(dichroic_packs::PackResolver::new(&packs)));
    for at in [2, 3, 700, 701] {
        core.sweep(at * SECOND);
        telemetry.record(&mut core, &Vec::new(), at * SECOND);
        assert_eq!(core.series(), series, "after {at} s");
    }
    assert!(core.ledger().balances());
}
