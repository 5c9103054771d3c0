//! The state machine of a relay's connection: frames in any order, plans, reconnections and reloads between them.

use crate::input::Input;
use crate::world::{self, NOW};
use dichroic_model::{EventKind, Pattern, SECOND};
use dichroic_packs::{Definition, Packs, Selection};
use dichroic_pipeline::{Core, NodeStart, StreamItem, StreamRequest, Subscription};
use dichroic_receiver_beam::Config;
use dichroic_receiver_beam::relay::{FrameOutcome, Relay, RetainedState, source_spec};
use dichroic_wire::frame_type::FrameType;
use dichroic_wire::hello::RelayMode;
use dichroic_wire::{RawFrame, RelayHello, Value, Variables};

/// Actions of one input.
const MOST_ACTIONS: usize = 64;
/// Actions from this byte on are not frames.
const FIRST_ACTION: u8 = 0xf0;

/// An aggregate of each type, with the ids 0, 1, … of the plan.
const DEFINITIONS: &str = "
- {name: shop.orders, type: counter, event: shop.order.stop, tags: {plan: user.plan, ok: ok}}
- {name: shop.bytes, type: sum, event: shop.order.stop, measurement: bytes, unit: By}
- {name: shop.balance, type: sum, event: shop.order.stop, measurement: balance, monotonic: false}
- {name: shop.queue, type: last_value, event: shop.queue.sampled, measurement: length}
- {name: shop.duration, type: distribution, event: shop.order.stop, measurement: duration, unit: [native, s], buckets: [0.1, 1], tags: [plan]}
- {name: shop.latency, type: summary, event: shop.order.stop, measurement: latency_ms, unit: ms}
";

thread_local! {
    static CONFIG: Config = config();
}

fn config() -> Config {
    let definitions: Vec<Definition> = serde_saphyr::from_str(DEFINITIONS).expect("the definitions above");
    Config {
        selection: Selection {
            packs: Packs::default(),
            definitions,
            ..Selection::default()
        },
        series: 64,
        ..Config::default()
    }
}

fn hello(epoch: i64, rows_until: Option<i64>) -> RelayHello {
    RelayHello {
        agent: "fuzz/1".into(),
        node: "shop@a".into(),
        os_pid: 1,
        otp: "25".into(),
        telemetry: "1.4.1".into(),
        native_per_s: 1_000_000_000,
        time_offset: 0,
        epoch,
        attempt: 1,
        mode: RelayMode::Installed,
        variables: Variables::new(),
        resource: [("service.name".to_owned(), Value::from("shop"))].into(),
        max_frame: 1 << 18,
        rows_until,
        token: None,
    }
}

/// A node, its connection, and a subscriber to its events.
struct Node<'c> {
    config: &'c Config,
    store: Core,
    relay: Relay,
    subscriber: Option<Subscription>,
    generation: i64,
    epoch: i64,
    rows_until: Option<i64>,
    now: u64,
    out: Vec<u8>,
}

impl<'c> Node<'c> {
    fn new(config: &'c Config, is_tight: bool, rows_until: Option<i64>) -> Self {
        let mut store = world::store(is_tight);
        let subscriber = subscribe(&mut store, NOW);
        let hello = hello(NOW as i64, rows_until);
        let relay = connect(config, &mut store, hello, RetainedState::default(), false, NOW);
        let mut node = Node {
            config,
            store,
            relay,
            subscriber,
            generation: 0,
            epoch: NOW as i64,
            rows_until,
            now: NOW,
            out: Vec::new(),
        };
        node.plan();
        node
    }

    fn plan(&mut self) {
        let interest = self.store.interest(self.now).clone();
        self.generation += 1;
        self.out.clear();
        self.relay
            .plan(self.config, &interest, self.generation, self.now, &mut self.out);
        self.relay.report_streams(&mut self.store, self.now);
    }

