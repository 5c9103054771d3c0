//! A test relay, built from the wire crate, and the content of the store as text.
#![allow(dead_code)]

use dichroic_model::{EventKind, GapReason, Limits, Pattern, Seed};
use dichroic_packs::{Definition, PackResolver, Packs, Selection};
use dichroic_pipeline::{
    Core, Job, Progress, RowValue, Snapshot, SnapshotRequest, StreamItem, StreamRequest, Subscription,
};
use dichroic_receiver_beam::{Config, Receiver};
use dichroic_wire::define::{DefineKind, DefineWriter, relay_series_map};
use dichroic_wire::hello::RelayMode;
use dichroic_wire::plan::{Plan, PlanReply};
use dichroic_wire::{
    Bucket, CollectorHello, FrameReader, FrameType, Goodbye, Hello, HistogramsWriter, NumberRow,
    NumbersWriter, Ping, Pong, RelayHello, Side, Value, Variables,
};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

pub const DEADLINE: Duration = Duration::from_secs(10);
pub const T0: i64 = 1_763_800_000_000_000_000;
pub const MAX: u32 = 262_144;

pub type SharedCore = Rc<RefCell<Core>>;

pub const DEFINITIONS: &str = "
- {name: shop.orders, type: counter, event: shop.order.stop, tags: {plan: user.plan, ok: ok}}
- {name: shop.bytes, type: sum, event: shop.order.stop, measurement: bytes, unit: By}
- {name: shop.balance, type: sum, event: shop.order.stop, measurement: balance, monotonic: false}
- {name: shop.queue, type: last_value, event: shop.queue.sampled, measurement: length}
- {name: shop.duration, type: distribution, event: shop.order.stop, measurement: duration, unit: [native, s], buckets: [0.1, 1], tags: [plan]}
- {name: shop.latency, type: summary, event: shop.order.stop, measurement: latency_ms, unit: ms}
";

pub fn definitions(yaml: &str) -> Vec<Definition> {
    serde_saphyr::from_str(yaml).expect("definitions of the test")
}

pub fn config() -> Config {
    Config {
        selection: Selection {
            packs: Packs::default(),
            definitions: definitions(DEFINITIONS),
            ..Selection::default()
        },
        check_every: Duration::from_millis(5),
        goodbye_timeout: Duration::from_millis(300),
        ..Config::default()
    }
}

pub fn store() -> SharedCore {
    let _ = Seed(0);
    store_with(|_| {})
}

/// A store in which no subscription outlives its subscriber, unless `change` says otherwise.
pub fn store_with(change: impl FnOnce(&mut Limits)) -> SharedCore {
    let mut limits = Limits {
        lease_seconds: 0,
        ..Limits::default()
    };
    change(&mut limits);
    let store = Core::new(limits, Arc::new(PackResolver::builtin()), T0 as u64);
    Rc::new(RefCell::new(store))
}

/// Runs a test on one thread, as the ingest thread does.
pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

pub fn hello(node: &str, os_pid: i64, epoch: i64, attempt: i64) -> RelayHello {
    RelayHello {
        agent: "test/1".into(),
        node: node.into(),
        os_pid,
        otp: "25".into(),
        telemetry: "1.4.1".into(),
        native_per_s: 1_000_000_000,
        time_offset: 0,
        epoch,
        attempt,
        mode: RelayMode::Installed,
        variables: Variables::new(),
        rows_until: None,
        resource: [("service.name".to_owned(), Value::from("shop"))].into(),
        max_frame: 1 << 20,
        token: None,
    }
}

pub fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("pattern of the test")
}

/// One relay's end of a connection.
pub struct Relay {
    pub io: DuplexStream,
    reader: FrameReader,
    pub plan: Option<Plan>,
    pub hello: Option<CollectorHello>,
    pub server: JoinHandle<()>,
    /// As in its replies.
    pub rows_until: Option<i64>,
    flushes: u64,
}

#[derive(Debug)]
pub enum Got {
    Hello(CollectorHello),
    Plan(Plan),
    Pong(u64),
    Goodbye(Goodbye),
    Closed,
}

impl Relay {
    /// Connects without waiting for a frame.
    pub fn dial(receiver: &Receiver, store: &SharedCore, hello: &RelayHello) -> Self {
        Self::dial_with(receiver, store, hello.to_hello(), Vec::new())
    }

    /// Connects with bytes that the listener has read together with HELLO.
    pub fn dial_with(receiver: &Receiver, store: &SharedCore, hello: Hello, read_ahead: Vec<u8>) -> Self {
        let (io, theirs) = tokio::io::duplex(1 << 20);
        let (receiver, store) = (receiver.clone(), store.clone());
        let server = tokio::task::spawn_local(async move {
            receiver.serve_relay(theirs, hello, &read_ahead, store).await;
        });
        let mut reader = FrameReader::new();
        reader.hello_accepted(1 << 20);
        Relay {
            io,
            reader,
            plan: None,
            hello: None,
            server,
            rows_until: None,
            flushes: 0,
        }
    }

