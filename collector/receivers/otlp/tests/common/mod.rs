//! A store behind a receiver, requests from the generated types, and the resulting rows and accounts as text.
#![allow(dead_code, unused_imports, reason = "each test uses its part")]

use bytes::Bytes;
use dichroic_model::{Identity, Limits};
use dichroic_pipeline::SnapshotRequest;
use dichroic_pipeline::{Core, Job, Progress, Row, RowValue, Snapshot};
use dichroic_receiver_otlp::{Ingest, MalformedRequest, RequestOutcome, Service, json};
pub use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
pub use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
pub use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    summary_data_point::ValueAtQuantile,
};
pub use opentelemetry_proto::tonic::resource::v1::Resource;
pub use prost::Message;
use std::sync::Arc;
use std::task::{Context, Waker};

pub const SECOND: u64 = 1_000_000_000;
/// Start of the tests' store, and the time of most points.
pub const EPOCH: u64 = 1_700_000_000 * SECOND;
pub const DELTA: i32 = AggregationTemporality::Delta as i32;
pub const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

pub struct World {
    pub store: Core,
    pub ingest: Ingest,
    pub now: u64,
}

impl World {
    pub fn new() -> Self {
        World::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        World {
            store: Core::new(limits, Arc::new(Identity), EPOCH - SECOND),
            ingest: Ingest::default(),
            now: EPOCH,
        }
    }

    pub fn take(&mut self, service: Service, body: &[u8]) -> Result<RequestOutcome, MalformedRequest> {
        let taken = match service {
            Service::Metrics => self.ingest.metrics(&mut self.store, body, self.now),
            Service::Logs => self.ingest.logs(&mut self.store, body, self.now),
            Service::Traces => self.ingest.traces(&mut self.store, body, self.now),
        };
        assert!(
            self.store.ledger().balances(),
            "the ledger balances after every request"
        );
        taken
    }

    pub fn json(&mut self, service: Service, text: &str) -> Result<RequestOutcome, String> {
        let body = json::to_protobuf(service, text.as_bytes()).map_err(|error| error.to_string())?;
        self.take(service, &body).map_err(|error| error.to_string())
    }

    pub fn metrics(&mut self, metrics: Vec<Metric>) -> RequestOutcome {
        self.take(Service::Metrics, &request(metrics).encode_to_vec())
            .expect("a good request")
    }

    pub fn rows(&mut self) -> Vec<Row> {
        let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut rows = Vec::new();
        loop {
            let progress = job.step(&mut self.store, &mut cx);
            while let Some(chunk) = chunks.try_recv() {
                rows.extend(chunk);
            }
            if progress == Progress::Done {
                return rows;
            }
        }
    }

    /// Name, labels without those of the source, value; sorted.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines: Vec<String> = self.rows().iter().map(line).collect();
        lines.sort();
        lines
    }

    /// Accounts of all sources, a line each.
    pub fn accounts(&self) -> Vec<String> {
        let ledger = self.store.ledger();
        ledger
            .accounts()
            .map(|(source, signal, account)| {
                let name = ledger.source_name(source).map_or("?", |(_, name)| name);
                let drops: String = account
                    .drops()
                    .map(|(reason, n)| format!(" {}={n}", reason.as_str()))
                    .collect();
                let (received, applied) = (account.received, account.applied);
                format!(
                    "{name} {} received={received} applied={applied}{drops}",
                    signal.as_str()
                )
            })
            .collect()
    }
}

