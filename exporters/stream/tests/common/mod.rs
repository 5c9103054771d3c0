//! A running store, and a small subscriber built on the wire codec, for the tests of this crate.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use dichroic_exporter_stream::{Config, Exporter};
use dichroic_model::{
    Attributes, Batch, EventKind, EventSchema, Expiry, Identity, Limits, Protocol, Runtime, Source,
    SourceSpec,
};
use dichroic_pipeline::{Core, Handle, inbox, serve};
use dichroic_wire::define::{Define, DefineKind, Dictionary, Schema, SubscriberSeries};
use dichroic_wire::hello::SubscribeKind;
use dichroic_wire::limits;
use dichroic_wire::{
    Cell, CollectorHello, Events, EventsBuilder, EventsScratch, FrameReader, FrameType, Gap, Goodbye, Hello,
    Mixed, MixedScratch, Ping, Subscribe, SubscriberHello, Value,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::{LocalSet, spawn_local};

/// The epoch of every test's store.
pub const EPOCH: u64 = 1_763_700_000_000_000_007;
/// Time limit of a test.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test with a running store, under a deadline.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    run_with(Config::default(), Limits::default(), test);
}

/// [`run`] with other limits.
pub fn run_with<F: Future<Output = ()>>(config: Config, limits: Limits, test: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async move {
        let world = World::new(config, limits);
        tokio::time::timeout(DEADLINE, test(world))
            .await
            .expect("the test exceeded its deadline");
    });
}

/// Waits for a condition, yielding to other tasks.
pub async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[derive(Clone)]
pub struct World {
    pub store: Rc<RefCell<Core>>,
    pub handle: Handle,
    pub exporter: Exporter,
}

impl World {
    fn new(config: Config, limits: Limits) -> Self {
        let store = Rc::new(RefCell::new(Core::new(limits, Arc::new(Identity), EPOCH)));
        let (handle, inbox) = inbox();
        spawn_local(serve(store.clone(), inbox));
        let exporter = Exporter::new(handle.clone(), config);
        World {
            store,
            handle,
            exporter,
        }
    }

    pub fn source(&self, name: &str) -> Arc<Source> {
        let spec = SourceSpec {
            name: name.to_owned(),
            runtime: Runtime::Beam,
            job: "shop".to_owned(),
            instance: name.to_owned(),
            resource: Attributes::of(&[("service.name", "shop")]),
            expiry: Expiry::AfterEnd(60),
            ..SourceSpec::new(Protocol::Beam, name.as_bytes())
        };
        self.store.borrow_mut().open_source(spec, EPOCH).unwrap()
    }

    /// A schema with one measurement `n` and the metadata `method` and `status`.
    pub fn schema(&self, name: &str) -> Arc<EventSchema> {
        let measurements = vec![("n".to_owned(), "1".to_owned())];
        let metadata = vec!["method".to_owned(), "status".to_owned()];
        self.store
            .borrow_mut()
            .schema(EventKind::Event, name, measurements, metadata)
            .unwrap()
    }

    /// Publishes rows with these `n`: the method by parity, status 503 for every fifth, otherwise 200.
    pub fn publish(&self, schema: &Arc<EventSchema>, source: &Arc<Source>, numbers: std::ops::Range<i64>) {
        let rows: Vec<_> = numbers
            .map(|n| {
                let method = if n % 2 == 0 { "GET" } else { "POST" };
                let status = if n % 5 == 0 { 503 } else { 200 };
                vec![Cell::Int(n), Cell::Str(method), Cell::Int(status)]
            })
            .collect();
        self.publish_rows(schema, source, &rows);
    }

    pub fn publish_rows(&self, schema: &Arc<EventSchema>, source: &Arc<Source>, rows: &[Vec<Cell<'_>>]) {
        let mut store = self.store.borrow_mut();
        let position = store.next_position(schema.kind);
        let mut builder =
            EventsBuilder::new(schema.id, source.id.0, rows[0].len(), limits::BODY_BYTES_MAX).unwrap();
        for (at, cells) in rows.iter().enumerate() {
            builder
                .push((EPOCH + position) as i64 + at as i64, cells)
                .unwrap();
        }
        let mut frame = Vec::new();
        builder.finish(position, &mut frame).unwrap();
        store.publish(Batch {
            schema: schema.clone(),
            source: source.clone(),
            position,
            rows: rows.len() as u32,
            received: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_nanos() as u64,
            body: dichroic_wire::frame::body(&frame).into(),
        });
    }

    /// A subscriber that has sent its HELLO over a real socket pair.
    pub fn connect(&self, subscribe: Option<Subscribe>) -> Client {
        self.connect_with(subscribe, limits::BODY_BYTES_DEFAULT, &[])
    }

    pub fn connect_with(&self, subscribe: Option<Subscribe>, max_frame: u32, read_ahead: &[u8]) -> Client {
        let hello = SubscriberHello {
            agent: "test/1".to_owned(),
            max_frame,
            token: None,
            subscribe,
        };
        self.connect_hello(hello.to_hello(), read_ahead)
    }

    pub fn connect_hello(&self, hello: Hello, read_ahead: &[u8]) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (exporter, read_ahead) = (self.exporter.clone(), read_ahead.to_vec());
        spawn_local(async move { exporter.serve_subscriber(theirs, &hello, &read_ahead).await });
        Client::new(ours)
    }

