//! Series identity and exposition identity.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Attributes, Expiry, Factor, MetricKind, NameStyle, Number, Protocol, SourceSpec};
use dichroic_pipeline::{Core, HistogramPoint, Times, Written};

#[test]
fn shuffled_attributes_are_one_series() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let a = define_as(&mut store, &source, "ab", GAUGE, &[("a", "1"), ("b", "2")]).unwrap();
    let b = define_as(&mut store, &source, "ba", GAUGE, &[("b", "2"), ("a", "1")]).unwrap();
    assert_eq!(a, b);
    assert_eq!(store.series(), 1);
    for raw in ["ab", "ba"] {
        assert_eq!(store.find(fp(&store, &source, raw)), Some(a), "{raw}");
    }
}

#[test]
fn fingerprints_beyond_the_limit_are_removed_without_a_second_series() {
    let mut store = store(|limits| limits.aliases_per_series = 3);
    let source = source(&mut store, "s");
    let series = set(&mut store, &source, GAUGE, &[("a", "1")], 5);
    let before = store.live_bytes();
    for spelling in 0..1_000 {
        let again = define_as(&mut store, &source, &format!("{spelling}"), GAUGE, &[("a", "1")]);
        assert_eq!(again, Ok(series));
    }
    assert_eq!(store.series(), 1);
    let found = (0..1_000).filter(|at| store.find(fp(&store, &source, &format!("{at}"))).is_some());
    assert_eq!(found.collect::<Vec<_>>(), [997, 998, 999], "the newest");
    assert!(store.live_bytes() <= before + 64, "aliases do not grow");
    store.expire(series);
    assert_eq!(
        store.find(fp(&store, &source, "999")),
        None,
        "aliases are removed with the series"
    );
}

#[test]
fn a_reference_is_stale_once_its_series_is_removed_even_if_the_slot_is_reused() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let old = set(&mut store, &source, GAUGE, &[("a", "1")], 1);
    store.expire(old);
    let new = set(&mut store, &source, GAUGE, &[("a", "2")], 2);
    assert_ne!(old, new);
    assert!(store.set_number(old, Number::int(9), Times::at(NOW)).is_err());
    store.expire(old);
    assert_eq!(lines(&mut store), ["m{a=\"2\"} 2"]);
}

/// Two sources with the same job and instance and different keys.
fn two(store: &mut Core, first: &str, second: &str) {
    for key in [first, second] {
        let source = source(store, key);
        set(store, &source, GAUGE, &[("a", "1")], i64::from(key == "x"));
    }
}

#[test]
fn the_winner_of_an_identity_does_not_depend_on_the_order_of_arrival() {
    for (first, second) in [("x", "y"), ("y", "x")] {
        let mut store = store(|_| {});
        two(&mut store, first, second);
        let mut seen = lines(&mut store);
        seen.sort();
        assert_eq!(seen, ["-m{a=\"1\"} 0", "m{a=\"1\"} 1"], "{first} first");
        assert_eq!(store.warnings().label_collisions, 1);
    }
}

#[test]
fn when_the_winner_is_removed_the_next_contender_succeeds_it() {
    for order in [["x", "y", "z"], ["z", "y", "x"], ["y", "z", "x"]] {
        let mut store = store(|_| {});
        let sources = order.map(|key| source(&mut store, key));
        for (source, value) in sources.iter().zip(order) {
            set(&mut store, source, GAUGE, &[], i64::from(value.as_bytes()[0]));
        }
        for (removed, shown) in [(None, 'x'), (Some("x"), 'y'), (Some("y"), 'z')] {
            if let Some(key) = removed {
                let at = order.iter().position(|k| *k == key).unwrap();
                store.end_source(sources[at].id, NOW);
            }
            let visible: Vec<_> = lines(&mut store)
                .into_iter()
                .filter(|l| !l.starts_with('-'))
                .collect();
            assert_eq!(visible, [format!("m{{}} {}", shown as u32)], "{order:?}");
        }
        let z = order.iter().position(|k| *k == "z").unwrap();
        set(&mut store, &sources[z], GAUGE, &[], 7);
        assert_eq!(lines(&mut store), ["m{} 7"], "found under its new identity");
    }
}

#[test]
fn removing_a_contender_changes_nothing_else() {
    let mut store = store(|_| {});
    let (x, y) = (source(&mut store, "x"), source(&mut store, "y"));
    set(&mut store, &x, GAUGE, &[], 1);
    set(&mut store, &y, GAUGE, &[], 2);
    store.end_source(y.id, NOW);
    assert_eq!(lines(&mut store), ["m{} 1"]);
    set(&mut store, &x, GAUGE, &[], 3);
    assert_eq!((lines(&mut store), store.series()), (vec!["m{} 3".to_owned()], 1));
}

#[test]
fn the_exposition_identity_is_a_set_of_labels() {
    let honoring = |key: &str, job: &str| SourceSpec {
        protocol: Protocol::Prometheus,
        honor_labels: true,
        job: job.into(),
        labels: Attributes::of(&[("env", "dev")]),
        ..spec(key, Expiry::ByReceiver)
    };
    let mut store = store(|_| {});
    let a = store.open_source(honoring("a", "theirs"), NOW).unwrap();
    let b = store.open_source(honoring("b", "other"), NOW).unwrap();
    set(&mut store, &a, GAUGE, &[], 1);
    // In another order, and with an empty label, which does not count.
    set(&mut store, &b, GAUGE, &[("job", "theirs"), ("none", "")], 2);
    assert_eq!(
        rows(&mut store).iter().filter(|row| row.hidden.is_some()).count(),
        1
    );
}

