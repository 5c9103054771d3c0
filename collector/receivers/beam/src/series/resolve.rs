//! From an id to its series: found or defined in the store on the first row, and again after a reload.

use super::{Applied, Continuity, SeriesTable, State, pending_label_bytes};
use super::{InvalidRow, undefined};
use dichroic_model::attributes::Attributes;
use dichroic_model::clock::steady;
use dichroic_model::{AttributeValue, NameStyle, SECOND, SeriesDef, Temporality, UnixNanos};
use dichroic_pipeline::{Core, DropReason, SeriesRef};
use std::borrow::Cow;

/// Ids resolved again per call after a reload: about a millisecond; 100,000 ids within half a minute.
const RESOLVE_BATCH: usize = 1_024;
/// Time before admission of a series is retried.
const ADMISSION_RETRY: UnixNanos = 10 * SECOND;

impl SeriesTable {
    /// Finds or defines the series of an id. The inner error is the result for a row that is not applied.
    pub(super) fn resolve(
        &mut self,
        store: &mut Core,
        id: u32,
        now: UnixNanos,
    ) -> Result<Result<(SeriesRef, Continuity), Applied>, InvalidRow> {
        let index = id as usize;
        let Some(entry) = self.entries.get(index).copied() else {
            return Err(undefined(id));
        };
        match entry.state {
            State::Free => return Err(undefined(id)),
            State::Account => return Ok(Err(Applied::Account)),
            State::Withdrawn => return Ok(Err(Applied::Dropped(DropReason::Withdrawn))),
            State::Refused(reason) if self.details[index].as_ref().is_none_or(|k| k.retry > steady(now)) => {
                return Ok(Err(Applied::Dropped(reason)));
            }
            State::Live => {
                if let Some(series) = entry.series.filter(|series| store.meta(*series).is_some()) {
                    return Ok(Ok((series, Continuity::Continues)));
                }
            }
            State::Waiting | State::Refused(_) => {}
        }
        Ok(self.define_in(store, id, now))
    }

    /// After a reload, resolves series without new rows again, a batch per call.
    pub fn resolve_again(&mut self, store: &mut Core, now: UnixNanos) {
        if self.resolver_generation != Some(store.resolver_generation()) {
            (self.resolver_generation, self.resolved_up_to) = (Some(store.resolver_generation()), 0);
            for series in &self.evicted.members {
                store.retain(*series);
            }
        }
        let end = self.entries.len().min(self.resolved_up_to + RESOLVE_BATCH);
        for index in self.resolved_up_to.min(end)..end {
            let series = self.entries[index].series;
            if series.is_some_and(|series| store.is_unresolved(series)) {
                // A refusal is reported with the next row.
                let _ = self.define_in(store, index as u32, now);
            }
        }
        self.resolved_up_to = end;
    }

    fn define_in(
        &mut self,
        store: &mut Core,
        id: u32,
        now: UnixNanos,
    ) -> Result<(SeriesRef, Continuity), Applied> {
        let index = id as usize;
        let before = self.entries[index].series;
        if let Some(before) = before {
            self.owners.remove(&before);
        }
        let found = match self.admit(store, index) {
            Ok(series) => match self.owners.get(&series) {
                Some(owner) if *owner != id => Err(DropReason::Duplicate),
                _ => Ok(series),
            },
            Err(reason) => Err(reason),
        };
        if let Some(before) = before.filter(|before| found != Ok(*before)) {
            store.expire(before);
        }
        let entry = &mut self.entries[index];
        let series = match found {
            Ok(series) => series,
            Err(reason) => {
                (entry.state, entry.series) = (State::Refused(reason), None);
                if let Some(detail) = &mut self.details[index] {
                    detail.retry = steady(now) + ADMISSION_RETRY;
                }
                return Err(Applied::Dropped(reason));
            }
        };
        (entry.state, entry.series) = (State::Live, Some(series));
        if let Some(detail) = &mut self.details[index] {
            self.pending_bytes -= pending_label_bytes(detail);
            detail.resolved = true;
        }
        self.owners.insert(series, id);
        self.evicted.remove(series);
        if before == Some(series) {
            return Ok((series, Continuity::Continues));
        }
        match self.retained.remove(&series) {
            Some(held) if held.start == entry.start => Ok((series, Continuity::Continues)),
            _ => {
                store.reset(series);
                Ok((series, Continuity::Begins))
            }
        }
    }

    fn admit(&self, store: &mut Core, index: usize) -> Result<SeriesRef, DropReason> {
        let measure = self.planned(self.entries[index].measure);
        let (Some(detail), Some(measure)) = (self.details[index].as_deref(), measure) else {
            return Err(DropReason::Withdrawn);
        };
        let fingerprint = self.fingerprints.of(&identity(measure.key, &detail.labels));
        if let Some(series) = store.find(fingerprint) {
            return Ok(series);
        }
        let fixed = measure.fixed.iter().map(|(label, value)| {
            (
                Cow::Borrowed(label.as_str()),
                AttributeValue::from(value.as_str()),
            )
        });
        let def = SeriesDef {
            source: self.source.id,
            scope: &self.scope,
            name: &measure.name,
            style: if measure.verbatim {
                NameStyle::Verbatim
            } else {
                NameStyle::OpenTelemetry
            },
            unit: &measure.unit,
            help: &measure.help,
            kind: measure.kind,
            temporality: Temporality::Cumulative,
            factor: measure.factor,
            attributes: detail
                .labels
                .iter()
                .map(|(label, value)| (Cow::Borrowed(label), value))
                .chain(fixed)
                .collect(),
            start: 0,
            bounds: measure.bounds.clone(),
        };
        store.define(fingerprint, def).map_err(|refused| refused.0)
    }
}

/// The identity of a series: key and labels as text. A label may be a number in one incarnation and its text in the next; an empty
/// label is absent.
fn identity(key: u64, labels: &Attributes) -> Vec<u8> {
    let mut identity = key.to_le_bytes().to_vec();
    for (label, value) in labels.iter() {
        let text = value.render();
        if !text.is_empty() {
            for part in [label, &*text] {
                identity.extend_from_slice(&(part.len() as u32).to_le_bytes());
                identity.extend_from_slice(part.as_bytes());
            }
        }
    }
    identity
}
