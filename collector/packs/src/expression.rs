//! Expressions: a path to a value of an event, then transforms from a closed set; and conditions on such values.
//!
//! Only read and written here. The relay evaluates them in the process that emits the event; a result that is not a scalar is null.

use crate::error::PathError;
pub use crate::limits::PATH_STEPS;
use crate::shorthand::{self, Shaped, Shapes};
pub use dichroic_model::expression::{Root, Step};
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, MapAccess};

/// A literal of a definition.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text; also equals the atom of that name.
    Str(String),
}

/// A transform whose operands are literals.
pub type Transform = dichroic_model::expression::Transform<Scalar>;

/// A path to a value of an event, and transforms of the value.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// Where the path starts; `None` is metadata for tags and conditions, measurements for values.
    pub root: Option<Root>,
    /// At most 8 steps.
    pub path: Vec<Step>,
    /// Applied in order.
    pub transforms: Vec<Transform>,
}

/// The comparison of a condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// Equal.
    Eq(Scalar),
    /// Not equal, or absent.
    Ne(Scalar),
    /// A number below this one.
    Lt(Scalar),
    /// A number above this one.
    Gt(Scalar),
    /// Equal to one of these.
    In(Vec<Scalar>),
    /// Present.
    Has,
    /// Absent.
    Lacks,
}

/// A condition on a value of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The value.
    pub expression: Expression,
    /// Its comparison.
    pub comparison: Comparison,
}

fn steps(text: &str) -> Result<Vec<Step>, PathError> {
    let step = |part: &str| match part.parse() {
        Ok(element) => Step::Element(element),
        Err(_) => Step::Key(part.to_owned()),
    };
    if text.is_empty() || text.split('.').any(|part| part.trim().is_empty()) {
        return Err(PathError::Empty(text.to_owned()));
    }
    let path: Vec<_> = text.split('.').map(step).collect();
    if path.len() > PATH_STEPS {
        return Err(PathError::Long(text.to_owned()));
    }
    Ok(path)
}

impl Expression {
    /// A dotted path without root and transforms.
    pub fn path(text: &str) -> Result<Self, PathError> {
        Ok(Expression {
            root: None,
            path: steps(text)?,
            transforms: Vec::new(),
        })
    }

    /// One measurement or metadata key; its name may contain dots.
    pub fn key(root: Root, key: &str) -> Self {
        Expression {
            root: Some(root),
            path: vec![Step::Key(key.to_owned())],
            transforms: Vec::new(),
        }
    }

    /// The name of the carried value, if this reads one.
    pub fn carried(&self) -> Option<&str> {
        match (self.root, self.path.as_slice()) {
            (Some(Root::Carry), [Step::Key(name)]) => Some(name),
            _ => None,
        }
    }
}

pub(crate) const EXPRESSION: &str = "a path such as conn.status, or {path: conn.status, from: metadata|measurements, transform: [class]}, or {carry: NAME}";

/// Where a value is in an event.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LongExpression {
    /// Keys joined by dots; elements of tuples and lists by number.
    path: Option<String>,
    /// Name of a carried value, instead of `path`.
    carry: Option<String>,
    /// Where the path starts: `measurements` or `metadata`.
    from: Option<Shaped<Root>>,
    /// Transforms, applied in order.
    #[serde(default)]
    transform: Vec<Shaped<Transform>>,
}

fn expression<E: de::Error>(
    path: Option<String>,
    carry: Option<String>,
    from: Option<Shaped<Root>>,
    transforms: Vec<Shaped<Transform>>,
) -> Result<Expression, E> {
    let transforms = transforms
        .into_iter()
        .map(|Shaped(transform)| transform)
        .collect();
    match (path, carry, from.map(|Shaped(root)| root)) {
        (_, _, Some(Root::Carry)) => Err(E::custom("invalid from: carry; write {carry: NAME}")),
        (Some(path), None, root) => Ok(Expression {
            root,
            path: steps(&path).map_err(E::custom)?,
            transforms,
        }),
        (None, Some(name), None) => Ok(Expression {
            root: Some(Root::Carry),
            path: vec![Step::Key(name)],
            transforms,
        }),
        _ => Err(E::custom(format!("write either path or carry: {EXPRESSION}"))),
    }
}

impl<'de> Shapes<'de> for Expression {
    const EXPECTED: &'static str = EXPRESSION;

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        Expression::path(text).map_err(E::custom)
    }

    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let long: LongExpression = shorthand::from_map(map)?;
        expression(long.path, long.carry, long.from, long.transform)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shorthand::any(deserializer)
    }
}

impl<'de> Shapes<'de> for Scalar {
    const EXPECTED: &'static str = "text, a number, true or false";

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        Ok(Scalar::Str(text.to_owned()))
    }

    fn flag<E: de::Error>(flag: bool) -> Result<Self, E> {
        Ok(Scalar::Bool(flag))
    }

    fn integer<E: de::Error>(integer: i64) -> Result<Self, E> {
        Ok(Scalar::Int(integer))
    }

    fn float<E: de::Error>(float: f64) -> Result<Self, E> {
        Ok(Scalar::Float(float))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        shorthand::any(deserializer)
    }
}

