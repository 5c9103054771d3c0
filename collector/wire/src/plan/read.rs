//! Reads a plan as strictly as a relay must: an unknown item in an entry is rejected by name, because ignoring a filter would produce
//! wrong numbers.

use crate::error::{Error, ErrorKind, Result};
use crate::frame_type::FrameType;
use crate::hello::map_body;
use crate::input::Input;
use crate::limits;
use crate::map::{Fields, floats};
use crate::map_kind::MapKind;
use crate::stream_kind::stream_kind;
use crate::value::Value;

use crate::plan::entries::{
    Aggregate, AggregateType, Carry, Condition, Expression, Operation, Plan, PlanLimits, Root, Step,
    StreamEntry, Transform,
};

impl Plan {
    /// Decodes a body. Unknown keys of the plan and of its limits are ignored; in an entry they are errors.
    ///
    /// # Errors
    /// The first entry that a relay would reject, or a malformed body.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let map = map_body(&mut Input::new(body, Some(FrameType::Plan)))?;
        let fields = Fields::new(FrameType::Plan, MapKind::Plan, &map);
        let entries = |key| fields.list(key);
        if entries("aggregates")?.len() + entries("streams")?.len() > limits::PLAN_ENTRIES {
            return fields.bad("aggregates", "at most 2000 entries, streams included");
        }
        let limits = Fields::new(FrameType::Plan, MapKind::PlanLimits, fields.map("limits")?);
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
}

impl Expression {
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
            return Err(bad("path", "one name after the root carry"));
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
            transforms: transforms.iter().map(transform).collect::<Result<_>>()?,
        })
    }
}

fn renamed(pair: &[Value]) -> Result<(String, String)> {
    match pair {
        [Value::Str(from), Value::Str(to)] => Ok((from.clone(), to.clone())),
        _ => Err(bad("rename", "pairs of strings")),
    }
}

fn transform(value: &Value) -> Result<Transform> {
    let Some([Value::Str(name), operands @ ..]) = value.as_list() else {
        return Err(bad("transform", "[name, operand…]"));
    };
    Ok(match (name.as_str(), operands) {
        ("cut", [Value::Int(bytes)]) => {
            Transform::Cut(u32::try_from(*bytes).map_err(|_| bad("cut", "a count of bytes"))?)
        }
        ("before", [Value::Str(text)]) if !text.is_empty() => Transform::Before(text.clone()),
        ("allow", values) if !values.is_empty() => Transform::Allow(values.to_vec()),
        ("rename", names) if !names.is_empty() && names.len() % 2 == 0 => {
            Transform::Rename(names.chunks(2).map(renamed).collect::<Result<_>>()?)
        }
        ("default", [value]) => Transform::Default(value.clone()),
        (name, operands) => match Transform::without_operand(name) {
            Some(transform) if operands.is_empty() => transform,
            None if !matches!(name, "cut" | "before" | "allow" | "rename" | "default") => {
                return Err(unknown("transform", name));
            }
            _ => return Err(bad(name, "with the operands of that transform")),
        },
    })
}

impl Condition {
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

impl Operation {
    fn takes(self, operands: usize) -> bool {
        match self {
            Self::Eq | Self::Ne | Self::Lt | Self::Gt => operands == 1,
            Self::In => operands >= 1,
            Self::Has | Self::Lacks => operands == 0,
        }
    }
}

fn bad(key: &str, expected: &'static str) -> Error {
    let kind = ErrorKind::BadValue {
        map: MapKind::Plan,
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

fn entry<'m>(kind: MapKind, value: &'m Value) -> Result<Fields<'m>> {
    match value.as_map() {
        Some(map) => Ok(Fields::new(FrameType::Plan, kind, map)),
        None => Err(bad(kind.name(), "a map")),
    }
}

fn aggregate(value: &Value) -> Result<Aggregate> {
    let fields = entry(MapKind::Aggregate, value)?;
    let name = fields.str("type")?;
    let specific: &[&str] = match name {
        "exponential" => &["factor", "scale", "octaves"],
        "buckets" => &["bounds"],
        "counter" | "sum" | "last" => &[],
        _ => return Err(unknown("type", name)),
    };
    let common = [
        "key", "type", "event", "value", "labels", "keep", "series", "expire_s",
    ];
    fields.only(&[&common, specific].concat())?;
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
            map: MapKind::Aggregate,
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

/// The aggregate type of a valid name.
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
    let fields = entry(MapKind::Stream, value)?;
    fields.only(&["schema", "kind", "event", "columns", "keep", "sample", "numbers"])?;
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
        numbers: match fields.opt_u32("numbers")? {
            Some(numbers) if numbers as usize > columns.len() => {
                return fields.bad("numbers", "at most as many as columns");
            }
            numbers => numbers.unwrap_or(0),
        },
    })
}

fn carry(value: &Value) -> Result<Carry> {
    let fields = entry(MapKind::Carry, value)?;
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
