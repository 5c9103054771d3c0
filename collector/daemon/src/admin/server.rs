//! The admin listener: authorization, routes, and the documents that need more than the core.

use crate::admin::api;
use crate::admin::forbidden::HttpGuard;
use crate::admin::http::{self, Answer};
use crate::admin::pages::Pages;
use crate::attach::status::{AttachBoard, AttachStatus};
use crate::config::loaded::Loaded;
use crate::config::selection::selection;
use crate::config::{self, Config};
use crate::lint;
use crate::self_telemetry::Stages;
use dichroic_exporter_stream as stream;
use dichroic_model::Pattern;
use dichroic_packs::Selection;
use dichroic_pipeline::{Busy, Handle};
use dichroic_receiver_beam as beam;
use dichroic_receiver_prometheus::scrape::{TargetStatus, TargetStatuses};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::watch;

/// The parts of the configuration that `lint` needs.
pub fn lint_config(config: &Config, selection: Selection) -> lint::Config {
    let retain = config.exporters.stream.retain.iter();
    lint::Config {
        selection,
        chosen: matches!(config.metrics.packs, config::types::Packs::List(_)),
        retain: retain.filter_map(|pattern| Pattern::new(pattern).ok()).collect(),
    }
}

/// Handles the requests of the admin listener.
pub struct AdminServer {
    /// Access to the core.
    pub core: Handle,
    /// State of the scraped targets.
    pub targets: TargetStatuses,
    /// State of the relays.
    pub relays: beam::StatusBoard,
    /// State of the nodes of `receivers.beam.attach`.
    pub attachments: AttachBoard,
    /// `/v1/stream`.
    pub streams: stream::Exporter,
    /// `/metrics`, `/healthz`, `/readyz`.
    pub pages: Rc<Pages>,
    /// Latencies of both threads.
    pub stages: Stages,
    /// The section `admin`.
    pub config: config::Admin,
    /// Keeps web pages of other sites out.
    pub guard: HttpGuard,
    /// The configuration of `lint` at the start.
    pub lint: lint::Config,
    /// Reloaded configurations.
    pub reload: watch::Receiver<Option<Arc<Loaded>>>,
}

const INDEX: &str = "dichroic\n\n/api/v1/catalog   all metrics and events\n/api/v1/ledger    received, applied and dropped points by hop\n/api/v1/lint      likely problems\n/api/v1/sources   sources, targets, relays, attachments, subscribers\n/v1/stream        live events, logs and points: ?match=phoenix.**&format=ndjson\n/metrics, /healthz, /readyz";

impl AdminServer {
    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        if let Some(answer) = self.rejected(&request) {
            return answer;
        }
        let document = match request.uri().path() {
            "/v1/stream" => return self.stream(request).await,
            "/metrics" | "/healthz" | "/readyz" => return self.pages.answer(&request).await,
            "/" => return http::text(StatusCode::OK, INDEX),
            "/api/v1/catalog" => api::catalog(&self.core, &self.lint_config(), self.relays.read()).await,
            "/api/v1/ledger" => api::ledger(&self.core, &self.stages).await,
            "/api/v1/lint" => self.lint().await,
            "/api/v1/sources" => self.sources().await,
            _ => return http::error(StatusCode::NOT_FOUND, "not found; GET / lists the paths"),
        };
        match document {
            Ok(document) => http::json(&document),
            Err(busy) => http::error(StatusCode::SERVICE_UNAVAILABLE, &busy.to_string()),
        }
    }

    /// The response to a request that is not allowed.
    fn rejected(&self, request: &Request<Incoming>) -> Option<Answer> {
        if let Some(answer) = self.guard.refuse(request) {
            return Some(answer);
        }
        if let Some(token) = &self.config.token
            && !http::token_matches(request.headers().get(header::AUTHORIZATION), token)
        {
            let mut answer = http::error(
                StatusCode::UNAUTHORIZED,
                "missing or invalid token; send the header Authorization: Bearer with admin.token",
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
        let mut answer = response.map(|body| body.map_err(Into::into).boxed_unsync());
        answer.extensions_mut().insert(http::Endless);
        answer
    }

    async fn lint(&self) -> Result<Value, Busy> {
        let config = self.lint_config();
        let (targets, attachments) = (self.targets.targets(), self.attachments.read());
        api::lint(&self.core, &config, self.relays.read(), &targets, &attachments).await
    }

    /// The configuration in effect.
    fn lint_config(&self) -> lint::Config {
        let loaded = self.reload.borrow().clone();
        // The configuration was checked when it was loaded, so its selection is valid.
        let newer = loaded.and_then(|loaded| {
            let selection = selection(&loaded.config).ok()?;
            Some(lint_config(&loaded.config, selection))
        });
        newer.unwrap_or_else(|| self.lint.clone())
    }

    async fn sources(&self) -> Result<Value, Busy> {
        let mut document = api::sources(&self.core).await?;
        document["targets"] = self.targets.targets().iter().map(target).collect();
        document["relays"] = self.relays.read().iter().map(relay).collect();
        document["attachments"] = self.attachments.read().iter().map(attachment).collect();
        document["subscribers"] = self.streams.subscribers().iter().map(subscriber).collect();
        Ok(document)
    }
}

fn target(status: &TargetStatus) -> Value {
    json!({
        "job": status.job, "instance": status.instance, "url": status.url,
        "health": format!("{:?}", status.health).to_lowercase(),
        "last_error": status.last_error, "last_scrape": status.last_scrape,
        "last_scrape_duration_seconds": status.last_scrape_duration_seconds,
        "samples": status.samples, "scrapes": status.scrapes, "failures": status.failures,
        "violations": status.violations,
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

fn attachment(status: &AttachStatus) -> Value {
    json!({
        "node": status.node, "state": status.state.as_str(), "reason": status.reason, "help": status.help,
        "next_attempt_seconds": status.next_seconds(),
    })
}

fn subscriber(info: &stream::SubscriberInfo) -> Value {
    json!({
        "id": info.id, "agent": info.agent, "format": info.format.as_str(), "kind": info.kind, "patterns": info.patterns,
        "since": info.since, "offered": info.offered, "sent": info.sent, "dropped": info.dropped, "queued": info.queued,
    })
}
