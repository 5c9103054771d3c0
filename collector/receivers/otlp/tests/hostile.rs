//! A hostile, truncated or corrupt body is rejected, or loses its own points, which are counted. Nothing else changes.

mod common;

use common::*;
use dichroic_receiver_otlp::{Service, json, protobuf};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;

/// A request with every kind of metric in it.
fn everything() -> Vec<u8> {
    let mut point = with(&[("a", "x"), ("b", "ключ")], int(7));
    point.exemplars = vec![Exemplar {
        time_unix_nano: 9,
        value: Some(exemplar::Value::AsInt(7)),
        trace_id: vec![1; 16],
        ..Default::default()
    }];
    let summary = Summary {
        data_points: vec![SummaryDataPoint {
            time_unix_nano: EPOCH,
            quantile_values: vec![ValueAtQuantile {
                quantile: 0.5,
                value: 1.0,
            }],
            ..Default::default()
        }],
    };
    body(vec![
        gauge("g", vec![point.clone(), float(0.5)]),
        sum("c", DELTA, true, vec![point]),
        histogram("h", CUMULATIVE, vec![buckets(&[1.0, 2.0], &[1, 2, 3])]),
        exponential("e", DELTA, vec![exponential_buckets(1, 2, 3, &[4, 5])]),
        metric("s", Data::Summary(summary)),
    ])
    .to_vec()
}

#[test]
fn a_truncated_body_is_rejected_and_changes_nothing() {
    let whole = everything();
    for end in 1..whole.len() {
        let mut world = World::new();
        let error = world
            .take(Service::Metrics, &whole[..end])
            .expect_err("a cut body");
        assert!(error.to_string().contains("nothing was accepted"));
        assert_eq!(
            (world.rows().len(), world.accounts().len()),
            (0, 0),
            "cut at {end}"
        );
    }
}

#[test]
fn false_lengths_are_rejected() {
    let check = |body: &[u8]| {
        for service in Service::ALL {
            assert!(World::new().take(service, body).is_err(), "{body:02x?}");
        }
    };
    // Resources of 2^63 bytes, of 4 GiB, and of one byte more than the body has.
    check(&[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]);
    check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    check(&[0x0a, 0x01]);
    check(&[0x0a, 0x02, 0x12, 0x7f]);
    // Invalid tags, and a number in place of a message.
    check(&[0x00]);
    check(&[0x0b]);
    check(&[0x08, 0x01]);
    check(b"{\"resourceMetrics\":[]}");
}

#[test]
fn bodies_of_another_service_are_harmless() {
    let body = everything();
    for service in [Service::Logs, Service::Traces] {
        let mut world = World::new();
        if let Ok(outcome) = world.take(service, &body) {
            assert_eq!(outcome.accepted + outcome.rejected, 5, "{service:?}");
        }
        assert_eq!(world.rows().len(), 0);
    }
}

#[test]
fn a_malformed_point_costs_that_point_alone() {
    use protobuf::put_bytes;
    let good = int(1).encode_to_vec();
    let text = |bytes: &[u8]| {
        let (mut value, mut pair, mut point) = (Vec::new(), Vec::new(), int(1).encode_to_vec());
        put_bytes(&mut value, 1, bytes);
        put_bytes(&mut pair, 1, b"k");
        put_bytes(&mut pair, 2, &value);
        put_bytes(&mut point, 7, &pair);
        point
    };
    let mut garbled = good.clone();
    put_bytes(&mut garbled, 7, &[0xff, 0xff]);
    let mut nested = vec![];
    for _ in 0..200 {
        let (mut list, mut value) = (Vec::new(), Vec::new());
        put_bytes(&mut list, 1, &nested);
        put_bytes(&mut value, 5, &list);
        nested = value;
    }
    let (mut pair, mut deep) = (Vec::new(), int(1).encode_to_vec());
    put_bytes(&mut pair, 1, b"k");
    put_bytes(&mut pair, 2, &nested);
    put_bytes(&mut deep, 7, &pair);
    let wrong_type = [&good[..], &[0x18, 0x01]].concat();
    let beyond = [&good[..], &[0x3a, 0x7f]].concat();
    for bad in [text(&[0xff]), garbled, deep, wrong_type, beyond] {
        let (mut data, mut metric, mut scope, mut resource, mut body) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        put_bytes(&mut data, 1, &bad);
        put_bytes(&mut data, 1, &text(b"fine"));
        put_bytes(&mut metric, 1, b"g");
        put_bytes(&mut metric, 5, &data);
        put_bytes(&mut scope, 2, &metric);
        put_bytes(&mut resource, 2, &scope);
        put_bytes(&mut body, 1, &resource);
        let mut world = World::new();
        world.take(Service::Metrics, &body).unwrap();
        assert_eq!(world.lines(), ["g{k=\"fine\"} gauge int 1"]);
        assert_eq!(
            world.accounts(),
            ["otlp metrics received=2 applied=1 malformed=1"]
        );
    }
}

