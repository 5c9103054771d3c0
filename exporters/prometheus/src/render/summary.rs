//! Summaries: their quantiles and totals.

use super::line::open;
use super::number::{push_count, push_f64, push_number};
use super::renderer::Renderer;
use dichroic_model::PageType;
use dichroic_model::labels::canonical_float;
use dichroic_pipeline::{Row, SummaryCell};

impl Renderer {
    pub(super) fn summary(&mut self, row: &Row, cell: &SummaryCell, labels: &str) -> bool {
        let labels = labels.as_bytes();
        let strict = self.is_strict();
        let factor = row.meta.factor;
        let Some(layout) = &self.layout else { return false };
        let sum = factor.apply(cell.sum.to_f64());
        let forbidden = sum.is_nan()
            || sum < 0.0
            || cell
                .quantiles
                .iter()
                .any(|(quantile, value)| *value < 0.0 || !(0.0..=1.0).contains(quantile));
        if layout.kind != PageType::Summary || (strict && forbidden) {
            return false;
        }
        let out = &mut self.out;
        for (quantile, value) in cell.quantiles.iter().copied() {
            out.extend_from_slice(&layout.sample);
            out.push(b'{');
            if !labels.is_empty() {
                out.extend_from_slice(labels);
                out.push(b',');
            }
            out.extend_from_slice(b"quantile=\"");
            out.extend_from_slice(canonical_float(quantile).as_bytes());
            out.extend_from_slice(b"\"} ");
            push_f64(out, factor.apply(value));
            out.push(b'\n');
        }
        open(out, &layout.sum, labels);
        push_number(out, cell.sum, factor);
        out.push(b'\n');
        open(out, &layout.count, labels);
        push_count(out, cell.count);
        out.push(b'\n');
        self.created(row, labels);
        true
    }
}
