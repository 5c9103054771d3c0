//! Expiry of series and sources.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Expiry, Identity, Limits, Number, Query, Resolution, Resolver, SECOND, SourceSpec};
use dichroic_pipeline::{Core, HistogramPoint, Signal, Times};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn open(store: &mut Core, expiry: Expiry) -> Arc<dichroic_model::Source> {
    store.open_source(spec("s", expiry), NOW).unwrap()
}

fn fill(store: &mut Core, source: &dichroic_model::Source, series: usize) {
    for at in 0..series {
        set(store, source, GAUGE, &[("at", &at.to_string())], 1);
    }
}

#[test]
fn series_without_an_expiry_remain_until_the_receiver_expires_them() {
    let mut store = store(|_| {});
    let source = open(&mut store, Expiry::ByReceiver);
    fill(&mut store, &source, 3);
    store.sweep(NOW + 86_400 * SECOND);
    assert_eq!(store.series(), 3);
    store.end_source(source.id, NOW);
    assert_eq!((store.series(), store.sources().count()), (0, 0));
}

#[test]
fn idle_series_expire_one_by_one_and_the_source_after_the_last() {
    let mut store = store(|_| {});
    let source = open(&mut store, Expiry::AfterIdle(300 * SECOND));
    fill(&mut store, &source, 2);
    let kept = define_series(&mut store, &source, GAUGE, &[("at", "1")]).unwrap();
    let later = NOW + 200 * SECOND;
    store.set_number(kept, Number::int(2), Times::at(later)).unwrap();
    let check = |store: &mut Core, at: u64, series, sources| {
        store.sweep(NOW + at * SECOND);
        assert_eq!(
            (store.series(), store.sources().count()),
            (series, sources),
            "after {at} s"
        );
    };
    check(&mut store, 299, 2, 1);
    check(&mut store, 302, 1, 1);
    check(&mut store, 502, 0, 1);
    store.end_source(source.id, NOW + 503 * SECOND);
    check(&mut store, 504, 0, 0);
}

#[test]
fn series_linger_after_the_end_unless_the_source_returns() {
    let mut store = store(|_| {});
    let source = open(&mut store, Expiry::AfterEnd(60 * SECOND));
    fill(&mut store, &source, 2);
    store.end_source(source.id, NOW);
    store.sweep(NOW + 59 * SECOND);
    assert_eq!(store.series(), 2);
    open(&mut store, Expiry::AfterEnd(60 * SECOND));
    store.sweep(NOW + 1_000 * SECOND);
    assert_eq!(store.series(), 2);
    store.end_source(source.id, NOW + 1_000 * SECOND);
    store.sweep(NOW + 1_061 * SECOND);
    assert_eq!((store.series(), store.sources().count()), (0, 0));
}

#[test]
fn many_series_expire_in_bounded_parts() {
    for expiry in [Expiry::AfterIdle(SECOND), Expiry::AfterEnd(SECOND)] {
        let mut store = store(|_| {});
        let source = open(&mut store, expiry);
        fill(&mut store, &source, 5_000);
        store.end_source(source.id, NOW);
        let mut sweeps = 0;
        while store.series() > 0 {
            let before = store.series();
            store.sweep(NOW + 10 * SECOND);
            assert!(before - store.series() <= 1_024);
            sweeps += 1;
            assert!(sweeps < 20, "{expiry:?}");
        }
    }
}

#[test]
fn idle_times_are_correct_after_more_than_fifty_days() {
    let mut store = store(|_| {});
    let source = open(&mut store, Expiry::AfterIdle(300 * SECOND));
    for day in [1, 49, 50, 100, 1_000] {
        let now = NOW + day * 86_400 * SECOND;
        let series = define_series(&mut store, &source, GAUGE, &[("day", &day.to_string())]).unwrap();
        store.set_number(series, Number::int(1), Times::at(now)).unwrap();
        store.sweep(now + SECOND);
        assert_eq!(store.series(), 1, "day {day}");
    }
}

