//! One request in the ledger: received when its head is read, then accepted or refused. Requests that are refused, or accepted only
//! in part, are logged with their sender, because SDKs do not report them.

use super::refusal_log::Refusal;
use super::request_error::RequestError;
use super::sender::Sender;
use super::state::ServerState;
use crate::ingest::RequestOutcome;
use crate::service::Service;
use dichroic_pipeline::{Endpoint, RefusedReason, RequestEnd};
use std::time::Instant;

/// A request in flight. Counts it as aborted when it is dropped without an end.
pub(super) struct Accounted<'a> {
    state: &'a ServerState,
    endpoint: Endpoint,
    sender: Option<Sender>,
}

impl<'a> Accounted<'a> {
    pub(super) fn start(
        state: &'a ServerState,
        transport: &'static str,
        service: Option<Service>,
        sender: Sender,
    ) -> Self {
        let endpoint = Endpoint {
            transport,
            signal: service.map_or("unknown", Service::noun),
        };
        state.store.borrow_mut().ledger_mut().requests.received(endpoint);
        Accounted {
            state,
            endpoint,
            sender: Some(sender),
        }
    }

    pub(super) fn accepted(mut self, outcome: &RequestOutcome) {
        if outcome.rejected == 0 {
            return self.end(RequestEnd::Accepted, "");
        }
        self.end(RequestEnd::Partial, &outcome.message);
    }

    pub(super) fn refused(mut self, error: &RequestError) {
        self.end(RequestEnd::Refused(error.reason), &error.message);
    }

    fn end(&mut self, end: RequestEnd, message: &str) {
        let Some(sender) = self.sender.take() else { return };
        // Borrowed only while a panic unwinds.
        if let Ok(mut store) = self.state.store.try_borrow_mut() {
            store.ledger_mut().requests.ended(self.endpoint, end);
        }
        if end == RequestEnd::Accepted {
            return;
        }
        let refusal = Refusal {
            sender,
            endpoint: self.endpoint,
            reason: match end {
                RequestEnd::Refused(reason) => Some(reason),
                _ => None,
            },
        };
        self.state
            .refusals
            .borrow_mut()
            .log(refusal, message, Instant::now());
    }
}

impl Drop for Accounted<'_> {
    fn drop(&mut self) {
        let message = "the sender disconnected or canceled the request before its response; raise its timeout or send smaller batches";
        self.end(RequestEnd::Refused(RefusedReason::Aborted), message);
    }
}
