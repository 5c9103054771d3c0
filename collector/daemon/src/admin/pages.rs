//! `/metrics`, `/healthz` and `/readyz`, on the listener of the Prometheus page and on the admin listener.

use crate::admin::http::{self, Answer, Body, BoxError};
use crate::admin::responses::Responses;
use crate::self_telemetry::Stage;
use bytes::Bytes;
use dichroic_exporter_prometheus::{
    Negotiated, Options, PageKind, Pages as Exporter, Reader, Rendering, accepts_gzip, negotiate,
};
use dichroic_pipeline::Handle;
use dichroic_tasks::Kind;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tracing::Instrument;
use tracing::field::Empty;

/// Time limit for the response of the ingest thread to a health check.
const ALIVE: Duration = Duration::from_secs(5);

/// `Retry-After` of a page that is refused.
const RETRY_SECONDS: &str = "1";

/// Handles the three paths.
pub struct Pages {
    /// Renders pages.
    pub exporter: Exporter,
    /// Counts pages.
    pub responses: Arc<Responses>,
    /// Access to the core.
    pub core: Handle,
    /// Whether `/readyz` answers 200.
    pub ready: Rc<Cell<bool>>,
    /// Time to render a page.
    pub stage: Stage,
}

impl Pages {
    /// Answers a request for one of the three paths, or 404.
    pub async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return http::only_get();
        }
        match request.uri().path() {
            "/metrics" => self.page(request).await,
            "/healthz" => self.health().await,
            "/readyz" if self.ready.get() => http::text(StatusCode::OK, "ready"),
            "/readyz" => http::text(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            _ => http::text(
                StatusCode::NOT_FOUND,
                "not found; paths are /metrics, /healthz and /readyz",
            ),
        }
    }

    async fn page(&self, request: &Request<Incoming>) -> Answer {
        let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let negotiated = negotiate(header(header::ACCEPT));
        let gzip = accepts_gzip(header(header::ACCEPT_ENCODING));
        if request.method() == Method::HEAD {
            return page_answer(
                negotiated,
                gzip,
                Full::default().map_err(|never| match never {}).boxed_unsync(),
            );
        }
        let options = Options {
            utf8: negotiated.utf8,
            ..Options::default()
        };
        let format = negotiated.format;
        let opened = match self
            .exporter
            .open(PageKind {
                format,
                options,
                gzip,
            })
            .await
        {
            Ok(opened) => opened,
            Err(refused) => {
                self.responses.refused(refused);
                return busy(&refused.to_string());
            }
        };
        if let Some(rendering) = opened.rendering {
            let span = tracing::info_span!(
                "page",
                otel.kind = "server",
                content_type = negotiated.content_type(),
                gzip,
                bytes = Empty,
                result = Empty,
                otel.status_code = Empty,
            );
            let stage = self.stage.clone();
            dichroic_tasks::contained(Kind::PageRendering, render(rendering, stage).instrument(span));
        }
        let mut body = PageBody {
            reader: opened.reader,
            responses: self.responses.clone(),
        };
        match body.reader.ready().await {
            Ok(()) => page_answer(negotiated, gzip, BodyExt::boxed_unsync(body)),
            Err(cut) => busy(&cut.to_string()),
        }
    }

    async fn health(&self) -> Answer {
        if let Some(task) = dichroic_tasks::failed() {
            let line = format!("the task {task} panicked; the collector stops");
            return http::text(StatusCode::SERVICE_UNAVAILABLE, &line);
        }
        match tokio::time::timeout(ALIVE, self.core.call(|_| ())).await {
            Ok(Ok(())) => http::text(StatusCode::OK, "ok"),
            _ => http::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the ingest thread does not respond",
            ),
        }
    }
}

async fn render(rendering: Rendering, stage: Stage) {
    let rendered = rendering.run().await;
    let span = tracing::Span::current();
    span.record("bytes", i64::try_from(rendered.bytes).unwrap_or(i64::MAX));
    match rendered.end {
        Ok(()) => {
            span.record("result", "ok");
            stage.record(rendered.worked);
        }
        Err(cut) => {
            span.record("result", cut.as_str())
                .record("otel.status_code", "error");
        }
    }
}

fn page_answer(negotiated: Negotiated, gzip: bool, body: Body) -> Answer {
    let mut answer = Answer::new(body);
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(negotiated.content_type()),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    answer
}

fn busy(message: &str) -> Answer {
    let mut answer = http::text(StatusCode::SERVICE_UNAVAILABLE, message);
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    answer
}

/// The body of a page.
struct PageBody {
    reader: Reader,
    responses: Arc<Responses>,
}

impl hyper::body::Body for PageBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let piece = self.get_mut().reader.poll_next(cx);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(Into::into)))
    }
}

impl Drop for PageBody {
    fn drop(&mut self) {
        self.responses.page(self.reader.end());
    }
}
