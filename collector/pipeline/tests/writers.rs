//! Processes that write one series: restarts, and totals that are added up.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Attributes, Expiry, Number, Source, SourceSpec};
use dichroic_pipeline::{Core, RowValue, Times, Written};
use std::sync::Arc;

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
fn a_second_host_that_starts_later_is_no_restart() {
    let mut store = store(|_| {});
    for (host, start) in [("h1", 0), ("h2", 61)] {
        let source = on_host(&mut store, host, &[("process.pid", host)]);
        let started = Def {
            start: NOW + start * dichroic_model::SECOND,
            ..COUNTER
        };
        let series = define_series(&mut store, &source, started, &[]).unwrap();
        store
            .set_number(series, Number::int(100), at(start, start + 60))
            .unwrap();
    }
    assert_eq!(
        sorted(&mut store),
        ["m{host_name=\"h1\"} 100", "m{host_name=\"h2\"} 100"]
    );
}

#[test]
fn writers_without_a_start_are_reported_unless_their_total_decreases_rarely() {
    let rare = |gap: u64| {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let series = define_series(&mut store, &source, COUNTER, &[]).unwrap();
        for n in 0..4 {
            for (writer, value) in [(0, 100 + n), (1, 10 + n)] {
                let second = dichroic_model::SECOND;
                let time = NOW + (2 * n + writer + 1) * gap * second;
                let times = Times {
                    start: 0,
                    time,
                    now: time,
                };
                store
                    .set_number(series, Number::int(value as i64), times)
                    .unwrap();
            }
        }
        store.warnings().shared_starts
    };
    assert_eq!(rare(10), 1);
    assert_eq!(rare(400), 0);
}

#[test]
fn of_two_processes_without_a_start_the_one_with_the_last_point_is_the_newer() {
    let run = |order: [u64; 2], def: Def<'static>, seconds: [u64; 2]| {
        let mut store = store(|_| {});
        for at in order {
            let pid = if at == 0 { "1" } else { "2" };
            let source = in_instance(&mut store, pid);
            let series = define_series(&mut store, &source, def, &[]).unwrap();
            let time = NOW + seconds[at as usize] * dichroic_model::SECOND;
            let times = Times {
                start: 0,
                time,
                now: NOW + 100 * dichroic_model::SECOND,
            };
            store.set_number(series, Number::int(at as i64), times).unwrap();
        }
        sorted(&mut store)
    };
    for def in [COUNTER, GAUGE] {
        for seconds in [[10, 20], [20, 10], [10, 10]] {
            let page = run([0, 1], def, seconds);
            assert_eq!(run([1, 0], def, seconds), page, "{seconds:?}");
            let hidden = page.iter().filter(|line| line.starts_with('-')).count();
            assert_eq!((page.len(), hidden), (2, 1), "{page:?}");
        }
    }
}

/// A process of the service with one `service.instance.id`.
fn in_instance(store: &mut Core, pid: &str) -> Arc<Source> {
    let spec = SourceSpec {
        instance: "one".into(),
        resource: Attributes::of(&[("service.instance.id", "one"), ("process.pid", pid)]),
        ..spec(pid, Expiry::AfterIdle(300 * dichroic_model::SECOND))
    };
    store.open_source(spec, NOW).unwrap()
}
