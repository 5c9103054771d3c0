//! PLAN: what the collector asks a relay to extract, and the relay's reply. The collector writes a [`Plan`] and reads
//! a [`PlanReply`]; reading a [`Plan`] back is for tools and tests.
//!
//! A key that is `None`, an empty `keep` and `kind: event` are left out when writing.

use std::collections::BTreeMap;

use crate::define::{float_list, floats};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{self, FrameType};
use crate::hello::map_body;
use crate::input::Input;
use crate::limits;
use crate::map::{Fields, put, put_some, string_list};
use crate::value::{self, Map, Value, bounded};

/// What a relay is asked to extract.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Ascending number of this plan.
    pub generation: i64,
    /// Time between two flushes, in milliseconds.
    pub flush_ms: u32,
    /// How long to count without a collector, in seconds; 0 for ever.
    pub linger_s: u32,
    /// What the relay may use.
    pub limits: PlanLimits,
    /// What is counted in the VM.
    pub aggregates: Vec<Aggregate>,
    /// What is sent row by row.
    pub streams: Vec<StreamEntry>,
    /// What later events of a process need of earlier ones.
    pub carries: Vec<Carry>,
}

/// Values kept in the process of an event for the events after it, where [`Expression::carried`] reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Carry {
    /// Name of the event, atom by atom.
    pub event: Vec<String>,
    /// What is kept under each name; `None` clears it. At most 64.
    pub slots: BTreeMap<String, Option<Expression>>,
}

/// What a relay may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Series alive; their ids are below it.
    pub series: u32,
    /// Bytes of a string before it is cut.
    pub string: u32,
    /// Rows in flight inside the VM.
    pub credit: u32,
    /// Rows a second, of all streams.
    pub rows_per_s: u32,
}

/// One aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Hash of the content below: the same key keeps its totals. Not below 16.
    pub key: u64,
    /// What is kept.
    pub aggregate_type: AggregateType,
    /// Name of the event, atom by atom.
    pub event: Vec<String>,
    /// What is measured; `None` for a counter, and only for it.
    pub value: Option<Expression>,
    /// Values of the labels; their names stay in the collector.
    pub labels: Vec<Expression>,
    /// What must all hold for an event to count.
    pub keep: Vec<Condition>,
    /// Series before the overflow series.
    pub series: u32,
    /// Idle time before a series is evicted, in seconds, at least 300.
    pub expire_s: u32,
}

/// What an aggregate keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum AggregateType {
    /// A count of events; it has no value.
    Counter,
    /// A sum.
    Sum,
    /// The last value.
    Last,
    /// Base-2 exponential buckets of value × factor.
    Exponential {
        /// Multiplied before the index is taken: ns → s shifts a grid by no whole number of buckets.
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
    /// Id of the schema, never used again in a connection.
    pub schema: u32,
    /// Events or logs.
    pub kind: StreamKind,
    /// Name of the event, atom by atom.
    pub event: Vec<String>,
    /// Columns 1… of EVENTS; at most 63.
    pub columns: Vec<Expression>,
    /// What must all hold for an event to be sent.
    pub keep: Vec<Condition>,
    /// Share of events sent, above 0 and at most 1; `None` is all.
    pub sample: Option<f64>,
}

/// What rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKind {
    /// Telemetry events.
    Event,
    /// Log records.
    Log,
}

impl StreamKind {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Log => "log",
        }
    }
}

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// The event's measurements.
    Measurements,
    /// The event's metadata.
    Metadata,
    /// What was carried; the path is one name.
    Carry,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A key of a map: the atom, else the binary.
    Key(String),
    /// An element of a tuple or list, from 0.
    Element(u32),
}

/// What is taken from an event. What is no scalar after the transforms is null.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// Where the path begins.
    pub root: Root,
    /// At most 8 steps.
    pub path: Vec<Step>,
    /// Applied in order.
    pub transforms: Vec<Transform>,
}

/// The closed set of transforms.
#[derive(Clone, Debug, PartialEq)]
pub enum Transform {
    /// Name of a module without `Elixir.`.
    Name,
    /// 503 → `5xx`.
    Class,
    /// An atom, or the first of a tuple.
    Tag,
    /// Length of a list or binary.
    Length,
    /// Whether it is true.
    Bool,
    /// Name of the type.
    Type,
    /// At most so many bytes.
    Cut(u32),
    /// One of these, else `other`.
    Allow(Vec<Value>),
    /// Instead of null.
    Default(Value),
}

/// What must hold of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// How it is compared.
    pub operation: Operation,
    /// What is compared.
    pub expression: Expression,
    /// With what: one for eq, ne, lt and gt; one or more for in; none for has and lacks.
    pub operands: Vec<Value>,
}