    /// Connects and answers the plan.
    pub async fn connect(receiver: &Receiver, store: &SharedCore, hello: &RelayHello) -> Self {
        let mut relay = Self::dial(receiver, store, hello);
        relay.hello = match relay.next().await {
            Got::Hello(hello) => Some(hello),
            other => panic!("HELLO expected, got {other:?}"),
        };
        relay.expect_plan().await;
        relay
    }

    pub async fn expect_plan(&mut self) -> &Plan {
        self.expect_plan_with(&Variables::new()).await
    }

    /// Waits for a plan and replies with the variables of the node.
    pub async fn expect_plan_with(&mut self, variables: &Variables) -> &Plan {
        match self.next().await {
            Got::Plan(plan) => {
                let generation = plan.generation;
                self.plan = Some(plan);
                self.reply(generation, variables).await;
            }
            other => panic!("PLAN expected, got {other:?}"),
        }
        self.plan.as_ref().expect("set")
    }

    /// Waits for a plan and does not reply.
    pub async fn expect_plan_without_reply(&mut self) {
        match self.next().await {
            Got::Plan(_) => {}
            other => panic!("PLAN expected, got {other:?}"),
        }
    }

    /// Replies to the current plan.
    pub async fn reply(&mut self, generation: i64, variables: &Variables) {
        let reply = PlanReply {
            variables: variables.clone(),
            ..self.plan_reply(generation, None, self.rows_until)
        };
        self.send_reply(&reply).await;
    }

    /// Replies with the times of the switches.
    pub async fn answer(&mut self, generation: i64, rows_from: Option<i64>, rows_until: Option<i64>) {
        let reply = self.plan_reply(generation, rows_from, rows_until);
        self.send_reply(&reply).await;
    }

    fn plan_reply(&self, generation: i64, rows_from: Option<i64>, rows_until: Option<i64>) -> PlanReply {
        PlanReply {
            generation,
            attached: self.plan.as_ref().map_or(0, |plan| plan.aggregates.len()) as u32,
            refused: Vec::new(),
            variables: Variables::new(),
            rows_from,
            rows_until,
        }
    }

    async fn send_reply(&mut self, reply: &PlanReply) {
        let mut out = Vec::new();
        reply.write(&mut out).expect("reply");
        self.send(&out).await;
    }

    pub async fn next(&mut self) -> Got {
        tokio::time::timeout(DEADLINE, self.read())
            .await
            .expect("a frame in time")
    }

