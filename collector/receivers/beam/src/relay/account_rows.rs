//! Rows of the relay's own account → the ledger, and gaps in streams.

use super::Relay;
use crate::account::{Said, Term, Why, gap_reason, reason_word};
use dichroic_model::GapReason;
use dichroic_pipeline::{DropReason, Store};

impl Relay {
    pub(super) fn account_row(&mut self, store: &mut Store, id: u32, value: u64) {
        let Some(said) = self.terms.get_mut(&id) else {
            return;
        };
        let (term, last) = (said.term, std::mem::replace(&mut said.value, value));
        let mut shown = value;
        if let Term::Skipped(_, Why::Other) | Term::RowSkipped(_, Why::Other) = term {
            // Several ids may stand for it.
            let sum = self.folded.entry(term).or_default();
            *sum = sum.saturating_sub(last).saturating_add(value);
            shown = *sum;
        }
        let text = self.term_text(&term);
        store.ledger_mut().relay(self.source.id, text, shown);
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

    /// The id is no term of the account any more, if it was one.
    pub(super) fn forget_term(&mut self, id: u32) {
        let Some(Said { term, value }) = self.terms.remove(&id) else {
            return;
        };
        self.account.forget(&term, value);
        if let Some(sum) = self.folded.get_mut(&term) {
            *sum = sum.saturating_sub(value);
            if *sum == 0 {
                self.folded.remove(&term);
            }
        }
    }

    fn gap(&self, store: &mut Store, schema: u32, reason: GapReason, lost: u64) {
        // A schema of a collector before this one: nobody here can be told.
        if let Some(schema) = self.streams.schema(schema) {
            store.publish_gap(schema, &self.source, reason, Some(lost));
        }
    }

    fn term_text(&self, term: &Term) -> String {
        let event = |schema: &u32| match self.streams.schema(*schema) {
            Some(schema) => schema.name.clone(),
            None => format!("schema {schema}"),
        };
        let metric = |key: &u64| match self.blueprint.measures.get(key) {
            Some(measure) => measure.name.clone(),
            None => format!("key {key:#018x}"),
        };
        match term {
            Term::Sent(schema) => format!("rows_sent{{event={:?}}}", event(schema)),
            Term::Dropped(schema, reason) => {
                format!(
                    "rows_dropped{{event={:?},reason={:?}}}",
                    event(schema),
                    reason_word(*reason)
                )
            }
            Term::Skipped(key, why) => format!("skipped{{metric={:?},reason={:?}}}", metric(key), why.word()),
            Term::RowSkipped(schema, why) => {
                format!("skipped{{event={:?},reason={:?}}}", event(schema), why.word())
            }
            Term::Failures => "handler_failures".to_owned(),
            Term::Reattached => "reattached".to_owned(),
            Term::Overflowed(key) => format!("overflowed{{metric={:?}}}", metric(key)),
            Term::Unknown(key) => format!("unknown{{key=\"{key}\"}}"),
        }
    }
}
