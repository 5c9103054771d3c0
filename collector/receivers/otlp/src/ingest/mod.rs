//! Applies OTLP requests: encoded bytes in, cells and event batches out. Synchronous.
//!
//! Called on the ingest thread with whole bodies. A body is validated first, and rejected as a whole when its structure is invalid.
//! After that every item is applied or counted as dropped under its reason, and the sender gets the counts and reasons.
//! Protobuf is read in place: a point of a known series costs one hash of its encoded attributes, one lookup and one write.
//! JSON is first converted to protobuf ([`crate::json`]).

mod attributes;
mod error;
mod group;
mod logs;
mod metric_header;
mod metrics;
mod outcome;
mod parts;
mod point;
mod rejections;
mod resource_scope;
mod sources;
mod tally;

use crate::config::SourceRules;
use crate::service::Service;
use bytes::Bytes;
use dichroic_model::{Scope, UnixNanos};
use dichroic_pipeline::{Core, DropReason, Signal};
pub use error::MalformedRequest;
pub use outcome::RequestOutcome;
use parts::{RequestPart, RequestParts};
use resource_scope::ResourceScope;
use sources::Sources;
pub use sources::UNATTRIBUTED;
use std::ops::Range;
use tally::Tally;

/// Cost of a part of a request in a step, in addition to its bytes.
const PART_BYTES: usize = 64;

/// A body whose structure is valid for its service.
#[derive(Debug)]
pub struct Checked {
    service: Service,
    body: Bytes,
}

impl Checked {
    /// Validates a body; tens of milliseconds for the largest.
    ///
    /// # Errors
    /// [`MalformedRequest`] when it is not a request of the service.
    pub fn new(service: Service, body: Bytes) -> Result<Self, MalformedRequest> {
        parts::check(service, &body)?;
        Ok(Checked { service, body })
    }
}

/// The receiver's state between requests: its sources, and buffers.
#[derive(Default)]
pub struct Ingest {
    sources: Sources,
    scratch: point::Scratch,
    logs: logs::Logs,
}

/// A request that is being applied, with the position in it.
pub struct Request {
    service: Service,
    body: Bytes,
    parts: RequestParts,
    /// A metric that still has points to apply.
    metric: Option<metrics::MetricCursor>,
    resource: ResourceScope,
    tally: Tally,
}

impl Ingest {
    /// Without a source yet.
    pub fn new(rules: SourceRules) -> Self {
        Ingest {
            sources: Sources::new(rules),
            ..Ingest::default()
        }
    }

    /// Applies an `ExportMetricsServiceRequest`.
    ///
    /// # Errors
    /// [`MalformedRequest`] when the body is not such a request; nothing was applied then.
    pub fn metrics(
        &mut self,
        store: &mut Core,
        body: &[u8],
        now: UnixNanos,
    ) -> Result<RequestOutcome, MalformedRequest> {
        self.whole(store, Service::Metrics, body, now)
    }

    /// Publishes the records of an `ExportLogsServiceRequest`.
    ///
    /// # Errors
    /// As [`Ingest::metrics`].
    pub fn logs(
        &mut self,
        store: &mut Core,
        body: &[u8],
        now: UnixNanos,
    ) -> Result<RequestOutcome, MalformedRequest> {
        self.whole(store, Service::Logs, body, now)
    }

    /// Counts the spans of an `ExportTraceServiceRequest` and drops them: traces are not stored.
    ///
    /// # Errors
    /// As [`Ingest::metrics`].
    pub fn traces(
        &mut self,
        store: &mut Core,
        body: &[u8],
        now: UnixNanos,
    ) -> Result<RequestOutcome, MalformedRequest> {
        self.whole(store, Service::Traces, body, now)
    }

    fn whole(
        &mut self,
        store: &mut Core,
        service: Service,
        body: &[u8],
        now: UnixNanos,
    ) -> Result<RequestOutcome, MalformedRequest> {
        let mut request = self.begin(store, service, Bytes::copy_from_slice(body))?;
        loop {
            if let Some(outcome) = self.step(store, &mut request, usize::MAX, now) {
                return Ok(outcome);
            }
        }
    }

    /// Validates a body and prepares to apply it in steps.
    ///
    /// # Errors
    /// [`MalformedRequest`] when it is not a request of the service.
    pub fn begin(
        &mut self,
        store: &Core,
        service: Service,
        body: Bytes,
    ) -> Result<Request, MalformedRequest> {
        Ok(self.begin_checked(store, Checked::new(service, body)?))
    }

