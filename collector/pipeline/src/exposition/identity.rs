//! Exposition identities: the name and the labels of a series on a page.

use crate::series::meta::SeriesMeta;
use crate::series::table::Key;
use dichroic_model::{Fingerprint, Fingerprinter, labels, labels::Label};

/// Labels in the form of a page.
pub(crate) struct PageLabels {
    /// Each is followed by a comma.
    text: String,
    /// End of the source's labels.
    split: usize,
    /// Sample names and label set: a page shows each identity once.
    pub(crate) identity: Fingerprint,
}

impl PageLabels {
    pub(crate) fn of_source(&self) -> &str {
        self.text[..self.split].strip_suffix(',').unwrap_or_default()
    }

    pub(crate) fn own(&self) -> &str {
        self.text[self.split..].strip_suffix(',').unwrap_or_default()
    }

    /// Renders labels, of which the first `of_source` are the source's, and hashes sample names and label set. The order in a set does not
    /// matter, so the hashes of labels are added; a label with an empty value is skipped.
    pub(crate) fn render(
        hasher: &Fingerprinter,
        samples: u64,
        shown: &[Label<'_>],
        of_source: usize,
    ) -> PageLabels {
        // Exact unless a value is escaped.
        let length: usize = shown.iter().map(|(k, v)| k.len() + v.len() + 4).sum();
        let mut text = String::with_capacity(length);
        let mut split = 0;
        let mut hashed = [0; 24];
        let (mut low, mut high) = (0_u64, 0_u64);
        for (at, (name, value)) in shown.iter().enumerate() {
            let from = text.len();
            text.push_str(name);
            text.push_str("=\"");
            if value.bytes().any(|b| matches!(b, b'\\' | b'"' | b'\n')) {
                labels::escape(value, &mut text);
            } else {
                text.push_str(value);
            }
            text.push('"');
            if !value.is_empty() {
                let label = hasher.of(&text.as_bytes()[from..]);
                (low, high) = (low.wrapping_add(label.low), high.wrapping_add(label.high));
            }
            text.push(',');
            if at + 1 == of_source {
                split = text.len();
            }
        }
        hashed[..8].copy_from_slice(&samples.to_le_bytes());
        hashed[8..16].copy_from_slice(&low.to_le_bytes());
        hashed[16..].copy_from_slice(&high.to_le_bytes());
        PageLabels {
            text,
            split,
            identity: hasher.of(&hashed),
        }
    }
}

/// The key of a hidden series: a hash of its whole series key, because its exposition identity finds another series.
pub(super) fn series_key(hasher: &Fingerprinter, meta: &SeriesMeta) -> Key {
    let attributes = meta.attributes();
    let mut bytes = Vec::with_capacity(attributes.as_bytes().len() + 64);
    bytes.push(1);
    bytes.extend_from_slice(&meta.source.id.0.to_le_bytes());
    bytes.extend_from_slice(&meta.metric.id.to_le_bytes());
    bytes.push(meta.temporality as u8);
    let scope = &meta.scope;
    let texts = [&scope.name, &scope.version, &scope.schema_url].map(|text| text.as_bytes());
    for text in texts.into_iter().chain([scope.attributes.as_bytes()]) {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text);
    }
    bytes.extend_from_slice(attributes.as_bytes());
    hasher.of(&bytes).into()
}
