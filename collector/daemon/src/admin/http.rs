//! HTTP of both listeners: accepting, limits, responses, and what is refused.
//!
//! The listener of `/metrics` may be open to a pod network, so it serves only the page and health. The admin listener is for this
//! machine, and checks the token, if one is configured. `dichroic_http_guard` keeps web pages of other sites from both.

use crate::admin::connection::{Progress, WriteLimits, limited};
use crate::config::values::Secret;
use bytes::Bytes;
use dichroic_tasks::{Kind, Stopped};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Body of every response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// An error while a body is sent.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Answer = Response<Body>;

/// Most connections of a listener at a time.
const CONNECTIONS: usize = 512;
/// Time limit for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Buffer for the head of a request, and for a response that waits to be written, in bytes.
const CONNECTION_BUFFER: usize = 64 << 10;

/// Marks a response that has no end, and so no time limit.
#[derive(Debug, Clone, Copy)]
pub struct Endless;

/// Starts a listener, which accepts until `stop` is set. Open requests are finished then.
pub fn start<H, F>(listener: TcpListener, handler: H, limits: WriteLimits, mut stop: watch::Receiver<bool>)
where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Answer> + 'static,
{
    let handler = Rc::new(handler);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let address = listener.local_addr();
    let address = address.map_or_else(|_| String::new(), |address| address.to_string());
    dichroic_tasks::restart(Kind::HttpListener, address, async move || {
        serve(&listener, &handler, &limits, &room, &mut stop).await
    });
}

async fn serve<H, F>(
    listener: &TcpListener,
    handler: &Rc<H>,
    limits: &WriteLimits,
    room: &Arc<Semaphore>,
    stop: &mut watch::Receiver<bool>,
) -> Stopped
where
    H: Fn(Request<Incoming>) -> F + 'static,
    F: Future<Output = Answer> + 'static,
{
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return Stopped;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = dichroic_tasks::stopped(stop) => return Stopped,
        };
        let Ok((stream, _)) = accepted else {
            // Usually there is no free file descriptor: wait, do not spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let handler = handler.clone();
        let mut stop = stop.clone();
        let progress = Progress::default();
        let response_time = limits.response;
        let stream = limited(stream, limits.clone(), progress.clone());
        dichroic_tasks::contained(Kind::HttpConnection, async move {
            let _permit = permit;
            let current = progress.clone();
            let service = hyper::service::service_fn(move |request| {
                let (answer, current) = (handler(request), current.clone());
                async move {
                    current.begin(Some(Instant::now() + response_time));
                    let answer = answer.await;
                    if answer.extensions().get::<Endless>().is_some() {
                        current.begin(None);
                    }
                    Ok::<_, Infallible>(answer)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(CONNECTION_BUFFER)
                .serve_connection(stream, service);
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = dichroic_tasks::stopped(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    connection.as_mut().await
                }
            };
            // The body ended with an error.
            if ended.is_err_and(|error| error.is_user()) {
                progress.broken();
            }
        });
    }
}

/// A response with a complete body.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(
        Full::new(body.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// A line of text.
pub fn text(status: StatusCode, line: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

/// A JSON document.
pub fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, "application/json", value.to_string())
}

/// An error as JSON. The message states what is wrong and what to do.
pub fn error(status: StatusCode, message: &str) -> Answer {
    answer(
        status,
        "application/json",
        serde_json::json!({ "error": message }).to_string(),
    )
}

/// 405 with the allowed methods.
pub fn only_get() -> Answer {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed; use GET");
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// Whether the header contains the token. Compares in constant time.
pub fn token_matches(authorization: Option<&HeaderValue>, token: &Secret) -> bool {
    let given = authorization
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .unwrap_or("");
    token.matches(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_only_as_a_whole() {
        let check = |given: Option<&str>, expected: bool| {
            let value = given.map(|g| HeaderValue::from_str(g).unwrap());
            assert_eq!(
                token_matches(value.as_ref(), &Secret("0123456789abcdef".to_owned())),
                expected,
                "{given:?}"
            );
        };
        check(Some("Bearer 0123456789abcdef"), true);
        check(Some("Bearer 0123456789abcde"), false);
        check(Some("Bearer 0123456789abcdef0"), false);
        check(Some("0123456789abcdef"), false);
        check(None, false);
    }
}
