//! Checks that `docs/pack-metrics.md`, the reference of all metrics of packs, is up to date. `DICHROIC_BLESS=1` regenerates it.

use dichroic_model::names::page_name;
use dichroic_model::{MetricKind, NameStyle};
use dichroic_packs::{Buckets, Definition, DefinitionType, Pack, Packs};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const HEAD: &str = "\
# Metrics of packs

<!-- Generated from collector/packs/packs by `DICHROIC_BLESS=1 cargo test -p dichroic-packs --test reference`. -->

Every metric that a pack defines: its name on the Prometheus page, its dotted name (for `catalog`, `tap` and Python), type, labels, and the
event that it counts. Labels of the source (`job`, `instance`) and `runtime` for families that runtimes share come in addition; on the page a dot in a label's name is an underscore. A histogram without
listed bounds has exponential buckets; on the page they appear as classic buckets. `${…}` is filled from the node or from `metrics.variables`.
";

fn kind(definition: &Definition) -> MetricKind {
    match definition.kind {
        DefinitionType::Counter => MetricKind::COUNTER,
        DefinitionType::Sum => MetricKind::Sum {
            monotonic: definition.monotonic,
        },
        DefinitionType::LastValue => MetricKind::Gauge,
        DefinitionType::Summary | DefinitionType::Distribution => MetricKind::Histogram,
    }
}

fn type_text(definition: &Definition) -> &'static str {
    match (kind(definition), &definition.buckets) {
        (MetricKind::Sum { monotonic: true }, _) => "counter",
        (MetricKind::Histogram, Some(Buckets::Bounds(_))) => "histogram",
        (MetricKind::Histogram, _) => "histogram (exponential)",
        _ => "gauge",
    }
}

/// One row for each name: definitions with the same name are one metric, counted from several events.
fn rows(pack: &Pack) -> String {
    let mut metrics: BTreeMap<&str, Vec<&Definition>> = BTreeMap::new();
    for definition in &pack.definitions {
        metrics.entry(&definition.name).or_default().push(definition);
    }
    let mut text = String::new();
    for (name, definitions) in metrics {
        let first = definitions[0];
        let style = match first.verbatim {
            true => NameStyle::Verbatim,
            false => NameStyle::OpenTelemetry,
        };
        let unit = first.unit.as_ref().map_or("", |unit| unit.base());
        let page = page_name(name, unit, kind(first), style);
        let total = if page.total { "_total" } else { "" };
        let labels: BTreeSet<&str> = definitions
            .iter()
            .flat_map(|d| d.tags.keys().chain(d.labels.keys()).chain(&d.measurement_tag))
            .map(String::as_str)
            .collect();
        let labels = labels.iter().map(|label| format!("`{label}`"));
        let events: BTreeSet<&str> = definitions.iter().map(|d| d.event.0.as_str()).collect();
        let events = events.iter().map(|event| format!("`{event}`"));
        let _ = writeln!(
            text,
            "| `{}{total}`<br>`{name}` | {} | {} | {} | {} |",
            page.base,
            type_text(first),
            labels.collect::<Vec<_>>().join(", "),
            events.collect::<Vec<_>>().join(", "),
            first.help.replace('|', "\\|"),
        );
    }
    text
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for pack in Packs::builtin()
        .iter()
        .filter(|pack| !pack.definitions.is_empty())
    {
        let _ = write!(
            text,
            "\n## {}\n\n{} Checked against the library: {}.\n\n| metric | type | labels | from event | meaning |\n|---|---|---|---|---|\n{}",
            pack.name,
            pack.help,
            pack.checked,
            rows(pack)
        );
    }
    text
}

#[test]
fn the_metrics_reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pack-metrics.md");
    let expected = reference();
    if std::env::var_os("DICHROIC_BLESS").is_some() {
        std::fs::write(path, &expected).unwrap();
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        text == expected,
        "docs/pack-metrics.md is out of date; run: DICHROIC_BLESS=1 cargo test -p dichroic-packs --test reference"
    );
}