/// The closed set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Operation {
    Eq,
    Ne,
    Lt,
    Gt,
    In,
    Has,
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

    fn takes(self, operands: usize) -> bool {
        match self {
            Self::Eq | Self::Ne | Self::Lt | Self::Gt => operands == 1,
            Self::In => operands >= 1,
            Self::Has | Self::Lacks => operands == 0,
        }
    }
}

const PLAN: &str = "PLAN";
const AGGREGATE: &str = "aggregate";
const STREAM: &str = "stream";

impl Plan {
    /// Decodes a body. Unknown keys of the plan itself and of its limits are ignored; one in an entry is refused.
    ///
    /// # Errors
    /// The first entry that a relay would refuse, and whatever is malformed.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let map = map_body(&mut Input::new(body, Some(FrameType::Plan)))?;
        let fields = Fields::new(FrameType::Plan, PLAN, &map);
        let entries = |key| fields.list(key);
        if entries("aggregates")?.len() + entries("streams")?.len() > limits::PLAN_ENTRIES {
            return fields.bad("aggregates", "at most 2000 entries, streams included");
        }
        let limits = Fields::new(FrameType::Plan, "limits", fields.map("limits")?);
        Ok(Self {
            generation: fields.int("generation")?,
            flush_ms: fields.u32("flush_ms")?,
            linger_s: fields.u32("linger_s")?,
            limits: PlanLimits {
                series: limits.u32("series")?,
                string: limits.u32("string")?,
                credit: limits.u32("credit")?,
                rows_per_s: limits.u32("rows_per_s")?,
            },
            aggregates: entries("aggregates")?
                .iter()
                .map(aggregate)
                .collect::<Result<_>>()?,
            streams: entries("streams")?.iter().map(stream).collect::<Result<_>>()?,
            carries: fields
                .opt_list("carries")?
                .unwrap_or_default()
                .iter()
                .map(carry)
                .collect::<Result<_>>()?,
        })
    }

    /// Appends the frame. It may be larger than the relay's `max_frame`: compare the bytes that were added.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] for more than 2,000 entries or a plan beyond the format's limits.
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
    fn to_map(&self) -> Map {
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
    /// The entry as it is sent. Hash it without `key` to get the key.
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

    /// What a [`Carry`] kept under a name.
    pub fn carried(name: &str) -> Self {
        Self::path(Root::Carry, &[name])
    }

    /// The same with one transform more.
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
        items.extend(self.transforms.iter().map(Transform::to_value));
        Value::List(items)
    }

    fn read(value: &Value) -> Result<Self> {
        let Some([Value::Str(root), Value::List(path), transforms @ ..]) = value.as_list() else {
            return Err(bad("expression", "[root, path, transform…]"));
        };
        let root = match root.as_str() {
            "measurements" => Root::Measurements,
            "metadata" => Root::Metadata,
            "carry" => Root::Carry,
            _ => return Err(unknown("root", root)),
        };
        if path.len() > limits::PATH_STEPS {
            return Err(bad("path", "at most 8 steps"));
        }
        if root == Root::Carry && !matches!(path.as_slice(), [Value::Str(_)]) {
            return Err(bad("path", "one name for what was carried"));
        }
        let step = |step: &Value| match step {
            Value::Str(key) => Ok(Step::Key(key.clone())),
            Value::Int(index) => index
                .to_owned()
                .try_into()
                .map(Step::Element)
                .map_err(|_| bad("path", "elements from 0")),
            _ => Err(bad("path", "a list of strings and integers")),
        };
        Ok(Self {
            root,
            path: path.iter().map(step).collect::<Result<_>>()?,
            transforms: transforms.iter().map(Transform::read).collect::<Result<_>>()?,
        })
    }
}

impl Transform {
    fn to_value(&self) -> Value {
        let (name, operands) = match self {
            Self::Name => ("name", Vec::new()),
            Self::Class => ("class", Vec::new()),
            Self::Tag => ("tag", Vec::new()),
            Self::Length => ("length", Vec::new()),
            Self::Bool => ("bool", Vec::new()),
            Self::Type => ("type", Vec::new()),
            Self::Cut(bytes) => ("cut", vec![Value::from(*bytes)]),
            Self::Allow(values) => ("allow", values.clone()),
            Self::Default(value) => ("default", vec![value.clone()]),
        };
        let mut items = vec![Value::from(name)];
        items.extend(operands);
        Value::List(items)
    }

