//! Ends of connections: timeouts, GOODBYE, shutdown, rejected relays.

use crate::common::*;
use dichroic_receiver_beam::{Config, Receiver};
use dichroic_wire::control::Goodbye;
use dichroic_wire::{GoodbyeCode, Hello, Role, Value};
use std::time::Duration;

#[test]
fn silence_and_unfinished_frames_end_with_a_timeout() {
    run(async {
        let quick = || Config {
            silence: Duration::from_millis(30),
            flush_interval: Duration::from_millis(10),
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
        until("both are disconnected", || receiver.connected() == 0).await;
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
        until("it is disconnected", || receiver.connected() == 0).await;
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
fn a_shutdown_applies_the_last_flush() {
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
