//! Rows of the relay's own account → the ledger, and gaps in streams.

use super::Relay;
use crate::account::{Term, gap_reason, reason_word};
use dichroic_model::GapReason;
use dichroic_pipeline::{DropReason, Store};

impl Relay {
    pub(super) fn account_row(&mut self, store: &mut Store, id: u32, value: u64) {
        let Some(term) = self.terms.get(&id).cloned() else {
            return;
        };
        let text = self.term_text(&term);
        store.ledger_mut().relay(self.source.id, text, value);
        match term {
            Term::Sent(schema) => {
                let lost = self.account.sent(schema, value);
                if lost > 0 {
                    let signal = self.streams.signal(schema);
                    let ledger = store.ledger_mut();
                    ledger.received(self.source.id, signal, lost);
                    ledger.dropped(self.source.id, signal, DropReason::RelayBroke, lost);
                    self.gap(store, schema, GapReason::RelayBroke, lost);
                }
            }
            Term::Dropped(schema, reason) => {
                let lost = self.account.dropped(schema, reason, value);
                if lost > 0 {
                    self.gap(store, schema, gap_reason(reason), lost);
                }
            }
            _ => {}
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
            Term::Skipped(key, why) => format!("skipped{{metric={:?},reason={why:?}}}", metric(key)),
            Term::RowSkipped(schema, why) => format!("skipped{{event={:?},reason={why:?}}}", event(schema)),
            Term::Failures => "handler_failures".to_owned(),
            Term::Reattached => "reattached".to_owned(),
            Term::Overflowed(key) => format!("overflowed{{metric={:?}}}", metric(key)),
            Term::Unknown(key) => format!("unknown{{key=\"{key}\"}}"),
        }
    }
}
