//! OTLP/HTTP: routing, content types and responses.
//!
//! Source: OTLP specification 1.x, "OTLP/HTTP". In addition to the three paths, JSON is accepted at `/`, since some senders omit the
//! path: its top-level key names the signal. Protobuf does not name it.

use super::accounted::Accounted;
use super::body::{RequestBody, ResponseBody, collect};
use super::inflate::{self, Encoding, SUPPORTED};
use super::request_error::RequestError;
use super::response::{BodyFormat, response, status};
use super::sender::Sender;
use super::state::ServerState;
use crate::ingest::RequestOutcome;
use crate::json;
use crate::service::Service;
use bytes::Bytes;
use dichroic_http_guard::Refused;
use dichroic_pipeline::RefusedReason;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use std::net::IpAddr;

/// Larger JSON is converted on the offload thread: it takes milliseconds.
const JSON_BYTES: usize = 256 << 10;
const PATHS: &str = "/v1/metrics, /v1/logs and /v1/traces";

/// Handles one request.
pub(super) async fn handle(
    state: &ServerState,
    peer: IpAddr,
    request: Request<Incoming>,
    forbidden: Option<Refused>,
) -> Response<ResponseBody> {
    let signal = route(request.uri().path()).flatten();
    let account = Accounted::start(state, "http", signal, Sender::new(peer, request.headers()));
    let format = format(request.headers());
    let shown = format.unwrap_or(BodyFormat::Json);
    let (head, body) = request.into_parts();
    let mut body = RequestBody::new(body, &head.headers);
    let received = match forbidden {
        Some(refused) => Err(RequestError::forbidden(refused)),
        None => receive(state, &head, &mut body, format).await,
    };
    match received {
        Ok((service, outcome)) => {
            account.accepted(&outcome);
            reply(StatusCode::OK, shown, response(service, &outcome, shown))
        }
        Err(error) => {
            account.refused(&error);
            let mut response = refuse(&error, shown);
            // A stream of HTTP/2 ends without its connection.
            if head.version < Version::HTTP_2 && body.discard(&state.limits) {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            response
        }
    }
}

fn reply(code: StatusCode, format: BodyFormat, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::new(body));
    *response.status_mut() = code;
    let content_type = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn refuse(error: &RequestError, format: BodyFormat) -> Response<ResponseBody> {
    let code = StatusCode::from_u16(error.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = reply(code, format, status(error.code, &error.message, format));
    if let Some(seconds) = error.retry {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    let header = match error.reason {
        RefusedReason::Method => Some((ALLOW, "POST")),
        RefusedReason::Encoding => Some((ACCEPT_ENCODING, inflate::ACCEPTED)),
        _ => None,
    };
    if let Some((name, value)) = header {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The format of the body, by `Content-Type`. Case, spaces and parameters are ignored.
fn format(headers: &HeaderMap) -> Option<BodyFormat> {
    let value = headers.get(CONTENT_TYPE)?.as_bytes();
    let name = value.split(|byte| *byte == b';').next()?.trim_ascii();
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("application/x-protobuf") || is("application/protobuf") {
        Some(BodyFormat::Protobuf)
    } else if is("application/json") {
        Some(BodyFormat::Json)
    } else {
        None
    }
}

/// The service of a path. `Some(None)` for `/`, where the body decides.
fn route(path: &str) -> Option<Option<Service>> {
    match path.strip_suffix('/').unwrap_or(path) {
        "/v1/metrics" => Some(Some(Service::Metrics)),
        "/v1/logs" => Some(Some(Service::Logs)),
        "/v1/traces" => Some(Some(Service::Traces)),
        "" => Some(None),
        _ => None,
    }
}

async fn receive(
    state: &ServerState,
    head: &Parts,
    body: &mut RequestBody,
    format: Option<BodyFormat>,
) -> Result<(Service, RequestOutcome), RequestError> {
    let route = route(head.uri.path()).ok_or_else(|| {
        let message = format!(
            "unknown path {:?}; OTLP/HTTP is served at {PATHS}",
            head.uri.path()
        );
        RequestError::new(RefusedReason::Path, message)
    })?;
    if head.method != Method::POST {
        let message = format!("method {} not allowed; OTLP/HTTP uses POST", head.method);
        return Err(RequestError::new(RefusedReason::Method, message));
    }
    let format = format.ok_or_else(|| {
        let message = "unsupported Content-Type; use application/x-protobuf or application/json";
        RequestError::new(RefusedReason::ContentType, message)
    })?;
    if route.is_none() && format == BodyFormat::Protobuf {
        let message = format!("protobuf sent to / does not name its signal; use {PATHS}");
        return Err(RequestError::new(RefusedReason::Path, message));
    }
    let encoding = encoding(&head.headers)?;
    let limits = &state.limits;
    let mut share = state.budget.share();
    let mut body = collect(body, limits, &mut share).await?;
    if encoding != Encoding::Identity && !body.is_empty() {
        body = state
            .inflate(encoding, body, &mut share, ("body", "Content-Encoding"))
            .await?;
    }
    let service = match format {
        BodyFormat::Protobuf => route.unwrap_or(Service::Traces),
        BodyFormat::Json => {
            let short = body.len() <= JSON_BYTES;
            let read = state.offload.run(short, move || from_json(route, &body)).await;
            let (service, protobuf) = read.map_err(RequestError::bad)?;
            share.take(protobuf.len())?;
            body = protobuf.into();
            service
        }
    };
    Ok((service, state.ingest(service, body).await?))
}

/// Converts JSON to protobuf. Without a service in the path, the body names it by its top-level key.
fn from_json(route: Option<Service>, body: &[u8]) -> Result<(Service, Vec<u8>), String> {
    let service = route
        .or_else(|| json::service_of(body))
        .ok_or("JSON sent to / must have the top-level key resourceMetrics, resourceLogs or resourceSpans")?;
    let protobuf = json::to_protobuf(service, body).map_err(|error| error.to_string())?;
    Ok((service, protobuf))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, RequestError> {
    let Some(value) = headers.get(CONTENT_ENCODING) else {
        return Ok(Encoding::Identity);
    };
    value.to_str().ok().and_then(Encoding::named).ok_or_else(|| {
        let message = format!("unsupported Content-Encoding {value:?}; use {SUPPORTED}");
        RequestError::new(RefusedReason::Encoding, message)
    })
}
