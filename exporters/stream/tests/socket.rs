//! Event subscriptions on a real Unix socket: content and order of rows, gaps, refusals.

mod common;

use common::{Client, EPOCH, Random, Received, Row, events, run, run_with, until};
use dichroic_exporter_stream::Config;
use dichroic_model::clock::now;
use dichroic_model::{GapReason, Limits};
use dichroic_wire::hello::Cursor;
use dichroic_wire::{Cell, Goodbye, GoodbyeCode, Hello, Map, Ping, Pong, Role, Value};
use tokio::io::AsyncWriteExt;

fn numbers(rows: &[Row]) -> Vec<i64> {
    rows.iter().map(Row::n).collect()
}

#[test]
fn events_arrive_exactly_and_in_order() {
    run(|world| async move {
        let (a, b) = (
            world.schema("phoenix.endpoint.stop"),
            world.schema("oban.job.stop"),
        );
        let (shop, cart) = (world.source("shop@a"), world.source("cart@b"));
        let mut client = world.connect(Some(events(&["**"])));
        let hello = client.handshake().await;
        assert_eq!(
            (hello.epoch, hello.position, hello.resumed),
            (EPOCH as i64, Some(0), Some(false))
        );
        world.publish(&a, &shop, 0..300);
        world.publish(&b, &cart, 300..310);
        world.publish(&a, &shop, 310..320);
        let rows = client.rows(320).await;
        assert_eq!(numbers(&rows), (0..320).collect::<Vec<_>>());
        assert_eq!(rows[305].name, "oban.job.stop");
        assert_eq!(rows[305].source, "cart@b");
        assert_eq!(rows[315].source, "shop@a");
        assert_eq!(rows[7].time, EPOCH as i64 + 7);
        assert_eq!(
            rows[5].cells,
            [Value::Int(5), Value::from("POST"), Value::Int(503)]
        );
    });
}

#[test]
fn only_matching_names_are_sent() {
    run(|world| async move {
        let (a, b) = (
            world.schema("phoenix.endpoint.stop"),
            world.schema("oban.job.stop"),
        );
        let source = world.source("shop@a");
        let mut client = world.connect(Some(events(&["oban.**"])));
        client.handshake().await;
        world.publish(&a, &source, 0..10);
        world.publish(&b, &source, 10..13);
        assert_eq!(numbers(&client.rows(3).await), [10, 11, 12]);
    });
}

#[test]
fn where_selects_rows_by_rendered_values() {
    let check = |labels: &'static [(&str, &[&str])], matches: fn(i64) -> bool| {
        run(|world| async move {
            let schema = world.schema("phoenix.endpoint.stop");
            let source = world.source("shop@a");
            let mut subscribe = events(&["phoenix.**"]);
            for (label, globs) in labels {
                let globs = globs.iter().map(|g| (*g).to_owned()).collect();
                subscribe.where_.insert((*label).to_owned(), globs);
            }
            let mut client = world.connect(Some(subscribe));
            client.handshake().await;
            for start in [0, 100, 200] {
                world.publish(&schema, &source, start..start + 100);
            }
            let expected: Vec<_> = (0..300).filter(|n| matches(*n)).collect();
            let rows = client.rows(expected.len()).await;
            assert_eq!(numbers(&rows), expected, "{labels:?}");
        });
    };
    check(&[("status", &["5*"])], |n| n % 5 == 0);
    check(&[("status", &["5*", "200"])], |_| true);
    check(&[("method", &["GET"]), ("status", &["5*"])], |n| n % 10 == 0);
    check(&[("n", &["7", "29?", "*99"])], |n| {
        n == 7 || n == 99 || n == 199 || n == 299
    });
}

#[test]
fn an_unknown_label_matches_nothing() {
    run(|world| async move {
        let source = world.source("shop@a");
        let mut subscribe = events(&["**"]);
        subscribe.where_.insert("nosuch".to_owned(), vec!["*".to_owned()]);
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        let schema = world.schema("a.b");
        world.publish(&schema, &source, 0..10);
        client.send(&ping(1)).await;
        assert_eq!(client.next().await, Received::Pong(1));
        until(|| world.store.borrow().subscribers() == 1).await;
        assert_eq!(world.hop("stream"), (0, 0, 0, 0));
    });
}

