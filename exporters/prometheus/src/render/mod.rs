//! Renders rows into a page, chunk by chunk, into one buffer that is reused for the next page.
//!
//! Takes chunks in family order, as `pipeline::Snapshot` returns them; a family may span chunks, and its header is written once. Labels are rendered when a series is defined, so a sample costs three copies and one formatted number: about 20 ns.
//! Samples that a format forbids are omitted and counted.

mod bounds;
mod buckets;
mod exemplar;
mod family_layout;
mod line;
mod number;
mod split;
mod target_info;
mod utf8;

use buckets::{ClassicBuckets, LeCache, Les};
use dichroic_model::labels::canonical_float;
use dichroic_model::{Exemplar, Factor, Number, PageType, Source};
use dichroic_pipeline::{ExponentialCell, HistogramCell, SummaryCell};
use dichroic_pipeline::{Row, RowValue, SeriesMeta};
use exemplar::push_exemplar;
use family_layout::FamilyLayout;
use line::{open, open_series};
use number::{push_count, push_f64, push_number, push_seconds};
use split::SplitFamilies;
use std::sync::Arc;
use target_info::TargetInfo;

use crate::negotiate::Format;

/// Optional parts of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// `_created` samples in OpenMetrics, for series with a stated start time.
    pub created: bool,
    /// Exemplars in OpenMetrics.
    pub exemplars: bool,
    /// Names with other characters than ASCII as they are, in quotes; otherwise escaped.
    pub utf8: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            created: true,
            exemplars: true,
            utf8: false,
        }
    }
}

/// Number of rows of one page by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rows on the page.
    pub shown: u64,
    /// Rows hidden because another series has their exposition identity, or another family their name.
    pub hidden: u64,
    /// Rows whose value or labels the format cannot represent.
    pub unfit: u64,
}

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
            total = total.wrapping_add(*count);
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

/// Renders one page at a time.
///
/// ```
/// use dichroic_exporter_prometheus::{Format, Options, Renderer};
///
/// let mut renderer = Renderer::new(Format::OpenMetrics, Options::default());
/// renderer.chunk(&[]); // the rows of a snapshot, chunk by chunk
/// assert_eq!(renderer.finish([]), b"# EOF\n");
/// assert_eq!(renderer.stats().shown, 0);
/// ```
pub struct Renderer {
    format: Format,
    options: Options,
    out: Vec<u8>,
    layout: Option<FamilyLayout>,
    les: LeCache,
    classic: ClassicBuckets,
    split: SplitFamilies,
    target_info: TargetInfo,
    stats: Stats,
    /// Buffer for the labels of a row as one text.
    labels: String,
}

impl Renderer {
    /// A renderer with an empty page.
    pub fn new(format: Format, options: Options) -> Self {
        Self::with_buffer(format, options, Vec::new())
    }

    /// A renderer that reuses `buffer`; its content is discarded.
    pub fn with_buffer(format: Format, options: Options, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Renderer {
            format,
            options,
            out: buffer,
            layout: None,
            les: LeCache::default(),
            classic: ClassicBuckets::default(),
            split: SplitFamilies::default(),
            target_info: TargetInfo::default(),
            stats: Stats::default(),
            labels: String::new(),
        }
    }

    /// Starts a new page in the same buffer.
    pub fn clear(&mut self) {
        self.out.clear();
        self.layout = None;
        self.les.clear();
        self.split.clear();
        self.target_info = TargetInfo::default();
        self.stats = Stats::default();
    }

    /// Adds rows.
    pub fn chunk(&mut self, rows: &[Row]) {
        // Before the first row of a family, so that all of them have the same bounds.
        for row in rows {
            if let RowValue::Exponential(cell) = &row.value {
                let metric = &row.meta.metric;
                bounds::cover(&metric.family, &metric.unit, cell, row.meta.factor);
            }
        }
        for row in rows {
            self.row(row);
        }
    }

