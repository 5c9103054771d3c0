//! The location of a value in an event: a path, then transforms from a closed set.
//!
//! Packs read expressions from YAML, the wire writes them into plans, relays evaluate them (`collector/wire/SPEC.md`, section 4.3).
//! `V` is the type of the transforms' operands: scalars in a definition, values on the wire.

/// The start of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// The measurements of the event.
    Measurements,
    /// The metadata of the event.
    Metadata,
    /// Values that an earlier event of the same process carries; the path is one name.
    Carry,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// A key of a map or struct: the atom, or if absent the binary.
    Key(String),
    /// An element of a tuple or list, from 0.
    Element(u32),
}

/// The closed set of transforms. A value that is not a scalar after the last one is null.
#[derive(Debug, Clone, PartialEq)]
pub enum Transform<V> {
    /// Name of a module without `Elixir.`.
    Name,
    /// Class of an HTTP status: 503 → `5xx`.
    Class,
    /// An atom, or the first element of a tuple.
    Tag,
    /// Length of a list, map, tuple or binary.
    Length,
    /// Whether the value is present and not false.
    Bool,
    /// Name of the type.
    Type,
    /// ASCII letters in upper case.
    Upper,
    /// At most this many bytes.
    Cut(u32),
    /// Text before the last occurrence of this text; null if there is none.
    Before(String),
    /// One of these, otherwise `_OTHER`, as in OpenTelemetry's semantic conventions.
    Allow(Vec<V>),
    /// A name instead of an older one; other values stay.
    Rename(Vec<(String, String)>),
    /// This instead of null.
    Default(V),
}

impl<V> Transform<V> {
    /// The name in definitions and plans.
    pub fn name(&self) -> &'static str {
        match self {
            Transform::Name => "name",
            Transform::Class => "class",
            Transform::Tag => "tag",
            Transform::Length => "length",
            Transform::Bool => "bool",
            Transform::Type => "type",
            Transform::Upper => "upper",
            Transform::Cut(_) => "cut",
            Transform::Before(_) => "before",
            Transform::Allow(_) => "allow",
            Transform::Rename(_) => "rename",
            Transform::Default(_) => "default",
        }
    }

    /// The transform of this name, if it takes no operand.
    pub fn without_operand(name: &str) -> Option<Self> {
        Some(match name {
            "name" => Transform::Name,
            "class" => Transform::Class,
            "tag" => Transform::Tag,
            "length" => Transform::Length,
            "bool" => Transform::Bool,
            "type" => Transform::Type,
            "upper" => Transform::Upper,
            _ => return None,
        })
    }

    /// The same transform with operands of another type.
    pub fn map<U>(&self, operand: impl Fn(&V) -> U) -> Transform<U> {
        match self {
            Transform::Name => Transform::Name,
            Transform::Class => Transform::Class,
            Transform::Tag => Transform::Tag,
            Transform::Length => Transform::Length,
            Transform::Bool => Transform::Bool,
            Transform::Type => Transform::Type,
            Transform::Upper => Transform::Upper,
            Transform::Cut(bytes) => Transform::Cut(*bytes),
            Transform::Before(text) => Transform::Before(text.clone()),
            Transform::Allow(values) => Transform::Allow(values.iter().map(operand).collect()),
            Transform::Rename(names) => Transform::Rename(names.clone()),
            Transform::Default(value) => Transform::Default(operand(value)),
        }
    }
}