    fn read(value: &Value) -> Result<Self> {
        let Some([Value::Str(name), operands @ ..]) = value.as_list() else {
            return Err(bad("transform", "[name, operand…]"));
        };
        Ok(match (name.as_str(), operands) {
            ("name", []) => Self::Name,
            ("class", []) => Self::Class,
            ("tag", []) => Self::Tag,
            ("length", []) => Self::Length,
            ("bool", []) => Self::Bool,
            ("type", []) => Self::Type,
            ("cut", [Value::Int(bytes)]) => {
                Self::Cut(u32::try_from(*bytes).map_err(|_| bad("cut", "a count of bytes"))?)
            }
            ("allow", values) if !values.is_empty() => Self::Allow(values.to_vec()),
            ("default", [value]) => Self::Default(value.clone()),
            ("name" | "class" | "tag" | "length" | "bool" | "type" | "cut" | "allow" | "default", _) => {
                return Err(bad(name, "with the operands of that transform"));
            }
            _ => return Err(unknown("transform", name)),
        })
    }
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

    fn read(value: &Value) -> Result<Self> {
        let Some([Value::Str(name), expression, operands @ ..]) = value.as_list() else {
            return Err(bad("condition", "[operation, expression, operand…]"));
        };
        let operation = match name.as_str() {
            "eq" => Operation::Eq,
            "ne" => Operation::Ne,
            "lt" => Operation::Lt,
            "gt" => Operation::Gt,
            "in" => Operation::In,
            "has" => Operation::Has,
            "lacks" => Operation::Lacks,
            _ => return Err(unknown("operation", name)),
        };
        if !operation.takes(operands.len()) {
            return Err(bad(name, "with the operands of that operation"));
        }
        Ok(Self {
            operation,
            expression: Expression::read(expression)?,
            operands: operands.to_vec(),
        })
    }
}

fn bad(key: &str, expected: &'static str) -> Error {
    let kind = ErrorKind::BadValue {
        map: PLAN,
        key: key.to_owned(),
        expected,
    };
    Error::new(Some(FrameType::Plan), 0, kind)
}

fn unknown(what: &'static str, name: &str) -> Error {
    Error::new(
        Some(FrameType::Plan),
        0,
        ErrorKind::UnknownName {
            what,
            name: name.to_owned(),
        },
    )
}

/// An event, unless it says otherwise.
pub(crate) fn stream_kind(fields: Fields<'_>) -> Result<StreamKind> {
    match fields.opt_str("kind")? {
        None | Some("event") => Ok(StreamKind::Event),
        Some("log") => Ok(StreamKind::Log),
        Some(_) => fields.bad("kind", "\"event\" or \"log\""),
    }
}

fn expressions(items: &[Value]) -> Result<Vec<Expression>> {
    items.iter().map(Expression::read).collect()
}

fn event(fields: Fields<'_>) -> Result<Vec<String>> {
    let event = fields.strings("event", fields.list("event")?)?;
    if event.is_empty() {
        return fields.bad("event", "a list of at least one name");
    }
    Ok(event)
}

fn keep(fields: Fields<'_>) -> Result<Vec<Condition>> {
    fields
        .opt_list("keep")?
        .unwrap_or_default()
        .iter()
        .map(Condition::read)
        .collect()
}

fn entry<'m>(name: &'static str, value: &'m Value) -> Result<Fields<'m>> {
    match value.as_map() {
        Some(map) => Ok(Fields::new(FrameType::Plan, name, map)),
        None => Err(bad(name, "a map")),
    }
}

fn aggregate(value: &Value) -> Result<Aggregate> {
    let fields = entry(AGGREGATE, value)?;
    let name = fields.str("type")?;
    let own: &[&str] = match name {
        "exponential" => &["factor", "scale", "octaves"],
        "buckets" => &["bounds"],
        "counter" | "sum" | "last" => &[],
        _ => return Err(unknown("type", name)),
    };
    let common = [
        "key", "type", "event", "value", "labels", "keep", "series", "expire_s",
    ];
    fields.only(&[&common, own].concat())?;
    let key = fields.int("key")? as u64;
    if key < limits::RESERVED_KEYS {
        return fields.bad("key", "not below 16");
    }
    let labels = fields.list("labels")?;
    if labels.len() > limits::LABELS {
        return fields.bad("labels", "at most 32");
    }
    let expire_s = fields.u32("expire_s")?;
    if expire_s < limits::EXPIRE_S_MIN {
        return fields.bad("expire_s", "at least 300");
    }
    let value = fields.map.get("value").map(Expression::read).transpose()?;
    if value.is_none() && name != "counter" {
        return Err(fields.error(ErrorKind::MissingKey {
            map: AGGREGATE,
            key: "value",
        }));
    }
    Ok(Aggregate {
        key,
        aggregate_type: aggregate_type(fields, name)?,
        event: event(fields)?,
        value,
        labels: expressions(labels)?,
        keep: keep(fields)?,
        series: fields.u32("series")?,
        expire_s,
    })
}