#[test]
fn kinds_that_share_a_type_share_a_family_and_one_of_two_equal_series_is_hidden() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let sum = Def {
        kind: MetricKind::Sum { monotonic: false },
        ..GAUGE
    };
    set(&mut store, &source, GAUGE, &[], 1);
    set(&mut store, &source, sum, &[], 2);
    set(
        &mut store,
        &source,
        Def {
            style: NameStyle::Verbatim,
            ..GAUGE
        },
        &[],
        3,
    );
    assert_eq!(
        rows(&mut store).iter().filter(|row| row.hidden.is_some()).count(),
        2
    );
    assert_eq!(store.series(), 3);
}

#[test]
fn other_bounds_reset_the_same_series() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let bytes = store.live_bytes();
    let point = |counts| HistogramPoint {
        counts,
        sum: None,
        min_max: None,
    };
    let old = define_series(&mut store, &source, HISTOGRAM, &[]).unwrap();
    store
        .set_histogram(old, &point(&[1, 2, 3]), times(NOW - 9, NOW))
        .unwrap();
    let wider = Def {
        bounds: Some(&[1.0, 2.0, 3.0, 4.0]),
        ..HISTOGRAM
    };
    let new = define_series(&mut store, &source, wider, &[]).unwrap();
    store
        .set_histogram(new, &point(&[1, 0, 0, 0, 0]), times(0, NOW + 5))
        .unwrap();
    assert_eq!((old, store.series()), (new, 1));
    assert_eq!(lines(&mut store), ["m{} [1.0, 2.0, 3.0, 4.0] [1, 0, 0, 0, 0]"]);
    assert_eq!(rows(&mut store)[0].start, NOW);
    // The old fingerprint implies the old bounds: it misses and is resolved again.
    let back = define_series(&mut store, &source, HISTOGRAM, &[]).unwrap();
    store
        .set_histogram(back, &point(&[5, 5, 5]), times(0, NOW + 6))
        .unwrap();
    assert_eq!(lines(&mut store), ["m{} [1.0, 2.0] [5, 5, 5]"]);
    store.expire(back);
    store.sweep(NOW);
    assert_eq!(store.live_bytes(), bytes);
}

#[test]
fn another_raw_unit_resets_the_series() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let in_unit = |unit| Def {
        name: "busy",
        unit,
        ..COUNTER
    };
    let ms = define_as(&mut store, &source, "ms", in_unit("ms"), &[]).unwrap();
    store.set_number(ms, Number::int(5_000), Times::at(NOW)).unwrap();
    let s = define_as(&mut store, &source, "s", in_unit("s"), &[]).unwrap();
    store.set_number(s, Number::int(6), Times::at(NOW)).unwrap();
    assert_eq!(lines(&mut store), ["busy{} 6"]);
    assert_eq!(
        store.find(fp(&store, &source, "ms")),
        None,
        "its points have another unit"
    );
}

#[test]
fn a_series_defined_without_bounds_can_get_them_later() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    define_as(
        &mut store,
        &source,
        "none",
        Def {
            bounds: None,
            ..HISTOGRAM
        },
        &[],
    )
    .unwrap();
    let series = define_as(&mut store, &source, "some", HISTOGRAM, &[]).unwrap();
    let point = HistogramPoint {
        counts: &[1, 1, 1],
        sum: None,
        min_max: None,
    };
    assert_eq!(
        store.set_histogram(series, &point, Times::at(NOW)),
        Ok(Written::Applied)
    );
}

#[test]
fn a_source_with_the_same_key_is_the_same_source_until_its_identity_changes() {
    let mut store = store(|_| {});
    let a = source(&mut store, "s");
    set(&mut store, &a, GAUGE, &[], 1);
    assert_eq!(source(&mut store, "s").id, a.id);
    let moved = SourceSpec {
        instance: "elsewhere".into(),
        ..spec("s", Expiry::ByReceiver)
    };
    let b = store.open_source(moved, NOW).unwrap();
    assert_ne!(a.id, b.id);
    assert_eq!((store.series(), store.sources().count()), (0, 1));
}

#[test]
fn factors_of_the_receiver_and_of_the_resolution_are_multiplied() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    // Raw tens of microseconds of a metric in milliseconds are exported in seconds.
    let def = Def {
        unit: "ms",
        factor: Factor::new(1, 100).unwrap(),
        ..COUNTER
    };
    set(&mut store, &source, def, &[], 150_000);
    assert_eq!(lines(&mut store), ["m{} 1.5"]);
}

#[test]
fn a_series_that_changes_its_unit_leaks_no_accounted_bytes() {
    let mut store = store(|_| {});
    let before = store.live_bytes();
    let source = source(&mut store, "s");
    // More sets of names than are shared, so that the series stores its attributes packed.
    let names: Vec<String> = (0..4_200).map(|at| format!("n{at}")).collect();
    let others: Vec<_> = names
        .iter()
        .map(|name| define_series(&mut store, &source, GAUGE, &[(name, "v")]).unwrap())
        .collect();
    let (value, seconds) = ("v".repeat(200), Def { name: "t", ..GAUGE });
    let attributes = [("zz", value.as_str())];
    define_series(&mut store, &source, seconds, &attributes).unwrap();
    others.into_iter().for_each(|series| store.expire(series));
    let factor = Factor { num: 1, den: 1_000 };
    define_as(
        &mut store,
        &source,
        "other",
        Def { factor, ..seconds },
        &attributes,
    )
    .unwrap();
    store.end_source(source.id, NOW);
    assert_eq!(store.live_bytes(), before);
}
