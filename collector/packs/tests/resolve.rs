//! Resolution of series by the built-in packs: metrics that runtimes share, and their older names.

use dichroic_model::{
    AttributeValue, Factor, MetricKind, NameStyle, Protocol, Query, Resolver, Runtime, Scope, SeriesDef,
    Source, SourceId, SourceSpec, Temporality,
};
use dichroic_packs::{PackResolver, Packs};

fn resolve(name: &str, unit: &str, kind: MetricKind, style: NameStyle) -> dichroic_model::Resolution {
    let spec = SourceSpec {
        name: "s".into(),
        runtime: Runtime::Python,
        job: "j".into(),
        instance: "i".into(),
        ..SourceSpec::new(Protocol::Otlp, "")
    };
    let source = Source {
        id: SourceId(1),
        spec,
    };
    let def = SeriesDef {
        source: source.id,
        scope: &Scope::default(),
        name,
        style,
        unit,
        help: "",
        kind,
        temporality: Temporality::Cumulative,
        factor: Factor::ONE,
        attributes: vec![("http.method".into(), AttributeValue::from("GET"))],
        start: 0,
        bounds: None,
    };
    PackResolver::builtin().resolve(&Query {
        source: &source,
        def: &def,
    })
}

const OTEL: NameStyle = NameStyle::OpenTelemetry;
const HISTOGRAM: MetricKind = MetricKind::Histogram;

/// Resolves a series and compares whether it is shared, its name, unit and factor.
fn check(
    (name, unit, kind, style): (&str, &str, MetricKind, NameStyle),
    mapped: bool,
    expected: (&str, &str, Factor),
) {
    let r = resolve(name, unit, kind, style);
    assert_eq!(
        (r.mapped, (r.name.as_str(), r.unit.as_str(), r.factor)),
        (mapped, expected),
        "{name} {unit}"
    );
}

fn millis() -> Factor {
    Factor::new(1, 1_000).unwrap()
}

const SERVER: &str = "http.server.request.duration";
const CLIENT: &str = "http.client.request.duration";
const DATABASE: &str = "db.client.operation.duration";
const EXPONENTIAL: MetricKind = MetricKind::ExponentialHistogram;

#[test]
fn durations_of_the_semantic_conventions_are_shared_by_all_runtimes() {
    check((SERVER, "s", HISTOGRAM, OTEL), true, (SERVER, "s", Factor::ONE));
    check((SERVER, "ms", HISTOGRAM, OTEL), true, (SERVER, "s", millis()));
    check((SERVER, "s", EXPONENTIAL, OTEL), true, (SERVER, "s", Factor::ONE));
    check(
        (DATABASE, "s", HISTOGRAM, OTEL),
        true,
        (DATABASE, "s", Factor::ONE),
    );
    let (old_server, old_client) = ("http.server.duration", "http.client.duration");
    check((old_server, "ms", HISTOGRAM, OTEL), true, (SERVER, "s", millis()));
    check((old_client, "ms", HISTOGRAM, OTEL), true, (CLIENT, "s", millis()));
    check(
        (old_server, "ms", EXPONENTIAL, OTEL),
        true,
        (SERVER, "s", millis()),
    );
}

#[test]
fn series_that_cannot_be_converted_are_not_shared() {
    // The same name with another unit or type.
    check(
        (SERVER, "By", HISTOGRAM, OTEL),
        false,
        (SERVER, "By", Factor::ONE),
    );
    check(
        (SERVER, "s", MetricKind::COUNTER, OTEL),
        false,
        (SERVER, "s", Factor::ONE),
    );
    // Any other metric gets its base unit only.
    check(
        ("my.thing", "ms", HISTOGRAM, OTEL),
        false,
        ("my.thing", "s", millis()),
    );
    check(
        ("my.thing", "ms", EXPONENTIAL, OTEL),
        false,
        ("my.thing", "s", millis()),
    );
}

#[test]
fn scraped_series_are_shared_but_not_changed() {
    let (verbatim, scraped) = (NameStyle::Scraped, "http_server_request_duration_seconds");
    check(
        (scraped, "", HISTOGRAM, verbatim),
        true,
        (scraped, "", Factor::ONE),
    );
    let old = "http_server_duration";
    check((old, "", HISTOGRAM, verbatim), false, (old, "", Factor::ONE));
}

#[test]
fn older_attributes_are_renamed_only_with_an_older_metric_name() {
    let old = resolve("http.server.duration", "ms", HISTOGRAM, OTEL);
    assert!(
        old.rename
            .contains(&("http.method".into(), "http.request.method".into()))
    );
    assert!(
        old.rename
            .contains(&("http.status_code".into(), "http.response.status_code".into()))
    );
    assert!(
        resolve("http.server.request.duration", "s", HISTOGRAM, OTEL)
            .rename
            .is_empty()
    );
}

#[test]
fn every_resolver_has_a_unique_generation() {
    let packs = Packs::builtin();
    assert_ne!(
        PackResolver::new(&packs).generation(),
        PackResolver::new(&packs).generation()
    );
}
