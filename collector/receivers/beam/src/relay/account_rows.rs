//! Rows of the relay's account → the ledger, and gaps in streams.

use super::Relay;
use crate::account::{ReportedTerm, SkipReason, Term, gap_reason, reason_name};
use dichroic_model::GapReason;
use dichroic_pipeline::{Core, DropReason, RelayTerm};

impl Relay {
    pub(super) fn account_row(&mut self, store: &mut Core, id: u32, value: u64) {
        let Some(reported) = self.terms.get_mut(&id) else {
            return;
        };
        let (term, last) = (reported.term, std::mem::replace(&mut reported.value, value));
        let mut shown = value;
        if let Term::Skipped(_, SkipReason::Other) | Term::RowSkipped(_, SkipReason::Other) = term {
            // Several ids may have this term.
            let sum = self.folded.entry(term).or_default();
            *sum = sum.saturating_sub(last).saturating_add(value);
            shown = *sum;
        }
        let ledger_term = self.ledger_term(&term);
        store.ledger_mut().relay(self.source.id, ledger_term, shown);
        match term {
            Term::Sent(schema) => {
                let lost = self.account.sent(schema, value, last);
                if lost > 0 {
                    let signal = self.streams.signal(schema);
                    let ledger = store.ledger_mut();
                    ledger.received(self.source.id, signal, lost);
                    ledger.dropped(self.source.id, signal, DropReason::RelayBroke, lost);
                    self.gap(store, schema, GapReason::RelayBroke, lost);
                }
            }
            Term::Dropped(schema, reason) => {
                let lost = self.account.dropped(schema, reason, value, last);
                if lost > 0 {
                    self.gap(store, schema, gap_reason(reason), lost);
                }
            }
            _ => {}
        }
    }

    /// Releases the term of an id, if it has one.
    pub(super) fn release_term(&mut self, id: u32) {
        let Some(ReportedTerm { term, value }) = self.terms.remove(&id) else {
            return;
        };
        self.account.remove(&term, value);
        if let Some(sum) = self.folded.get_mut(&term) {
            *sum = sum.saturating_sub(value);
            if *sum == 0 {
                self.folded.remove(&term);
            }
        }
    }

    fn gap(&self, store: &mut Core, schema: u32, reason: GapReason, lost: u64) {
        // A schema of an earlier collector has no subscribers here.
        if let Some(schema) = self.streams.schema(schema) {
            store.publish_gap(schema, &self.source, reason, Some(lost));
        }
    }

    /// The term for the ledger, with the names of events and metrics instead of ids.
    fn ledger_term(&self, term: &Term) -> RelayTerm {
        let event = |schema: &u32| {
            let name = match self.streams.schema(*schema) {
                Some(schema) => schema.name.clone(),
                None => format!("schema {schema}"),
            };
            ("event", name)
        };
        let metric = |key: &u64| {
            let name = match self.blueprint.measures.get(key) {
                Some(measure) => measure.name.clone(),
                None => format!("key {key:#018x}"),
            };
            ("metric", name)
        };
        let reason = |reason: &str| ("reason", reason.to_owned());
        match term {
            Term::Sent(schema) => RelayTerm::new("rows_sent", [event(schema)]),
            Term::Dropped(schema, code) => {
                RelayTerm::new("rows_dropped", [event(schema), reason(reason_name(*code))])
            }
            Term::Skipped(key, why) => RelayTerm::new("skipped", [metric(key), reason(why.as_str())]),
            Term::RowSkipped(schema, why) => RelayTerm::new("skipped", [event(schema), reason(why.as_str())]),
            Term::Failures => "handler_failures".into(),
            Term::Reattached => "reattached".into(),
            Term::Overflowed(key) => RelayTerm::new("overflowed", [metric(key)]),
            Term::Unknown(key) => RelayTerm::new("unknown", [("key", key.to_string())]),
        }
    }
}
