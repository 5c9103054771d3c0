//! Log records in the event stream, and the response to spans.

mod common;

use common::*;
use dichroic_model::{Batch, EventKind, Pattern};
use dichroic_pipeline::{StreamItem, StreamRequest, Subscription};
use dichroic_receiver_otlp::Service;
use dichroic_wire::{Cell, Events, EventsScratch};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use std::sync::Arc;

fn request(log_records: Vec<LogRecord>) -> Vec<u8> {
    let scope_logs = vec![ScopeLogs {
        log_records,
        ..Default::default()
    }];
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: resource(&[("service.name", "shop")]),
            scope_logs,
            ..Default::default()
        }],
    };
    request.encode_to_vec()
}

fn subscribe(world: &mut World, kind: EventKind) -> Subscription {
    let wanted = StreamRequest {
        kind,
        patterns: vec![Pattern::new("**").unwrap()],
        replay_from: None,
        resume_from: None,
    };
    world.store.subscribe(wanted, 0).expect("room for a subscriber")
}

fn batches(subscription: &Subscription) -> Vec<Arc<Batch>> {
    let items = std::iter::from_fn(|| subscription.items.try_recv());
    items
        .map(|item| match item {
            StreamItem::Batch(batch) => batch,
            StreamItem::Gap { .. } => panic!("a gap"),
        })
        .collect()
}

/// Name, position and rows of a batch, each row as its values.
fn rows(batch: &Batch) -> Vec<String> {
    let mut scratch = EventsScratch::default();
    let events = Events::decode(&batch.body, &mut scratch).expect("a frame's body");
    let header = events.header();
    assert_eq!(
        (header.schema, header.source, header.position),
        (batch.schema.id, batch.source.id.0, batch.position)
    );
    assert_eq!(
        (events.rows(), events.columns()),
        (batch.rows as usize, 1 + batch.schema.metadata.len())
    );
    let mut rows = Vec::new();
    for (row, time) in events.times().enumerate() {
        let mut line = format!("{time}");
        for column in 1..events.columns() {
            line += &format!(" {:?}", events.cell(row, column).to_value());
        }
        rows.push(line);
    }
    rows
}

fn record(text: &str) -> LogRecord {
    LogRecord {
        time_unix_nano: 5,
        severity_number: 9,
        body: some(Value::StringValue(text.into())),
        ..Default::default()
    }
}

#[test]
fn records_reach_subscribers_with_all_fields() {
    let check = |record: LogRecord, expected: &str| {
        let mut world = World::new();
        let logs = subscribe(&mut world, EventKind::Log);
        let outcome = world.take(Service::Logs, &request(vec![record])).unwrap();
        assert_eq!((outcome.accepted, outcome.rejected), (1, 0));
        let batches = batches(&logs);
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].schema.name, "log");
        assert_eq!(
            batches[0].schema.metadata,
            ["severity", "body", "trace_id", "span_id", "attributes"]
        );
        assert_eq!(rows(&batches[0]), [expected]);
    };
    check(record("hello"), r#"5 Int(9) Str("hello") Null Null Map({})"#);
    let traced = LogRecord {
        time_unix_nano: 0,
        observed_time_unix_nano: 7,
        severity_number: 0,
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        attributes: vec![
            pair("b", Value::IntValue(-1)),
            pair("a", Value::BytesValue(vec![3])),
            pair("b", Value::BoolValue(true)),
        ],
        ..record("x")
    };
    let expected = format!(
        r#"7 Null Str("x") Bytes({:?}) Bytes({:?}) Map({{"a": Bytes([3]), "b": Bool(true)}})"#,
        [1; 16], [2; 8]
    );
    check(traced, &expected);
    let structured = |value| LogRecord {
        body: some(value),
        ..record("")
    };
    let list = opentelemetry_proto::tonic::common::v1::ArrayValue {
        values: vec![
            AnyValue {
                value: Some(Value::DoubleValue(0.5)),
            },
            AnyValue { value: None },
        ],
    };
    check(
        structured(Value::ArrayValue(list)),
        "5 Int(9) List([Float(0.5), Null]) Null Null Map({})",
    );
    let map = opentelemetry_proto::tonic::common::v1::KeyValueList {
        values: attributes(&[("k", "v")]),
    };
    check(
        structured(Value::KvlistValue(map)),
        r#"5 Int(9) Map({"k": Str("v")}) Null Null Map({})"#,
    );
}

