//! Filling of frames: rows of many schemas in one frame, the time that a row waits, and what a frame has in common with its rows:
//! order, gaps, cursors, losses.

mod common;

use common::{Client, EPOCH, Random, Received, Row, World, events, run, until};
use dichroic_model::{EventSchema, GapReason, Source};
use dichroic_wire::hello::Cursor;
use dichroic_wire::{Cell, Subscribe, SubscriberHello, limits};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAMES: usize = 20;

/// Twenty names and two sources, as of a busy application.
struct Application {
    schemas: Vec<Arc<EventSchema>>,
    sources: [Arc<Source>; 2],
}

impl Application {
    fn new(world: &World) -> Self {
        Application {
            schemas: (0..NAMES)
                .map(|name| world.schema(&format!("app.part{name}.stop")))
                .collect(),
            sources: [world.source("shop@a"), world.source("cart@b")],
        }
    }

    /// Publishes each of these rows as a batch of its own, its schema and source by its number.
    fn publish(&self, world: &World, numbers: std::ops::Range<i64>) {
        for n in numbers {
            let schema = &self.schemas[n as usize % NAMES];
            let source = &self.sources[n as usize % 3 / 2];
            world.publish(schema, source, n..n + 1);
        }
    }
}

fn check_rows(rows: &[Row], expected: impl IntoIterator<Item = i64>) {
    let expected: Vec<_> = expected.into_iter().collect();
    assert_eq!(rows.iter().map(Row::n).collect::<Vec<_>>(), expected);
    for row in rows {
        let n = row.n() as usize;
        let source = ["shop@a", "shop@a", "cart@b"][n % 3];
        let name = format!("app.part{}.stop", n % NAMES);
        assert_eq!((&row.name, row.source.as_str()), (&name, source));
    }
}

fn subscribe(within_ms: u32) -> Subscribe {
    Subscribe {
        within_ms: Some(within_ms),
        ..events(&["**"])
    }
}

/// A subscriber of wire version 1.0.
fn connect_old(world: &World, subscribe: Subscribe) -> Client {
    let hello = SubscriberHello {
        agent: "test/0".to_owned(),
        max_frame: limits::BODY_BYTES_DEFAULT,
        token: None,
        subscribe: Some(subscribe),
    };
    let mut hello = hello.to_hello();
    hello.minor = 0;
    world.connect_hello(hello, &[])
}

#[test]
fn rows_of_many_schemas_share_a_frame() {
    run(|world| async move {
        let application = Application::new(&world);
        // The time is too long to end a frame.
        let mut client = world.connect(Some(subscribe(10_000)));
        client.handshake().await;
        application.publish(&world, 0..1_024);
        check_rows(&client.rows(1_024).await, 0..1_024);
        // Full frames have 256 rows.
        assert_eq!((client.mixed_frames, client.event_frames), (4, 0));
        let (offered, sent, dropped, queued) = world.hop("stream");
        assert_eq!((offered, sent + queued, dropped), (1_024, 1_024, 0));
    });
}

#[test]
fn a_row_that_comes_alone_is_sent_within_the_time_of_the_subscription() {
    for (within, least) in [(0, 0), (5, 4), (60, 59)] {
        run(|world| async move {
            let application = Application::new(&world);
            let mut client = world.connect(Some(subscribe(within)));
            client.handshake().await;
            for n in 0..5 {
                let published = Instant::now();
                application.publish(&world, n..n + 1);
                check_rows(&client.rows(1).await, n..n + 1);
                assert!(published.elapsed() >= Duration::from_millis(least), "{within} ms");
            }
            assert_eq!(client.mixed_frames + client.event_frames, 5, "{within} ms");
        });
    }
}

