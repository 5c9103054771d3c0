//! OTLP's JSON: the generated types must decode the converted bytes to the content of the text.

mod common;

use common::*;
use dichroic_receiver_otlp::{Service, json};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;

/// A metrics request with one metric of this text.
fn metrics_of(metric: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}}]}},
            "scopeMetrics":[{{"scope":{{"name":"lib","version":"1"}},"metrics":[{metric}]}}]}}]}}"#
    )
}

fn decoded(text: &str) -> Result<ExportMetricsServiceRequest, String> {
    let bytes = json::to_protobuf(Service::Metrics, text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ExportMetricsServiceRequest::decode(&*bytes).expect("the converted bytes are protobuf"))
}

#[test]
fn json_and_protobuf_give_the_same_result() {
    let check = |text: &str, metric: Metric| {
        assert_eq!(decoded(&metrics_of(text)), Ok(request(vec![metric])), "{text}");
    };
    let named = |metric: Metric| Metric {
        description: "d".into(),
        unit: "By".into(),
        ..metric
    };
    check(
        r#"{"name":"g","description":"d","unit":"By","gauge":{"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"-5"}]}}"#,
        named(gauge("g", vec![int(-5)])),
    );
    check(
        r#"{"name":"g","gauge":{"data_points":[{"time_unix_nano":1700000000000000000,"as_double":0.5,
            "attributes":[{"key":"a","value":{"stringValue":"é\n\""}}]}]}}"#,
        gauge("g", vec![with(&[("a", "é\n\"")], float(0.5))]),
    );
    for temporality in ["2", "\"AGGREGATION_TEMPORALITY_CUMULATIVE\"", "2.0", "\"2\""] {
        check(
            &format!(
                r#"{{"name":"c","sum":{{"isMonotonic":true,"aggregationTemporality":{temporality},
                    "dataPoints":[{{"timeUnixNano":"1700000000000000000","asInt":7,"unknown":{{"a":[1,null]}}}}]}}}}"#
            ),
            sum("c", CUMULATIVE, true, vec![int(7)]),
        );
    }
    check(
        r#"{"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1700000000000000000",
            "count":"3","sum":1.5,"bucketCounts":["1",2],"explicitBounds":[1]}]}}"#,
        histogram("h", DELTA, vec![buckets(&[1.0], &[1, 2])]),
    );
    check(
        r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1700000000000000000",
            "count":6,"sum":1.5,"scale":-2,"zeroCount":"1","positive":{"offset":-3,"bucketCounts":["5"]}}]}}"#,
        exponential("e", DELTA, vec![exponential_buckets(-2, 1, -3, &[5])]),
    );
    let special = NumberDataPoint {
        start_time_unix_nano: u64::MAX,
        flags: 1,
        ..float(f64::NEG_INFINITY)
    };
    check(
        r#"{"name":"g","gauge":{"dataPoints":[{"startTimeUnixNano":"18446744073709551615","timeUnixNano":"1700000000000000000",
            "asDouble":"-Infinity","flags":1,"exemplars":null}]}}"#,
        gauge("g", vec![special]),
    );
    let example = NumberDataPoint {
        exemplars: vec![Exemplar {
            trace_id: vec![0x5b; 16],
            span_id: vec![0xee; 8],
            value: Some(exemplar::Value::AsInt(-1)),
            ..Default::default()
        }],
        ..int(1)
    };
    check(
        &format!(
            r#"{{"name":"g","gauge":{{"dataPoints":[{{"timeUnixNano":"1700000000000000000","asInt":1,
                "exemplars":[{{"traceId":"{}","spanId":"{}","asInt":"-1"}}]}}]}}}}"#,
            "5B".repeat(16),
            "ee".repeat(8)
        ),
        gauge("g", vec![example]),
    );
}

#[test]
fn invalid_json_is_rejected_with_line_and_column() {
    let point = |point: &str| metrics_of(&format!(r#"{{"name":"g","gauge":{{"dataPoints":[{point}]}}}}"#));
    let check = |text: &str, message: &str| {
        let error = decoded(text).expect_err(text);
        assert!(error.contains(message), "{error}");
        assert!(
            error.starts_with("not an OTLP metrics request in JSON: "),
            "{error}"
        );
    };
    check("[]", "expected an object");
    check("{", "EOF");
    check("{} x", "trailing characters");
    check(r#"{"resourceMetrics":{}}"#, "a list in resourceMetrics");
    check(
        r#"{"resourceMetrics":[null]}"#,
        "resourceMetrics: invalid element null",
    );
    check(
        r#"{"resourceMetrics":[1]}"#,
        "resourceMetrics: invalid value 1; expected an object at line 1 column",
    );
    check(
        &point(r#"{"timeUnixNano":-1}"#),
        "timeUnixNano: invalid value -1; expected a non-negative 64-bit integer",
    );
    check(
        &point(r#"{"timeUnixNano":"18446744073709551616"}"#),
        "timeUnixNano",
    );
    check(
        &point(r#"{"timeUnixNano":1.5}"#),
        "timeUnixNano: invalid value 1.5",
    );
    check(&point(r#"{"asInt":"9223372036854775808"}"#), "asInt");
    check(
        &point(r#"{"asInt":true}"#),
        "asInt: invalid value true; expected a 64-bit integer",
    );
    check(
        &point(r#"{"asDouble":"nan"}"#),
        "asDouble: invalid value \"nan\"; expected a number",
    );
    check(
        &point(r#"{"attributes":[{"key":1}]}"#),
        "key: invalid value 1; expected a string",
    );
    check(&point(r#"{"exemplars":[{"traceId":"xyz0"}]}"#), "hexadecimal");
    check(
        &metrics_of(r#"{"name":"c","sum":{"aggregationTemporality":"OFTEN"}}"#),
        "aggregationTemporality",
    );
    check("\u{0}", "expected value");
}

#[test]
fn an_empty_body_is_an_empty_request() {
    for text in [
        "",
        "  \n",
        "{}",
        r#"{"resourceMetrics":null}"#,
        r#"{"resourceMetrics":[]}"#,
    ] {
        assert_eq!(
            decoded(text),
            Ok(ExportMetricsServiceRequest::default()),
            "{text:?}"
        );
    }
}

#[test]
fn severities_have_numbers_and_names() {
    for (text, expected) in [
        ("9", 9),
        ("\"SEVERITY_NUMBER_INFO\"", 9),
        ("\"SEVERITY_NUMBER_FATAL4\"", 24),
    ] {
        let text = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"severityNumber":{text},"body":{{"bytesValue":"AQI="}}}}]}}]}}]}}"#
        );
        let bytes = json::to_protobuf(Service::Logs, text.as_bytes()).unwrap();
        let request = ExportLogsServiceRequest::decode(&*bytes).unwrap();
        let record = &request.resource_logs[0].scope_logs[0].log_records[0];
        assert_eq!(record.severity_number, expected);
        assert_eq!(record.body, some(Value::BytesValue(vec![1, 2])));
    }
}

#[test]
fn the_top_level_key_identifies_the_service() {
    let check = |text: &str, expected| assert_eq!(json::service_of(text.as_bytes()), expected, "{text}");
    check(r#"{"resourceMetrics":[]}"#, Some(Service::Metrics));
    check(r#" {"resource_logs":[]}"#, Some(Service::Logs));
    check(
        r#"{"other":[{"resourceMetrics":1}],"resourceSpans":[]}"#,
        Some(Service::Traces),
    );
    check(r#"{"resourceSpans":[}"#, Some(Service::Traces));
    check("{}", None);
    check("[]", None);
    check("", None);
}
