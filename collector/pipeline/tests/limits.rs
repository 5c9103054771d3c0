//! The limits of the store: the reasons of their drops, and the bounds that they guarantee.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{
    Attributes, EventKind, Expiry, Factor, Limits, MetricKind, NameStyle, Number, Protocol, Scope, SeriesDef,
    Source, SourceSpec, Temporality,
};
use dichroic_pipeline::{Core, DropReason, NotAdmitted, SeriesRef, Times};

fn fill(
    change: impl FnOnce(&mut Limits),
    def: Def<'_>,
    series: usize,
) -> (Core, Vec<Result<(), DropReason>>) {
    let mut store = store(change);
    let source = source(&mut store, "s");
    let defined = (0..series)
        .map(|at| define_series(&mut store, &source, def, &[("at", &at.to_string())]).map(|_| ()))
        .collect();
    (store, defined)
}

#[test]
fn each_limit_rejects_series_with_its_reason() {
    let check = |change: fn(&mut Limits), reason| {
        let (store, defined) = fill(change, GAUGE, 5);
        assert_eq!(defined[..3], [Ok(()); 3]);
        assert_eq!(defined[3..], [Err(reason); 2]);
        assert_eq!(store.series(), 3);
    };
    check(|l| l.series = 3, DropReason::SeriesLimit);
    check(|l| l.series_per_source = 3, DropReason::SeriesPerSource);
    check(|l| l.series_per_metric = 3, DropReason::SeriesPerMetric);
}

#[test]
fn reports_are_admitted_at_every_limit_up_to_a_bound_for_each_source() {
    for change in [
        |l: &mut Limits| l.series = 3,
        |l: &mut Limits| l.series_per_source = 3,
        |l: &mut Limits| l.memory_bytes = 4_096,
    ] {
        let (mut store, _) = fill(change, GAUGE, 100);
        let full = store.series();
        let target = store.open_source(target("t"), NOW).unwrap();
        let admitted = |store: &mut Core| {
            let names = (0..100).map(|at| format!("report{at}"));
            let defined = names
                .map(|name| report(store, &target, &name))
                .collect::<Vec<_>>();
            defined.iter().flatten().copied().collect::<Vec<_>>()
        };
        // The limit of a source is not reached in this one before its bound.
        let reports = admitted(&mut store);
        assert!((16..=19).contains(&reports.len()), "{}", reports.len());
        assert_eq!(store.series(), full + reports.len());
        reports.into_iter().for_each(|series| store.expire(series));
        assert_eq!(store.series(), full);
        assert!(admitted(&mut store).len() >= 16, "their bound counts live ones");
    }
}

fn target(key: &str) -> SourceSpec {
    SourceSpec::new(Protocol::Prometheus, key)
}

fn report(store: &mut Core, source: &Source, name: &str) -> Option<SeriesRef> {
    let fp = store.fingerprinter(source.id).of(name.as_bytes());
    let def = SeriesDef {
        source: source.id,
        scope: &Scope::default(),
        name,
        style: NameStyle::Verbatim,
        unit: "",
        help: "",
        kind: MetricKind::Gauge,
        temporality: Temporality::Cumulative,
        factor: Factor::ONE,
        attributes: Vec::new(),
        start: 0,
        bounds: None,
    };
    store.define_report(fp, def).ok()
}

#[test]
fn the_memory_limit_is_not_exceeded() {
    let limit = 1 << 20;
    let (store, defined) = fill(|l| l.memory_bytes = limit, GAUGE, 20_000);
    let admitted = defined.iter().filter(|defined| defined.is_ok()).count();
    assert!((500..20_000).contains(&admitted), "{admitted}");
    assert_eq!(defined.last(), Some(&Err(DropReason::MemoryLimit)));
    // A table may double once after the last check.
    assert!(store.bytes() < 2 * limit, "{}", store.bytes());
}

#[test]
fn texts_and_bounds_have_limits() {
    let mut store = store(|l| (l.labels, l.label_name_bytes, l.label_value_bytes, l.buckets) = (2, 8, 8, 3));
    let source = source(&mut store, "s");
    let mut check = |def, attributes: &[(&str, &str)], expected| {
        assert_eq!(
            define_series(&mut store, &source, def, attributes).map(|_| ()),
            expected,
            "{attributes:?}"
        );
    };
    check(
        GAUGE,
        &[("a", "1"), ("b", "2"), ("c", "3")],
        Err(DropReason::LabelLimit),
    );
    check(GAUGE, &[("far_too_long", "1")], Err(DropReason::LabelLimit));
    check(
        Def {
            name: "far_too_long",
            ..GAUGE
        },
        &[],
        Err(DropReason::LabelLimit),
    );
    check(GAUGE, &[("a", "cut after eight")], Ok(()));
    check(
        Def {
            name: "h4",
            bounds: Some(&[1.0, 2.0, 3.0, 4.0]),
            ..HISTOGRAM
        },
        &[],
        Err(DropReason::Buckets),
    );
    check(
        Def {
            name: "h2",
            bounds: Some(&[2.0, 1.0]),
            ..HISTOGRAM
        },
        &[],
        Err(DropReason::Buckets),
    );
    check(
        Def {
            name: "hi",
            bounds: Some(&[1.0, f64::INFINITY]),
            ..HISTOGRAM
        },
        &[],
        Err(DropReason::Buckets),
    );
    check(
        Def {
            name: "hn",
            bounds: Some(&[f64::NAN]),
            ..HISTOGRAM
        },
        &[],
        Err(DropReason::Buckets),
    );
    assert_eq!(store.warnings().cut_values, 1);
}