/// A gauge of `points` empty points, two bytes each; as generated types they would take fifty times their size.
fn empty_points(points: usize) -> Vec<u8> {
    let points: Vec<u8> = [0x0a, 0x00].repeat(points);
    let (mut metric, mut scope, mut resource, mut body) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    protobuf::put_bytes(&mut metric, 1, b"g");
    protobuf::put_bytes(&mut metric, 5, &points);
    protobuf::put_bytes(&mut scope, 2, &metric);
    protobuf::put_bytes(&mut resource, 2, &scope);
    protobuf::put_bytes(&mut body, 1, &resource);
    body
}

#[test]
fn half_a_million_empty_points_take_many_steps_and_no_memory() {
    let mut world = World::new();
    let body = empty_points(1 << 19);
    let mut request = world
        .ingest
        .begin(&world.store, Service::Metrics, body.into())
        .unwrap();
    let mut steps = 1;
    let outcome = loop {
        match world.ingest.step(&mut world.store, &mut request, 1 << 20, EPOCH) {
            Some(outcome) => break outcome,
            None => steps += 1,
        }
        assert!(world.store.ledger().balances(), "after every step");
    };
    assert_eq!((outcome.accepted, outcome.rejected), (0, 1 << 19));
    assert!(
        steps >= 16,
        "{steps}: other requests are served within one metric too"
    );
    assert_eq!(world.store.series(), 0);
}

#[test]
fn a_request_over_the_message_limit_is_rejected_early() {
    let mut world = World::new();
    for body in [empty_points(1 << 20), [0x0a, 0x00].repeat((1 << 20) + 1)] {
        let error = world.take(Service::Metrics, &body).expect_err("too many");
        assert_eq!(error.broken, protobuf::ProtobufError::TooMany);
        assert!(error.to_string().contains("more than 1048576"), "{error}");
    }
    assert_eq!(world.accounts().len(), 0);
}

#[test]
fn a_request_over_the_field_limit_is_rejected_early() {
    let mut world = World::new();
    let temporality = [0x10, 0x02].repeat((4 << 20) + 1);
    let name = [0x0a, 0x01, b'm'].repeat((4 << 20) + 1);
    for metric in [field(7, &temporality), name] {
        let body = field(1, &field(2, &field(2, &metric)));
        let error = world.take(Service::Metrics, &body).expect_err("too many");
        assert_eq!(error.broken, protobuf::ProtobufError::TooMany);
    }
}

#[test]
fn a_metric_in_large_parts_is_rejected() {
    let mut world = World::new();
    let part = field(5, &[0x0a, 0x00].repeat(300 << 10));
    for (parts, expected) in [(1, None), (2, Some(protobuf::ProtobufError::Parts))] {
        let metric = [field(1, b"g"), part.repeat(parts)].concat();
        let body = field(1, &field(2, &field(2, &metric)));
        let taken = world.take(Service::Metrics, &body);
        assert_eq!(taken.err().map(|malformed| malformed.broken), expected);
    }
}

#[test]
fn many_exemplars_beside_a_large_one_are_read_once_each() {
    let mut world = World::new();
    let large = [[0x7a, 0x00].repeat(250_000), vec![0x11, 255, 0, 0, 0, 0, 0, 0, 0]].concat();
    let point = [
        field(5, &large),
        field(5, &[0x11, 1, 0, 0, 0, 0, 0, 0, 0]).repeat(250_000),
        vec![0x31, 1, 0, 0, 0, 0, 0, 0, 0],
    ];
    let metric = [field(1, b"g"), field(5, &field(1, &point.concat()))].concat();
    let body = field(1, &field(2, &field(2, &metric)));
    assert_eq!(world.take(Service::Metrics, &body).unwrap().accepted, 1);
}

fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    protobuf::put_bytes(&mut field, number, bytes);
    field
}

