//! Points that pages do not show are counted as hidden, with the reason.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{AttributeValue, Number, Source};
use dichroic_pipeline::{Core, HiddenReason, Signal, Times, Written};

#[test]
fn of_two_gauges_with_one_text_the_hidden_one_is_counted_as_hidden() {
    for order in [["text", "number"], ["number", "text"]] {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let mut written = Vec::new();
        for kind in order {
            let value = if kind == "text" {
                AttributeValue::Str("1".into())
            } else {
                AttributeValue::Int(1)
            };
            let series = define_typed(&mut store, &source, kind, GAUGE, vec![("a".into(), value)]);
            written.push((kind, series));
        }
        let written: Vec<_> = written
            .into_iter()
            .map(|(kind, series)| {
                (
                    kind,
                    store.set_number(series, Number::int(1), Times::at(NOW)).unwrap(),
                )
            })
            .collect();
        let hidden: Vec<_> = written.iter().filter(|(_, w)| *w != Written::Applied).collect();
        assert_eq!(
            hidden,
            [&("text", Written::Hidden(HiddenReason::LabelText))],
            "{order:?}"
        );
    }
}

/// Points of a source that are applied, and those that are hidden.
fn account(store: &Core, source: &Source) -> (u64, Vec<(HiddenReason, u64)>) {
    let account = store.ledger().account(source.id, Signal::Metrics).unwrap();
    (account.applied, account.hides().collect())
}

#[test]
fn a_point_that_loses_its_place_is_counted_as_hidden() {
    let dotted = Def { name: "a.b", ..GAUGE };
    let plain = Def { name: "a_b", ..GAUGE };
    for order in [[dotted, plain], [plain, dotted]] {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        for def in order {
            write(&mut store, &source, def, Times::at(NOW)).unwrap();
        }
        assert_eq!(account(&store, &source), (1, vec![(HiddenReason::MetricName, 1)]));
        // When the holder expires, the other one is shown again.
        let winner = define_series(&mut store, &source, dotted, &[]).unwrap();
        store.expire(winner);
        assert_eq!(account(&store, &source), (2, vec![]));
        let ledger = store.ledger().account(source.id, Signal::Metrics).unwrap();
        assert_eq!(
            ledger.hidden_peaks().collect::<Vec<_>>(),
            [(HiddenReason::MetricName, 1)]
        );
        assert!(store.ledger().balances());
    }
}

#[test]
fn a_point_that_loses_its_place_before_it_is_counted_is_hidden() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    for name in ["a_b", "a.b"] {
        set(&mut store, &source, Def { name, ..GAUGE }, &[], 1);
    }
    store.ledger_mut().received(source.id, Signal::Metrics, 2);
    store.ledger_mut().applied(source.id, Signal::Metrics, 2);
    assert_eq!(account(&store, &source), (1, vec![(HiddenReason::MetricName, 1)]));
    assert!(store.ledger().balances());
}

#[test]
fn points_of_a_replaced_process_are_counted_as_hidden_until_it_is_alive_again() {
    let mut store = store(|_| {});
    let (old, new) = (
        on_host(&mut store, "h", &[("process.pid", "1")]),
        on_host(&mut store, "h", &[("process.pid", "2")]),
    );
    write(&mut store, &old, COUNTER, at(0, 60)).unwrap();
    write(&mut store, &new, COUNTER, at(61, 70)).unwrap();
    assert_eq!(account(&store, &old), (0, vec![(HiddenReason::Superseded, 1)]));
    assert_eq!(account(&store, &new), (1, vec![]));
    write(&mut store, &old, COUNTER, at(0, 80)).unwrap();
    assert_eq!(account(&store, &old), (2, vec![]));
}

#[test]
fn a_replaced_process_stays_hidden_when_another_host_arrives() {
    let mut store = store(|_| {});
    for (host, pid, start) in [("a", "1", 0), ("a", "2", 61), ("b", "3", 1)] {
        let source = on_host(&mut store, host, &[("process.pid", pid)]);
        write(&mut store, &source, COUNTER, at(start, start + 60)).unwrap();
    }
    assert_eq!(
        sorted(&mut store),
        ["-m{} 1", "m{host_name=\"a\"} 1", "m{host_name=\"b\"} 1"]
            .map(|line| line.replace("-m{}", "-m{host_name=\"a\"}"))
    );
}
