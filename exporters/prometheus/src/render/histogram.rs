//! Histograms: their buckets and totals.

use super::bounds;
use super::exemplar::push_exemplar;
use super::les::Les;
use super::line::open;
use super::number::{push_count, push_number};
use super::renderer::Renderer;
use dichroic_model::{Exemplar, Factor, Number, PageType};
use dichroic_pipeline::{ExponentialCell, HistogramCell, Row};
use std::sync::Arc;

/// A histogram in classic buckets.
struct Buckets<'a> {
    /// Upper bounds without +Inf.
    bounds: &'a [f64],
    /// The `le` labels, +Inf included.
    les: &'a Les,
    /// Counts per bucket, not cumulative; as many as `les`.
    counts: &'a [u64],
    sum: Option<Number>,
}

impl Buckets<'_> {
    /// Writes one line per bucket, the exemplar on the line of its bucket. Returns the total count.
    fn push_lines(
        &self,
        out: &mut Vec<u8>,
        name: &[u8],
        labels: &[u8],
        exemplar: Option<&Exemplar>,
        factor: Factor,
    ) -> u64 {
        out.reserve(self.counts.len() * (name.len() + labels.len() + 40));
        let marked = exemplar.map(|exemplar| {
            let value = factor.apply(exemplar.value);
            self.bounds.partition_point(|b| *b < value)
        });
        let from = out.len();
        out.extend_from_slice(name);
        if !labels.is_empty() {
            out.extend_from_slice(labels);
            out.push(b',');
        }
        let prefix = from..out.len();
        let mut total: u64 = 0;
        for (at, (le, count)) in self.les.iter().zip(self.counts).enumerate() {
            if at > 0 {
                out.extend_from_within(prefix.clone());
            }
            total = total.saturating_add(*count);
            out.extend_from_slice(le);
            push_count(out, total);
            if let Some(exemplar) = exemplar
                && marked == Some(at)
            {
                push_exemplar(out, exemplar, factor);
            }
            out.push(b'\n');
        }
        total
    }
}

impl Renderer {
    pub(super) fn histogram(&mut self, row: &Row, cell: &HistogramCell, labels: &str) -> bool {
        let classic = self.layout.as_ref().and_then(|layout| layout.classic.clone());
        if let Some(bounds) = classic.filter(|bounds| bounds[..] != cell.bounds[..])
            && let Some(counts) = bounds::onto(&cell.counts, &cell.bounds, &bounds)
        {
            return self.buckets(row, labels, &bounds, &counts, cell.sum);
        }
        self.buckets(row, labels, &cell.bounds, &cell.counts, cell.sum)
    }

    pub(super) fn exponential(&mut self, row: &Row, cell: &ExponentialCell, labels: &str) -> bool {
        let Some(layout) = &mut self.layout else {
            return false;
        };
        if layout.classic.is_none() {
            layout.classic = layout.family.classic_bounds().map(|classic| classic.bounds);
        }
        let Some(bounds) = layout.classic.clone() else {
            return false;
        };
        let mut classic = std::mem::take(&mut self.classic);
        let counts = classic.counts(cell, row.meta.factor, &bounds);
        let fits = self.buckets(row, labels, &bounds, counts, cell.sum);
        self.classic = classic;
        fits
    }

    /// Writes the buckets of a histogram and its totals. `false` if the format cannot represent them.
    fn buckets(
        &mut self,
        row: &Row,
        labels: &str,
        bounds: &Arc<[f64]>,
        counts: &[u64],
        sum: Option<Number>,
    ) -> bool {
        let les = self.les.les(bounds);
        let histogram = Buckets {
            bounds,
            les: &les,
            counts,
            sum,
        };
        let labels = labels.as_bytes();
        let exemplar = self.exemplar_of(row).cloned();
        let strict = self.is_strict();
        let Some(layout) = &mut self.layout else {
            return false;
        };
        if histogram.les.len() != histogram.counts.len()
            || !matches!(layout.kind, PageType::Histogram | PageType::GaugeHistogram)
        {
            return false;
        }
        let factor = row.meta.factor;
        // OpenMetrics: a sum is a counter, so it must not be negative. Text pages take any.
        let negative = histogram.bounds.first().is_some_and(|b| *b < 0.0);
        let shown = |sum: Number| factor.apply(sum.to_f64());
        let forbidden = |sum: Number| match layout.kind {
            PageType::GaugeHistogram => shown(sum).is_nan() || (shown(sum) < 0.0 && !negative),
            _ => shown(sum).is_nan() || shown(sum) < 0.0 || negative,
        };
        // `_count` needs `_sum`, so without it the samples need families of their own.
        if strict && histogram.sum.is_none_or(forbidden) {
            return false;
        }
        let total = histogram.push_lines(&mut self.out, &layout.bucket, labels, exemplar.as_deref(), factor);
        if layout.kind == PageType::GaugeHistogram {
            let sum = histogram.sum.map(|sum| (sum, factor));
            layout.gauge_totals(self.format, &mut self.out, labels, sum, total);
            return true;
        }
        let out = &mut self.out;
        if let Some(sum) = histogram.sum {
            open(out, &layout.sum, labels);
            push_number(out, sum, factor);
            out.push(b'\n');
        }
        open(out, &layout.count, labels);
        push_count(out, total);
        out.push(b'\n');
        self.created(row, labels);
        true
    }
}