#[test]
fn a_label_that_no_matching_event_has_is_refused() {
    let check = |label: &'static str, pattern: &'static str, refused: bool| {
        run(|world| async move {
            world.schema("a.b");
            let mut subscribe = events(&[pattern]);
            subscribe.where_.insert(label.to_owned(), vec!["*".to_owned()]);
            let mut client = world.connect(Some(subscribe.clone()));
            if !refused {
                client.handshake().await;
                return;
            }
            let (code, message) = goodbye(&mut client).await;
            let expected = format!(
                "where: no event that matches has {label:?}; did you mean \"status\"?; they have method, n, status, and their sender source, runtime, service, \
                 job, instance, node"
            );
            assert_eq!((code, message), (10, expected));
            // A subscription that resumes has been accepted before.
            subscribe.cursor = Some(Cursor {
                epoch: EPOCH as i64,
                position: 0,
                rows: 0,
            });
            world.connect(Some(subscribe)).handshake().await;
        });
    };
    check("statuz", "**", false);
    check("statuz", "a.*", true);
    check("statuz", "b.*", false);
    for known in [
        "status", "n", "source", "runtime", "service", "job", "instance", "node",
    ] {
        check(known, "a.b", false);
    }
}

#[test]
fn patterns_without_a_known_name_are_answered_with_the_nearest() {
    let check = |patterns: &'static [&'static str], expected: &'static [(&str, &[&str])]| {
        run(|world| async move {
            world.schema("phoenix.endpoint.stop");
            world.schema("oban.job.stop");
            let hello = world.connect(Some(events(patterns))).handshake().await;
            let near = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let expected = expected
                .iter()
                .map(|(pattern, names)| ((*pattern).to_owned(), near(names)));
            assert_eq!(hello.unmatched, expected.collect(), "{patterns:?}");
        });
    };
    check(&["**", "phoenix.**", "*.*.stop", "oban.job.stop"], &[]);
    check(
        &["pheonix.endpoint.stop"],
        &[("pheonix.endpoint.stop", &["phoenix.endpoint.stop"])],
    );
    check(&["pheonix.**", "oban.**"], &[("pheonix.**", &["phoenix.**"])]);
    check(&["xyz"], &[("xyz", &[])]);
}

#[test]
fn nothing_is_unmatched_while_nothing_is_known() {
    run(|world| async move {
        let hello = world.connect(Some(events(&["phoenix.**"]))).handshake().await;
        assert!(hello.unmatched.is_empty());
    });
}

#[test]
fn a_sample_is_the_same_rows_each_time() {
    run(|world| async move {
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        world.publish(&schema, &source, 0..2_000);
        let mut subscribe = events(&["**"]);
        (subscribe.sample, subscribe.replay_ms) = (Some(0.25), Some(60_000));
        let mut first = Vec::new();
        for _ in 0..2 {
            let before = world.hop("stream").0;
            let mut client = world.connect(Some(subscribe.clone()));
            client.handshake().await;
            until(|| world.hop("stream").0 > before).await;
            let seen = numbers(&client.rows((world.hop("stream").0 - before) as usize).await);
            assert!((400..600).contains(&seen.len()), "{}", seen.len());
            if first.is_empty() {
                first = seen;
            } else {
                assert_eq!(first, seen);
            }
        }
    });
}

#[test]
fn replayed_rows_are_sent_first() {
    run(|world| async move {
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        world.publish(&schema, &source, 0..50);
        let mut subscribe = events(&["**"]);
        subscribe.replay_ms = Some(30_000);
        let mut client = world.connect(Some(subscribe));
        assert_eq!(client.handshake().await.position, Some(50));
        world.publish(&schema, &source, 50..60);
        assert_eq!(numbers(&client.rows(60).await), (0..60).collect::<Vec<_>>());
    });
}

