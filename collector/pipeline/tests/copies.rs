//! Copies while series are added and removed: no other series is skipped or repeated.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Number, SECOND};
use dichroic_pipeline::{Core, Job, Progress, Row, SeriesRef, Snapshot, SnapshotRequest, Times, channel};
use proptest::prelude::*;
use std::collections::HashSet;
use std::task::{Context, Waker};

struct Copy {
    job: Snapshot,
    chunks: channel::Receiver<Vec<Row>>,
    rows: Vec<Row>,
    done: bool,
}

impl Copy {
    fn new() -> Self {
        let (job, chunks) = Snapshot::new(SnapshotRequest::default());
        Copy {
            job,
            chunks,
            rows: Vec::new(),
            done: false,
        }
    }

    /// Runs a step of the job and takes its rows.
    fn step(&mut self, store: &mut Core) {
        if !self.done {
            self.done = self.job.step(store, &mut Context::from_waker(Waker::noop())) == Progress::Done;
            self.rows
                .extend(std::iter::from_fn(|| self.chunks.try_recv()).flatten());
        }
    }

    fn finish(mut self, store: &mut Core) -> Vec<Row> {
        while !self.done {
            self.step(store);
        }
        assert!(self.chunks.is_finished());
        self.rows
    }
}

#[test]
fn rows_are_grouped_by_family_and_in_page_order() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    for at in 0..12_000 {
        let name = ["b", "a", "c.d", "a.b"][at % 4];
        set(
            &mut store,
            &source,
            Def { name, ..GAUGE },
            &[("at", &at.to_string())],
            1,
        );
    }
    let mut names: Vec<String> = rows(&mut store)
        .iter()
        .map(|row| row.meta.metric.name.clone())
        .collect();
    assert_eq!(names.len(), 12_000);
    names.dedup();
    assert_eq!(names, ["a", "a.b", "b", "c.d"]);
}

#[test]
fn a_series_that_expires_and_returns_is_copied_once() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let all: Vec<SeriesRef> = (0..10_000)
        .map(|at| set(&mut store, &source, GAUGE, &[("at", &at.to_string())], 1))
        .collect();
    let mut copy = Copy::new();
    copy.step(&mut store);
    for (at, series) in all.iter().enumerate().take(2_000) {
        store.expire(*series);
        store.sweep(NOW);
        set(&mut store, &source, GAUGE, &[("at", &at.to_string())], 2);
    }
    let rows = copy.finish(&mut store);
    let labels: HashSet<String> = rows.iter().map(|row| row.meta.labels()).collect();
    assert_eq!((rows.len(), labels.len()), (10_000, 10_000));
    assert_eq!(rows_now(&mut store), 10_000, "the next copy has them all");
}

fn rows_now(store: &mut Core) -> usize {
    rows(store).iter().filter(|row| row.hidden.is_none()).count()
}

#[test]
fn a_successor_is_first_shown_in_the_next_copy() {
    let mut store = store(|_| {});
    let (x, y) = (source(&mut store, "x"), source(&mut store, "y"));
    set(&mut store, &x, GAUGE, &[("label", "one")], 1);
    for at in 0..10_000 {
        set(&mut store, &x, GAUGE, &[("at", &at.to_string())], 1);
    }
    set(&mut store, &y, GAUGE, &[("label", "one")], 2);
    let mut copy = Copy::new();
    copy.step(&mut store);
    let first = define_series(&mut store, &x, GAUGE, &[("label", "one")]).unwrap();
    store.expire(first);
    let shown = |rows: &[Row]| {
        rows.iter()
            .filter(|r| r.hidden.is_none() && r.meta.labels().contains("one"))
            .count()
    };
    assert_eq!(shown(&copy.finish(&mut store)), 1);
    assert_eq!(shown(&rows(&mut store)), 1);
}

