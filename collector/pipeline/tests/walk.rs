//! A random walk over all operations that change bytes and references: no exposition identity is shown twice, and all memory is freed.
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{
    Attributes, Exemplar, Expiry, Factor, Limits, MetricKind, NameStyle, Number, Query, Resolution, Resolver,
    SECOND, Source, Temporality,
};
use dichroic_pipeline::{
    Buckets, Core, ExponentialPoint, HistogramPoint, Job, Progress, SeriesRef, Snapshot, SnapshotRequest,
    SummaryPoint, Times, channel,
};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

/// Xorshift, so that a failing seed can be reported.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn choose<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

/// Resolves differently after every reload.
struct Reloading(AtomicU64);

impl Resolver for Reloading {
    fn resolve(&self, query: &Query<'_>) -> Resolution {
        let mut resolution = Resolution::plain(query);
        let generation = self.generation();
        resolution.mapped = generation % 3 == 1;
        if generation % 2 == 1 && query.def.name == "a.b" {
            resolution.rename = vec![("k".to_owned(), "kk".to_owned())];
            resolution.name = "other".to_owned();
        }
        resolution
    }

    fn generation(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const KEYS: [&str; 5] = ["s0", "s1", "s2", "s3", "s4"];
const EXPIRIES: [Expiry; 3] = [
    Expiry::ByReceiver,
    Expiry::AfterEnd(60 * SECOND),
    Expiry::AfterIdle(300 * SECOND),
];
const KINDS: [MetricKind; 8] = [
    MetricKind::Gauge,
    MetricKind::COUNTER,
    MetricKind::Histogram,
    MetricKind::ExponentialHistogram,
    MetricKind::Summary,
    MetricKind::Sum { monotonic: false },
    MetricKind::Unknown,
    MetricKind::GaugeHistogram,
];
const BOUNDS: [&[f64]; 4] = [&[1.0, 2.0], &[10.0, 20.0], &[1.0], &[]];
const NAMES: [&str; 6] = ["a.b", "a_b", "a.b.total", "a", "a_bucket", "a_sum"];
const LABELS: [&str; 5] = ["k", "k.", "k_", "job", "otel_metric_overflow"];
const VALUES: [&str; 6] = ["x", "y", "z", "w", "", "\"q\\\n"];

struct Walk {
    random: Random,
    /// Whether counts may exceed 32 bits.
    wide: bool,
    resolver: Arc<Reloading>,
    store: Core,
    now: u64,
    copy: Option<(Snapshot, channel::Receiver<Vec<dichroic_pipeline::Row>>)>,
}

impl Walk {
    fn new(seed: u64, wide: bool) -> Self {
        let resolver = Arc::new(Reloading(AtomicU64::new(0)));
        let limits = Limits {
            series: 40,
            series_per_metric: 12,
            series_per_source: 25,
            sources: 4,
            ..Limits::default()
        };
        Walk {
            random: Random(seed.max(1)),
            wide,
            store: Core::new(limits, resolver.clone(), NOW),
            resolver,
            now: NOW,
            copy: None,
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=1 => {
                let ids: Vec<_> = self.store.sources().map(|(source, ..)| source.id).collect();
                if let Some(id) = ids.get(self.random.below(5) as usize) {
                    self.store.end_source(*id, self.now);
                }
            }
            2..=4 => {
                self.now += self.random.below(100) * SECOND;
                self.store.sweep(self.now);
            }
            5 => {
                self.resolver.0.fetch_add(1, Ordering::Relaxed);
                self.store.sweep(self.now);
            }
            6 => self.now -= self.random.below(50) * SECOND,
            7 => self.copy = Some(Snapshot::new(SnapshotRequest::default())),
            8..=20 => self.step_copy(),
            _ => self.point(),
        }
    }

    fn step_copy(&mut self) {
        let Some((job, chunks)) = &mut self.copy else {
            return;
        };
        let progress = job.step(&mut self.store, &mut Context::from_waker(Waker::noop()));
        while chunks.try_recv().is_some() {}
        if progress == Progress::Done {
            self.copy = None;
        }
    }

    /// Defines a series and writes a point, an exemplar sometimes too; sometimes expires it.
    fn point(&mut self) {
        let mut spec = spec(self.random.choose(&KEYS), Expiry::ByReceiver);
        spec.expiry = EXPIRIES[(spec.key[1] % 3) as usize];
        let host = ["h", "g"][(spec.key[1] % 2) as usize];
        let pid = ["1", "2", "3"][(spec.key[1] % 3) as usize];
        spec.resource = Attributes::of(&[("host.name", host), ("process.pid", pid)]);
        if self.random.one_in(60) {
            spec.job = "other".into();
        }
        let Ok(source) = self.store.open_source(spec, self.now) else {
            return;
        };
        let def = self.def();
        let value = self.random.choose(&VALUES);
        let pairs = [(self.random.choose(&LABELS), value), ("k!", "t")];
        let attributes = &pairs[..self.random.below(3) as usize];
        let Some(series) = self.define(&source, def, attributes) else {
            return;
        };
        self.write(series, def);
        if self.random.one_in(10) {
            let exemplar = Exemplar {
                value: 1.0,
                time: 1,
                attributes: Attributes::of(&[("q", value)]),
            };
            self.store.set_exemplar(series, exemplar);
        }
        if self.random.one_in(12) {
            self.store.expire(series);
        }
    }

    fn def(&mut self) -> Def<'static> {
        let (now, random) = (self.now, &mut self.random);
        let kind = random.choose(&KINDS);
        let explicit = matches!(kind, MetricKind::Histogram | MetricKind::GaugeHistogram);
        let bounds = random.choose(&BOUNDS);
        Def {
            name: random.choose(&NAMES),
            unit: random.choose(&["", "ms", "s"]),
            kind,
            style: random.choose(&[
                NameStyle::Verbatim,
                NameStyle::OpenTelemetry,
                NameStyle::OpenTelemetry,
            ]),
            temporality: random.choose(&[Temporality::Delta, Temporality::Cumulative]),
            factor: if random.one_in(4) {
                Factor { num: 1, den: 1000 }
            } else {
                Factor::ONE
            },
            bounds: (explicit && !random.one_in(20)).then_some(bounds),
            scope: random.choose(&["", "a", "b"]),
            start: random.choose(&[0, now, now + SECOND]),
        }
    }

    fn define(&mut self, source: &Source, def: Def<'_>, attributes: &[(&str, &str)]) -> Option<SeriesRef> {
        let defined = if self.random.one_in(4) {
            // An incomplete raw identity: other bounds or another factor have the same fingerprint.
            let raw = format!("{} {:?} {attributes:?}", def.name, def.kind);
            define_as(&mut self.store, source, &raw, def, attributes)
        } else {
            define_series(&mut self.store, source, def, attributes)
        };
        defined.ok()
    }

    /// Writes a random point, which may be rejected.
    fn write(&mut self, series: SeriesRef, def: Def<'_>) {
        let (now, random) = (self.now, &mut self.random);
        let times = Times {
            start: random.choose(&[0, NOW, NOW + 1, now]),
            time: now - random.below(3),
            now,
        };
        let unit = if self.wide && random.one_in(5) {
            u64::from(u32::MAX)
        } else {
            5
        };
        // For a series without bounds, the number of counts is arbitrary.
        let buckets = def.bounds.unwrap_or_else(|| random.choose(&BOUNDS)).len() + 1;
        let counts: Vec<u64> = (0..buckets).map(|_| random.below(9) * unit).collect();
        let value = Number::int(random.below(100) as i64 - 10);
        let delta = def.temporality == Temporality::Delta;
        let store = &mut self.store;
        let _ = match def.kind {
            MetricKind::Histogram | MetricKind::GaugeHistogram => {
                let point = HistogramPoint {
                    counts: &counts,
                    sum: Some(value),
                    min_max: None,
                };
                if delta {
                    store.add_histogram(series, &point, times)
                } else {
                    store.set_histogram(series, &point, times)
                }
            }
            MetricKind::ExponentialHistogram => {
                let point = exponential(random, &counts, value);
                if delta {
                    store.add_exponential(series, &point, times)
                } else {
                    store.set_exponential(series, &point, times)
                }
            }
            MetricKind::Summary => {
                let point = SummaryPoint {
                    count: 1,
                    sum: value,
                    quantiles: &[(0.5, 1.0)][..random.below(2) as usize],
                };
                store.set_summary(series, &point, times)
            }
            _ if delta => store.add_number(series, value, times),
            _ => store.set_number(series, value, times),
        };
    }

    /// Every sample is on the page once.
    fn check_identities(&mut self, context: &str) {
        let mut seen = HashSet::new();
        for row in rows(&mut self.store).iter().filter(|row| row.hidden.is_none()) {
            let mut labels: Vec<_> = dichroic_model::labels::read(&row.meta.labels())
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name.to_owned(), value.into_owned()))
                .collect();
            labels.sort();
            for name in sample_names(&row.meta.metric.family) {
                let sample = (name, labels.clone());
                assert!(!seen.contains(&sample), "{context}: {sample:?} twice");
                seen.insert(sample);
            }
        }
    }

    fn end(mut self, context: &str) {
        self.copy = None;
        let ids: Vec<_> = self.store.sources().map(|(source, ..)| source.id).collect();
        for id in ids {
            self.store.end_source(id, self.now);
        }
        for _ in 0..20 {
            self.store.sweep(self.now + 100_000 * SECOND);
        }
        let store = &self.store;
        let left = (store.series(), store.live_bytes(), store.metrics().count());
        assert_eq!(left, (0, 0, 0), "{context}");
    }
}

fn exponential<'a>(random: &mut Random, counts: &'a [u64], sum: Number) -> ExponentialPoint<'a> {
    ExponentialPoint {
        scale: random.below(4) as i32,
        zero_count: 1,
        zero_threshold: 0.0,
        positive: Buckets {
            offset: random.below(900) as i32 - 400,
            counts,
        },
        negative: Buckets::default(),
        sum: Some(sum),
        min_max: None,
    }
}

fn walk(seed: u64, steps: usize, wide: bool) {
    let mut walk = Walk::new(seed, wide);
    for step in 0..steps {
        walk.step();
        if step % 16 == 0 {
            walk.check_identities(&format!("seed {seed}, step {step}"));
        }
    }
    walk.end(&format!("seed {seed}"));
}

#[test]
fn a_random_walk_frees_all_memory() {
    for seed in 1..20 {
        walk(seed * 7_919, 1_500, false);
        walk(seed * 104_729, 1_500, true);
    }
}
