//! The golden frames, which the implementations in three languages share.

mod common;

use common::{body, folder, golden, goldens, reader_after_hello, rewrite};
use dichroic_wire::define::{Buckets, RelaySeries, Schema, Source, SubscriberSeries};
use dichroic_wire::plan::Refused;
use dichroic_wire::{
    Aggregate, AggregateType, Carry, Cell, CollectorHello, Condition, Define, Events, EventsBuilder,
    EventsScratch, Expression, Gap, GapReason, Goodbye, GoodbyeCode, Hello, Histograms, Map, Mixed,
    MixedBuilder, MixedScratch, Numbers, Operation, Plan, PlanLimits, PlanReply, RelayHello, Root, Side,
    Step, StreamEntry, StreamKind, SubscriberHello, Transform, Value, Variables, mixed, text,
};

#[test]
fn every_golden_frame_reencodes_byte_for_byte() {
    for (name, bytes) in goldens() {
        assert_eq!(rewrite(&bytes), Ok(Some(bytes.clone())), "{name}");
    }
}

#[test]
fn a_truncated_golden_frame_is_incomplete() {
    for (name, bytes) in goldens() {
        for end in 0..bytes.len() {
            assert_eq!(rewrite(&bytes[..end]), Ok(None), "{name} cut at {end}");
        }
    }
}

