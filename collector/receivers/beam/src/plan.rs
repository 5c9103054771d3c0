//! Compiles packs and definitions into the entries of a PLAN, and into the measures that the collector keeps for them.
//!
//! A relay sends raw units and positional labels; a [`Measure`] has the names, the unit and the factor. The key of an entry is a
//! hash of its content, stable over restarts, so that a relay keeps its totals when another collector sends the same entry.

use crate::config::Config;
use crate::logs;
use crate::stream_spec::StreamSpec;
use dichroic_model::{EventKind, Factor, MetricKind, units};
use dichroic_packs::compile::application_name;
use dichroic_packs::{self as packs, Aggregation, Comparison, Metric, Scalar, Stream};
use dichroic_wire::limits::{
    BOUNDS, CARRIED, EVENT_COLUMNS, LABELS, PATH_STEPS, PLAN_ENTRIES, RESERVED_KEYS,
};
use dichroic_wire::plan::{Aggregate, AggregateType, Carry, Condition, Expression, Operation, Root};
use dichroic_wire::{RelayHello, Value};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// The collector's part of an aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// Key of the entry.
    pub key: u64,
    /// Dotted name.
    pub name: String,
    /// Whether the exposition shows the name unchanged.
    pub verbatim: bool,
    /// Description.
    pub help: String,
    /// Kind of metric.
    pub kind: MetricKind,
    /// Unit of exported values.
    pub unit: String,
    /// Factor from raw values to `unit`.
    pub factor: Factor,
    /// Names of the labels, in the order of the entry's expressions.
    pub labels: Vec<String>,
    /// Constant labels.
    pub fixed: Vec<(String, String)>,
    /// Of an explicit histogram: bounds in `unit`.
    pub bounds: Option<Arc<[f64]>>,
    /// Of an exponential histogram: scale, lowest and highest index.
    pub grid: Option<(i32, i16, i16)>,
}

/// Everything that a plan for one relay can contain.
#[derive(Debug, Default)]
pub struct Blueprint {
    /// Aggregates.
    pub aggregates: Vec<Aggregate>,
    /// Values carried between events.
    pub carries: Vec<Carry>,
    /// Measures of the aggregates, by key.
    pub measures: HashMap<u64, Rc<Measure>>,
    /// Streams; a plan contains those with a subscriber.
    pub streams: Vec<StreamSpec>,
    /// Items left out, each with the reason.
    pub left_out: Vec<(String, String)>,
}

impl Blueprint {
    /// The blueprint for a relay.
    pub fn new(config: &Config, relay: &RelayHello) -> Self {
        let service = relay.resource.get("service.name").and_then(Value::as_str);
        let compiled = config
            .selection
            .compile(&application_name(service.unwrap_or_default()), &relay.variables);
        let per_s = u64::try_from(relay.native_per_s).unwrap_or(1);
        let mut blueprint = Blueprint::compiled(&compiled, per_s);
        // Messages of `logger` are a stream of kind log, with separate credit.
        for stream in compiled.streams.iter().filter(|s| !logs::is_logger(&s.event)) {
            match stream_spec(stream, per_s) {
                Ok(spec) if blueprint.streams.iter().any(|other| other.schema == spec.schema) => {}
                Ok(spec) => blueprint.streams.push(spec),
                Err(message) => blueprint.left_out.push((stream.name(), message)),
            }
        }
        blueprint
            .streams
            .push(logs::spec(&config.logs, |names| fnv(names) as u32));
        blueprint
    }

    /// Without streams, for a node with this many native time units per second.
    pub(crate) fn compiled(compiled: &packs::Compiled, per_s: u64) -> Self {
        let mut blueprint = Blueprint {
            carries: carries(&compiled.carries),
            ..Blueprint::default()
        };
        for metric in &compiled.metrics {
            match aggregate(metric, per_s) {
                Ok((entry, measure)) => blueprint.add(entry, measure),
                Err(message) => blueprint.left_out.push((metric.name.clone(), message)),
            }
        }
        blueprint
    }

    fn add(&mut self, entry: Aggregate, measure: Measure) {
        if self.aggregates.len() >= PLAN_ENTRIES / 2 {
            let message = format!("more than {} metrics", PLAN_ENTRIES / 2);
            self.left_out.push((measure.name, message));
        } else if self.measures.insert(entry.key, Rc::new(measure)).is_none() {
            self.aggregates.push(entry);
        }
    }
}

