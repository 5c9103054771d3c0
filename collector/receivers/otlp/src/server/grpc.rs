//! OTLP/gRPC: unary calls over HTTP/2, framed here.
//!
//! Not tonic: its services must be `Send` and get decoded messages, while this receiver's store lives on one thread and reads
//! encoded bytes. What remains of gRPC for three unary methods is a prefix of five bytes and two trailers. Source: grpc.io,
//! "gRPC over HTTP2".

use super::accounted::Accounted;
use super::body::{RequestBody, ResponseBody, collect};
use super::framing::{PREFIX_BYTES, unframe};
use super::inflate::{self, Encoding, SUPPORTED};
use super::request_error::RequestError;
use super::response::{BodyFormat, response, status_bytes};
use super::sender::Sender;
use super::state::ServerState;
use crate::ingest::RequestOutcome;
use crate::service::Service;
use bytes::{BufMut, Bytes, BytesMut};
use dichroic_http_guard::Refused;
use dichroic_model::text::{encode_base64, encode_grpc_message};
use dichroic_pipeline::RefusedReason;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use std::net::IpAddr;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ENCODING: &str = "grpc-encoding";
const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Whether a request is gRPC: `application/grpc`, with a suffix or parameters, but not gRPC-Web.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else {
        return false;
    };
    let (name, rest) = value.split_at(value.len().min(b"application/grpc".len()));
    name.eq_ignore_ascii_case(b"application/grpc") && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Handles one call.
pub(super) async fn handle(
    state: &ServerState,
    peer: IpAddr,
    request: Request<Incoming>,
    forbidden: Option<Refused>,
) -> Response<ResponseBody> {
    let signal = route(request.uri().path());
    let account = Accounted::start(state, "grpc", signal, Sender::new(peer, request.headers()));
    let received = match forbidden {
        Some(refused) => Err(RequestError::forbidden(refused)),
        None => receive(state, request).await,
    };
    let mut reply = match received {
        Ok((service, outcome)) => {
            account.accepted(&outcome);
            let message = response(service, &outcome, BodyFormat::Protobuf);
            let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
            framed.put_u8(0);
            framed.put_u32(message.len() as u32);
            framed.put(message);
            let mut trailers = HeaderMap::new();
            trailers.insert(STATUS, HeaderValue::from_static("0"));
            Response::new(ResponseBody::new(framed.freeze()).with_trailers(trailers))
        }
        Err(error) => {
            account.refused(&error);
            let mut reply = Response::new(ResponseBody::new(Bytes::new()));
            refuse(&error, reply.headers_mut());
            reply
        }
    };
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(ACCEPTED, HeaderValue::from_static(inflate::ACCEPTED));
    reply
}

fn refuse(error: &RequestError, headers: &mut HeaderMap) {
    headers.insert(STATUS, (error.code as i32).into());
    if let Ok(message) = HeaderValue::from_str(&encode_grpc_message(&error.message)) {
        headers.insert(MESSAGE, message);
    }
    if error.retry.is_some() {
        let details = status_bytes(error.code, &error.message, error.retry);
        if let Ok(details) = HeaderValue::from_str(&encode_base64(&details)) {
            headers.insert(DETAILS, details);
        }
    }
}

fn route(path: &str) -> Option<Service> {
    match path {
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => Some(Service::Metrics),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Some(Service::Logs),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => Some(Service::Traces),
        _ => None,
    }
}

async fn receive(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<(Service, RequestOutcome), RequestError> {
    let (head, body) = request.into_parts();
    let service = route(head.uri.path()).ok_or_else(|| {
        let message = format!(
            "unknown method {:?}; use Export of the OTLP services MetricsService, LogsService or TraceService",
            head.uri.path()
        );
        RequestError::new(RefusedReason::Path, message)
    })?;
    let limits = &state.limits;
    let mut share = state.budget.share();
    let mut body = RequestBody::new(body, &head.headers);
    let framed = collect(&mut body, limits, &mut share).await?;
    let (message, compressed) = unframe(framed).map_err(|error| RequestError::bad(error.to_string()))?;
    let message = if compressed {
        let named = head.headers.get(ENCODING).and_then(|value| value.to_str().ok());
        let encoding = Encoding::named(named.unwrap_or("")).filter(|e| *e != Encoding::Identity);
        let encoding = encoding.ok_or_else(|| {
            let message = format!(
                "unsupported grpc-encoding {:?}; use {SUPPORTED}",
                named.unwrap_or("")
            );
            RequestError::new(RefusedReason::Encoding, message)
        })?;
        state
            .inflate(encoding, message, &mut share, ("message", "grpc-encoding"))
            .await?
    } else {
        message
    };
    Ok((service, state.ingest(service, message).await?))
}