    async fn read(&mut self) -> Got {
        loop {
            if let Some(frame) = self.reader.next().expect("frames of the collector") {
                let body = frame.body;
                return match frame.frame_type {
                    FrameType::Hello => {
                        Got::Hello(CollectorHello::read(&Hello::decode(body).expect("HELLO")).expect("HELLO"))
                    }
                    FrameType::Plan => Got::Plan(Plan::decode(body).expect("PLAN")),
                    FrameType::Pong => Got::Pong(Pong::decode(body).expect("PONG").0),
                    FrameType::Goodbye => Got::Goodbye(Goodbye::decode(body).expect("GOODBYE")),
                    other => panic!("unexpected {other:?}"),
                };
            }
            let mut buffer = [0; 16_384];
            match self.io.read(&mut buffer).await {
                Ok(n) if n > 0 => self.reader.push(&buffer[..n]),
                _ => return Got::Closed,
            }
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // The next read reports a connection that the collector has closed.
        let _ = self.io.write_all(bytes).await;
    }

    /// Sends PING and waits for PONG: all earlier frames are applied then.
    pub async fn flush(&mut self) {
        self.flushes += 1;
        let mut out = Vec::new();
        Ping(self.flushes).write(&mut out);
        self.send(&out).await;
        match self.next().await {
            Got::Pong(n) => assert_eq!(n, self.flushes),
            other => panic!("PONG expected, got {other:?}"),
        }
    }

    pub async fn goodbye(&mut self) -> Goodbye {
        loop {
            match self.next().await {
                Got::Goodbye(goodbye) => return goodbye,
                Got::Closed => panic!("closed without GOODBYE"),
                _ => {}
            }
        }
    }

    /// Key of a metric, by its position in the plan.
    pub fn key(&self, at: usize) -> u64 {
        self.plan.as_ref().expect("a plan").aggregates[at].key
    }

    pub async fn define(&mut self, id: u32, key: u64, labels: Vec<Value>, start: i64) {
        self.define_with(id, key, labels, start, false).await;
    }

    pub async fn define_with(&mut self, id: u32, key: u64, labels: Vec<Value>, start: i64, overflow: bool) {
        let mut out = Vec::new();
        let mut writer = DefineWriter::begin(&mut out, DefineKind::Series, MAX);
        assert!(
            writer
                .define(id, &relay_series_map(key, labels, start, overflow))
                .expect("definition")
        );
        writer.finish().expect("frame");
        self.send(&out).await;
    }

    pub async fn release(&mut self, id: u32) {
        let mut out = Vec::new();
        let mut writer = DefineWriter::begin(&mut out, DefineKind::Series, MAX);
        assert!(writer.release(id).expect("release"));
        writer.finish().expect("frame");
        self.send(&out).await;
    }

    pub async fn numbers(&mut self, rows: &[(u32, i64, f64)]) {
        let out = numbers(rows);
        self.send(&out).await;
    }

    pub async fn histogram(&mut self, series: u32, sum: (i64, f64), buckets: &[(i16, Side, u64)]) {
        let mut out = Vec::new();
        let mut writer = HistogramsWriter::begin(&mut out, next_time(), MAX);
        let buckets = buckets.iter().map(|(index, side, count)| Bucket {
            index: *index,
            side: *side,
            count: *count,
        });
        assert!(writer.push(series, sum.0, sum.1, buckets).expect("row"));
        writer.finish().expect("frame");
        self.send(&out).await;
    }

    /// Closes the connection without GOODBYE.
    pub async fn crash(self) {
        drop(self.io);
        tokio::time::timeout(DEADLINE, self.server)
            .await
            .expect("the session ends")
            .expect("without a panic");
    }
}

/// The times of frames: later ones are newer.
fn next_time() -> i64 {
    static FRAMES: AtomicI64 = AtomicI64::new(0);
    T0 + FRAMES.fetch_add(1, Ordering::Relaxed)
}

pub fn numbers(rows: &[(u32, i64, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = NumbersWriter::begin(&mut out, next_time(), MAX);
    for (series, int, float) in rows {
        assert!(writer.push(NumberRow {
            series: *series,
            int: *int,
            float: *float
        }));
    }
    writer.finish().expect("frame");
    out
}

/// The exposition: `name{labels} value` in page order, without `job` and `instance`.
pub fn page(store: &SharedCore) -> Vec<String> {
    rows(store)
        .into_iter()
        .map(|row| {
            let labels = row.meta.labels().replace("job=\"shop\",instance=\"shop@a\"", "");
            let value = match &row.value {
                RowValue::Number(n) => format!("{}", row.scaled(*n).to_f64()),
                RowValue::Histogram(h) => {
                    let sum = h.sum.map_or(f64::NAN, |sum| row.scaled(sum).to_f64());
                    format!("{:?} {:?} {sum}", h.bounds, h.counts)
                }
                RowValue::Exponential(e) => {
                    let sum = e.sum.map_or(f64::NAN, |sum| row.scaled(sum).to_f64());
                    format!(
                        "{} {} {:?} {:?} {sum}",
                        e.scale, e.zero_count, e.positive, e.negative
                    )
                }
                RowValue::Summary(_) => unreachable!("no summaries from relays"),
            };
            format!(
                "{}{{{}}} {value}",
                row.meta.metric.name,
                labels.trim_start_matches(',')
            )
        })
        .collect()
}

pub fn rows(store: &SharedCore) -> Vec<dichroic_pipeline::Row> {
    let request = SnapshotRequest {
        capacity: 4096,
        ..SnapshotRequest::default()
    };
    let (mut job, chunks) = Snapshot::new(request);
    let mut cx = Context::from_waker(Waker::noop());
    while job.step(&mut store.borrow_mut(), &mut cx) != Progress::Done {}
    let mut rows = Vec::new();
    while let Some(chunk) = chunks.try_recv() {
        rows.extend(chunk);
    }
    rows
}

/// Waits for a condition, at most until the deadline.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + DEADLINE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "timeout: {what}");
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Takes the gap of a node that connected after the subscriber: the time before its plan.
pub fn expect_gap_of_start(subscription: &Subscription) {
    let gap = subscription.items.try_recv();
    let Some(StreamItem::Gap {
        reason: GapReason::NotSubscribed,
        lost: None,
        ..
    }) = gap
    else {
        panic!("a gap expected, got {gap:?}");
    };
}

/// Subscribes to matching events from now on.
pub fn subscribe(store: &SharedCore, kind: EventKind, text: &str) -> Subscription {
    let wanted = StreamRequest {
        kind,
        patterns: vec![pattern(text)],
        replay_from: None,
        resume_from: None,
    };
    store
        .borrow_mut()
        .subscribe(wanted, dichroic_model::clock::now())
        .expect("room for a subscriber")
}
