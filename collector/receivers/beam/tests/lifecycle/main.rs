//! What happens around the rows: reload, eviction, limits, silence, goodbyes.

#[path = "../common/mod.rs"]
mod common;

use common::*;
use dichroic_model::{Limits, SECOND};
use dichroic_packs::{PackResolver, Packs, Selection};
use dichroic_pipeline::{Core, DropReason, Signal};
use dichroic_receiver_beam::{Config, Receiver};
use dichroic_wire::control::Goodbye;
use dichroic_wire::limits::SCHEMAS_PER_RELAY;
use dichroic_wire::{GoodbyeCode, Hello, Role, Value, Variables};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_reload_keeps_unchanged_entries_and_removes_others() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, queue) = (relay.key(0), relay.key(3));
        relay.define(0, orders, vec![Value::Null, Value::Null], T0).await;
        relay.define(1, queue, vec![], T0).await;
        relay.numbers(&[(0, 10, 0.0), (1, 5, 0.0)]).await;
        relay.flush().await;
        let mut changed = config();
        changed.selection.definitions.retain(|d| d.name != "shop.queue");
        changed
            .selection
            .definitions
            .extend(definitions("- {name: shop.new, type: counter, event: shop.new}"));
        receiver.reload(changed);
        let plan = relay.expect_plan().await;
        assert!(
            plan.aggregates.iter().any(|a| a.key == orders),
            "same content, same key"
        );
        assert!(plan.aggregates.iter().all(|a| a.key != queue));
        // On their way when the plan was sent.
        relay.numbers(&[(0, 11, 0.0), (1, 6, 0.0)]).await;
        relay.define(2, queue, vec![], T0).await;
        relay.numbers(&[(2, 6, 0.0)]).await;
        relay.release(1).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{} 11"]);
        let store = store.borrow();
        let (_, _, account) = store
            .ledger()
            .accounts()
            .find(|(_, s, _)| *s == Signal::Metrics)
            .unwrap();
        assert_eq!(account.dropped(DropReason::Withdrawn), 2);
        assert!(account.balances());
    });
}

/// Names of events that a plan counts.
fn counted(plan: &dichroic_wire::plan::Plan) -> Vec<String> {
    plan.aggregates.iter().map(|a| a.event.join(".")).collect()
}

fn ecto() -> Config {
    let packs = Packs::of(
        Packs::builtin()
            .iter()
            .filter(|p| p.name == "ecto")
            .cloned()
            .collect(),
    );
    let selection = Selection {
        packs,
        ..Selection::default()
    };
    Config {
        selection,
        ..config()
    }
}

#[test]
fn names_that_a_node_finds_later_are_counted_too_and_all_at_once_after_a_break() {
    run(async {
        let config = ecto();
        let (store, receiver) = (store(), Receiver::new(config));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let before = relay.plan.clone().unwrap();
        assert!(counted(&before).contains(&"shop.repo.query".to_owned()));
        assert!(!counted(&before).contains(&"stock.repo.query".to_owned()));
        let variables: Variables = [("ecto_prefix".to_owned(), vec!["stock.repo".to_owned()])].into();
        relay.reply(before.generation, &variables).await;
        let after = relay.expect_plan_with(&variables).await.clone();
        assert!(counted(&after).contains(&"stock.repo.query".to_owned()));
        for entry in &before.aggregates {
            assert!(after.aggregates.contains(entry), "what was there stays as it was");
        }
        relay.flush().await;
        // The same words again are no reason for another plan: the next thing that comes is the answer to a flush.
        relay.reply(after.generation, &variables).await;
        relay.flush().await;
        let mut again = hello("shop@a", 1, T0, 2);
        again.variables = variables;
        let relay = Relay::connect(&receiver, &store, &again).await;
        assert_eq!(counted(relay.plan.as_ref().unwrap()), counted(&after));
    });
}

fn prefixes(names: &[&str]) -> Variables {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    [("ecto_prefix".to_owned(), names)].into()
}

