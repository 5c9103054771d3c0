//! Every number that a node emits is received, or in a gap, whatever breaks: a node, its link and subscribers in simulated time.

mod common;

use common::*;
use dichroic_model::{EventKind, GapReason, Limits, Source};
use dichroic_packs::{PackResolver, Packs, Selection};
use dichroic_pipeline::{Core, Interest, NodeStart, ResumePoint, StreamItem, StreamRequest, Subscription};
use dichroic_receiver_beam::Config;
use dichroic_receiver_beam::relay::{Relay, RetainedState, source_spec};
use dichroic_wire::define::{DefineKind, DefineWriter, relay_series_map};
use dichroic_wire::events_builder::EventsBuilder;
use dichroic_wire::plan::{Plan, PlanReply};
use dichroic_wire::{Cell, Events, EventsScratch, FrameReader, Value, Variables, frame};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

const MS: u64 = 1_000_000;
const EVENT: &str = "phoenix.endpoint.stop";
/// A relay sends rows at most this long after their events.
const LINGER: u64 = 5 * MS;
/// A session checks this often whether the interest has changed.
const CHECK: u64 = 7 * MS;
const SEEDS: u64 = 12;
/// Milliseconds of a run.
const RUN: u64 = 1_000;

/// Xorshift: the same runs everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Once in `n` times.
    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A BEAM with its relay, as `dichroic_connection` behaves.
struct Node {
    os_pid: i64,
    epoch: i64,
    attempt: i64,
    /// Schema of the stream while it is on.
    on: Option<u32>,
    rows_from: Option<i64>,
    rows_until: Option<i64>,
    /// Rows that its sender has, with their schema.
    held: Vec<(i64, i64, u32)>,
    rows_sent: i64,
}

impl Node {
    fn stop_streaming(&mut self, now: i64) {
        self.on = None;
        if self.rows_from.take().is_some() {
            self.rows_until = Some(now);
        }
    }
}

/// A connection: frames in flight in both directions, with their arrival.
struct Link {
    relay: Relay,
    up: VecDeque<(u64, Vec<u8>)>,
    down: VecDeque<(u64, Vec<u8>)>,
    interest: Interest,
    checked: u64,
}

/// A client that resumes by its cursor.
struct Client {
    /// How far back it looks at first; `None`: not at all.
    replay: Option<u64>,
    subscription: Option<Subscription>,
    cursor: Option<(u64, ResumePoint)>,
    /// The next number when it opened first.
    opened_at: i64,
    /// The first number that it claims.
    first: Option<i64>,
    received: Vec<i64>,
    /// The gaps of the current subscription, and of all.
    gaps: Vec<(u64, u64)>,
    all_gaps: Vec<(u64, u64)>,
    opened: bool,
}

struct World {
    random: Random,
    now: u64,
    config: Config,
    core: Core,
    core_epoch: u64,
    lease_seconds: u64,
    source: Option<Arc<Source>>,
    node: Option<Node>,
    link: Option<Link>,
    retained: RetainedState,
    known_epoch: i64,
    generation: i64,
    /// The time of each number.
    truth: Vec<u64>,
    /// Numbers in frames that a broken link lost, or that the collector or the node took along.
    in_flight: BTreeSet<i64>,
    clients: Vec<Client>,
    trace: Vec<String>,
}

fn config() -> Config {
    Config {
        selection: Selection {
            packs: Packs::builtin().choose(&["phoenix".to_owned()]).unwrap(),
            ..Selection::default()
        },
        ..Config::default()
    }
}

fn core(lease_seconds: u64, now: u64) -> Core {
    let limits = Limits {
        lease_seconds,
        replay_seconds: 3_600,
        ..Limits::default()
    };
    Core::new(limits, Arc::new(PackResolver::builtin()), now)
}

