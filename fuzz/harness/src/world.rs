//! A store, its limits, and the checks of what it holds after hostile input.

use dichroic_exporter_prometheus::{Format, Options, Renderer};
use dichroic_model::{Identity, Limits, SECOND};
use dichroic_pipeline::{Core, Job, Progress, Row, Snapshot, SnapshotRequest};
use std::sync::Arc;
use std::task::{Context, Waker};

#[path = "../../../exporters/prometheus/tests/common/reader.rs"]
mod reader;

/// The time of every input.
pub const NOW: u64 = 1_700_000_000 * SECOND;

/// Limits that a short input reaches.
fn tight() -> Limits {
    Limits {
        series: 6,
        series_per_source: 4,
        series_per_metric: 3,
        sources: 2,
        aliases_per_series: 2,
        labels: 4,
        label_name_bytes: 8,
        label_value_bytes: 12,
        buckets: 8,
        schemas: 4,
        replay_bytes: 256,
        ..Limits::default()
    }
}

/// An empty store, with the default limits or with tight ones.
pub fn store(is_tight: bool) -> Core {
    let limits = if is_tight { tight() } else { Limits::default() };
    Core::new(limits, Arc::new(Identity), NOW - SECOND)
}

fn rows(store: &mut Core) -> Vec<Row> {
    let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut rows = Vec::new();
    loop {
        let progress = job.step(store, &mut cx);
        rows.extend(std::iter::from_fn(|| chunks.try_recv()).flatten());
        if progress == Progress::Done {
            return rows;
        }
    }
}

/// Checks that the ledger balances, the limits hold, and both pages are valid and have the same samples.
pub fn check(store: &mut Core) {
    assert!(store.ledger().balances(), "the ledger balances");
    assert!(store.series() <= store.limits().series, "the limit of series");
    let rows = rows(store);
    let shown = store.sources().filter(|(_, series, _)| *series > 0);
    let sources: Vec<_> = shown.map(|(source, ..)| source.clone()).collect();
    let page = |format| {
        let mut renderer = Renderer::new(format, Options::default());
        renderer.chunk(&rows);
        let page = renderer.finish(&sources);
        String::from_utf8(page.to_vec()).expect("a page is UTF-8")
    };
    let read = |page: &str, openmetrics| match reader::read(page, openmetrics) {
        Ok(samples) => samples,
        Err(error) => panic!("{error}\n{page}"),
    };
    let text = read(&page(Format::Text), false);
    for (key, value) in read(&page(Format::OpenMetrics), true) {
        match text.get(&key) {
            Some(other) => assert_eq!(value, *other, "{key:?}"),
            None => assert!(key.0.ends_with("_created"), "only in OpenMetrics: {key:?}"),
        }
    }
}
