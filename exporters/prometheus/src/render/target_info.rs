//! `target_info`: one line per source with its resource, at the end of the page.
//!
//! A scraped target may expose `target_info` too. Its lines are merged into ours, because a family is on a page once, and replace ours
//! for that source, because a join on `job` and `instance` must match one line.

use super::family_layout::header;
use super::line::open;
use super::number::push_f64;
use super::split::SplitFamilies;
use crate::negotiate::Format;
use dichroic_model::{Source, SourceId, labels};
use dichroic_pipeline::SeriesMeta;
use std::collections::HashSet;
use std::sync::Arc;

/// The `target_info` lines of one page.
#[derive(Default)]
pub(super) struct TargetInfo {
    /// Series of `target_info` from scraped targets, with their values.
    scraped: Vec<(SourceId, Arc<SeriesMeta>, f64)>,
    /// Whether ours is a gauge, because another family is named `target`, or a value is not 1.
    gauge: bool,
}

impl TargetInfo {
    /// Records the name of another family on the page.
    pub(super) fn add_family(&mut self, base: &str) {
        self.gauge |= base == "target";
    }

    /// Adds a `target_info` series of a scraped target. Its value is shown even if it is not 1, as Prometheus takes it.
    pub(super) fn add(&mut self, meta: &Arc<SeriesMeta>, value: f64) {
        self.gauge |= value != 1.0;
        self.scraped.push((meta.source.id, meta.clone(), value));
    }

    /// Writes them at the end of `out`, or with the samples of the same name that split families have.
    pub(super) fn write<'a>(
        &self,
        format: Format,
        sources: impl IntoIterator<Item = &'a Arc<Source>>,
        split: &mut SplitFamilies,
        out: &mut Vec<u8>,
    ) {
        let of_targets: HashSet<SourceId> = self.scraped.iter().map(|(id, ..)| *id).collect();
        let scraped = self.scraped.iter();
        let mut lines: Vec<(String, f64)> = scraped
            .map(|(_, meta, value)| (with_runtime(meta), *value))
            .collect();
        let mut own: Vec<&Arc<Source>> = sources
            .into_iter()
            .filter(|source| !of_targets.contains(&source.id))
            .filter(|source| !source.spec.job.is_empty() || !source.spec.instance.is_empty())
            .collect();
        own.sort_by_key(|source| source.id);
        lines.extend(
            own.into_iter()
                .map(|source| (labels::render(&labels::target_info_labels(source)), 1.0)),
        );
        let mut text = Vec::new();
        let mut written = HashSet::new();
        for (line, value) in &lines {
            if written.insert(line.as_str()) {
                open(&mut text, b"target_info", line.as_bytes());
                push_f64(&mut text, *value);
                text.push(b'\n');
            }
        }
        if text.is_empty() || split.add(b"target_info", &text) {
            return;
        }
        let (name, type_name) = match format {
            Format::OpenMetrics if !self.gauge => ("target", "info"),
            _ => ("target_info", "gauge"),
        };
        header(out, format, name, type_name, "Target metadata");
        out.extend_from_slice(&text);
    }
}

/// The labels of a target's `target_info`, with `runtime` added.
fn with_runtime(meta: &SeriesMeta) -> String {
    let labels = meta.labels();
    if labels.starts_with("runtime=\"") || labels.contains(",runtime=\"") {
        return labels;
    }
    let comma = if labels.is_empty() { "" } else { "," };
    format!("{labels}{comma}runtime=\"{}\"", meta.source.spec.runtime.as_str())
}
