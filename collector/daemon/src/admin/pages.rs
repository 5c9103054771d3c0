//! `/metrics`, `/healthz` and `/readyz`, on the listener of the Prometheus page and on the admin listener.

use crate::admin::http::{self, Answer};
use crate::self_telemetry::Stage;
use dichroic_exporter_prometheus::{Options, accepts_gzip, negotiate, page_with};
use dichroic_pipeline::Handle;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tracing::Instrument;
use tracing::field::Empty;

/// Time limit for the response of the ingest thread to a health check.
const ALIVE: Duration = Duration::from_secs(5);

/// Handles the three paths.
pub struct Pages {
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
        let started = Instant::now();
        let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let negotiated = negotiate(header(header::ACCEPT));
        let gzip = accepts_gzip(header(header::ACCEPT_ENCODING));
        let span = tracing::info_span!(
            "page",
            otel.kind = "server",
            content_type = negotiated.content_type(),
            gzip,
            bytes = Empty,
            result = Empty,
            otel.status_code = Empty,
        );
        let options = Options {
            utf8: negotiated.utf8,
            ..Options::default()
        };
        let page = page_with(&self.core, negotiated.format, gzip, options);
        match page.instrument(span.clone()).await {
            Ok(bytes) => {
                span.record("bytes", bytes.len() as i64).record("result", "ok");
                self.stage.record(started.elapsed());
                let mut answer = http::answer(StatusCode::OK, negotiated.content_type(), bytes);
                answer
                    .headers_mut()
                    .insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
                if gzip {
                    answer
                        .headers_mut()
                        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
                answer
            }
            Err(busy) => {
                span.record("result", "busy").record("otel.status_code", "error");
                http::text(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string())
            }
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
