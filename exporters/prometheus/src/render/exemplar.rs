//! Exemplars, written after a sample in OpenMetrics.
//!
//! Source: OpenMetrics 1.0, "Exemplars".

use super::number::{push_f64, push_seconds};
use dichroic_model::labels::escape;
use dichroic_model::names::label_name;
use dichroic_model::{Exemplar, Factor};
use std::borrow::Cow;

/// Maximum of characters of an exemplar's label names and values together.
const EXEMPLAR_CHARACTERS: usize = 128;

/// ` # {trace_id="…"} 0.67 1700000000.123`
pub(super) fn push_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar, factor: Factor) {
    let mut labels: Vec<(Cow<'_, str>, String)> = Vec::new();
    for (name, value) in exemplar.attributes.iter() {
        let name = label_name(name);
        if !labels.iter().any(|(other, _)| *other == name) {
            labels.push((name, value.render().into_owned()));
        }
    }
    let size = |labels: &[(Cow<'_, str>, String)]| -> usize {
        labels
            .iter()
            .map(|(k, v)| k.chars().count() + v.chars().count())
            .sum()
    };
    if size(&labels) > EXEMPLAR_CHARACTERS {
        labels.retain(|(name, _)| name == "trace_id" || name == "span_id");
    }
    if size(&labels) > EXEMPLAR_CHARACTERS {
        return;
    }
    let mut text = String::new();
    for (name, value) in &labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        escape(value, &mut text);
        text.push('"');
    }
    out.extend_from_slice(b" # {");
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"} ");
    push_f64(out, factor.apply(exemplar.value));
    if exemplar.time > 0 {
        out.push(b' ');
        push_seconds(out, exemplar.time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_model::Attributes;

    #[test]
    fn an_exemplar_over_the_limit_keeps_its_trace_id() {
        let long = "x".repeat(200);
        let exemplar = |pairs: &[(&str, &str)]| {
            let exemplar = Exemplar {
                value: 2.5,
                time: 1_700_000_000_000_000_000,
                attributes: Attributes::of(pairs),
            };
            let mut out = Vec::new();
            push_exemplar(&mut out, &exemplar, Factor::ONE);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            exemplar(&[("trace_id", "ab"), ("http.route", &long)]),
            " # {trace_id=\"ab\"} 2.5 1700000000.000"
        );
        assert_eq!(exemplar(&[("trace_id", &long)]), "");
        assert_eq!(exemplar(&[("k", "a\"b")]), " # {k=\"a\\\"b\"} 2.5 1700000000.000");
    }
}
