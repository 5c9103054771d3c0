//! Requests of OTLP.

use crate::TIME;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as Any,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, exemplar,
    exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    summary_data_point::ValueAtQuantile,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

fn pair(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    }
}

fn texts(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs
        .iter()
        .map(|(key, value)| pair(key, Any::StringValue((*value).to_owned())))
        .collect()
}

fn point(value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: texts(&[("a", "x"), ("b", "ключ")]),
        start_time_unix_nano: TIME - 1,
        time_unix_nano: TIME,
        value: Some(value),
        ..Default::default()
    }
}

fn buckets() -> HistogramDataPoint {
    HistogramDataPoint {
        time_unix_nano: TIME,
        count: 6,
        sum: Some(1.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![1.0, 2.0],
        min: Some(0.5),
        max: Some(3.0),
        ..Default::default()
    }
}

fn exponential_buckets() -> ExponentialHistogramDataPoint {
    let side = |offset| {
        Some(Buckets {
            offset,
            bucket_counts: vec![4, 5],
        })
    };
    ExponentialHistogramDataPoint {
        time_unix_nano: TIME,
        count: 20,
        sum: Some(1.5),
        scale: 1,
        zero_count: 2,
        positive: side(3),
        negative: side(-2),
        ..Default::default()
    }
}

fn summary() -> Summary {
    let point = SummaryDataPoint {
        time_unix_nano: TIME,
        count: 3,
        sum: 4.0,
        quantile_values: vec![ValueAtQuantile {
            quantile: 0.5,
            value: 1.0,
        }],
        ..Default::default()
    };
    Summary {
        data_points: vec![point],
    }
}

/// A request with one metric of each kind.
pub fn metrics(aggregation_temporality: i32) -> Vec<u8> {
    let exemplar = Exemplar {
        time_unix_nano: TIME,
        value: Some(exemplar::Value::AsInt(7)),
        trace_id: vec![1; 16],
        ..Default::default()
    };
    let number = NumberDataPoint {
        exemplars: vec![exemplar],
        ..point(number_data_point::Value::AsInt(7))
    };
    let gauge = Gauge {
        data_points: vec![number.clone(), point(number_data_point::Value::AsDouble(0.5))],
    };
    let sum = Sum {
        data_points: vec![number],
        aggregation_temporality,
        is_monotonic: true,
    };
    let histogram = Histogram {
        data_points: vec![buckets()],
        aggregation_temporality,
    };
    let exponential = ExponentialHistogram {
        data_points: vec![exponential_buckets()],
        aggregation_temporality,
    };
    let data = [
        ("g", Data::Gauge(gauge)),
        ("c", Data::Sum(sum)),
        ("h", Data::Histogram(histogram)),
        ("e", Data::ExponentialHistogram(exponential)),
        ("s", Data::Summary(summary())),
    ];
    let metrics = data.map(|(name, data)| Metric {
        name: name.to_owned(),
        unit: "ms".to_owned(),
        data: Some(data),
        ..Default::default()
    });
    let scope = ScopeMetrics {
        scope: Some(InstrumentationScope {
            name: "lib".to_owned(),
            version: "1".to_owned(),
            ..Default::default()
        }),
        metrics: metrics.to_vec(),
        ..Default::default()
    };
    let resource = Resource {
        attributes: texts(&[("service.name", "shop"), ("service.instance.id", "1")]),
        ..Default::default()
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![scope],
            ..Default::default()
        }],
    };
    request.encode_to_vec()
}

pub fn logs() -> Vec<u8> {
    let list = Any::ArrayValue(ArrayValue {
        values: vec![
            AnyValue {
                value: Some(Any::BoolValue(true)),
            },
            AnyValue {
                value: Some(Any::BytesValue(vec![1, 2])),
            },
        ],
    });
    let record = LogRecord {
        time_unix_nano: TIME,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(AnyValue {
            value: Some(Any::StringValue("hello".to_owned())),
        }),
        attributes: vec![
            pair("n", Any::IntValue(-1)),
            pair("x", Any::DoubleValue(0.5)),
            pair("l", list),
        ],
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        event_name: "e".to_owned(),
        ..Default::default()
    };
    let scope = ScopeLogs {
        log_records: vec![record],
        ..Default::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![scope],
            ..Default::default()
        }],
    };
    request.encode_to_vec()
}
