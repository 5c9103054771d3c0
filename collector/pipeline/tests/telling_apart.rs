//! Series with equal labels: told apart, added up, or hidden with a reason.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{AttributeValue, Number};
use dichroic_pipeline::{Core, HiddenReason, RowValue, Times, Written};

#[test]
fn two_scopes_of_one_program_get_scope_labels_whichever_arrives_first() {
    let run = |scopes: [&str; 2]| {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        for scope in scopes {
            let value = if scope == "a" { 5 } else { 7 };
            let def = Def { scope, ..COUNTER };
            set(&mut store, &source, def, &[("x", "1")], value);
        }
        // A series of one scope alone belongs to the same group.
        set(
            &mut store,
            &source,
            Def {
                scope: "a",
                ..COUNTER
            },
            &[("x", "2")],
            1,
        );
        sorted(&mut store)
    };
    let expected = [
        "m{otel_scope_name=\"a\",x=\"1\"} 5",
        "m{otel_scope_name=\"a\",x=\"2\"} 1",
        "m{otel_scope_name=\"b\",x=\"1\"} 7",
    ];
    assert_eq!(run(["a", "b"]), expected);
    assert_eq!(run(["b", "a"]), expected);
}

#[test]
fn two_hosts_of_one_service_get_the_label_that_differs() {
    let run = |hosts: [&str; 3]| {
        let mut store = store(|_| {});
        for host in hosts {
            let source = on_host(&mut store, host, &[("os.type", "linux")]);
            let value = i64::from(host.as_bytes()[0]);
            set(&mut store, &source, GAUGE, &[], value);
            set(
                &mut store,
                &source,
                Def { name: "c", ..COUNTER },
                &[("x", "1")],
                value,
            );
        }
        sorted(&mut store)
    };
    let expected = [
        "c{host_name=\"a\",x=\"1\"} 97",
        "c{host_name=\"b\",x=\"1\"} 98",
        "c{host_name=\"c\",x=\"1\"} 99",
        "m{host_name=\"a\"} 97",
        "m{host_name=\"b\"} 98",
        "m{host_name=\"c\"} 99",
    ];
    assert_eq!(run(["a", "b", "c"]), expected);
    assert_eq!(run(["c", "a", "b"]), expected);
}

#[test]
fn labels_that_tell_apart_stay_while_the_group_has_series() {
    let mut store = store(|_| {});
    let (a, b) = (on_host(&mut store, "a", &[]), on_host(&mut store, "b", &[]));
    set(&mut store, &a, GAUGE, &[], 1);
    let series = set(&mut store, &b, GAUGE, &[], 2);
    store.expire(series);
    assert_eq!(sorted(&mut store), ["m{host_name=\"a\"} 1"]);
    set(&mut store, &a, GAUGE, &[], 3);
    set(&mut store, &b, GAUGE, &[], 4);
    assert_eq!(
        sorted(&mut store),
        ["m{host_name=\"a\"} 3", "m{host_name=\"b\"} 4"]
    );
    store.end_source(a.id, NOW);
    store.end_source(b.id, NOW);
    store.sweep(NOW + 400 * dichroic_model::SECOND);
    let a = on_host(&mut store, "a", &[]);
    set(&mut store, &a, GAUGE, &[], 5);
    assert_eq!(sorted(&mut store), ["m{} 5"]);
}

fn at(start: u64, time: u64) -> Times {
    let second = dichroic_model::SECOND;
    let [start, time] = [start, time].map(|t| NOW + t * second);
    Times {
        start,
        time,
        now: time,
    }
}

#[test]
fn a_restarted_process_takes_the_series_over_and_a_second_one_is_told_apart() {
    let mut store = store(|_| {});
    let (old, new) = (
        on_host(&mut store, "h", &[("process.pid", "1")]),
        on_host(&mut store, "h", &[("process.pid", "2")]),
    );
    let first = define_series(&mut store, &old, COUNTER, &[]).unwrap();
    store.set_number(first, Number::int(10), at(0, 60)).unwrap();
    let started = Def {
        start: NOW + 61 * dichroic_model::SECOND,
        ..COUNTER
    };
    let second = define_series(&mut store, &new, started, &[]).unwrap();
    store.set_number(second, Number::int(1), at(61, 70)).unwrap();
    assert_eq!(sorted(&mut store), ["-m{} 10", "m{} 1"]);
    // The old one was alive after all.
    let written = store.set_number(first, Number::int(11), at(0, 120));
    assert_eq!(written, Ok(Written::Applied));
    assert_eq!(
        sorted(&mut store),
        ["m{process_pid=\"1\"} 11", "m{process_pid=\"2\"} 1"]
    );
}

