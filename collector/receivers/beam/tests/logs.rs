//! Log records of nodes: requested while there is a subscriber, with the columns of OTLP log records and a separate account.

mod common;

use common::*;
use dichroic_model::{EventKind, GapReason, SourceId};
use dichroic_packs::{Packs, Selection};
use dichroic_pipeline::{Signal, StreamItem};
use dichroic_receiver_beam::{Config, Logs, Receiver};
use dichroic_wire::events_builder::EventsBuilder;
use dichroic_wire::plan::{Operation, Transform};
use dichroic_wire::{Cell, Events, EventsScratch, Plan, StreamKind, Value};

fn logs(plan: &Plan) -> Vec<u32> {
    let logs = plan.streams.iter().filter(|s| s.kind == StreamKind::Log);
    logs.map(|s| s.schema).collect()
}

#[test]
fn logs_are_requested_while_there_is_a_subscriber_for_logs_not_for_events() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        assert!(relay.plan.clone().unwrap().streams.is_empty(), "no subscriber");
        let wanted = subscribe(&store, EventKind::Log, "**");
        let plan = relay.expect_plan().await.clone();
        assert_eq!((plan.streams.len(), logs(&plan).len()), (1, 1));
        drop(wanted);
        assert!(relay.expect_plan().await.streams.is_empty());
        let others = subscribe(&store, EventKind::Event, "**");
        let _logs = subscribe(&store, EventKind::Log, "log");
        let plan = relay.expect_plan().await.clone();
        assert_eq!(logs(&plan).len(), 1, "one of each kind: {plan:?}");
        drop(others);
    });
}

#[test]
fn retained_logs_are_requested_without_a_subscriber_under_the_configured_conditions() {
    run(async {
        let config = Config {
            logs: Logs {
                retain: true,
                severity: 13,
                exclude_domains: vec!["otp.sasl".to_owned()],
                attributes: vec!["request_id".to_owned()],
                max_body: 100,
            },
            ..config()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        let relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let plan = relay.plan.clone().unwrap();
        let entry = plan.streams.iter().find(|s| s.kind == StreamKind::Log).unwrap();
        assert_eq!(entry.event.join("."), "dichroic.logger.message");
        let conditions: Vec<_> = entry
            .keep
            .iter()
            .map(|c| (c.operation, c.operands.clone()))
            .collect();
        assert_eq!(
            conditions,
            [
                (Operation::Gt, vec![Value::Int(12)]),
                (Operation::Ne, vec![Value::from("otp.sasl")])
            ]
        );
        assert_eq!(entry.columns[1].transforms, [Transform::Cut(100)]);
        assert_eq!(
            entry.columns[4].transforms,
            [Transform::Allow(vec![Value::from("request_id")])]
        );
    });
}

#[test]
fn records_are_published_as_logs_and_counted_apart_from_events() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let subscription = subscribe(&store, EventKind::Log, "log");
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let schema = logs(relay.plan.as_ref().unwrap())[0];
        relay.flush().await;
        let mut builder = EventsBuilder::new(schema, 0, 5, MAX).unwrap();
        let row = [
            Cell::Int(17),
            Cell::Str("it broke"),
            Cell::Null,
            Cell::Null,
            Cell::Null,
        ];
        builder.push(T0, &row).unwrap();
        builder.push(T0, &row).unwrap();
        let mut out = Vec::new();
        builder.finish(0, &mut out).unwrap();
        relay.send(&out).await;
        // The relay dropped 7 records under load.
        relay
            .define(0, 2, vec![Value::Int(schema.into()), Value::Int(4)], T0)
            .await;
        relay.numbers(&[(0, 7, 0.0)]).await;
        relay.flush().await;
        expect_gap_of_start(&subscription);
        let Some(StreamItem::Batch(batch)) = subscription.items.try_recv() else {
            panic!("no batch");
        };
        assert_eq!(
            (batch.schema.kind, batch.schema.name.as_str()),
            (EventKind::Log, "log")
        );
        assert_eq!(
            batch.schema.metadata,
            ["severity", "body", "trace_id", "span_id", "attributes"]
        );
        let mut scratch = EventsScratch::default();
        let events = Events::decode(&batch.body, &mut scratch).unwrap();
        assert_eq!((events.rows(), events.cell(0, 2)), (2, Cell::Str("it broke")));
        let gap = subscription.items.try_recv();
        assert!(
            matches!(
                &gap,
                Some(StreamItem::Gap {
                    reason: GapReason::RelayOverload,
                    lost: Some(7),
                    ..
                })
            ),
            "{gap:?}"
        );
        let store = store.borrow();
        let account = |signal| {
            store
                .ledger()
                .account(SourceId(0), signal)
                .map(|a| (a.received, a.applied))
        };
        assert_eq!(account(Signal::Logs), Some((2, 2)));
        assert!(matches!(account(Signal::Events), None | Some((0, 0))));
        assert!(store.ledger().balances());
    });
}

#[test]
fn messages_of_logger_are_counted_but_are_not_raw_events() {
    run(async {
        let selection = Selection {
            packs: Packs::builtin().choose(&["logger".to_owned()]).unwrap(),
            ..Selection::default()
        };
        let config = Config {
            selection,
            ..config()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        let _everything = subscribe(&store, EventKind::Event, "**");
        let relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let plan = relay.plan.clone().unwrap();
        assert_eq!((plan.aggregates.len(), plan.streams.len()), (2, 0));
    });
}
