//! The store: lookups, definitions, copies, fan-out, and the memory of a series, each with its budget.
//!
//! Run with `cargo bench -p dichroic-pipeline`. Times are the best of several rounds, because noise only adds time. Memory is the growth
//! of the resident set, measured in a separate process for each kind of series, with the collector's allocator.

use dichroic_model::{
    AttributeValue, Batch, EventKind, Expiry, Factor, Fingerprint, Fingerprinter, Identity, Limits,
    MetricKind, NameStyle, Number, Pattern, Protocol, Runtime, SECOND, Scope, SeriesDef, Source, SourceSpec,
    Temporality,
};
use dichroic_pipeline::{
    Buckets, Core, ExponentialPoint, HistogramPoint, Job, Progress, Snapshot, SnapshotRequest, StreamRequest,
    Subscription, Times,
};
use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

/// The collector's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: u64 = 1_700_000_000 * SECOND;
const SERIES: usize = 100_000;
const ROUNDS: usize = 15;
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Number,
    Histogram,
    Exponential,
}

struct Bench {
    store: Core,
    source: Arc<Source>,
    fingerprinter: Fingerprinter,
}

impl Bench {
    fn new() -> Self {
        let mut store = Core::new(Limits::default(), Arc::new(Identity), NOW);
        let spec = SourceSpec {
            name: "bench".into(),
            runtime: Runtime::Python,
            job: "shop/checkout".into(),
            instance: "627cc493-f310-47de-96bd-71410b7dec09".into(),
            expiry: Expiry::AfterIdle(300 * SECOND),
            ..SourceSpec::new(Protocol::Otlp, "")
        };
        let source = store.open_source(spec, NOW).unwrap();
        let fingerprinter = store.fingerprinter(source.id);
        Bench {
            store,
            source,
            fingerprinter,
        }
    }

    /// Defines a series with five attributes of typical length.
    fn define(
        &mut self,
        kind: Kind,
        metric: usize,
        at: usize,
        fp: Fingerprint,
    ) -> dichroic_pipeline::SeriesRef {
        let (route, status) = (format!("/api/v1/items/{}", at % 500), (200 + at % 7).to_string());
        let address = format!("10.{}.{}.{}", at >> 16, at >> 8 & 255, at & 255);
        let name = format!("http.server.metric{metric:02}");
        let attributes = [
            ("http.request.method", "GET"),
            ("http.route", route.as_str()),
            ("http.response.status_code", status.as_str()),
            ("network.protocol.version", "1.1"),
            ("server.address", address.as_str()),
        ];
        let attributes = attributes
            .map(|(k, v)| (Cow::Borrowed(k), AttributeValue::from(v)))
            .into();
        let def = SeriesDef {
            source: self.source.id,
            scope: &Scope::default(),
            name: &name,
            style: NameStyle::OpenTelemetry,
            unit: "s",
            help: "",
            kind: match kind {
                Kind::Number => MetricKind::COUNTER,
                Kind::Histogram => MetricKind::Histogram,
                Kind::Exponential => MetricKind::ExponentialHistogram,
            },
            temporality: Temporality::Cumulative,
            factor: Factor::ONE,
            attributes,
            start: 0,
            bounds: (kind == Kind::Histogram).then(|| BOUNDS.into()),
        };
        self.store.define(fp, def).unwrap()
    }

