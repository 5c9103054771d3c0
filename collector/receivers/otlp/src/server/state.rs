//! State that all requests of both ports share, and the two steps of every request: decompress, ingest.

use super::budget::{Budget, Share};
use super::counters::Counters;
use super::inflate::{Encoding, InflateError, WINDOW_LOG_MAX, WINDOW_MIB, inflate};
use super::offload::Offload;
use super::refusal_log::RefusalLog;
use super::request_error::RequestError;
use crate::config::Limits;
use crate::ingest::{Checked, Ingest, RequestOutcome};
use crate::protobuf::ProtobufError;
use crate::service::Service;
use bytes::Bytes;
use dichroic_model::clock::now;
use dichroic_pipeline::{Core, RefusedReason};
use std::cell::RefCell;
use std::rc::Rc;

/// Bytes applied between two yields to other tasks: less than a millisecond of work.
const STEP_BYTES: usize = 1 << 20;

/// State shared by all requests, on the ingest thread.
pub(super) struct ServerState {
    pub(super) store: Rc<RefCell<Core>>,
    pub(super) ingest: RefCell<Ingest>,
    pub(super) budget: Budget,
    pub(super) offload: Offload,
    pub(super) limits: Limits,
    pub(super) counters: Rc<Counters>,
    pub(super) refusals: RefCell<RefusalLog>,
}

impl ServerState {
    pub(super) fn new(
        limits: Limits,
        ingest: Ingest,
        counters: Rc<Counters>,
        store: Rc<RefCell<Core>>,
    ) -> Self {
        let memory = store.borrow().budget().clone();
        ServerState {
            budget: Budget::new(limits.in_flight_bytes, memory),
            store,
            ingest: RefCell::new(ingest),
            offload: Offload::new(),
            limits,
            counters,
            refusals: RefCell::default(),
        }
    }

    /// Applies a body; yields to other tasks every [`STEP_BYTES`].
    pub(super) async fn ingest(&self, service: Service, body: Bytes) -> Result<RequestOutcome, RequestError> {
        let short = body.len() <= STEP_BYTES;
        let checked = self.offload.run(short, move || Checked::new(service, body)).await;
        let checked = checked.map_err(|malformed| match malformed.broken {
            ProtobufError::TooMany => RequestError::new(RefusedReason::TooLarge, malformed.to_string()),
            _ => RequestError::bad(malformed.to_string()),
        })?;
        let mut request = self
            .ingest
            .borrow_mut()
            .begin_checked(&self.store.borrow(), checked);
        loop {
            let outcome = {
                let (mut ingest, mut store) = (self.ingest.borrow_mut(), self.store.borrow_mut());
                ingest.step(&mut store, &mut request, STEP_BYTES, now())
            };
            match outcome {
                Some(outcome) => return Ok(outcome),
                None => tokio::task::yield_now().await,
            }
        }
    }

    /// Decompresses a body; its bytes are taken from the budget. The error names `what` was compressed and the `header` that
    /// states how.
    pub(super) async fn inflate(
        &self,
        encoding: Encoding,
        body: Bytes,
        share: &mut Share,
        (what, header): (&str, &str),
    ) -> Result<Bytes, RequestError> {
        let max = self.limits.max_request_bytes;
        let first_max = max.min(STEP_BYTES);
        // The size is known only after decompression, so the first try is limited to what takes little time.
        let mut inflated = Err(InflateError::TooLarge);
        if body.len() <= first_max {
            inflated = inflate(encoding, &body, first_max);
        }
        if inflated == Err(InflateError::TooLarge) && (first_max < max || body.len() > first_max) {
            let work = move || inflate(encoding, &body, max);
            inflated = self.offload.run(false, work).await;
        }
        let inflated = inflated.map_err(|failed| match failed {
            InflateError::TooLarge => RequestError::too_large(&self.limits),
            InflateError::Corrupt => {
                let message = format!("the {what} is not {encoding:?}, which its {header} states");
                RequestError::new(RefusedReason::Corrupt, message)
            }
            InflateError::Window => {
                let message = format!(
                    "the zstd window of the {what} is larger than {WINDOW_MIB} MiB, and the frame does not state its size; compress with a window log of {WINDOW_LOG_MAX} or less"
                );
                RequestError::new(RefusedReason::Window, message)
            }
        })?;
        share.take(inflated.len())?;
        Ok(inflated.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_model::Limits as StoreLimits;
    use std::io::Write;
    use std::sync::Arc;

    fn state() -> Rc<ServerState> {
        let store = Core::new(StoreLimits::default(), Arc::new(dichroic_model::Identity), 1);
        let store = Rc::new(RefCell::new(store));
        Rc::new(ServerState::new(
            Limits::default(),
            Ingest::default(),
            Rc::default(),
            store,
        ))
    }

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("writing to memory cannot fail");
        encoder.finish().expect("writing to memory cannot fail").into()
    }

    /// A valid request of this size without an item: one unknown field.
    fn padding(bytes: usize) -> Vec<u8> {
        let mut body = Vec::new();
        crate::protobuf::put_bytes(&mut body, 15, &vec![0; bytes]);
        body
    }

    async fn take(state: Rc<ServerState>, body: Bytes) -> Result<RequestOutcome, u16> {
        let mut share = state.budget.share();
        let inflated = state.inflate(Encoding::Gzip, body, &mut share, ("body", "header"));
        let body = inflated.await.map_err(|error| error.http)?;
        let taken = state.ingest(Service::Metrics, body).await;
        taken.map_err(|error| error.http)
    }

    #[test]
    fn small_requests_are_answered_while_a_large_body_is_processed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            let state = state();
            let (good, broken) = (
                padding(2 * STEP_BYTES),
                [&padding(2 * STEP_BYTES)[..], &[7]].concat(),
            );
            let large = |body: &[u8]| tokio::task::spawn_local(take(state.clone(), gzip(body)));
            let working = state.offload.occupy().await;
            let (good, broken, bomb) = (large(&good), large(&broken), large(&vec![0; 65 << 20]));
            for _ in 0..100 {
                let small = take(state.clone(), gzip(&padding(100))).await;
                assert_eq!(small, Ok(RequestOutcome::default()));
                tokio::task::yield_now().await;
            }
            let waiting = [&good, &broken].iter().all(|large| !large.is_finished());
            assert!(waiting, "large bodies are processed on the offload thread");
            drop(working);
            assert_eq!(good.await.expect("no panic"), Ok(RequestOutcome::default()));
            assert_eq!(broken.await.expect("no panic"), Err(400));
            assert_eq!(bomb.await.expect("no panic"), Err(413));
            assert!(
                state.budget.share().grow(state.limits.in_flight_bytes),
                "all bytes returned to the budget"
            );
        });
    }
}