/// The factor from a raw unit to the exported one.
fn factor(raw: &str, unit: &str, per_s: u64) -> Result<Factor, String> {
    let factor = match raw {
        "" => Some(Factor::ONE),
        "native" => units::native(per_s, unit),
        raw => units::conversion(raw, unit),
    };
    factor
        .ok_or_else(|| format!("{raw:?} cannot be converted to {unit:?} at {per_s} native units per second"))
}

pub(crate) fn aggregate(metric: &Metric, per_s: u64) -> Result<(Aggregate, Measure), String> {
    if metric.labels.len() > LABELS {
        return Err(format!("more than {LABELS} labels"));
    }
    let factor = factor(&metric.raw_unit, &metric.unit, per_s)?;
    let (aggregate_type, kind) = wire_types(&metric.aggregation, factor)?;
    let mut entry = Aggregate {
        key: 0,
        aggregate_type,
        event: metric.event.clone(),
        value: metric.value.as_ref().map(expression).transpose()?,
        labels: metric
            .labels
            .iter()
            .map(|(_, e)| expression(e))
            .collect::<Result<_, _>>()?,
        keep: metric.keep.iter().map(condition).collect::<Result<_, _>>()?,
        series: metric.series,
        expire_s: metric.expire_s,
    };
    entry.key = key(&entry, metric)?;
    let measure = Measure {
        key: entry.key,
        name: metric.name.clone(),
        verbatim: metric.verbatim,
        help: metric.help.clone(),
        kind,
        unit: metric.unit.clone(),
        factor,
        labels: metric.labels.iter().map(|(label, _)| label.clone()).collect(),
        fixed: metric.fixed.clone(),
        bounds: match &metric.aggregation {
            Aggregation::Buckets(bounds) => Some(bounds.as_slice().into()),
            _ => None,
        },
        grid: match metric.aggregation {
            Aggregation::Exponential { scale, octaves } => Some(grid(scale, octaves)),
            _ => None,
        },
    };
    Ok((entry, measure))
}

fn wire_types(aggregation: &Aggregation, factor: Factor) -> Result<(AggregateType, MetricKind), String> {
    Ok(match aggregation {
        Aggregation::Counter => (AggregateType::Counter, MetricKind::COUNTER),
        Aggregation::Sum { monotonic } => (
            AggregateType::Sum,
            MetricKind::Sum {
                monotonic: *monotonic,
            },
        ),
        Aggregation::LastValue => (AggregateType::Last, MetricKind::Gauge),
        Aggregation::Exponential { scale, octaves } => {
            let exponential = AggregateType::Exponential {
                factor: factor.apply(1.0),
                scale: *scale,
                octaves: *octaves,
            };
            (exponential, MetricKind::ExponentialHistogram)
        }
        Aggregation::Buckets(bounds) if bounds.len() > BOUNDS => {
            return Err(format!("more than {BOUNDS} bounds"));
        }
        Aggregation::Buckets(bounds) => {
            let bounds: Vec<f64> = bounds.iter().map(|bound| raw_bound(*bound, factor)).collect();
            (AggregateType::Buckets { bounds }, MetricKind::Histogram)
        }
    })
}

/// A bound in raw units. 0.075 s becomes exactly 75,000,000 ns, so that an integer equal to the bound falls into its bucket.
fn raw_bound(bound: f64, factor: Factor) -> f64 {
    let raw = bound * factor.den as f64 / factor.num as f64;
    let whole = raw.round();
    if (raw - whole).abs() <= whole.abs() * 1e-12 {
        whole
    } else {
        raw
    }
}

