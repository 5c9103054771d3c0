//! The error responses of both ports.

use super::response::GrpcCode;
use crate::config::Limits;

/// Why a request was refused: the response that its sender gets. [`super::Verdict`] counts it by its HTTP status.
#[derive(Debug)]
pub(super) struct RequestError {
    /// Status code over HTTP.
    pub(super) http: u16,
    /// Status code over gRPC, and in the `google.rpc.Status` of both.
    pub(super) code: GrpcCode,
    /// What is wrong and what to do.
    pub(super) message: String,
    /// Seconds after which the sender should retry.
    pub(super) retry: Option<u64>,
}

impl RequestError {
    pub(super) fn new(http: u16, code: GrpcCode, message: impl Into<String>) -> Self {
        RequestError {
            http,
            code,
            message: message.into(),
            retry: None,
        }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        RequestError::new(400, GrpcCode::InvalidArgument, message)
    }

    pub(super) fn too_large(limits: &Limits) -> Self {
        let message = format!(
            "the request is larger than {} bytes (receivers.otlp.max_request); send smaller batches",
            limits.request_bytes
        );
        RequestError::new(413, GrpcCode::ResourceExhausted, message)
    }

    pub(super) fn busy() -> Self {
        let message = "request budget exhausted (receivers.otlp.in_flight); retry later";
        RequestError {
            retry: Some(1),
            ..RequestError::new(503, GrpcCode::ResourceExhausted, message)
        }
    }

    pub(super) fn slow() -> Self {
        RequestError::new(
            408,
            GrpcCode::DeadlineExceeded,
            "the request body did not arrive in time; send smaller batches or check the network",
        )
    }
}