    /// Waits until the store has `n` subscribers: a subscription is in force once it is counted there.
    pub async fn subscribed(&self, n: usize) {
        until(|| self.store.borrow().subscribers() == n).await;
    }

    /// (offered, sent, dropped, queued) of a hop in the ledger.
    pub fn hop(&self, name: &str) -> (u64, u64, u64, u64) {
        self.store.borrow_mut().ledger_mut().hop(name).read()
    }
}

/// A subscription to events.
pub fn events(patterns: &[&str]) -> Subscribe {
    Subscribe::new(
        SubscribeKind::Event,
        patterns.iter().map(|p| (*p).to_owned()).collect(),
    )
}

/// An item that the client received.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    Row(Row),
    /// Schema name (`None` for all), reason code, lost.
    Gap(Option<String>, u8, Option<u64>),
    Number(String, f64, SubscriberSeries),
    /// Name, sum, (side, index, count).
    Histogram(String, f64, Vec<(u8, i16, u64)>, SubscriberSeries),
    Released(u32),
    Ping(u64),
    Pong(u64),
    Goodbye(u16, String),
    End,
}

/// A row, with the cursor after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub name: String,
    pub source: String,
    pub time: i64,
    pub cells: Vec<Value>,
    /// Position of its frame, and its number in the frame, from 1.
    pub cursor: (u64, u16),
}

impl Row {
    /// The measurement `n`.
    pub fn n(&self) -> i64 {
        self.cells[0].as_int().unwrap()
    }
}

pub struct Client {
    pub io: UnixStream,
    frames: FrameReader,
    schemas: Dictionary<Schema>,
    sources: Dictionary<String>,
    series: Dictionary<SubscriberSeries>,
    received: VecDeque<Received>,
    pub hello: Option<CollectorHello>,
    /// Number of EVENTS frames received.
    pub event_frames: usize,
    /// Number of MIXED frames received.
    pub mixed_frames: usize,
}

impl Client {
    pub fn new(io: UnixStream) -> Self {
        Client {
            io,
            frames: FrameReader::new(),
            schemas: Dictionary::new(DefineKind::Schema, limits::SCHEMAS),
            sources: Dictionary::new(DefineKind::Source, limits::SOURCES),
            series: Dictionary::new(DefineKind::Series, limits::SERIES_MAX),
            received: VecDeque::new(),
            hello: None,
            event_frames: 0,
            mixed_frames: 0,
        }
    }

    pub async fn send(&mut self, frame: &[u8]) {
        self.io.write_all(frame).await.unwrap();
    }

    /// The next item; rows one by one.
    pub async fn next(&mut self) -> Received {
        loop {
            if let Some(item) = self.received.pop_front() {
                return item;
            }
            let mut bytes = [0; 16 << 10];
            match self.io.read(&mut bytes).await {
                Ok(0) | Err(_) => return Received::End,
                Ok(n) => self.take(&bytes[..n]),
            }
        }
    }

    /// Waits for the collector's HELLO.
    pub async fn handshake(&mut self) -> CollectorHello {
        while self.hello.is_none() {
            let mut bytes = [0; 1 << 10];
            let n = self.io.read(&mut bytes).await.unwrap();
            assert!(n > 0, "no HELLO");
            self.take(&bytes[..n]);
        }
        self.hello.clone().unwrap()
    }

    /// The next `n` items, which must be rows.
    pub async fn rows(&mut self, n: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        while rows.len() < n {
            match self.next().await {
                Received::Row(row) => rows.push(row),
                other => panic!("{other:?} after {} rows", rows.len()),
            }
        }
        rows
    }