#[test]
fn a_relay_with_ever_new_names_leaves_room_for_others() {
    run(async {
        let config = Config {
            replan_every: Duration::ZERO,
            ..ecto()
        };
        let limits = Limits {
            schemas: 1_024,
            ..Limits::default()
        };
        let store = Core::new(limits, Arc::new(PackResolver::builtin()), T0 as u64);
        let (store, receiver) = (Rc::new(RefCell::new(store)), Receiver::new(config));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        for round in 0..80 {
            let names: Vec<String> = (0..16).map(|at| format!("x{round}.r{at}")).collect();
            let variables: Variables = [("ecto_prefix".to_owned(), names)].into();
            let generation = relay.plan.as_ref().unwrap().generation;
            relay.reply(generation, &variables).await;
            relay.expect_plan_with(&variables).await;
        }
        let mut other = hello("other@a", 2, T0, 1);
        other.variables = prefixes(&["mine.repo"]);
        let other = Relay::connect(&receiver, &store, &other).await;
        assert!(counted(other.plan.as_ref().unwrap()).contains(&"mine.repo.query".to_owned()));
        for status in receiver.status() {
            assert_eq!(status.refused, [], "{}", status.node);
        }
    });
}

#[test]
fn series_keep_their_entry_while_plans_come_and_go() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, queue) = (relay.key(0), relay.key(3));
        relay.define(0, orders, vec![Value::Null, "pro".into()], T0).await;
        relay.define(1, queue, vec![], T0).await;
        relay.numbers(&[(0, 1, 0.0), (1, 7, 0.0)]).await;
        for round in 0..4 {
            let mut changed = config();
            for at in 0..600 {
                let text = format!("- {{name: x{round}.a{at}, type: counter, event: x{round}.a{at}}}");
                changed.selection.definitions.extend(definitions(&text));
            }
            receiver.reload(changed);
            let plan = relay.expect_plan().await;
            let new = plan.aggregates.last().expect("an entry").key;
            relay.define(2 + round, new, vec![], T0).await;
            relay
                .numbers(&[(0, 10 + i64::from(round), 0.0), (2 + round, 5, 0.0)])
                .await;
            relay.flush().await;
        }
        assert_eq!(
            page(&store),
            ["shop.orders{plan=\"pro\"} 13", "shop.queue{} 7", "x3.a599{} 5"]
        );
    });
}

#[test]
fn event_schemas_beyond_the_limit_are_not_requested_and_are_reported() {
    run(async {
        let mut config = Config {
            retain: vec![pattern("**")],
            ..ecto()
        };
        let names = (0..600).map(|at| format!("x{at}.r")).collect();
        config.selection.variables = [("ecto_prefix".to_owned(), names)].into();
        let (store, receiver) = (store(), Receiver::new(config));
        let relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let asked = relay.plan.as_ref().unwrap().streams.len();
        assert!((1..=SCHEMAS_PER_RELAY).contains(&asked), "{asked}");
        let status = &receiver.status()[0];
        let message = "the limit of event schemas is reached: 512 per relay";
        assert!(
            status.refused.iter().any(|(_, why)| why.starts_with(message)),
            "{:?}",
            status.refused
        );
        let store = store.borrow();
        let (_, terms) = store.ledger().relays().next().expect("an account");
        assert!(terms[&"schema_limit".into()] > 0);
    });
}