    fn write(&mut self, kind: Kind, series: dichroic_pipeline::SeriesRef, round: u64) {
        let applied = match kind {
            Kind::Number => self.store.set_number(
                series,
                Number::int(round as i64),
                Times {
                    start: 1,
                    time: NOW + round,
                    now: NOW,
                },
            ),
            Kind::Histogram => {
                let counts = [round; 15];
                let point = HistogramPoint {
                    counts: &counts,
                    sum: Some(Number::float(0.5)),
                    min_max: None,
                };
                self.store.set_histogram(
                    series,
                    &point,
                    Times {
                        start: 1,
                        time: NOW + round,
                        now: NOW,
                    },
                )
            }
            Kind::Exponential => {
                let counts = [round; 80];
                let point = ExponentialPoint {
                    scale: 3,
                    zero_count: 0,
                    zero_threshold: 0.0,
                    positive: Buckets {
                        offset: -40,
                        counts: &counts,
                    },
                    negative: Buckets::default(),
                    sum: Some(Number::float(0.5)),
                    min_max: None,
                };
                self.store.set_exponential(
                    series,
                    &point,
                    Times {
                        start: 1,
                        time: NOW + round,
                        now: NOW,
                    },
                )
            }
        };
        applied.unwrap();
    }
}

/// Raw identities of 110 bytes, as hashed by a receiver, in another order than the store's.
fn keys(series: usize) -> Vec<[u8; 110]> {
    let mut keys: Vec<_> = (0..series)
        .map(|at| {
            let mut key = [b'k'; 110];
            key[51..59].copy_from_slice(&(at as u64).to_le_bytes());
            key
        })
        .collect();
    let mut state = 7_u64;
    for at in (1..keys.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        keys.swap(at, (state >> 33) as usize % (at + 1));
    }
    keys
}

fn best(per: usize, mut work: impl FnMut(u64)) -> f64 {
    let mut least = f64::INFINITY;
    for round in 0..ROUNDS as u64 {
        let start = Instant::now();
        work(round + 1);
        least = least.min(start.elapsed().as_nanos() as f64 / per as f64);
    }
    least
}

fn report(name: &str, value: f64, unit: &str, budget: Option<f64>) {
    let against = budget.map_or(String::new(), |b| {
        format!("  budget {b:>6.0}, ratio {:.2}", value / b)
    });
    println!("store/{name:<22}{value:9.1} {unit:<22}{against}");
}

/// (time on the ingest thread, time including the reader's release of the rows)
fn copy(bench: &mut Bench) -> (f64, f64) {
    let (mut steps, mut whole) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..2 * ROUNDS {
        let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
        let mut cx = Context::from_waker(Waker::noop());
        let begin = Instant::now();
        let mut in_steps = 0;
        loop {
            let start = Instant::now();
            let progress = job.step(&mut bench.store, &mut cx);
            in_steps += start.elapsed().as_nanos();
            if progress == Progress::Done {
                break;
            }
            while let Some(chunk) = chunks.try_recv() {
                black_box(chunk);
            }
        }
        steps = steps.min(in_steps as f64 / SERIES as f64);
        whole = whole.min(begin.elapsed().as_nanos() as f64 / SERIES as f64);
    }
    (steps, whole)
}

fn report_copy(name: &str, bench: &mut Bench) {
    let (steps, whole) = copy(bench);
    report(&format!("copy, {name}"), steps, "ns/series", Some(10.0));
    report("  and release", whole, "ns/series", None);
}

fn points_and_copies() {
    let keys = keys(SERIES);
    let mut miss = f64::INFINITY;
    let mut bench = Bench::new();
    for _ in 0..ROUNDS {
        bench = Bench::new();
        let start = Instant::now();
        for (at, key) in keys.iter().enumerate() {
            let fp = bench.fingerprinter.of(key);
            let series = bench.define(Kind::Number, at / 2_000, at, fp);
            bench.write(Kind::Number, series, 0);
        }
        miss = miss.min(start.elapsed().as_nanos() as f64 / SERIES as f64);
    }
    report("define", miss, "ns/new series", Some(1_000.0));
    let hit = best(SERIES, |round| {
        for key in &keys {
            let series = bench.store.find(bench.fingerprinter.of(key)).unwrap();
            bench.write(Kind::Number, series, round);
        }
    });
    report("hit", hit, "ns/point", None);
    report_copy("grouped", &mut bench);
    let mut longest = 0.0_f64;
    let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let start = Instant::now();
        let progress = job.step(&mut bench.store, &mut cx);
        longest = longest.max(start.elapsed().as_nanos() as f64 / 1e3);
        while chunks.try_recv().is_some() {}
        if progress == Progress::Done {
            break;
        }
    }
    report("longest step", longest, "us", Some(1_000.0));
    let series = bench.store.series();
    let start = Instant::now();
    bench.store.end_source(bench.source.id, NOW);
    while bench.store.series() > 0 {
        bench.store.sweep(NOW + 1_000 * SECOND);
    }
    report(
        "expire",
        start.elapsed().as_nanos() as f64 / series as f64,
        "ns/series",
        None,
    );
}

