//! Shared by the tests: a store, and its content as text.

#![allow(dead_code)] // each test program uses its part

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use dichroic_model::{Identity, Limits};
use dichroic_pipeline::{Core, Row, RowValue, SnapshotRequest, inbox, serve};

/// An arbitrary time; tests compare times with it.
pub const NOW: u64 = 1_700_000_000_000_000_000;

pub fn store(limits: Limits) -> Rc<RefCell<Core>> {
    Rc::new(RefCell::new(Core::new(limits, Arc::new(Identity), NOW)))
}

/// Every visible series.
pub async fn rows(store: &Rc<RefCell<Core>>) -> Vec<Row> {
    let (handle, inbox) = inbox();
    let serving = tokio::task::spawn_local(serve(store.clone(), inbox));
    let chunks = handle
        .snapshot(SnapshotRequest::default())
        .expect("an empty inbox");
    let mut rows = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        rows.extend(chunk);
    }
    serving.abort();
    rows
}

/// Every visible series as a line: name, labels, value; sorted.
pub async fn lines(store: &Rc<RefCell<Core>>) -> Vec<String> {
    let mut lines: Vec<String> = rows(store).await.iter().map(line).collect();
    lines.sort();
    lines
}

pub fn line(row: &Row) -> String {
    let value = match &row.value {
        RowValue::Number(number) => number.to_f64().to_string(),
        RowValue::Histogram(cell) => {
            format!(
                "{:?} {:?} sum {:?}",
                cell.bounds,
                cell.counts,
                cell.sum.map(|sum| sum.to_f64())
            )
        }
        RowValue::Summary(cell) => format!(
            "{:?} count {} sum {}",
            cell.quantiles,
            cell.count,
            cell.sum.to_f64()
        ),
        RowValue::Exponential(_) => "exponential".into(),
    };
    format!(
        "{} {}{{{}}} {value}",
        row.meta.metric.kind.as_str(),
        row.meta.metric.name,
        row.meta.labels()
    )
}

/// Runs a test on the one thread that owns its store.
pub fn on_ingest_thread<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
