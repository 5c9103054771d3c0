//! What series of any source mean: which are shared across runtimes, and under which names.
#![allow(clippy::too_many_lines, reason = "a test reads best in one piece")]

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
        bounds: None,
    };
    PackResolver::builtin().resolve(&Query {
        source: &source,
        def: &def,
    })
}

const OTEL: NameStyle = NameStyle::OpenTelemetry;
const HISTOGRAM: MetricKind = MetricKind::Histogram;

#[test]
fn a_duration_of_the_conventions_is_shared_whoever_sends_it() {
    let check = |name, unit, kind, style, mapped, expected: (&str, &str, Factor)| {
        let r = resolve(name, unit, kind, style);
        assert_eq!(
            (r.mapped, r.name.as_str(), r.unit.as_str(), r.factor),
            (mapped, expected.0, expected.1, expected.2),
            "{name} {unit}"
        );
    };
    let ms = Factor::new(1, 1_000).unwrap();
    let exponential = MetricKind::ExponentialHistogram;
    let server = "http.server.request.duration";
    check(server, "s", HISTOGRAM, OTEL, true, (server, "s", Factor::ONE));
    check(server, "ms", HISTOGRAM, OTEL, true, (server, "s", ms));
    check(server, "s", exponential, OTEL, true, (server, "s", Factor::ONE));
    check(
        "http.server.duration",
        "ms",
        HISTOGRAM,
        OTEL,
        true,
        (server, "s", ms),
    );
    check(
        "http.client.duration",
        "ms",
        HISTOGRAM,
        OTEL,
        true,
        ("http.client.request.duration", "s", ms),
    );
    check(
        "db.client.operation.duration",
        "s",
        HISTOGRAM,
        OTEL,
        true,
        ("db.client.operation.duration", "s", Factor::ONE),
    );
    // Exponential buckets cannot be rescaled.
    check(
        "http.server.duration",
        "ms",
        exponential,
        OTEL,
        false,
        ("http.server.duration", "ms", Factor::ONE),
    );
    // The same name for something else.
    check(server, "By", HISTOGRAM, OTEL, false, (server, "By", Factor::ONE));
    check(
        server,
        "s",
        MetricKind::COUNTER,
        OTEL,
        false,
        (server, "s", Factor::ONE),
    );
    // Scraped: to the letter, but shared.
    let scraped = "http_server_request_duration_seconds";
    check(
        scraped,
        "",
        HISTOGRAM,
        NameStyle::Verbatim,
        true,
        (scraped, "", Factor::ONE),
    );
    check(
        "http_server_duration",
        "",
        HISTOGRAM,
        NameStyle::Verbatim,
        false,
        ("http_server_duration", "", Factor::ONE),
    );
    // Everything else has its base unit and no more.
    check("my.thing", "ms", HISTOGRAM, OTEL, false, ("my.thing", "s", ms));
}

#[test]
fn attributes_that_changed_their_names_are_renamed_with_the_old_name_only() {
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
fn every_resolver_has_a_generation_of_its_own() {
    let packs = Packs::builtin();
    assert_ne!(
        PackResolver::new(&packs).generation(),
        PackResolver::new(&packs).generation()
    );
}
