//! Split families: one family of unknown type for each sample name, at the end of the page.
//!
//! A family is split where another one has one of its names, and where a format forbids one of its values under its type: a negative or
//! NaN counter in OpenMetrics, for example. Families with the same sample name share one.

use super::family_layout::header;
use crate::negotiate::Format;
use dichroic_model::PageType;
use dichroic_model::labels::read_escaped;
use dichroic_pipeline::Family;
use std::collections::{BTreeMap, HashSet};

/// The type that a family gives to a group of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupType {
    /// A type with a single sample, under this word.
    Single(&'static str),
    /// Samples of a family with another type.
    Unknown,
}

struct Group {
    kind: GroupType,
    help: String,
    /// Samples of series that have several, such as the buckets of a histogram.
    parts: Vec<u8>,
    /// Samples of series that have one.
    singles: Vec<u8>,
}

impl Group {
    /// A gauge `a.bucket` may have a label `le` and so be a sample of a histogram `a`; then the histogram is shown. Returns how many are
    /// left out.
    fn remove_equal_samples(&mut self) -> u64 {
        if self.parts.is_empty() || self.singles.is_empty() {
            return 0;
        }
        let mut left_out = 0;
        let of_parts: HashSet<_> = lines(&self.parts).map(label_set).collect();
        let mut kept = Vec::with_capacity(self.singles.len());
        for line in lines(&self.singles) {
            if of_parts.contains(&label_set(line)) {
                left_out += 1;
            } else {
                kept.extend_from_slice(line);
            }
        }
        self.singles = kept;
        left_out
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

/// The labels of a line in the order of their names.
fn label_set(line: &[u8]) -> Vec<(&str, &str)> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let labels = text.split_once('{').map_or("", |(_, labels)| labels);
    let mut labels: Vec<_> = read_escaped(labels)
        .filter(|(_, value)| !value.is_empty())
        .collect();
    labels.sort_unstable();
    labels
}

/// The samples of the split families of one page.
#[derive(Default)]
pub(super) struct SplitFamilies {
    groups: BTreeMap<Vec<u8>, Group>,
}

impl SplitFamilies {
    /// Takes over the lines of a family: its header, `_created` samples and exemplars are left out.
    pub(super) fn take(&mut self, format: Format, family: &Family, lines: &[u8]) {
        let kind = group_type(format, family);
        let several = matches!(
            family.kind,
            PageType::Histogram | PageType::GaugeHistogram | PageType::Summary
        );
        let created = family.page.sample("_created").into_bytes();
        for line in lines.split(|byte| *byte == b'\n') {
            let end = line.iter().position(|byte| matches!(byte, b'{' | b' '));
            let Some(name) = end.map(|end| &line[..end]).filter(|name| !name.is_empty()) else {
                continue;
            };
            if name == b"#" || name == created {
                continue;
            }
            let group = match self.groups.get_mut(name) {
                Some(group) => group,
                None => self.groups.entry(name.to_vec()).or_insert_with(|| Group {
                    kind,
                    help: family.help.clone(),
                    parts: Vec::new(),
                    singles: Vec::new(),
                }),
            };
            group.kind = common(format, group.kind, kind);
            let samples = if several {
                &mut group.parts
            } else {
                &mut group.singles
            };
            samples.extend_from_slice(&line[..sample_end(line)]);
            samples.push(b'\n');
        }
    }

    /// Writes the families. Returns how many rows were left out, because a histogram or summary has their sample.
    pub(super) fn write(&mut self, format: Format, out: &mut Vec<u8>) -> u64 {
        let mut equal = 0;
        for (name, group) in &mut self.groups {
            equal += group.remove_equal_samples();
            let word = match group.kind {
                GroupType::Single(word) => word,
                GroupType::Unknown => unknown(format),
            };
            header(out, format, &String::from_utf8_lossy(name), word, &group.help);
            out.extend_from_slice(&group.parts);
            out.extend_from_slice(&group.singles);
        }
        equal
    }

    /// Adds lines to the samples with this name, before others that equal them. `false` if there are no such samples.
    pub(super) fn add(&mut self, name: &[u8], lines: &[u8]) -> bool {
        let Some(group) = self.groups.get_mut(name) else {
            return false;
        };
        group.kind = GroupType::Unknown;
        group.parts.extend_from_slice(lines);
        true
    }

    /// Bytes of all samples.
    pub(super) fn bytes(&self) -> usize {
        let groups = self.groups.values();
        groups.map(|group| group.parts.len() + group.singles.len()).sum()
    }

    pub(super) fn clear(&mut self) {
        self.groups.clear();
    }

    /// Whether a sample has this name.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.groups.contains_key(name)
    }
}

fn unknown(format: Format) -> &'static str {
    match format {
        Format::Text => "untyped",
        Format::OpenMetrics => "unknown",
    }
}

fn group_type(format: Format, family: &Family) -> GroupType {
    match (family.kind, format) {
        (PageType::Gauge, _) | (PageType::StateSet | PageType::Info, Format::Text) => {
            GroupType::Single("gauge")
        }
        (PageType::Counter, Format::Text) => GroupType::Single("counter"),
        (PageType::Unknown, _) => GroupType::Single(unknown(format)),
        (PageType::Counter, Format::OpenMetrics) if !family.page.total => GroupType::Single("unknown"),
        _ => GroupType::Unknown,
    }
}

/// The type on which two families agree; a family without a type agrees with any.
fn common(format: Format, a: GroupType, b: GroupType) -> GroupType {
    let none = GroupType::Single(unknown(format));
    match (a, b) {
        _ if a == b || b == none => a,
        (GroupType::Single(_), GroupType::Single(_)) if a == none => b,
        _ => GroupType::Unknown,
    }
}

/// The length of a line without its exemplar.
fn sample_end(line: &[u8]) -> usize {
    let (mut quoted, mut escaped, mut in_value) = (false, false, false);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b' ' if !quoted && in_value => return at,
            b' ' if !quoted => in_value = true,
            _ => {}
        }
        escaped = *byte == b'\\' && !escaped;
    }
    line.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_ends_before_its_exemplar() {
        let check = |line: &str, sample: &str| {
            assert_eq!(&line[..sample_end(line.as_bytes())], sample);
        };
        check("a 1", "a 1");
        check(
            "a_total{x=\"y # {z\"} 1 # {trace_id=\"t\"} 1 2",
            "a_total{x=\"y # {z\"} 1",
        );
        check("a{x=\"\\\" b\",y=\"\"} 5 # {} 1", "a{x=\"\\\" b\",y=\"\"} 5");
    }

    #[test]
    fn groups_have_the_type_that_their_families_agree_on() {
        use GroupType::{Single, Unknown};
        let check = |a, b, expected| {
            assert_eq!(common(Format::Text, a, b), expected);
            assert_eq!(common(Format::Text, b, a), expected);
        };
        check(Single("gauge"), Single("gauge"), Single("gauge"));
        check(Single("untyped"), Single("counter"), Single("counter"));
        check(Single("gauge"), Single("counter"), Unknown);
        check(Single("untyped"), Unknown, Unknown);
    }
}
