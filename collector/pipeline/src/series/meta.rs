//! Metadata of series: their labels, and the metric streams that they share.

use super::attribute_encoding::SeriesAttributes;
use super::metric::Metric;
use dichroic_model::labels::{self, Qualifiers};
use dichroic_model::{
    AttributeValue, Attributes, Factor, Fingerprint, Fingerprinter, Scope, Source, Temporality,
};
use hashbrown::HashTable;
use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

/// A metric stream of one source, shared by all series that differ only in their attributes. Source of the term: OpenTelemetry
/// metrics data model, "Timeseries model".
#[derive(Debug)]
pub struct MetricStream {
    /// The metric.
    pub metric: Arc<Metric>,
    /// The source.
    pub source: Arc<Source>,
    /// The instrumentation scope.
    pub scope: Arc<Scope>,
    /// Temporality of the points as received.
    pub temporality: Temporality,
    /// Converts raw values to the metric's unit.
    pub factor: Factor,
    /// Whether runtimes share the family, so that its series have a `runtime` label.
    pub(crate) mapped: bool,
    /// The series that get distinguishing labels together with its own.
    pub(crate) group: GroupKey,
    /// Page labels of the source, before those of the series: `job="x",instance="y"`.
    pub source_labels: Box<str>,
    qualifiers: Arc<Qualifiers>,
    hash: u64,
}

/// The metadata of a series, immutable. Shared with exporters.
#[derive(Debug)]
pub struct SeriesMeta {
    pub(crate) stream: Arc<MetricStream>,
    /// Page labels of the series: `a="x",b="y"`.
    pub own_labels: Box<str>,
    pub(crate) encoded: SeriesAttributes,
}

impl Deref for SeriesMeta {
    type Target = MetricStream;

    fn deref(&self) -> &MetricStream {
        &self.stream
    }
}

impl SeriesMeta {
    /// Page labels, those of the source included.
    pub fn labels(&self) -> String {
        let mut text = String::with_capacity(self.source_labels.len() + 1 + self.own_labels.len());
        self.push_labels(&mut text);
        text
    }

    /// Appends page labels, including those of the source.
    pub fn push_labels(&self, text: &mut String) {
        text.push_str(&self.source_labels);
        text.push_str(self.comma());
        text.push_str(&self.own_labels);
    }

    /// The separator between the labels of the source and those of the series.
    #[inline]
    pub fn comma(&self) -> &'static str {
        if self.source_labels.is_empty() || self.own_labels.is_empty() {
            ""
        } else {
            ","
        }
    }

    /// Attributes after renaming, with their types.
    pub fn attributes(&self) -> Cow<'_, Attributes> {
        self.encoded.attributes(&self.own_labels)
    }

    /// The attributes in name order, without a copy.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, AttributeValue<'_>)> {
        self.encoded.pairs(&self.own_labels)
    }
}

/// The streams that have series.
pub(crate) struct MetricStreams {
    entries: HashTable<StreamEntry>,
    hasher: Fingerprinter,
    bytes: usize,
}

struct StreamEntry {
    stream: Arc<MetricStream>,
    series: usize,
}

/// The key of a stream, except for its source's labels.
#[derive(Clone)]
pub(crate) struct StreamKey {
    pub(crate) metric: Arc<Metric>,
    pub(crate) source: Arc<Source>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) temporality: Temporality,
    pub(crate) factor: Factor,
    pub(crate) group: GroupKey,
    pub(crate) mapped: bool,
}

/// Series that may be the same sample, whose sources have equal labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    /// The number of the families that share sample names with one another.
    pub(crate) samples: u64,
    pub(crate) mapped: bool,
    /// A hash of the labels of the source.
    pub(crate) labels: Fingerprint,
}

impl StreamKey {
    /// What decides the labels of its series.
    pub(crate) fn labels_of<'a>(&'a self, qualifiers: &'a Qualifiers) -> labels::Stream<'a> {
        labels::Stream {
            source: &self.source,
            scope: &self.scope,
            kind: self.metric.kind,
            mapped: self.mapped,
            qualifiers,
        }
    }
}

