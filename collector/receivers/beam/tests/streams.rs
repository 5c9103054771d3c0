//! Raw events: requested while there is a subscriber, published as received, with counted losses.

mod common;

use common::*;
use dichroic_model::{EventKind, GapReason, SECOND, SourceId};
use dichroic_packs::{Packs, Selection};
use dichroic_pipeline::{
    DropReason, RelayTerm, ResumePoint, Signal, StreamItem, StreamRequest, Subscription,
};
use dichroic_receiver_beam::{Config, Receiver};
use dichroic_wire::events_builder::EventsBuilder;
use dichroic_wire::{Cell, Events, EventsScratch, GoodbyeCode, Value};

fn phoenix() -> Config {
    Config {
        selection: Selection {
            packs: Packs::builtin().choose(&["phoenix".to_owned()]).unwrap(),
            ..Selection::default()
        },
        ..config()
    }
}

fn frame(schema: u32, rows: &[[Cell<'_>; 4]]) -> Vec<u8> {
    frame_at(schema, T0, rows)
}

fn frame_at(schema: u32, time: i64, rows: &[[Cell<'_>; 4]]) -> Vec<u8> {
    let mut builder = EventsBuilder::new(schema, 0, 4, MAX).unwrap();
    for (number, row) in rows.iter().enumerate() {
        builder.push(time + number as i64, row).unwrap();
    }
    let mut out = Vec::new();
    builder.finish(0, &mut out).unwrap();
    out
}

const ROW: [Cell<'static>; 4] = [
    Cell::Int(1_200_345),
    Cell::Str("GET"),
    Cell::Str("/users/:id"),
    Cell::Int(200),
];

#[test]
fn streams_are_requested_while_there_is_a_subscriber() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(phoenix()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let first = relay.plan.clone().unwrap();
        assert!(first.streams.is_empty(), "no subscriber");
        let subscription = subscribe(&store, EventKind::Event, "phoenix.endpoint.*");
        let plan = relay.expect_plan().await.clone();
        assert!(plan.generation > first.generation);
        assert_eq!(plan.aggregates, first.aggregates, "aggregates do not change");
        let events: Vec<_> = plan.streams.iter().map(|s| s.event.join(".")).collect();
        assert_eq!(events, ["phoenix.endpoint.start", "phoenix.endpoint.stop"]);
        // A subscription that is already covered does not cause a plan; a wider one does.
        let second = subscribe(&store, EventKind::Event, "phoenix.endpoint.stop");
        let third = subscribe(&store, EventKind::Event, "phoenix.channel_joined");
        assert_eq!(relay.expect_plan().await.streams.len(), 3);
        drop((subscription, second, third));
        assert!(relay.expect_plan().await.streams.is_empty());
    });
}

#[test]
fn rows_are_published_with_the_collectors_schema_source_and_position() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(phoenix()));
        let subscription = subscribe(&store, EventKind::Event, "phoenix.endpoint.stop");
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let schema = relay.plan.as_ref().unwrap().streams[0].schema;
        relay.send(&frame(schema, &[ROW, ROW])).await;
        relay.send(&frame(schema, &[ROW])).await;
        relay.flush().await;
        let mut positions = Vec::new();
        expect_gap_of_start(&subscription);
        while let Some(StreamItem::Batch(batch)) = subscription.items.try_recv() {
            assert_eq!(batch.schema.name, "phoenix.endpoint.stop");
            assert_eq!(
                batch.schema.measurements,
                [("duration".to_owned(), "ns".to_owned())]
            );
            assert_eq!(batch.schema.metadata, ["method", "route", "status"]);
            assert_eq!(batch.source.name(), "shop@a");
            let mut scratch = EventsScratch::default();
            let events = Events::decode(&batch.body, &mut scratch).unwrap();
            assert_eq!(events.header().schema, batch.schema.id);
            assert_eq!(events.header().source, batch.source.id.0);
            assert_eq!(events.header().position, batch.position);
            assert_eq!(events.cell(0, 3), Cell::Str("/users/:id"));
            positions.push((batch.position, batch.rows));
        }
        assert_eq!(positions, [(0, 2), (2, 1)]);
        let store = store.borrow();
        let account = store.ledger().account(SourceId(0), Signal::Events).unwrap();
        assert_eq!((account.received, account.applied), (3, 3));
    });
}

