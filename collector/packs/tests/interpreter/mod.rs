//! Interprets a compiled selection as a relay does: recorded events in, metrics and rows out.
//!
//! Events are YAML. `:ok` and `Elixir.Shop.Repo` are atoms, other text is a binary, `{tuple: [...]}` is a tuple, `null` is nil,
//! and `"#pid"`, `"#ref"` are terms without a text form.

use dichroic_model::{Factor, units};
use dichroic_packs::{
    Aggregation, CarrySlot, Comparison, Compiled, Condition, Expression, Metric, Root, Scalar, Step, Stream,
    Transform,
};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// A term of a recorded event.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Term {
    #[default]
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Atom(String),
    Text(String),
    List(Vec<Term>),
    Tuple(Vec<Term>),
    Map(BTreeMap<String, Term>),
    Opaque,
}

impl<'de> Deserialize<'de> for Term {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Term;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a term")
            }
            fn visit_unit<E>(self) -> Result<Term, E> {
                Ok(Term::Nil)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Term, E> {
                Ok(Term::Bool(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Term, E> {
                Ok(Term::Int(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Term, E> {
                Ok(Term::Int(v as i64))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Term, E> {
                Ok(Term::Float(v))
            }
            fn visit_str<E>(self, v: &str) -> Result<Term, E> {
                Ok(match v.strip_prefix(':') {
                    Some(atom) => Term::Atom(atom.to_owned()),
                    None if v.starts_with("Elixir.") => Term::Atom(v.to_owned()),
                    None if v.starts_with('#') => Term::Opaque,
                    None => Term::Text(v.to_owned()),
                })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Term, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Term::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Term, A::Error> {
                let mut items = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Term>()? {
                    items.insert(key, value);
                }
                Ok(match items.get("tuple") {
                    Some(Term::List(list)) if items.len() == 1 => Term::Tuple(list.clone()),
                    _ => Term::Map(items),
                })
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// One recorded event.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub event: String,
    #[serde(default)]
    pub measurements: Term,
    #[serde(default)]
    pub metadata: Term,
}

type Carried = BTreeMap<String, Term>;

struct Context<'a> {
    event: &'a Recorded,
    carried: &'a Carried,
}

impl Context<'_> {
    fn eval(&self, expression: &Expression) -> Term {
        let root = match expression.root {
            Some(Root::Measurements) => &self.event.measurements,
            Some(Root::Carry) => {
                let name = expression.carried().expect("one name");
                return transformed(
                    self.carried.get(name).cloned().unwrap_or_default(),
                    &expression.transforms,
                );
            }
            _ => &self.event.metadata,
        };
        let found = expression
            .path
            .iter()
            .try_fold(root, |term, step| match (step, term) {
                (Step::Key(key), Term::Map(map)) => map.get(key),
                (Step::Element(at), Term::List(list) | Term::Tuple(list)) => list.get(*at as usize),
                _ => None,
            });
        transformed(found.cloned().unwrap_or_default(), &expression.transforms)
    }

    fn holds(&self, condition: &Condition) -> bool {
        let term = self.eval(&condition.expression);
        let number = |scalar: &Scalar| match scalar {
            Scalar::Int(int) => *int as f64,
            Scalar::Float(float) => *float,
            _ => f64::NAN,
        };
        match &condition.comparison {
            Comparison::Eq(value) => same(value, &term),
            Comparison::Ne(value) => !same(value, &term),
            Comparison::In(values) => values.iter().any(|value| same(value, &term)),
            Comparison::Lt(value) => numeric(&term).is_some_and(|n| n < number(value)),
            Comparison::Gt(value) => numeric(&term).is_some_and(|n| n > number(value)),
            Comparison::Has => term != Term::Nil,
            Comparison::Lacks => term == Term::Nil,
        }
    }
}

fn literal(scalar: &Scalar) -> Term {
    match scalar {
        Scalar::Bool(flag) => Term::Bool(*flag),
        Scalar::Int(int) => Term::Int(*int),
        Scalar::Float(float) => Term::Float(*float),
        Scalar::Str(text) => Term::Text(text.clone()),
    }
}

fn numeric(term: &Term) -> Option<f64> {
    match term {
        Term::Int(int) => Some(*int as f64),
        Term::Float(float) => Some(*float),
        _ => None,
    }
}

/// An atom equals the text of its name, an integer the float of its value.
fn same(scalar: &Scalar, term: &Term) -> bool {
    match (scalar, term) {
        (Scalar::Bool(flag), Term::Bool(other)) => flag == other,
        (Scalar::Str(text), Term::Atom(name) | Term::Text(name)) => text == name,
        (scalar, term) => numeric(&literal(scalar)).is_some_and(|n| Some(n) == numeric(term)),
    }
}

fn type_name(term: &Term) -> Term {
    let name = match term {
        Term::Nil => return Term::Nil,
        Term::Bool(_) => "bool",
        Term::Int(_) => "int",
        Term::Float(_) => "float",
        Term::Atom(_) => "atom",
        Term::Text(_) => "string",
        Term::List(_) => "list",
        Term::Tuple(_) => "tuple",
        Term::Opaque => "pid",
        Term::Map(map) => match map.get("__struct__") {
            Some(Term::Atom(name)) => name.trim_start_matches("Elixir."),
            _ => "map",
        },
    };
    Term::Text(name.to_owned())
}

fn transformed(term: Term, transforms: &[Transform]) -> Term {
    transforms
        .iter()
        .fold(term, |term, transform| match (transform, term) {
            (Transform::Default(value), Term::Nil) => literal(value),
            (Transform::Name, Term::Atom(name)) => Term::Text(name.trim_start_matches("Elixir.").to_owned()),
            (Transform::Tag, term @ (Term::Atom(_) | Term::Nil | Term::Bool(_))) => term,
            (Transform::Tag, Term::Tuple(list)) => match list.into_iter().next() {
                Some(tag @ Term::Atom(_)) => tag,
                _ => Term::Nil,
            },
            (Transform::Tag, _) => Term::Nil,
            (Transform::Type, term) => type_name(&term),
            (Transform::Upper, Term::Text(text) | Term::Atom(text)) => Term::Text(text.to_ascii_uppercase()),
            (Transform::Bool, term) => Term::Bool(!matches!(term, Term::Nil | Term::Bool(false))),
            (Transform::Length, Term::List(list) | Term::Tuple(list)) => Term::Int(list.len() as i64),
            (Transform::Length, Term::Map(map)) => Term::Int(map.len() as i64),
            (Transform::Length, Term::Text(text)) => Term::Int(text.len() as i64),
            (Transform::Length, _) => Term::Nil,
            (Transform::Class, Term::Int(status @ 100..=599)) => Term::Text(format!("{}xx", status / 100)),
            (Transform::Class, _) => Term::Nil,
            (Transform::Cut(bytes), Term::Text(text) | Term::Atom(text)) => {
                Term::Text(text.chars().take(*bytes as usize).collect())
            }
            (Transform::Before(end), Term::Text(text) | Term::Atom(text)) => match text.rfind(end) {
                Some(at) if at > 0 => Term::Text(text[..at].to_owned()),
                _ => Term::Nil,
            },
            (Transform::Before(_), _) => Term::Nil,
            (Transform::Rename(names), Term::Text(text) | Term::Atom(text)) => {
                let new = names
                    .iter()
                    .find(|(old, _)| *old == text)
                    .map(|(_, new)| new.clone());
                Term::Text(new.unwrap_or(text))
            }
            (Transform::Allow(values), term) if !values.iter().any(|value| same(value, &term)) => {
                Term::Text("_OTHER".into())
            }
            (_, term) => term,
        })
}

fn shown(term: &Term) -> Option<String> {
    Some(match term {
        Term::Bool(flag) => flag.to_string(),
        Term::Int(int) => int.to_string(),
        Term::Float(float) => float.to_string(),
        Term::Text(text) | Term::Atom(text) => text.clone(),
        _ => return None,
    })
}

/// One series of one metric, in raw units.
#[derive(Debug, Clone)]
pub struct Total<'w> {
    /// The metric, in the compiled selection.
    pub metric: &'w Metric,
    /// Values of the labels, in the metric's order.
    pub labels: Vec<Term>,
    /// Number of counted events.
    pub count: u64,
    /// Sum of the integers, or the last value if it is an integer.
    pub int: i64,
    /// Sum of the floats, or the last value if it is a float.
    pub float: f64,
}

/// The totals of recorded events, in the order of metrics and labels, and `event column=value` rows in the order of events.
pub fn totals<'w>(compiled: &'w Compiled, events: &[Recorded]) -> (Vec<Total<'w>>, Vec<String>) {
    let mut totals = BTreeMap::new();
    let (mut rows, mut carried) = (Vec::new(), Carried::new());
    for event in events {
        let context = Context {
            event,
            carried: &carried,
        };
        let metrics = compiled.metrics.iter().enumerate();
        for (index, metric) in metrics.filter(|(_, m)| m.event.join(".") == event.event) {
            count(&context, index, metric, &mut totals);
        }
        for stream in compiled.streams.iter().filter(|s| s.name() == event.event) {
            rows.push(row(&context, stream));
        }
        let slots = compiled
            .carries
            .iter()
            .filter(|slot| slot.event.join(".") == event.event);
        let value = |slot: &CarrySlot| {
            slot.expression
                .as_ref()
                .map(|e| context.eval(e))
                .unwrap_or_default()
        };
        let written: Vec<_> = slots.map(|slot| (slot.name.clone(), value(slot))).collect();
        carried.extend(written);
    }
    (totals.into_values().collect(), rows)
}

fn row(context: &Context<'_>, stream: &Stream) -> String {
    let measurements = stream.measurements.iter();
    let measurements = measurements.map(|(name, unit, e)| (name, context.eval(e), unit.as_str()));
    let metadata = stream
        .metadata
        .iter()
        .map(|(name, e)| (name, context.eval(e), ""));
    let cells: Vec<String> = measurements
        .chain(metadata)
        .filter_map(|(name, term, unit)| Some(format!("{name}={}{unit}", shown(&term)?)))
        .collect();
    format!("{} {}", context.event.event, cells.join(" "))
}

fn count<'w>(
    context: &Context<'_>,
    index: usize,
    metric: &'w Metric,
    totals: &mut BTreeMap<(usize, Vec<Option<String>>), Total<'w>>,
) {
    if !metric.keep.iter().all(|condition| context.holds(condition)) {
        return;
    }
    let value = metric.value.as_ref().map_or(Term::Int(0), |e| context.eval(e));
    let (int, float) = match value {
        Term::Int(int) => (int, 0.0),
        Term::Float(float) => (0, float),
        _ => return,
    };
    let labels: Vec<Term> = metric.labels.iter().map(|(_, e)| context.eval(e)).collect();
    let total = totals
        .entry((index, labels.iter().map(shown).collect()))
        .or_insert_with(|| Total {
            metric,
            labels,
            count: 0,
            int: 0,
            float: 0.0,
        });
    total.count += 1;
    if metric.aggregation == Aggregation::LastValue {
        (total.int, total.float) = (int, float);
    } else {
        total.int += int;
        total.float += float;
    }
}

/// As [`totals`], with the totals as text: `name{labels} value unit`, sorted.
pub fn play(compiled: &Compiled, events: &[Recorded]) -> (Vec<String>, Vec<String>) {
    let (totals, rows) = totals(compiled, events);
    let mut lines: Vec<String> = totals.iter().map(line).collect();
    lines.sort();
    (lines, rows)
}

fn line(total: &Total<'_>) -> String {
    let metric = total.metric;
    let names = metric.labels.iter().map(|(name, _)| name);
    let labels = names.zip(total.labels.iter().map(shown));
    let fixed = metric
        .fixed
        .iter()
        .map(|(name, value)| (name, Some(value.clone())));
    let mut labels: Vec<String> = labels
        .chain(fixed)
        .filter_map(|(name, value)| Some(format!("{name}={:?}", value?)))
        .collect();
    labels.sort();
    let series = format!("{}{{{}}}", metric.name, labels.join(","));
    let sum = factor(metric).apply(total.int as f64 + total.float);
    let unit = match metric.unit.as_str() {
        "" => String::new(),
        unit => format!(" {unit}"),
    };
    let count = total.count;
    match metric.aggregation {
        Aggregation::Counter => format!("{series} {count}"),
        Aggregation::Sum { .. } | Aggregation::LastValue => format!("{series} {sum}{unit}"),
        Aggregation::Buckets(_) | Aggregation::Exponential { .. } => {
            format!("{series} count={count} sum={sum}{unit}")
        }
    }
}

fn factor(metric: &Metric) -> Factor {
    match metric.raw_unit.as_str() {
        "" => Factor::ONE,
        "native" => units::native(1_000_000_000, &metric.unit).expect("a unit of time"),
        raw => units::conversion(raw, &metric.unit).expect("validated when read"),
    }
}
