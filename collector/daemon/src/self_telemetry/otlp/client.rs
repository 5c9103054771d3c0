//! The HTTP client of the exporters, with one persistent connection: sends their OTLP/HTTP requests as they are, or as gRPC.
//!
//! gRPC is HTTP/2 with a prefix of five bytes and a status in the trailers. A gRPC stack would add a megabyte to the binary; hyper is
//! part of it already. Source: gRPC over HTTP/2 protocol; OTLP specification 1.5, "OTLP/gRPC".

use crate::config::telemetry::{OtlpExport, OtlpProtocol};
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use dichroic_tasks::Kind;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_http::{HttpClient, HttpError};
use std::error::Error;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Time limit of an export, with its retries.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest response, in bytes.
const MAX_RESPONSE: usize = 64 << 10;
/// Length of a gRPC message's prefix.
const PREFIX: usize = 5;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Sends to one endpoint.
#[derive(Debug)]
pub struct Client {
    host: String,
    port: u16,
    protocol: OtlpProtocol,
    connection: Mutex<Option<Connection>>,
    /// Why the last request failed: the exporters report no cause.
    failure: std::sync::Mutex<Option<String>>,
}

#[derive(Debug)]
enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// A client that is not connected.
    pub fn new(config: &OtlpExport) -> Self {
        let (host, port) = config.host_and_port();
        Client {
            host: host.to_owned(),
            port,
            protocol: config.protocol,
            connection: Mutex::new(None),
            failure: std::sync::Mutex::default(),
        }
    }

    /// Why the last request failed; `None` after a success, and after a response whose status the exporter reports.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    async fn connect(&self) -> Result<Connection, HttpError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        Ok(match self.protocol {
            OtlpProtocol::Http => {
                let (sender, connection) = http1::handshake(io).await?;
                drive(connection);
                Connection::Http1(sender)
            }
            OtlpProtocol::Grpc => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                drive(connection);
                Connection::Http2(sender)
            }
        })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut kept = self.connection.lock().await;
        let mut connection = match kept.take() {
            Some(mut connection) => match connection.ready().await {
                Ok(()) => connection,
                Err(_) => self.connect().await?,
            },
            None => self.connect().await?,
        };
        let (head, body) = connection.send(request).await?.into_parts();
        let body = Limited::new(body, MAX_RESPONSE).collect().await?;
        *kept = Some(connection);
        let trailers = body.trailers().cloned().unwrap_or_default();
        let mut response = Response::from_parts(head, body.to_bytes());
        if self.protocol == OtlpProtocol::Grpc {
            self.set_failure(from_grpc(&mut response, &trailers));
        }
        Ok(response)
    }

    /// The exporter's request with the endpoint's address, and in its protocol.
    fn addressed(&self, request: Request<Bytes>) -> Result<Request<Bytes>, HttpError> {
        let (mut head, mut body) = request.into_parts();
        let authority = self.authority();
        match self.protocol {
            OtlpProtocol::Http => {
                head.headers.insert(header::HOST, authority.parse()?);
                head.uri = head.uri.path().parse()?;
            }
            OtlpProtocol::Grpc => {
                let service = match head.uri.path() {
                    "/v1/logs" => "logs.v1.LogsService",
                    _ => "trace.v1.TraceService",
                };
                let path = format!("/opentelemetry.proto.collector.{service}/Export");
                head.uri = Uri::builder()
                    .scheme("http")
                    .authority(authority)
                    .path_and_query(path)
                    .build()?;
                let content_type = HeaderValue::from_static("application/grpc");
                head.headers.insert(header::CONTENT_TYPE, content_type);
                head.headers
                    .insert(header::TE, HeaderValue::from_static("trailers"));
                body = framed(&body);
            }
        }
        Ok(Request::from_parts(head, body))
    }
}

/// Runs a connection until its sender is dropped. The sender returns its error.
fn drive<T>(connection: impl Future<Output = T> + Send + 'static) {
    dichroic_tasks::contained_send(Kind::TelemetryConnection, async move { drop(connection.await) });
}

impl Connection {
    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Connection::Http1(sender) => sender.ready().await,
            Connection::Http2(sender) => sender.ready().await,
        }
    }

    async fn send(&mut self, request: Request<Bytes>) -> hyper::Result<Response<Incoming>> {
        let request = request.map(Full::new);
        match self {
            Connection::Http1(sender) => sender.send_request(request).await,
            Connection::Http2(sender) => sender.send_request(request).await,
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = self.addressed(request)?;
        self.set_failure(None);
        match tokio::time::timeout(TIMEOUT, self.exchange(request)).await {
            Ok(result) => result.inspect_err(|error| self.set_failure(Some(chain(&**error)))),
            Err(elapsed) => {
                self.set_failure(Some(format!("no response within {} s", TIMEOUT.as_secs())));
                Err(elapsed.into())
            }
        }
    }
}

/// An error and its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.dedup();
    texts.join(": ")
}

/// A gRPC message: flag for no compression, length, bytes.
fn framed(message: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// Turns a gRPC response into the equivalent HTTP response, so that the exporter retries retryable errors. Returns
/// the gRPC error.
fn from_grpc(response: &mut Response<Bytes>, trailers: &HeaderMap) -> Option<String> {
    if response.status() != StatusCode::OK {
        return None;
    }
    let field = |name: HeaderName| trailers.get(&name).or_else(|| response.headers().get(&name));
    let message = field(GRPC_MESSAGE).and_then(|message| message.to_str().ok());
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    let status = field(GRPC_STATUS).and_then(|status| status.to_str().ok()?.parse::<u32>().ok());
    *response.status_mut() = match status {
        Some(0) => StatusCode::OK,
        // Cancelled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss.
        Some(1 | 4 | 8 | 10 | 11 | 14 | 15) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = response.body();
    *response.body_mut() = body.slice(PREFIX.min(body.len())..);
    match status {
        Some(0) => None,
        Some(status) => Some(format!("gRPC status {status}{message}")),
        None => Some("no gRPC status in the response".to_owned()),
    }
}
