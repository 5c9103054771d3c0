//! The main thread's side: the Prometheus page, health, the admin API, streams.
//!
//! Nothing here touches the store but through its handle, so nothing here can hold up a receiver.

use crate::admin::api;
use crate::admin::http::{self, Answer};
use crate::config::loaded::Loaded;
use crate::config::selection::selection;
use crate::config::{self, Config};
use crate::lint;
use crate::runtime::handoff::Arrival;
use crate::runtime::shutdown::Stop;
use crate::self_telemetry::{Stage, Stages};
use dichroic_exporter_prometheus::{accepts_gzip, negotiate, page};
use dichroic_exporter_stream as stream;
use dichroic_model::Pattern;
use dichroic_pipeline::Handle;
use dichroic_receiver_beam as beam;
use dichroic_receiver_prometheus::scrape::TargetStatuses;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// Longest silence of the ingest thread that still counts as healthy.
const ALIVE: Duration = Duration::from_secs(5);

/// What this side is made of.
pub struct Parts<'a> {
    pub config: &'a Config,
    pub handle: Handle,
    pub board: TargetStatuses,
    pub relays: beam::StatusBoard,
    pub subscribers: mpsc::Receiver<Arrival>,
    pub stop: Stop,
    pub stages: Stages,
    pub reload: watch::Receiver<Option<Arc<Loaded>>>,
}

/// This side at work.
pub struct Export {
    pub prometheus: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
    ready: Rc<Cell<bool>>,
    streams: stream::Exporter,
}

impl Export {
    /// From now on `/readyz` says no.
    pub fn not_ready(&self) {
        self.ready.set(false);
    }

    /// Lets subscribers have what is held for them.
    pub async fn finish(&self, deadline: Duration) {
        if !self.streams.shutdown(deadline).await {
            tracing::warn!("shutdown deadline reached: some subscribers did not take what was held for them");
        }
    }
}

/// Binds and starts everything of this side. Must run in a `LocalSet`.
pub async fn start(parts: Parts<'_>) -> Result<Export, String> {
    let Parts {
        config,
        handle,
        board,
        relays,
        subscribers,
        stop,
        stages,
        reload,
    } = parts;
    let ready = Rc::new(Cell::new(true));
    let streams = stream::Exporter::new(
        handle.clone(),
        stream::Config {
            subscribers: config.limits.subscribers,
            ..stream::Config::default()
        },
    );
    let prometheus = bind(&config.exporters.prometheus.listen, "exporters.prometheus.listen").await?;
    let admin = bind(&config.admin.listen, "admin.listen").await?;
    let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|l| l.local_addr().ok());
    let export = Export {
        prometheus: address(&prometheus),
        admin: address(&admin),
        ready: ready.clone(),
        streams: streams.clone(),
    };
    let pages = Rc::new(Pages {
        handle: handle.clone(),
        ready,
        stage: stages.page.clone(),
    });
    if let Some(listener) = prometheus {
        let pages = pages.clone();
        let handler = move |request| {
            let pages = pages.clone();
            async move { pages.answer(&request).await }
        };
        tokio::task::spawn_local(http::serve(listener, handler, stop.exporters.clone()));
    }
    if let Some(listener) = admin {
        let admin = Rc::new(Admin {
            handle,
            board,
            relays,
            streams: streams.clone(),
            pages,
            stages,
            config: config.admin.clone(),
            lint: lint_config(config)?,
            reload,
        });
        let handler = move |request| {
            let admin = admin.clone();
            async move { admin.answer(request).await }
        };
        tokio::task::spawn_local(http::serve(listener, handler, stop.exporters.clone()));
    }
    tokio::task::spawn_local(take_over(subscribers, streams));
    Ok(export)
}

async fn bind(listen: &config::values::Listen, key: &str) -> Result<Option<TcpListener>, String> {
    match listen.address() {
        None => Ok(None),
        Some(address) => http::bind(address, key).await.map(Some),
    }
}

/// Serves subscribers that the ingest thread has greeted.
async fn take_over(mut arrivals: mpsc::Receiver<Arrival>, streams: stream::Exporter) {
    while let Some(Arrival {
        stream,
        hello,
        leftover,
    }) = arrivals.recv().await
    {
        let Ok(stream) = stream.resume() else {
            continue;
        };
        let streams = streams.clone();
        tokio::task::spawn_local(async move { streams.serve_subscriber(stream, &hello, &leftover).await });
    }
}

/// `/metrics`, `/healthz`, `/readyz`.
struct Pages {
    handle: Handle,
    ready: Rc<Cell<bool>>,
    stage: Stage,
}

impl Pages {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return http::only_get();
        }
        match request.uri().path() {
            "/metrics" => self.page(request).await,
            "/healthz" => self.health().await,
            "/readyz" if self.ready.get() => http::text(StatusCode::OK, "ready"),
            "/readyz" => http::text(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            _ => http::text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz"),
        }
    }

    async fn page(&self, request: &Request<Incoming>) -> Answer {
        let begun = Instant::now();
        let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        let format = negotiate(header(header::ACCEPT));
        let gzip = accepts_gzip(header(header::ACCEPT_ENCODING));
        match page(&self.handle, format, gzip).await {
            Ok(bytes) => {
                self.stage.record(begun.elapsed());
                let mut answer = http::answer(StatusCode::OK, format.content_type(), bytes);
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
            Err(busy) => http::text(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string()),
        }
    }

    async fn health(&self) -> Answer {
        match tokio::time::timeout(ALIVE, self.handle.call(|_| ())).await {
            Ok(Ok(())) => http::text(StatusCode::OK, "ok"),
            _ => http::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the ingest thread does not answer",
            ),
        }
    }
}