#[test]
fn a_point_with_a_million_attributes_is_dropped() {
    let mut point = int(1).encode_to_vec();
    let pair = attributes(&[("k", "v")])[0].encode_to_vec();
    for _ in 0..200_000 {
        protobuf::put_bytes(&mut point, 7, &pair);
    }
    let point = NumberDataPoint::decode(&*point).unwrap();
    let mut world = World::new();
    world.metrics(vec![gauge("g", vec![point])]);
    assert_eq!(
        world.accounts(),
        ["shop metrics received=1 applied=0 label_limit=1"]
    );
}

#[test]
fn invented_sources_and_event_names_are_bounded() {
    let mut world = World::with(dichroic_model::Limits {
        sources: 8,
        ..Default::default()
    });
    for n in 0..100 {
        let name = format!("s{n}");
        let body = request_of(&[("service.name", &name)], vec![gauge("g", vec![int(1)])]).encode_to_vec();
        world.take(Service::Metrics, &body).unwrap();
        let text = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"eventName":"e{n}-{}"}}]}}]}}]}}"#,
            "x".repeat(240)
        );
        world.json(Service::Logs, &text).unwrap();
    }
    assert_eq!(world.store.sources().count(), 8);
}

#[test]
fn deeply_nested_json_is_rejected() {
    for open in ["[", "{\"a\":", "{\"resourceMetrics\":[{\"x\":"] {
        let text = open.repeat(100_000);
        for service in Service::ALL {
            assert!(json::to_protobuf(service, text.as_bytes()).is_err());
        }
        assert_eq!(
            json::service_of(open.replace("resourceMetrics", "y").repeat(100_000).as_bytes()),
            None
        );
    }
    let deep = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{}{}}}]}}]}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(60),
        "]}}".repeat(60)
    );
    assert!(json::to_protobuf(Service::Logs, deep.as_bytes()).is_err());
}

/// Whether the generated types decode the body, and how many items they find.
fn oracle(service: Service, body: &[u8]) -> Option<u64> {
    let n = match service {
        Service::Metrics => {
            let request = ExportMetricsServiceRequest::decode(body).ok()?;
            let metrics = request
                .resource_metrics
                .iter()
                .flat_map(|r| &r.scope_metrics)
                .flat_map(|s| &s.metrics);
            metrics
                .map(|m| match &m.data {
                    Some(Data::Gauge(d)) => d.data_points.len(),
                    Some(Data::Sum(d)) => d.data_points.len(),
                    Some(Data::Histogram(d)) => d.data_points.len(),
                    Some(Data::ExponentialHistogram(d)) => d.data_points.len(),
                    Some(Data::Summary(d)) => d.data_points.len(),
                    None => 0,
                })
                .sum::<usize>()
        }
        Service::Logs => {
            let request = ExportLogsServiceRequest::decode(body).ok()?;
            request
                .resource_logs
                .iter()
                .flat_map(|r| &r.scope_logs)
                .map(|s| s.log_records.len())
                .sum()
        }
        Service::Traces => {
            let request = ExportTraceServiceRequest::decode(body).ok()?;
            request
                .resource_spans
                .iter()
                .flat_map(|r| &r.scope_spans)
                .map(|s| s.spans.len())
                .sum()
        }
    };
    Some(n as u64)
}

fn compare(service: Service, body: &[u8]) {
    let mut world = World::new();
    let taken = world.take(service, body);
    if let Some(items) = oracle(service, body) {
        let outcome = taken.expect("a body that the generated types decode is accepted");
        assert_eq!(outcome.accepted + outcome.rejected, items, "{body:02x?}");
    }
    world.rows();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(2_000), ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for service in Service::ALL {
            compare(service, &bytes);
            let _ = json::to_protobuf(service, &bytes);
        }
        let _ = json::service_of(&bytes);
    }

    #[test]
    fn a_request_with_changed_bytes_is_read_as_the_generated_types_read_it(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = everything();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        for service in Service::ALL {
            compare(service, &bytes);
        }
    }

    #[test]
    fn pieces_of_a_request_in_any_order_are_read_as_the_generated_types_read_them(
        pieces in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..40), 1..8),
    ) {
        let whole = everything();
        let bytes: Vec<u8> = pieces
            .iter()
            .flat_map(|(start, len)| whole[start.index(whole.len())..].iter().take(*len).copied())
            .collect();
        let (mut scope, mut resource, mut body) = (Vec::new(), Vec::new(), Vec::new());
        protobuf::put_bytes(&mut scope, 2, &bytes);
        protobuf::put_bytes(&mut resource, 2, &scope);
        protobuf::put_bytes(&mut body, 1, &resource);
        for service in Service::ALL {
            compare(service, &bytes);
            compare(service, &body);
        }
    }
}
