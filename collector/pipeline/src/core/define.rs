//! Defines a series on a miss: resolution, key, exposition identity, admission.

use super::Core;
use crate::exposition::identity::PageLabels;
use crate::ledger::DropReason;
use crate::series::admission::{Candidate, NotAdmitted, OVERFLOW, is_overflow};
use crate::series::attribute_encoding::SeriesAttributes;
use crate::series::meta::{GroupKey, SeriesMeta, StreamKey};
use crate::series::quota::Quota;
use crate::series::slot::SeriesRef;
use dichroic_model::labels::{self, Qualifiers, Stream};
use dichroic_model::{
    Attributes, Fingerprint, Fingerprinter, MetricKind, Query, Scope, SeriesDef, Source, SourceId,
    Temporality,
};
use std::sync::Arc;

impl Core {
    /// Defines a series: finds the one with this key, or admits a new one. From now on the fingerprint finds it.
    ///
    /// A series becomes visible with its first point. A delta over a limit is folded into the metric's overflow
    /// series (`otel_metric_overflow="true"`), without a fingerprint.
    pub fn define(&mut self, fp: Fingerprint, def: SeriesDef<'_>) -> Result<SeriesRef, NotAdmitted> {
        self.define_with(fp, def, false)
    }

    /// Defines a series about the collector itself or about a scrape. The limits of series and memory do not apply to it, because such
    /// series state that a limit is reached. A source has a bounded number of them; to more, the limits apply.
    pub fn define_report(&mut self, fp: Fingerprint, def: SeriesDef<'_>) -> Result<SeriesRef, NotAdmitted> {
        self.define_with(fp, def, true)
    }

    fn define_with(
        &mut self,
        fp: Fingerprint,
        mut def: SeriesDef<'_>,
        report: bool,
    ) -> Result<SeriesRef, NotAdmitted> {
        self.series.check_texts(&mut def)?;
        let state = self.sources.get(def.source);
        let state = state.ok_or(NotAdmitted(DropReason::SeriesGone))?;
        let (source, labels) = (state.source.clone(), state.labels);
        let resolution = self.resolver.resolve(&Query {
            source: &source,
            def: &def,
        });
        let factor = def.factor.then(resolution.factor);
        let factor = factor.ok_or(NotAdmitted(DropReason::Malformed))?;
        let bounds = self.series.scaled_bounds(&def, resolution.factor)?;
        for (from, to) in &resolution.rename {
            def.attributes
                .iter_mut()
                .filter(|(key, _)| key == from)
                .for_each(|(key, _)| *key = to.clone().into());
        }
        let attributes = Attributes::pack(&mut def.attributes);
        let metric = self.exposition.families.metric(
            &resolution.name,
            &resolution.unit,
            def.kind,
            def.style,
            &resolution.help,
        );
        if let Some(bounds) = &bounds {
            metric.family.note_explicit_bounds(bounds);
        }
        let renumbered = self.exposition.families.take_renumbered();
        self.reclaim(renumbered);
        let key = StreamKey {
            group: GroupKey {
                samples: self.exposition.families.samples(metric.family_id),
                mapped: resolution.mapped,
                labels: labels[usize::from(resolution.mapped)],
            },
            metric: metric.clone(),
            source,
            scope: self.series.scopes.intern(def.scope),
            temporality: def.temporality,
            factor,
            mapped: resolution.mapped,
        };
        let mut candidate = self.candidate(key, attributes, &def, bounds);
        if let Some(index) = self.exposition.claims.find(&candidate, &self.series) {
            return self.series.re_resolve(index, fp, candidate);
        }
        let source = self.sources.get(def.source);
        if let Some(source) = source.filter(|_| report) {
            candidate.quota = self.series.report_quota(source);
        }
        let defined = match self.series.admissible(&candidate, source, self.bytes()) {
            Ok(()) => {
                let series = self.admit(candidate);
                self.series.add_alias(series.index, fp.into());
                Ok(series)
            }
            Err(reason) => self.fold(candidate, reason),
        };
        if defined.is_err() {
            self.exposition.families.release(&metric);
        }
        defined
    }