#[test]
fn an_account_outlives_its_source() {
    let mut store = store(|_| {});
    let source = open(&mut store, Expiry::ByReceiver);
    store.ledger_mut().received(source.id, Signal::Metrics, 1);
    store.ledger_mut().applied(source.id, Signal::Metrics, 1);
    store.end_source(source.id, NOW);
    assert_eq!(store.ledger().source_name(source.id), Some(("otlp", "s")));
    assert_eq!(
        store
            .ledger()
            .account(source.id, Signal::Metrics)
            .unwrap()
            .applied,
        1
    );
}

/// From generation 1 on, names every metric `new` except `fixed`.
struct Reloading(AtomicU64);

impl Resolver for Reloading {
    fn generation(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn resolve(&self, query: &Query<'_>) -> Resolution {
        let mut resolution = Identity.resolve(query);
        if self.generation() > 0 && query.def.name != "fixed" {
            resolution.name = "new".into();
        }
        resolution
    }
}

#[test]
fn a_reload_keeps_series_that_are_resolved_again_and_the_others_expire() {
    let resolver = Arc::new(Reloading(AtomicU64::new(0)));
    let mut store = Core::new(Limits::default(), resolver.clone(), NOW);
    let source = open(&mut store, Expiry::ByReceiver);
    let add = |store: &mut Core, name| {
        let series = define_series(store, &source, Def { name, ..DELTA }, &[]).unwrap();
        store.add_number(series, Number::int(1), Times::at(NOW)).unwrap();
        series
    };
    let stale = add(&mut store, "fixed");
    add(&mut store, "old");
    add(&mut store, "quiet");
    resolver.0.store(1, Ordering::Relaxed);
    store.sweep(NOW + SECOND);
    assert!(store.meta(stale).is_none(), "references must be looked up again");
    add(&mut store, "fixed");
    add(&mut store, "old");
    assert_eq!(
        lines(&mut store),
        ["fixed{} 2", "new{} 1", "old{} 1", "quiet{} 1"]
    );
    store.sweep(NOW + 602 * SECOND);
    store.sweep(NOW + 602 * SECOND);
    assert_eq!(lines(&mut store), ["fixed{} 2", "new{} 1"]);
}

#[test]
fn an_overflow_series_survives_a_reload_while_it_gets_points() {
    let resolver = Arc::new(Reloading(AtomicU64::new(0)));
    let limits = Limits {
        series_per_metric: 1,
        ..Limits::default()
    };
    let mut store = Core::new(limits, resolver.clone(), NOW);
    let source = open(&mut store, Expiry::ByReceiver);
    let feed = |store: &mut Core| {
        for a in ["x", "y"] {
            let def = Def {
                name: "fixed",
                ..DELTA
            };
            let series = define_series(store, &source, def, &[("a", a)]).unwrap();
            store.add_number(series, Number::int(1), Times::at(NOW)).unwrap();
        }
    };
    feed(&mut store);
    resolver.0.store(1, Ordering::Relaxed);
    store.sweep(NOW + SECOND);
    feed(&mut store);
    store.sweep(NOW + 602 * SECOND);
    assert_eq!(
        lines(&mut store),
        ["fixed{a=\"x\"} 2", "fixed{otel_metric_overflow=\"true\"} 2"]
    );
}

#[test]
fn after_a_reload_series_can_still_be_expired_or_retained() {
    let resolver = Arc::new(Reloading(AtomicU64::new(0)));
    let mut store = Core::new(Limits::default(), resolver.clone(), NOW);
    let source = open(&mut store, Expiry::ByReceiver);
    let add = |store: &mut Core, name| {
        let series = define_series(store, &source, Def { name, ..DELTA }, &[]).unwrap();
        store.add_number(series, Number::int(1), Times::at(NOW)).unwrap();
        series
    };
    let [fixed, expired, retained] = ["fixed", "expired", "retained"].map(|name| add(&mut store, name));
    resolver.0.store(1, Ordering::Relaxed);
    store.sweep(NOW + SECOND);
    assert!(store.is_unresolved(fixed));
    assert!(store.add_number(fixed, Number::int(1), Times::at(NOW)).is_err());
    let resolved = add(&mut store, "fixed");
    assert_eq!(resolved, fixed, "the same series");
    assert!(store.meta(resolved).is_some() && store.meta(fixed).is_none());
    store.expire(expired);
    store.retain(retained);
    store.sweep(NOW + 602 * SECOND);
    assert_eq!(lines(&mut store), ["fixed{} 2", "retained{} 1"]);
    // Another series has the slot of the expired one.
    let other = add(&mut store, "other");
    assert_ne!(other, expired);
    store.expire(expired);
    store.expire(fixed);
    assert_eq!(lines(&mut store), ["new{} 1", "retained{} 1"]);
}

#[test]
fn a_reset_series_starts_without_history() {
    let mut store = Core::new(Limits::default(), Arc::new(Identity), NOW);
    let source = open(&mut store, Expiry::ByReceiver);
    let def = Def {
        bounds: Some(&[1.0]),
        ..HISTOGRAM
    };
    let point = |counts| HistogramPoint {
        counts,
        sum: None,
        min_max: None,
    };
    let histogram = define_series(&mut store, &source, def, &[]).unwrap();
    store
        .set_histogram(histogram, &point(&[7, 7]), times(NOW, NOW))
        .unwrap();
    let bytes = store.live_bytes();
    store.reset(histogram);
    assert_eq!(store.live_bytes(), bytes);
    store
        .set_histogram(histogram, &point(&[1, 0]), times(NOW - 9, NOW - 8))
        .unwrap();
    assert_eq!(store.histogram(histogram).unwrap().count(), 1);
    assert_eq!(store.warnings().resets, 0);
}

#[test]
fn a_gauge_that_nothing_refreshes_expires_and_is_counted() {
    let mut store = store(|_| {});
    let source = store
        .open_source(spec("s", Expiry::AfterIdle(300 * SECOND)), NOW)
        .unwrap();
    let refreshed = |store: &mut Core, at| {
        let series = define_series(store, &source, GAUGE, &[]).unwrap();
        store.set_number(series, Number::int(1), Times::at(at)).unwrap();
    };
    refreshed(&mut store, NOW);
    set(&mut store, &source, COUNTER, &[], 1);
    // The same value again refreshes it.
    refreshed(&mut store, NOW + 200 * SECOND);
    for (after, left, expired) in [(302, 1, 0), (499, 1, 0), (502, 0, 1)] {
        store.sweep(NOW + after * SECOND);
        assert_eq!(
            (store.series(), store.warnings().expired_gauges),
            (left, expired),
            "after {after} s"
        );
    }
}

#[test]
fn a_delta_total_outlives_a_cumulative_one_and_its_end_is_counted() {
    let mut store = store(|_| {});
    let spec = SourceSpec {
        expire_deltas_after: Some(3_600 * SECOND),
        ..spec("s", Expiry::AfterIdle(300 * SECOND))
    };
    let source = store.open_source(spec, NOW).unwrap();
    set(&mut store, &source, COUNTER, &[], 1);
    let delta = define_series(&mut store, &source, DELTA, &[("a", "b")]).unwrap();
    store.add_number(delta, Number::int(2), Times::at(NOW)).unwrap();
    for (after, left, expired) in [(299, 2, 0), (302, 1, 0), (3_599, 1, 0), (3_602, 0, 1)] {
        store.sweep(NOW + after * SECOND);
        assert_eq!(
            (store.series(), store.warnings().expired_deltas),
            (left, expired),
            "after {after} s"
        );
    }
}