#[test]
fn resuming_at_any_row_neither_loses_nor_repeats_rows() {
    for filtered in [false, true] {
        for consumed in [1, 7, 99, 100, 101, 130, 250] {
            run(|world| async move {
                let schema = world.schema("a.b");
                let source = world.source("shop@a");
                let mut subscribe = events(&["**"]);
                if filtered {
                    subscribe
                        .where_
                        .insert("method".to_owned(), vec!["GET".to_owned()]);
                }
                let expected: Vec<_> = (0..800).filter(|n| !filtered || n % 2 == 0).collect();
                let mut client = world.connect(Some(subscribe.clone()));
                let epoch = client.handshake().await.epoch;
                for at in 0..6 {
                    world.publish(&schema, &source, at * 100..(at + 1) * 100);
                }
                let mut seen = client.rows(consumed).await;
                let (position, rows) = seen.last().unwrap().cursor;
                drop(client);
                world.publish(&schema, &source, 600..700);
                subscribe.cursor = Some(Cursor {
                    epoch,
                    position,
                    rows,
                });
                let mut client = world.connect(Some(subscribe));
                assert_eq!(client.handshake().await.resumed, Some(true));
                world.publish(&schema, &source, 700..800);
                seen.extend(client.rows(expected.len() - consumed).await);
                assert_eq!(numbers(&seen), expected, "filtered {filtered}, after {consumed}");
            });
        }
    }
}

#[test]
fn a_cursor_beyond_the_replay_gives_a_gap_before_the_first_row() {
    let check = |epoch: i64, position: u64, reason: u8, first: i64| {
        let limits = Limits {
            replay_bytes: 4_096,
            ..Limits::default()
        };
        run_with(Config::default(), limits, |world| async move {
            let schema = world.schema("a.b");
            let source = world.source("shop@a");
            for at in 0..20 {
                world.publish(&schema, &source, at * 50..(at + 1) * 50);
            }
            let mut subscribe = events(&["**"]);
            let rows = 3;
            subscribe.cursor = Some(Cursor {
                epoch,
                position,
                rows,
            });
            let mut client = world.connect(Some(subscribe));
            assert_eq!(client.handshake().await.resumed, Some(false));
            world.publish(&schema, &source, 1_000..1_001);
            assert_eq!(client.next().await, Received::Gap(None, reason, None));
            let rows = client.rows(1).await;
            assert!(rows[0].n() >= first, "{}", rows[0].n());
        });
    };
    check(EPOCH as i64, 0, GapReason::BeyondReplay as u8, 900);
    check(EPOCH as i64, 50_000, GapReason::BeyondReplay as u8, 1_000);
    check(7, 0, GapReason::CollectorRestarted as u8, 900);
}

#[test]
fn a_relays_gap_is_forwarded_at_its_position() {
    run(|world| async move {
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        let mut client = world.connect(Some(events(&["**"])));
        client.handshake().await;
        world.publish(&schema, &source, 0..2);
        world
            .store
            .borrow_mut()
            .publish_gap(&schema, &source, GapReason::RelayOverload, Some(17));
        world.publish(&schema, &source, 2..4);
        assert_eq!(numbers(&client.rows(2).await), [0, 1]);
        assert_eq!(
            client.next().await,
            Received::Gap(Some("a.b".to_owned()), 4, Some(17))
        );
        assert_eq!(numbers(&client.rows(2).await), [2, 3]);
    });
}

fn ping(token: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Ping(token).write(&mut out);
    out
}

async fn goodbye(client: &mut Client) -> (u16, String) {
    loop {
        match client.next().await {
            Received::Goodbye(code, message) => {
                assert_eq!(client.next().await, Received::End);
                return (code, message);
            }
            Received::End => panic!("no GOODBYE"),
            _ => {}
        }
    }
}

#[test]
fn an_invalid_frame_ends_the_subscription_with_a_message() {
    let check = |bytes: Vec<u8>, message: &'static str| {
        run(|world| async move {
            let mut client = world.connect(Some(events(&["**"])));
            client.handshake().await;
            client.send(&bytes).await;
            let (code, sent) = goodbye(&mut client).await;
            assert_eq!(code, 3, "{sent}");
            assert!(sent.contains(message), "{sent}");
            until(|| world.exporter.subscribers().is_empty()).await;
        });
    };
    check(b"hello, is this a chat?".to_vec(), "bytes");
    check(vec![0, 0, 1, 0, 2], "65536 bytes");
    check(vec![3, 0, 0, 0, 3, 1, 2, 3], "PING");
    check(vec![1, 0, 0, 0, 9, 0], "EVENTS from a subscriber");
    check(ping(1).repeat(11), "more than 10");
}