#[test]
fn a_full_frame_is_sent_at_once() {
    run(|world| async move {
        let application = Application::new(&world);
        let mut client = world.connect(Some(subscribe(10_000)));
        client.handshake().await;
        let published = Instant::now();
        application.publish(&world, 0..300);
        check_rows(&client.rows(256).await, 0..256);
        assert!(published.elapsed() < Duration::from_secs(10));
        assert_eq!(client.mixed_frames, 1);
        // A small buffer is also full with fewer rows.
        let mut small = subscribe(10_000);
        small.buffer = Some(64);
        let mut client = world.connect(Some(small));
        client.handshake().await;
        let published = Instant::now();
        application.publish(&world, 300..364);
        check_rows(&client.rows(64).await, 300..364);
        assert!(published.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_large_batch_is_forwarded_in_its_place() {
    run(|world| async move {
        let application = Application::new(&world);
        let mut client = world.connect(Some(subscribe(10_000)));
        client.handshake().await;
        application.publish(&world, 0..3);
        let (schema, source) = (&application.schemas[0], &application.sources[0]);
        world.publish(schema, source, 100..150);
        let numbers: Vec<_> = client.rows(53).await.iter().map(Row::n).collect();
        assert_eq!(numbers, (0..3).chain(100..150).collect::<Vec<_>>());
        assert_eq!((client.mixed_frames, client.event_frames), (1, 1));
    });
}

#[test]
fn a_gap_keeps_its_place_and_does_not_wait() {
    run(|world| async move {
        let application = Application::new(&world);
        let mut client = world.connect(Some(subscribe(10_000)));
        client.handshake().await;
        let published = Instant::now();
        application.publish(&world, 0..7);
        let (schema, source) = (&application.schemas[3], &application.sources[0]);
        world
            .store
            .borrow_mut()
            .publish_gap(schema, source, GapReason::RelayOverload, Some(17));
        check_rows(&client.rows(7).await, 0..7);
        let name = Some("app.part3.stop".to_owned());
        assert_eq!(client.next().await, Received::Gap(name, 4, Some(17)));
        assert!(published.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn resuming_at_any_row_of_a_mixed_frame_neither_loses_nor_repeats_rows() {
    for filtered in [false, true] {
        for consumed in [1, 2, 19, 20, 21, 255, 256, 257, 300] {
            run(|world| async move {
                let application = Application::new(&world);
                let mut subscribe = events(&["**"]);
                if filtered {
                    subscribe
                        .where_
                        .insert("method".to_owned(), vec!["GET".to_owned()]);
                }
                let expected: Vec<_> = (0..900).filter(|n| !filtered || n % 2 == 0).collect();
                let mut client = world.connect(Some(subscribe.clone()));
                let epoch = client.handshake().await.epoch;
                application.publish(&world, 0..700);
                let mut seen = client.rows(consumed).await;
                let (position, rows) = seen.last().unwrap().cursor;
                drop(client);
                application.publish(&world, 700..800);
                subscribe.cursor = Some(Cursor {
                    epoch,
                    position,
                    rows,
                });
                let mut client = world.connect(Some(subscribe));
                assert_eq!(client.handshake().await.resumed, Some(true));
                application.publish(&world, 800..900);
                seen.extend(client.rows(expected.len() - consumed).await);
                check_rows(&seen, expected);
            });
        }
    }
}

#[test]
fn a_subscriber_of_version_1_0_gets_frames_of_one_schema() {
    for within in [None, Some(5)] {
        run(|world| async move {
            let application = Application::new(&world);
            let subscribe = Subscribe {
                within_ms: within,
                replay_ms: Some(60_000),
                ..events(&["**"])
            };
            application.publish(&world, 0..100);
            let mut client = connect_old(&world, subscribe);
            client.handshake().await;
            application.publish(&world, 100..200);
            let rows = client.rows(200).await;
            check_rows(&rows, 0..200);
            assert_eq!((client.mixed_frames, client.event_frames), (0, 200));
            assert!(rows.iter().all(|row| row.cursor.1 == 1));
        });
    }
}

#[test]
fn a_row_too_large_becomes_a_gap_between_the_rows_of_other_schemas() {
    run(|world| async move {
        let application = Application::new(&world);
        let mut client = world.connect_with(Some(events(&["**"])), 16_384, &[]);
        client.handshake().await;
        application.publish(&world, 0..5);
        let (schema, source) = (&application.schemas[3], &application.sources[0]);
        let big = "x".repeat(20_000);
        world.publish_rows(
            schema,
            source,
            &[vec![Cell::Int(0), Cell::Str(&big), Cell::Int(1)]],
        );
        application.publish(&world, 5..10);
        check_rows(&client.rows(5).await, 0..5);
        let name = Some("app.part3.stop".to_owned());
        assert_eq!(client.next().await, Received::Gap(name, 7, Some(1)));
        check_rows(&client.rows(5).await, 5..10);
        until(|| world.hop("stream") == (11, 10, 1, 0)).await;
    });
}

/// Random batches, pauses of the reader, filters and versions: every row is received in order or reported as lost.
#[test]
fn a_slow_reader_of_small_batches_gets_the_exact_number_of_lost_rows() {
    for round in 0..6 {
        run(|world| async move {
            let mut random = Random::new();
            let application = Application::new(&world);
            let mut subscribe = events(&["**"]);
            subscribe.buffer = Some(64 + random.below(500) as u32);
            let mut client = match round % 3 {
                0 => connect_old(&world, subscribe),
                1 => world.connect(Some(subscribe)),
                _ => {
                    subscribe.within_ms = Some(random.below(3) as u32);
                    world.connect(Some(subscribe))
                }
            };
            client.handshake().await;
            let mut published = 0;
            while world.hop("stream").2 < 2_000 {
                let count = 1 + random.below(40) as i64;
                application.publish(&world, published..published + count);
                published += count;
                let offered = published as u64;
                until(|| world.hop("stream").0 == offered).await;
            }
            let dropped = world.hop("stream").2;
            let (mut next, mut lost) = (0, 0);
            while next < published {
                match client.next().await {
                    Received::Row(row) => {
                        assert_eq!(row.n(), next, "rows are missing without a gap");
                        check_rows(&[row], [next]);
                        next += 1;
                    }
                    Received::Gap(None, 1, Some(n)) => {
                        lost += n;
                        next += n as i64;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((lost, next), (dropped, published));
            until(|| world.hop("stream") == (published as u64, published as u64 - dropped, dropped, 0)).await;
            // It has caught up: the next row comes alone.
            application.publish(&world, published..published + 1);
            assert_eq!(client.rows(1).await[0].n(), published);
            assert_eq!(client.hello.as_ref().unwrap().epoch, EPOCH as i64);
        });
    }
}
