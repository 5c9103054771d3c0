//! Findings about relays and their events.

use super::*;

#[test]
fn a_definition_whose_event_never_occurred_is_reported_with_the_event() {
    let mut world = World::new();
    world.number(true, "shop.orders", "", &[("event", "stop")]);
    let definitions = "[{name: shop.orders, type: counter, event: shop.order.stop, labels: {event: stop}}, \
                       {name: shop.orders, type: counter, event: shop.order.exception, labels: {event: exception}}, \
                       {name: shop.carts, type: counter, event: shop.cart.created}]";
    let relay = world.relay();
    let (found, message) = world.lint(&[], definitions, std::slice::from_ref(&relay));
    assert_eq!(
        found,
        [
            "Warning never_fired shop.carts",
            "Warning never_fired shop.orders",
            "Warning retain_matches_nothing vm.**"
        ]
    );
    assert!(
        message.contains("shop.cart.created") && message.contains("shop.order.exception"),
        "{message}"
    );
    // Before the first flush and after the relay disconnected, a missing value means nothing.
    for early in [
        RelayStatus {
            flushes: 0,
            ..relay.clone()
        },
        RelayStatus {
            ended: Some(NOW),
            ..relay
        },
    ] {
        let (found, _) = world.lint(&[], definitions, &[early]);
        assert_eq!(found, ["Warning retain_matches_nothing vm.**"]);
    }
}

#[test]
fn what_a_limit_dropped_is_reported_with_its_key_and_not_as_events_that_did_not_occur() {
    let definitions = "[{name: shop.carts, type: counter, event: shop.cart.created}]";
    let check = |signal, reason, n, limited: bool, expected: &[&str], part: &str| {
        let mut world = World::new();
        world.number(true, "shop.orders", "", &[]);
        let source = if limited { world.node.id } else { world.python.id };
        world.drops = vec![Drops {
            source,
            name: "worker".to_owned(),
            signal,
            reason,
            count: n,
        }];
        let relay = world.relay();
        let (mut found, message) = world.lint(&["ecto"], definitions, &[relay]);
        found.retain(|finding| !finding.contains("retain_matches_nothing"));
        assert_eq!(found, expected, "{message}");
        assert!(message.contains(part), "{message}");
    };
    let silent = ["Warning never_fired ecto", "Warning never_fired shop.carts"];
    let with = |one: &'static str| [one, silent[0], silent[1]];
    check(
        Signal::Metrics,
        DropReason::SeriesLimit,
        1,
        true,
        &["Warning limit_reached limits.series"],
        "1 point dropped: no series is defined at this limit",
    );
    check(
        Signal::Metrics,
        DropReason::MemoryLimit,
        2,
        false,
        &with("Warning limit_reached limits.memory"),
        "2 points dropped: ",
    );
    check(
        Signal::Metrics,
        DropReason::LabelLimit,
        2,
        false,
        &with("Warning limit_reached limits.labels"),
        "more labels",
    );
    check(
        Signal::Events,
        DropReason::SourceLimit,
        2,
        false,
        &with("Warning limit_reached limits.sources"),
        "2 events dropped: no source",
    );
    check(
        Signal::Traces,
        DropReason::Unsupported,
        7,
        false,
        &[silent[0], silent[1], "Warning traces traces"],
        "7 spans discarded; set OTEL_TRACES_EXPORTER=none",
    );
    check(Signal::Metrics, DropReason::Malformed, 2, false, &silent, "");
}

#[test]
fn a_chosen_pack_without_any_event_is_a_warning_and_a_silent_event_a_note() {
    let mut world = World::new();
    world.number(true, "redix.connections", "", &[("reconnection", "false")]);
    let relay = world.relay();
    let (found, message) = world.lint(&["redix", "ecto"], "[]", &[relay]);
    assert!(
        message.contains("not occurred yet, while others of the pack have"),
        "{message}"
    );
    let notes = found.iter().filter(|f| f.starts_with("Note never_fired"));
    assert_eq!(notes.count(), 1, "one for each pack: {found:?}");
    let never: Vec<_> = found.iter().filter(|f| f.contains("never_fired")).collect();
    assert!(
        never.contains(&&"Warning never_fired ecto".to_owned()),
        "{never:?}"
    );
    assert!(never.contains(&&"Note never_fired redix".to_owned()), "{never:?}");
    // Events of failures are expected to be absent.
    assert!(
        !never
            .iter()
            .any(|f| f.contains("disconnection") || f.contains("failed")),
        "{never:?}"
    );
}

#[test]
fn a_rejection_by_a_relay_is_reported_with_its_message() {
    let mut world = World::new();
    let relay = RelayStatus {
        refused: vec![("shop.x".into(), "more than 160 bounds".into())],
        ..world.relay()
    };
    let (found, message) = world.lint(&[], "[]", &[relay]);
    assert!(found.contains(&"Warning refused shop.x".to_owned()), "{found:?}");
    assert!(message.contains("more than 160 bounds"), "{message}");
}

#[test]
fn telemetry_of_snakepit_that_ends_with_a_timeout_is_reported_with_the_setting() {
    let mut world = World::new();
    let relay = |ms: &[&str]| {
        let mut relay = World::new().relay();
        let values = ms.iter().map(|&ms| ms.to_owned()).collect();
        relay.variables.insert("snakepit_stream_ms".to_owned(), values);
        relay
    };
    let (found, message) = world.lint(&[], "[]", &[relay(&["5000"])]);
    assert!(
        found.contains(&"Warning snakepit_stream snakepit.python".to_owned()),
        "{found:?}"
    );
    assert!(
        message.contains("5 s after its start")
            && message.contains("grpc_stream_open_timeout_ms: 86_400_000"),
        "{message}"
    );
    for fine in [&["86400000"][..], &[]] {
        let (found, _) = world.lint(&[], "[]", &[relay(fine)]);
        assert!(!found.iter().any(|f| f.contains("snakepit")), "{found:?}");
    }
}

#[test]
fn events_of_the_relay_that_did_not_occur_are_not_reported() {
    let mut world = World::new();
    world.number(true, "vm.gc.count", "{collection}", &[]);
    world.number(true, "log.messages", "", &[("level", "info")]);
    let relay = world.relay();
    let (found, _) = world.lint(&["beam_runtime", "logger"], "[]", &[relay]);
    assert!(!found.iter().any(|f| f.contains("never_fired")), "{found:?}");
}

#[test]
fn a_node_that_is_not_attached_is_reported_with_the_reason_and_the_next_attempt() {
    let status = |node: &str, state| AttachStatus::of(node.to_owned(), state);
    let mut world = World::new();
    world.attachments = vec![
        status("a@host", State::Connecting),
        status("b@host", State::Attached),
        AttachStatus {
            reason: "already attached".to_owned(),
            help: "run this".to_owned(),
            ..status("c@host", State::Retrying)
        },
        AttachStatus {
            reason: "wrong cookie".to_owned(),
            ..status("d@host", State::Refused)
        },
    ];
    world.check(
        &["Warning not_attached c@host", "Warning not_attached d@host"],
        &[
            "already attached; run this; next attempt in 0 s\n",
            "wrong cookie; next attempt in 0 s, or when the node or a file of its entry changes",
        ],
    );
}