impl World {
    fn new(seed: u64) -> Self {
        let now = T0 as u64;
        let lease_seconds = seed % 2;
        World {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now,
            config: config(),
            core: core(lease_seconds, now),
            core_epoch: now,
            lease_seconds,
            source: None,
            node: None,
            link: None,
            retained: RetainedState::default(),
            known_epoch: 0,
            generation: 0,
            truth: Vec::new(),
            in_flight: BTreeSet::new(),
            clients: [None, Some(0), Some(40 * MS), Some(3_600_000 * MS)]
                .map(|replay| Client {
                    replay,
                    subscription: None,
                    cursor: None,
                    opened_at: 0,
                    first: None,
                    received: Vec::new(),
                    gaps: Vec::new(),
                    all_gaps: Vec::new(),
                    opened: false,
                })
                .into(),
            trace: Vec::new(),
        }
    }

    /// The next instant.
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn log(&mut self, what: impl std::fmt::Display) {
        let at = (self.now - T0 as u64) as f64 / 1e6;
        self.trace.push(format!("{at:.3} {what}"));
    }

    fn start_node(&mut self) {
        let epoch = self.tick() as i64;
        self.log("node starts");
        self.node = Some(Node {
            os_pid: epoch / 1_000,
            epoch,
            attempt: 0,
            on: None,
            rows_from: None,
            rows_until: None,
            held: Vec::new(),
            rows_sent: 0,
        });
    }

    fn kill_node(&mut self) {
        self.tick();
        self.log("node dies");
        self.break_link();
        self.node = None;
    }

    fn connect(&mut self) {
        let now = self.tick();
        let node = self.node.as_mut().unwrap();
        node.attempt += 1;
        let mut hello = hello("shop@a", node.os_pid, node.epoch, node.attempt);
        hello.rows_until = node.rows_until;
        let source = self
            .core
            .open_source(source_spec(&hello.node, &hello), now)
            .unwrap();
        let same_epoch = self.known_epoch == node.epoch;
        let start = NodeStart {
            events: node.epoch as u64,
            continues: same_epoch,
            rows_until: node.rows_until.map(|time| time as u64),
        };
        self.known_epoch = node.epoch;
        self.core.node_connected(&source, start);
        self.source = Some(source.clone());
        let retained = std::mem::take(&mut self.retained);
        let relay = Relay::new(
            &mut self.core,
            &self.config,
            source,
            hello,
            retained,
            same_epoch,
            now,
        );
        self.link = Some(Link {
            relay,
            up: VecDeque::new(),
            down: VecDeque::new(),
            interest: Interest::default(),
            checked: 0,
        });
        self.log("connects");
        let interest = self.core.interest(now).clone();
        self.plan(interest);
    }

    /// Sends a plan with the interest.
    fn plan(&mut self, interest: Interest) {
        let now = self.tick();
        self.generation += 1;
        let delay = self.random.below(30) * MS;
        let Some(link) = &mut self.link else { return };
        let mut out = Vec::new();
        link.relay
            .plan(&self.config, &interest, self.generation, now, &mut out);
        link.relay.report_streams(&mut self.core, now);
        link.interest = interest;
        let at = link.down.back().map_or(0, |(at, _)| *at).max(now + delay);
        link.down.push_back((at, out));
        self.log(format!("plan {}", self.generation));
    }

    /// As a session does regularly.
    fn check(&mut self) {
        let now = self.now;
        let Some(link) = &mut self.link else { return };
        if now < link.checked + CHECK {
            return;
        }
        link.checked = now;
        let interest = self.core.interest(now).clone();
        if interest.generation == link.interest.generation {
            return;
        }
        if link.relay.streams_differ(&self.config, &interest) {
            self.plan(interest);
        } else {
            link.relay.covers(&mut self.core, interest.generation, now);
            link.interest = interest;
        }
    }