#[test]
fn a_copy_without_a_reader_is_aborted_and_closes_unfinished() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    for at in 0..50_000 {
        set(&mut store, &source, GAUGE, &[("at", &at.to_string())], 1);
    }
    let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
    let mut cx = Context::from_waker(Waker::noop());
    while job.step(&mut store, &mut cx) != Progress::Blocked {}
    store.sweep(NOW + 20 * SECOND);
    assert_eq!(job.step(&mut store, &mut cx), Progress::Blocked);
    store.sweep(NOW + 60 * SECOND);
    assert_eq!(job.step(&mut store, &mut cx), Progress::Done);
    drop(job);
    assert!(std::iter::from_fn(|| chunks.try_recv()).count() > 0);
    assert!(!chunks.is_finished());
}

#[test]
fn a_copy_can_be_limited_to_changed_series() {
    let mut store = store(|_| {});
    let source = source(&mut store, "s");
    let old = set(&mut store, &source, GAUGE, &[("a", "1")], 1);
    set(&mut store, &source, GAUGE, &[("a", "2")], 2);
    let later = NOW + 10 * SECOND;
    store.set_number(old, Number::int(3), Times::at(later)).unwrap();
    let since = |time| SnapshotRequest {
        changed_since: Some(time),
        ..SnapshotRequest::default()
    };
    let values = |store: &mut Core, time| rows_of(store, since(time)).iter().map(line).collect::<Vec<_>>();
    assert_eq!(values(&mut store, later), ["m{a=\"1\"} 3"]);
    assert_eq!(values(&mut store, NOW).len(), 2);
    assert_eq!(values(&mut store, later + SECOND).len(), 0);
    let filtered = SnapshotRequest {
        filter: Some(Box::new(|meta| meta.labels().contains("2"))),
        ..Default::default()
    };
    assert_eq!(rows_of(&mut store, filtered).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: (ProptestConfig::default().cases / 10).max(24), failure_persistence: None, ..ProptestConfig::default() })]

    /// Random series of random families are added and removed between the steps of overlapping copies.
    #[test]
    fn series_that_live_during_the_copy_are_copied_exactly_once(
        operations in prop::collection::vec((0..3u8, 0..200usize), 50..300),
        steps in prop::collection::vec(0..300usize, 1..8),
    ) {
        let mut store = store(|_| {});
        let source = source(&mut store, "s");
        let names = ["a", "b", "c"];
        let mut live: Vec<Option<SeriesRef>> = Vec::new();
        let labels = |at: usize| at.to_string();
        // More series than one step checks, so that steps end among those that are added and removed.
        for at in 0..4_000 {
            set(&mut store, &source, Def { name: "A", ..GAUGE }, &[("at", &labels(at))], 0);
        }
        for at in 0..200 {
            live.push(Some(set(&mut store, &source, Def { name: names[at % 3], ..GAUGE }, &[("at", &labels(at))], 1)));
        }
        let mut touched = [false; 200];
        let mut first = Copy::new();
        first.step(&mut store);
        let mut second = Copy::new();
        for (number, (kind, at)) in operations.iter().enumerate() {
            match (kind, live[*at]) {
                (0, Some(series)) => {
                    store.expire(series);
                    live[*at] = None;
                    touched[*at] = true;
                }
                (1, None) => {
                    let name = names[at % 3];
                    live[*at] = Some(set(&mut store, &source, Def { name, ..GAUGE }, &[("at", &labels(*at))], 2));
                }
                (2, _) => drop(store.sweep(NOW)),
                _ => {}
            }
            if steps.contains(&number) {
                first.step(&mut store);
                second.step(&mut store);
            }
        }
        for copy in [first, second] {
            let rows = copy.finish(&mut store);
            let mut seen = HashSet::new();
            for row in &rows {
                prop_assert!(seen.insert((row.meta.metric.name.clone(), row.meta.labels())), "{row:?} is repeated");
            }
            for (at, touched) in touched.iter().enumerate() {
                let label = format!("job=\"j\",instance=\"i\",at=\"{at}\"");
                let copied = seen.contains(&(names[at % 3].to_owned(), label));
                prop_assert!(*touched || copied, "{at} is missing");
            }
        }
    }
}
