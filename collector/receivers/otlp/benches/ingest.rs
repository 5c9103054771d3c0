//! OTLP bytes to cells: nanoseconds per point for 100,000 known series with five attributes, half of them histograms, compared
//! with a copy and a hash of the same bytes, decoding with the generated types, and the first pass, which defines the series. Run with `cargo bench`.

use dichroic_model::{Fingerprinter, Identity, Limits, Seed};
use dichroic_pipeline::Core;
use dichroic_receiver_otlp::{Ingest, Service};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
    number_data_point,
};
use prost::Message;
use std::hint::black_box;
use std::sync::Arc;

const SERIES: usize = 100_000;
const SAMPLES: usize = 7;
const SAMPLE_NS: f64 = 150e6;
const TIME: u64 = 1_700_000_000_000_000_000;

fn attributes(n: usize) -> Vec<KeyValue> {
    let method = ["GET", "POST", "PUT", "DELETE"][n % 4];
    let pairs = [
        ("http.request.method", method.to_owned()),
        ("http.response.status_code", (200 + n % 7).to_string()),
        ("http.route", format!("/api/v1/users/{{id}}/orders/{}", n / 28)),
        ("server.address", "shop.internal.example".to_owned()),
        ("url.scheme", "https".to_owned()),
    ];
    let pair = |(key, value): (&str, String)| KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value)),
        }),
        ..Default::default()
    };
    pairs.into_iter().map(pair).collect()
}

fn sum(first: usize, points: usize) -> Data {
    let point = |n| NumberDataPoint {
        attributes: attributes(n),
        start_time_unix_nano: TIME,
        time_unix_nano: TIME + 1,
        value: Some(number_data_point::Value::AsInt(n as i64)),
        ..Default::default()
    };
    Data::Sum(Sum {
        data_points: (first..first + points).map(point).collect(),
        aggregation_temporality: 2,
        is_monotonic: true,
    })
}

fn histogram(first: usize, points: usize) -> Data {
    let bounds = vec![
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ];
    let point = |n: usize| HistogramDataPoint {
        attributes: attributes(n),
        start_time_unix_nano: TIME,
        time_unix_nano: TIME + 1,
        count: 15 * (n as u64 % 100),
        sum: Some(n as f64 * 0.1),
        bucket_counts: vec![n as u64 % 100; bounds.len() + 1],
        explicit_bounds: bounds.clone(),
        min: Some(0.001),
        max: Some(9.0),
        ..Default::default()
    };
    Data::Histogram(Histogram {
        data_points: (first..first + points).map(point).collect(),
        aggregation_temporality: 2,
    })
}

/// Requests of `points` points that together touch every series once.
fn requests(points: usize) -> Vec<Vec<u8>> {
    let half = points / 2;
    let request = |first: usize| {
        let metrics = [
            ("requests", sum(first, half)),
            ("duration", histogram(first, points - half)),
        ];
        let metric = |(name, data): (&str, Data)| Metric {
            name: format!("http.server.{name}"),
            data: Some(data),
            ..Default::default()
        };
        let scope = ScopeMetrics {
            metrics: metrics.into_iter().map(metric).collect(),
            ..Default::default()
        };
        let resource = ResourceMetrics {
            scope_metrics: vec![scope],
            ..Default::default()
        };
        ExportMetricsServiceRequest {
            resource_metrics: vec![resource],
        }
        .encode_to_vec()
    };
    (0..SERIES / 2).step_by(half).map(request).collect()
}

/// CPU time of this thread in nanoseconds: wall time is unreliable on a loaded machine.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ran = stat.split(' ').next().and_then(|ns| ns.parse().ok());
    ran.expect("Linux reports the CPU time of a thread")
}

/// Minimum and median nanoseconds per point of `round`, which applies all requests once. A sample is many rounds, because the
/// kernel counts in ticks of a few milliseconds.
fn measure(mut round: impl FnMut()) -> (f64, f64) {
    let mut sample = || {
        let (start, mut rounds) = (cpu_time(), 0);
        loop {
            round();
            rounds += 1;
            let spent = cpu_time() - start;
            if spent >= SAMPLE_NS {
                return spent / f64::from(rounds) / SERIES as f64;
            }
        }
    };
    let mut samples: Vec<f64> = (0..SAMPLES).map(|_| sample()).collect();
    samples.sort_by(f64::total_cmp);
    (samples[0], samples[SAMPLES / 2])
}

fn bench(points: usize) {
    let requests = requests(points);
    let bytes: usize = requests.iter().map(Vec::len).sum();
    let mut store = Core::new(Limits::default(), Arc::new(Identity), TIME);
    let mut ingest = Ingest::default();
    let mut copy = Vec::new();
    let memcpy = measure(|| {
        for body in &requests {
            copy.clear();
            copy.extend_from_slice(body);
            black_box(&copy);
        }
    });
    let fingerprints = Fingerprinter::new(Seed(1), 1);
    let hash = measure(|| {
        requests
            .iter()
            .for_each(|body| _ = black_box(fingerprints.of(body)))
    });
    let start = cpu_time();
    for body in &requests {
        ingest.metrics(&mut store, body, TIME).expect("a valid request");
    }
    let first = (cpu_time() - start) / SERIES as f64;
    assert_eq!(store.series(), SERIES);
    let bodies: Vec<bytes::Bytes> = requests.iter().cloned().map(Into::into).collect();
    let known = measure(|| {
        for body in &bodies {
            let mut request = ingest
                .begin(&store, Service::Metrics, body.clone())
                .expect("a valid request");
            while ingest.step(&mut store, &mut request, usize::MAX, TIME).is_none() {}
        }
    });
    let generated = measure(|| {
        for body in &requests {
            black_box(ExportMetricsServiceRequest::decode(&**body).expect("a valid request"));
        }
    });
    assert!(store.ledger().balances());
    let line = |name: &str, (least, median): (f64, f64)| {
        println!(
            "  {name:<40} {least:7.1} {median:7.1} ns/point, {:5.1} x copy",
            least / memcpy.0
        );
    };
    println!(
        "{points} points a request, {} bytes a point: least, median",
        bytes / SERIES
    );
    line("copy of the bytes", memcpy);
    line("hash of the bytes", hash);
    line("known series, bytes to cells", known);
    line("new series (once)", (first, first));
    line("generated types, decoded only", generated);
    println!("  budget 100 ns/point, ratio {:.2}", known.0 / 100.0);
}

fn main() {
    for points in [100, 1_000] {
        bench(points);
    }
}
