//! Raw events: replay, resume, exact losses, and the interest of subscribers.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{Batch, EventKind, EventSchema, GapReason, Pattern, SECOND, Source, UnixNanos};
use dichroic_pipeline::{Core, ResumePoint, StreamItem, StreamRequest, Subscription};
use std::sync::Arc;

struct Fixture {
    store: Core,
    source: Arc<Source>,
    /// When it subscribes.
    now: UnixNanos,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut dichroic_model::Limits)) -> Self {
        let mut store = store(change);
        let source = source(&mut store, "s");
        Fixture {
            store,
            source,
            now: NOW,
        }
    }

    fn schema(&mut self, name: &str) -> Arc<EventSchema> {
        let schema = self.store.schema(EventKind::Event, name, Vec::new(), Vec::new());
        schema.unwrap()
    }

    fn publish(&mut self, name: &str, rows: u32, received: u64) -> u64 {
        let position = self.store.next_position(EventKind::Event);
        let batch = Batch {
            schema: self.schema(name),
            source: self.source.clone(),
            position,
            rows,
            received,
            body: vec![0; 100].into(),
        };
        self.store.publish(batch);
        position
    }

    fn subscribe(&mut self, pattern: &str, change: impl FnOnce(&mut StreamRequest)) -> Option<Subscription> {
        let mut request = StreamRequest {
            kind: EventKind::Event,
            patterns: vec![Pattern::new(pattern).unwrap()],
            replay_from: None,
            resume_from: None,
        };
        change(&mut request);
        self.store.subscribe(request, self.now)
    }
}

fn received_up_to(position: u64) -> ResumePoint {
    ResumePoint {
        position,
        received: true,
        restarted: false,
    }
}

fn received(subscription: &Subscription) -> Vec<String> {
    std::iter::from_fn(|| subscription.items.try_recv())
        .map(|item| match item {
            StreamItem::Batch(batch) => format!("{}@{}+{}", batch.schema.name, batch.position, batch.rows),
            StreamItem::Gap { reason, lost, .. } => format!("gap {reason:?} {lost:?}"),
        })
        .collect()
}

#[test]
fn a_subscriber_gets_new_rows_that_match_its_patterns() {
    let mut fixture = Fixture::new(|_| {});
    fixture.publish("a.b", 1, NOW);
    let subscription = fixture.subscribe("a.**", |_| {}).unwrap();
    assert_eq!((subscription.position, subscription.resumed), (1, true));
    fixture.publish("a.c", 2, NOW);
    fixture.publish("b.c", 3, NOW);
    let (schema, source) = (fixture.schema("a.c"), fixture.source.clone());
    fixture
        .store
        .publish_gap(&schema, &source, GapReason::RelayBroke, Some(9));
    assert_eq!(received(&subscription), ["a.c@1+2", "gap RelayBroke Some(9)"]);
}

#[test]
fn replay_starts_at_a_time_and_resume_at_a_position() {
    let mut fixture = Fixture::new(|_| {});
    for at in 0..4 {
        fixture.publish("a", 10, NOW + at * SECOND);
    }
    let replayed = fixture
        .subscribe("a", |w| w.replay_from = Some(NOW + 2 * SECOND))
        .unwrap();
    assert_eq!(received(&replayed), ["a@20+10", "a@30+10"]);
    let check = |fixture: &mut Fixture, position, resumed, first: &[&str]| {
        let subscription = fixture
            .subscribe("a", |w| w.resume_from = Some(received_up_to(position)))
            .unwrap();
        assert_eq!(subscription.resumed, resumed, "{position}");
        assert_eq!(received(&subscription), first, "{position}");
    };
    check(&mut fixture, 40, true, &[]);
    check(&mut fixture, 35, true, &["a@30+10"]);
    check(&mut fixture, 30, true, &["a@30+10"]);
    check(&mut fixture, 41, false, &[]);
    check(
        &mut fixture,
        0,
        true,
        &["a@0+10", "a@10+10", "a@20+10", "a@30+10"],
    );
}

