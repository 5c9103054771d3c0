//! Typed reading and writing of maps: required keys, types, and rejection of unknown keys.

use crate::error::{Error, ErrorKind, Result};
use crate::frame_type::FrameType;
use crate::map_kind::MapKind;
use crate::value::{Map, Value};

/// A map, with its kind for error messages.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'m> {
    pub frame: Option<FrameType>,
    pub kind: MapKind,
    pub map: &'m Map,
}

impl<'m> Fields<'m> {
    pub fn new(frame: FrameType, kind: MapKind, map: &'m Map) -> Self {
        Self {
            frame: Some(frame),
            kind,
            map,
        }
    }

    pub fn error(&self, kind: ErrorKind) -> Error {
        Error::new(self.frame, 0, kind)
    }

    pub fn bad<T>(&self, key: &str, expected: &'static str) -> Result<T> {
        Err(self.error(ErrorKind::BadValue {
            map: self.kind,
            key: key.to_owned(),
            expected,
        }))
    }

    /// A required key.
    fn required<T>(&self, key: &'static str, found: Option<T>) -> Result<T> {
        found.ok_or_else(|| self.error(ErrorKind::MissingKey { map: self.kind, key }))
    }

    fn typed<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl FnOnce(&'m Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.map.get(key) {
            None => Ok(None),
            Some(value) => read(value).map_or_else(|| self.bad(key, expected), |read| Ok(Some(read))),
        }
    }

    pub fn opt_int(&self, key: &'static str) -> Result<Option<i64>> {
        self.typed(key, "an integer", Value::as_int)
    }

    pub fn int(&self, key: &'static str) -> Result<i64> {
        self.required(key, self.opt_int(key)?)
    }

    pub fn opt_u32(&self, key: &'static str) -> Result<Option<u32>> {
        self.typed(key, "an integer from 0 to 2^32-1", |value| {
            value.as_int()?.try_into().ok()
        })
    }

    pub fn u32(&self, key: &'static str) -> Result<u32> {
        self.required(key, self.opt_u32(key)?)
    }

    pub fn opt_u64(&self, key: &'static str) -> Result<Option<u64>> {
        self.typed(key, "an integer not below 0", |value| {
            value.as_int()?.try_into().ok()
        })
    }

    pub fn opt_float(&self, key: &'static str) -> Result<Option<f64>> {
        self.typed(key, "a float", |value| match value {
            Value::Float(float) => Some(*float),
            _ => None,
        })
    }

    pub fn float(&self, key: &'static str) -> Result<f64> {
        self.required(key, self.opt_float(key)?)
    }

    pub fn opt_bool(&self, key: &'static str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    pub fn opt_str(&self, key: &'static str) -> Result<Option<&'m str>> {
        self.typed(key, "a string", Value::as_str)
    }

    pub fn str(&self, key: &'static str) -> Result<&'m str> {
        self.required(key, self.opt_str(key)?)
    }

    pub fn opt_list(&self, key: &'static str) -> Result<Option<&'m [Value]>> {
        self.typed(key, "a list", Value::as_list)
    }

    pub fn list(&self, key: &'static str) -> Result<&'m [Value]> {
        self.required(key, self.opt_list(key)?)
    }

    pub fn opt_map(&self, key: &'static str) -> Result<Option<&'m Map>> {
        self.typed(key, "a map", Value::as_map)
    }

    pub fn map(&self, key: &'static str) -> Result<&'m Map> {
        self.required(key, self.opt_map(key)?)
    }

    pub fn strings(&self, key: &'static str, items: &[Value]) -> Result<Vec<String>> {
        items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map_or_else(|| self.bad(key, "a list of strings"), Ok)
    }

    /// Fails on the first key that is not in `known`.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(self.error(ErrorKind::UnknownKey {
                map: self.kind,
                key: key.clone(),
            })),
        }
    }
}

/// Adds an entry.
pub(crate) fn put(map: &mut Map, key: &str, value: impl Into<Value>) {
    map.insert(key.to_owned(), value.into());
}

/// Adds an entry if there is a value.
pub(crate) fn put_some(map: &mut Map, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        put(map, key, value);
    }
}

/// Strings as a list.
pub(crate) fn string_list(items: &[String]) -> Value {
    Value::List(items.iter().map(|item| Value::from(item.as_str())).collect())
}

/// Reads a list of floats.
pub(crate) fn floats(fields: Fields<'_>, key: &'static str, items: &[Value]) -> Result<Vec<f64>> {
    let float = |item: &Value| match item {
        Value::Float(float) => Some(*float),
        _ => None,
    };
    match items.iter().map(float).collect() {
        Some(floats) => Ok(floats),
        None => fields.bad(key, "a list of floats"),
    }
}

/// Floats as a list.
pub(crate) fn float_list(floats: &[f64]) -> Value {
    Value::List(floats.iter().map(|float| Value::Float(*float)).collect())
}