#[test]
fn attributes_of_one_text_are_one_total_that_never_falls() {
    for order in [["text", "number"], ["number", "text"]] {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let define = |store: &mut Core, kind: &str| {
            let value = if kind == "text" {
                AttributeValue::Str("1".into())
            } else {
                AttributeValue::Int(1)
            };
            define_typed(store, &source, kind, DELTA, vec![("a".into(), value)])
        };
        let series = order.map(|kind| define(&mut store, kind));
        for (series, value) in series.iter().zip([1, 2]) {
            assert_eq!(
                store.add_number(*series, Number::int(value), Times::at(NOW)),
                Ok(Written::Applied)
            );
        }
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 3"], "{order:?}");
        store.expire(series[0]);
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 3"], "{order:?}");
        store
            .add_number(series[1], Number::int(4), Times::at(NOW))
            .unwrap();
        assert_eq!(lines(&mut store), ["m{a=\"1\"} 7"], "{order:?}");
        store.expire(series[1]);
        assert_eq!((lines(&mut store).len(), store.series()), (0, 0));
    }
}

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

/// Writes a cumulative counter by processes that share a resource: (start, time, value).
fn write_all(store: &mut Core, points: &[(u64, u64, i64)]) -> Vec<f64> {
    let source = on_host(store, "h", &[]);
    let series = define_series(store, &source, COUNTER, &[]).unwrap();
    let mut seen = Vec::new();
    for (start, time, value) in points {
        store
            .set_number(series, Number::int(*value), at(*start, *time))
            .unwrap();
        let all = rows(store);
        let RowValue::Number(number) = &all[0].value else {
            panic!("a number")
        };
        seen.push(number.to_f64());
    }
    seen
}

#[test]
fn totals_of_processes_that_share_a_resource_are_added_up() {
    let mut store = store(|_| {});
    // Four workers started within one second; each exports every ten seconds.
    let first = [(1, 10, 147), (2, 11, 315), (3, 12, 22), (4, 13, 462)];
    write_all(&mut store, &first);
    let second: Vec<_> = first
        .map(|(start, time, value)| (start, time + 10, value + 10))
        .into();
    let seen = write_all(&mut store, &second);
    assert_eq!(seen.last(), Some(&986.0));
    assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]), "{seen:?}");
    assert_eq!(
        (rows(&mut store)[0].writers, store.warnings().several_writers),
        (4, 1)
    );
}

#[test]
fn a_worker_that_ends_leaves_its_count_in_the_total() {
    let mut store = store(|_| {});
    write_all(
        &mut store,
        &[(1, 10, 100), (2, 11, 10), (1, 20, 101), (2, 21, 11)],
    );
    // The first is replaced by a process that starts later; the second counts on.
    write_all(&mut store, &[(25, 30, 1), (2, 31, 12), (25, 40, 2)]);
    assert_eq!(
        lines(&mut store),
        ["m{host_name=\"h\"} 115".replace("host_name=\"h\"", "")]
    );
    for time in [200, 330, 340] {
        let total = write_all(&mut store, &[(2, time, 13), (25, time + 1, 3)]);
        assert_eq!(total.last(), Some(&117.0), "at {time}");
        store.sweep(NOW + (time + 2) * dichroic_model::SECOND);
    }
    assert_eq!(rows(&mut store)[0].writers, 2);
}

#[test]
fn a_restart_is_a_reset_and_a_start_that_slides_is_one_writer() {
    let mut store = store(|_| {});
    assert_eq!(
        write_all(&mut store, &[(1, 10, 100), (11, 20, 3), (11, 30, 5)]),
        [100.0, 3.0, 5.0]
    );
    let mut store = common::store(|_| {});
    let sliding: Vec<_> = (0..200).map(|n| (n, 100 + n, n as i64)).collect();
    let seen = write_all(&mut store, &sliding);
    let expected: Vec<_> = (0..200).map(f64::from).collect();
    assert_eq!(seen, expected);
    assert_eq!(store.warnings().several_writers, 0);
}

#[test]
fn writers_with_one_start_are_reported_for_they_cannot_be_told_apart() {
    let mut store = store(|_| {});
    let forked = [
        (1, 10, 15),
        (1, 11, 25),
        (1, 20, 16),
        (1, 21, 27),
        (1, 30, 17),
        (1, 31, 29),
    ];
    write_all(&mut store, &forked);
    assert_eq!(store.warnings().shared_starts, 0, "two decreases");
    assert!(!rows(&mut store)[0].share_start);
    write_all(&mut store, &[(1, 40, 18), (1, 41, 31), (1, 50, 19)]);
    assert_eq!((store.warnings().shared_starts, store.warnings().resets), (1, 4));
    assert!(rows(&mut store)[0].share_start);
}

#[test]
fn scopes_are_always_shown_on_request() {
    let mut store = store(|_| {});
    store.always_show_scopes();
    let source = source(&mut store, "s");
    set(&mut store, &source, Def { scope: "a", ..GAUGE }, &[], 1);
    set(&mut store, &source, Def { name: "n", ..GAUGE }, &[], 2);
    assert_eq!(lines(&mut store), ["m{otel_scope_name=\"a\"} 1", "n{} 2"]);
}