    fn break_link(&mut self) {
        let now = self.tick();
        let Some(mut link) = self.link.take() else { return };
        self.log("link breaks");
        for (_, bytes) in &link.up {
            self.in_flight.extend(numbers_in(bytes));
        }
        link.relay.disconnected(&mut self.core, now);
        self.retained = link.relay.retain();
        // The relay notices it a little later, and the sender fails with what it holds.
        let noticed = self.now + 1 + self.random.below(3);
        self.now = noticed;
        let node = self.node.as_mut().unwrap();
        node.stop_streaming(noticed as i64);
        self.in_flight
            .extend(node.held.drain(..).map(|(_, number, _)| number));
    }

    fn restart_collector(&mut self) {
        self.log("collector restarts");
        self.break_link();
        let now = self.tick();
        for client in &mut self.clients {
            client.subscription = None;
        }
        // Rows that clients had not taken are gone, too: a gap "collector restarted".
        self.in_flight.extend(0..self.truth.len() as i64);
        (self.core, self.core_epoch) = (core(self.lease_seconds, now), now);
        (self.known_epoch, self.retained) = (0, RetainedState::default());
    }

    fn emit(&mut self) {
        let now = self.tick();
        let number = self.truth.len() as i64;
        self.truth.push(now);
        let node = self.node.as_mut().unwrap();
        if let Some(schema) = node.on {
            node.held.push((now as i64, number, schema));
        }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        let delay = self.random.below(20) * MS;
        let Some(link) = &mut self.link else { return };
        let at = link.up.back().map_or(0, |(at, _)| *at).max(self.now + delay);
        link.up.push_back((at, bytes));
    }

    /// The sender sends what it holds, if it has held it for a time.
    fn flush(&mut self, linger: u64) {
        let Some(node) = &mut self.node else { return };
        if self.link.is_none()
            || node
                .held
                .first()
                .is_none_or(|(time, ..)| *time as u64 + linger > self.now)
        {
            return;
        }
        let held = std::mem::take(&mut node.held);
        node.rows_sent += held.len() as i64;
        let mut builder = EventsBuilder::new(held[0].2, 0, 4, MAX).unwrap();
        for (time, number, _) in held {
            let cells = [Cell::Int(number), Cell::Str("GET"), Cell::Null, Cell::Int(200)];
            builder.push(time, &cells).unwrap();
        }
        let mut out = Vec::new();
        builder.finish(0, &mut out).unwrap();
        self.send(out);
    }

    /// The relay applies the plans that have arrived.
    fn apply_plans(&mut self) {
        while let Some(link) = &mut self.link
            && link.down.front().is_some_and(|(at, _)| *at <= self.now)
            && let Some((_, bytes)) = link.down.pop_front()
        {
            let plan = Plan::decode(frame::body(&bytes)).unwrap();
            let first = self.node.as_ref().unwrap().rows_from.is_none();
            let until = self.tick() as i64;
            // Events of other processes pass until the switch.
            if !first && self.random.once_in(2) {
                self.emit();
            }
            let from = self.tick() as i64;
            let node = self.node.as_mut().unwrap();
            let schema = plan.streams.iter().find(|stream| stream.event.join(".") == EVENT);
            node.on = schema.map(|stream| stream.schema);
            if !first {
                node.rows_until = Some(until);
            }
            node.rows_from = Some(from);
            let reply = PlanReply {
                generation: plan.generation,
                attached: 1,
                refused: Vec::new(),
                variables: Variables::new(),
                rows_from: node.rows_from,
                rows_until: node.rows_until,
            };
            if node.on.is_none() {
                self.flush(0);
            }
            let rows_sent = self.node.as_ref().unwrap().rows_sent;
            let on = schema.map(|stream| stream.schema);
            if let (true, Some(schema)) = (first, on) {
                self.send(definition_of_rows_sent(schema));
                self.send(numbers(&[(0, rows_sent, 0.0)]));
            }
            let mut out = Vec::new();
            reply.write(&mut out).unwrap();
            self.send(out);
            self.log(format!("relay has plan {}", plan.generation));
        }
    }

