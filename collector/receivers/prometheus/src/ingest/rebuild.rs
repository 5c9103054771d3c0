//! The slow path: a page is parsed, its samples are assembled to points, and its points are resolved in the store.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use dichroic_model::labels::canonical_float;
use dichroic_model::{
    AttributeValue, Exemplar, Factor, Fingerprint, Fingerprinter, MetricKind, NameStyle, Scope, SeriesDef,
    SourceId, Temporality,
};
use dichroic_pipeline::Core;
use foldhash::{HashMap as FoldMap, HashSet as FoldSet};

use super::apply::whole;
use super::error::PageError;
use super::exposition::{Format, PageLimits};
use super::parser::PageParser;
use super::points::{Line, Memory, NO_TIME, NONE, PageViolation, Point};
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

#[derive(Default, Clone, Copy)]
struct Family<'a> {
    help: Escaped<'a>,
    unit: &'a str,
}

/// A point that is being assembled.
struct Draft<'a> {
    /// One of its samples, for its name and labels.
    sample: Sample<'a>,
    exemplar: Option<crate::parse::Exemplar<'a>>,
    key: Fingerprint,
    point: Point,
    parts: Vec<(f64, u32)>,
    /// Of a single sample: the label of its family's type that has a number.
    part: &'static str,
    shape: Shape,
}

/// The result of [`Draft::take`].
enum Taken {
    Part,
    /// The part exists: its line.
    Before(u32),
    /// A bucket without a bound, or a quantile without its number.
    No,
}

/// Whether the parts of a point form a complete point of its type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Whole,
    /// A part is missing.
    Parts,
    /// All parts exist, but their values contradict each other.
    Values,
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

fn has_parts(kind: FamilyKind) -> bool {
    matches!(
        kind,
        FamilyKind::Histogram | FamilyKind::GaugeHistogram | FamilyKind::Summary
    )
}

/// Name and labels of a line that was parsed before.
fn series_of(raw: &[u8]) -> Option<Series<'_>> {
    text::Parser::new(raw).whole_series()
}

/// The labels that identify a sample's point. An empty label counts as absent, unless it removes a label of the target.
///
/// The number in the label `number`, if any, gets the form in which Prometheus stores it.
fn labels_of<'a, 'b>(
    sample: &Sample<'a>,
    removable: &'a [String],
    number: &'b str,
) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a, 'b> {
    let part = sample.kind.part_label(sample.role);
    let kept = move |name: Escaped<'_>, value: Escaped<'_>| {
        Some(name.0) != part
            && (!value.0.is_empty() || removable.iter().any(|removable| removable.as_str() == name.0))
    };
    let labels = sample.series.labels.into_iter();
    labels
        .filter(move |(name, value)| kept(*name, *value))
        .map(move |(name, value)| {
            let stored = (name.0 == number).then(|| value.decode().parse().ok().map(canonical_float));
            (
                name.decode(),
                stored.flatten().map_or_else(|| value.decode(), Cow::Owned),
            )
        })
}

/// The label in which Prometheus normalizes numbers. Source: Prometheus 3, text parsers, `le` and `quantile`.
fn part_label(kind: FamilyKind) -> &'static str {
    match kind {
        FamilyKind::Histogram | FamilyKind::GaugeHistogram => "le",
        FamilyKind::Summary => "quantile",
        _ => "",
    }
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

impl<'a> Draft<'a> {
    fn new(sample: Sample<'a>, key: Fingerprint) -> Self {
        let point = Point {
            fp: key,
            series: Err(dichroic_pipeline::DropReason::Malformed),
            kind: sample.kind,
            main: NONE,
            sum: NONE,
            created: NONE,
            bounds: NONE,
            parts: 0,
            samples: 0,
        };
        Self {
            sample,
            exemplar: None,
            key,
            point,
            parts: Vec::new(),
            part: "",
            shape: Shape::Whole,
        }
    }

    /// Takes a line as one part of the point.
    fn take(&mut self, sample: &Sample<'a>, line: u32) -> Taken {
        let mut nowhere = NONE;
        let place = match sample.role {
            Role::Value | Role::Total | Role::Count => &mut self.point.main,
            Role::Sum => &mut self.point.sum,
            Role::Created => &mut self.point.created,
            Role::Bucket | Role::Quantile => {
                let Some(bound) = part_bound(sample) else {
                    return Taken::No;
                };
                self.parts.push((bound, line));
                &mut nowhere
            }
        };
        if *place != NONE {
            return Taken::Before(*place);
        }
        *place = line;
        self.point.samples += 1;
        // Keep the newest exemplar, and prefer the name of the value over that of its start time.
        self.exemplar = sample.exemplar.or(self.exemplar);
        if self.sample.role == Role::Created {
            self.sample = *sample;
        }
        Taken::Part
    }

    /// Sorts the parts. Of equal ones only the first remains; the number of the others is returned.
    fn sort_parts(&mut self) -> u64 {
        let before = self.parts.len();
        self.parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.parts.dedup_by(|later, kept| later.0 == kept.0);
        let repeated = before - self.parts.len();
        self.point.samples -= repeated as u32;
        repeated as u64
    }

