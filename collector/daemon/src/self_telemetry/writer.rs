//! Writes the collector's own counters into the store, as a receiver writes received points.
//!
//! A round presents every series: [`Writer::number`] and the other setters collect values, [`Writer::finish`] writes them. A known series
//! costs a hash and a write into its cell. A series that a round does not present expires.

use super::stage::{self, BUCKETS, QUANTILES, Reading};
use dichroic_model::{
    AttributeValue, Factor, Fingerprint, Fingerprinter, MetricKind, NameStyle, Number, Scope, SeriesDef,
    Source, Temporality, UnixNanos,
};
use dichroic_pipeline::{Core, DropReason, HistogramPoint, SeriesRef, Signal, SummaryPoint, Times, Written};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A metric of the collector.
#[derive(Clone, Copy)]
pub struct Family {
    /// First part of the name; counters get the suffix `_total`.
    pub prefix: &'static str,
    /// Second part of the name.
    pub name: &'static str,
    /// Help text of the page.
    pub help: &'static str,
    /// Type of the metric.
    pub kind: MetricKind,
}

impl Family {
    fn full_name(&self) -> String {
        let suffix = if self.kind == MetricKind::COUNTER {
            "_total"
        } else {
            ""
        };
        format!("{}{}{suffix}", self.prefix, self.name)
    }
}

/// Label names and values.
pub type Labels<'a> = [(&'static str, &'a str)];

/// The collector's series, between rounds.
pub struct Writer {
    source: Arc<Source>,
    fingerprints: Fingerprinter,
    series: HashMap<Fingerprint, Known>,
    /// Series of this round that have to be defined.
    undefined: Vec<Undefined>,
    bounds: Arc<[f64]>,
    round: u64,
    /// Epoch of the store's resolver: after a change every series is defined again.
    resolver: u64,
    key: Vec<u8>,
}

struct Known {
    /// `None` while the store has not admitted it.
    series: Option<SeriesRef>,
    value: Value,
    /// The last round that presented it.
    round: u64,
}

#[derive(Clone, Copy)]
enum Value {
    Number(Number),
    Latency {
        buckets: [u64; BUCKETS],
        sum: Number,
    },
    /// The values of [`QUANTILES`].
    Quantiles {
        count: u64,
        sum: Number,
        values: [f64; QUANTILES.len()],
    },
}

struct Undefined {
    fingerprint: Fingerprint,
    family: Family,
    labels: Vec<(&'static str, String)>,
}

impl Writer {
    /// A writer of this source's series.
    pub fn new(core: &Core, source: Arc<Source>) -> Self {
        Writer {
            fingerprints: core.fingerprinter(source.id),
            source,
            series: HashMap::new(),
            undefined: Vec::new(),
            bounds: stage::bounds_seconds(),
            round: 0,
            resolver: core.resolver_generation(),
            key: Vec::new(),
        }
    }

    /// Begins a round.
    pub fn begin(&mut self, core: &Core) {
        self.round += 1;
        if self.resolver != core.resolver_generation() {
            self.resolver = core.resolver_generation();
            self.series.values_mut().for_each(|known| known.series = None);
        }
    }

    /// A count. Values of the same series in one round are added: sources may share a name.
    pub fn count(&mut self, family: &Family, labels: &Labels<'_>, value: u64) {
        self.number(family, labels, whole(value));
    }

    /// A number.
    pub fn number(&mut self, family: &Family, labels: &Labels<'_>, value: Number) {
        self.present(family, labels, Value::Number(value));
    }

    /// The buckets of a latency.
    pub fn latency(&mut self, family: &Family, labels: &Labels<'_>, reading: &Reading) {
        let value = Value::Latency {
            buckets: reading.buckets,
            sum: whole(reading.sum_nanos),
        };
        self.present(family, labels, value);
    }

    /// The quantiles of a latency.
    pub fn quantiles(&mut self, family: &Family, labels: &Labels<'_>, reading: &Reading) {
        let value = Value::Quantiles {
            count: reading.count(),
            sum: whole(reading.sum_nanos),
            values: reading.quantiles.map(|nanos| nanos as f64),
        };
        self.present(family, labels, value);
    }

