//! Random series, with names that collide, texts that look like syntax, and values that a format forbids.

use super::{Def, Kit, NOW};
use dichroic_model::{Factor, MetricKind, NameStyle, Number, Protocol, Source};
use dichroic_pipeline::{Buckets, ExponentialPoint, HistogramPoint, SummaryPoint, Times};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub struct Series {
    source: usize,
    name: String,
    scraped: bool,
    unit: &'static str,
    help: String,
    kind: MetricKind,
    labels: Vec<(String, String)>,
    value: f64,
    counts: Vec<u64>,
    /// Scale, and offsets of both sides, of an exponential histogram.
    exponential: (i32, i32, i32),
    start_explicit: bool,
}

fn kinds() -> impl Strategy<Value = MetricKind> {
    prop::sample::select(vec![
        MetricKind::Gauge,
        MetricKind::COUNTER,
        MetricKind::Sum { monotonic: false },
        MetricKind::Histogram,
        MetricKind::ExponentialHistogram,
        MetricKind::Summary,
        MetricKind::Unknown,
        MetricKind::Info,
        MetricKind::StateSet,
        MetricKind::GaugeHistogram,
    ])
}

fn values() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(1.0),
        any::<f64>(),
        -1e3..1e3,
        Just(f64::NAN),
        Just(f64::INFINITY),
        (-1000i32..1000).prop_map(f64::from)
    ]
}

/// Names from a small alphabet, so that they collide, with suffixes that have a meaning on a page.
fn name() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a",
        "b",
        "a.b",
        "target",
        "target_info",
        "9",
        "é",
        "A:b",
        "",
        "U__a_2e_b",
        "U___22_",
        "a\"\n",
    ]);
    let suffix = prop::sample::select(vec![
        "", "_total", "_sum", "_count", "_bucket", "_created", "_info", ".seconds",
    ]);
    (word, suffix).prop_map(|(word, suffix)| format!("{word}{suffix}"))
}

fn labels() -> impl Strategy<Value = Vec<(String, String)>> {
    let key = prop::sample::select(vec![
        "a",
        "a.b",
        "a_b",
        "le",
        "exported_le",
        "quantile",
        "job",
        "instance",
        "runtime",
        "b",
        "target",
        "",
        "é",
        "U___61_",
        "U___22_",
        "U______name____",
        "__name__",
        "a\"\\\n",
    ]);
    let value = prop_oneof![Just(String::new()), "[a\"\\\\\n,={}# é]{0,5}"];
    prop::collection::vec((key.prop_map(str::to_owned), value), 0..4)
}

/// Few small counts, and any.
fn counts() -> impl Strategy<Value = Vec<u64>> {
    let count = prop_oneof![4 => 0..5u64, 1 => any::<u64>()];
    prop::collection::vec(count, 1..6)
}

/// Small scales and offsets, and any.
fn exponential() -> impl Strategy<Value = (i32, i32, i32)> {
    let scale = prop_oneof![4 => -2..3, 1 => -10..21, 1 => any::<i32>()];
    let offset = || prop_oneof![4 => -5..5, 1 => -5_000..5_000, 1 => any::<i32>()];
    (scale, offset(), offset())
}

pub fn series() -> impl Strategy<Value = Series> {
    let unit = prop::sample::select(vec!["", "s", "ms", "By", "1", "{x}", "seconds"]);
    (
        (
            0..4usize,
            name(),
            any::<bool>(),
            unit,
            "[a\"\\\\\n]{0,4}",
            kinds(),
        ),
        (labels(), values(), counts(), exponential(), any::<bool>()),
    )
        .prop_map(
            |(
                (source, name, scraped, unit, help, kind),
                (labels, value, counts, exponential, start_explicit),
            )| Series {
                source,
                name,
                scraped,
                unit,
                help,
                kind,
                labels,
                value,
                counts,
                exponential,
                start_explicit,
            },
        )
}

pub fn apply(kit: &mut Kit, source: &Source, s: &Series) {
    let labels: Vec<(&str, &str)> = s.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let bounds: Vec<f64> = (0..s.counts.len() - 1).map(|at| at as f64 - 0.5).collect();
    let explicit = matches!(s.kind, MetricKind::Histogram | MetricKind::GaugeHistogram);
    let def = Def {
        name: &s.name,
        style: if s.scraped {
            NameStyle::Scraped
        } else {
            NameStyle::OpenTelemetry
        },
        unit: s.unit,
        help: &s.help,
        kind: s.kind,
        factor: Factor::ONE,
        bounds: explicit.then_some(&bounds),
    };
    let series = kit.series(source, &def, &labels);
    let times = Times {
        start: if s.start_explicit { NOW - 1 } else { 0 },
        ..Times::at(NOW)
    };
    let (counts, sum) = (&s.counts, (s.value != 0.0).then_some(Number::float(s.value)));
    // The store may reject a point when another of these series has other bounds.
    let _ = match s.kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => {
            let point = HistogramPoint {
                counts,
                sum,
                min_max: None,
            };
            kit.store.set_histogram(series, &point, times)
        }
        MetricKind::ExponentialHistogram => {
            let (scale, positive, negative) = s.exponential;
            let point = ExponentialPoint {
                scale,
                zero_count: 1,
                zero_threshold: s.value.abs().min(1.0),
                positive: Buckets {
                    offset: positive,
                    counts,
                },
                negative: Buckets {
                    offset: negative,
                    counts,
                },
                sum,
                min_max: None,
            };
            kit.store.set_exponential(series, &point, times)
        }
        MetricKind::Summary => {
            let last = if s.counts[0] == 0 { 1.5 } else { 0.99 };
            let quantiles = [(0.5, s.value), (0.9, 1.0), (last, 2.0)];
            let point = SummaryPoint {
                count: 1,
                sum: Number::float(s.value),
                quantiles: &quantiles,
            };
            kit.store.set_summary(series, &point, times)
        }
        _ => kit.store.set_number(series, Number::float(s.value), times),
    };
}

/// A store with these series, from sources with similar identities.
pub fn filled(all: &[Series]) -> Kit {
    let mut kit = Kit::default();
    let sources = [
        kit.source(Protocol::Otlp, "j", "i", &[("host.name", "h")]),
        kit.source(Protocol::Prometheus, "j", "i", &[]),
        kit.source(Protocol::Beam, "", "", &[]),
        kit.source(Protocol::Beam, "k", "", &[("job", "j"), ("a", "\"\n")]),
    ];
    for series in all {
        apply(&mut kit, &sources[series.source], series);
    }
    kit
}