fn lint_config(config: &Config) -> Result<lint::Config, String> {
    let retain = config.exporters.stream.retain.iter();
    Ok(lint::Config {
        selection: selection(config)?,
        chosen: matches!(config.metrics.packs, config::Packs::List(_)),
        retain: retain.filter_map(|pattern| Pattern::new(pattern).ok()).collect(),
    })
}

/// The admin listener.
struct Admin {
    handle: Handle,
    board: TargetStatuses,
    relays: beam::StatusBoard,
    streams: stream::Exporter,
    pages: Rc<Pages>,
    stages: Stages,
    config: config::Admin,
    lint: lint::Config,
    reload: watch::Receiver<Option<Arc<Loaded>>>,
}

const INDEX: &str = "dichroic\n\n/api/v1/catalog   every known metric and event\n/api/v1/ledger    what became of every point\n/api/v1/lint      what looks wrong\n/api/v1/sources   who sends, targets, relays, subscribers\n/v1/stream        live events, logs and points: ?match=phoenix.**&format=ndjson\n/metrics, /healthz, /readyz";

impl Admin {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if let Some(refusal) = self.refusal(&request) {
            return refusal;
        }
        let document = match request.uri().path() {
            "/v1/stream" => return self.stream(request).await,
            "/metrics" | "/healthz" | "/readyz" => return self.pages.answer(&request).await,
            "/" => return http::text(StatusCode::OK, INDEX),
            "/api/v1/catalog" => api::catalog(&self.handle).await,
            "/api/v1/ledger" => api::ledger(&self.handle, &self.stages).await,
            "/api/v1/lint" => self.lint().await,
            "/api/v1/sources" => self.sources().await,
            _ => return http::error(StatusCode::NOT_FOUND, "not found; GET / lists what there is"),
        };
        match document {
            Ok(document) => http::json(&document),
            Err(busy) => http::error(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string()),
        }
    }

    fn refusal(&self, request: &Request<Incoming>) -> Option<Answer> {
        if !http::host_allowed(request.headers().get(header::HOST), &self.config.allowed_hosts) {
            let what =
                "the Host header does not name this machine; add it to admin.allowed_hosts if it should";
            return Some(http::error(StatusCode::FORBIDDEN, what));
        }
        if let Some(token) = &self.config.token
            && !http::token_matches(request.headers().get(header::AUTHORIZATION), token)
        {
            let mut answer = http::error(
                StatusCode::UNAUTHORIZED,
                "send the token of admin.token as Authorization: Bearer",
            );
            answer
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Some(answer);
        }
        (!matches!(*request.method(), Method::GET | Method::HEAD)).then(http::only_get)
    }

    async fn stream(&self, request: Request<Incoming>) -> Answer {
        let (parts, _) = request.into_parts();
        let response: Response<stream::Body> = self.streams.http_response(&parts).await;
        response.map(|body| body.map_err(Into::into).boxed_unsync())
    }

    async fn lint(&self) -> Result<Value, dichroic_pipeline::Busy> {
        let loaded = self.reload.borrow().clone();
        // A configuration that is in force has packs that can be chosen.
        let newer = loaded.and_then(|loaded| lint_config(&loaded.config).ok());
        api::lint(
            &self.handle,
            newer.as_ref().unwrap_or(&self.lint),
            self.relays.read(),
        )
        .await
    }

    async fn sources(&self) -> Result<Value, dichroic_pipeline::Busy> {
        let mut document = api::sources(&self.handle).await?;
        document["targets"] = self.board.targets().iter().map(target).collect();
        document["relays"] = self.relays.read().iter().map(relay).collect();
        document["subscribers"] = self.streams.subscribers().iter().map(subscriber).collect();
        Ok(document)
    }
}

fn target(status: &dichroic_receiver_prometheus::scrape::TargetStatus) -> Value {
    json!({
        "job": status.job, "instance": status.instance, "url": status.url,
        "health": format!("{:?}", status.health).to_lowercase(),
        "last_error": status.last_error, "last_scrape": status.last_scrape,
        "last_scrape_duration_seconds": status.last_scrape_duration_seconds,
        "samples": status.samples, "scrapes": status.scrapes, "failures": status.failures,
    })
}

fn relay(status: &beam::RelayStatus) -> Value {
    let refused: Vec<Value> = status
        .refused
        .iter()
        .map(|(what, message)| json!({ "what": what, "message": message }))
        .collect();
    json!({
        "node": status.node, "os_pid": status.os_pid, "agent": status.agent, "otp": status.otp,
        "telemetry": status.telemetry, "mode": if status.attached_mode { "attached" } else { "installed" },
        "epoch": status.epoch, "attempt": status.attempt, "since": status.since,
        "connected": status.ended.is_none(), "ended": status.ended, "end": status.end,
        "generation": status.generation, "attached": status.attached, "refused": refused, "variables": status.variables,
        "series": status.series, "rows": status.rows, "backwards": status.backwards,
        "events": status.events, "flushes": status.flushes, "unknown_frames": status.unknown_frames,
    })
}

fn subscriber(info: &stream::SubscriberInfo) -> Value {
    json!({
        "id": info.id, "agent": info.agent, "format": info.format.as_str(), "kind": info.kind, "patterns": info.patterns,
        "since": info.since, "offered": info.offered, "sent": info.sent, "dropped": info.dropped, "queued": info.queued,
    })
}