    fn present(&mut self, family: &Family, labels: &Labels<'_>, value: Value) {
        let fingerprint = self.fingerprint(family, labels);
        let known = self.series.entry(fingerprint).or_insert(Known {
            series: None,
            value,
            round: 0,
        });
        if known.round == self.round {
            if let (Value::Number(sum), Value::Number(value)) = (&mut known.value, value) {
                sum.add(value);
            }
            return;
        }
        (known.value, known.round) = (value, self.round);
        if known.series.is_none() {
            let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned()));
            self.undefined.push(Undefined {
                fingerprint,
                family: *family,
                labels: labels.collect(),
            });
        }
    }

    fn fingerprint(&mut self, family: &Family, labels: &Labels<'_>) -> Fingerprint {
        self.key.clear();
        let texts = labels.iter().flat_map(|(name, value)| [*name, *value]);
        for text in [family.prefix, family.name].into_iter().chain(texts) {
            self.key.extend_from_slice(&(text.len() as u32).to_le_bytes());
            self.key.extend_from_slice(text.as_bytes());
        }
        self.fingerprints.of(&self.key)
    }

    /// Ends a round: writes what it presented, expires what it did not, and accounts for both in the ledger.
    pub fn finish(&mut self, core: &mut Core, now: UnixNanos) {
        let mut refused = HashMap::new();
        for undefined in std::mem::take(&mut self.undefined) {
            let defined = self.define(core, &undefined);
            let known = self.series.get_mut(&undefined.fingerprint);
            match (defined, known) {
                (Ok(series), Some(known)) => known.series = Some(series),
                (Err(reason), _) => drop(refused.insert(undefined.fingerprint, reason)),
                (Ok(_), None) => {}
            }
        }
        let (mut applied, mut hidden, mut dropped) = (0, Vec::new(), Vec::new());
        let round = self.round;
        self.series.retain(|fingerprint, known| {
            if known.round != round {
                known.series.into_iter().for_each(|series| core.expire(series));
                return false;
            }
            let reason = refused.get(fingerprint).copied();
            match known.write(core, reason.unwrap_or(DropReason::SeriesGone), now) {
                Ok(Written::Applied) => applied += 1,
                Ok(Written::Hidden(reason)) => hidden.push(reason),
                Err(reason) => {
                    known.series = None;
                    dropped.push(reason);
                }
            }
            true
        });
        let (id, ledger) = (self.source.id, core.ledger_mut());
        ledger.received(
            id,
            Signal::Metrics,
            applied + (hidden.len() + dropped.len()) as u64,
        );
        ledger.applied(id, Signal::Metrics, applied);
        for reason in hidden {
            ledger.hidden(id, Signal::Metrics, reason, 1);
        }
        for reason in dropped {
            ledger.dropped(id, Signal::Metrics, reason, 1);
        }
    }

    fn define(&self, core: &mut Core, undefined: &Undefined) -> Result<SeriesRef, DropReason> {
        let Undefined {
            fingerprint,
            family,
            labels,
        } = undefined;
        let attributes = labels
            .iter()
            .map(|(name, value)| (Cow::Borrowed(*name), AttributeValue::Str(value.as_str().into())));
        let definition = SeriesDef {
            source: self.source.id,
            scope: &Scope::default(),
            name: &family.full_name(),
            style: NameStyle::Verbatim,
            unit: "",
            help: family.help,
            kind: family.kind,
            temporality: Temporality::Cumulative,
            factor: match family.kind {
                // Stages are in nanoseconds: a sum stays a whole number in its cell.
                MetricKind::Histogram | MetricKind::Summary => Factor {
                    num: 1,
                    den: 1_000_000_000,
                },
                _ => Factor::ONE,
            },
            attributes: attributes.collect(),
            start: 0,
            bounds: (family.kind == MetricKind::Histogram).then(|| self.bounds.clone()),
        };
        core.define_report(*fingerprint, definition)
            .map_err(|refused| refused.0)
    }
}

impl Known {
    /// `reason`: why the series was not admitted, if it was not.
    fn write(&self, core: &mut Core, reason: DropReason, now: UnixNanos) -> Result<Written, DropReason> {
        let series = self.series.ok_or(reason)?;
        match &self.value {
            Value::Number(value) => core.set_number(series, *value, Times::at(now)),
            Value::Latency { buckets, sum } => {
                let point = HistogramPoint {
                    counts: buckets,
                    sum: Some(*sum),
                    min_max: None,
                };
                core.set_histogram(series, &point, Times::at(now))
            }
            Value::Quantiles { count, sum, values } => {
                let quantiles =
                    std::array::from_fn::<_, { QUANTILES.len() }, _>(|at| (QUANTILES[at], values[at]));
                let point = SummaryPoint {
                    count: *count,
                    sum: *sum,
                    quantiles: &quantiles,
                };
                core.set_summary(series, &point, Times::at(now))
            }
        }
    }
}

/// The value as an integer, or as a float beyond `i64`.
fn whole(value: u64) -> Number {
    i64::try_from(value).map_or(Number::float(value as f64), Number::int)
}
