//! The shared parts of a family's lines: header, sample names, and lines deferred to its end.

use super::line::open;
use super::number::{push_count, push_number};
use crate::negotiate::Format;
use dichroic_model::{Factor, Number, PageType};
use dichroic_pipeline::Family;
use dichroic_pipeline::Metric;
use std::sync::Arc;

/// The family that is being written.
pub(super) struct FamilyLayout {
    /// The metric of the last row; a family may have several.
    pub(super) metric: Arc<Metric>,
    pub(super) family: Arc<Family>,
    pub(super) kind: PageType,
    /// Whether each number is one line, for any value.
    pub(super) plain: bool,
    /// Whether its numbers are counters of OpenMetrics: not negative, with `_created` and exemplars.
    pub(super) strict_counter: bool,
    /// It is written as a family of unknown type for each sample name, at the end of the page.
    pub(super) split: bool,
    /// Where its lines begin.
    pub(super) from: usize,
    /// Some of its lines have left the page, so that it can no longer be split.
    pub(super) left: bool,
    /// Its lines belong to the page's own `target_info`.
    pub(super) is_target_info: bool,
    pub(super) sample: Vec<u8>,
    /// `name_bucket{`
    pub(super) bucket: Vec<u8>,
    pub(super) sum: Vec<u8>,
    pub(super) count: Vec<u8>,
    pub(super) created: Vec<u8>,
    /// The classic bounds of the family's exponential histograms, the same for all rows of the page.
    pub(super) classic: Option<Arc<[f64]>>,
    /// Text pages: `_gsum` and `_gcount` are separate families after the buckets.
    gsums: Vec<u8>,
    gcounts: Vec<u8>,
    /// OpenMetrics: states of one set must be contiguous, in any order of rows. (labels without the state, line)
    states: Vec<(String, Vec<u8>)>,
}

impl FamilyLayout {
    /// The layout of a family whose lines begin at `from`.
    pub(super) fn new(format: Format, metric: &Arc<Metric>, from: usize) -> Self {
        let family = &metric.family;
        let with = |suffix: &str| family.page.sample(suffix).into_bytes();
        let kind = family.kind;
        let sample = match kind {
            PageType::Counter if family.page.total => with("_total"),
            PageType::Info => with("_info"),
            _ => with(""),
        };
        let gauge_histogram = kind == PageType::GaugeHistogram;
        let is_target_info =
            sample == b"target_info" && matches!(kind, PageType::Info | PageType::Gauge | PageType::Unknown);
        let always = match (format, kind) {
            (_, PageType::Gauge | PageType::Unknown) => true,
            (_, PageType::Counter) => format == Format::Text || !family.page.total,
            (_, PageType::Info | PageType::StateSet) => format == Format::Text,
            (_, PageType::Histogram | PageType::GaugeHistogram | PageType::Summary) => false,
        };
        let split = !is_target_info
            && match format {
                // The name belongs to our own family.
                _ if family.page.base == "target_info" => true,
                Format::Text => family.split_in_text(),
                Format::OpenMetrics => family.split_in_openmetrics(),
            };
        FamilyLayout {
            metric: metric.clone(),
            family: family.clone(),
            kind,
            plain: always && !is_target_info && !split,
            strict_counter: kind == PageType::Counter && !always && !split,
            split,
            from,
            left: false,
            is_target_info,
            sample,
            bucket: [with("_bucket"), b"{".to_vec()].concat(),
            sum: with(if gauge_histogram { "_gsum" } else { "_sum" }),
            count: with(if gauge_histogram { "_gcount" } else { "_count" }),
            created: with("_created"),
            classic: match kind {
                PageType::Histogram => family.classic_bounds().map(|classic| classic.bounds),
                _ => None,
            },
            gsums: Vec::new(),
            gcounts: Vec::new(),
            states: Vec::new(),
        }
    }

    pub(super) fn is_of(&self, family: &Arc<Family>) -> bool {
        Arc::ptr_eq(&self.family, family)
    }

    pub(super) fn write_header(&self, format: Format, out: &mut Vec<u8>) {
        let Family { page, kind, help, .. } = &*self.family;
        let (name, type_name) = match format {
            Format::Text => (
                std::str::from_utf8(&self.sample).unwrap_or(&page.base),
                text_type(*kind),
            ),
            Format::OpenMetrics if *kind == PageType::Counter && !page.total => {
                (page.base.as_str(), "unknown")
            }
            Format::OpenMetrics => (page.base.as_str(), openmetrics_type(*kind)),
        };
        header(out, format, name, type_name, help);
        let unit = &page.unit;
        let may_have_unit = !matches!(kind, PageType::Info | PageType::StateSet);
        if format == Format::OpenMetrics
            && !unit.is_empty()
            && may_have_unit
            && ends_with_unit(&page.base, unit)
        {
            line(out, &["# UNIT ", name, " ", unit]);
        }
    }