    /// The collector reads what has arrived.
    fn read(&mut self) {
        while let Some(link) = &mut self.link
            && link.up.front().is_some_and(|(at, _)| *at <= self.now)
            && let Some((_, bytes)) = link.up.pop_front()
        {
            let mut reader = FrameReader::new();
            reader.hello_accepted(1 << 20);
            reader.push(&bytes);
            while let Some(frame) = reader.next().unwrap() {
                let result = link.relay.frame(&mut self.core, frame, self.now, &mut Vec::new());
                result.unwrap();
            }
        }
    }

    fn open(&mut self, at: usize) {
        let now = self.tick();
        let epoch = self.core_epoch;
        let is_connected = self.link.is_some();
        let next = self.truth.len() as i64;
        let client = &mut self.clients[at];
        let resume_from = client.cursor.map(|(of, cursor)| match of == epoch {
            true => cursor,
            false => ResumePoint {
                position: 0,
                received: false,
                restarted: true,
            },
        });
        let replay_from = client.replay.map(|back| now.saturating_sub(back));
        let request = StreamRequest {
            kind: EventKind::Event,
            patterns: vec![pattern(EVENT)],
            replay_from: replay_from.filter(|_| resume_from.is_none()),
            resume_from,
        };
        let subscription = self.core.subscribe(request, now).unwrap();
        if !client.opened {
            client.opened_at = next;
            client.first = match replay_from.filter(|from| *from < now) {
                Some(from) => Some(self.truth.partition_point(|time| *time < from) as i64),
                // It starts with the plan.
                None if is_connected => None,
                None => Some(next),
            };
        }
        client.opened = true;
        if resume_from.is_none_or(|from| from.restarted) {
            // With a replay nothing may be skipped: it resumes at the start of the backlog.
            let looks_back = client.replay.is_some() || resume_from.is_some();
            let cursor = ResumePoint {
                position: if looks_back { 0 } else { subscription.position },
                received: false,
                restarted: resume_from.is_some(),
            };
            client.cursor = Some((epoch, cursor));
        }
        client.subscription = Some(subscription);
        client.gaps.clear();
        self.log(format!("client {at} opens {resume_from:?}"));
    }

