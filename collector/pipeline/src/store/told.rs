//! The attributes of a series, kept by what its label text says of them.
//!
//! A page's label text holds every value already; what it lacks are the names as they came and the types, and those are the same for
//! many series. So the store keeps them once ([`Names`]), and reads attributes back from the text where somebody asks: filters,
//! catalog, subscribers that are told of a series. Where the text does not say it all, as when two attributes become one label, a
//! series keeps its attributes packed.

use super::Store;
use dichroic_model::{AttributeValue, Attributes, Fingerprint, labels};
use hashbrown::HashTable;
use std::borrow::Cow;
use std::sync::Arc;

/// Sets of names that are shared.
const SHARED: usize = 4_096;
/// Bytes of one: all of them together stay within four mebibytes.
const NAMES_BYTES: usize = 1_024;

/// Names and types of attributes, and how many labels stand before theirs in the text.
#[derive(Debug)]
pub(crate) struct Names {
    before: usize,
    /// Without values: those are in the text.
    types: Attributes,
    hash: u64,
}

/// What is kept of a series' attributes.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// The label text says their values.
    ByLabels(Arc<Names>),
    /// All of them.
    Packed(Attributes),
}

impl Told {
    /// Bytes of its own.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Told::ByLabels(_) => 0,
            Told::Packed(attributes) => attributes.as_bytes().len(),
        }
    }

    /// The attributes of the series with this label text.
    pub(crate) fn attributes(&self, text: &str) -> Cow<'_, Attributes> {
        match self {
            Told::Packed(attributes) => Cow::Borrowed(attributes),
            Told::ByLabels(_) => Cow::Owned(Attributes::pack(
                &mut self
                    .pairs(text)
                    .map(|(name, value)| (name.into(), value))
                    .collect(),
            )),
        }
    }

    /// The same, one after another.
    pub(crate) fn pairs<'a>(
        &'a self,
        text: &'a str,
    ) -> impl Iterator<Item = (&'a str, AttributeValue<'a>)> + use<'a> {
        let (packed, names) = match self {
            Told::Packed(attributes) => (Some(attributes), None),
            Told::ByLabels(names) => (None, Some(names)),
        };
        let by_labels = names.into_iter().flat_map(move |names| {
            let values = labels::read(text).skip(names.before);
            let pairs = names.types.iter().zip(values);
            pairs.map(|((name, kind), (_, value))| (name, typed(&kind, value)))
        });
        packed.into_iter().flat_map(Attributes::iter).chain(by_labels)
    }
}

/// A value of the same type as `kind`, from its text. Numbers are written so that they read as they were.
fn typed<'a>(kind: &AttributeValue<'_>, text: Cow<'a, str>) -> AttributeValue<'a> {
    match kind {
        AttributeValue::Null => AttributeValue::Null,
        AttributeValue::Bool(_) => AttributeValue::Bool(text == "true"),
        AttributeValue::Int(_) => AttributeValue::Int(text.parse().unwrap_or_default()),
        AttributeValue::Float(_) => AttributeValue::Float(text.parse().unwrap_or_default()),
        AttributeValue::Str(_) => AttributeValue::Str(text),
    }
}

/// Sets of names that several series may have.
#[derive(Default)]
pub(crate) struct Shared(HashTable<Arc<Names>>);

impl Store {
    /// Keeps attributes by a label text that has `before` other labels before theirs, and so many labels in all.
    pub(super) fn told(&mut self, attributes: Attributes, before: usize, labels: usize) -> Told {
        let (mut count, mut exact, mut hash) = (0, true, before as u64);
        for (name, value) in attributes.iter() {
            count += 1;
            // The text of a NaN does not say which.
            exact &= !matches!(value, AttributeValue::Float(float) if float.is_nan());
            let Fingerprint { low, .. } = self.pages.of(name.as_bytes());
            hash = (hash ^ low ^ kind_of(&value))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(23);
        }
        // Otherwise some of them share a label.
        exact &= before + count == labels;
        let names = exact.then(|| self.names(&attributes, before, hash)).flatten();
        names.map_or(Told::Packed(attributes), Told::ByLabels)
    }

    fn names(&mut self, attributes: &Attributes, before: usize, hash: u64) -> Option<Arc<Names>> {
        let same = |known: &Arc<Names>| {
            let mut types = known.types.iter();
            known.before == before
                && attributes.iter().all(|(name, value)| {
                    types
                        .next()
                        .is_some_and(|(known, kind)| known == name && kind_of(&kind) == kind_of(&value))
                })
                && types.next().is_none()
        };
        let shared = &mut self.names.0;
        if let Some(known) = shared.find(hash, same) {
            return Some(known.clone());
        }
        let mut types: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (Cow::Borrowed(name), without_value(&value)))
            .collect();
        let types = Attributes::pack(&mut types);
        if shared.len() >= SHARED {
            shared.retain(|names| Arc::strong_count(names) > 1);
        }
        if shared.len() >= SHARED || types.as_bytes().len() > NAMES_BYTES {
            return None;
        }
        let names = Arc::new(Names { before, types, hash });
        shared.insert_unique(hash, names.clone(), |names| names.hash);
        Some(names)
    }
}

fn kind_of(value: &AttributeValue<'_>) -> u64 {
    match value {
        AttributeValue::Null => 0,
        AttributeValue::Bool(_) => 1,
        AttributeValue::Int(_) => 2,
        AttributeValue::Float(_) => 3,
        AttributeValue::Str(_) => 4,
    }
}

fn without_value(value: &AttributeValue<'_>) -> AttributeValue<'static> {
    match value {
        AttributeValue::Null => AttributeValue::Null,
        AttributeValue::Bool(_) => AttributeValue::Bool(false),
        AttributeValue::Int(_) => AttributeValue::Int(0),
        AttributeValue::Float(_) => AttributeValue::Float(0.0),
        AttributeValue::Str(_) => AttributeValue::Str(Cow::Borrowed("")),
    }
}
