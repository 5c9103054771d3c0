//! New plans: reloads, variables of the node, and limits on schemas and frames.

use crate::common::*;
use dichroic_model::Limits;
use dichroic_packs::{PackResolver, Packs, Selection};
use dichroic_pipeline::{Core, DropReason, Signal};
use dichroic_receiver_beam::{Config, Receiver};
use dichroic_wire::limits::SCHEMAS_PER_RELAY;
use dichroic_wire::{Value, Variables};
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
        // In transit when the plan was sent.
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
fn names_that_a_node_finds_later_are_added_and_kept_after_a_reconnect() {
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
            assert!(after.aggregates.contains(entry), "existing entries do not change");
        }
        relay.flush().await;
        // The same variables again do not cause a plan: the next frame is the reply to a flush.
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
fn a_relay_with_always_new_names_leaves_room_for_others() {
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
fn series_keep_their_entry_across_plans() {
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
        let requested = relay.plan.as_ref().unwrap().streams.len();
        assert!((1..=SCHEMAS_PER_RELAY).contains(&requested), "{requested}");
        let status = &receiver.status()[0];
        let message = "the limit of event schemas is reached: 512 per relay";
        assert!(
            status
                .refused
                .iter()
                .any(|(_, reason)| reason.starts_with(message)),
            "{:?}",
            status.refused
        );
        let store = store.borrow();
        let (_, terms) = store.ledger().relays().next().expect("an account");
        assert!(terms[&"schema_limit".into()] > 0);
    });
}

#[test]
fn plans_caused_by_variables_have_a_minimum_interval() {
    run(async {
        let pause = Duration::from_millis(300);
        let config = Config {
            replan_every: pause,
            ..ecto()
        };
        let (store, receiver) = (store(), Receiver::new(config));
        let mut relay = Relay::connect(&receiver, &store, &hello("shop@a", 1, T0, 1)).await;
        let generation = relay.plan.as_ref().unwrap().generation;
        let start = std::time::Instant::now();
        relay.reply(generation, &prefixes(&["a.repo"])).await;
        let after = relay.expect_plan_with(&prefixes(&["b.repo"])).await;
        assert!(counted(after).contains(&"a.repo.query".to_owned()));
        let after = relay.expect_plan_with(&prefixes(&["b.repo"])).await;
        assert!(start.elapsed() >= pause);
        assert!(counted(after).contains(&"b.repo.query".to_owned()));
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
        let cut_status = status.iter().find(|s| s.node == "shop@a").unwrap();
        assert!(
            cut_status
                .refused
                .iter()
                .any(|(what, message)| what.contains("entries") && message.contains("16384")),
            "{cut_status:?}"
        );
    });
}
