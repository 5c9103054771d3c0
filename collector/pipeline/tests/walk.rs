//! A random walk over everything that changes bytes and references: no place on the page is shown twice, and in the end nothing is held.
#![allow(clippy::too_many_lines, reason = "a test reads best in one piece")]
#![cfg(not(loom))]

mod common;

use common::*;
use dichroic_model::{
    Attributes, Exemplar, Expiry, Factor, Limits, MetricKind, NameStyle, Number, Query, Resolution, Resolver,
    SECOND, Temporality,
};
use dichroic_pipeline::{
    Buckets, Core, ExponentialPoint, HistogramPoint, Job, Progress, Snapshot, SnapshotRequest, SummaryPoint,
    Times,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

/// Xorshift: a seed that fails can be named.
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
}

/// Means something else after every reload.
struct Says(AtomicU64);

impl Resolver for Says {
    fn resolve(&self, query: &Query<'_>) -> Resolution {
        let mut r = Resolution::plain(query);
        let generation = self.0.load(Ordering::Relaxed);
        r.mapped = generation % 3 == 1;
        if generation % 2 == 1 && query.def.name == "a.b" {
            r.rename = vec![("k".to_owned(), "kk".to_owned())];
            r.name = "other".to_owned();
        }
        r
    }
    fn generation(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[allow(clippy::too_many_lines, reason = "one loop over every kind of step")]
fn walk(seed: u64, steps: usize, wide: bool) {
    let mut r = Random(seed.max(1));
    let says = Arc::new(Says(AtomicU64::new(0)));
    let limits = Limits {
        series: 40,
        series_per_metric: 12,
        series_per_source: 25,
        sources: 4,
        ..Limits::default()
    };
    let mut store = Core::new(limits, says.clone(), NOW);
    let mut now = NOW;
    let keys = ["s0", "s1", "s2", "s3", "s4"];
    let leavings = [
        Expiry::ByReceiver,
        Expiry::AfterEnd(60 * SECOND),
        Expiry::AfterIdle(300 * SECOND),
    ];
    let kinds = [
        MetricKind::Gauge,
        MetricKind::COUNTER,
        MetricKind::Histogram,
        MetricKind::ExponentialHistogram,
        MetricKind::Summary,
        MetricKind::Sum { monotonic: false },
        MetricKind::Unknown,
        MetricKind::GaugeHistogram,
    ];
    let bounds: [&[f64]; 4] = [&[1.0, 2.0], &[10.0, 20.0], &[1.0], &[]];
    let names = ["a.b", "a_b", "a.b.total", "a", "a_bucket", "a_sum"];
    let mut job = None;
    for step in 0..steps {
        let mut spec = spec(keys[r.below(5) as usize], Expiry::ByReceiver);
        spec.expiry = leavings[(spec.key[1] % 3) as usize];
        if r.below(60) == 0 {
            spec.job = "other".into();
        }
        match r.below(100) {
            0..=1 => {
                let ids: Vec<_> = store.sources().map(|(s, ..)| s.id).collect();
                if let Some(id) = ids.get(r.below(5) as usize) {
                    store.end_source(*id, now);
                }
            }
            2..=4 => {
                now += r.below(100) * SECOND;
                store.sweep(now);
            }
            5 => {
                says.0.fetch_add(1, Ordering::Relaxed);
                store.sweep(now);
            }
            6 => {
                now -= r.below(50) * SECOND;
            }
            7 => {
                let (j, chunks) = Snapshot::new(SnapshotRequest::default());
                job = Some((j, chunks));
            }
            8..=20 => {
                if let Some((j, chunks)) = &mut job {
                    let done = j.step(&mut store, &mut Context::from_waker(Waker::noop()));
                    while chunks.try_recv().is_some() {}
                    if done == Progress::Done {
                        job = None;
                    }
                }
            }
            _ => {
                let Ok(source) = store.open_source(spec, now) else {
                    continue;
                };
                let kind = kinds[r.below(8) as usize];
                let histogram = matches!(kind, MetricKind::Histogram | MetricKind::GaugeHistogram);
                let b = bounds[r.below(4) as usize];
                let unit = ["", "ms", "s"][r.below(3) as usize];
                let def = Def {
                    name: names[r.below(6) as usize],
                    unit,
                    kind,
                    style: if r.below(3) == 0 {
                        NameStyle::Verbatim
                    } else {
                        NameStyle::OpenTelemetry
                    },
                    temporality: if r.below(2) == 0 {
                        Temporality::Delta
                    } else {
                        Temporality::Cumulative
                    },
                    factor: if r.below(4) == 0 {
                        Factor { num: 1, den: 1000 }
                    } else {
                        Factor::ONE
                    },
                    bounds: (histogram && r.below(20) != 0).then_some(b),
                };
                let v = ["x", "y", "z", "w", "", "\"q\\\n"][r.below(6) as usize];
                let label = ["k", "k.", "k_", "job", "otel_metric_overflow"][r.below(5) as usize];
                let two = [(label, v), ("k!", "t")];
                let attributes = &two[..r.below(3) as usize];
                // Now and then the raw spelling tells less than there is: another bounds or factor under one print.
                let met = if r.below(4) == 0 {
                    let raw = format!("{} {:?} {attributes:?}", def.name, def.kind);
                    define_as(&mut store, &source, &raw, def, attributes)
                } else {
                    define_series(&mut store, &source, def, attributes)
                };
                let Ok(series) = met else { continue };
                let t = now - r.below(3);
                let start = [0, NOW, now][r.below(3) as usize];
                let big = if wide && r.below(5) == 0 {
                    u64::from(u32::MAX)
                } else {
                    5
                };
                let counts: Vec<u64> = (0..=b.len()).map(|_| r.below(9) * big).collect();
                let value = Number::int(r.below(100) as i64 - 10);
                let e = ExponentialPoint {
                    scale: r.below(4) as i32,
                    zero_count: 1,
                    zero_threshold: 0.0,
                    positive: Buckets {
                        offset: r.below(900) as i32 - 400,
                        counts: &counts,
                    },
                    negative: Buckets::default(),
                    sum: Some(value),
                    min_max: None,
                };
                let delta = def.temporality == Temporality::Delta;
                let _ = match kind {
                    MetricKind::Histogram | MetricKind::GaugeHistogram => {
                        let p = HistogramPoint {
                            counts: &counts,
                            sum: Some(value),
                            min_max: None,
                        };
                        if delta {
                            store.add_histogram(series, &p, Times { start, time: t, now })
                        } else {
                            store.set_histogram(series, &p, Times { start, time: t, now })
                        }
                    }
                    MetricKind::ExponentialHistogram => {
                        if delta {
                            store.add_exponential(series, &e, Times { start, time: t, now })
                        } else {
                            store.set_exponential(series, &e, Times { start, time: t, now })
                        }
                    }
                    MetricKind::Summary => store.set_summary(
                        series,
                        &SummaryPoint {
                            count: 1,
                            sum: value,
                            quantiles: &[(0.5, 1.0)][..r.below(2) as usize],
                        },
                        Times { start, time: t, now },
                    ),
                    _ => {
                        if delta {
                            store.add_number(series, value, Times { start, time: t, now })
                        } else {
                            store.set_number(series, value, Times { start, time: t, now })
                        }
                    }
                };
                if r.below(10) == 0 {
                    store.set_exemplar(
                        series,
                        Exemplar {
                            value: 1.0,
                            time: 1,
                            attributes: Attributes::of(&[("q", v)]),
                        },
                    );
                }
                if r.below(12) == 0 {
                    store.expire(series);
                }
            }
        }
        if step % 16 == 0 {
            // What has a place on the page has it alone.
            let mut seen = std::collections::HashSet::new();
            for row in rows(&mut store).iter().filter(|r| !r.hidden) {
                let family = row.meta.metric.family.as_ref().unwrap().page.base.clone();
                let mut labels: Vec<_> = dichroic_model::labels::read(&row.meta.labels())
                    .filter(|(_, v)| !v.is_empty())
                    .map(|(a, b)| (a.to_owned(), b.into_owned()))
                    .collect();
                labels.sort();
                assert!(
                    seen.insert((family.clone(), labels.clone())),
                    "seed {seed} step {step}: twice {family} {labels:?}"
                );
            }
        }
    }
    drop(job);
    let ids: Vec<_> = store.sources().map(|(s, ..)| s.id).collect();
    for id in ids {
        store.end_source(id, now);
    }
    now += 100_000 * SECOND;
    for _ in 0..20 {
        store.sweep(now);
    }
    assert_eq!(
        (store.series(), store.live_bytes(), store.metrics().count()),
        (0, 0, 0),
        "seed {seed}"
    );
}

#[test]
fn a_random_walk_leaves_nothing_behind() {
    for seed in 1..20 {
        walk(seed * 7_919, 1_500, false);
        walk(seed * 104_729, 1_500, true);
    }
}
