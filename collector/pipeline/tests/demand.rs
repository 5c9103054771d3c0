//! What nodes were not requested to send, as gaps of subscribers that look back.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{
    Batch, EventKind, EventSchema, GapReason, Pattern, SECOND, Source, TimeRange, UnixNanos,
};
use dichroic_pipeline::{Core, NodeStart, ResumePoint, StreamItem, StreamRequest, Subscription};
use std::sync::Arc;

/// Seconds after [`NOW`].
const fn at(seconds: u64) -> UnixNanos {
    NOW + seconds * SECOND
}

/// A node whose events started at this time.
fn started(seconds: u64) -> NodeStart {
    NodeStart {
        events: at(seconds),
        ..NodeStart::default()
    }
}

/// A connection of a process that was connected before, and sent rows until this time.
fn continues(start: u64, until: Option<u64>) -> NodeStart {
    NodeStart {
        continues: true,
        rows_until: until.map(at),
        ..started(start)
    }
}

struct World {
    store: Core,
    node: Arc<Source>,
}

impl World {
    /// A node whose events started at 0 s.
    fn new() -> Self {
        let mut store = store(|_| {});
        let node = source(&mut store, "node");
        store.node_connected(&node, started(0));
        World { store, node }
    }

    fn schema(&mut self, name: &str) -> Arc<EventSchema> {
        let schema = self.store.schema(EventKind::Event, name, Vec::new(), Vec::new());
        schema.unwrap()
    }

    /// The node has the events a.x and a.y, and sends those named.
    fn sends(&mut self, names: &[&str], seconds: u64) {
        self.switches(names, seconds, seconds);
    }

    /// The same, after a time in which it sent neither those that end nor those that start.
    fn switches(&mut self, names: &[&str], start: u64, end: u64) {
        let schemas = ["a.x", "a.y"].map(|name| self.schema(name));
        let streams = schemas
            .iter()
            .map(|schema| (schema, names.contains(&schema.name.as_str()), 0));
        let (start, end) = (at(start), at(end));
        self.store
            .node_sends(self.node.id, streams, TimeRange { start, end });
    }

    /// The node has disconnected; it has sent the row of `last`.
    fn disconnects(&mut self, last: u64, heard: u64, now: u64) {
        let schema = self.schema("a.x");
        let last = std::iter::once((&schema, at(last)));
        self.store
            .node_disconnected(self.node.id, at(heard), last, at(now));
    }

    /// The same, by a plan with the current interest.
    fn answers(&mut self, names: &[&str], seconds: u64) {
        self.sends(names, seconds);
        let generation = self.store.interest(at(seconds)).generation;
        self.store.node_answered(self.node.id, generation, at(seconds));
    }

    fn publish(&mut self, name: &str, seconds: u64) {
        let batch = Batch {
            schema: self.schema(name),
            source: self.node.clone(),
            position: self.store.next_position(EventKind::Event),
            rows: 1,
            received: at(seconds),
            body: vec![0; 100].into(),
        };
        self.store.publish(batch);
    }

    fn subscribe(&mut self, pattern: &str, back: Back, seconds: u64) -> Subscription {
        let request = StreamRequest {
            kind: EventKind::Event,
            patterns: vec![Pattern::new(pattern).unwrap()],
            replay_from: match back {
                Back::To(seconds) => Some(at(seconds)),
                _ => None,
            },
            resume_from: match back {
                Back::Cursor(position) => Some(ResumePoint {
                    position,
                    received: true,
                    restarted: false,
                }),
                _ => None,
            },
        };
        self.store.subscribe(request, at(seconds)).unwrap()
    }
}

/// Where a subscription starts.
#[derive(Clone, Copy)]
enum Back {
    Live,
    To(u64),
    /// It has received the row at this position.
    Cursor(u64),
}