#[test]
fn plans_that_a_relays_variables_cause_are_spaced() {
    run(async {
        let pause = Duration::from_millis(300);
        let config = Config {
            replan_every: pause,
            ..ecto()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let generation = relay.plan.as_ref().unwrap().generation;
        let begun = std::time::Instant::now();
        relay.reply(generation, &prefixes(&["a.repo"])).await;
        let after = relay.expect_plan_with(&prefixes(&["b.repo"])).await;
        assert!(counted(after).contains(&"a.repo.query".to_owned()));
        let after = relay.expect_plan_with(&prefixes(&["b.repo"])).await;
        assert!(begun.elapsed() >= pause);
        assert!(counted(after).contains(&"b.repo.query".to_owned()));
    });
}

#[test]
fn evicted_gauges_expire_and_counters_remain_until_they_return_or_the_node_disconnects() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (orders, queue) = (relay.key(0), relay.key(3));
        relay.define(0, orders, vec![Value::Null, Value::Null], T0).await;
        relay.define(1, queue, vec![], T0).await;
        relay.numbers(&[(0, 10, 0.0), (1, 5, 0.0)]).await;
        relay.release(0).await;
        relay.release(1).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{} 10"]);
        let later = T0 + 400_000_000_000;
        relay
            .define(0, orders, vec![Value::Null, Value::Null], later)
            .await;
        relay.numbers(&[(0, 2, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{} 2"]);
        assert_eq!(rows(&store)[0].start, later as u64);
        relay.crash().await;
        assert_eq!(page(&store).len(), 1, "it stays for a minute");
        let ended = receiver.status()[0].ended.unwrap();
        store.borrow_mut().sweep(ended + 59 * SECOND);
        assert_eq!(page(&store).len(), 1);
        store.borrow_mut().sweep(ended + 61 * SECOND);
        assert!(page(&store).is_empty());
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 2)).await;
        relay
            .define(0, orders, vec![Value::Null, Value::Null], later)
            .await;
        relay.numbers(&[(0, 3, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{} 3"], "and comes back with its total");
    });
}

#[test]
fn series_beyond_the_stores_limits_are_dropped_and_counted() {
    run(async {
        let limits = Limits {
            series: 2,
            ..Limits::default()
        };
        let store = Core::new(limits, Arc::new(PackResolver::builtin()), T0 as u64);
        let (store, receiver) = (Rc::new(RefCell::new(store)), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        for id in 0..5_u32 {
            relay
                .define(id, orders, vec![Value::Null, Value::Int(id.into())], T0)
                .await;
            relay.numbers(&[(id, 1, 0.0), (id, 2, 0.0)]).await;
        }
        relay.flush().await;
        assert_eq!(page(&store).len(), 2);
        let store = store.borrow();
        let (_, _, account) = store.ledger().accounts().next().unwrap();
        assert_eq!(
            (account.received, account.dropped(DropReason::SeriesLimit)),
            (10, 6)
        );
        assert!(account.balances());
    });
}

#[test]
fn two_ids_that_mean_one_series_do_not_overwrite_each_other() {
    run(async {
        let mut config = config();
        config.selection.definitions =
            definitions("[{name: same, type: counter, event: a.b}, {name: same, type: counter, event: a.c}]");
        let (store, receiver) = (store(), Receiver::new(config));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let (one, two) = (relay.key(0), relay.key(1));
        assert_ne!(one, two);
        relay.define(0, one, vec![], T0).await;
        relay.define(1, two, vec![], T0).await;
        relay.numbers(&[(0, 10, 0.0), (1, 500, 0.0), (0, 11, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["same{} 11"]);
        let store = store.borrow();
        let (_, _, account) = store.ledger().accounts().next().unwrap();
        assert_eq!(account.dropped(DropReason::Duplicate), 1);
    });
}

#[test]
fn a_series_remains_one_when_a_label_changes_type_but_not_text() {
    let same = [
        vec![Value::Int(1), Value::Bool(true)],
        vec!["1".into(), "true".into()],
        vec![Value::Float(1.0), "true".into()],
    ];
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        for (epoch, labels) in (1..).zip(&same) {
            let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", epoch, T0 + epoch, 1)).await;
            let orders = relay.key(0);
            relay.define(0, orders, labels.clone(), T0 + epoch).await;
            relay.numbers(&[(0, 10 * epoch, 0.0)]).await;
            relay.flush().await;
            // Forgotten by the relay, it stays on the page, and is continued by whoever has the same labels there.
            relay.release(0).await;
            relay.define(1, orders, same[0].clone(), T0 + epoch).await;
            relay.numbers(&[(1, 10 * epoch + 1, 0.0)]).await;
            relay.flush().await;
            let expected = format!("shop.orders{{ok=\"1\",plan=\"true\"}} {}", 10 * epoch + 1);
            assert_eq!(page(&store), [expected]);
            relay.crash().await;
        }
        assert_eq!(store.borrow().warnings().label_collisions, 0);
    });
}

#[test]
fn an_empty_label_is_no_label() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        relay.define(0, orders, vec![Value::Null, "".into()], T0).await;
        relay.numbers(&[(0, 1, 0.0)]).await;
        relay.release(0).await;
        relay.define(1, orders, vec!["".into(), Value::Null], T0).await;
        relay.numbers(&[(1, 2, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store).len(), 1);
        assert_eq!(store.borrow().warnings().label_collisions, 0);
    });
}

#[test]
fn an_empty_first_flush_does_not_empty_the_page() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        let labels = || vec![Value::Null, Value::Null];
        relay.define(0, orders, labels(), T0).await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.flush().await;
        relay.crash().await;
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 2, T0 + 1, 1)).await;
        relay.flush().await;
        assert_eq!(
            page(&store),
            ["shop.orders{} 10"],
            "until the new incarnation has something to show"
        );
        relay.flush().await;
        relay.flush().await;
        assert!(page(&store).is_empty(), "but not for ever");
    });
}