#[test]
fn sources_and_schemas_have_limits() {
    let mut store = store(|l| (l.sources, l.schemas, l.memory_bytes) = (2, 2, 64 << 10));
    source(&mut store, "a");
    let b = source(&mut store, "b");
    let third = spec("c", Expiry::ByReceiver);
    assert_eq!(
        store.open_source(third.clone(), NOW).err(),
        Some(NotAdmitted(DropReason::SourceLimit))
    );
    store.end_source(b.id, NOW);
    let long = "x".repeat(60_000);
    let large = SourceSpec {
        resource: Attributes::of(&[("a", &long), ("b", &long)]),
        ..third
    };
    assert_eq!(
        store.open_source(large, NOW).err(),
        Some(NotAdmitted(DropReason::MemoryLimit))
    );

    let mut schema = |name: &str| store.schema(EventKind::Event, name, Vec::new(), Vec::new());
    let used = schema("a").unwrap();
    drop(schema("b").unwrap());
    assert!(schema("c").is_ok(), "replaces an unused one");
    let other = schema("c").unwrap();
    assert_eq!(schema("d").err(), Some(NotAdmitted(DropReason::SchemaLimit)));
    assert_ne!(used.id, other.id);
}

#[test]
fn a_delta_over_the_limit_is_folded_without_loss() {
    let mut store = store(|l| l.series_per_metric = 2);
    let source = source(&mut store, "s");
    let empty = store.live_bytes();
    for at in 0..10 {
        let series = define_series(&mut store, &source, DELTA, &[("at", &at.to_string())]).unwrap();
        store.add_number(series, Number::int(1), Times::at(NOW)).unwrap();
    }
    let mut seen = lines(&mut store);
    seen.sort();
    assert_eq!(
        seen,
        [
            "m{at=\"0\"} 1",
            "m{at=\"1\"} 1",
            "m{otel_metric_overflow=\"true\"} 8"
        ]
    );
    let other = Def {
        name: "other",
        ..DELTA
    };
    set_and_expire(&mut store, &source, other);
    store.end_source(source.id, NOW);
    store.sweep(NOW);
    assert!(
        store.live_bytes() < empty,
        "the source is removed too: {}",
        store.live_bytes()
    );
    assert_eq!(store.live_bytes(), 0);
}

fn set_and_expire(store: &mut Core, source: &dichroic_model::Source, def: Def<'_>) {
    let series = define_series(store, source, def, &[]).unwrap();
    store.add_number(series, Number::int(1), Times::at(NOW)).unwrap();
    store.expire(series);
}

#[test]
fn overflow_series_do_not_mix_raw_units() {
    let mut store = store(|l| l.series_per_metric = 1);
    let source = source(&mut store, "s");
    let in_unit = |unit| Def { unit, ..DELTA };
    for raw in ["1", "2"] {
        let series = define_as(&mut store, &source, raw, in_unit("ms"), &[("a", raw)]).unwrap();
        store
            .add_number(series, Number::int(1_000), Times::at(NOW))
            .unwrap();
    }
    let other = define_as(&mut store, &source, "3", in_unit("s"), &[("a", "3")]);
    assert_eq!(other, Err(DropReason::SeriesPerMetric));
}

#[test]
fn neither_rejected_metrics_nor_overflow_series_fill_the_memory() {
    let mut store = store(|l| l.series = 10);
    let source = source(&mut store, "s");
    for at in 0..10 {
        set(&mut store, &source, GAUGE, &[("at", &at.to_string())], 1);
    }
    let before = store.live_bytes();
    for at in 0..5_000 {
        let name = format!("metric{at}");
        let def = Def { name: &name, ..GAUGE };
        assert_eq!(
            define_series(&mut store, &source, def, &[]),
            Err(DropReason::SeriesLimit)
        );
    }
    assert_eq!((store.live_bytes(), store.metrics().count()), (before, 1));
    let folded = (0..5_000).filter(|at| {
        let name = format!("metric{at}");
        define_series(&mut store, &source, Def { name: &name, ..DELTA }, &[]).is_ok()
    });
    assert_eq!(folded.count(), 64);
    assert_eq!(store.series(), 74);
}

#[test]
fn bounds_and_metrics_are_freed_with_their_series() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let empty = store.live_bytes();
    for at in 0..10_000 {
        let name = format!("m{}", at % 7);
        let unit = format!("{{u{at}}}");
        let bounds = [f64::from(at), f64::from(at) + 1.0];
        let def = Def {
            name: &name,
            unit: &unit,
            bounds: Some(&bounds),
            style: NameStyle::OpenTelemetry,
            ..HISTOGRAM
        };
        let series = define_series(&mut store, &source, def, &[]).unwrap();
        store.expire(series);
        if at % 100 == 0 {
            store.sweep(NOW);
        }
    }
    store.sweep(NOW);
    assert_eq!((store.live_bytes(), store.metrics().count()), (empty, 0));
}

#[test]
fn an_overflow_histogram_of_deltas_keeps_the_bounds_that_all_have_in_common() {
    let mut store = store(|l| l.series_per_metric = 1);
    let source = source(&mut store, "s");
    let of = |bounds| Def {
        bounds: Some(bounds),
        temporality: Temporality::Delta,
        ..HISTOGRAM
    };
    let (small, large) = (of(&[1.0, 2.0]), of(&[100.0, 200.0]));
    define_series(&mut store, &source, small, &[("a", "x")]).unwrap();
    let overflow = define_series(&mut store, &source, small, &[("a", "y")]).unwrap();
    assert_eq!(store.warnings().changed_bounds, 0);
    assert_eq!(
        define_series(&mut store, &source, large, &[("a", "z")]),
        Ok(overflow)
    );
    assert_eq!(store.warnings().changed_bounds, 1);
}
