//! OTLP requests.

use crate::input::Input;
use crate::world;
use dichroic_pipeline::Core;
use dichroic_receiver_otlp::{Ingest, MalformedRequest, RequestOutcome, Service, json};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// Requests of one input.
const MOST_REQUESTS: usize = 3;

fn service(options: u8) -> Service {
    match options & 3 {
        0 | 1 => Service::Metrics,
        2 => Service::Logs,
        _ => Service::Traces,
    }
}

/// Applies a request.
pub fn take(
    store: &mut Core,
    ingest: &mut Ingest,
    service: Service,
    body: &[u8],
    now: u64,
) -> Result<RequestOutcome, MalformedRequest> {
    let taken = match service {
        Service::Metrics => ingest.metrics(store, body, now),
        Service::Logs => ingest.logs(store, body, now),
        Service::Traces => ingest.traces(store, body, now),
    };
    assert!(
        store.ledger().balances(),
        "the ledger balances after every request"
    );
    taken
}

/// Whether the generated types decode the body.
fn is_decoded_by_generated_types(service: Service, body: &[u8]) -> bool {
    match service {
        Service::Metrics => ExportMetricsServiceRequest::decode(body).is_ok(),
        Service::Logs => ExportLogsServiceRequest::decode(body).is_ok(),
        Service::Traces => ExportTraceServiceRequest::decode(body).is_ok(),
    }
}

/// One to three requests in protobuf, split by their lengths. What the generated types decode is accepted.
///
/// Options: the service and the limits; then for each request its length, except for the last.
pub fn otlp_protobuf(data: &[u8]) {
    let mut input = Input(data);
    let options = input.byte();
    let service = service(options);
    let mut store = world::store(options & 0x80 != 0);
    let mut ingest = Ingest::default();
    let requests = 1 + usize::from(options >> 2 & 3) % MOST_REQUESTS;
    for at in 0..requests {
        let length = if at + 1 < requests {
            usize::from(input.u16())
        } else {
            usize::MAX
        };
        let body = input.take(length);
        let taken = take(&mut store, &mut ingest, service, body, world::NOW + at as u64);
        if taken.is_err() {
            assert!(
                !is_decoded_by_generated_types(service, body),
                "a body that the generated types decode is accepted"
            );
        }
    }
    world::check(&mut store);
}

/// A request in JSON. What is converted is accepted as protobuf, by the generated types too.
///
/// Options: the service and the limits.
pub fn otlp_json(data: &[u8]) {
    let mut input = Input(data);
    let options = input.byte();
    let _ = json::service_of(input.0);
    let service = service(options);
    let Ok(body) = json::to_protobuf(service, input.0) else {
        return;
    };
    assert!(
        is_decoded_by_generated_types(service, &body),
        "the converted body is valid: {body:02x?}"
    );
    let mut store = world::store(options & 0x80 != 0);
    let taken = take(&mut store, &mut Ingest::default(), service, &body, world::NOW);
    assert!(taken.is_ok(), "the converted body is accepted: {taken:?}");
    world::check(&mut store);
}