/// The type of a name that is known to be one.
fn aggregate_type(fields: Fields<'_>, name: &str) -> Result<AggregateType> {
    Ok(match name {
        "counter" => AggregateType::Counter,
        "sum" => AggregateType::Sum,
        "exponential" => AggregateType::Exponential {
            factor: fields.float("factor")?,
            scale: match fields.int("scale")? {
                scale if limits::SCALE.contains(&scale) => scale,
                _ => return fields.bad("scale", "-4 to 4"),
            },
            octaves: match *fields.list("octaves")? {
                [Value::Int(lo), Value::Int(hi)] if lo < hi => (lo, hi),
                _ => return fields.bad("octaves", "[lo, hi], lo below hi"),
            },
        },
        "buckets" => {
            let bounds = floats(fields, "bounds", fields.list("bounds")?)?;
            let ascending = bounds.is_sorted_by(|a, b| a < b) && !bounds.iter().any(|bound| bound.is_nan());
            if bounds.is_empty() || bounds.len() > limits::BOUNDS || !ascending {
                return fields.bad("bounds", "1 to 160 ascending floats");
            }
            AggregateType::Buckets { bounds }
        }
        _ => AggregateType::Last,
    })
}

fn stream(value: &Value) -> Result<StreamEntry> {
    let fields = entry(STREAM, value)?;
    fields.only(&["schema", "kind", "event", "columns", "keep", "sample"])?;
    let columns = fields.list("columns")?;
    if columns.len() >= limits::EVENT_COLUMNS {
        return fields.bad("columns", "at most 63");
    }
    Ok(StreamEntry {
        schema: fields.u32("schema")?,
        kind: stream_kind(fields)?,
        event: event(fields)?,
        columns: expressions(columns)?,
        keep: keep(fields)?,
        sample: match fields.opt_float("sample")? {
            Some(share) if !(share > 0.0 && share <= 1.0) => {
                return fields.bad("sample", "above 0.0 and at most 1.0");
            }
            share => share,
        },
    })
}

fn carry(value: &Value) -> Result<Carry> {
    let fields = entry("carry", value)?;
    fields.only(&["event", "slots"])?;
    let slots = fields.map("slots")?;
    if slots.len() > limits::CARRIED {
        return fields.bad("slots", "at most 64 names");
    }
    let slot = |(name, value): (&String, &Value)| match value {
        Value::Null => Ok((name.clone(), None)),
        _ => Ok((name.clone(), Some(Expression::read(value)?))),
    };
    Ok(Carry {
        event: event(fields)?,
        slots: slots.iter().map(slot).collect::<Result<_>>()?,
    })
}

/// A relay's answer to a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanReply {
    /// The plan's number.
    pub generation: i64,
    /// Events that now have a handler.
    pub attached: u32,
    /// Entries that the relay does not do, and why.
    pub refused: Vec<Refused>,
}

/// An entry that a relay does not do. A refused entry never stops the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Key of the aggregate or id of the schema, as it is on the wire; `None` for an entry that had neither.
    pub entry: Option<i64>,
    /// Why; what was kept of it when the relay cut it.
    pub words: String,
}

impl PlanReply {
    /// Decodes a body; unknown keys are ignored.
    ///
    /// # Errors
    /// A required key that is missing, a value of the wrong type.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let map = map_body(&mut Input::new(body, Some(FrameType::Plan)))?;
        let fields = Fields::new(FrameType::Plan, "PLAN reply", &map);
        let refused = |item: &Value| match item.as_list()? {
            [Value::Int(entry), words] => Some(Refused {
                entry: Some(*entry),
                words: text(words)?,
            }),
            [Value::Null, words] => Some(Refused {
                entry: None,
                words: text(words)?,
            }),
            _ => None,
        };
        let refused: Option<_> = fields.list("refused")?.iter().map(refused).collect();
        Ok(Self {
            generation: fields.int("generation")?,
            attached: fields.u32("attached")?,
            refused: match refused {
                Some(refused) => refused,
                None => return fields.bad("refused", "a list of [key or schema, words]"),
            },
        })
    }

    /// Appends the frame.
    ///
    /// # Errors
    /// [`ErrorKind::Unwritable`] when it is larger than the format holds.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<()> {
        let pair = |refused: &Refused| {
            let entry = refused.entry.map_or(Value::Null, Value::Int);
            Value::List(vec![entry, Value::from(refused.words.as_str())])
        };
        let mut map = Map::new();
        put(&mut map, "generation", self.generation);
        put(&mut map, "attached", self.attached);
        put(
            &mut map,
            "refused",
            self.refused.iter().map(pair).collect::<Vec<_>>(),
        );
        frame::write(out, FrameType::Plan, |out| value::encode_map(&map, out))
    }
}

/// A string, or what was kept of it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) | Value::Cut { kept: text, .. } => Some(text.clone()),
        _ => None,
    }
}
