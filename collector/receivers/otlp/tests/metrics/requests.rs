//! Whole requests: steps, empty ones, and fields in any order.

use crate::common::*;
use dichroic_receiver_otlp::{RequestOutcome, Service};

#[test]
fn a_request_in_steps_gives_the_same_result_as_in_one_step() {
    let metrics: Vec<Metric> = (0..40)
        .map(|n| {
            sum(
                &format!("m{n}"),
                DELTA,
                true,
                vec![with(&[("a", "1")], int(n)), int(1)],
            )
        })
        .collect();
    let mut whole = World::new();
    let expected = whole.metrics(metrics.clone());
    let mut stepped = World::new();
    let mut request = stepped
        .ingest
        .begin(&stepped.store, Service::Metrics, body(metrics))
        .unwrap();
    let mut steps = 1;
    let outcome = loop {
        match stepped.ingest.step(&mut stepped.store, &mut request, 100, EPOCH) {
            Some(outcome) => break outcome,
            None => steps += 1,
        }
        assert!(stepped.store.ledger().balances(), "after every step");
    };
    assert!(steps > 10, "{steps}");
    assert_eq!(outcome, expected);
    assert_eq!(stepped.lines(), whole.lines());
}

#[test]
fn an_empty_request_is_valid() {
    let mut world = World::new();
    for service in Service::ALL {
        assert_eq!(world.take(service, &[]), Ok(RequestOutcome::default()));
    }
}

#[test]
fn split_fields_in_any_order_are_merged_as_in_protobuf() {
    use dichroic_receiver_otlp::protobuf::put_bytes;
    let mut world = World::new();
    let point = with(&[("a", "1"), ("b", "2")], int(7)).encode_to_vec();
    // The attributes before and after the rest, the data before the name, and in two parts.
    let one = NumberDataPoint {
        attributes: attributes(&[("a", "1")]),
        ..Default::default()
    };
    let rest = NumberDataPoint {
        attributes: vec![],
        ..with(&[], int(7))
    };
    let two = NumberDataPoint {
        attributes: attributes(&[("b", "2")]),
        ..Default::default()
    };
    let split = [one.encode_to_vec(), rest.encode_to_vec(), two.encode_to_vec()].concat();
    let (mut first, mut second, mut metric) = (Vec::new(), Vec::new(), Vec::new());
    put_bytes(&mut first, 1, &point);
    put_bytes(&mut second, 1, &split);
    put_bytes(&mut metric, 5, &first);
    put_bytes(&mut metric, 5, &second);
    put_bytes(&mut metric, 1, b"g");
    let decoded = Metric::decode(&*metric).unwrap();
    let mut scope = Vec::new();
    put_bytes(&mut scope, 2, &metric);
    let (mut resource, mut body) = (Vec::new(), Vec::new());
    put_bytes(&mut resource, 2, &scope);
    put_bytes(
        &mut resource,
        1,
        &self::resource(&[("service.name", "shop")])
            .unwrap()
            .encode_to_vec(),
    );
    put_bytes(&mut body, 1, &resource);
    let outcome = world.take(Service::Metrics, &body).unwrap();
    assert_eq!(outcome.accepted, 2);
    let Some(Data::Gauge(gauge)) = decoded.data else {
        panic!("a gauge")
    };
    assert_eq!(gauge.data_points.len(), 2, "prost reads the same");
    assert_eq!(world.lines(), ["g{a=\"1\",b=\"2\"} gauge int 7"]);
}
