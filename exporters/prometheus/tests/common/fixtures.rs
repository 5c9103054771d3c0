//! A store with one series of each interesting form.

use super::{Def, Kit, NOW};
use dichroic_model::{Attributes, Exemplar, Factor, MetricKind, Number, Protocol, Source};
use dichroic_pipeline::{Buckets, ExponentialPoint, SeriesRef};
use std::sync::Arc;

/// Every kind, both runtimes, texts that need escapes, extreme numbers, values that a format forbids.
pub fn everything() -> Kit {
    let mut kit = Kit::default();
    let sources = Sources::open(&mut kit);
    let duration = histograms(&mut kit, &sources);
    let counter = counters(&mut kit, &sources);
    gauges(&mut kit, &sources);
    scraped(&mut kit, &sources);
    states(&mut kit, &sources);
    exponential_histograms(&mut kit, &sources);
    summaries(&mut kit, &sources);
    name_conflicts(&mut kit);
    exemplars(&mut kit, duration, counter);
    kit
}

/// Three sources, one per protocol.
struct Sources {
    beam: Arc<Source>,
    otlp: Arc<Source>,
    web: Arc<Source>,
}

impl Sources {
    fn open(kit: &mut Kit) -> Self {
        let node = [
            ("service.name", "shop"),
            ("host.name", "h\"1\""),
            ("telemetry.sdk.language", "erlang"),
        ];
        let beam = kit.source(Protocol::Beam, "shop", "shop@h1", &node);
        let otlp = kit.source(
            Protocol::Otlp,
            "worker",
            "worker-1",
            &[("service.version", "1.0")],
        );
        let web = kit.source(Protocol::Prometheus, "web", "127.0.0.1:8000", &[]);
        Sources { beam, otlp, web }
    }
}

/// Returns a histogram in nanoseconds.
fn histograms(kit: &mut Kit, sources: &Sources) -> SeriesRef {
    let ns = Factor::new(1, 1_000_000_000).unwrap();
    let duration_bounds = [0.005, 0.1, 1.0, 10.0];

    // One family of two runtimes, in raw nanoseconds and in seconds.
    let mut duration = Def::otel("http.server.request.duration", "s", MetricKind::Histogram)
        .help("Duration of HTTP server requests.")
        .bounds(&duration_bounds);
    let raw = Def {
        factor: ns,
        ..duration.clone()
    };
    let fast = kit.histogram(
        &sources.beam,
        &raw,
        &[("http.route", "/a\\b\"c\"\nd")],
        &[3, 2, 1, 0, 1],
        Some(Number::int(12_345_678_901)),
    );
    duration.help = "another help";
    kit.histogram(
        &sources.otlp,
        &duration,
        &[("http.route", "/")],
        &[0, 0, 0, 0, 0],
        Some(Number::float(0.0)),
    );
    kit.histogram(
        &sources.otlp,
        &Def::otel("sumless", "By", MetricKind::Histogram).bounds(&[1e6, 1e7]),
        &[],
        &[1, 2, 3],
        None,
    );
    kit.histogram(
        &sources.otlp,
        &Def::otel("below.zero", "Cel", MetricKind::Histogram).bounds(&[-10.0, 0.0, 10.0]),
        &[],
        &[1, 2, 3, 4],
        Some(Number::int(-7)),
    );
    kit.histogram(
        &sources.web,
        &Def::scraped("boundless", MetricKind::Histogram).bounds(&[]),
        &[("le", "taken")],
        &[5],
        Some(Number::int(5)),
    );
    kit.histogram(
        &sources.web,
        &Def::scraped("queue", MetricKind::GaugeHistogram)
            .bounds(&[1.0])
            .help("Waiting."),
        &[("q", "a")],
        &[2, 1],
        Some(Number::int(4)),
    );
    kit.histogram(
        &sources.web,
        &Def::scraped("queue", MetricKind::GaugeHistogram).bounds(&[1.0]),
        &[("q", "b")],
        &[0, 1],
        None,
    );
    fast
}

/// Returns a counter.
fn counters(kit: &mut Kit, sources: &Sources) -> SeriesRef {
    let requests =
        Def::otel("oban.job.count", "{job}", MetricKind::COUNTER).help("Jobs: \"all\", one\\two\nlines");
    let counted = kit.number(
        &sources.beam,
        &requests,
        &[("state", "ok")],
        Number::int(i64::MAX),
    );
    kit.number(&sources.beam, &requests, &[("state", "жара")], Number::int(7));
    kit.number(&sources.otlp, &requests, &[], Number::float(0.1));
    kit.number(
        &sources.otlp,
        &Def::otel("broken.count", "", MetricKind::COUNTER),
        &[],
        Number::float(f64::NAN),
    );
    counted
}