#[test]
fn values_nested_beyond_the_wire_limit_become_text() {
    let mut value = Value::IntValue(1);
    for _ in 0..12 {
        value = Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
            values: vec![AnyValue { value: Some(value) }],
        });
    }
    let mut world = World::new();
    let logs = subscribe(&mut world, EventKind::Log);
    let deep = LogRecord {
        body: some(value),
        ..record("")
    };
    world.take(Service::Logs, &request(vec![deep])).unwrap();
    let rows = rows(&batches(&logs)[0]);
    // The body is at depth 2 of the eight, so that six lists stay lists.
    let expected = format!(
        "5 Int(9) {}Str(\"{}1{}\"){} Null Null Map({{}})",
        "List([".repeat(6),
        "[".repeat(6),
        "]".repeat(6),
        "])".repeat(6)
    );
    assert_eq!(rows, [expected]);
}

#[test]
fn a_record_with_an_event_name_is_an_event() {
    let named = |name: &str| LogRecord {
        event_name: name.into(),
        ..record("x")
    };
    let mut world = World::new();
    let (events, logs) = (
        subscribe(&mut world, EventKind::Event),
        subscribe(&mut world, EventKind::Log),
    );
    let records = vec![
        named("page.view"),
        record("log"),
        named("page.view"),
        named("click"),
    ];
    let outcome = world.take(Service::Logs, &request(records)).unwrap();
    assert_eq!(outcome.accepted, 4);
    let seen: Vec<_> = batches(&events)
        .iter()
        .map(|b| (b.schema.name.clone(), b.rows, b.position))
        .collect();
    assert_eq!(seen, [("page.view".to_owned(), 2, 0), ("click".to_owned(), 1, 2)]);
    assert_eq!(batches(&logs).len(), 1);
    assert_eq!(
        world.accounts(),
        [
            "shop events received=3 applied=3",
            "shop logs received=1 applied=1"
        ]
    );
}

#[test]
fn many_records_are_split_into_batches_without_loss() {
    let mut world = World::new();
    let logs = subscribe(&mut world, EventKind::Log);
    let records: Vec<_> = (0..10_000)
        .map(|n| record(&format!("line {n} {}", "x".repeat(n % 100))))
        .collect();
    let outcome = world.take(Service::Logs, &request(records)).unwrap();
    assert_eq!(outcome.accepted, 10_000);
    let mut position = 0;
    let mut texts = Vec::new();
    for batch in batches(&logs) {
        assert_eq!(batch.position, position);
        position += u64::from(batch.rows);
        let mut scratch = EventsScratch::default();
        let events = Events::decode(&batch.body, &mut scratch).unwrap();
        texts.extend(events.cells(2).map(|cell| match cell {
            Cell::Str(text) => text.split(' ').nth(1).unwrap().to_owned(),
            other => panic!("{other:?}"),
        }));
    }
    let expected: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
    assert_eq!(texts, expected);
}

#[test]
fn dropped_records_are_counted() {
    let check = |record: LogRecord, account: &str| {
        let mut world = World::new();
        world.take(Service::Logs, &request(vec![record])).unwrap();
        assert_eq!(world.accounts(), [format!("shop {account}")]);
    };
    let long_name = LogRecord {
        event_name: "n".repeat(300),
        ..record("")
    };
    check(long_name, "events received=1 applied=0 label_limit=1");
    check(
        record(&"x".repeat(2 << 20)),
        "logs received=1 applied=0 too_large=1",
    );
    let wide = LogRecord {
        attributes: (0..4_000)
            .map(|n| pair(&format!("{n:0100}"), Value::IntValue(n)))
            .collect(),
        ..record("")
    };
    check(wide, "logs received=1 applied=0 too_large=1");
    let cut = LogRecord {
        attributes: vec![pair("long", Value::StringValue("x".repeat(100_000)))],
        ..record("")
    };
    check(cut, "logs received=1 applied=1");
}

#[test]
fn spans_are_counted_and_rejected_with_a_message() {
    let spans = |n| ScopeSpans {
        spans: vec![Span::default(); n],
        ..Default::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: resource(&[("service.name", "shop")]),
            scope_spans: vec![spans(2), spans(3)],
            ..Default::default()
        }],
    };
    let mut world = World::new();
    let outcome = world.take(Service::Traces, &request.encode_to_vec()).unwrap();
    assert_eq!((outcome.accepted, outcome.rejected), (0, 5));
    assert_eq!(
        outcome.message,
        "5 of 5 spans were rejected; 5: this kind of data is not supported [unsupported], turn off its exporter, such as with OTEL_TRACES_EXPORTER=none, or use another endpoint for it"
    );
    assert_eq!(
        world.accounts(),
        ["shop traces received=5 applied=0 unsupported=5"]
    );
}
