//! Request bodies, collected whole and bounded or discarded, and response bodies.

use super::budget::Share;
use super::request_error::RequestError;
use crate::config::Limits;
use bytes::Bytes;
use dichroic_pipeline::RefusedReason;
use dichroic_tasks::Kind;
use http::HeaderMap;
use http::header::EXPECT;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::error::Error;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, timeout_at};

/// Smallest growth of the buffer for a body of more than one frame.
const READ_AHEAD: usize = 64 << 10;

/// Most bytes of the body of a refused request that are read, so that its sender sees the response. Four times the largest request
/// by default.
const DISCARD_BYTES: usize = 256 << 20;

/// The body of a request.
pub(super) struct RequestBody {
    incoming: Incoming,
    /// Whether the sender waits for `100 Continue` before it sends the body.
    expected: bool,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, headers: &HeaderMap) -> Self {
        RequestBody {
            incoming,
            expected: headers.contains_key(EXPECT),
        }
    }

    async fn frame(&mut self) -> Option<hyper::Result<Frame<Bytes>>> {
        self.expected = false;
        self.incoming.frame().await
    }

    /// Reads the rest of the body of a refused request over HTTP/1, bounded in bytes and time, while its response is sent. If the
    /// connection closed with unread bytes, the sender would fail to write and not see the response. Returns whether the connection
    /// must close instead: the sender may not send the body at all.
    #[must_use]
    pub(super) fn discard(mut self, limits: &Limits) -> bool {
        if self.incoming.is_end_stream() {
            return false;
        }
        if self.expected || self.incoming.size_hint().lower() > DISCARD_BYTES as u64 {
            return true;
        }
        let (end, stall) = (Instant::now() + limits.body_timeout, limits.stall_timeout);
        dichroic_tasks::contained(Kind::OtlpConnection, async move {
            let mut read = 0;
            while read <= DISCARD_BYTES {
                let soon = end.min(Instant::now() + stall);
                let Ok(Some(Ok(frame))) = timeout_at(soon, self.frame()).await else {
                    return;
                };
                read += frame.data_ref().map_or(0, Bytes::len);
            }
        });
        false
    }
}

/// A body that ended with an error: cut off by its sender, or in chunks that are not valid (RFC 9112, section 7.1).
fn broken(error: &hyper::Error) -> RequestError {
    let io = error.source().and_then(|cause| cause.downcast_ref());
    match io.map(std::io::Error::kind) {
        Some(ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
            RequestError::bad(format!("the request body has an invalid chunk: {error}"))
        }
        _ => {
            let message = format!("the request body is incomplete: {error}");
            RequestError::new(RefusedReason::Aborted, message)
        }
    }
}

/// Collects a body of at most `limits.max_request_bytes`, within the budget and the time limits.
///
/// An announced length is used only to reject early; memory is allocated as bytes arrive.
pub(super) async fn collect(
    body: &mut RequestBody,
    limits: &Limits,
    share: &mut Share,
) -> Result<Bytes, RequestError> {
    let announced = body.incoming.size_hint().lower();
    if announced > limits.max_request_bytes as u64 {
        return Err(RequestError::too_large(limits));
    }
    let end = Instant::now() + limits.body_timeout;
    let announced = announced as usize;
    let (mut first, mut rest) = (Bytes::new(), Vec::new());
    loop {
        let soon = end.min(Instant::now() + limits.stall_timeout);
        let frame = match timeout_at(soon, body.frame()).await {
            Err(_) => return Err(RequestError::slow()),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limits.max_request_bytes {
            return Err(RequestError::too_large(limits));
        }
        if !share.grow(data.len()) {
            return Err(RequestError::busy());
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            append(&mut rest, &std::mem::take(&mut first), announced);
            append(&mut rest, &data, announced);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.into() })
}

/// Appends. The buffer grows to twice its size, but not beyond the announced length.
fn append(whole: &mut Vec<u8>, data: &[u8], announced: usize) {
    if whole.capacity() - whole.len() < data.len() {
        let missing = announced.saturating_sub(whole.len());
        let room = whole.len().max(READ_AHEAD);
        whole.reserve_exact(if missing == 0 { room } else { room.min(missing) }.max(data.len()));
    }
    whole.extend_from_slice(data);
}

/// A response body: at most one frame of data, and trailers for gRPC.
pub(super) struct ResponseBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl ResponseBody {
    pub(super) fn new(data: Bytes) -> Self {
        ResponseBody {
            data: (!data.is_empty()).then_some(data),
            trailers: None,
        }
    }

    pub(super) fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let next = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(next.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
