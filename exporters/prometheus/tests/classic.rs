//! Counts of exponential histograms at classic bounds: none falls while a series has one start, whatever its senders do to their
//! buckets, and each is between the values that are known to be at or below the bound and those that are.

mod common;

use common::{Kit, NOW};
use dichroic_exporter_prometheus::Format;
use dichroic_model::{
    AttributeValue, Expiry, Factor, Fingerprint, MetricKind, NameStyle, Number, Protocol, SECOND, Scope,
    SeriesDef, SourceSpec, Temporality,
};
use dichroic_pipeline::{Buckets, ExponentialPoint, SeriesRef, Times};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// All values lie within 160 buckets of this scale.
const SAFE_SCALE: i32 = 2;

/// How the two senders of a test write.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// Only the first, cumulative.
    Single,
    /// Only the first, deltas.
    Delta,
    /// Two processes write one series.
    Writers,
    /// Two series with equal labels on the page.
    Parts,
}

#[derive(Debug, Clone)]
enum Step {
    Observe(Vec<f64>),
    /// Lowers the scale.
    Coarsen(i32),
    /// Raises the scale, as after a reset of an SDK's buckets.
    Refine,
    ZeroThreshold(f64),
    Push,
    Page,
    /// Starts to count anew.
    Restart,
    /// An explicit histogram joins the family.
    Explicit(Vec<f64>),
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let value = prop_oneof![
        8 => (-3.0..1.0_f64).prop_map(|power| 10_f64.powf(power)),
        1 => (-3.0..3.0_f64).prop_map(|power| 10_f64.powf(power)),
        1 => Just(0.0),
        1 => (-2.0..1.0_f64).prop_map(|power| -(10_f64.powf(power))),
    ];
    let list = || prop::collection::btree_set(1..60_u32, 1..8);
    let step = prop_oneof![
        6 => prop::collection::vec(value, 1..40).prop_map(Step::Observe),
        3 => (1..3).prop_map(Step::Coarsen),
        1 => Just(Step::Refine),
        1 => (-3.0..-1.0_f64).prop_map(|power| Step::ZeroThreshold(10_f64.powf(power))),
        8 => Just(Step::Push),
        5 => Just(Step::Page),
        1 => Just(Step::Restart),
        1 => list().prop_map(|list| Step::Explicit(list.into_iter().map(|n| f64::from(n) / 20.0).collect())),
    ];
    (0..2_usize, step)
}

struct Sender {
    series: SeriesRef,
    start: u64,
    scale: i32,
    zero_threshold: f64,
    values: Vec<f64>,
    /// Values that have been pushed.
    pushed: usize,
}

fn lower_edge(value: f64, scale: i32) -> f64 {
    (f64::from(index_of(value, scale)) * f64::from(-scale).exp2()).exp2()
}

fn upper_edge(value: f64, scale: i32) -> f64 {
    (f64::from(index_of(value, scale) + 1) * f64::from(-scale).exp2()).exp2()
}

fn index_of(value: f64, scale: i32) -> i32 {
    (value.log2() * f64::from(scale).exp2() - 1e-12).ceil() as i32 - 1
}

impl Sender {
    fn push(&mut self, kit: &mut Kit, delta: bool, now: u64) {
        let values = if delta {
            &self.values[self.pushed..]
        } else {
            &self.values[..]
        };
        let is_zero = |value: &&f64| value.abs() <= self.zero_threshold;
        let side = |sign: f64| {
            let outside = values
                .iter()
                .filter(|value| !is_zero(value) && **value * sign > 0.0);
            let indexes: Vec<i32> = outside.map(|value| index_of(value.abs(), self.scale)).collect();
            let first = indexes.iter().min().copied().unwrap_or(0);
            let mut counts = vec![0; indexes.iter().max().map_or(0, |last| (last - first + 1) as usize)];
            indexes
                .iter()
                .for_each(|index| counts[(index - first) as usize] += 1);
            (first, counts)
        };
        let (positive, negative) = (side(1.0), side(-1.0));
        let point = ExponentialPoint {
            scale: self.scale,
            zero_count: values.iter().filter(is_zero).count() as u64,
            zero_threshold: self.zero_threshold,
            positive: Buckets {
                offset: positive.0,
                counts: &positive.1,
            },
            negative: Buckets {
                offset: negative.0,
                counts: &negative.1,
            },
            sum: Some(Number::float(values.iter().sum())),
            min_max: None,
        };
        let start = if delta { now - 1 } else { self.start };
        let times = Times {
            start,
            time: now,
            now,
        };
        if delta {
            kit.store.add_exponential(self.series, &point, times).unwrap();
        } else {
            kit.store.set_exponential(self.series, &point, times).unwrap();
        }
        self.pushed = self.values.len();
    }
}

struct World {
    kit: Kit,
    mode: Mode,
    senders: Vec<Sender>,
    /// Values of totals that a restart ended.
    retired: Vec<f64>,
    coarsest: i32,
    largest_zero: f64,
    now: u64,
    fingerprint: u64,
    /// Counts by bound on the last page.
    shown: BTreeMap<u64, u64>,
}