#[test]
fn rows_in_flight_when_a_stream_is_withdrawn_are_published_and_later_ones_dropped() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(phoenix()));
        let subscription = subscribe(&store, EventKind::Event, "phoenix.endpoint.stop");
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let schema = relay.plan.as_ref().unwrap().streams[0].schema;
        drop(subscription);
        relay.rows_until = Some(T0 + 10);
        relay.expect_plan().await;
        relay.send(&frame(schema, &[ROW])).await;
        relay
            .send(&frame_at(schema, T0 + 2 * SECOND as i64, &[ROW, ROW]))
            .await;
        relay.flush().await;
        {
            let store = store.borrow();
            let account = store.ledger().account(SourceId(0), Signal::Events).unwrap();
            assert_eq!((account.received, account.applied), (3, 1));
            assert_eq!(account.dropped(DropReason::Withdrawn), 2);
        }
        let mut builder = EventsBuilder::new(schema, 0, 2, MAX).unwrap();
        builder.push(T0, &ROW[..2]).unwrap();
        let mut out = Vec::new();
        builder.finish(0, &mut out).unwrap();
        relay.send(&out).await;
        let goodbye = relay.goodbye().await;
        assert_eq!(goodbye.code, GoodbyeCode::Malformed);
        assert!(goodbye.message.contains("3 columns, the plan 5"), "{goodbye:?}");
        assert!(store.borrow().ledger().balances());
    });
}

#[test]
fn rows_lost_by_a_disconnect_are_counted_exactly() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(phoenix()));
        let subscription = subscribe(&store, EventKind::Event, "phoenix.endpoint.stop");
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let schema = relay.plan.as_ref().unwrap().streams[0].schema;
        relay.flush().await;
        relay.send(&frame(schema, &[ROW; 3])).await;
        // Within a connection, a higher reading is not a loss.
        relay.define(0, 1, vec![Value::Int(schema.into())], T0).await;
        relay.numbers(&[(0, 5, 0.0)]).await;
        relay
            .define(1, 2, vec![Value::Int(schema.into()), Value::Int(4)], T0)
            .await;
        relay.numbers(&[(1, 7, 0.0)]).await;
        relay.flush().await;
        relay.crash().await;
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 2)).await;
        relay.define(0, 1, vec![Value::Int(schema.into())], T0).await;
        relay
            .define(1, 2, vec![Value::Int(schema.into()), Value::Int(4)], T0)
            .await;
        relay.numbers(&[(0, 13, 0.0), (1, 9, 0.0)]).await;
        relay.flush().await;
        expect_gap_of_start(&subscription);
        let mut gaps = Vec::new();
        while let Some(item) = subscription.items.try_recv() {
            if let StreamItem::Gap {
                reason,
                lost,
                schema,
                source,
                ..
            } = item
            {
                assert_eq!(schema.unwrap().name, "phoenix.endpoint.stop");
                assert_eq!(source.unwrap().name(), "shop@a");
                gaps.push((reason, lost));
            }
        }
        let expected = [
            (GapReason::RelayOverload, Some(7)),
            // What happened while it was disconnected.
            (GapReason::NotSubscribed, None),
            (GapReason::RelayBroke, Some(10)),
            (GapReason::RelayOverload, Some(2)),
        ];
        assert_eq!(gaps, expected);
        let store = store.borrow();
        let account = store.ledger().account(SourceId(0), Signal::Events).unwrap();
        assert_eq!(
            (
                account.received,
                account.applied,
                account.dropped(DropReason::RelayBroke)
            ),
            (13, 3, 10)
        );
        assert!(account.balances());
        let (_, terms) = store.ledger().relays().next().unwrap();
        let event = ("event", "phoenix.endpoint.stop".to_owned());
        let reason = ("reason", "overload".to_owned());
        let dropped = RelayTerm::new("rows_dropped", [event.clone(), reason]);
        assert_eq!(terms[&RelayTerm::new("rows_sent", [event])], 13);
        assert_eq!(terms[&dropped], 9);
        assert_eq!(terms[&"ended_without_goodbye".into()], 1);
    });
}

