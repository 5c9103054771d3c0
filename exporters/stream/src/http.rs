//! `/v1/stream`: the same subscriptions over HTTP, requested in the query ([`crate::query`]) and answered with an unbounded body.

use crate::client::ClientInfo;
use crate::encode::Encoder;
use crate::error::SubscribeError;
use crate::exporter::Exporter;
use crate::outgoing::Outgoing;
use crate::query;
use crate::registry::Format;
use crate::session::Session;
use bytes::Bytes;
use dichroic_tasks::Kind;
use dichroic_wire::hello::MINOR_OF_MIXED;
use dichroic_wire::{GoodbyeCode, limits};
use http::{Method, Response, StatusCode, header, request::Parts};
use hyper::body::Frame;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, DuplexStream, ReadBuf, duplex, split};

/// Bytes buffered between a session and its HTTP connection.
const PIPE: usize = 64 << 10;
/// Largest piece of a body.
const PIECE: usize = 32 << 10;

/// A response's body: a message, or a stream that lasts as long as the subscription.
#[derive(Debug)]
pub struct Body(Inner);

#[derive(Debug)]
enum Inner {
    Message(Option<Bytes>),
    Stream(DuplexStream),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match &mut self.get_mut().0 {
            Inner::Message(message) => Poll::Ready(message.take().map(|message| Ok(Frame::data(message)))),
            Inner::Stream(stream) => {
                let mut piece = vec![0; PIECE];
                let mut buffer = ReadBuf::new(&mut piece);
                ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
                let filled = buffer.filled().len();
                if filled == 0 {
                    return Poll::Ready(None);
                }
                piece.truncate(filled);
                Poll::Ready(Some(Ok(Frame::data(piece.into()))))
            }
        }
    }
}

impl Exporter {
    /// Answers a request for the stream; the caller has checked path, host and authorization. Must be called on a tokio
    /// runtime: a task produces the body until the subscription ends or the body is dropped.
    pub async fn http_response(&self, parts: &Parts) -> Response<Body> {
        if parts.method != Method::GET {
            return message(StatusCode::METHOD_NOT_ALLOWED, "use GET for the stream");
        }
        match self.open_stream(parts).await {
            Ok(response) => response,
            Err(SubscribeError(goodbye)) => {
                let status = match goodbye.code {
                    GoodbyeCode::BadRequest => StatusCode::BAD_REQUEST,
                    GoodbyeCode::Limit | GoodbyeCode::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                message(status, &goodbye.message)
            }
        }
    }

    async fn open_stream(&self, parts: &Parts) -> Result<Response<Body>, SubscribeError> {
        let shared = self.shared().clone();
        let query = parts.uri.query().unwrap_or("");
        let (request, format) = query::check(query, &parts.headers, &shared.config)
            .map_err(|error| SubscribeError::new(GoodbyeCode::BadRequest, 0, error.to_string()))?;
        let agent = parts
            .headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        let client = ClientInfo {
            agent: agent.unwrap_or("").to_owned(),
            format,
            max_frame: match format {
                Format::Ndjson | Format::Sse => limits::BODY_BYTES_MAX,
                _ => limits::BODY_BYTES_DEFAULT,
            },
            mixes: format == Format::Frames && query::minor(&parts.headers) >= MINOR_OF_MIXED,
        };
        let mixes = client.mixes;
        let opened = shared.open(client, Some(request)).await?;
        let (ours, theirs) = duplex(PIPE);
        let epoch = opened.hello.epoch as u64;
        dichroic_tasks::contained_send(Kind::StreamSubscriber, async move {
            let (reader, writer) = split(ours);
            let session = Session {
                reader,
                writer,
                peer: None,
                source: opened.source,
                encoder: match format {
                    Format::Ndjson => Encoder::json(false, epoch),
                    Format::Sse => Encoder::json(true, epoch),
                    Format::Frames | Format::Socket => Encoder::frames(limits::BODY_BYTES_DEFAULT, mixes),
                },
                out: Outgoing::new(opened.buffer),
                config: &shared.config,
                stop: shared.registry.stopping(),
                share: opened.admission.share.clone(),
            };
            let end = session.run(&opened.hello).await;
            tracing::debug!(?format, ?end, "HTTP subscriber disconnected");
            drop(opened.admission);
        });
        Ok(respond(
            StatusCode::OK,
            content_type(format),
            Inner::Stream(theirs),
        ))
    }
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Frames | Format::Socket => "application/vnd.dichroic.frames; version=1",
        Format::Ndjson => "application/x-ndjson",
        Format::Sse => "text/event-stream",
    }
}

fn message(status: StatusCode, message: &str) -> Response<Body> {
    let text = Bytes::from(format!("{message}\n"));
    let mut response = respond(status, "text/plain; charset=utf-8", Inner::Message(Some(text)));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
    }
    response
}

fn respond(status: StatusCode, content_type: &'static str, body: Inner) -> Response<Body> {
    let mut response = Response::new(Body(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}