/// Scale and the indexes that a relay can send: those of [2^lo, 2^hi).
pub(crate) fn grid(scale: i64, (lo, hi): (i64, i64)) -> (i32, i16, i16) {
    let (least, greatest) = match scale {
        0.. => ((lo << scale) - 1, (hi << scale) - 1),
        _ => ((lo - 1) >> -scale, (hi - 1) >> -scale),
    };
    let narrow = |index: i64| index.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    (scale as i32, narrow(least), narrow(greatest))
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Hash of the entry without its key, and of the names that only the collector has. Relays keep totals under it: it must not change.
fn key(entry: &Aggregate, metric: &Metric) -> Result<u64, String> {
    let mut map = entry.to_map();
    map.remove("key");
    let mut bytes = Vec::new();
    Value::Map(map).encode(&mut bytes).map_err(|e| e.to_string())?;
    for name in names(metric) {
        bytes.push(0);
        bytes.extend_from_slice(name.as_bytes());
    }
    let hash = fnv(&bytes);
    Ok(if hash < RESERVED_KEYS {
        hash + RESERVED_KEYS
    } else {
        hash
    })
}

/// The texts of a metric that are part of its key, beside the entry: relays compute keys from them too.
pub(crate) fn names(metric: &Metric) -> Vec<String> {
    let labels = metric.labels.iter().map(|(label, _)| label);
    let fixed = metric.fixed.iter().flat_map(|(label, value)| [label, value]);
    [&metric.name]
        .into_iter()
        .chain(labels)
        .chain(fixed)
        .cloned()
        .collect()
}

fn stream_spec(stream: &Stream, per_s: u64) -> Result<StreamSpec, String> {
    let measured = stream.measurements.iter().map(|(.., e)| e);
    let columns = measured.chain(stream.metadata.iter().map(|(_, e)| e));
    let columns: Vec<_> = columns.map(expression).collect::<Result<_, _>>()?;
    if columns.len() >= EVENT_COLUMNS {
        return Err(format!("more than {} columns", EVENT_COLUMNS - 1));
    }
    let unit = |unit: &str| {
        if unit == "native" {
            native_unit(per_s)
        } else {
            unit.to_owned()
        }
    };
    let measurements = stream.measurements.iter();
    let measurements: Vec<_> = measurements.map(|(name, u, _)| (name.clone(), unit(u))).collect();
    let metadata: Vec<_> = stream.metadata.iter().map(|(name, _)| name.clone()).collect();
    let names = measurements
        .iter()
        .flat_map(|(name, unit)| [name.as_str(), unit.as_str()]);
    let names: Vec<_> = names
        .chain([""])
        .chain(metadata.iter().map(String::as_str))
        .collect();
    let name = stream.name();
    Ok(StreamSpec {
        kind: EventKind::Event,
        keep: Vec::new(),
        schema: fnv(format!("{name}\0{}", names.join("\0")).as_bytes()) as u32,
        name,
        measurements,
        metadata,
        event: stream.event.clone(),
        columns,
    })
}

/// The unit of raw rows in native time units: its UCUM name, if it has one.
fn native_unit(per_s: u64) -> String {
    match per_s {
        1_000_000_000 => "ns",
        1_000_000 => "us",
        1_000 => "ms",
        1 => "s",
        _ => "native",
    }
    .to_owned()
}

fn carries(slots: &[packs::CarrySlot]) -> Vec<Carry> {
    let mut by_event: BTreeMap<&[String], BTreeMap<String, Option<Expression>>> = BTreeMap::new();
    for slot in slots {
        let filled = slot.expression.as_ref().map(expression).transpose();
        let (Ok(filled), slots) = (filled, by_event.entry(&slot.event).or_default()) else {
            continue;
        };
        if slots.len() < CARRIED {
            slots.insert(slot.name.clone(), filled);
        }
    }
    by_event
        .into_iter()
        .map(|(event, slots)| Carry {
            event: event.to_vec(),
            slots,
        })
        .collect()
}

fn expression(from: &packs::Expression) -> Result<Expression, String> {
    if from.path.len() > PATH_STEPS {
        return Err(format!("a path of more than {PATH_STEPS} steps"));
    }
    Ok(Expression {
        root: from.root.unwrap_or(Root::Metadata),
        path: from.path.clone(),
        transforms: from.transforms.iter().map(|t| t.map(scalar)).collect(),
    })
}

fn scalar(from: &Scalar) -> Value {
    match from {
        Scalar::Bool(flag) => Value::Bool(*flag),
        Scalar::Int(int) => Value::Int(*int),
        Scalar::Float(float) => Value::Float(*float),
        Scalar::Str(text) => Value::from(text.as_str()),
    }
}

fn condition(from: &packs::Condition) -> Result<Condition, String> {
    let (operation, operands) = match &from.comparison {
        Comparison::Eq(value) => (Operation::Eq, vec![scalar(value)]),
        Comparison::Ne(value) => (Operation::Ne, vec![scalar(value)]),
        Comparison::Lt(value) => (Operation::Lt, vec![scalar(value)]),
        Comparison::Gt(value) => (Operation::Gt, vec![scalar(value)]),
        Comparison::In(values) => (Operation::In, values.iter().map(scalar).collect()),
        Comparison::Has => (Operation::Has, Vec::new()),
        Comparison::Lacks => (Operation::Lacks, Vec::new()),
    };
    Ok(Condition {
        operation,
        expression: expression(&from.expression)?,
        operands,
    })
}