fn received(subscription: &Subscription) -> Vec<String> {
    let seconds = |time: UnixNanos| (time - NOW) / SECOND;
    std::iter::from_fn(|| subscription.items.try_recv())
        .map(|item| match item {
            StreamItem::Batch(batch) => format!("{}@{}", batch.schema.name, batch.position),
            StreamItem::Gap {
                schema,
                reason: GapReason::NotSubscribed,
                lost: None,
                time: Some(TimeRange { start, end }),
                ..
            } => {
                let name = schema.map_or("*".to_owned(), |schema| schema.name.clone());
                format!("{name} {}..{}", seconds(start), seconds(end))
            }
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_replay_without_former_demand_starts_with_a_gap_until_the_node_has_the_plan() {
    let mut world = World::new();
    world.sends(&[], 0);
    let one = world.subscribe("a.x", Back::To(40), 70);
    let both = world.subscribe("a.*", Back::To(40), 70);
    let old = world.subscribe("a.x", Back::To(0), 70);
    let live = world.subscribe("a.x", Back::Live, 70);
    assert!(received(&one).is_empty(), "the end is not known yet");
    world.answers(&["a.x", "a.y"], 71);
    world.publish("a.x", 72);
    assert_eq!(received(&one), ["a.x 40..71", "a.x@0"]);
    assert_eq!(received(&both), ["* 40..71", "a.x@0"]);
    assert_eq!(received(&old), ["a.x 0..71", "a.x@0"], "the node started at 0 s");
    assert_eq!(received(&live), ["a.x@0"]);
    // Later ones get it from the replay, as far as they look back.
    let received_later = |world: &mut World, back| received(&world.subscribe("a.y", back, 80));
    assert_eq!(received_later(&mut world, Back::To(60)), ["a.y 60..71"]);
    assert!(received_later(&mut world, Back::To(71)).is_empty());
    assert!(received_later(&mut world, Back::Live).is_empty());
}

#[test]
fn a_cursor_across_a_time_without_demand_gets_it_in_its_place() {
    let mut world = World::new();
    world.answers(&["a.x"], 1);
    world.publish("a.x", 2);
    // The lease has ended.
    world.sends(&[], 40);
    let resumed = world.subscribe("a.x", Back::Cursor(0), 50);
    let other = world.subscribe("b.**", Back::Cursor(0), 50);
    // The exporter skips the rows of the batch that were received.
    assert_eq!(received(&resumed), ["a.x@0"]);
    world.answers(&["a.x"], 51);
    world.publish("a.x", 52);
    assert_eq!(received(&resumed), ["a.x 40..51", "a.x@1"]);
    assert_eq!(received(&other), ["* 2..50"], "no plan has such an event");
    let again = world.subscribe("a.x", Back::Cursor(0), 60);
    assert_eq!(received(&again), ["a.x@0", "a.x 40..51", "a.x@1"]);
    let behind = world.subscribe("a.x", Back::Cursor(1), 60);
    assert_eq!(received(&behind), ["a.x@1"]);
}

#[test]
fn a_cursor_within_continuous_demand_has_no_gap() {
    let mut world = World::new();
    world.answers(&["a.x"], 1);
    world.publish("a.x", 2);
    world.publish("a.x", 3);
    let resumed = world.subscribe("a.x", Back::Cursor(0), 4);
    world.answers(&["a.x"], 5);
    assert_eq!(received(&resumed), ["a.x@0", "a.x@1"]);
}

#[test]
fn an_event_that_the_node_cannot_send_is_a_gap_until_now() {
    let mut world = World::new();
    world.sends(&[], 0);
    let subscription = world.subscribe("a.*", Back::To(10), 20);
    world.answers(&["a.x"], 21);
    assert_eq!(received(&subscription), ["a.x 10..21", "a.y 10..21"]);
    let subscription = world.subscribe("a.y", Back::To(10), 30);
    world.answers(&["a.x"], 31);
    assert_eq!(received(&subscription), ["a.y 10..31"]);
    let unknown = world.subscribe("a.z", Back::To(10), 30);
    assert_eq!(received(&unknown), ["* 10..30"], "no plan has it");
}

#[test]
fn a_node_that_connects_later_adds_the_time_before() {
    let mut world = World::new();
    world.answers(&["a.x", "a.y"], 0);
    let (looking_back, live) = (
        world.subscribe("a.x", Back::To(10), 40),
        world.subscribe("a.x", Back::Live, 40),
    );
    let other = world.subscribe("b.**", Back::Live, 40);
    // A node that ran for 20 s before, one that has just started, and an attached one, whose application started at an unknown time.
    for (key, start) in [
        ("later", started(22)),
        ("new", started(42)),
        ("attached", NodeStart::default()),
    ] {
        let node = source(&mut world.store, key);
        world.store.node_connected(&node, start);
        let schema = world.schema("a.x");
        let mut sends = |sent| {
            let (start, end) = (at(43), at(44));
            let streams = std::iter::once((&schema, sent, 0));
            world.store.node_sends(node.id, streams, TimeRange { start, end });
        };
        sends(false);
        sends(true);
        world.store.node_answered(node.id, u64::MAX, at(44));
    }
    assert_eq!(
        received(&looking_back),
        ["a.x 22..44", "a.x 42..44", "a.x 10..44"]
    );
    assert_eq!(
        received(&live),
        ["a.x 40..44", "a.x 42..44", "a.x 40..44"],
        "from its start on"
    );
    assert!(received(&other).is_empty());
}

#[test]
fn a_broken_connection_of_a_running_node_is_a_gap_for_every_subscriber() {
    let mut world = World::new();
    world.answers(&["a.x"], 0);
    let live = world.subscribe("a.x", Back::Live, 10);
    world.disconnects(18, 20, 21);
    let during = world.subscribe("a.x", Back::To(15), 23);
    let new = world.subscribe("a.x", Back::Live, 23);
    let node = world.node.clone();
    world.store.node_connected(&node, continues(0, Some(19)));
    world.answers(&["a.x"], 25);
    assert_eq!(received(&live), ["a.x 19..25"], "by the clock of the node");
    assert_eq!(received(&during), ["a.x 19..25"]);
    assert_eq!(received(&new), ["a.x 23..25"]);
    // One that does not report the time: from its last data on, with what it may have held.
    world.disconnects(30, 33, 34);
    world.store.node_connected(&node, continues(0, None));
    world.answers(&["a.x"], 35);
    assert_eq!(received(&live), ["a.x 32..35"]);
    // A new process of the node: what the one before held is missing, and what it had before its plan.
    world.disconnects(40, 40, 41);
    world.store.node_connected(&node, started(44));
    world.answers(&["a.x"], 45);
    assert_eq!(received(&live), ["a.x 40..45"]);
    let later = world.subscribe("a.x", Back::To(27), 50);
    assert_eq!(received(&later), ["a.x 32..35", "a.x 40..45"]);
}

#[test]
fn rows_that_a_connection_lost_are_no_loss_of_later_subscribers() {
    let mut world = World::new();
    world.answers(&["a.x"], 0);
    let before = world.subscribe("a.x", Back::Live, 10);
    world.disconnects(20, 20, 21);
    let after = world.subscribe("a.x", Back::Live, 22);
    let looking_back = world.subscribe("a.x", Back::To(15), 22);
    let (node, schema) = (world.node.clone(), world.schema("a.x"));
    world.store.node_connected(&node, continues(0, Some(20)));
    world
        .store
        .publish_gap(&schema, &node, GapReason::RelayBroke, Some(3));
    assert_eq!(received(&before).len(), 1);
    assert_eq!(received(&looking_back).len(), 1);
    assert!(received(&after).is_empty());
}

#[test]
fn what_a_node_was_not_requested_to_send_ends_when_it_leaves() {
    let mut world = World::new();
    world.sends(&[], 0);
    let before = world.subscribe("a.x", Back::To(5), 10);
    world.disconnects(0, 12, 13);
    assert_eq!(received(&before), ["a.x 5..12"]);
    let after = world.subscribe("a.x", Back::To(5), 20);
    assert_eq!(received(&after), ["a.x 5..12"]);
    // The process is back: the rest of the time.
    let node = world.node.clone();
    world.store.node_connected(&node, continues(0, None));
    world.answers(&["a.x"], 25);
    assert_eq!(received(&before), ["a.x 12..25"]);
    assert_eq!(received(&after), ["a.x 12..25"]);
    // Without a node nothing could have been requested.
    let mut store = store(|_| {});
    source(&mut store, "python");
    let mut world = World {
        node: source(&mut store, "node"),
        store,
    };
    assert!(received(&world.subscribe("a.x", Back::To(5), 10)).is_empty());
}

#[test]
fn a_gap_is_the_time_between_the_switches_of_the_node() {
    let mut world = World::new();
    world.switches(&["a.x"], 0, 1);
    let live = world.subscribe("a.x", Back::Live, 2);
    // It ends at 9, for the interest changed for a moment, and the row of 8 arrives at 10.
    world.switches(&[], 9, 10);
    world.publish("a.x", 10);
    let resumed = world.subscribe("a.x", Back::Cursor(0), 11);
    world.switches(&["a.x"], 11, 12);
    assert_eq!(received(&live), ["a.x@0", "a.x 9..12"]);
    assert_eq!(
        received(&resumed),
        ["a.x@0", "a.x 9..12"],
        "not only the time after the arrival"
    );
    let again = world.subscribe("a.x", Back::Cursor(0), 13);
    assert_eq!(received(&again), ["a.x@0", "a.x 9..12"]);
}

#[test]
fn events_that_a_plan_lacks_are_reported_once_for_each_time() {
    let mut world = World::new();
    world.sends(&[], 0);
    let subscription = world.subscribe("a.*", Back::To(10), 20);
    // The node refuses a.y, and sends it later.
    world.answers(&["a.x"], 21);
    assert_eq!(received(&subscription), ["a.x 10..21", "a.y 10..21"]);
    world.answers(&["a.x", "a.y"], 30);
    assert_eq!(received(&subscription), ["a.y 21..30"]);
}

#[test]
fn a_subscriber_of_an_earlier_collector_claims_no_time_in_which_that_had_the_rows() {
    let mut world = World::new();
    let node = source(&mut world.store, "kept");
    world.node = node.clone();
    world.store.node_connected(&node, continues(0, Some(30)));
    world.sends(&[], 31);
    let resume = |world: &mut World, restarted, seconds| {
        let request = StreamRequest {
            kind: EventKind::Event,
            patterns: vec![Pattern::new("a.x").unwrap()],
            replay_from: None,
            resume_from: Some(ResumePoint {
                position: 0,
                received: false,
                restarted,
            }),
        };
        world.store.subscribe(request, at(seconds)).unwrap()
    };
    let waiting = resume(&mut world, true, 32);
    world.answers(&["a.x"], 33);
    assert_eq!(received(&waiting), ["a.x 30..33"]);
    assert_eq!(received(&resume(&mut world, true, 34)), ["a.x 30..33"]);
    assert_eq!(received(&resume(&mut world, false, 34)), ["a.x 0..33"]);
    assert_eq!(
        received(&world.subscribe("a.x", Back::To(10), 34)),
        ["a.x 10..33"]
    );
}
