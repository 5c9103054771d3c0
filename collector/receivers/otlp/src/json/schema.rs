//! The messages of OTLP for the conversion from JSON: names, numbers and types of their fields.
//!
//! Source: `opentelemetry/proto/{common,resource,metrics,logs,trace}/v1` and the collector services, 1.x. Fields that the receiver
//! does not use, such as the links of spans, are omitted: unknown fields are skipped.

/// A message: its fields by their JSON names.
pub(super) struct Message(pub(super) &'static [Field]);

/// A field.
pub(super) struct Field {
    /// In lowerCamelCase.
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// A field's type: how its JSON is read and its protobuf written.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Message(&'static Message),
    Text,
    /// base64
    Bytes,
    /// Trace and span ids in hexadecimal: OTLP's exception from ProtoJSON.
    Hex,
    Bool,
    /// int64
    Int,
    /// uint32 and uint64
    Unsigned,
    /// sint32
    Signed,
    /// fixed64
    Fixed,
    /// sfixed64
    SignedFixed,
    /// fixed32
    Fixed32,
    Double,
    /// By number or by name.
    Enum(&'static [(&'static str, u64)]),
}

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    Field {
        name,
        number,
        kind,
        repeated: false,
    }
}

const fn many(name: &'static str, number: u32, kind: Kind) -> Field {
    Field {
        name,
        number,
        kind,
        repeated: true,
    }
}

use Kind::{Bool, Bytes, Double, Enum, Fixed, Fixed32, Hex, Int, Signed, SignedFixed, Text, Unsigned};

const fn message(message: &'static Message) -> Kind {
    Kind::Message(message)
}

pub(super) static METRICS: Message = Message(&[many("resourceMetrics", 1, message(&RESOURCE_METRICS))]);
pub(super) static LOGS: Message = Message(&[many("resourceLogs", 1, message(&RESOURCE_LOGS))]);
pub(super) static TRACES: Message = Message(&[many("resourceSpans", 1, message(&RESOURCE_SPANS))]);

static RESOURCE_METRICS: Message = Message(&[
    one("resource", 1, message(&RESOURCE)),
    many("scopeMetrics", 2, message(&SCOPE_METRICS)),
    one("schemaUrl", 3, Text),
]);
static RESOURCE_LOGS: Message = Message(&[
    one("resource", 1, message(&RESOURCE)),
    many("scopeLogs", 2, message(&SCOPE_LOGS)),
    one("schemaUrl", 3, Text),
]);
static RESOURCE_SPANS: Message = Message(&[
    one("resource", 1, message(&RESOURCE)),
    many("scopeSpans", 2, message(&SCOPE_SPANS)),
    one("schemaUrl", 3, Text),
]);
static SCOPE_METRICS: Message = Message(&[
    one("scope", 1, message(&SCOPE)),
    many("metrics", 2, message(&METRIC)),
    one("schemaUrl", 3, Text),
]);
static SCOPE_LOGS: Message = Message(&[
    one("scope", 1, message(&SCOPE)),
    many("logRecords", 2, message(&LOG_RECORD)),
    one("schemaUrl", 3, Text),
]);
static SCOPE_SPANS: Message = Message(&[
    one("scope", 1, message(&SCOPE)),
    many("spans", 2, message(&SPAN)),
    one("schemaUrl", 3, Text),
]);

static RESOURCE: Message = Message(&[
    many("attributes", 1, message(&KEY_VALUE)),
    one("droppedAttributesCount", 2, Unsigned),
]);
static SCOPE: Message = Message(&[
    one("name", 1, Text),
    one("version", 2, Text),
    many("attributes", 3, message(&KEY_VALUE)),
    one("droppedAttributesCount", 4, Unsigned),
]);
static KEY_VALUE: Message = Message(&[one("key", 1, Text), one("value", 2, message(&ANY_VALUE))]);
static ANY_VALUE: Message = Message(&[
    one("stringValue", 1, Text),
    one("boolValue", 2, Bool),
    one("intValue", 3, Int),
    one("doubleValue", 4, Double),
    one("arrayValue", 5, message(&ARRAY_VALUE)),
    one("kvlistValue", 6, message(&KEY_VALUE_LIST)),
    one("bytesValue", 7, Bytes),
]);
static ARRAY_VALUE: Message = Message(&[many("values", 1, message(&ANY_VALUE))]);
static KEY_VALUE_LIST: Message = Message(&[many("values", 1, message(&KEY_VALUE))]);