    /// Whether a page with this point would show exactly its samples.
    fn shape_in(&self, memory: &Memory) -> Shape {
        let main = memory.value(self.point.main);
        let all = |ok: bool| if ok { Shape::Whole } else { Shape::Values };
        match (self.point.kind, main) {
            (_, None) => Shape::Parts,
            (FamilyKind::Histogram | FamilyKind::GaugeHistogram, Some(total)) => {
                let (first, last) = (self.parts.first(), self.parts.last());
                let ends = first.is_some_and(|(bound, _)| *bound != f64::NEG_INFINITY)
                    && last.is_some_and(|(bound, _)| *bound == f64::INFINITY);
                if !ends || self.point.sum == NONE {
                    return Shape::Parts;
                }
                let counts = || self.parts.iter().filter_map(|(_, line)| memory.value(*line));
                all(counts().all(|count| whole(count).is_ok())
                    && counts().is_sorted()
                    && counts().next_back() == Some(total))
            }
            (FamilyKind::Summary, Some(_)) if self.point.sum == NONE => Shape::Parts,
            (FamilyKind::Summary, Some(count)) => all(whole(count).is_ok()),
            (FamilyKind::Info, Some(value)) => all(value == 1.0),
            (FamilyKind::StateSet, Some(value)) => {
                let labels = self.sample.series.labels;
                match labels.get(self.sample.family.0) {
                    Some(state) if !state.0.is_empty() => all(value == 0.0 || value == 1.0),
                    _ => Shape::Parts,
                }
            }
            _ => Shape::Whole,
        }
    }

    /// Takes the line of a start time that cannot be one.
    fn take_unusable_start(&mut self, memory: &Memory) -> Option<u32> {
        const LATEST: f64 = 4e9; // in the year 2096
        let seconds = memory.value(self.point.created)?;
        if seconds > 0.0 && seconds < LATEST {
            return None;
        }
        self.point.samples -= 1;
        Some(std::mem::replace(&mut self.point.created, NONE))
    }

    /// Takes all its lines and leaves the point empty.
    fn take_lines(&mut self) -> Vec<u32> {
        let point = &mut self.point;
        point.samples = 0;
        let others = [&mut point.main, &mut point.sum, &mut point.created];
        let others = others.map(|place| std::mem::replace(place, NONE));
        let parts = self.parts.drain(..).map(|(_, line)| line);
        parts.chain(others).filter(|line| *line != NONE).collect()
    }

    /// Stores the sorted parts, and includes the bounds of a histogram in its fingerprint: other bounds are another series.
    fn finish(
        &mut self,
        memory: &mut Memory,
        lists: &mut FoldMap<Vec<u8>, u32>,
        fingerprints: &Fingerprinter,
    ) {
        if self.parts.is_empty() {
            return;
        }
        self.point.parts = memory.parts.len() as u32;
        memory.parts.extend(self.parts.iter().map(|(_, line)| *line));
        let mut bytes: Vec<u8> = self
            .parts
            .iter()
            .flat_map(|(bound, _)| bound.to_bits().to_le_bytes())
            .collect();
        self.point.bounds = match lists.get(&bytes) {
            Some(&list) => list,
            None => {
                let list = memory.bounds.len() as u32;
                memory
                    .bounds
                    .push(self.parts.iter().map(|(bound, _)| *bound).collect());
                lists.insert(bytes.clone(), list);
                list
            }
        };
        if self.point.is_histogram() {
            bytes.extend_from_slice(&self.key.low.to_le_bytes());
            bytes.extend_from_slice(&self.key.high.to_le_bytes());
            self.point.fp = fingerprints.of(&bytes);
        }
    }

    fn define(
        &self,
        store: &mut Core,
        source: SourceId,
        family: Family<'_>,
        removable: &'a [String],
    ) -> Result<dichroic_pipeline::SeriesRef, dichroic_pipeline::NotAdmitted> {
        let bounds = self.point.is_histogram().then(|| {
            let bounds = self.parts.iter().map(|(bound, _)| *bound);
            bounds.filter(|bound| bound.is_finite()).collect()
        });
        let name = match self.sample.role {
            Role::Total => self.sample.series.name.decode(),
            _ => self.sample.family.decode(),
        };
        let help = family.help.decode();
        let attributes = labels_of(&self.sample, removable, self.part)
            .map(|(name, value)| (name, AttributeValue::Str(value)));
        let def = SeriesDef {
            source,
            scope: &Scope::default(),
            name: &name,
            style: NameStyle::Scraped,
            unit: family.unit,
            help: &help,
            kind: metric_kind(self.point.kind),
            temporality: Temporality::Cumulative,
            factor: Factor::ONE,
            attributes: attributes.collect(),
            start: 0,
            bounds,
        };
        store.define(self.point.fp, def)
    }
}

/// The bound of a bucket or the quantile of a summary's value.
fn part_bound(sample: &Sample<'_>) -> Option<f64> {
    let label = sample.kind.part_label(sample.role)?;
    let bound: f64 = sample.series.labels.get(label)?.decode().parse().ok()?;
    let possible = match sample.role {
        // No valid page has others.
        Role::Quantile => (0.0..=1.0).contains(&bound),
        _ => !bound.is_nan(),
    };
    possible.then_some(bound)
}

fn metric_kind(kind: FamilyKind) -> MetricKind {
    match kind {
        FamilyKind::Unknown => MetricKind::Unknown,
        FamilyKind::Gauge => MetricKind::Gauge,
        FamilyKind::Counter => MetricKind::COUNTER,
        FamilyKind::StateSet => MetricKind::StateSet,
        FamilyKind::Info => MetricKind::Info,
        FamilyKind::Histogram => MetricKind::Histogram,
        FamilyKind::GaugeHistogram => MetricKind::GaugeHistogram,
        FamilyKind::Summary => MetricKind::Summary,
    }
}