    /// Ends the page: the deferred lines of the last family, `target_info` of `sources`, and `# EOF` in OpenMetrics.
    pub fn finish<'a>(&mut self, sources: impl IntoIterator<Item = &'a Arc<Source>>) -> &[u8] {
        self.end_family();
        if self.split.contains(b"target") {
            self.target_info.add_family("target");
        }
        let mut target_info = Vec::new();
        self.target_info
            .write(self.format, sources, &mut self.split, &mut target_info);
        let equal = self.split.write(self.format, &mut self.out);
        self.stats.shown -= equal;
        self.stats.unfit += equal;
        self.out.extend_from_slice(&target_info);
        if self.options.utf8 {
            utf8::unescape_names(&mut self.out);
        }
        if self.format == Format::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
        &self.out
    }

    /// The counts of the rows so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The page so far.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// The buffer with the page.
    pub fn into_buffer(self) -> Vec<u8> {
        self.out
    }

    #[inline]
    fn row(&mut self, row: &Row) {
        if row.hidden.is_some() {
            self.stats.hidden += 1;
            return;
        }
        let known = matches!(&self.layout, Some(layout) if Arc::ptr_eq(&layout.metric, &row.meta.metric));
        if !known {
            self.enter_metric(&row.meta);
        }
        let fits = match (&row.value, &self.layout) {
            (RowValue::Number(value), Some(layout)) if layout.plain => {
                open_series(&mut self.out, &layout.sample, &row.meta);
                push_number(&mut self.out, *value, row.meta.factor);
                self.out.push(b'\n');
                true
            }
            (RowValue::Number(value), Some(layout)) if layout.strict_counter => {
                self.counter(row, *value) || self.split_family(row, &row.value)
            }
            (value, _) => self.labeled(row, value) || self.split_family(row, value),
        };
        self.stats.shown += u64::from(fits);
        self.stats.unfit += u64::from(!fits);
    }

    /// Splits the family, because the format forbids a row under its type; then writes the row.
    #[cold]
    fn split_family(&mut self, row: &Row, value: &RowValue) -> bool {
        match &mut self.layout {
            Some(layout) if !layout.split && !layout.is_target_info => {
                (layout.split, layout.plain, layout.strict_counter) = (true, false, false);
                layout.write_deferred(&mut self.out);
                self.split
                    .take(self.format, &layout.family, &self.out[layout.from..]);
                self.out.truncate(layout.from);
            }
            _ => return false,
        }
        self.labeled(row, value)
    }

    fn labeled(&mut self, row: &Row, value: &RowValue) -> bool {
        let from = self.out.len();
        let mut labels = std::mem::take(&mut self.labels);
        labels.clear();
        row.meta.push_labels(&mut labels);
        let fits = match value {
            RowValue::Number(value) => self.number(row, *value, &labels),
            RowValue::Histogram(cell) => self.histogram(row, cell, &labels),
            RowValue::Exponential(cell) => self.exponential(row, cell, &labels),
            RowValue::Summary(cell) => self.summary(row, cell, &labels),
        };
        self.labels = labels;
        match &self.layout {
            Some(layout) if layout.split => {
                self.split.take(self.format, &layout.family, &self.out[from..]);
                self.out.truncate(from);
            }
            // What the format forbids is not on the page in part.
            _ if !fits => self.out.truncate(from),
            _ => {}
        }
        fits
    }

    /// Enters another metric, of the same family or of the next.
    fn enter_metric(&mut self, meta: &SeriesMeta) {
        let family = &meta.metric.family;
        if let Some(layout) = &mut self.layout
            && layout.is_of(family)
        {
            layout.metric = meta.metric.clone();
            return;
        }
        self.end_family();
        let layout = FamilyLayout::new(self.format, &meta.metric, self.out.len());
        if !layout.is_target_info {
            self.target_info.add_family(&layout.family.page.base);
            if !layout.split {
                layout.write_header(self.format, &mut self.out);
            }
        }
        self.layout = Some(layout);
    }

    /// Whether the rules of OpenMetrics for the type of the family apply.
    fn is_strict(&self) -> bool {
        self.format == Format::OpenMetrics && self.layout.as_ref().is_some_and(|layout| !layout.split)
    }

    fn end_family(&mut self) {
        if let Some(mut layout) = self.layout.take() {
            layout.write_deferred(&mut self.out);
        }
    }

    // ---- numbers ----------------------------------------------------------------------------------------------------------

    fn number(&mut self, row: &Row, value: Number, labels: &str) -> bool {
        let strict = self.is_strict();
        let Some(layout) = &mut self.layout else {
            return false;
        };
        let shown = row.meta.factor.apply(value.to_f64());
        if layout.is_target_info {
            // One family holds the lines of all sources, and its type allows no other value.
            if shown != 1.0 {
                return false;
            }
            self.target_info.add(&row.meta);
            return true;
        }
        match (layout.kind, strict) {
            (PageType::Histogram | PageType::GaugeHistogram | PageType::Summary, _) => false,
            (PageType::Info, true) if shown != 1.0 => false,
            (PageType::StateSet, true) => (shown == 0.0 || shown == 1.0) && layout.defer_state(labels, shown),
            _ => {
                open(&mut self.out, &layout.sample, labels.as_bytes());
                push_number(&mut self.out, value, row.meta.factor);
                self.out.push(b'\n');
                true
            }
        }
    }

    /// Writes a counter of OpenMetrics. `false` if the value is not one.
    // Not inlined: the code of plain rows stays small.
    #[inline(never)]
    fn counter(&mut self, row: &Row, value: Number) -> bool {
        let Some(layout) = &self.layout else { return false };
        let factor = row.meta.factor;
        let shown = factor.apply(value.to_f64());
        if shown.is_nan() || shown < 0.0 {
            return false;
        }
        let out = &mut self.out;
        open_series(out, &layout.sample, &row.meta);
        push_number(out, value, factor);
        if let Some(exemplar) = row.exemplar.as_ref().filter(|_| self.options.exemplars) {
            push_exemplar(out, exemplar, factor);
        }
        out.push(b'\n');
        if row.start_explicit && self.options.created {
            open_series(out, &layout.created, &row.meta);
            push_seconds(out, row.start);
            out.push(b'\n');
        }
        true
    }

    // ---- histograms -------------------------------------------------------------------------------------------------------

    fn histogram(&mut self, row: &Row, cell: &HistogramCell, labels: &str) -> bool {
        let classic = self.layout.as_ref().and_then(|layout| layout.classic.clone());
        if let Some(bounds) = classic.filter(|bounds| bounds[..] != cell.bounds[..])
            && let Some(counts) = bounds::onto(&cell.counts, &cell.bounds, &bounds)
        {
            return self.buckets(row, labels, &bounds, &counts, cell.sum);
        }
        self.buckets(row, labels, &cell.bounds, &cell.counts, cell.sum)
    }

    fn exponential(&mut self, row: &Row, cell: &ExponentialCell, labels: &str) -> bool {
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

    // ---- summaries --------------------------------------------------------------------------------------------------------

    fn summary(&mut self, row: &Row, cell: &SummaryCell, labels: &str) -> bool {
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

    // ---- OpenMetrics only -------------------------------------------------------------------------------------------------

    fn exemplar_of<'a>(&self, row: &'a Row) -> Option<&'a Arc<Exemplar>> {
        let wanted = self.is_strict() && self.options.exemplars;
        row.exemplar.as_ref().filter(|_| wanted)
    }

    fn created(&mut self, row: &Row, labels: &[u8]) {
        if self.is_strict()
            && self.options.created
            && row.start_explicit
            && let Some(layout) = &self.layout
        {
            open(&mut self.out, &layout.created, labels);
            push_seconds(&mut self.out, row.start);
            self.out.push(b'\n');
        }
    }
}
