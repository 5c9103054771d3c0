//! Response messages in the encoding of the request: `Export*ServiceResponse` and `google.rpc.Status`, in protobuf and JSON.

use crate::ingest::RequestOutcome;
use crate::protobuf::{put_bytes, put_varint};
use crate::service::Service;
use bytes::Bytes;
use dichroic_model::attributes::cut;

/// Most bytes of a message in a response.
const MESSAGE_BYTES: usize = 2_048;

/// Encoding of a request and its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFormat {
    Protobuf,
    Json,
}

impl BodyFormat {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            BodyFormat::Protobuf => "application/x-protobuf",
            BodyFormat::Json => "application/json",
        }
    }
}

/// The values of `google.rpc.Code` that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GrpcCode {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
}

/// The response to a request that was accepted, as a whole or in part.
pub(super) fn response(service: Service, outcome: &RequestOutcome, format: BodyFormat) -> Bytes {
    let message = cut(&outcome.message, MESSAGE_BYTES);
    let partial = outcome.rejected > 0 || !message.is_empty();
    let bytes = match format {
        BodyFormat::Protobuf if !partial => Vec::new(),
        BodyFormat::Protobuf => {
            let (mut inner, mut out) = (Vec::new(), Vec::new());
            if outcome.rejected > 0 {
                put_varint(&mut inner, 1 << 3);
                put_varint(&mut inner, outcome.rejected);
            }
            put_bytes(&mut inner, 2, message.as_bytes());
            put_bytes(&mut out, 1, &inner);
            out
        }
        BodyFormat::Json if !partial => b"{}".to_vec(),
        BodyFormat::Json => {
            let rejected = match service {
                Service::Metrics => "rejectedDataPoints",
                Service::Logs => "rejectedLogRecords",
                Service::Traces => "rejectedSpans",
            };
            let count = outcome.rejected.to_string();
            serde_json::json!({"partialSuccess": {rejected: count, "errorMessage": message}})
                .to_string()
                .into_bytes()
        }
    };
    bytes.into()
}

/// A `google.rpc.Status`.
pub(super) fn status(code: GrpcCode, message: &str, format: BodyFormat) -> Bytes {
    let message = cut(message, MESSAGE_BYTES);
    let bytes = match format {
        BodyFormat::Protobuf => status_bytes(code, message, None),
        BodyFormat::Json => serde_json::json!({"code": code as i32, "message": message})
            .to_string()
            .into_bytes(),
    };
    bytes.into()
}

/// A `google.rpc.Status` in protobuf, with a `google.rpc.RetryInfo` when the sender should retry.
pub(super) fn status_bytes(code: GrpcCode, message: &str, retry_seconds: Option<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, 1 << 3);
    put_varint(&mut out, code as u64);
    put_bytes(&mut out, 2, message.as_bytes());
    if let Some(seconds) = retry_seconds {
        let (mut delay, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
        put_varint(&mut delay, 1 << 3);
        put_varint(&mut delay, seconds);
        put_bytes(&mut info, 1, &delay);
        put_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        put_bytes(&mut any, 2, &info);
        put_bytes(&mut out, 3, &any);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
    use prost::Message;

    #[test]
    fn a_partial_success_states_count_and_reason() {
        let outcome = RequestOutcome {
            accepted: 1,
            rejected: 2,
            message: "why \"so\"".into(),
        };
        let bytes = response(Service::Metrics, &outcome, BodyFormat::Protobuf);
        let partial = ExportMetricsServiceResponse::decode(bytes)
            .unwrap()
            .partial_success
            .unwrap();
        assert_eq!(
            (partial.rejected_data_points, &*partial.error_message),
            (2, "why \"so\"")
        );
        assert_eq!(
            response(Service::Logs, &outcome, BodyFormat::Json),
            r#"{"partialSuccess":{"errorMessage":"why \"so\"","rejectedLogRecords":"2"}}"#
        );
    }

    #[test]
    fn a_full_success_is_empty() {
        let outcome = RequestOutcome::default();
        assert_eq!(response(Service::Metrics, &outcome, BodyFormat::Protobuf), "");
        assert_eq!(response(Service::Metrics, &outcome, BodyFormat::Json), "{}");
    }
}
