//! Slow subscribers: their losses, the reported gaps, and the independence of other subscribers.

mod common;

use common::{Client, Random, Received, events, run, run_with, until};
use dichroic_exporter_stream::{Config, SubscriberInfo};
use dichroic_model::Limits;
use dichroic_wire::hello::OnFull;

/// Publishes until the subscriber's own ring has lost rows; returns how many rows were published.
async fn overrun(world: &common::World, lost_at_least: u64) -> i64 {
    let schema = world.schema("a.b");
    let source = world.source("shop@a");
    let mut next = 0;
    while world.hop("stream").2 < lost_at_least {
        world.publish(&schema, &source, next..next + 100);
        next += 100;
        let offered = next as u64;
        until(|| world.hop("stream").0 == offered).await;
        assert!(next < 10_000_000, "no row was lost");
    }
    next
}

#[test]
fn a_slow_reader_loses_its_oldest_rows_and_gets_their_exact_number() {
    run(|world| async move {
        let mut subscribe = events(&["**"]);
        subscribe.buffer = Some(1_000);
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        let published = overrun(&world, 50_000).await;
        let (_, _, dropped, queued) = world.hop("stream");
        // The ring and the write buffer; the rest was written to the socket or lost.
        assert!(queued < 1_000 + 6_000, "{queued} rows are queued");
        let (mut seen, mut lost, mut next) = (0, 0, 0);
        while seen + lost < published as u64 {
            match client.next().await {
                Received::Row(row) => {
                    assert_eq!(row.n(), next, "rows are missing without a gap");
                    (seen, next) = (seen + 1, next + 1);
                }
                Received::Gap(None, 1, Some(n)) => {
                    lost += n;
                    next += n as i64;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(lost, dropped);
        assert_eq!(next, published, "the newest rows are kept");
        until(|| world.hop("stream") == (published as u64, seen, dropped, 0)).await;
    });
}

#[test]
fn drop_newest_keeps_the_oldest_rows() {
    run(|world| async move {
        let mut subscribe = events(&["**"]);
        (subscribe.buffer, subscribe.on_full) = (Some(1_000), Some(OnFull::DropNewest));
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        let published = overrun(&world, 50_000).await;
        let dropped = world.hop("stream").2;
        let mut next = 0;
        let lost = loop {
            match client.next().await {
                Received::Row(row) => {
                    assert_eq!(row.n(), next);
                    next += 1;
                }
                Received::Gap(None, 1, Some(n)) => break n,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(lost, dropped);
        assert_eq!(next as u64 + lost, published as u64);
    });
}

#[test]
fn disconnect_sends_goodbye_to_a_slow_subscriber() {
    run(|world| async move {
        let mut subscribe = events(&["**"]);
        (subscribe.buffer, subscribe.on_full) = (Some(1_000), Some(OnFull::Disconnect));
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        for at in 0..600 {
            world.publish(&schema, &source, at * 100..(at + 1) * 100);
            tokio::task::yield_now().await;
        }
        let mut next = 0;
        let message = loop {
            match client.next().await {
                Received::Row(row) => {
                    assert_eq!(row.n(), next);
                    next += 1;
                }
                Received::Goodbye(8, message) => break message,
                other => panic!("{other:?}"),
            }
        };
        assert!(message.contains("read faster"), "{message}");
        assert_eq!(client.next().await, Received::End);
        until(|| world.exporter.subscribers().is_empty()).await;
        let (offered, sent, dropped, queued) = world.hop("stream");
        assert_eq!((offered, queued), (sent + dropped, 0));
        assert_eq!(sent, next as u64);
    });
}

#[test]
fn two_subscribers_are_independent() {
    run(|world| async move {
        let mut stuck = world.connect(Some(events(&["**"])));
        let mut quick = world.connect(Some(events(&["**"])));
        stuck.handshake().await;
        quick.handshake().await;
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        let mut seen = 0;
        for at in 0..1_000 {
            world.publish(&schema, &source, at * 100..(at + 1) * 100);
            seen += quick.rows(100).await.len();
        }
        assert_eq!(seen, 100_000);
        let list = world.exporter.subscribers();
        assert!(list[0].dropped > 0 && list[1].dropped == 0, "{list:?}");
        assert_eq!(list[1].offered, 100_000);
    });
}

#[test]
fn a_stalled_subscriber_is_disconnected() {
    let config = Config {
        // Longer than the loop of `overrun` takes on a busy machine.
        stall: std::time::Duration::from_secs(1),
        ..Config::default()
    };
    run_with(config, Limits::default(), |world| async move {
        let mut client = world.connect(Some(events(&["**"])));
        client.handshake().await;
        overrun(&world, 1).await;
        until(|| world.exporter.subscribers().is_empty()).await;
        let (offered, sent, dropped, queued) = world.hop("stream");
        assert_eq!((offered, queued), (sent + dropped, 0));
    });
}

#[test]
fn rows_lost_before_the_ring_are_reported_too() {
    for filtered in [false, true] {
        run(|world| async move {
            let schema = world.schema("a.b");
            let source = world.source("shop@a");
            let mut subscribe = events(&["**"]);
            if filtered {
                subscribe
                    .where_
                    .insert("status".to_owned(), vec!["200".to_owned()]);
            }
            let mut client = world.connect(Some(subscribe));
            client.handshake().await;
            // The session does not run meanwhile: its channel of 1,024 batches overflows.
            for n in 0..1_500 {
                world.publish(&schema, &source, n * 5 + 1..n * 5 + 5);
            }
            let lost = (1_500 - 1_024) * 4;
            let expected = (!filtered).then_some(lost);
            assert_eq!(client.next().await, Received::Gap(None, 1, expected));
            let rows = client.rows(1_024 * 4).await;
            assert_eq!(rows[0].n(), (1_500 - 1_024) * 5 + 1);
            let (offered, sent) = (1_500 * 4, 1_024 * 4);
            until(|| world.hop("stream") == (offered, sent, lost, 0)).await;
        });
    }
}

#[test]
fn the_account_balances_while_subscribers_connect_stall_and_disconnect() {
    run(|world| async move {
        let mut random = Random::new();
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        let mut clients: Vec<Client> = Vec::new();
        for round in 0..400 {
            if clients.len() < 20 {
                let mut subscribe = events(&["**"]);
                subscribe.buffer = Some(64 + random.below(500) as u32);
                let policies = [OnFull::DropOldest, OnFull::DropNewest, OnFull::Disconnect];
                subscribe.on_full = Some(policies[random.below(3) as usize]);
                if random.below(2) == 0 {
                    subscribe
                        .where_
                        .insert("method".to_owned(), vec!["GET".to_owned()]);
                }
                if random.below(3) == 0 {
                    subscribe.replay_ms = Some(60_000);
                }
                clients.push(world.connect(Some(subscribe)));
            }
            let rows = 1 + random.below(300) as i64;
            world.publish(&schema, &source, round * 1_000..round * 1_000 + rows);
            if random.below(3) == 0 {
                let reader = random.below(clients.len() as u64) as usize;
                for _ in 0..random.below(2_000) {
                    let next = clients[reader].next();
                    if tokio::time::timeout(std::time::Duration::from_millis(1), next)
                        .await
                        .is_err()
                    {
                        break;
                    }
                }
            }
            if random.below(10) == 0 {
                let disconnected = random.below(clients.len() as u64) as usize;
                clients.swap_remove(disconnected);
            }
            tokio::task::yield_now().await;
        }
        for subscriber in world.exporter.subscribers() {
            let SubscriberInfo {
                offered,
                sent,
                dropped,
                queued,
                ..
            } = subscriber;
            assert_eq!(offered, sent + dropped + queued, "{subscriber:?}");
        }
        let (offered, sent, dropped, queued) = world.hop("stream");
        assert_eq!(offered, sent + dropped + queued);
        drop(clients);
        until(|| world.exporter.subscribers().is_empty()).await;
        let (offered, sent, dropped, queued) = world.hop("stream");
        assert!(dropped > 0 && sent > 0);
        assert_eq!((offered, queued), (sent + dropped, 0));
    });
}