#[test]
fn the_overflow_series_has_one_label() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        relay
            .define_with(0, orders, vec![Value::Null, Value::Null], T0, true)
            .await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.flush().await;
        assert_eq!(page(&store), ["shop.orders{otel_metric_overflow=\"true\"} 10"]);
    });
}

#[test]
fn a_mapped_duration_is_in_seconds_with_the_runtime_label() {
    run(async {
        let mut config = config();
        config.selection = Selection {
            packs: Packs::builtin(),
            ..Selection::default()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        // A VM whose native unit is a microsecond.
        let mut slow = hello("shop@a", 1, T0, 1);
        slow.native_per_s = 1_000_000;
        let mut relay = Relay::connect(&receiver, &store, &slow).await;
        let plan = relay.plan.clone().unwrap();
        let entry = plan
            .aggregates
            .iter()
            .find(|a| a.event.join(".") == "phoenix.endpoint.stop")
            .unwrap();
        let dichroic_wire::AggregateType::Buckets { bounds } = &entry.aggregate_type else {
            panic!("{entry:?}")
        };
        assert_eq!(bounds[..3], [5_000.0, 10_000.0, 25_000.0]);
        assert!(
            plan.carries
                .iter()
                .any(|c| c.event.join(".") == "phoenix.router_dispatch.start")
        );
        let labels = vec![Value::from("GET"), Value::Int(200), Value::from("/users/:id")];
        relay.define(0, entry.key, labels, T0).await;
        relay
            .histogram(
                0,
                (40_000, 0.0),
                &[
                    (0, dichroic_wire::Side::Positive, 3),
                    (14, dichroic_wire::Side::Positive, 1),
                ],
            )
            .await;
        relay.flush().await;
        let labels = "runtime=\"beam\",http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/users/:id\"";
        let bounds = "[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]";
        let counts = "[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]";
        assert_eq!(
            page(&store),
            [format!(
                "http.server.request.duration{{{labels}}} {bounds} {counts} 0.04"
            )]
        );
    });
}

#[test]
fn a_plan_above_the_relays_max_frame_is_cut_and_reported() {
    run(async {
        let mut config = config();
        config.selection.packs = Packs::builtin();
        let (store, receiver) = (store(), Receiver::new(config));
        let mut small = hello("shop@a", 1, T0, 1);
        small.max_frame = 16_384;
        let relay = Relay::connect(&receiver, &store, &small).await;
        let whole = Relay::connect(&receiver, &store, &hello("other@a", 2, T0, 1)).await;
        let (cut, whole) = (
            relay.plan.unwrap().aggregates.len(),
            whole.plan.unwrap().aggregates.len(),
        );
        assert!(0 < cut && cut < whole, "{cut} of {whole}");
        let status = receiver.status();
        let told = status.iter().find(|s| s.node == "shop@a").unwrap();
        assert!(
            told.refused
                .iter()
                .any(|(what, message)| what.contains("entries") && message.contains("16384")),
            "{told:?}"
        );
    });
}

#[test]
fn silence_and_unfinished_frames_end_with_a_timeout() {
    run(async {
        let quick = || Config {
            silence: Duration::from_millis(30),
            flush: Duration::from_millis(10),
            frame_timeout: Duration::from_millis(30),
            ..config()
        };
        let (store, receiver) = (store(), Receiver::new(quick()));
        let mut silent = Relay::connect(&receiver, &store, &hello("a@a", 1, T0, 1)).await;
        let goodbye = silent.goodbye().await;
        assert_eq!(goodbye.code, GoodbyeCode::Timeout);
        assert!(goodbye.message.contains("no data received"), "{goodbye:?}");
        let patient = Config {
            silence: Duration::from_secs(60),
            ..quick()
        };
        let receiver = Receiver::new(patient);
        let mut halting = Relay::connect(&receiver, &store, &hello("b@a", 1, T0, 1)).await;
        halting.send(&numbers(&[(0, 1, 0.0)])[..20]).await;
        let goodbye = halting.goodbye().await;
        assert!(goodbye.message.contains("not complete"), "{goodbye:?}");
        until("both have gone", || receiver.connected() == 0).await;
    });
}

#[test]
fn a_relay_that_sends_goodbye_is_not_recorded_as_crashed() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let mut out = Vec::new();
        Goodbye::new(GoodbyeCode::Shutdown, 0, "init:stop")
            .write(&mut out)
            .unwrap();
        relay.send(&out).await;
        assert!(matches!(relay.next().await, Got::Closed));
        until("it has gone", || receiver.connected() == 0).await;
        assert!(receiver.status()[0].end.contains("init:stop"));
        assert!(
            store
                .borrow()
                .ledger()
                .relays()
                .next()
                .is_none_or(|(_, t)| !t.contains_key(&"ended_without_goodbye".into()))
        );
        assert!(store.borrow().sources().next().unwrap().2.is_some());
    });
}

