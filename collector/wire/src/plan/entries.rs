//! The entries of a PLAN, and their encoding.

use std::collections::BTreeMap;

use dichroic_model::expression;
pub use dichroic_model::expression::{Root, Step};

use crate::error::Result;
use crate::frame;
use crate::frame_type::FrameType;
use crate::limits;
use crate::map::{float_list, put, put_some, string_list};
use crate::stream_kind::StreamKind;
use crate::value::{self, Map, Value, bounded};

/// The plan of a relay: the data that it extracts.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Number of this plan; ascending.
    pub generation: i64,
    /// Time between two flushes, in milliseconds.
    pub flush_ms: u32,
    /// Time to count without a collector, in seconds; 0 for no limit.
    pub linger_s: u32,
    /// Limits of the relay.
    pub limits: PlanLimits,
    /// Aggregates, counted in the VM.
    pub aggregates: Vec<Aggregate>,
    /// Streams, sent row by row.
    pub streams: Vec<StreamEntry>,
    /// Values that a process carries from one event to later ones.
    pub carries: Vec<Carry>,
}

/// Values that the process of an event carries to later events; [`Expression::carried`] reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Carry {
    /// Name of the event, atom by atom.
    pub event: Vec<String>,
    /// The value of each name; `None` clears it. At most 64.
    pub slots: BTreeMap<String, Option<Expression>>,
}

/// Limits of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Live series; ids are below it.
    pub series: u32,
    /// Bytes of a string before it is cut.
    pub string: u32,
    /// Rows in flight within the VM.
    pub credit: u32,
    /// Rows per second of all streams.
    pub rows_per_s: u32,
}

/// One aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Hash of the other fields; an entry with the same key keeps its totals across plans. At least 16.
    pub key: u64,
    /// Type, with its options.
    pub aggregate_type: AggregateType,
    /// Name of the event, atom by atom.
    pub event: Vec<String>,
    /// The measured value; `None` for a counter, and only for it.
    pub value: Option<Expression>,
    /// Values of the labels by position; the collector has the names.
    pub labels: Vec<Expression>,
    /// Conditions that must all hold for an event to count.
    pub keep: Vec<Condition>,
    /// Number of series before the overflow series.
    pub series: u32,
    /// Idle time before a series is evicted, in seconds, at least 300.
    pub expire_s: u32,
}

/// The type of an aggregate.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregateType {
    /// The number of events; without a value.
    Counter,
    /// A sum.
    Sum,
    /// The last value.
    Last,
    /// Base-2 exponential buckets of value × factor.
    Exponential {
        /// Applied before the index is calculated, because ns → s shifts the grid by a fraction of a bucket.
        factor: f64,
        /// −4 to 4.
        scale: i64,
        /// Indexes are clamped to [2^lo, 2^hi).
        octaves: (i64, i64),
    },
    /// Buckets with these upper bounds, ascending, in raw units.
    Buckets {
        /// At most 160.
        bounds: Vec<f64>,
    },
}

/// One stream of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEntry {
    /// Id of the schema; not reused on a connection.
    pub schema: u32,
    /// Events or logs.
    pub kind: StreamKind,
    /// Name of the event, atom by atom.
    pub event: Vec<String>,
    /// Columns 1… of EVENTS; at most 63.
    pub columns: Vec<Expression>,
    /// Conditions that must all hold for an event to be sent.
    pub keep: Vec<Condition>,
    /// Share of events sent, above 0 and at most 1; `None` for all.
    pub sample: Option<f64>,
    /// Number of leading columns that are measurements: in them, values that are not numbers become null and are counted.
    pub numbers: u32,
}

/// A value taken from an event; null if it is not a scalar after the transforms.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// Start of the path.
    pub root: Root,
    /// At most 8 steps.
    pub path: Vec<Step>,
    /// Applied in order.
    pub transforms: Vec<Transform>,
}

/// A transform whose operands are wire values.
pub type Transform = expression::Transform<Value>;

/// A condition on an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The comparison.
    pub operation: Operation,
    /// The value compared.
    pub expression: Expression,
    /// One for eq, ne, lt and gt; one or more for in; none for has and lacks.
    pub operands: Vec<Value>,
}

/// The operations of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Equal to the operand.
    Eq,
    /// Not equal to the operand.
    Ne,
    /// A number below the operand.
    Lt,
    /// A number above the operand.
    Gt,
    /// Equal to one of the operands.
    In,
    /// Present.
    Has,
    /// Absent.
    Lacks,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Gt => "gt",
            Self::In => "in",
            Self::Has => "has",
            Self::Lacks => "lacks",
        }
    }
}

impl Plan {
    /// Appends the frame. It may exceed the relay's `max_frame`: check the number of bytes added.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unwritable`] for more than 2,000 entries or a plan that exceeds a limit of the format.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        frame::write(out, FrameType::Plan, |out| {
            bounded(
                "plan entries",
                self.aggregates.len() + self.streams.len(),
                limits::PLAN_ENTRIES,
            )?;
            value::encode_map(&self.to_map(), out)
        })
    }

    fn to_map(&self) -> Map {
        let mut limits = Map::new();
        put(&mut limits, "series", self.limits.series);
        put(&mut limits, "string", self.limits.string);
        put(&mut limits, "credit", self.limits.credit);
        put(&mut limits, "rows_per_s", self.limits.rows_per_s);
        let mut map = Map::new();
        put(&mut map, "generation", self.generation);
        put(&mut map, "flush_ms", self.flush_ms);
        put(&mut map, "linger_s", self.linger_s);
        put(&mut map, "limits", limits);
        put(
            &mut map,
            "aggregates",
            self.aggregates
                .iter()
                .map(|entry| entry.to_map().into())
                .collect::<Vec<_>>(),
        );
        put(
            &mut map,
            "streams",
            self.streams
                .iter()
                .map(|entry| entry.to_map().into())
                .collect::<Vec<_>>(),
        );
        let carries: Vec<_> = self.carries.iter().map(|entry| entry.to_map().into()).collect();
        put_some(&mut map, "carries", (!carries.is_empty()).then_some(carries));
        map
    }
}