#[test]
fn a_gap_without_a_subscriber_is_replayed_at_its_position() {
    let mut fixture = Fixture::new(|_| {});
    let (schema, source) = (fixture.schema("a"), fixture.source.clone());
    let gap = |fixture: &mut Fixture, lost| {
        fixture
            .store
            .publish_gap(&schema, &source, GapReason::RelayOverload, Some(lost));
    };
    fixture.publish("a", 10, NOW);
    gap(&mut fixture, 1);
    gap(&mut fixture, 2);
    fixture.publish("a", 10, NOW + SECOND);
    gap(&mut fixture, 4);
    let (first, last) = ("gap RelayOverload Some(3)", "gap RelayOverload Some(4)");
    let resumed = |fixture: &mut Fixture, position, received_rows| {
        let from = ResumePoint {
            position,
            received: received_rows,
            restarted: false,
        };
        received(&fixture.subscribe("a", |w| w.resume_from = Some(from)).unwrap())
    };
    assert_eq!(resumed(&mut fixture, 0, true), ["a@0+10", first, "a@10+10", last]);
    assert_eq!(resumed(&mut fixture, 10, false), [first, "a@10+10", last]);
    // A subscriber with rows of a batch has received the gaps before it.
    assert_eq!(resumed(&mut fixture, 10, true), ["a@10+10", last]);
    assert_eq!(resumed(&mut fixture, 20, false), [last]);
    let replayed = fixture
        .subscribe("a", |w| w.replay_from = Some(NOW + SECOND))
        .unwrap();
    assert_eq!(received(&replayed), [first, "a@10+10", last]);
    let other = fixture
        .subscribe("b", |w| w.resume_from = Some(received_up_to(0)))
        .unwrap();
    assert!(received(&other).is_empty());
    let live = fixture.subscribe("a", |_| {}).unwrap();
    assert!(received(&live).is_empty());
}

#[test]
fn replay_is_bounded_in_bytes_and_age_and_resume_reports_evicted_rows() {
    let mut fixture = Fixture::new(|l| l.replay_bytes = 1_000);
    for _ in 0..100 {
        fixture.publish("a", 1, NOW);
    }
    let subscription = fixture
        .subscribe("a", |w| w.resume_from = Some(received_up_to(0)))
        .unwrap();
    assert!(!subscription.resumed);
    let replayed = received(&subscription).len();
    assert!((1..=10).contains(&replayed), "{replayed}");
    let mut fixture = Fixture::new(|l| l.replay_seconds = 60);
    fixture.publish("a", 1, NOW);
    fixture.publish("a", 1, NOW + 61 * SECOND);
    fixture.now = NOW + 61 * SECOND;
    let subscription = fixture.subscribe("a", |w| w.replay_from = Some(NOW)).unwrap();
    assert_eq!(received(&subscription), ["gap BeyondReplay None", "a@1+1"]);
    let subscription = fixture
        .subscribe("a", |w| w.replay_from = Some(NOW + SECOND))
        .unwrap();
    assert_eq!(received(&subscription), ["a@1+1"]);
}

#[test]
fn a_slow_subscriber_loses_the_oldest_rows_and_gets_their_exact_number() {
    let mut fixture = Fixture::new(|l| l.subscriber_batches = 4);
    let (slow, quick) = (
        fixture.subscribe("a", |_| {}).unwrap(),
        fixture.subscribe("a", |_| {}).unwrap(),
    );
    let mut taken = 0;
    for at in 0..10 {
        fixture.publish("a", at + 1, NOW);
        taken += received(&quick).len();
    }
    assert_eq!(
        (taken, quick.take_lost()),
        (10, 0),
        "a quick reader loses nothing"
    );
    assert_eq!(received(&slow), ["a@21+7", "a@28+8", "a@36+9", "a@45+10"]);
    assert_eq!(slow.take_lost(), 21);
    assert_eq!(slow.take_lost(), 0, "reported once");
}

