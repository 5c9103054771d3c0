//! Rendering 100,000 series: nanoseconds per series, compared with the budget and with a copy of the same bytes.
//!
//! Run with `cargo bench -p dichroic-exporter-prometheus`; `PAGE_BENCH=float` runs only one part. Prints the best of several rounds,
//! because noise only adds time.

use dichroic_exporter_prometheus::{Format, Options, Renderer};
use dichroic_model::{
    AttributeValue, Factor, Fingerprint, Identity, Limits, MetricKind, NameStyle, Number, Protocol, Runtime,
    SECOND, Scope, SeriesDef, SourceSpec, Temporality,
};
use dichroic_pipeline::{Core, HistogramPoint, Job, Progress, Row, Snapshot, SnapshotRequest, Times};
use flate2::{Compression, write::GzEncoder};
use std::borrow::Cow;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

const SERIES: u64 = 100_000;
const NOW: u64 = 1_700_000_000 * SECOND;
const ROUNDS: usize = 15;

fn rows(kind: MetricKind, value: impl Fn(u64) -> Number) -> Vec<Vec<Row>> {
    let mut store = Core::new(Limits::default(), Arc::new(Identity), NOW);
    let spec = SourceSpec {
        name: "bench".into(),
        runtime: Runtime::Python,
        job: "shop/checkout".into(),
        instance: "627cc493-f310-47de-96bd-71410b7dec09".into(),
        ..SourceSpec::new(Protocol::Otlp, "")
    };
    let source = store.open_source(spec, NOW).unwrap();
    let bounds: [f64; 14] = [
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ];
    for at in 0..SERIES {
        let (route, shard) = (format!("/api/v1/items/{}", at % 500), (at / 500).to_string());
        let attributes = [
            ("http.route", route.as_str()),
            ("http.request.method", "GET"),
            ("shard", shard.as_str()),
        ];
        // Fifty metrics of two thousand series.
        let name = format!("bench.metric{:02}", at / 2_000);
        let def = SeriesDef {
            source: source.id,
            scope: &Scope::default(),
            name: &name,
            style: NameStyle::OpenTelemetry,
            unit: "",
            help: "A help text.",
            kind,
            temporality: Temporality::Cumulative,
            factor: Factor::ONE,
            attributes: attributes
                .map(|(k, v)| (Cow::Borrowed(k), AttributeValue::from(v)))
                .into(),
            start: 0,
            bounds: (kind == MetricKind::Histogram).then(|| bounds.into()),
        };
        let series = store.define(Fingerprint { low: at, high: !at }, def).unwrap();
        if kind == MetricKind::Histogram {
            let counts: Vec<u64> = (0..15).map(|b| at * b % 97).collect();
            let point = HistogramPoint {
                counts: &counts,
                sum: Some(value(at)),
                min_max: None,
            };
            store.set_histogram(series, &point, Times::at(NOW)).unwrap();
        } else {
            store.set_number(series, value(at), Times::at(NOW)).unwrap();
        }
    }
    let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while job.step(&mut store, &mut cx) != Progress::Done {
        all.extend(std::iter::from_fn(|| chunks.try_recv()));
    }
    all
}

fn best(mut work: impl FnMut()) -> f64 {
    let once = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_nanos() as f64 / SERIES as f64
    };
    (0..ROUNDS).map(|_| once(&mut work)).fold(f64::INFINITY, f64::min)
}

fn run(name: &str, budget: Option<f64>, chunks: &[Vec<Row>]) {
    for (format, format_name) in [(Format::Text, "text"), (Format::OpenMetrics, "openmetrics")] {
        let mut renderer = Renderer::new(format, Options::default());
        let ns = best(|| {
            renderer.clear();
            chunks.iter().for_each(|chunk| renderer.chunk(chunk));
            black_box(renderer.finish([]));
        });
        let page = renderer.bytes().to_vec();
        let mut copy = vec![0_u8; page.len()];
        let plain = best(|| {
            copy.copy_from_slice(black_box(&page));
            black_box(&copy);
        });
        let bytes = page.len() as f64 / SERIES as f64;
        let against = budget.map_or(String::new(), |b| format!("  budget {b:.0}, ratio {:.2}", ns / b));
        let label = format!("page/{name}/{format_name}");
        let times = ns / plain;
        println!("{label:<28}{ns:8.1} ns/series {bytes:7.0} B/series  memcpy x{times:.1}{against}");
        if name == "int" && format == Format::Text {
            let ns = best(|| {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
                encoder
                    .write_all(black_box(&page))
                    .expect("writing to memory does not fail");
                black_box(encoder.finish().expect("writing to memory does not fail"));
            });
            println!("{:<28}{ns:8.1} ns/series", format!("page/{name}/gzip"));
        }
    }
}

fn main() {
    let only = std::env::var("PAGE_BENCH").ok();
    let enabled = |name| only.as_deref().is_none_or(|only| only == name);
    if enabled("int") {
        let rows = rows(MetricKind::COUNTER, |at| Number::int((at * 7919) as i64));
        run("int", Some(30.0), &rows);
    }
    if enabled("float") {
        let rows = rows(MetricKind::Gauge, |at| Number::float((at as f64 + 0.5).sqrt()));
        run("float", Some(60.0), &rows);
    }
    if enabled("histogram") {
        let rows = rows(MetricKind::Histogram, |at| Number::float(at as f64 * 0.37));
        run("histogram", None, &rows);
    }
}