    /// Prepares to apply a validated body in steps. The validation may have run on another thread.
    pub fn begin_checked(&mut self, store: &Core, Checked { service, body }: Checked) -> Request {
        let unattributed = store.fingerprinter(UNATTRIBUTED);
        Request {
            service,
            parts: RequestParts::new(&body),
            metric: None,
            body,
            resource: ResourceScope {
                source: UNATTRIBUTED,
                refused: Some(DropReason::Malformed),
                open: None,
                of_source: unattributed.clone(),
                of_scope: unattributed,
                scope: Scope::default(),
            },
            tally: Tally::new(service),
        }
    }

    /// Applies about `bytes` of the request. Returns the outcome of the whole request after its last step.
    ///
    /// Work that costs more than its bytes counts as more bytes, so that a step of one mebibyte takes about a millisecond for any
    /// request. The ledger balances after every step.
    pub fn step(
        &mut self,
        store: &mut Core,
        request: &mut Request,
        bytes: usize,
        now: UnixNanos,
    ) -> Option<RequestOutcome> {
        self.scratch.left = bytes;
        let mut done = false;
        while self.scratch.left > 0 && !done {
            if let Some(metric) = request.metric.take() {
                self.metric(store, request, metric, now);
                continue;
            }
            match request.parts.next(&request.body) {
                Some(RequestPart::Resource(resource)) => self.resource(store, request, &resource, now),
                Some(RequestPart::Scope(scope, schema_url)) => {
                    self.scratch.spend(PART_BYTES + scope.len() + schema_url.len());
                    request.resource.enter_scope(&scope, &schema_url);
                }
                Some(RequestPart::Item(item)) => self.item(store, request, item, now),
                None => done = true,
            }
        }
        self.flush(store, request, now);
        done.then(|| request.tally.outcome())
    }

    fn resource(&mut self, store: &mut Core, request: &mut Request, message: &[u8], now: UnixNanos) {
        self.flush(store, request, now);
        self.scratch.spend(4 * PART_BYTES + message.len());
        let resource = &mut request.resource;
        match self.sources.of(store, message, now) {
            Ok(open) => {
                resource.source = open.source.id;
                resource.refused = None;
                resource.of_source = open.fingerprints.clone();
                resource.open = Some(open);
            }
            Err(reason) => {
                (resource.source, resource.open) = (UNATTRIBUTED, None);
                resource.refused = Some(reason);
            }
        }
        resource.scope = Scope::default();
        resource.of_scope = resource.of_source.with(&[]);
    }

    fn item(&mut self, store: &mut Core, request: &mut Request, item: Range<usize>, now: UnixNanos) {
        let (resource, tally) = (&request.resource, &mut request.tally);
        match request.service {
            Service::Metrics => self.metric(store, request, metrics::MetricCursor::new(item), now),
            Service::Logs => {
                self.scratch.spend(4 * (PART_BYTES + item.len()));
                self.logs.record(store, resource, tally, &request.body[item], now);
            }
            Service::Traces => {
                self.scratch.spend(PART_BYTES);
                tally.dropped(
                    Signal::Traces,
                    resource.refused.unwrap_or(DropReason::Unsupported),
                    1,
                );
            }
        }
    }

    fn metric(
        &mut self,
        store: &mut Core,
        request: &mut Request,
        position: metrics::MetricCursor,
        now: UnixNanos,
    ) {
        let (resource, tally) = (&request.resource, &mut request.tally);
        request.metric = metrics::apply(
            store,
            &mut self.scratch,
            resource,
            tally,
            &request.body,
            position,
            now,
        );
    }

    /// Publishes pending rows and writes the counts into the ledger.
    fn flush(&mut self, store: &mut Core, request: &mut Request, now: UnixNanos) {
        if let Some(open) = &request.resource.open {
            self.logs.publish(store, &open.source, &mut request.tally, now);
        }
        request
            .tally
            .flush_to(store.ledger_mut(), request.resource.source);
    }

    /// Ends sources that have been silent for [`SourceRules::expire_after`]. Call it every few seconds.
    pub fn tick(&mut self, store: &mut Core, now: UnixNanos) {
        self.sources.tick(store, now);
    }
}