    /// Decodes received bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = self.frames.next().unwrap() {
            frames.push((frame.frame_type, frame.body.to_vec()));
            if self.hello.is_none() {
                let (kind, body) = frames.remove(0);
                self.accept_hello(kind, &body);
            }
        }
        for (kind, body) in frames {
            self.frame(kind, &body);
        }
    }

    fn accept_hello(&mut self, kind: FrameType, body: &[u8]) {
        if kind == FrameType::Goodbye {
            return self.frame(kind, body);
        }
        assert_eq!(kind, FrameType::Hello);
        self.hello = Some(CollectorHello::read(&Hello::decode(body).unwrap()).unwrap());
        self.frames.hello_accepted(limits::BODY_BYTES_MAX);
    }

    fn frame(&mut self, kind: FrameType, body: &[u8]) {
        match kind {
            FrameType::Define => self.define(&Define::decode(body).unwrap()),
            FrameType::Events => self.events(body),
            FrameType::Mixed => self.mixed(body),
            FrameType::Numbers => {
                for row in dichroic_wire::Numbers::decode(body).unwrap().rows() {
                    let series = self.series.get(kind, row.series).unwrap();
                    let item = Received::Number(series.name.clone(), row.into(), series.clone());
                    self.received.push_back(item);
                }
            }
            FrameType::Histograms => {
                for row in dichroic_wire::Histograms::decode(body).unwrap().rows() {
                    let series = self.series.get(kind, row.series).unwrap();
                    let buckets = row.buckets().map(|b| (b.side.code(), b.index, b.count)).collect();
                    let sum = row.sum_int as f64 + row.sum_float;
                    let item = Received::Histogram(series.name.clone(), sum, buckets, series.clone());
                    self.received.push_back(item);
                }
            }
            FrameType::Gap => {
                let gap = Gap::decode(body).unwrap();
                let name = match gap.schema {
                    0 => None,
                    id => Some(self.schemas.get(kind, id).unwrap().name.clone()),
                };
                self.received
                    .push_back(Received::Gap(name, gap.reason.code(), gap.lost));
            }
            FrameType::Ping => self
                .received
                .push_back(Received::Ping(Ping::decode(body).unwrap().0)),
            FrameType::Pong => {
                self.received
                    .push_back(Received::Pong(dichroic_wire::Pong::decode(body).unwrap().0));
            }
            FrameType::Goodbye => {
                let goodbye = Goodbye::decode(body).unwrap();
                self.received
                    .push_back(Received::Goodbye(goodbye.code.code(), goodbye.message));
            }
            other => panic!("unexpected frame {other:?}"),
        }
    }

    fn define(&mut self, define: &Define<'_>) {
        for (id, map) in define.entries() {
            let map = map.map(|map| map.to_map());
            match (define.kind, map) {
                (DefineKind::Schema, Some(map)) => {
                    self.schemas.define(id, Schema::read(&map).unwrap()).unwrap();
                }
                (DefineKind::Source, Some(map)) => {
                    let source = dichroic_wire::define::Source::read(&map).unwrap();
                    self.sources.define(id, source.name).unwrap();
                }
                (DefineKind::Series, Some(map)) => {
                    let series = SubscriberSeries::read(&map).unwrap();
                    self.series.define(id, series).unwrap();
                }
                (DefineKind::Schema, None) => drop(self.schemas.release(id).unwrap()),
                (DefineKind::Source, None) => drop(self.sources.release(id).unwrap()),
                (DefineKind::Series, None) => {
                    self.series.release(id).unwrap();
                    self.received.push_back(Received::Released(id));
                }
            }
        }
    }

    fn mixed(&mut self, body: &[u8]) {
        self.mixed_frames += 1;
        let mut scratch = MixedScratch::default();
        let mixed = Mixed::decode(body, &mut scratch).unwrap();
        for row in 0..mixed.rows() {
            let context = mixed.context(row);
            let schema = self.schemas.get(FrameType::Mixed, context.schema).unwrap();
            let source = self.sources.get(FrameType::Mixed, context.source).unwrap();
            assert_eq!(mixed.columns(row), schema.columns());
            let cells = (1..mixed.columns(row)).map(|column| mixed.cell(row, column).to_value());
            self.received.push_back(Received::Row(Row {
                name: schema.name.clone(),
                source: source.clone(),
                time: mixed.cell(row, 0).to_value().as_int().unwrap(),
                cells: cells.collect(),
                cursor: (mixed.position(), row as u16 + 1),
            }));
        }
    }

    fn events(&mut self, body: &[u8]) {
        self.event_frames += 1;
        let mut scratch = EventsScratch::default();
        let events = Events::decode(body, &mut scratch).unwrap();
        let header = events.header();
        let schema = self.schemas.get(FrameType::Events, header.schema).unwrap();
        let source = self.sources.get(FrameType::Events, header.source).unwrap();
        assert_eq!(events.columns(), schema.columns());
        for (at, time) in events.times().enumerate() {
            let cells = (1..events.columns()).map(|column| events.cell(at, column).to_value());
            self.received.push_back(Received::Row(Row {
                name: schema.name.clone(),
                source: source.clone(),
                time,
                cells: cells.collect(),
                cursor: (header.position, at as u16 + 1),
            }));
        }
    }
}

/// A random number generator whose seed a failing test prints.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = now.unwrap().as_nanos() as u64 | 1;
        println!("seed {seed}");
        Random(seed)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