    /// Reads some items; an item that is not read is read again after a resume.
    fn take(&mut self, at: usize, most: usize) {
        let epoch = self.core_epoch;
        let client = &mut self.clients[at];
        let Some(subscription) = &client.subscription else {
            return;
        };
        for _ in 0..most {
            match subscription.items.try_recv() {
                Some(StreamItem::Batch(batch)) => {
                    let is_read = |(_, cursor): (u64, ResumePoint)| {
                        cursor.received && cursor.position >= batch.position
                    };
                    if client.cursor.is_some_and(is_read) {
                        continue;
                    }
                    client.received.extend(numbers_of(&batch.body));
                    let cursor = ResumePoint {
                        position: batch.position,
                        received: true,
                        restarted: false,
                    };
                    client.cursor = Some((epoch, cursor));
                }
                Some(StreamItem::Gap {
                    reason: GapReason::NotSubscribed,
                    time: Some(time),
                    ..
                }) => {
                    client.gaps.push((time.start, time.end));
                    client.all_gaps.push((time.start, time.end));
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    fn step(&mut self, quiet: bool, emits: bool) {
        self.now = (self.now / MS + 1) * MS;
        if self.node.is_some() && emits && self.random.once_in(2) {
            self.emit();
        }
        self.flush(LINGER);
        self.apply_plans();
        self.read();
        self.check();
        if !quiet {
            self.disturb();
        }
        for at in 0..self.clients.len() {
            let most = if quiet {
                usize::MAX
            } else {
                self.random.below(4) as usize
            };
            self.take(at, most);
            if self.clients[at].subscription.is_none() && (quiet || self.random.once_in(30)) {
                self.open(at);
            }
        }
        if self.node.is_none() && (quiet || self.random.once_in(40)) {
            self.start_node();
        } else if self.node.is_some() && self.link.is_none() && (quiet || self.random.once_in(25)) {
            self.connect();
        }
    }

    fn disturb(&mut self) {
        if self.link.is_some() && self.random.once_in(300) {
            self.break_link();
        }
        if self.link.is_some() && self.random.once_in(1_000) {
            self.kill_node();
        }
        if self.random.once_in(1_500) {
            self.restart_collector();
        }
        for at in 0..self.clients.len() {
            if self.random.once_in(60) && self.clients[at].subscription.is_some() {
                self.clients[at].subscription = None;
                self.log(format!("client {at} closes"));
            }
        }
    }

    /// Checks what a client got.
    fn verify(&self, seed: u64) {
        for (at, client) in self.clients.iter().enumerate() {
            let context = || format!("seed {seed}, client {at}\n{}", self.trace.join("\n"));
            let received: BTreeSet<i64> = client.received.iter().copied().collect();
            assert_eq!(
                received.len(),
                client.received.len(),
                "received twice: {}",
                context()
            );
            let time = |number: i64| self.truth[number as usize] - T0 as u64;
            let gaps: Vec<_> = client
                .all_gaps
                .iter()
                .map(|(a, b)| (a.saturating_sub(T0 as u64), b - T0 as u64))
                .collect();
            let within = |number: i64| {
                gaps.iter()
                    .filter(|(a, b)| (*a..=*b).contains(&time(number)))
                    .count()
            };
            // Of a live client: rows in flight when it opens may be older.
            let live = received.first().map(|first| client.opened_at.max(*first));
            let first = client.first.or(live).unwrap_or(0);
            let silent: Vec<_> = (first..self.truth.len() as i64)
                .filter(|n| !received.contains(n) && !self.in_flight.contains(n) && within(*n) == 0)
                .map(|n| (n, time(n)))
                .collect();
            assert!(
                silent.is_empty(),
                "silent {silent:?}, gaps {gaps:?}: {}",
                context()
            );
            let covered: Vec<_> = received
                .iter()
                .filter(|n| within(**n) > 0)
                .map(|n| (*n, time(*n)))
                .collect();
            assert!(
                covered.is_empty(),
                "received, but in a gap: {covered:?}, gaps {gaps:?}: {}",
                context()
            );
            let mut last = client.gaps.clone();
            last.sort_unstable();
            let overlap = last.windows(2).find(|pair| pair[0].1 > pair[1].0);
            assert!(overlap.is_none(), "gaps overlap: {overlap:?}: {}", context());
        }
    }
}

fn definition_of_rows_sent(schema: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = DefineWriter::begin(&mut out, DefineKind::Series, MAX);
    let map = relay_series_map(1, vec![Value::Int(schema.into())], T0, false);
    assert!(writer.define(0, &map).unwrap());
    writer.finish().unwrap();
    out
}

fn numbers_of(body: &[u8]) -> Vec<i64> {
    let mut scratch = EventsScratch::default();
    let events = Events::decode(body, &mut scratch).unwrap();
    let number = |row| match events.cell(row, 1) {
        Cell::Int(number) => number,
        other => panic!("{other:?}"),
    };
    (0..events.rows()).map(number).collect()
}

/// The numbers in a frame; none if it is not EVENTS.
fn numbers_in(bytes: &[u8]) -> Vec<i64> {
    match bytes[4] {
        9 => numbers_of(frame::body(bytes)),
        _ => Vec::new(),
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    world.start_node();
    for _ in 0..RUN {
        world.step(false, true);
    }
    // Everybody is connected at last, and the last numbers arrive.
    for step in 0..300 {
        world.step(true, step < 200);
    }
    world.verify(seed);
}

#[test]
fn each_number_is_received_once_or_in_a_gap() {
    for seed in 0..SEEDS {
        run(seed);
    }
}