#[test]
fn ping_is_answered_and_goodbye_ends_the_session() {
    run(|world| async move {
        // Bytes read after the HELLO are processed too.
        let mut client = world.connect_with(Some(events(&["**"])), 262_144, &ping(41));
        client.handshake().await;
        assert_eq!(client.next().await, Received::Pong(41));
        client.send(&ping(42)).await;
        assert_eq!(client.next().await, Received::Pong(42));
        let mut bytes = Vec::new();
        Pong(1).write(&mut bytes);
        Goodbye::new(GoodbyeCode::Shutdown, 0, "done")
            .write(&mut bytes)
            .unwrap();
        client.send(&bytes).await;
        assert_eq!(client.next().await, Received::End);
        until(|| world.exporter.subscribers().is_empty()).await;
        world
            .handle
            .call(|store| store.interest(now()).generation)
            .await
            .unwrap();
        world.subscribed(0).await;
    });
}

#[test]
fn a_hello_without_a_subscription_is_answered_and_stays_connected() {
    run(|world| async move {
        let mut client = world.connect(None);
        let hello = client.handshake().await;
        assert_eq!(hello.epoch, EPOCH as i64);
        client.send(&ping(5)).await;
        assert_eq!(client.next().await, Received::Pong(5));
    });
}

#[test]
fn an_invalid_subscription_is_refused_with_a_message() {
    let check = |change: fn(&mut Map), code: u16, message: &'static str| {
        run(|world| async move {
            let mut subscribe = Map::new();
            subscribe.insert("kind".to_owned(), Value::from("event"));
            subscribe.insert("match".to_owned(), Value::List(vec![Value::from("**")]));
            change(&mut subscribe);
            let mut fields = Map::new();
            fields.insert("agent".to_owned(), Value::from("test/1"));
            fields.insert("subscribe".to_owned(), Value::Map(subscribe));
            let mut client = world.connect_hello(Hello::new(Role::Subscriber, fields), &[]);
            let (sent_code, sent) = goodbye(&mut client).await;
            assert_eq!(sent_code, code, "{sent}");
            assert!(sent.contains(message), "{sent}");
        });
    };
    check(
        |map| drop(map.insert("match".to_owned(), Value::List(vec![Value::from("a..b")]))),
        10,
        "match: invalid pattern \"a..b\"",
    );
    check(
        |map| drop(map.insert("filter".to_owned(), Value::Null)),
        10,
        "unknown key \"filter\"",
    );
    check(|map| drop(map.remove("kind")), 10, "kind");
    check(
        |map| drop(map.insert("buffer".to_owned(), Value::Int(5))),
        10,
        "64 to 1048576",
    );
    check(
        |map| drop(map.insert("within_ms".to_owned(), Value::Int(10_001))),
        10,
        "0 to 10000",
    );
    check(
        |map| {
            map.insert("kind".to_owned(), Value::from("metric"));
            map.insert("within_ms".to_owned(), Value::Int(5));
        },
        10,
        "within_ms: applies to events and logs only",
    );
    check(
        |map| {
            map.insert("kind".to_owned(), Value::from("metric"));
            map.insert("sample".to_owned(), Value::Float(0.5));
        },
        10,
        "sample",
    );
}

#[test]
fn a_subscriber_beyond_the_limit_is_refused() {
    let config = Config {
        subscribers: 2,
        ..Config::default()
    };
    run_with(config, Limits::default(), |world| async move {
        let mut first = world.connect(Some(events(&["**"])));
        let mut second = world.connect(None);
        first.handshake().await;
        second.handshake().await;
        let mut third = world.connect(Some(events(&["**"])));
        let (code, message) = goodbye(&mut third).await;
        assert_eq!(code, 4, "{message}");
        drop(second);
        until(|| world.exporter.subscribers().len() == 1).await;
        let mut fourth = world.connect(Some(events(&["**"])));
        fourth.handshake().await;
    });
}