#[test]
fn a_truncated_golden_body_is_rejected_or_reencodes_as_truncated() {
    for (name, bytes) in goldens() {
        // Text and rows may end anywhere; then the shorter body is valid.
        for end in 0..body(&bytes).len() {
            let mut cut = bytes[..5 + end].to_vec();
            cut[..4].copy_from_slice(&(end as u32).to_le_bytes());
            match rewrite(&cut) {
                Err(_) => {}
                Ok(again) => {
                    assert_eq!(again, Some(cut), "{name} body cut at {end}");
                    assert!(
                        ["goodbye", "numbers", "histograms", "define"]
                            .iter()
                            .any(|n| name.starts_with(n)),
                        "{name}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_golden_frame_pushed_byte_by_byte_is_the_same_frame() {
    for (name, bytes) in goldens() {
        let mut reader = reader_after_hello();
        let (last, rest) = bytes.split_last().expect("a frame");
        for byte in rest {
            reader.push(&[*byte]);
            assert_eq!(reader.next(), Ok(None), "{name}");
        }
        reader.push(&[*last]);
        assert_eq!(
            reader.next().expect("a frame").expect("whole").body,
            body(&bytes),
            "{name}"
        );
        assert_eq!(reader.pending(), 0, "{name}");
    }
}

/// If `WRITE_GOLDEN_TEXT` is set, the files are written.
#[test]
fn the_text_of_each_golden_frame_matches_its_bytes() {
    for (name, bytes) in goldens() {
        let mut reader = reader_after_hello();
        reader.push(&bytes);
        let rendered = text::render(reader.next().expect("a frame").expect("whole")).expect("readable");
        let path = folder().join(&name).with_extension("txt");
        if std::env::var_os("WRITE_GOLDEN_TEXT").is_some() {
            std::fs::write(&path, &rendered).expect("writable");
        }
        assert_eq!(
            std::fs::read_to_string(&path).expect("text beside the bytes"),
            rendered,
            "{name}"
        );
    }
}

fn hello(name: &str) -> Hello {
    Hello::decode(body(&golden(name))).expect(name)
}

/// Checks the re-encoded HELLO of a typed view.
fn check_hello(name: &str, again: Hello) {
    let mut out = Vec::new();
    again.write(&mut out).expect(name);
    assert_eq!(out, golden(name), "{name}");
}

#[test]
fn typed_hellos_reencode_unchanged() {
    let relay = RelayHello::read(&hello("hello-relay")).expect("relay");
    // A relay has the minor version of its own codec.
    check_hello(
        "hello-relay",
        Hello {
            minor: 0,
            ..relay.to_hello()
        },
    );
    for name in ["hello-subscriber", "hello-resume"] {
        check_hello(name, SubscriberHello::read(&hello(name)).expect(name).to_hello());
    }
    for name in ["hello-collector", "hello-collector-to-subscriber"] {
        check_hello(name, CollectorHello::read(&hello(name)).expect(name).to_hello());
    }
}

#[test]
fn the_golden_relay_hello_is_decoded() {
    let relay = RelayHello::read(&hello("hello-relay")).expect("relay");
    assert_eq!(
        (relay.node.as_str(), relay.os_pid, relay.otp.as_str()),
        ("shop@127.0.0.1", 4242, "25")
    );
    assert_eq!(
        (relay.attempt, relay.native_per_s, relay.max_frame),
        (1, 1_000_000_000, 262_144)
    );
    assert_eq!(relay.resource.get("service.name"), Some(&Value::from("shop")));
}

#[test]
fn the_golden_cursor_is_decoded() {
    let subscriber = SubscriberHello::read(&hello("hello-resume")).expect("subscriber");
    let cursor = subscriber
        .subscribe
        .expect("a subscription")
        .cursor
        .expect("a cursor");
    assert_eq!(
        (cursor.epoch, cursor.position, cursor.rows),
        (1_763_700_000_000_000_007, 18_446, 3)
    );
}

fn golden_plan() -> Plan {
    let conn = |field| Expression::path(Root::Metadata, &["conn", field]);
    let duration = || Expression::path(Root::Measurements, &["duration"]);
    let event = || ["phoenix", "endpoint", "stop"].map(str::to_owned).to_vec();
    Plan {
        generation: 7,
        flush_ms: 1000,
        linger_s: 0,
        limits: PlanLimits {
            series: 10_000,
            string: 128,
            credit: 20_000,
            rows_per_s: 50_000,
        },
        aggregates: vec![Aggregate {
            key: 0x2f0c_5d1e_7a9b_4c33,
            aggregate_type: AggregateType::Exponential {
                factor: 1e-9,
                scale: 3,
                octaves: (-20, 12),
            },
            event: event(),
            value: Some(duration()),
            labels: vec![conn("method"), conn("status")],
            keep: vec![Condition::has(Expression::path(Root::Metadata, &["conn"]))],
            series: 2000,
            expire_s: 900,
        }],
        streams: vec![StreamEntry {
            schema: 1,
            kind: StreamKind::Event,
            event: event(),
            columns: vec![
                duration(),
                conn("method"),
                conn("status"),
                Expression::path(Root::Metadata, &["route"]).then(Transform::Cut(64)),
            ],
            keep: vec![],
            sample: Some(1.0),
            numbers: 0,
        }],
        carries: vec![],
    }
}

#[test]
fn plans_and_replies_are_encoded_and_decoded() {
    let mut out = Vec::new();
    golden_plan().write(&mut out).expect("a plan");
    assert_eq!(out, golden("plan"));
    assert_eq!(Plan::decode(body(&golden("plan"))), Ok(golden_plan()));
    let reply = PlanReply {
        generation: 7,
        attached: 1,
        refused: vec![],
        variables: Variables::new(),
        rows_from: None,
        rows_until: None,
    };
    assert_eq!(PlanReply::decode(body(&golden("plan-reply"))), Ok(reply.clone()));
    let mut out = Vec::new();
    reply.write(&mut out).expect("a reply");
    assert_eq!(out, golden("plan-reply"));
    let refused = |entry| Refused {
        entry,
        message: "unknown transform".into(),
    };
    let reply = PlanReply {
        refused: vec![refused(Some(-5)), refused(None)],
        variables: Variables::from([("ecto_prefix".to_owned(), vec!["stock.repo".to_owned()])]),
        rows_from: Some(20),
        rows_until: Some(10),
        ..reply
    };
    out.clear();
    reply.write(&mut out).expect("a reply");
    assert_eq!(PlanReply::decode(body(&out)), Ok(reply));
}

/// Each transform but `cut`.
fn transforms() -> Vec<Transform> {
    vec![
        Transform::Name,
        Transform::Class,
        Transform::Tag,
        Transform::Length,
        Transform::Bool,
        Transform::Type,
        Transform::Upper,
        Transform::Before("_worker_".into()),
        Transform::Allow(vec!["a".into(), Value::Int(1)]),
        Transform::Rename(vec![("Old".into(), "New".into())]),
        Transform::Default(Value::Null),
    ]
}

#[test]
fn plan_parts_without_a_golden_frame_are_encoded_and_decoded() {
    let event = || vec!["router".to_owned(), "start".to_owned()];
    let mut plan = golden_plan();
    plan.carries = vec![Carry {
        event: event(),
        slots: [
            (
                "route".to_owned(),
                Some(Expression::path(Root::Metadata, &["route"])),
            ),
            ("user".to_owned(), None),
        ]
        .into(),
    }];
    let path = vec![Step::Key("stack".into()), Step::Element(0)];
    let expression = Expression {
        root: Root::Metadata,
        path,
        transforms: transforms(),
    };
    let condition = |operation, operands| Condition {
        operation,
        expression: expression.clone(),
        operands,
    };
    plan.streams[0].kind = StreamKind::Log;
    plan.streams[0].keep = vec![
        condition(Operation::Eq, vec![Value::Null]),
        condition(Operation::Ne, vec!["x".into()]),
        condition(Operation::Lt, vec![Value::Float(0.5)]),
        condition(Operation::Gt, vec![Value::Int(-1)]),
        condition(Operation::In, vec!["x".into(), "y".into()]),
        condition(Operation::Lacks, vec![]),
    ];
    let of = |key, aggregate_type, value| Aggregate {
        key,
        aggregate_type,
        event: event(),
        value,
        labels: vec![Expression::carried("route")],
        keep: vec![],
        series: 10,
        expire_s: 300,
    };
    plan.aggregates = vec![
        of(16, AggregateType::Counter, None),
        of(17, AggregateType::Sum, Some(expression.clone())),
        of(u64::MAX, AggregateType::Last, Some(expression.clone())),
        of(
            18,
            AggregateType::Buckets {
                bounds: vec![-1.0, 0.0, 2.5],
            },
            Some(expression.clone()),
        ),
    ];
    let mut out = Vec::new();
    plan.write(&mut out).expect("a plan");
    assert_eq!(Plan::decode(body(&out)), Ok(plan));
}

/// The first definition of a golden.
fn definition(name: &str) -> (u32, Option<Map>) {
    let bytes = golden(name);
    let define = Define::decode(body(&bytes)).expect(name);
    define
        .entries()
        .next()
        .map(|(id, map)| (id, map.map(|map| map.to_map())))
        .expect(name)
}

#[test]
fn definitions_are_decoded() {
    let bytes = golden("define-series-relay");
    let define = Define::decode(body(&bytes)).expect("series");
    let series: Vec<_> = define
        .entries()
        .map(|(id, map)| {
            (
                id,
                RelaySeries::read(map.expect("a definition")).expect("a series"),
            )
        })
        .collect();
    assert_eq!(series.len(), 2);
    assert_eq!((series[1].0, series[1].1.key), (1, 0x2f0c_5d1e_7a9b_4c33));
    assert_eq!(
        series[1].1.labels.iter().collect::<Vec<_>>(),
        [Cell::Str("POST"), Cell::Int(500)]
    );
    assert_eq!(
        (series[1].1.start, series[1].1.overflow),
        (1_763_800_000_000_000_000, false)
    );

    let (id, map) = definition("define-schema");
    let schema = Schema::read(map.as_ref().expect("a schema")).expect("a schema");
    assert_eq!(
        (id, schema.name.as_str(), schema.columns()),
        (1, "phoenix.endpoint.stop", 5)
    );
    assert_eq!(Some(schema.to_map()), map);

    let (id, map) = definition("define-source");
    let source = Source::read(map.as_ref().expect("a source")).expect("a source");
    assert_eq!((id, source.runtime.as_str()), (1, "beam"));
    assert_eq!(Some(source.to_map()), map);

    let (_, map) = definition("define-series-subscriber");
    let series = SubscriberSeries::read(map.as_ref().expect("a series")).expect("a series");
    assert_eq!(series.buckets, Some(Buckets::Scale(3)));
    assert_eq!(Some(series.to_map()), map);

    assert_eq!(definition("define-release"), (1, None));
}

#[test]
fn numbers_and_histograms_are_decoded() {
    let bytes = golden("numbers");
    let numbers = Numbers::decode(body(&bytes)).expect("numbers");
    let rows: Vec<_> = numbers
        .rows()
        .map(|row| (row.series, row.int, row.float))
        .collect();
    assert_eq!(rows, [(2, 1042, 0.0), (3, -7, 2.5)]);

    let bytes = golden("histograms");
    let histograms = Histograms::decode(body(&bytes)).expect("histograms");
    let rows: Vec<_> = histograms.rows().collect();
    assert_eq!(
        (rows[0].sum_int, rows[0].count(), rows[1].count()),
        (18_150_000, 13, 7)
    );
    let buckets: Vec<_> = rows[1]
        .buckets()
        .map(|bucket| (bucket.side, bucket.index, bucket.count))
        .collect();
    assert_eq!(
        buckets,
        [
            (Side::Zero, 0, 2),
            (Side::Positive, 5, 1),
            (Side::Negative, -3, 4)
        ]
    );
}

#[test]
fn events_are_decoded_and_rebuilt_from_rows() {
    for name in ["events", "events-mixed"] {
        let bytes = golden(name);
        let mut scratch = EventsScratch::default();
        let events = Events::decode(body(&bytes), &mut scratch).expect(name);
        let header = events.header();
        let builder = || EventsBuilder::new(header.schema, header.source, events.columns() - 1, 1 << 18);

        let mut by_rows = builder().expect("a builder");
        for row in 0..events.rows() {
            let cells: Vec<_> = (1..events.columns())
                .map(|column| events.cell(row, column))
                .collect();
            let time = events.times().nth(row).expect("a time");
            by_rows.push(time, &cells).expect("a row");
        }
        let mut out = Vec::new();
        assert_eq!(by_rows.finish(header.position, &mut out), Ok(events.rows()));
        assert_eq!(out, bytes, "{name} by rows");

        let mut by_copy = builder().expect("a builder");
        assert_eq!(by_copy.append(&events, 0..events.rows()), Ok(events.rows()));
        out.clear();
        by_copy.finish(header.position, &mut out).expect("a frame");
        assert_eq!(out, bytes, "{name} by copy");
    }
}

#[test]
fn mixed_rows_are_decoded_and_rebuilt() {
    let bytes = golden("mixed");
    let mut scratch = MixedScratch::default();
    let mixed = Mixed::decode(body(&bytes), &mut scratch).expect("mixed");
    let row = |row| {
        let cells: Vec<_> = (1..mixed.columns(row))
            .map(|column| mixed.cell(row, column))
            .collect();
        (mixed.context(row).schema, mixed.context(row).source, cells)
    };
    assert_eq!((mixed.position(), mixed.rows()), (18_449, 4));
    assert_eq!(
        row(1),
        (2, 1, vec![Cell::Float(0.25), Cell::Null, Cell::Str("GET")])
    );
    let cut = Cell::CutStr {
        whole_len: 81,
        kept: "/reports/2026/very-long",
    };
    let cells = vec![Cell::Int(99_000_417), Cell::Str("POST"), Cell::Int(500), cut];
    assert_eq!(row(2), (1, 2, cells));

    let mut builder = MixedBuilder::new(1 << 18);
    assert_eq!(builder.append_mixed(&mixed, 0..4), Ok(4));
    let mut again = Vec::new();
    builder.finish(mixed.position(), &mut again).expect("a frame");
    assert_eq!(again, bytes);

    let mut forwarded = Vec::new();
    mixed::forward(&mut forwarded, body(&bytes), &[(9, 8), (7, 6), (5, 4)]).expect("a MIXED body");
    let ids: Vec<_> = Mixed::decode(body(&forwarded), &mut scratch)
        .expect("readable")
        .contexts()
        .map(|context| (context.schema, context.source))
        .collect();
    assert_eq!(ids, [(9, 8), (7, 6), (5, 4)]);
    assert_eq!(forwarded[5 + 20 + 3 * 9..], bytes[5 + 20 + 3 * 9..]);
}

#[test]
fn control_frames_are_decoded() {
    let gap = |name: &str| Gap::decode(body(&golden(name)));
    assert_eq!(
        gap("gap"),
        Ok(Gap {
            schema: 1,
            reason: GapReason::Slow,
            lost: Some(120),
            time: None
        })
    );
    assert_eq!(
        gap("gap-restart"),
        Ok(Gap {
            schema: 0,
            reason: GapReason::CollectorRestarted,
            lost: None,
            time: None
        })
    );
    assert_eq!(
        gap("gap-not-subscribed"),
        Ok(Gap {
            schema: 1,
            reason: GapReason::NotSubscribed,
            lost: None,
            time: Some((1_763_800_000_000_000_000, 1_763_800_002_800_000_000))
        })
    );
    let goodbye = Goodbye::decode(body(&golden("goodbye"))).expect("goodbye");
    assert_eq!((goodbye.code, goodbye.retry_ms), (GoodbyeCode::Version, 0));
}

/// The bytes of a worked example; words that are not pairs of hex digits are explanations.
fn bytes_of(example: &str) -> Vec<u8> {
    let hex =
        |word: &&str| word.len().is_multiple_of(2) && word.bytes().all(|digit| digit.is_ascii_hexdigit());
    let digits: String = example.split_whitespace().filter(hex).collect();
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[test]
fn the_worked_examples_of_the_specification_equal_the_golden_frames() {
    let specification = include_str!("../SPEC.md");
    let (_, examples) = specification
        .split_once("## 9. Worked examples\n")
        .expect("section 9");
    let (examples, _) = examples.split_once("## 10.").expect("section 10");
    let mut parts = examples.split("```");
    let mut seen = 0;
    while let (Some(message), Some(example)) = (parts.next(), parts.next()) {
        let names = message
            .split('`')
            .filter_map(|word| word.strip_prefix("golden/")?.strip_suffix(".bin"));
        let expected: Vec<u8> = names.flat_map(golden).collect();
        assert_eq!(bytes_of(example), expected, "{message}");
        seen += 1;
    }
    assert_eq!(seen, 8);
}

#[test]
fn the_golden_app_metric_is_decoded() {
    let bytes = golden("define-app-metric");
    let define = Define::decode(body(&bytes)).expect("definitions");
    let (id, definition) = define.entries().next().expect("one");
    let series = RelaySeries::read(definition.expect("a definition")).expect("a series");
    assert_eq!(
        (id, series.key, series.labels.len()),
        (7, 0x2b7e_1516_28ae_d2a6, 1)
    );
    let metric = series.app_metric.expect("a description");
    assert_eq!(metric.get("name"), Some(Cell::Str("shop.checkout.duration")));
    assert_eq!(metric.get("type"), Some(Cell::Str("buckets")));
    assert_eq!(metric.get("unit"), Some(Cell::Str("millisecond")));
}
