//! The error for a body that cannot be read as a request of its service.

use crate::protobuf::ProtobufError;
use crate::service::Service;

/// A body that is not a request of its service. Nothing of it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an OTLP {} request: {broken} (at byte {at} of its protobuf form); nothing was accepted", .service.noun())]
pub struct MalformedRequest {
    /// The service the body was sent to.
    pub service: Service,
    /// Offset of the error in bytes, from the beginning of the protobuf form.
    pub at: usize,
    /// The error at that offset.
    pub broken: ProtobufError,
}
