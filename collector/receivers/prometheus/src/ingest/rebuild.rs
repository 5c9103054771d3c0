//! The slow path: a page is parsed, its samples are assembled to points, and its points are resolved in the store.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use dichroic_model::{AttributeValue, Exemplar, Fingerprint, Fingerprinter, SourceId};
use dichroic_pipeline::Core;
use foldhash::{HashMap as FoldMap, HashSet as FoldSet};

use super::draft::{Draft, Family, Shape, Taken, has_parts, labels_of, part_label};
use super::error::PageError;
use super::exposition::{Format, PageLimits};
use super::parser::PageParser;
use super::points::{Line, Memory, NO_TIME, PageViolation};
use super::replay::{mix, odd};

use crate::parse::{Escaped, FamilyKind, Item, Role, Sample, Series, Violations, text};

/// A valid page, before its points are resolved in the store.
pub(super) struct Build<'a> {
    memory: Memory,
    drafts: Vec<Draft<'a>>,
    by_key: FoldMap<Fingerprint, u32>,
    families: FoldMap<&'a str, Family<'a>>,
    fingerprints: &'a Fingerprinter,
    /// Samples whose series is on the page more than once.
    pub duplicates: u64,
    /// The page, and the text of the series of each line.
    body: &'a [u8],
    raws: Vec<&'a [u8]>,
    /// Lines that are not part of a point of their family.
    singles: Vec<(u32, FamilyKind)>,
    /// Whether a violation refuses the page.
    strict: bool,
    /// Families with a bucket or quantile that has no number.
    broken: FoldSet<&'a str>,
    /// Labels of the target that an empty label of the page removes.
    removable: &'a [String],
    key: Vec<u8>,
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// The points of a page.
pub(super) type Kept = FoldSet<Fingerprint>;

/// A page that is being parsed.
pub(super) struct Reader<'a> {
    parser: PageParser<'a>,
    body: &'a [u8],
    limits: PageLimits,
    build: Build<'a>,
    /// Samples so far.
    pub samples: u64,
    comments: Comments<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        body: &'a [u8],
        format: Format,
        limits: PageLimits,
        fingerprints: &'a Fingerprinter,
        removable: &'a [String],
    ) -> Self {
        let openmetrics = format != Format::Text;
        // Lines are rarely shorter than this; growing a table costs as much as filling it.
        let likely = body.len() / 100;
        let build = Build {
            memory: Memory {
                lines: Vec::with_capacity(likely),
                index: hashbrown::HashTable::with_capacity(likely),
                openmetrics,
                replayable: true,
                ..Memory::default()
            },
            drafts: Vec::with_capacity(likely / 2),
            by_key: HashMap::with_capacity_and_hasher(likely / 2, Default::default()),
            families: HashMap::default(),
            fingerprints,
            duplicates: 0,
            body,
            raws: Vec::with_capacity(likely),
            singles: Vec::new(),
            strict: matches!(format, Format::OpenMetrics { strict: true, .. }),
            broken: FoldSet::default(),
            removable,
            key: Vec::new(),
            labels: Vec::new(),
        };
        let comments = Comments {
            rest: body,
            openmetrics,
            samples: 0,
            hash: 0,
        };
        Self {
            parser: PageParser::new(body, format),
            body,
            limits,
            build,
            samples: 0,
            comments,
        }
    }

    /// Reads at most `items` items. Returns whether there are more. The page cannot be read further after an error.
    pub(super) fn step(&mut self, items: usize) -> Result<bool, PageError> {
        self.comments.step(items);
        for _ in 0..items {
            match self.parser.next_item().inspect_err(|_| self.samples += 1)? {
                None => return Ok(false),
                Some(Item::Help { family, text }) => {
                    self.build.families.entry(family.0).or_default().help = text
                }
                Some(Item::Unit { family, unit }) => {
                    self.build.families.entry(family.0).or_default().unit = unit
                }
                Some(Item::Type { .. }) => {}
                Some(Item::Sample(sample)) => self.sample(sample)?,
            }
        }
        Ok(true)
    }

    fn sample(&mut self, sample: Sample<'a>) -> Result<(), PageError> {
        self.samples += 1;
        let limit = self.limits.max_samples();
        if self.samples > limit as u64 {
            return Err(PageError::Samples { limit });
        }
        check_labels(&sample, &self.limits, self.build.removable, self.body)?;
        self.build.add(sample);
        Ok(())
    }

    /// The page that was read, after the last step.
    pub(super) fn finish(mut self) -> Build<'a> {
        self.comments.step(usize::MAX);
        self.build.memory.comments = self.comments.hash;
        let violations = self.parser.violations(self.body).into_iter();
        self.build.memory.violations = violations.map(PageViolation::from).collect();
        self.build
    }
}

/// The hash over comments, computed as in a replay. A page on which the two differ (one line of a label value looks like a comment)
/// is never replayed.
struct Comments<'a> {
    rest: &'a [u8],
    openmetrics: bool,
    samples: usize,
    hash: u64,
}

