//! The JSON Schema of the configuration, and what it states about one key: the source of `check --schema`, of
//! `docs/configuration.md` and of the expectations in error messages.

use super::position::{KeyPath, Segment};
use super::types::Config;
use super::values::{EXPECTED, SECRET};
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The schema, draft 2020-12.
pub fn document() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), "dichroic.yaml".into());
    schema.to_value()
}

/// A schema with what it may refer to.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    root: &'a Value,
    /// As the key has it: with its own description, default and examples.
    outer: &'a Value,
    /// Without references and alternatives.
    inner: &'a Value,
}

impl<'a> Node<'a> {
    /// The schema of the whole file.
    pub fn root(document: &'a Value) -> Self {
        Node {
            root: document,
            outer: document,
            inner: document,
        }
    }

    fn at(self, outer: &'a Value) -> Self {
        let mut inner = outer;
        loop {
            let reference = inner.get("$ref").and_then(Value::as_str);
            let target = reference.and_then(|r| self.root.pointer(r.trim_start_matches('#')));
            let alternative = || {
                let all = inner.get("anyOf")?.as_array()?;
                all.iter().find(|one| one.get("type") != Some(&"null".into()))
            };
            match target.or_else(alternative) {
                Some(next) => inner = next,
                None => break,
            }
        }
        Node { outer, inner, ..self }
    }

    /// The schema of the value at a path below this one.
    pub fn get(self, path: &KeyPath) -> Option<Self> {
        path.0.iter().try_fold(self, |node, segment| match segment {
            Segment::Key(key) => node.key(key),
            Segment::Item(_) => node.items(),
        })
    }

    /// The schema of a key's value.
    pub fn key(self, key: &str) -> Option<Self> {
        let named = self.inner.get("properties").and_then(|all| all.get(key));
        let any = || {
            self.inner
                .get("additionalProperties")
                .filter(|any| any.is_object())
        };
        named.or_else(any).map(|schema| self.at(schema))
    }

    /// The schema of a list's items.
    pub fn items(self) -> Option<Self> {
        let list = |schema: &'a Value| schema.get("items");
        let alternatives = self.inner.get("oneOf").and_then(Value::as_array);
        let items = list(self.inner).or_else(|| alternatives?.iter().find_map(list));
        items.map(|schema| self.at(schema))
    }

    /// The names of the keys of a section, in the order of the types.
    pub fn keys(self) -> Vec<&'a str> {
        let properties = self.inner.get("properties").and_then(Value::as_object);
        properties
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect()
    }

    /// Whether a key of this section must be written.
    #[cfg(test)]
    pub fn requires(self, key: &str) -> bool {
        let required = self.inner.get("required").and_then(Value::as_array);
        required.into_iter().flatten().any(|name| name == key)
    }

    fn text(self, keyword: &str) -> Option<&'a str> {
        self.outer
            .get(keyword)
            .or_else(|| self.inner.get(keyword))
            .and_then(Value::as_str)
    }

    /// The description, as one paragraph.
    pub fn description(self) -> String {
        let text = self.text("description").unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The default, as it would be written in the file.
    pub fn default(self) -> Option<&'a Value> {
        self.outer.get("default").filter(|value| !value.is_null())
    }

    /// An example, in YAML's flow style.
    pub fn example(self) -> Option<&'a Value> {
        let examples = self
            .outer
            .get("examples")
            .or_else(|| self.inner.get("examples"))?;
        examples.as_array()?.first()
    }

    /// Whether some section has a key of this name.
    pub fn names(self, key: &str) -> bool {
        fn any(schema: &Value, key: &str) -> bool {
            let named = |map: &serde_json::Map<String, Value>| {
                let properties = map.get("properties");
                properties.is_some_and(|all| all.get(key).is_some()) || map.values().any(|one| any(one, key))
            };
            match schema {
                Value::Object(map) => named(map),
                Value::Array(items) => items.iter().any(|one| any(one, key)),
                _ => false,
            }
        }
        any(self.root, key)
    }

    /// Whether a text, a number or a truth value is written here, not a list or a section.
    pub fn is_scalar(self) -> bool {
        let kinds = self.inner.get("type");
        !["array", "object"]
            .iter()
            .any(|kind| kinds.is_some_and(|kinds| kinds == kind))
    }

    /// Whether values here, and everything below, are never shown.
    pub fn is_secret(self) -> bool {
        let marked = |schema: &Value| schema.get(SECRET).is_some_and(|secret| secret == true);
        marked(self.outer) || marked(self.inner)
    }

    /// Whether the schema states in words what may be written.
    pub fn states_expectation(self) -> bool {
        self.text(EXPECTED).is_some()
    }

    /// What may be written, such as `an integer from 1 to 65535`.
    pub fn expected(self) -> String {
        if let Some(text) = self.text(EXPECTED) {
            return text.to_owned();
        }
        let kind = match self.inner.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().find(|kind| **kind != "null"),
            kind => kind,
        };
        match kind.and_then(Value::as_str) {
            _ if !self.variants().is_empty() => format!("one of {}", self.variants().join(", ")),
            Some("boolean") => "true or false".to_owned(),
            Some("integer") => match (self.bound("minimum"), self.bound("maximum")) {
                (Some(min), Some(max)) => format!("an integer from {min} to {max}"),
                (min, _) => format!("an integer of at least {}", min.unwrap_or_default()),
            },
            Some("number") => "a number".to_owned(),
            Some("string") => "text".to_owned(),
            Some("array") => match self.items().map(Node::expected).as_deref() {
                Some("text") => "a list of text".to_owned(),
                _ => "a list".to_owned(),
            },
            Some("object") if self.keys().is_empty() => "a map".to_owned(),
            Some("object") => format!("a section with the keys {}", self.keys().join(", ")),
            _ => "another value".to_owned(),
        }
    }

    fn bound(self, keyword: &str) -> Option<u64> {
        let bound = self.inner.get(keyword)?;
        bound.as_u64().or_else(|| bound.as_f64().map(|f| f as u64))
    }

    /// The words of an enumeration.
    fn variants(self) -> Vec<&'a str> {
        let words = self.inner.get("enum").and_then(Value::as_array);
        let described = self.inner.get("oneOf").and_then(Value::as_array);
        let described = described.into_iter().flatten().flat_map(|one| {
            let single = one.get("const").into_iter();
            single.chain(one.get("enum").and_then(Value::as_array).into_iter().flatten())
        });
        let all = words.into_iter().flatten().chain(described);
        all.filter_map(Value::as_str).collect()
    }
}

/// A value as it is written in YAML's flow style, which is JSON without needless quotes.
pub fn yaml(value: &Value) -> String {
    let plain = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|c: char| {
                c.is_ascii_digit() && !text.contains(|c: char| c.is_alphabetic() || c == '.')
            })
            && text
                .chars()
                .all(|c| c.is_alphanumeric() || "_-./:${}@".contains(c))
            && !matches!(text, "true" | "false" | "null" | "off" | "on" | "yes" | "no")
    };
    match value {
        Value::String(text) if plain(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}: {}", yaml(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
