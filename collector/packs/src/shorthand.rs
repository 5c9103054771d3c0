//! Reads YAML values that have a short form (a string) and a long form (a map): `status: conn.status` or
//! `status: {path: conn.status, …}`.
//!
//! Untagged enums of serde would read both, but lose the line and column of errors inside.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor, value};
use std::fmt;
use std::marker::PhantomData;

/// Reads a type from each shape of YAML value; a shape that is not overridden is rejected with [`Shapes::EXPECTED`].
pub(crate) trait Shapes<'de>: Sized {
    /// The accepted forms, for errors.
    const EXPECTED: &'static str;

    fn text<E: de::Error>(text: &str) -> Result<Self, E> {
        Err(E::invalid_value(de::Unexpected::Str(text), &Self::EXPECTED))
    }

    fn flag<E: de::Error>(flag: bool) -> Result<Self, E> {
        Err(E::invalid_type(de::Unexpected::Bool(flag), &Self::EXPECTED))
    }

    fn integer<E: de::Error>(integer: i64) -> Result<Self, E> {
        Err(E::invalid_type(de::Unexpected::Signed(integer), &Self::EXPECTED))
    }

    fn float<E: de::Error>(float: f64) -> Result<Self, E> {
        Err(E::invalid_type(de::Unexpected::Float(float), &Self::EXPECTED))
    }

    fn map<A: MapAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(de::Error::invalid_type(de::Unexpected::Map, &Self::EXPECTED))
    }

    fn list<A: SeqAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(de::Error::invalid_type(de::Unexpected::Seq, &Self::EXPECTED))
    }
}

/// Reads a value of any shape.
pub(crate) fn any<'de, D: Deserializer<'de>, T: Shapes<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Any(PhantomData))
}

/// Reads a struct from the map of a visitor.
pub(crate) fn from_map<'de, A: MapAccess<'de>, T: Deserialize<'de>>(map: A) -> Result<T, A::Error> {
    T::deserialize(value::MapAccessDeserializer::new(map))
}

/// Reads a list from the sequence of a visitor.
pub(crate) fn from_list<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(list: A) -> Result<T, A::Error> {
    T::deserialize(value::SeqAccessDeserializer::new(list))
}

/// Reads a type of another crate by its shapes.
pub(crate) struct Shaped<T>(pub T);

impl<'de, T: Shapes<'de>> Deserialize<'de> for Shaped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        any(deserializer).map(Shaped)
    }
}

struct Any<T>(PhantomData<T>);

impl<'de, T: Shapes<'de>> Visitor<'de> for Any<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::text(text)
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<T, E> {
        T::flag(flag)
    }

    fn visit_i64<E: de::Error>(self, integer: i64) -> Result<T, E> {
        T::integer(integer)
    }

    fn visit_u64<E: de::Error>(self, integer: u64) -> Result<T, E> {
        match i64::try_from(integer) {
            Ok(integer) => T::integer(integer),
            Err(_) => T::float(integer as f64),
        }
    }

    fn visit_f64<E: de::Error>(self, float: f64) -> Result<T, E> {
        T::float(float)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::list(list)
    }
}