impl Comments<'_> {
    fn step(&mut self, lines: usize) {
        for _ in 0..lines {
            let end = memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len());
            match self.rest.first() {
                None => return,
                Some(b'#') => self.hash = mix(self.hash, &self.rest[..end], self.samples, self.openmetrics),
                Some(_) => self.samples += 1,
            }
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
        }
    }
}

/// The labels of the target count too, as in Prometheus.
fn check_labels(
    sample: &Sample<'_>,
    limits: &PageLimits,
    removable: &[String],
    body: &[u8],
) -> Result<(), PageError> {
    if (limits.labels, limits.label_name_bytes, limits.label_value_bytes) == (0, 0, 0) {
        return Ok(());
    }
    let over = |size: usize, limit: usize| limit != 0 && size > limit;
    let error = |what, limit, key| {
        let at = sample.series.raw.as_ptr() as usize - body.as_ptr() as usize;
        let line = memchr::memchr_iter(b'\n', &body[..at.min(body.len())]).count() + 1;
        Err(PageError::Labels {
            line,
            what,
            limit,
            key,
        })
    };
    let shown = sample
        .series
        .labels
        .into_iter()
        .filter(|(_, value)| !value.0.is_empty());
    let own = |name: Escaped<'_>| !removable.iter().any(|of_target| of_target.as_str() == name.0);
    let labels = shown.filter(|(name, _)| own(*name)).count();
    if over(labels + 1 + limits.target_labels, limits.labels) {
        return error("the number of labels", limits.labels, "label_limit");
    }
    for (name, value) in sample.series.labels {
        if over(name.0.len(), limits.label_name_bytes) {
            return error(
                "a label's name",
                limits.label_name_bytes,
                "label_name_length_limit",
            );
        }
        if over(value.0.len(), limits.label_value_bytes) {
            return error(
                "a label's value",
                limits.label_value_bytes,
                "label_value_length_limit",
            );
        }
    }
    Ok(())
}

impl<'a> Build<'a> {
    fn add(&mut self, sample: Sample<'a>) {
        let fp = self.fingerprints.of(sample.series.raw);
        if let Some(before) = self.memory.find(fp) {
            return self.repeat(before, &sample);
        }
        // Only the parser reads text after the value. Text pages with timestamps are still replayed: there the replay uses the parser.
        let replayable =
            sample.exemplar.is_none() && (sample.timestamp_ns.is_none() || !self.memory.openmetrics);
        self.memory.replayable &= replayable;
        let line = self.memory.insert(
            Line {
                fp,
                value: sample.value,
            },
            sample.timestamp_ns,
        );
        self.raws.push(sample.series.raw);
        let key = self.key_of(&sample, "");
        let draft = match self.by_key.get(&key) {
            Some(&draft) => &mut self.drafts[draft as usize],
            None => {
                self.by_key.insert(key, self.drafts.len() as u32);
                self.drafts.push(Draft::new(sample, key));
                self.drafts.last_mut().expect("just pushed")
            }
        };
        match draft.take(&sample, line) {
            Taken::Part => {}
            Taken::No => {
                self.broken.insert(sample.family.0);
                self.singles.push((line, sample.kind));
            }
            // The same series in another spelling, or another name of the same part.
            Taken::Before(before) if self.same_name(before, &sample) => self.repeat(before, &sample),
            Taken::Before(_) => self.singles.push((line, sample.kind)),
        }
    }

    fn same_name(&self, line: u32, sample: &Sample<'_>) -> bool {
        let before = series_of(self.raws[line as usize]);
        before.is_some_and(|before| before.name.decode() == sample.series.name.decode())
    }

    /// A series that is on the page again: the sample with the later timestamp wins, otherwise the first. A replay expects each
    /// series once, so such a page is always parsed.
    fn repeat(&mut self, line: u32, sample: &Sample<'a>) {
        self.duplicates += 1;
        self.memory.replayable = false;
        let time = sample.timestamp_ns.unwrap_or(NO_TIME);
        if time > self.memory.time(line) {
            self.memory.set_time(line, time);
            self.memory.lines[line as usize].value = sample.value;
        }
    }

    /// Key of the point that a sample belongs to: family and labels, without the label of its part and without empty labels.
    fn key_of(&mut self, sample: &Sample<'a>, part: &str) -> Fingerprint {
        self.labels.clear();
        self.labels.extend(labels_of(sample, self.removable, part));
        self.labels.sort_unstable();
        self.key.clear();
        self.key.push(sample.kind as u8);
        self.key.extend_from_slice(sample.family.0.as_bytes());
        for (name, value) in &self.labels {
            for text in [name, value] {
                self.key.push(0xff); // no UTF-8 text has this byte
                self.key.extend_from_slice(text.as_bytes());
            }
        }
        self.fingerprints.of(&self.key)
    }

    /// Computes the fingerprint of every point, after the last sample.
    pub(super) fn identify(&mut self) -> Kept {
        self.separate();
        let mut lists = FoldMap::default();
        for draft in &mut self.drafts {
            draft.finish(&mut self.memory, &mut lists, self.fingerprints);
        }
        self.drafts.iter().map(|draft| draft.point.fp).collect()
    }