pub fn line(row: &Row) -> String {
    let labels = row
        .meta
        .labels()
        .replace("job=\"shop\",", "")
        .replace("job=\"shop\"", "");
    let value = match &row.value {
        RowValue::Number(n) => match n.as_int() {
            Some(int) if n.float.to_bits() == 0 => format!("int {int}"),
            _ => format!("float {:?}", n.to_f64()),
        },
        RowValue::Histogram(h) => {
            let sum = h.sum.map(|sum| sum.to_f64());
            format!(
                "buckets {:?} {:?} sum {sum:?} extremes {:?}",
                h.bounds, h.counts, h.min_max
            )
        }
        RowValue::Exponential(e) => format!(
            "exponential scale {} zero {} {:?} {:?} sum {:?}",
            e.scale,
            e.zero_count,
            e.positive,
            e.negative,
            e.sum.map(|sum| sum.to_f64())
        ),
        RowValue::Summary(s) => format!("summary {} {:?} {:?}", s.count, s.sum.to_f64(), s.quantiles),
    };
    format!(
        "{}{{{labels}}} {} {value}",
        row.meta.metric.name,
        row.meta.metric.kind.as_str()
    )
}

pub fn some(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

pub fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: some(value),
        ..Default::default()
    }
}

pub fn attributes(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let text = |(key, value): &(&str, &str)| pair(key, Value::StringValue((*value).into()));
    pairs.iter().map(text).collect()
}

pub fn resource(pairs: &[(&str, &str)]) -> Option<Resource> {
    Some(Resource {
        attributes: attributes(pairs),
        ..Default::default()
    })
}

pub fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    request_of(&[("service.name", "shop")], metrics)
}

pub fn request_of(source: &[(&str, &str)], metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope = ScopeMetrics {
        scope: Some(InstrumentationScope {
            name: "lib".into(),
            version: "1".into(),
            ..Default::default()
        }),
        metrics,
        ..Default::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: resource(source),
            scope_metrics: vec![scope],
            ..Default::default()
        }],
    }
}

pub fn metric(name: &str, data: Data) -> Metric {
    Metric {
        name: name.into(),
        data: Some(data),
        ..Default::default()
    }
}

pub fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(name, Data::Gauge(Gauge { data_points }))
}

pub fn sum(name: &str, temporality: i32, monotonic: bool, data_points: Vec<NumberDataPoint>) -> Metric {
    let sum = Sum {
        data_points,
        aggregation_temporality: temporality,
        is_monotonic: monotonic,
    };
    metric(name, Data::Sum(sum))
}

pub fn histogram(name: &str, temporality: i32, data_points: Vec<HistogramDataPoint>) -> Metric {
    let histogram = Histogram {
        data_points,
        aggregation_temporality: temporality,
    };
    metric(name, Data::Histogram(histogram))
}

pub fn exponential(name: &str, temporality: i32, data_points: Vec<ExponentialHistogramDataPoint>) -> Metric {
    let histogram = ExponentialHistogram {
        data_points,
        aggregation_temporality: temporality,
    };
    metric(name, Data::ExponentialHistogram(histogram))
}

pub fn int(value: i64) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: EPOCH,
        value: Some(number_data_point::Value::AsInt(value)),
        ..Default::default()
    }
}

pub fn float(value: f64) -> NumberDataPoint {
    NumberDataPoint {
        value: Some(number_data_point::Value::AsDouble(value)),
        ..int(0)
    }
}

pub fn with(pairs: &[(&str, &str)], point: NumberDataPoint) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(pairs),
        ..point
    }
}

pub fn buckets(bounds: &[f64], counts: &[u64]) -> HistogramDataPoint {
    HistogramDataPoint {
        time_unix_nano: EPOCH,
        count: counts.iter().sum(),
        sum: Some(1.5),
        explicit_bounds: bounds.to_vec(),
        bucket_counts: counts.to_vec(),
        ..Default::default()
    }
}

pub fn exponential_buckets(
    scale: i32,
    zero: u64,
    offset: i32,
    counts: &[u64],
) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        time_unix_nano: EPOCH,
        count: zero + counts.iter().sum::<u64>(),
        sum: Some(1.5),
        scale,
        zero_count: zero,
        positive: Some(Buckets {
            offset,
            bucket_counts: counts.to_vec(),
        }),
        ..Default::default()
    }
}

pub fn body(metrics: Vec<Metric>) -> Bytes {
    request(metrics).encode_to_vec().into()
}