#[test]
fn a_row_too_large_for_the_subscriber_becomes_a_gap_and_the_others_are_sent() {
    for filtered in [false, true] {
        run(|world| async move {
            let schema = world.schema("a.b");
            let source = world.source("shop@a");
            let mut subscribe = events(&["**"]);
            if filtered {
                subscribe.where_.insert("status".to_owned(), vec!["1".to_owned()]);
            }
            let mut client = world.connect_with(Some(subscribe), 16_384, &[]);
            client.handshake().await;
            let big = "x".repeat(20_000);
            let row = |n, text| vec![Cell::Int(n), Cell::Str(text), Cell::Int(1)];
            let mut rows = vec![row(0, "a"), row(1, &*big), row(2, "b")];
            rows.push(vec![Cell::Int(3), Cell::Str("c"), Cell::Int(2)]);
            world.publish_rows(&schema, &source, &rows);
            assert_eq!(numbers(&client.rows(1).await), [0]);
            assert_eq!(
                client.next().await,
                Received::Gap(Some("a.b".to_owned()), 7, Some(1))
            );
            let rest: &[i64] = if filtered { &[2] } else { &[2, 3] };
            assert_eq!(numbers(&client.rows(rest.len()).await), rest);
            let sent = 1 + rest.len() as u64;
            until(|| world.hop("stream") == (sent + 1, sent, 1, 0)).await;
        });
    }
}

#[test]
fn a_shutdown_sends_queued_rows_and_then_goodbye() {
    run(|world| async move {
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        let mut subscribe = events(&["**"]);
        subscribe
            .where_
            .insert("method".to_owned(), vec!["GET".to_owned()]);
        let mut client = world.connect(Some(subscribe));
        client.handshake().await;
        world.publish(&schema, &source, 0..100);
        let exporter = world.exporter.clone();
        let (stopped, ()) = tokio::join!(exporter.shutdown(common::DEADLINE), async {
            assert_eq!(client.rows(50).await.len(), 50);
            assert!(matches!(client.next().await, Received::Goodbye(7, _)));
            assert_eq!(client.next().await, Received::End);
        });
        assert!(stopped);
        let mut late = world.connect(Some(events(&["**"])));
        assert_eq!(goodbye(&mut late).await.0, 7);
    });
}

#[test]
fn an_idle_connection_gets_pings() {
    let config = Config {
        ping_after: std::time::Duration::from_millis(20),
        ..Config::default()
    };
    run_with(config, Limits::default(), |world| async move {
        let mut client = world.connect(Some(events(&["**"])));
        client.handshake().await;
        assert!(matches!(client.next().await, Received::Ping(_)));
        assert!(matches!(client.next().await, Received::Ping(_)));
    });
}

#[test]
fn ids_are_reused_when_there_are_more_sources_than_ids() {
    run(|world| async move {
        let schema = world.schema("a.b");
        let sources: Vec<_> = (0..1_100)
            .map(|n| world.source(&format!("node{n}@host")))
            .collect();
        let mut client = world.connect(Some(events(&["**"])));
        client.handshake().await;
        for _ in 0..2 {
            for (n, source) in sources.iter().enumerate() {
                world.publish(&schema, source, n as i64..n as i64 + 1);
                if n % 100 == 99 {
                    for row in client.rows(100).await {
                        assert_eq!(row.source, format!("node{}@host", row.n()));
                    }
                }
            }
        }
    });
}

#[test]
fn random_bytes_from_a_subscriber_are_answered_or_end_the_session() {
    run(|world| async move {
        let mut random = Random::new();
        for _ in 0..200 {
            let mut client = world.connect(Some(events(&["**"])));
            client.handshake().await;
            let length = 1 + random.below(40);
            let mut bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            if random.below(2) == 0 {
                // A plausible header.
                bytes.splice(0..0, [random.below(12) as u8, 0, 0, 0, random.below(12) as u8]);
            }
            client.send(&bytes).await;
            client.io.shutdown().await.unwrap();
            while !matches!(client.next().await, Received::End | Received::Goodbye(3, _)) {}
        }
        until(|| world.exporter.subscribers().is_empty()).await;
    });
}
