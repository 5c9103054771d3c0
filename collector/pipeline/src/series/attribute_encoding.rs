//! Attributes of series, encoded by their label text.
//!
//! The label text of a page contains every value. It lacks the original names and the types, which are equal for many series and are
//! stored once ([`AttributeNames`]). Filters, the catalog and subscribers decode attributes from the text on demand. Where the text is
//! ambiguous, for example when two attributes become one label, a series stores its attributes packed.

use dichroic_model::{AttributeValue, Attributes, Fingerprinter, labels};
use hashbrown::HashTable;
use std::borrow::Cow;
use std::sync::Arc;

/// Largest number of shared sets of names.
const MAX_SETS: usize = 4_096;
/// Largest size of one set: at most 4 MiB for all sets.
const NAMES_BYTES: usize = 1_024;

/// Names and types of attributes.
#[derive(Debug)]
pub(crate) struct AttributeNames {
    names: Box<[(Box<str>, ValueType)]>,
    hash: u64,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueType {
    Null,
    Bool,
    Int,
    Float,
    Str,
}

/// A name and a value.
type Pair<'a> = (Cow<'a, str>, AttributeValue<'a>);

/// The stored form of a series' attributes.
#[derive(Debug, Clone)]
pub(crate) enum SeriesAttributes {
    /// The values are in the label text.
    ByLabels(Arc<AttributeNames>),
    /// Names and values, packed.
    Packed(Attributes),
}

impl SeriesAttributes {
    /// Bytes besides the shared names.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            SeriesAttributes::ByLabels(_) => 0,
            SeriesAttributes::Packed(attributes) => attributes.as_bytes().len(),
        }
    }

    /// The attributes of the series with this label text.
    pub(crate) fn attributes(&self, text: &str) -> Cow<'_, Attributes> {
        match self {
            SeriesAttributes::Packed(attributes) => Cow::Borrowed(attributes),
            SeriesAttributes::ByLabels(_) => Cow::Owned(Attributes::pack(
                &mut self
                    .pairs(text)
                    .map(|(name, value)| (name.into(), value))
                    .collect(),
            )),
        }
    }

    /// Iterates over the attributes of the series with this label text.
    pub(crate) fn pairs<'a>(
        &'a self,
        text: &'a str,
    ) -> impl Iterator<Item = (&'a str, AttributeValue<'a>)> + use<'a> {
        let (packed, names) = match self {
            SeriesAttributes::Packed(attributes) => (Some(attributes), None),
            SeriesAttributes::ByLabels(names) => (None, Some(names)),
        };
        let by_labels = names.into_iter().flat_map(move |names| {
            let values = labels::read(text);
            let pairs = names.names.iter().zip(values);
            pairs.map(|((name, kind), (_, value))| (&**name, kind.read(value)))
        });
        packed.into_iter().flat_map(Attributes::iter).chain(by_labels)
    }
}

impl ValueType {
    fn of(value: &AttributeValue<'_>) -> Self {
        match value {
            AttributeValue::Null => ValueType::Null,
            AttributeValue::Bool(_) => ValueType::Bool,
            AttributeValue::Int(_) => ValueType::Int,
            AttributeValue::Float(_) => ValueType::Float,
            AttributeValue::Str(_) => ValueType::Str,
        }
    }

    /// A value from its text. The text of a number is exact.
    fn read(self, text: Cow<'_, str>) -> AttributeValue<'_> {
        match self {
            ValueType::Null => AttributeValue::Null,
            ValueType::Bool => AttributeValue::Bool(text == "true"),
            ValueType::Int => AttributeValue::Int(text.parse().unwrap_or_default()),
            ValueType::Float => AttributeValue::Float(text.parse().unwrap_or_default()),
            ValueType::Str => AttributeValue::Str(text),
        }
    }
}

/// Sets of names, shared between series.
pub(crate) struct AttributeNameSets {
    sets: HashTable<Arc<AttributeNames>>,
    hasher: Fingerprinter,
}

impl AttributeNameSets {
    /// No sets. `hasher` must be seeded, so that senders cannot choose colliding sets.
    pub(crate) fn new(hasher: Fingerprinter) -> Self {
        AttributeNameSets {
            sets: HashTable::new(),
            hasher,
        }
    }

    /// Encodes attributes whose label text has `labels` labels. `pairs` are the same attributes in packed order.
    pub(crate) fn encode(
        &mut self,
        attributes: Attributes,
        pairs: &[Pair<'_>],
        labels: usize,
    ) -> SeriesAttributes {
        // Otherwise two attributes share a label, or a name occurs twice.
        let mut exact = pairs.len() == labels;
        let mut hash = 0;
        for (name, value) in pairs {
            // The text of a NaN does not contain its bits.
            exact &= !matches!(value, AttributeValue::Float(float) if float.is_nan());
            exact &= name.len() <= NAMES_BYTES;
            let name = self.hasher.half(name.as_bytes());
            hash = (hash ^ name ^ ValueType::of(value) as u64)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(23);
        }
        let names = exact.then(|| self.names(pairs, hash)).flatten();
        names.map_or(SeriesAttributes::Packed(attributes), SeriesAttributes::ByLabels)
    }

    fn names(&mut self, pairs: &[Pair<'_>], hash: u64) -> Option<Arc<AttributeNames>> {
        let same = |set: &Arc<AttributeNames>| {
            let mut both = set.names.iter().zip(pairs);
            set.names.len() == pairs.len()
                && both.all(|(known, (name, value))| *known.0 == **name && known.1 == ValueType::of(value))
        };
        let shared = &mut self.sets;
        if let Some(names) = shared.find(hash, same) {
            return Some(names.clone());
        }
        if shared.len() >= MAX_SETS {
            shared.retain(|names| Arc::strong_count(names) > 1);
        }
        let bytes: usize = pairs.iter().map(|(name, _)| name.len() + 24).sum();
        if shared.len() >= MAX_SETS || bytes > NAMES_BYTES {
            return None;
        }
        let names = pairs
            .iter()
            .map(|(name, value)| (name.as_ref().into(), ValueType::of(value)));
        let names = Arc::new(AttributeNames {
            names: names.collect(),
            hash,
        });
        shared.insert_unique(hash, names.clone(), |names| names.hash);
        Some(names)
    }
}