#[test]
fn a_shutdown_takes_the_last_flush_in() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let orders = relay.key(0);
        relay.define(0, orders, vec![Value::Null, Value::Null], T0).await;
        relay.numbers(&[(0, 10, 0.0)]).await;
        relay.flush().await;
        let closing = tokio::task::spawn_local({
            let receiver = receiver.clone();
            async move { receiver.shutdown().await }
        });
        assert_eq!(relay.goodbye().await.code, GoodbyeCode::Shutdown);
        relay.numbers(&[(0, 12, 0.0)]).await;
        relay.flush().await;
        let mut out = Vec::new();
        Goodbye::new(GoodbyeCode::Shutdown, 0, "drained")
            .write(&mut out)
            .unwrap();
        relay.send(&out).await;
        tokio::time::timeout(DEADLINE, closing)
            .await
            .expect("in time")
            .unwrap();
        assert_eq!(page(&store), ["shop.orders{} 12"]);
        let mut late = Relay::dial(&receiver, &store, &hello("late@a", 1, T0, 1));
        assert_eq!(late.goodbye().await.code, GoodbyeCode::Shutdown);
    });
}

#[test]
fn too_many_relays_and_an_invalid_hello_are_rejected_with_a_message() {
    run(async {
        let config = Config {
            relays: 1,
            ..config()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        let mut one = Relay::connect(&receiver, &store, &hello("one@a", 1, T0, 1)).await;
        let mut two = Relay::dial(&receiver, &store, &hello("two@a", 2, T0, 1));
        assert_eq!(two.goodbye().await.code, GoodbyeCode::Limit);
        let mut bad = Relay::dial_with(
            &receiver,
            &store,
            Hello::new(Role::Relay, Default::default()),
            Vec::new(),
        );
        let goodbye = bad.goodbye().await;
        assert!(goodbye.message.contains("which is required"), "{goodbye:?}");
        one.flush().await;
        assert_eq!(receiver.connected(), 1);
    });
}

#[test]
fn frames_read_together_with_hello_are_not_lost() {
    run(async {
        let (store, receiver) = (store(), Receiver::new(config()));
        let mut behind = Vec::new();
        dichroic_wire::Ping(7).write(&mut behind);
        let mut relay = Relay::dial_with(&receiver, &store, hello("shop@a", 1, T0, 1).to_hello(), behind);
        relay.next().await;
        relay.expect_plan().await;
        assert!(matches!(relay.next().await, Got::Pong(7)));
    });
}