    /// Renders the labels of a series.
    fn candidate(
        &mut self,
        key: StreamKey,
        attributes: Attributes,
        def: &SeriesDef<'_>,
        bounds: Option<Arc<[f64]>>,
    ) -> Candidate {
        let qualifiers = self.exposition.groups.qualifiers(key.group);
        let (shown, of_source) = labels::page_labels(&key.labels_of(&qualifiers), &attributes);
        let samples = self.exposition.families.samples(key.metric.family_id);
        let page = PageLabels::render(&self.exposition.claims.hasher, samples, &shown, of_source);
        let own = shown.len() - of_source;
        drop(shown);
        let names = &mut self.series.attribute_names;
        Candidate {
            quota: match is_overflow(&attributes) {
                true => Quota::Overflow,
                false => Quota::Limited,
            },
            meta: SeriesMeta {
                encoded: names.encode(attributes, &def.attributes, own),
                stream: self.series.streams.resolve(key, qualifiers, page.of_source()),
                own_labels: page.own().into(),
            },
            bounds,
            identity: page.identity,
            start: def.start,
        }
    }

    /// Folds a delta into the overflow series of its metric and source.
    fn fold(&mut self, candidate: Candidate, reason: DropReason) -> Result<SeriesRef, NotAdmitted> {
        if candidate.meta.temporality != Temporality::Delta {
            return Err(NotAdmitted(reason));
        }
        let Candidate {
            meta, bounds, start, ..
        } = candidate;
        let attributes = Attributes::of(&[OVERFLOW]);
        let key = meta.stream.key();
        let qualifiers = self.exposition.groups.qualifiers(meta.group);
        let (shown, of_source) = labels::page_labels(&key.labels_of(&qualifiers), &attributes);
        let samples = self.exposition.families.samples(meta.metric.family_id);
        let hasher = &self.exposition.claims.hasher;
        let page = PageLabels::render(hasher, samples, &shown, of_source);
        drop(shown);
        let meta = SeriesMeta {
            stream: self.series.streams.resolve(key, qualifiers, page.of_source()),
            own_labels: page.own().into(),
            encoded: SeriesAttributes::Packed(attributes),
        };
        let candidate = Candidate {
            meta,
            quota: Quota::Overflow,
            bounds,
            identity: page.identity,
            start,
        };
        if let Some(index) = self.exposition.claims.find(&candidate, &self.series) {
            return self.series.fold_into(index, &candidate, reason);
        }
        if !self.series.overflow_admissible(&candidate, self.bytes()) {
            return Err(NotAdmitted(reason));
        }
        Ok(self.admit(candidate))
    }

    fn admit(&mut self, candidate: Candidate) -> SeriesRef {
        let (source, metric, group) = (
            candidate.meta.source.id,
            candidate.meta.metric.id,
            candidate.meta.group,
        );
        let (start, quota) = (candidate.start, candidate.quota);
        let series = self.series.insert(candidate, self.clock);
        let position = self.sources.add_series(source, metric, quota, series.index);
        self.series.placements[series.index as usize].source = position;
        self.join(source, group);
        if self.exposition.add(series.index, &mut self.series) {
            self.requalify(group, Some((series.index, start)));
        } else {
            self.claim(series.index, start);
        }
        self.exposition.copies.add(series.index);
        self.settle();
        series
    }

    /// Adds a source to its service with its first series.
    fn join(&mut self, source: SourceId, group: GroupKey) {
        let Some(state) = self.sources.get_mut(source) else {
            return;
        };
        let joined = &mut state.joined[usize::from(group.mapped)];
        if std::mem::replace(joined, true) {
            return;
        }
        let source = state.source.clone();
        for changed in self.exposition.groups.join(group.labels, &source) {
            self.requalify(changed, None);
        }
    }
}

/// A hash of the labels of a source, which are the same on all its series that are mapped, or on those that are not.
pub(super) fn source_labels(hasher: &Fingerprinter, source: &Source, mapped: bool) -> Fingerprint {
    let (none, scope, qualifiers) = (Attributes::default(), Scope::default(), Qualifiers::default());
    let stream = Stream {
        source,
        scope: &scope,
        kind: MetricKind::Gauge,
        mapped,
        qualifiers: &qualifiers,
    };
    let (shown, of_source) = labels::page_labels(&stream, &none);
    PageLabels::render(hasher, 0, &shown, of_source).identity
}