    /// Turns samples that do not form a complete point of their family into single points, as Prometheus keeps them. If one histogram
    /// or summary of a family is incomplete, all of the family are split: otherwise the family's names would have two types.
    fn separate(&mut self) {
        let mut singles = std::mem::take(&mut self.singles);
        let mut broken = std::mem::take(&mut self.broken);
        for draft in &mut self.drafts {
            let repeated = draft.sort_parts();
            self.duplicates += repeated;
            // Only parsing counts duplicates and decides whether values form a histogram.
            self.memory.replayable &= repeated == 0;
            draft.shape = draft.shape_in(&self.memory);
            if draft.shape != Shape::Whole && has_parts(draft.point.kind) {
                broken.insert(draft.sample.family.0);
            }
        }
        for draft in &mut self.drafts {
            let family = draft.sample.family.0;
            if draft.shape != Shape::Whole || (has_parts(draft.point.kind) && broken.contains(family)) {
                self.memory.replayable &= draft.shape != Shape::Values;
                let kind = draft.point.kind;
                singles.extend(draft.take_lines().into_iter().map(|line| (line, kind)));
            } else if let Some(line) = draft.take_unusable_start(&self.memory) {
                singles.push((line, draft.point.kind));
            }
        }
        if singles.is_empty() {
            return;
        }
        // A replay does not check single samples against the type of their family.
        self.memory.replayable &= !self.strict;
        self.drafts.retain(|draft| draft.point.samples > 0);
        let mut violations = Violations::default();
        for (line, kind) in singles {
            let raw = self.raws[line as usize];
            violations.incomplete(raw.as_ptr() as usize - self.body.as_ptr() as usize);
            self.add_single(raw, line, kind);
        }
        let seen = violations.on(self.body).into_iter();
        self.memory.violations.extend(seen.map(PageViolation::from));
    }

    /// Adds a sample of a family of type `kind` by itself.
    fn add_single(&mut self, raw: &'a [u8], line: u32, kind: FamilyKind) {
        let Some(series) = series_of(raw) else { return };
        let part = part_label(kind);
        let sample = Sample {
            series,
            family: series.name,
            kind: FamilyKind::Unknown,
            role: Role::Value,
            value: self.memory.lines[line as usize].value,
            timestamp_ns: None,
            exemplar: None,
        };
        let key = self.key_of(&sample, part);
        // Only complete points of unknown type have such keys, and those points are not split.
        if self.by_key.insert(key, line).is_some() {
            self.duplicates += 1;
            self.memory.replayable = false;
            return;
        }
        let mut draft = Draft::new(sample, key);
        draft.part = part;
        draft.take(&sample, line);
        self.drafts.push(draft);
    }

    /// Number of points.
    pub(super) fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Resolves some points in the store. Returns the number of new series.
    pub(super) fn settle(&mut self, store: &mut Core, source: SourceId, points: Range<usize>) -> u64 {
        let mut added = 0;
        for draft in &mut self.drafts[points] {
            if let Some(series) = store.find(draft.point.fp) {
                draft.point.series = Ok(series);
            } else {
                let family = self
                    .families
                    .get(draft.sample.family.0)
                    .copied()
                    .unwrap_or_default();
                draft.point.series = draft
                    .define(store, source, family, self.removable)
                    .map_err(|refused| refused.0);
                added += u64::from(draft.point.series.is_ok());
            }
            if let (Ok(series), Some(exemplar)) = (draft.point.series, draft.exemplar) {
                store.set_exemplar(series, owned(&exemplar));
            }
            self.memory.replayable &= draft.point.series.is_ok();
        }
        added
    }

    /// The memory of the page.
    pub(super) fn into_memory(mut self) -> Memory {
        self.memory.points = self.drafts.into_iter().map(|draft| draft.point).collect();
        if self.memory.openmetrics {
            // OpenMetrics is replayed in order, so the index is not used.
            self.memory.index = hashbrown::HashTable::new();
            self.memory.odd = odd(&self.memory).collect();
        }
        self.memory
    }
}

/// Name and labels of a line that was parsed before.
fn series_of(raw: &[u8]) -> Option<Series<'_>> {
    text::Parser::new(raw).whole_series()
}

fn owned(exemplar: &crate::parse::Exemplar<'_>) -> Exemplar {
    let text = |value: Escaped<'_>| AttributeValue::Str(Cow::Owned(value.decode().into_owned()));
    let mut labels: Vec<_> = exemplar
        .labels
        .into_iter()
        .map(|(name, value)| (Cow::Owned(name.decode().into_owned()), text(value)))
        .collect();
    Exemplar {
        value: exemplar.value,
        time: exemplar
            .timestamp_ns
            .and_then(|time| u64::try_from(time).ok())
            .unwrap_or(0),
        attributes: dichroic_model::Attributes::pack(&mut labels),
    }
}