impl<'de> Shapes<'de> for Root {
    const EXPECTED: &'static str = "measurements or metadata";

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        match text {
            "measurements" => Ok(Root::Measurements),
            "metadata" => Ok(Root::Metadata),
            "carry" => Ok(Root::Carry),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &Self::EXPECTED)),
        }
    }
}

pub(crate) const TRANSFORM: &str = "one of name, class, tag, length, bool, type, upper, {cut: BYTES}, {before: TEXT}, {allow: [VALUES]}, {rename: {OLD: NEW}}, {default: VALUE}";

impl<'de> Shapes<'de> for Transform {
    const EXPECTED: &'static str = TRANSFORM;

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        Transform::without_operand(text)
            .ok_or_else(|| E::custom(format!("unknown transform {text:?}; write {TRANSFORM}")))
    }

    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let wrong = || {
            de::Error::custom(format!(
                "a transform with an operand has one key; write {TRANSFORM}"
            ))
        };
        let key: String = map.next_key()?.ok_or_else(wrong)?;
        let transform = match key.as_str() {
            "cut" => Transform::Cut(map.next_value()?),
            "before" => Transform::Before(before(map.next_value()?)?),
            "allow" => Transform::Allow(map.next_value()?),
            "rename" => Transform::Rename(rename(map.next_value()?)?),
            "default" => Transform::Default(map.next_value()?),
            _ => {
                return Err(de::Error::custom(format!(
                    "unknown transform {key:?}; write {TRANSFORM}"
                )));
            }
        };
        match map.next_key::<String>()? {
            None => Ok(transform),
            Some(_) => Err(wrong()),
        }
    }
}

fn rename<E: de::Error>(names: BTreeMap<String, String>) -> Result<Vec<(String, String)>, E> {
    match names.is_empty() {
        true => Err(E::custom(
            "invalid value {} of rename: expected at least one pair, such as {Old.Name: New.Name}",
        )),
        false => Ok(names.into_iter().collect()),
    }
}

fn before<E: de::Error>(text: String) -> Result<String, E> {
    match text.is_empty() {
        true => Err(E::custom(
            "invalid value \"\" of before: expected text such as _worker_",
        )),
        false => Ok(text),
    }
}

pub(crate) const CONDITION: &str =
    "{path: KEY, eq: VALUE}, with one of eq, ne, lt, gt, in: [VALUES], has: true, lacks: true";

/// A comparison of one value of an event.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LongCondition {
    /// Keys joined by dots; elements of tuples and lists by number.
    path: Option<String>,
    /// Name of a carried value, instead of `path`.
    carry: Option<String>,
    /// Where the path starts: `measurements` or `metadata`.
    from: Option<Shaped<Root>>,
    /// Transforms, applied in order.
    #[serde(default)]
    transform: Vec<Shaped<Transform>>,
    /// Holds if the value equals this one.
    eq: Option<Scalar>,
    /// Holds if the value differs from this one or is absent.
    ne: Option<Scalar>,
    /// Holds if the value is a number below this one.
    lt: Option<Scalar>,
    /// Holds if the value is a number above this one.
    gt: Option<Scalar>,
    /// Holds if the value is one of these.
    r#in: Option<Vec<Scalar>>,
    /// `true` holds if the value is present.
    has: Option<bool>,
    /// `true` holds if the value is absent.
    lacks: Option<bool>,
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use de::Error;
        let long = LongCondition::deserialize(deserializer)?;
        let present = |has: bool| if has { Comparison::Has } else { Comparison::Lacks };
        let mut found = [
            long.eq.map(Comparison::Eq),
            long.ne.map(Comparison::Ne),
            long.lt.map(Comparison::Lt),
            long.gt.map(Comparison::Gt),
            long.r#in.map(Comparison::In),
            long.has.map(present),
            long.lacks.map(|absent| present(!absent)),
        ]
        .into_iter()
        .flatten();
        let (Some(comparison), None) = (found.next(), found.next()) else {
            return Err(D::Error::custom(format!(
                "a condition has exactly one comparison; write {CONDITION}"
            )));
        };
        match &comparison {
            Comparison::Lt(bound) | Comparison::Gt(bound)
                if !matches!(bound, Scalar::Int(_) | Scalar::Float(_)) =>
            {
                Err(D::Error::custom(
                    "lt and gt compare numbers; write eq or in for text",
                ))
            }
            Comparison::In(values) if values.is_empty() => {
                Err(D::Error::custom("in: [] never holds; list at least one value"))
            }
            _ => Ok(Condition {
                expression: expression(long.path, long.carry, long.from, long.transform)?,
                comparison,
            }),
        }
    }
}
