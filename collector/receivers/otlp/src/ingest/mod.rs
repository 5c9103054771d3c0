//! Bytes of an OTLP request in, cells and batches out: the synchronous heart of the receiver.
//!
//! Called on the ingest thread with whole bodies. A body is checked first and refused as a whole when its frame does not hold
//! together; after that every item is applied or counted as dropped, each under its reason, and the sender is told how many were
//! rejected and why. Protobuf is walked in place: a point of a known series costs a hash of its attributes as they came, a look
//! into the table and a write. JSON is rewritten as protobuf first ([`crate::json`]) and takes the same way.

mod attributes;
mod error;
mod group;
mod logs;
mod metric_header;
mod metrics;
mod outcome;
mod parts;
mod point;
mod resource_scope;
mod sources;
mod tally;

use crate::service::Service;
use bytes::Bytes;
use dichroic_model::{Scope, UnixNanos};
use dichroic_pipeline::{Core, DropReason, Signal};
pub use error::MalformedRequest;
pub use outcome::RequestOutcome;
use parts::{RequestPart, RequestParts};
use resource_scope::ResourceScope;
use sources::Sources;
pub use sources::{IDLE, UNATTRIBUTED};
use std::ops::Range;
use tally::Tally;

/// What any piece of a request counts for in a step, beside its bytes.
const PART_BYTES: usize = 64;

/// A body that is a request of its service, as far as its frame tells.
#[derive(Debug)]
pub struct Checked {
    service: Service,
    body: Bytes,
}

impl Checked {
    /// Checks a body. Takes some tens of milliseconds for the largest.
    ///
    /// # Errors
    /// [`Malformed`] when it is no request of the service.
    pub fn new(service: Service, body: Bytes) -> Result<Self, MalformedRequest> {
        parts::check(service, &body)?;
        Ok(Checked { service, body })
    }
}

/// The receiver's memory between requests: who its sources are, and buffers.
#[derive(Default)]
pub struct Ingest {
    sources: Sources,
    scratch: point::Scratch,
    logs: logs::Logs,
}

/// A request that is being applied, and where in it that stands.
pub struct Request {
    service: Service,
    body: Bytes,
    parts: RequestParts,
    /// A metric of which points are left.
    metric: Option<metrics::MetricCursor>,
    here: ResourceScope,
    tally: Tally,
}

impl Ingest {
    /// Applies an `ExportMetricsServiceRequest`.
    ///
    /// # Errors
    /// [`Malformed`] when the body is none; nothing was applied then.
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

    /// Counts the spans of an `ExportTraceServiceRequest`: they are not kept.
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

    /// Checks a body and prepares to apply it in steps.
    ///
    /// # Errors
    /// [`Malformed`] when it is no request of the service.
    pub fn begin(
        &mut self,
        store: &Core,
        service: Service,
        body: Bytes,
    ) -> Result<Request, MalformedRequest> {
        Ok(self.begin_checked(store, Checked::new(service, body)?))
    }

    /// Prepares to apply a body that was checked, by another thread perhaps, in steps.
    pub fn begin_checked(&mut self, store: &Core, Checked { service, body }: Checked) -> Request {
        let nobody = store.fingerprinter(UNATTRIBUTED);
        Request {
            service,
            parts: RequestParts::new(&body),
            metric: None,
            body,
            here: ResourceScope {
                source: UNATTRIBUTED,
                refused: Some(DropReason::Malformed),
                known: None,
                of_source: nobody.clone(),
                of_scope: nobody,
                scope: Scope::default(),
            },
            tally: Tally::new(service),
        }
    }

    /// Applies about `bytes` of the request, and says what became of all of it once it is done.
    ///
    /// Work that costs more than its bytes counts for more, so that a step of a mebibyte stays near a millisecond, whatever the
    /// request holds. The ledger balances after every step.
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
                Some(RequestPart::Scope(scope)) => {
                    self.scratch.spend(PART_BYTES + scope.len());
                    request.here.enter_scope(&scope);
                }
                Some(RequestPart::Item(item)) => self.item(store, request, item, now),
                None => done = true,
            }
        }
        self.flush(store, request, now);
        done.then(|| request.tally.outcome())
    }

    fn resource(&mut self, store: &mut Core, request: &mut Request, resource: &[u8], now: UnixNanos) {
        self.flush(store, request, now);
        self.scratch.spend(4 * PART_BYTES + resource.len());
        let here = &mut request.here;
        match self.sources.of(store, resource, now) {
            Ok(known) => {
                here.source = known.source.id;
                here.refused = None;
                here.of_source = known.fingerprints.clone();
                here.known = Some(known);
            }
            Err(reason) => {
                (here.source, here.known) = (UNATTRIBUTED, None);
                here.refused = Some(reason);
            }
        }
        here.scope = Scope::default();
        here.of_scope = here.of_source.with(&[]);
    }

    fn item(&mut self, store: &mut Core, request: &mut Request, item: Range<usize>, now: UnixNanos) {
        let (here, tally) = (&request.here, &mut request.tally);
        match request.service {
            Service::Metrics => self.metric(store, request, metrics::MetricCursor::new(item), now),
            Service::Logs => {
                self.scratch.spend(4 * (PART_BYTES + item.len()));
                self.logs.record(store, here, tally, &request.body[item], now);
            }
            Service::Traces => {
                self.scratch.spend(PART_BYTES);
                tally.dropped(Signal::Traces, here.refused.unwrap_or(DropReason::Unsupported), 1);
            }
        }
    }

    fn metric(
        &mut self,
        store: &mut Core,
        request: &mut Request,
        place: metrics::MetricCursor,
        now: UnixNanos,
    ) {
        let (here, tally) = (&request.here, &mut request.tally);
        request.metric = metrics::apply(store, &mut self.scratch, here, tally, &request.body, place, now);
    }

    /// Hands rows to subscribers and counts to the ledger.
    fn flush(&mut self, store: &mut Core, request: &mut Request, now: UnixNanos) {
        if let Some(known) = &request.here.known {
            self.logs.publish(store, &known.source, &mut request.tally, now);
        }
        request.tally.flush_to(store.ledger_mut(), request.here.source);
    }

    /// Lets sources go that have been silent for [`IDLE`]. Call every few seconds.
    pub fn tick(&mut self, store: &mut Core, now: UnixNanos) {
        self.sources.tick(store, now);
    }
}
