//! The error responses of both ports.

use super::response::GrpcCode;
use crate::config::Limits;
use dichroic_http_guard::Refused;
use dichroic_pipeline::RefusedReason;

/// Why a request was refused: the response that its sender gets, and the reason that counts it.
#[derive(Debug)]
pub(super) struct RequestError {
    /// The reason in the ledger, the metrics and the log.
    pub(super) reason: RefusedReason,
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
    /// An error with the status codes of its reason.
    pub(super) fn new(reason: RefusedReason, message: impl Into<String>) -> Self {
        let (http, code) = match reason {
            RefusedReason::Malformed | RefusedReason::Corrupt => (400, GrpcCode::InvalidArgument),
            RefusedReason::Aborted | RefusedReason::NotHttp => (400, GrpcCode::InvalidArgument),
            RefusedReason::Encoding | RefusedReason::ContentType => (415, GrpcCode::Unimplemented),
            RefusedReason::Window => (415, GrpcCode::Unimplemented),
            RefusedReason::Path => (404, GrpcCode::Unimplemented),
            RefusedReason::Host | RefusedReason::CrossSite => (403, GrpcCode::PermissionDenied),
            RefusedReason::Method => (405, GrpcCode::Unimplemented),
            RefusedReason::TooLarge => (413, GrpcCode::ResourceExhausted),
            RefusedReason::Busy | RefusedReason::Connections => (503, GrpcCode::ResourceExhausted),
            RefusedReason::Timeout => (408, GrpcCode::DeadlineExceeded),
        };
        RequestError {
            reason,
            http,
            code,
            message: message.into(),
            retry: (reason == RefusedReason::Busy).then_some(1),
        }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        RequestError::new(RefusedReason::Malformed, message)
    }

    pub(super) fn forbidden(refused: Refused) -> Self {
        let reason = match refused {
            Refused::Host => RefusedReason::Host,
            Refused::CrossSite => RefusedReason::CrossSite,
        };
        RequestError::new(reason, refused.message())
    }

    pub(super) fn too_large(limits: &Limits) -> Self {
        let message = format!(
            "the request is larger than {} bytes (receivers.otlp.max_request); send smaller batches",
            limits.max_request_bytes
        );
        RequestError::new(RefusedReason::TooLarge, message)
    }

    pub(super) fn busy() -> Self {
        let message = "request budget exhausted (receivers.otlp.in_flight, limits.in_flight); retry later";
        RequestError::new(RefusedReason::Busy, message)
    }

    pub(super) fn slow() -> Self {
        RequestError::new(
            RefusedReason::Timeout,
            "the request body did not arrive in time; send smaller batches or check the network",
        )
    }
}