#[test]
fn retained_patterns_are_requested_without_a_subscriber() {
    run(async {
        let config = Config {
            retain: vec![pattern("phoenix.error_rendered")],
            ..phoenix()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        let relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        assert_eq!(relay.plan.unwrap().streams.len(), 1);
    });
}

#[test]
fn a_stream_stays_requested_for_the_lease_of_its_subscriber() {
    run(async {
        let store = store_with(|limits| limits.lease_seconds = 1);
        let receiver = Receiver::new(phoenix());
        let subscription = subscribe(&store, EventKind::Event, "phoenix.endpoint.stop");
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let schema = relay.plan.as_ref().unwrap().streams[0].schema;
        let position = subscription.position;
        drop(subscription);
        let ended = std::time::Instant::now();
        relay.send(&frame(schema, &[ROW])).await;
        relay.flush().await;
        assert_eq!(
            store.borrow().next_position(EventKind::Event),
            position + 1,
            "for replay"
        );
        assert!(relay.expect_plan().await.streams.is_empty());
        assert!(ended.elapsed().as_secs_f64() > 0.9, "{ended:?}");
    });
}

#[test]
fn a_replay_has_a_gap_until_the_relay_confirms_the_plan() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(phoenix()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let now = dichroic_model::clock::now();
        let request = StreamRequest {
            kind: EventKind::Event,
            patterns: vec![pattern("phoenix.endpoint.stop")],
            replay_from: Some(now - 10 * SECOND),
            resume_from: None,
        };
        let subscription = store.borrow_mut().subscribe(request, now).unwrap();
        let schema = relay.expect_plan().await.streams[0].schema;
        relay.send(&frame(schema, &[ROW])).await;
        relay.flush().await;
        match subscription.items.try_recv() {
            Some(StreamItem::Gap {
                schema: Some(schema),
                reason: GapReason::NotSubscribed,
                lost: None,
                time: Some(time),
                ..
            }) => {
                assert_eq!(schema.name, "phoenix.endpoint.stop");
                assert_eq!(time.start, now - 10 * SECOND);
                assert!(time.end > now);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            subscription.items.try_recv(),
            Some(StreamItem::Batch(_))
        ));
    });
}

/// The gaps of a subscription that were not requested, with the rows between them.
fn items(subscription: &Subscription) -> Vec<String> {
    std::iter::from_fn(|| subscription.items.try_recv())
        .map(|item| match item {
            StreamItem::Batch(batch) => format!("rows {}", batch.rows),
            StreamItem::Gap {
                reason: GapReason::NotSubscribed,
                time: Some(time),
                ..
            } => format!("{}..{}", time.start - T0 as u64, time.end - T0 as u64),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_plan_that_the_next_one_overtakes_leaves_the_time_between_them_as_a_gap() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(phoenix()));
        let first = subscribe(&store, EventKind::Event, "phoenix.endpoint.stop");
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let schema = relay.plan.as_ref().unwrap().streams[0].schema;
        relay.send(&frame_at(schema, T0 + 10, &[ROW])).await;
        relay.flush().await;
        expect_gap_of_start(&first);
        assert_eq!(items(&first), ["rows 1"]);
        // The stream is withdrawn, and requested again before the relay answers.
        drop(first);
        relay.expect_plan_without_reply().await;
        let cursor = ResumePoint {
            position: 0,
            received: true,
            restarted: false,
        };
        let request = StreamRequest {
            kind: EventKind::Event,
            patterns: vec![pattern("phoenix.endpoint.stop")],
            replay_from: None,
            resume_from: Some(cursor),
        };
        let now = dichroic_model::clock::now();
        let second = store.borrow_mut().subscribe(request, now).unwrap();
        let Got::Plan(again) = relay.next().await else {
            panic!("PLAN expected")
        };
        // Rows of the first plan are behind both; they were emitted before the relay read any of them.
        relay.send(&frame_at(schema, T0 + 15, &[ROW])).await;
        relay.answer(again.generation - 1, None, Some(T0 + 20)).await;
        relay.answer(again.generation, Some(T0 + 50), Some(T0 + 40)).await;
        relay.send(&frame_at(schema, T0 + 60, &[ROW])).await;
        relay.flush().await;
        assert_eq!(items(&second), ["rows 1", "rows 1", "20..50", "rows 1"]);
    });
}