    /// The connection ends, and the node comes back: the same process, or another one.
    fn reconnect(&mut self, continues: bool) {
        self.relay.disconnected(&mut self.store, self.now);
        self.store.end_source(self.relay.source().id, self.now);
        let retained = self.relay.retain();
        if !continues {
            self.epoch = self.epoch.saturating_add(1);
        }
        let hello = hello(self.epoch, self.rows_until);
        self.relay = connect(self.config, &mut self.store, hello, retained, continues, self.now);
        self.generation = 0;
        self.plan();
    }

    fn frame(&mut self, frame: RawFrame<'_>) {
        self.out.clear();
        match self.relay.frame(&mut self.store, frame, self.now, &mut self.out) {
            Ok(FrameOutcome::Continue) => {}
            Ok(FrameOutcome::Goodbye(_)) | Err(_) => self.reconnect(true),
        }
    }

    /// What the session does between frames.
    fn check_interest(&mut self) {
        let interest = self.store.interest(self.now).clone();
        if self.relay.streams_differ(self.config, &interest) {
            self.plan();
        } else {
            self.relay.covers(&mut self.store, interest.generation, self.now);
        }
    }

    fn act(&mut self, action: u8) {
        match action & 7 {
            0 => self.plan(),
            1 => self.reconnect(true),
            2 => self.reconnect(false),
            3 => self.relay.configure(&mut self.store, self.config),
            4 => self.relay.resolve_again(&mut self.store, self.now),
            5 => self.now += SECOND,
            6 => {
                self.subscriber = match self.subscriber.take() {
                    Some(_) => None,
                    None => subscribe(&mut self.store, self.now),
                };
            }
            _ => self.check_interest(),
        }
    }

    fn check(&mut self) {
        assert!(
            self.store.ledger().balances(),
            "the ledger balances after every action"
        );
        let Some(subscriber) = &self.subscriber else {
            return;
        };
        while let Some(item) = subscriber.items.try_recv() {
            if let StreamItem::Gap { time: Some(time), .. } = item {
                assert!(time.start < time.end, "a gap has a duration: {time:?}");
            }
        }
    }
}

fn subscribe(store: &mut Core, now: u64) -> Option<Subscription> {
    let request = StreamRequest {
        kind: EventKind::Event,
        patterns: vec![Pattern::new("shop.**").expect("a pattern")],
        replay_from: Some(now),
        resume_from: None,
    };
    store.subscribe(request, now)
}

fn connect(
    config: &Config,
    store: &mut Core,
    hello: RelayHello,
    retained: RetainedState,
    continues: bool,
    now: u64,
) -> Relay {
    let source = store
        .open_source(source_spec(&hello.node, &hello), now)
        .expect("room for a source");
    let time = |time: i64| u64::try_from(time).ok();
    let start = NodeStart {
        events: time(hello.epoch).unwrap_or(0),
        continues,
        rows_until: hello.rows_until.and_then(time),
    };
    store.node_connected(&source, start);
    Relay::new(store, config, source, hello, retained, continues, now)
}

/// The plan that a new connection gets, for the writer of seeds.
pub fn first_plan() -> Vec<u8> {
    CONFIG.with(|config| Node::new(config, false, None).out)
}

/// A list of actions: frames of any type and body, and what happens to a connection between them.
///
/// Options: the limits, and a time in HELLO until which the node sent rows. An action is one byte. From 0xf0 on, it is an event at the collector; below, the type of a frame, followed by the
/// length of its body in two bytes, and the body.
pub fn relay_session(data: &[u8]) {
    let mut input = Input(data);
    let options = input.byte();
    let rows_until = (options & 1 != 0).then(|| input.i64());
    CONFIG.with(|config| {
        let mut node = Node::new(config, options & 0x80 != 0, rows_until);
        for _ in 0..MOST_ACTIONS {
            if input.is_empty() {
                break;
            }
            match input.byte() {
                action @ FIRST_ACTION.. => node.act(action),
                code => {
                    let length = usize::from(input.u16());
                    let frame = RawFrame {
                        frame_type: FrameType::from_code(code),
                        body: input.take(length),
                    };
                    node.frame(frame);
                }
            }
            node.check();
        }
        let _ = node.relay.status();
        world::check(&mut node.store);
        drop(node.relay.retain());
    });
}