impl World {
    fn new(mode: Mode) -> Self {
        let mut world = World {
            kit: Kit::default(),
            mode,
            senders: Vec::new(),
            retired: Vec::new(),
            coarsest: SAFE_SCALE,
            largest_zero: 0.0,
            now: NOW,
            fingerprint: 0,
            shown: BTreeMap::new(),
        };
        for (at, attribute) in [AttributeValue::Int(1), "1".into()].into_iter().enumerate() {
            let series = match mode {
                Mode::Parts => world.define(MetricKind::ExponentialHistogram, attribute, None),
                _ => match world.senders.first() {
                    Some(first) => first.series,
                    None => world.define(MetricKind::ExponentialHistogram, attribute, None),
                },
            };
            world.senders.push(Sender {
                series,
                start: NOW - 10 - at as u64,
                scale: 8,
                zero_threshold: 0.0,
                values: Vec::new(),
                pushed: 0,
            });
        }
        // A start that returns: several processes write the series.
        for at in [0, 1, 0].into_iter().filter(|_| mode == Mode::Writers) {
            world.now += SECOND;
            world.senders[at].push(&mut world.kit, false, world.now);
        }
        world
    }

    fn define(
        &mut self,
        kind: MetricKind,
        attribute: AttributeValue<'_>,
        bounds: Option<&[f64]>,
    ) -> SeriesRef {
        let source = SourceSpec {
            expiry: Expiry::AfterIdle(3_600 * SECOND),
            ..SourceSpec::new(Protocol::Otlp, "j")
        };
        let source = self.kit.store.open_source(source, NOW).unwrap();
        self.fingerprint += 1;
        let def = SeriesDef {
            source: source.id,
            scope: &Scope::default(),
            name: "work",
            style: NameStyle::OpenTelemetry,
            unit: "s",
            help: "",
            kind,
            temporality: match self.mode {
                Mode::Delta if bounds.is_none() => Temporality::Delta,
                _ => Temporality::Cumulative,
            },
            factor: Factor::ONE,
            attributes: vec![("a".into(), attribute)],
            start: 0,
            bounds: bounds.map(Into::into),
        };
        let fingerprint = Fingerprint {
            low: self.fingerprint,
            high: 1,
        };
        self.kit.store.define(fingerprint, def).unwrap()
    }

    fn take(&mut self, at: usize, step: Step) -> Result<(), TestCaseError> {
        let at = if matches!(self.mode, Mode::Writers | Mode::Parts) {
            at
        } else {
            0
        };
        self.now += SECOND;
        let sender = &mut self.senders[at];
        match step {
            Step::Observe(values) => sender.values.extend(values),
            Step::Coarsen(by) => sender.scale = (sender.scale - by).max(-4),
            Step::Refine => sender.scale = (sender.scale + 2).min(8),
            Step::ZeroThreshold(to) => sender.zero_threshold = sender.zero_threshold.max(to),
            Step::Push => {
                let delta = self.mode == Mode::Delta;
                self.coarsest = self.coarsest.min(sender.scale);
                self.largest_zero = self.largest_zero.max(sender.zero_threshold);
                sender.push(&mut self.kit, delta, self.now);
            }
            Step::Restart if matches!(self.mode, Mode::Single | Mode::Parts) && sender.pushed > 0 => {
                sender.values.truncate(sender.pushed);
                let ended = std::mem::take(&mut sender.values);
                (sender.pushed, sender.start) = (0, self.now);
                match self.mode {
                    Mode::Parts => self.retired.extend(ended),
                    _ => self.shown.clear(),
                }
                // Until then, the page has the total of the earlier process.
                sender.push(&mut self.kit, false, self.now);
            }
            Step::Explicit(bounds) => {
                let counts = vec![1; bounds.len() + 1];
                let name = format!("explicit-{}", self.fingerprint);
                let series = self.define(MetricKind::Histogram, name.as_str().into(), Some(&bounds));
                let point = dichroic_pipeline::HistogramPoint {
                    counts: &counts,
                    sum: None,
                    min_max: None,
                };
                self.kit
                    .store
                    .set_histogram(series, &point, Times::at(self.now))
                    .unwrap();
            }
            Step::Page => self.check()?,
            Step::Restart => {}
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let page = self.kit.page(Format::Text);
        let pushed = self
            .senders
            .iter()
            .flat_map(|sender| &sender.values[..sender.pushed]);
        let values: Vec<f64> = pushed.chain(&self.retired).copied().collect();
        let mut before = 0;
        for line in page
            .lines()
            .filter(|line| line.contains("a=\"1\"") && line.contains("_bucket"))
        {
            let (_, rest) = line.split_once("le=\"").unwrap();
            let (bound, rest) = rest.split_once('"').unwrap();
            let count: u64 = rest.trim_start_matches("} ").parse().unwrap();
            let bound: f64 = bound.parse().unwrap();
            let most = values
                .iter()
                .filter(|value| **value <= bound + bound.abs() * 1e-9)
                .count() as u64;
            let least_bound = |value: f64| match value {
                0.0 => 0.0,
                value if value > 0.0 => upper_edge(value, self.coarsest),
                value => -lower_edge(-value, self.coarsest),
            };
            let is_below = |value: &f64| {
                let in_zero_bucket = value.abs() <= self.largest_zero;
                bound - bound.abs() * 1e-9 >= least_bound(*value)
                    && !(in_zero_bucket && bound < self.largest_zero)
            };
            let least = values.iter().filter(|value| is_below(value)).count() as u64;
            prop_assert!(count >= before, "not cumulative: {line}\n{page}");
            prop_assert!(count <= most, "{most} values are at or below: {line}");
            prop_assert!(count >= least, "{least} values are certainly at or below: {line}");
            let last = self.shown.insert(bound.to_bits(), count).unwrap_or(0);
            prop_assert!(count >= last, "it was {last}: {line}");
            before = count;
        }
        prop_assert_eq!(before, values.len() as u64, "the count of +Inf");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_count_at_a_bound_falls_within_one_start_time(
        mode in prop::sample::select(vec![Mode::Single, Mode::Delta, Mode::Writers, Mode::Parts]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(mode);
        for (at, step) in steps {
            world.take(at, step)?;
        }
        world.check()?;
    }
}
