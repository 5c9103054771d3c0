//! Parts of a URL that may hold keys: they are sent, but never shown.

use dichroic_model::text::redact_url;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// Query parameters; their values are printed as `<redacted>`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Params(pub(super) BTreeMap<String, Vec<String>>);

impl Params {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn redacted(&self) -> BTreeMap<&str, Vec<&'static str>> {
        self.0
            .iter()
            .map(|(name, values)| (name.as_str(), vec!["<redacted>"; values.len()]))
            .collect()
    }
}

impl Serialize for Params {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.redacted().serialize(serializer)
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.redacted().fmt(f)
    }
}

/// Path and query of a request; the values of the query are printed as `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct PathQuery(pub(super) String);

impl PathQuery {
    /// As it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for PathQuery {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&redact_url(&self.0))
    }
}

impl fmt::Debug for PathQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redact_url(&self.0).fmt(f)
    }
}
