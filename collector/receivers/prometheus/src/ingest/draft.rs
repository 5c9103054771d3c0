//! A point of a page while its samples are collected.

use std::borrow::Cow;

use dichroic_model::labels::canonical_float;
use dichroic_model::{
    AttributeValue, Factor, Fingerprint, Fingerprinter, MetricKind, NameStyle, Scope, SeriesDef, SourceId,
    Temporality,
};
use dichroic_pipeline::Core;
use foldhash::HashMap as FoldMap;

use super::apply::whole;
use super::points::{Memory, NONE, Point};
use crate::parse::{Escaped, FamilyKind, Role, Sample};

#[derive(Default, Clone, Copy)]
pub(super) struct Family<'a> {
    pub(super) help: Escaped<'a>,
    pub(super) unit: &'a str,
}

/// A point that is being assembled.
pub(super) struct Draft<'a> {
    /// One of its samples, for its name and labels.
    pub(super) sample: Sample<'a>,
    pub(super) exemplar: Option<crate::parse::Exemplar<'a>>,
    pub(super) key: Fingerprint,
    pub(super) point: Point,
    pub(super) parts: Vec<(f64, u32)>,
    /// Of a single sample: the label of its family's type that has a number.
    pub(super) part: &'static str,
    pub(super) shape: Shape,
}

/// The result of [`Draft::take`].
pub(super) enum Taken {
    Part,
    /// The part exists: its line.
    Before(u32),
    /// A bucket without a bound, or a quantile without its number.
    No,
}

/// Whether the parts of a point form a complete point of its type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Whole,
    /// A part is missing.
    Parts,
    /// All parts exist, but their values contradict each other.
    Values,
}

pub(super) fn has_parts(kind: FamilyKind) -> bool {
    matches!(
        kind,
        FamilyKind::Histogram | FamilyKind::GaugeHistogram | FamilyKind::Summary
    )
}

/// The labels that identify a sample's point. An empty label counts as absent, unless it removes a label of the target.
///
/// The number in the label `number`, if any, gets the form in which Prometheus stores it.
pub(super) fn labels_of<'a, 'b>(
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
pub(super) fn part_label(kind: FamilyKind) -> &'static str {
    match kind {
        FamilyKind::Histogram | FamilyKind::GaugeHistogram => "le",
        FamilyKind::Summary => "quantile",
        _ => "",
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(sample: Sample<'a>, key: Fingerprint) -> Self {
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
    pub(super) fn take(&mut self, sample: &Sample<'a>, line: u32) -> Taken {
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
    pub(super) fn sort_parts(&mut self) -> u64 {
        let before = self.parts.len();
        self.parts.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.parts.dedup_by(|later, kept| later.0 == kept.0);
        let repeated = before - self.parts.len();
        self.point.samples -= repeated as u32;
        repeated as u64
    }

    /// Whether a page with this point would show exactly its samples.
    pub(super) fn shape_in(&self, memory: &Memory) -> Shape {
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
    pub(super) fn take_unusable_start(&mut self, memory: &Memory) -> Option<u32> {
        const LATEST: f64 = 4e9; // in the year 2096
        let seconds = memory.value(self.point.created)?;
        if seconds > 0.0 && seconds < LATEST {
            return None;
        }
        self.point.samples -= 1;
        Some(std::mem::replace(&mut self.point.created, NONE))
    }

    /// Takes all its lines and leaves the point empty.
    pub(super) fn take_lines(&mut self) -> Vec<u32> {
        let point = &mut self.point;
        point.samples = 0;
        let others = [&mut point.main, &mut point.sum, &mut point.created];
        let others = others.map(|place| std::mem::replace(place, NONE));
        let parts = self.parts.drain(..).map(|(_, line)| line);
        parts.chain(others).filter(|line| *line != NONE).collect()
    }

    /// Stores the sorted parts, and includes the bounds of a histogram in its fingerprint: other bounds are another series.
    pub(super) fn finish(
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

    pub(super) fn define(
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