/// Fifty metrics with interleaved series, so that series of one family are not adjacent.
fn scattered() {
    let mut bench = Bench::new();
    for at in 0..SERIES {
        let fp = bench.fingerprinter.of(&at.to_le_bytes());
        let series = bench.define(Kind::Number, at % 50, at, fp);
        bench.write(Kind::Number, series, 0);
    }
    report_copy("scattered", &mut bench);
}

fn fan_out() {
    const BATCHES: usize = 2_000;
    const ROWS: u32 = 100;
    for subscribers in [1, 8] {
        let mut bench = Bench::new();
        let schema = bench
            .store
            .schema(EventKind::Event, "a.b", Vec::new(), Vec::new())
            .unwrap();
        let request = || StreamRequest {
            kind: EventKind::Event,
            patterns: vec![Pattern::new("a.*").unwrap()],
            replay_from: None,
            resume_from: None,
        };
        let all: Vec<Subscription> = (0..subscribers)
            .map(|_| bench.store.subscribe(request(), NOW).unwrap())
            .collect();
        let ns = best(BATCHES * ROWS as usize * subscribers, |_| {
            for _ in 0..BATCHES {
                let position = bench.store.next_position(EventKind::Event);
                let body = vec![0; 5_600].into();
                let (schema, source) = (schema.clone(), bench.source.clone());
                bench.store.publish(Batch {
                    schema,
                    source,
                    position,
                    rows: ROWS,
                    received: NOW,
                    body,
                });
                for subscription in &all {
                    black_box(subscription.items.try_recv());
                }
            }
        });
        report(
            &format!("fan-out to {subscribers}"),
            ns,
            "ns/event and subscriber",
            Some(5.0),
        );
    }
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(f64::NAN);
    pages * 4096.0
}

fn memory(kind: Kind, name: &str, budget: f64) {
    let mut bench = Bench::new();
    let before = resident();
    for at in 0..SERIES {
        let fp = bench.fingerprinter.of(&at.to_le_bytes());
        let series = bench.define(kind, at / 2_000, at, fp);
        bench.write(kind, series, 1);
    }
    let per = (resident() - before) / SERIES as f64;
    report(
        &format!("memory {name}"),
        per,
        "B/series (resident)",
        Some(budget),
    );
    report(
        &format!("account {name}"),
        bench.store.bytes() as f64 / SERIES as f64,
        "B/series (accounted)",
        None,
    );
}

fn main() {
    match std::env::var("STORE_BENCH_MEMORY").as_deref() {
        Ok("number") => return memory(Kind::Number, "number", 400.0),
        Ok("histogram") => return memory(Kind::Histogram, "histogram", 700.0),
        Ok("exponential") => return memory(Kind::Exponential, "exponential", 1_843.0),
        _ => {}
    }
    points_and_copies();
    scattered();
    if std::env::var_os("STORE_BENCH_ONLY_TIMES").is_some() {
        return;
    }
    fan_out();
    for kind in ["number", "histogram", "exponential"] {
        let this = std::env::current_exe().expect("the bench is a file");
        let ran = std::process::Command::new(this)
            .env("STORE_BENCH_MEMORY", kind)
            .status();
        assert!(ran.is_ok_and(|status| status.success()), "{kind}");
    }
}
