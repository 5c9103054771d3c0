//! Random operations compared with a simple model: the store has the model's series, and its accounted memory returns to zero.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Expiry, Number, SECOND};
use dichroic_pipeline::{Buckets, Core, ExponentialPoint, HistogramPoint, Times};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Operation {
    /// source, metric, labels, value
    Write(usize, usize, usize, i64),
    Expire(usize, usize, usize),
    End(usize),
    Sweep,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let series = || (0..3usize, 0..6usize, 0..8usize);
    let one = prop_oneof![
        8 => (series(), 1..100i64).prop_map(|((s, m, l), v)| Operation::Write(s, m, l, v)),
        3 => series().prop_map(|(s, m, l)| Operation::Expire(s, m, l)),
        1 => (0..3usize).prop_map(Operation::End),
        1 => Just(Operation::Sweep),
    ];
    prop::collection::vec(one, 1..400)
}

/// Two of them share a family, one conflicts with it, three have buckets.
fn metric(at: usize) -> Def<'static> {
    let named = |name, def| Def { name, ..def };
    match at {
        0 => named("a", GAUGE),
        1 => Def {
            kind: dichroic_model::MetricKind::Sum { monotonic: false },
            ..named("a", GAUGE)
        },
        2 => named("a.total", COUNTER),
        3 => named("h", HISTOGRAM),
        4 => Def {
            bounds: Some(&[1.0, 2.0, 3.0]),
            ..named("h", HISTOGRAM)
        },
        _ => named("e", EXPONENTIAL),
    }
}

/// (source, metric, labels) → value; metrics 3 and 4 are one series with other bounds.
type Model = BTreeMap<(usize, usize, usize), i64>;

fn write(store: &mut Core, source: &dichroic_model::Source, at: usize, labels: usize, value: i64) {
    let label = labels.to_string();
    let attributes = [("a", label.as_str()), ("b", "x")];
    let attributes = if labels.is_multiple_of(2) {
        &attributes[..]
    } else {
        &attributes[..1]
    };
    let series = define_series(store, source, metric(at), attributes).unwrap();
    let applied = match at {
        3 | 4 => {
            let counts = [value as u64, 0, 0, 0];
            let point = HistogramPoint {
                counts: &counts[..at],
                sum: None,
                min_max: None,
            };
            store.set_histogram(series, &point, Times::at(NOW))
        }
        5 => {
            let counts = vec![1; value as usize];
            let positive = Buckets {
                offset: 0,
                counts: &counts,
            };
            let negative = Buckets::default();
            let point = ExponentialPoint {
                scale: 0,
                zero_count: 0,
                zero_threshold: 0.0,
                positive,
                negative,
                sum: None,
                min_max: None,
            };
            store.set_exponential(series, &point, Times::at(NOW))
        }
        _ => store.set_number(series, Number::int(value), Times::at(NOW)),
    };
    applied.unwrap();
}

fn check(store: &mut Core, model: &Model) -> Result<(), TestCaseError> {
    let rows = rows(store);
    prop_assert_eq!(rows.len(), model.len());
    prop_assert_eq!(store.series(), model.len());
    let mut shown = BTreeSet::new();
    for row in rows.iter().filter(|row| row.hidden.is_none()) {
        for name in sample_names(&row.meta.metric.family) {
            prop_assert!(
                shown.insert((name, row.meta.labels())),
                "one sample twice: {row:?}"
            );
        }
    }
    let mut values: Vec<i64> = rows
        .iter()
        .map(|row| match &row.value {
            dichroic_pipeline::RowValue::Number(n) => n.int,
            dichroic_pipeline::RowValue::Histogram(h) => h.count() as i64,
            dichroic_pipeline::RowValue::Exponential(e) => e.count() as i64,
            dichroic_pipeline::RowValue::Summary(_) => 0,
        })
        .collect();
    let mut expected: Vec<i64> = model.values().copied().collect();
    values.sort_unstable();
    expected.sort_unstable();
    prop_assert_eq!(values, expected);
    // A series is hidden only where another one has the sample.
    for row in &rows {
        let names = sample_names(&row.meta.metric.family);
        prop_assert!(
            names
                .into_iter()
                .any(|name| shown.contains(&(name, row.meta.labels())))
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_a_simple_model_and_frees_all_memory(operations in operations()) {
        let mut store = store(|limits| limits.aliases_per_series = 2);
        let mut model = Model::new();
        let keys = ["x", "y", "z"];
        let rules = [Expiry::ByReceiver, Expiry::AfterEnd(SECOND), Expiry::AfterIdle(SECOND)];
        let open = |store: &mut Core, at: usize| store.open_source(spec(keys[at], rules[at]), NOW).unwrap();
        let same = |at: usize| if at == 4 { 3 } else { at };
        for (number, operation) in operations.iter().enumerate() {
            match *operation {
                Operation::Write(s, m, l, value) => {
                    let source = open(&mut store, s);
                    // Times are equal, so a histogram that decreases is not late but a reset, and replaces.
                    write(&mut store, &source, m, l, value);
                    model.insert((s, same(m), l), value);
                }
                Operation::Expire(s, m, l) => {
                    if model.remove(&(s, same(m), l)).is_some() {
                        let source = open(&mut store, s);
                        let label = l.to_string();
                        let attributes = [("a", label.as_str()), ("b", "x")];
                        let attributes = if l.is_multiple_of(2) { &attributes[..] } else { &attributes[..1] };
                        let series = define_series(&mut store, &source, metric(m), attributes).unwrap();
                        store.expire(series);
                    }
                }
                Operation::End(s) => {
                    let source = open(&mut store, s);
                    store.end_source(source.id, NOW);
                    if s == 0 {
                        model.retain(|(source, ..), _| *source != 0);
                    } else {
                        open(&mut store, s);
                    }
                }
                Operation::Sweep => drop(store.sweep(NOW)),
            }
            if number % 40 == 0 {
                check(&mut store, &model)?;
            }
        }
        check(&mut store, &model)?;
        for at in 0..3 {
            let source = open(&mut store, at);
            store.end_source(source.id, NOW);
        }
        for _ in 0..4 {
            store.sweep(NOW + 100 * SECOND);
        }
        prop_assert_eq!((store.series(), store.sources().count(), store.metrics().count()), (0, 0, 0));
        prop_assert_eq!(store.live_bytes(), 0);
    }
}