impl MetricStream {
    /// What distinguishes its series from those with the same labels: attributes of the resource and of the scope, if that is needed.
    pub fn distinguishing(&self) -> Vec<(Cow<'_, str>, AttributeValue<'_>)> {
        self.qualifiers.pairs(&self.source, &self.scope)
    }

    pub(crate) fn key(&self) -> StreamKey {
        StreamKey {
            metric: self.metric.clone(),
            source: self.source.clone(),
            scope: self.scope.clone(),
            temporality: self.temporality,
            factor: self.factor,
            group: self.group,
            mapped: self.mapped,
        }
    }
}

impl MetricStreams {
    /// No streams. `hasher` must be seeded, so that senders cannot choose colliding streams.
    pub(crate) fn new(hasher: Fingerprinter) -> Self {
        MetricStreams {
            entries: HashTable::new(),
            hasher,
            bytes: 0,
        }
    }

    /// Finds the stream with this key, or creates one. It can be found after [`MetricStreams::retain`].
    pub(crate) fn resolve(
        &self,
        key: StreamKey,
        qualifiers: Arc<Qualifiers>,
        source_labels: &str,
    ) -> Arc<MetricStream> {
        let ids = key.metric.id.rotate_left(32) ^ u64::from(key.source.id.0);
        let scope = [&key.scope.name, &key.scope.version].map(|text| self.hasher.half(text.as_bytes()));
        // The labels of the source follow from it, except while its series are told apart.
        let mut hash = scope[0] ^ scope[1].rotate_left(7) ^ ids;
        if !key.scope.attributes.is_empty() {
            hash ^= self.hasher.half(key.scope.attributes.as_bytes()).rotate_left(19);
        }
        let hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let same = |entry: &StreamEntry| {
            let stream = &entry.stream;
            Arc::ptr_eq(&stream.metric, &key.metric)
                && Arc::ptr_eq(&stream.source, &key.source)
                && (stream.temporality, stream.factor, stream.group)
                    == (key.temporality, key.factor, key.group)
                && stream.scope == key.scope
                && *stream.source_labels == *source_labels
        };
        match self.entries.find(hash, same) {
            Some(entry) => entry.stream.clone(),
            None => Arc::new(MetricStream {
                metric: key.metric,
                source: key.source,
                scope: key.scope,
                temporality: key.temporality,
                factor: key.factor,
                group: key.group,
                mapped: key.mapped,
                source_labels: source_labels.into(),
                qualifiers,
                hash,
            }),
        }
    }

    /// Adds a series to the stream.
    pub(crate) fn retain(&mut self, stream: &Arc<MetricStream>) {
        let same = |entry: &StreamEntry| Arc::ptr_eq(&entry.stream, stream);
        if let Some(entry) = self.entries.find_mut(stream.hash, same) {
            entry.series += 1;
            return;
        }
        self.bytes += stream_bytes(stream);
        let entry = StreamEntry {
            stream: stream.clone(),
            series: 1,
        };
        self.entries
            .insert_unique(stream.hash, entry, |entry| entry.stream.hash);
    }

    /// Removes a series from the stream.
    pub(crate) fn release(&mut self, stream: &Arc<MetricStream>) {
        let same = |entry: &StreamEntry| Arc::ptr_eq(&entry.stream, stream);
        let Ok(mut entry) = self.entries.find_entry(stream.hash, same) else {
            return;
        };
        entry.get_mut().series -= 1;
        if entry.get().series == 0 {
            entry.remove();
            self.bytes -= stream_bytes(stream);
        }
    }

    /// Bytes of all streams.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Bytes of a stream, its header and its entry in the table.
pub(crate) fn stream_bytes(stream: &MetricStream) -> usize {
    let of_scope = stream.scope.schema_url.len() + stream.scope.attributes.as_bytes().len();
    of_scope + size_of::<MetricStream>() + stream.source_labels.len() + 16 + 2 * size_of::<StreamEntry>()
}
