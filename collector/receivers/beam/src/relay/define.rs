//! DEFINE of a relay: ids of series and of terms of the account, defined and released.

use super::{Relay, Violation, malformed};
use crate::account::{ReportedTerm, Term};
use crate::app_metrics::{self, APP_METRICS};
use crate::plan::Measure;
use dichroic_model::AttributeValue;
use dichroic_model::attributes::{Attributes, cut};
use dichroic_pipeline::Core;
use dichroic_wire::GoodbyeCode;
use dichroic_wire::define::{Define, DefineKind, RelaySeries};
use dichroic_wire::limits::{LABEL_BYTES, RESERVED_KEYS};
use dichroic_wire::value::{Cell, ListRef};
use std::borrow::Cow;
use std::rc::Rc;

impl Relay {
    pub(super) fn define(&mut self, store: &mut Core, body: &[u8]) -> Result<(), Violation> {
        let define = Define::decode(body)?;
        if define.kind != DefineKind::Series {
            return Err(malformed(format!(
                "a relay can define series only, not a {}",
                define.kind.name()
            )));
        }
        for (id, definition) in define.entries() {
            match definition {
                None if !self.series.is_defined(id) => {
                    return Err(malformed(format!("series {id} is released but not defined")));
                }
                None => {
                    self.release_term(id);
                    self.series.release(id, store);
                }
                Some(map) => self.define_one(store, id, &RelaySeries::read(map)?)?,
            }
        }
        Ok(())
    }

    fn define_one(&mut self, store: &mut Core, id: u32, series: &RelaySeries<'_>) -> Result<(), Violation> {
        if id >= self.series.limit() {
            return Err(Violation {
                code: GoodbyeCode::Limit,
                message: format!("series {id}: the plan allows ids below {}", self.series.limit()),
            });
        }
        if self.series.is_defined(id) {
            return Err(malformed(format!("series {id} is already defined")));
        }
        if series.key < RESERVED_KEYS {
            let term = Term::read(series)
                .ok_or_else(|| malformed(format!("invalid labels for key {} of the account", series.key)))?;
            self.series.define_account(id);
            self.terms.insert(id, ReportedTerm { term, value: 0 });
            return Ok(());
        }
        self.define_app_metric(store, series)?;
        // A key that is not in the plan was withdrawn while the definition was in flight; it may return.
        let labels = match self.series.measure(series.key) {
            Some(measure) if measure.labels.len() != series.labels.len() => {
                return Err(malformed(format!(
                    "series {id} has {} labels, but {} has {}",
                    series.labels.len(),
                    measure.name,
                    measure.labels.len()
                )));
            }
            Some(measure) => attributes(measure, series.labels, series.overflow),
            None => Attributes::default(),
        };
        let start = u64::try_from(series.start).unwrap_or(0);
        self.series.define(id, series.key, labels, start);
        Ok(())
    }
}

impl Relay {
    /// Registers an app metric from the definition of its first series.
    fn define_app_metric(&mut self, store: &mut Core, series: &RelaySeries<'_>) -> Result<(), Violation> {
        let Some(map) = series.app_metric else {
            return Ok(());
        };
        let defined = self.blueprint.measures.contains_key(&series.key);
        if defined || self.app_metrics.len() >= APP_METRICS {
            return Ok(());
        }
        let per_s = u64::try_from(self.hello.native_per_s).unwrap_or(1);
        let measure = app_metrics::measure(series.key, map, per_s).map_err(malformed)?;
        self.app_metrics.insert(series.key, Rc::new(measure));
        self.register_app_metrics();
        self.series.replan(store, &self.blueprint.measures);
        Ok(())
    }
}

/// Labels by name. A null label is absent; the overflow series has only the overflow label. Texts are cut at [`LABEL_BYTES`], at a
/// character boundary, as relays cut them: the text is the same in either case.
fn attributes(measure: &Measure, labels: ListRef<'_>, overflow: bool) -> Attributes {
    let mut pairs = Vec::with_capacity(labels.len());
    if overflow {
        pairs.push((
            Cow::Borrowed("otel_metric_overflow"),
            AttributeValue::from("true"),
        ));
    } else {
        for (name, cell) in measure.labels.iter().zip(labels.iter()) {
            if let Some(value) = attribute(cell) {
                pairs.push((Cow::Borrowed(name.as_str()), value));
            }
        }
    }
    Attributes::pack(&mut pairs)
}

fn attribute(cell: Cell<'_>) -> Option<AttributeValue<'_>> {
    Some(match cell {
        Cell::Bool(flag) => AttributeValue::Bool(flag),
        Cell::Int(int) => AttributeValue::Int(int),
        Cell::Float(float) => AttributeValue::Float(float),
        Cell::Str(text) | Cell::CutStr { kept: text, .. } => cut(text, LABEL_BYTES).into(),
        Cell::Bytes(bytes) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LABEL_BYTES + 4)]);
            AttributeValue::Str(cut(&text, LABEL_BYTES).to_owned().into())
        }
        Cell::Null | Cell::List(_) | Cell::Map(_) => return None,
    })
}