fn gauges(kit: &mut Kit, sources: &Sources) {
    kit.number(
        &sources.otlp,
        &Def::otel("load", "1", MetricKind::Gauge),
        &[("cpu", "0")],
        Number::float(0.25),
    );
    for (at, value) in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e300, 5e-324, -0.5]
        .into_iter()
        .enumerate()
    {
        kit.number(
            &sources.otlp,
            &Def::otel("strange", "", MetricKind::Gauge),
            &[("at", &at.to_string())],
            Number::float(value),
        );
    }
    kit.number(
        &sources.beam,
        &Def::otel("vm.memory", "By", MetricKind::Gauge),
        &[("type", "atom")],
        Number::int(1 << 40),
    );
    kit.number(
        &sources.beam,
        &Def::otel("busy.time", "ms", MetricKind::COUNTER),
        &[],
        Number::int(1_500),
    );
    kit.number(
        &sources.otlp,
        &Def::otel("open", "{connection}", MetricKind::Sum { monotonic: false }),
        &[],
        Number::int(-3),
    );
}

fn scraped(kit: &mut Kit, sources: &Sources) {
    kit.number(
        &sources.web,
        &Def::scraped("http_requests_total", MetricKind::COUNTER).help("Requests."),
        &[("job", "theirs"), ("code", "200")],
        Number::float(1027.0),
    );
    kit.number(
        &sources.web,
        &Def::scraped("oldcounter", MetricKind::COUNTER),
        &[],
        Number::int(5),
    );
    kit.number(
        &sources.web,
        &Def::scraped("vllm:tokens", MetricKind::Unknown),
        &[],
        Number::float(1e9),
    );
    kit.number(
        &sources.web,
        &Def {
            unit: "seconds",
            ..Def::scraped("process_start_time_seconds", MetricKind::Gauge)
        },
        &[],
        Number::float(1.7e9),
    );
    kit.number(
        &sources.web,
        &Def::scraped("python", MetricKind::Info).help("Python."),
        &[("version", "3.11")],
        Number::int(1),
    );
}

fn states(kit: &mut Kit, sources: &Sources) {
    for set in ["a", "b"] {
        kit.number(
            &sources.web,
            &Def::scraped("mode", MetricKind::StateSet),
            &[("mode", "on"), ("set", set)],
            Number::int(1),
        );
    }
    for set in ["a", "b"] {
        kit.number(
            &sources.web,
            &Def::scraped("mode", MetricKind::StateSet),
            &[("mode", "off"), ("set", set)],
            Number::int(0),
        );
    }
}

fn exponential_histograms(kit: &mut Kit, sources: &Sources) {
    let point = ExponentialPoint {
        scale: 0,
        zero_count: 1,
        zero_threshold: 0.0,
        positive: Buckets {
            offset: -3,
            counts: &[4, 0, 2, 1, 0, 0, 1],
        },
        negative: Buckets::default(),
        sum: Some(Number::float(20.5)),
        min_max: None,
    };
    kit.exponential(
        &sources.otlp,
        &Def::otel(
            "db.client.operation.duration",
            "s",
            MetricKind::ExponentialHistogram,
        ),
        &point,
    );
    kit.exponential(
        &sources.otlp,
        &Def::otel("body.size", "By", MetricKind::ExponentialHistogram),
        &point,
    );
    kit.exponential(
        &sources.otlp,
        &Def::otel("items", "{item}", MetricKind::ExponentialHistogram),
        &point,
    );
}

fn summaries(kit: &mut Kit, sources: &Sources) {
    kit.summary(
        &sources.web,
        &Def::scraped("gc_seconds", MetricKind::Summary),
        &[(0.0, 0.1), (0.5, 0.2), (1.0, 3.0)],
        Number::float(5.5),
    );
    kit.summary(
        &sources.web,
        &Def::scraped("drift", MetricKind::Summary),
        &[(0.5, -1.0), (0.99, f64::NAN)],
        Number::float(-2.0),
    );
}

/// A target that exposes `target_info`, and a name that a family of another type has taken.
fn name_conflicts(kit: &mut Kit) {
    let shown = kit.source(Protocol::Prometheus, "own", "127.0.0.1:9", &[]);
    kit.number(
        &shown,
        &Def::scraped("target", MetricKind::Info),
        &[("service_name", "own")],
        Number::int(1),
    );
    kit.number(
        &shown,
        &Def::scraped("oldcounter", MetricKind::Gauge),
        &[("other_type", "yes")],
        Number::int(1),
    );
}

fn exemplars(kit: &mut Kit, duration: SeriesRef, counter: SeriesRef) {
    let example = |value, trace: &str| Exemplar {
        value,
        time: NOW,
        attributes: Attributes::of(&[("trace_id", trace), ("span_id", "00f067aa0ba902b7")]),
    };
    kit.store.set_exemplar(
        duration,
        example(50_000_000.0, "4bf92f3577b34da6a3ce929d0e0e4736"),
    );
    kit.store
        .set_exemplar(counter, example(1.0, "a3ce929d0e0e47364bf92f3577b34da6"));
}