    /// Writes `_gsum` and `_gcount`: at once in OpenMetrics, at the end of the family in text.
    pub(super) fn gauge_totals(
        &mut self,
        format: Format,
        out: &mut Vec<u8>,
        labels: &[u8],
        sum: Option<(Number, Factor)>,
        count: u64,
    ) {
        // Where the family is split, all samples are in families of their own.
        let text = format == Format::Text && !self.split;
        if let Some((raw, factor)) = sum {
            let out = if text { &mut self.gsums } else { &mut *out };
            open(out, &self.sum, labels);
            push_number(out, raw, factor);
            out.push(b'\n');
        }
        let out = if text { &mut self.gcounts } else { out };
        open(out, &self.count, labels);
        push_count(out, count);
        out.push(b'\n');
    }

    /// Defers a state to the end of the family. `false` if its labels do not name a state.
    pub(super) fn defer_state(&mut self, labels: &str, value: f64) -> bool {
        let name = format!("{}=\"", self.family.page.base);
        let at = if labels.starts_with(&name) {
            0
        } else {
            match labels.find(&format!(",{name}")) {
                Some(at) => at + 1,
                None => return false,
            }
        };
        let set = format!("{}{}", &labels[..at], after_label(&labels[at + name.len()..]));
        let mut text = Vec::with_capacity(self.sample.len() + labels.len() + 8);
        open(&mut text, &self.sample, labels.as_bytes());
        text.extend_from_slice(if value == 1.0 { b"1\n" } else { b"0\n" });
        self.states.push((set, text));
        true
    }

    /// Bytes that are deferred to the end of the family.
    pub(super) fn deferred_bytes(&self) -> usize {
        let states: usize = self.states.iter().map(|(set, line)| set.len() + line.len()).sum();
        self.gsums.len() + self.gcounts.len() + states
    }

    pub(super) fn write_deferred(&mut self, out: &mut Vec<u8>) {
        self.states.sort_by(|a, b| a.0.cmp(&b.0));
        for (_, text) in self.states.drain(..) {
            out.extend_from_slice(&text);
        }
        for (suffix, lines) in [("_gsum", &mut self.gsums), ("_gcount", &mut self.gcounts)] {
            if !lines.is_empty() {
                line(out, &["# TYPE ", &self.family.page.sample(suffix), " gauge"]);
                out.append(lines);
            }
        }
    }
}

/// The text after a label whose value starts at `rest`.
fn after_label(rest: &str) -> &str {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            '"' if !escaped => return &rest[at + 1..],
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    ""
}

fn ends_with_unit(base: &str, unit: &str) -> bool {
    base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

fn text_type(kind: PageType) -> &'static str {
    match kind {
        PageType::Counter => "counter",
        PageType::Gauge | PageType::Info | PageType::StateSet => "gauge",
        PageType::Histogram | PageType::GaugeHistogram => "histogram",
        PageType::Summary => "summary",
        PageType::Unknown => "untyped",
    }
}

fn openmetrics_type(kind: PageType) -> &'static str {
    match kind {
        PageType::Counter => "counter",
        PageType::Gauge => "gauge",
        PageType::Histogram => "histogram",
        PageType::GaugeHistogram => "gaugehistogram",
        PageType::Summary => "summary",
        PageType::Info => "info",
        PageType::StateSet => "stateset",
        PageType::Unknown => "unknown",
    }
}

/// `# HELP` (if there is help) and `# TYPE`.
pub(super) fn header(out: &mut Vec<u8>, format: Format, name: &str, type_name: &str, help: &str) {
    if !help.is_empty() {
        let mut text = String::with_capacity(help.len());
        for c in help.chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '"' if format == Format::OpenMetrics => text.push_str("\\\""),
                c => text.push(c),
            }
        }
        line(out, &["# HELP ", name, " ", &text]);
    }
    line(out, &["# TYPE ", name, " ", type_name]);
}

fn line(out: &mut Vec<u8>, parts: &[&str]) {
    parts
        .iter()
        .for_each(|part| out.extend_from_slice(part.as_bytes()));
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_after_a_label_starts_at_its_closing_quote() {
        assert_eq!(after_label(r#"x",b="1""#), r#",b="1""#);
        assert_eq!(after_label(r#"a\"b\\",b="1""#), r#",b="1""#);
        assert_eq!(after_label(r#"x""#), "");
    }

    #[test]
    fn help_is_escaped_as_each_format_requires() {
        let check = |format, expected: &str| {
            let mut out = Vec::new();
            header(&mut out, format, "a", "gauge", "say \"hi\"\nand \\");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(Format::Text, "# HELP a say \"hi\"\\nand \\\\\n# TYPE a gauge\n");
        check(
            Format::OpenMetrics,
            "# HELP a say \\\"hi\\\"\\nand \\\\\n# TYPE a gauge\n",
        );
    }
}
