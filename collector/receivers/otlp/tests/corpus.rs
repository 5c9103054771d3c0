//! The example JSON bodies that the OpenTelemetry project publishes, with their expected outcome.
//!
//! They are not in this repository: `DICHROIC_CORPORA` names the folder that holds `otlp/{metrics,logs,events,trace}.json`. Without
//! it the program reads nothing and reports that.

mod common;

use common::World;
use dichroic_receiver_otlp::Service;
use std::path::PathBuf;

fn main() {
    let Some(corpora) = std::env::var_os("DICHROIC_CORPORA") else {
        println!("corpus: DICHROIC_CORPORA is not set, nothing to read");
        return;
    };
    let folder = PathBuf::from(corpora).join("otlp");
    let mut world = World::new();
    for (file, service, accepted, rejected) in [
        ("metrics.json", Service::Metrics, 4, 0),
        ("logs.json", Service::Logs, 1, 0),
        ("events.json", Service::Logs, 1, 0),
        ("trace.json", Service::Traces, 0, 1),
    ] {
        let path = folder.join(file);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let outcome = world
            .json(service, &text)
            .unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(
            (outcome.accepted, outcome.rejected),
            (accepted, rejected),
            "{file}: {}",
            outcome.message
        );
    }
    let lines: Vec<_> = world
        .lines()
        .iter()
        .map(|line| line.replace("job=\"my.service\",", ""))
        .collect();
    let expected = [
        "my.counter{my_counter_attr=\"some value\"} counter float 5.0",
        "my.exponential.histogram{my_exponential_histogram_attr=\"some value\"} exponential_histogram \
            exponential scale 0 zero 1 (1, [0, 2]) (0, []) sum Some(10.0)",
        "my.gauge{my_gauge_attr=\"some value\"} gauge float 10.0",
        "my.histogram{my_histogram_attr=\"some value\"} histogram buckets [1.0] [1, 1] sum Some(2.0) extremes Some((0.0, 2.0))",
    ];
    assert_eq!(lines, expected);
    println!("corpus: all 4 OTLP bodies have the expected result");
}
