//! OTLP metrics in the store.

#[path = "../common/mod.rs"]
mod common;
mod model;
mod points;
mod requests;
mod sources;

use common::*;

/// Sends one request and checks rows and account.
#[track_caller]
fn check(metrics: Vec<Metric>, rows: &[&str], account: &str) {
    let mut world = World::new();
    world.metrics(metrics);
    assert_eq!(world.lines(), rows);
    assert_eq!(world.accounts(), [format!("shop metrics {account}")]);
}