#[test]
fn the_queue_of_a_slow_subscriber_is_bounded_in_bytes_too() {
    let mut fixture = Fixture::new(|_| {});
    let slow = fixture.subscribe("a", |_| {}).unwrap();
    let publish = |fixture: &mut Fixture, body: usize| {
        let batch = Batch {
            schema: fixture.schema("a"),
            source: fixture.source.clone(),
            position: fixture.store.next_position(EventKind::Event),
            rows: 1,
            received: NOW,
            body: vec![0; body].into(),
        };
        fixture.store.publish(batch);
    };
    (0..20).for_each(|_| publish(&mut fixture, 1 << 20));
    assert_eq!((received(&slow).len(), slow.take_lost()), (7, 13));
    // What was read has left room.
    (0..7).for_each(|_| publish(&mut fixture, 1 << 20));
    assert_eq!((received(&slow).len(), slow.take_lost()), (7, 0));
    // One that is larger is sent alone.
    (0..3).for_each(|_| publish(&mut fixture, 32 << 20));
    assert_eq!((received(&slow).len(), slow.take_lost()), (1, 2));
}

#[test]
fn interest_changes_with_every_subscription_and_its_end() {
    let mut fixture = Fixture::new(|l| l.lease_seconds = 0);
    let quiet = fixture.store.interest(NOW).generation;
    let subscription = fixture.subscribe("a.*", |_| {}).unwrap();
    let logs = fixture.subscribe("x", |w| w.kind = EventKind::Log).unwrap();
    let during = fixture.store.interest(NOW).clone();
    assert!(during.generation > quiet);
    assert_eq!((during.events.len(), during.logs.len()), (1, 1));
    drop(subscription);
    let after = fixture.store.interest(NOW).clone();
    assert!(after.generation > during.generation);
    assert_eq!((after.events.len(), after.logs.len()), (0, 1));
    drop(logs);
    fixture.store.sweep(NOW);
    assert_eq!(fixture.store.subscribers(), 0);
}

#[test]
fn the_interest_of_a_subscriber_outlives_it_by_the_time_of_a_lease() {
    let mut fixture = Fixture::new(|l| l.lease_seconds = 30);
    let patterns = |fixture: &mut Fixture, at| {
        let interest = fixture.store.interest(NOW + at * SECOND);
        let patterns: Vec<_> = interest.events.iter().map(ToString::to_string).collect();
        (patterns.join(" "), interest.generation)
    };
    drop(fixture.subscribe("a.*", |_| {}).unwrap());
    let (leased, before) = patterns(&mut fixture, 0);
    assert_eq!(leased, "a.*");
    assert_eq!(patterns(&mut fixture, 29).0, "a.*");
    let (ended, after) = patterns(&mut fixture, 30);
    assert_eq!(ended, "");
    assert!(after > before, "receivers see the end of a lease");
    // A subscriber that returns takes its lease over, and leaves a new one.
    fixture.now = NOW + 100 * SECOND;
    drop(fixture.subscribe("a.*", |_| {}).unwrap());
    fixture.now += 20 * SECOND;
    patterns(&mut fixture, 100);
    let back = fixture.subscribe("a.*", |_| {}).unwrap();
    assert_eq!(patterns(&mut fixture, 200).0, "a.*");
    drop(back);
    assert_eq!(patterns(&mut fixture, 200).0, "a.*");
    assert_eq!(patterns(&mut fixture, 230).0, "");
    // The clock was set back.
    drop(fixture.subscribe("a.*", |_| {}).unwrap());
    patterns(&mut fixture, 300);
    assert_eq!(patterns(&mut fixture, 1).0, "");
}

#[test]
fn there_are_at_most_as_many_leases_as_subscribers() {
    let mut fixture = Fixture::new(|l| l.subscribers = 3);
    for name in ["a", "b", "c", "d", "e"] {
        drop(fixture.subscribe(name, |_| {}).unwrap());
    }
    let interest = fixture.store.interest(NOW);
    let patterns: Vec<_> = interest.events.iter().map(ToString::to_string).collect();
    assert_eq!(patterns, ["c", "d", "e"], "the oldest ends first");
}

#[test]
fn a_disconnected_subscriber_does_not_count_against_the_limit() {
    let mut fixture = Fixture::new(|l| l.subscribers = 1);
    let first = fixture.subscribe("a", |_| {}).unwrap();
    assert!(fixture.subscribe("a", |_| {}).is_none());
    drop(first);
    assert!(fixture.subscribe("a", |_| {}).is_some());
}