impl Carry {
    /// The entry on the wire.
    pub fn to_map(&self) -> Map {
        let slot = |(name, slot): (&String, &Option<Expression>)| {
            (
                name.clone(),
                slot.as_ref().map_or(Value::Null, Expression::to_value),
            )
        };
        let mut map = Map::new();
        put(&mut map, "event", string_list(&self.event));
        put(&mut map, "slots", self.slots.iter().map(slot).collect::<Map>());
        map
    }
}

impl Aggregate {
    /// The entry on the wire. Its hash without `key` is the key.
    pub fn to_map(&self) -> Map {
        let mut map = Map::new();
        put(&mut map, "key", self.key as i64);
        put(&mut map, "event", string_list(&self.event));
        put_some(&mut map, "value", self.value.as_ref().map(Expression::to_value));
        put(&mut map, "labels", expression_list(&self.labels));
        put_some(&mut map, "keep", condition_list(&self.keep));
        put(&mut map, "series", self.series);
        put(&mut map, "expire_s", self.expire_s);
        let name = match &self.aggregate_type {
            AggregateType::Counter => "counter",
            AggregateType::Sum => "sum",
            AggregateType::Last => "last",
            AggregateType::Exponential {
                factor,
                scale,
                octaves: (lo, hi),
            } => {
                put(&mut map, "factor", *factor);
                put(&mut map, "scale", *scale);
                put(&mut map, "octaves", vec![Value::Int(*lo), Value::Int(*hi)]);
                "exponential"
            }
            AggregateType::Buckets { bounds } => {
                put(&mut map, "bounds", float_list(bounds));
                "buckets"
            }
        };
        put(&mut map, "type", name);
        map
    }
}

impl StreamEntry {
    fn to_map(&self) -> Map {
        let mut map = Map::new();
        put(&mut map, "schema", self.schema);
        put_some(
            &mut map,
            "kind",
            (self.kind != StreamKind::Event).then(|| self.kind.name()),
        );
        put(&mut map, "event", string_list(&self.event));
        put(&mut map, "columns", expression_list(&self.columns));
        put_some(&mut map, "keep", condition_list(&self.keep));
        put_some(&mut map, "sample", self.sample);
        put_some(&mut map, "numbers", (self.numbers > 0).then_some(self.numbers));
        map
    }
}

fn expression_list(expressions: &[Expression]) -> Value {
    Value::List(expressions.iter().map(Expression::to_value).collect())
}

fn condition_list(conditions: &[Condition]) -> Option<Value> {
    (!conditions.is_empty()).then(|| Value::List(conditions.iter().map(Condition::to_value).collect()))
}

impl Expression {
    /// A path of keys without transforms.
    pub fn path(root: Root, keys: &[&str]) -> Self {
        let path = keys.iter().map(|key| Step::Key((*key).to_owned())).collect();
        Self {
            root,
            path,
            transforms: Vec::new(),
        }
    }

    /// The value of a [`Carry`] by name.
    pub fn carried(name: &str) -> Self {
        Self::path(Root::Carry, &[name])
    }

    /// Adds a transform.
    #[must_use]
    pub fn then(mut self, transform: Transform) -> Self {
        self.transforms.push(transform);
        self
    }

    fn to_value(&self) -> Value {
        let root = match self.root {
            Root::Measurements => "measurements",
            Root::Metadata => "metadata",
            Root::Carry => "carry",
        };
        let step = |step: &Step| match step {
            Step::Key(key) => Value::from(key.as_str()),
            Step::Element(index) => Value::from(*index),
        };
        let path = Value::List(self.path.iter().map(step).collect());
        let mut items = vec![Value::from(root), path];
        items.extend(self.transforms.iter().map(transform_value));
        Value::List(items)
    }
}

fn transform_value(transform: &Transform) -> Value {
    let operands = match transform {
        Transform::Cut(bytes) => vec![Value::from(*bytes)],
        Transform::Before(text) => vec![Value::from(text.as_str())],
        Transform::Allow(values) => values.clone(),
        Transform::Rename(names) => names
            .iter()
            .flat_map(|(from, to)| [Value::from(from.as_str()), Value::from(to.as_str())])
            .collect(),
        Transform::Default(value) => vec![value.clone()],
        _ => Vec::new(),
    };
    let mut items = vec![Value::from(transform.name())];
    items.extend(operands);
    Value::List(items)
}

impl Condition {
    /// A condition without operands: has or lacks.
    pub fn has(expression: Expression) -> Self {
        Self {
            operation: Operation::Has,
            expression,
            operands: Vec::new(),
        }
    }

    fn to_value(&self) -> Value {
        let mut items = vec![Value::from(self.operation.name()), self.expression.to_value()];
        items.extend(self.operands.iter().cloned());
        Value::List(items)
    }
}
