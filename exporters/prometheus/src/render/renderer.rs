//! One page: the families in their order, and the rows of each. Histograms and summaries have their own files.

use super::exemplar::push_exemplar;
use super::family_layout::FamilyLayout;
use super::les::LeCache;
use super::line::{open, open_series};
use super::number::{push_number, push_seconds};
use super::split::SplitFamilies;
use super::target_info::TargetInfo;
use super::{Options, Stats, bounds, utf8};
use crate::negotiate::Format;
use dichroic_model::{Exemplar, Number, PageType, Source};
use dichroic_pipeline::classic::ClassicCounts;
use dichroic_pipeline::{Metric, Row, RowValue, SeriesMeta};
use std::sync::Arc;

/// Lines of a family that are kept until it is known that the format allows all of its values.
const FAMILY_BYTES: usize = 256 << 10;

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
    pub(super) format: Format,
    options: Options,
    pub(super) out: Vec<u8>,
    pub(super) layout: Option<FamilyLayout>,
    pub(super) les: LeCache,
    pub(super) classic: ClassicCounts,
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
            classic: ClassicCounts::default(),
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
        self.cover(rows);
        for row in rows {
            self.row(row);
        }
    }

    /// Adds the first of these rows, until a piece of the page is ready. Returns how many. [`Renderer::cover`] must have seen them.
    pub(crate) fn rows_for_piece(&mut self, rows: &[Row], piece_bytes: usize) -> usize {
        for (at, row) in rows.iter().enumerate() {
            self.row(row);
            if self.out.len() >= piece_bytes && self.ready() >= piece_bytes {
                return at + 1;
            }
        }
        rows.len()
    }

    /// The bytes that can leave the page. The family that is being written may have to be split, so its lines are kept, but no more
    /// than [`FAMILY_BYTES`].
    fn ready(&mut self) -> usize {
        let length = self.out.len();
        match &mut self.layout {
            Some(layout) if !layout.left => {
                layout.left = length - layout.from > FAMILY_BYTES;
                if layout.left { length } else { layout.from }
            }
            _ => length,
        }
    }

    /// Moves the lines that can leave the page to `text`, whose content is discarded.
    pub(crate) fn take_ready(&mut self, text: &mut Vec<u8>) {
        let ready = self.ready();
        text.clear();
        if ready == self.out.len() {
            std::mem::swap(text, &mut self.out);
        } else {
            text.extend_from_slice(&self.out[..ready]);
            self.out.drain(..ready);
        }
        if let Some(layout) = &mut self.layout {
            layout.from = layout.from.saturating_sub(ready);
        }
        if self.options.utf8 {
            utf8::unescape_names(text);
        }
    }

    /// Bytes that are kept until the end of the page or of the family.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.split.bytes() + self.layout.as_ref().map_or(0, FamilyLayout::deferred_bytes)
    }

    /// Chooses the bounds of exponential histograms, for all of these rows before the first row of a family, so that all of them have
    /// the same bounds.
    pub(crate) fn cover(&mut self, rows: &[Row]) {
        let mut last: Option<&Arc<Metric>> = None;
        for row in rows {
            let metric = &row.meta.metric;
            match &row.value {
                RowValue::Exponential(cell) => {
                    bounds::cover(&metric.family, &metric.unit, cell, row.meta.factor);
                }
                RowValue::Histogram(_) if !last.is_some_and(|last| Arc::ptr_eq(last, metric)) => {
                    last = Some(metric);
                    bounds::include_explicit(&metric.family);
                }
                _ => {}
            }
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
            // A part of it has left the page. The next page splits it from its start.
            Some(layout) if layout.left && !layout.split && !layout.is_target_info => {
                layout
                    .family
                    .split_from_next_page(self.format == Format::OpenMetrics);
                return false;
            }
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
    pub(super) fn is_strict(&self) -> bool {
        self.format == Format::OpenMetrics && self.layout.as_ref().is_some_and(|layout| !layout.split)
    }

    fn end_family(&mut self) {
        if let Some(mut layout) = self.layout.take() {
            layout.write_deferred(&mut self.out);
        }
    }

    fn number(&mut self, row: &Row, value: Number, labels: &str) -> bool {
        let strict = self.is_strict();
        let Some(layout) = &mut self.layout else {
            return false;
        };
        let shown = row.meta.factor.apply(value.to_f64());
        if layout.is_target_info {
            self.target_info.add(&row.meta, shown);
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

    pub(super) fn exemplar_of<'a>(&self, row: &'a Row) -> Option<&'a Arc<Exemplar>> {
        let wanted = self.is_strict() && self.options.exemplars;
        row.exemplar.as_ref().filter(|_| wanted)
    }

    pub(super) fn created(&mut self, row: &Row, labels: &[u8]) {
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