static METRIC: Message = Message(&[
    one("name", 1, Text),
    one("description", 2, Text),
    one("unit", 3, Text),
    one("gauge", 5, message(&GAUGE)),
    one("sum", 7, message(&SUM)),
    one("histogram", 9, message(&HISTOGRAM)),
    one("exponentialHistogram", 10, message(&EXPONENTIAL_HISTOGRAM)),
    one("summary", 11, message(&SUMMARY)),
]);
const TEMPORALITY: Kind = Enum(&[
    ("AGGREGATION_TEMPORALITY_UNSPECIFIED", 0),
    ("AGGREGATION_TEMPORALITY_DELTA", 1),
    ("AGGREGATION_TEMPORALITY_CUMULATIVE", 2),
]);
static GAUGE: Message = Message(&[many("dataPoints", 1, message(&NUMBER_POINT))]);
static SUM: Message = Message(&[
    many("dataPoints", 1, message(&NUMBER_POINT)),
    one("aggregationTemporality", 2, TEMPORALITY),
    one("isMonotonic", 3, Bool),
]);
static HISTOGRAM: Message = Message(&[
    many("dataPoints", 1, message(&HISTOGRAM_POINT)),
    one("aggregationTemporality", 2, TEMPORALITY),
]);
static EXPONENTIAL_HISTOGRAM: Message = Message(&[
    many("dataPoints", 1, message(&EXPONENTIAL_POINT)),
    one("aggregationTemporality", 2, TEMPORALITY),
]);
static SUMMARY: Message = Message(&[many("dataPoints", 1, message(&SUMMARY_POINT))]);
static NUMBER_POINT: Message = Message(&[
    many("attributes", 7, message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Fixed),
    one("timeUnixNano", 3, Fixed),
    one("asDouble", 4, Double),
    one("asInt", 6, SignedFixed),
    many("exemplars", 5, message(&EXEMPLAR)),
    one("flags", 8, Unsigned),
]);
static HISTOGRAM_POINT: Message = Message(&[
    many("attributes", 9, message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Fixed),
    one("timeUnixNano", 3, Fixed),
    one("count", 4, Fixed),
    one("sum", 5, Double),
    many("bucketCounts", 6, Fixed),
    many("explicitBounds", 7, Double),
    many("exemplars", 8, message(&EXEMPLAR)),
    one("flags", 10, Unsigned),
    one("min", 11, Double),
    one("max", 12, Double),
]);
static EXPONENTIAL_POINT: Message = Message(&[
    many("attributes", 1, message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Fixed),
    one("timeUnixNano", 3, Fixed),
    one("count", 4, Fixed),
    one("sum", 5, Double),
    one("scale", 6, Signed),
    one("zeroCount", 7, Fixed),
    one("positive", 8, message(&BUCKETS)),
    one("negative", 9, message(&BUCKETS)),
    one("flags", 10, Unsigned),
    many("exemplars", 11, message(&EXEMPLAR)),
    one("min", 12, Double),
    one("max", 13, Double),
    one("zeroThreshold", 14, Double),
]);
static BUCKETS: Message = Message(&[one("offset", 1, Signed), many("bucketCounts", 2, Unsigned)]);
static SUMMARY_POINT: Message = Message(&[
    many("attributes", 7, message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Fixed),
    one("timeUnixNano", 3, Fixed),
    one("count", 4, Fixed),
    one("sum", 5, Double),
    many("quantileValues", 6, message(&QUANTILE)),
    one("flags", 8, Unsigned),
]);
static QUANTILE: Message = Message(&[one("quantile", 1, Double), one("value", 2, Double)]);
static EXEMPLAR: Message = Message(&[
    many("filteredAttributes", 7, message(&KEY_VALUE)),
    one("timeUnixNano", 2, Fixed),
    one("asDouble", 3, Double),
    one("asInt", 6, SignedFixed),
    one("spanId", 4, Hex),
    one("traceId", 5, Hex),
]);

static LOG_RECORD: Message = Message(&[
    one("timeUnixNano", 1, Fixed),
    one("observedTimeUnixNano", 11, Fixed),
    one("severityNumber", 2, SEVERITY),
    one("severityText", 3, Text),
    one("body", 5, message(&ANY_VALUE)),
    many("attributes", 6, message(&KEY_VALUE)),
    one("droppedAttributesCount", 7, Unsigned),
    one("flags", 8, Fixed32),
    one("traceId", 9, Hex),
    one("spanId", 10, Hex),
    one("eventName", 12, Text),
]);
const SEVERITY: Kind = Enum(&[
    ("SEVERITY_NUMBER_UNSPECIFIED", 0),
    ("SEVERITY_NUMBER_TRACE", 1),
    ("SEVERITY_NUMBER_TRACE2", 2),
    ("SEVERITY_NUMBER_TRACE3", 3),
    ("SEVERITY_NUMBER_TRACE4", 4),
    ("SEVERITY_NUMBER_DEBUG", 5),
    ("SEVERITY_NUMBER_DEBUG2", 6),
    ("SEVERITY_NUMBER_DEBUG3", 7),
    ("SEVERITY_NUMBER_DEBUG4", 8),
    ("SEVERITY_NUMBER_INFO", 9),
    ("SEVERITY_NUMBER_INFO2", 10),
    ("SEVERITY_NUMBER_INFO3", 11),
    ("SEVERITY_NUMBER_INFO4", 12),
    ("SEVERITY_NUMBER_WARN", 13),
    ("SEVERITY_NUMBER_WARN2", 14),
    ("SEVERITY_NUMBER_WARN3", 15),
    ("SEVERITY_NUMBER_WARN4", 16),
    ("SEVERITY_NUMBER_ERROR", 17),
    ("SEVERITY_NUMBER_ERROR2", 18),
    ("SEVERITY_NUMBER_ERROR3", 19),
    ("SEVERITY_NUMBER_ERROR4", 20),
    ("SEVERITY_NUMBER_FATAL", 21),
    ("SEVERITY_NUMBER_FATAL2", 22),
    ("SEVERITY_NUMBER_FATAL3", 23),
    ("SEVERITY_NUMBER_FATAL4", 24),
]);

/// Spans are only counted; a few fields are checked so that a malformed body is rejected.
static SPAN: Message = Message(&[
    one("traceId", 1, Hex),
    one("spanId", 2, Hex),
    one("name", 5, Text),
    one("startTimeUnixNano", 7, Fixed),
    one("endTimeUnixNano", 8, Fixed),
]);
