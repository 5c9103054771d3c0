//! What OpenMetrics asks of families beyond grammar: whole, in one piece, with names that do not clash, groups that do
//! not interleave, and values that their type allows.
//!
//! The parser shows every metadata line and every sample in page order. Memory grows with families and groups, not
//! with samples; a group is remembered as the 64-bit hash of its labels, in whatever order they stand.

use std::collections::HashSet;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::error::{Fault, Placed, fault};
use super::escaped::Escaped;
use super::family::{FamilyKind, Role};
use super::item::{Item, Sample};
use super::number;

#[derive(Debug, Default)]
pub(super) struct Rules<'a> {
    /// Every name that a finished family could give a sample.
    names: HashSet<Box<str>, RandomState>,
    family: Option<Family<'a>>,
    /// Groups of the current family.
    groups: HashSet<u64, RandomState>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Family<'a> {
    name: Escaped<'a>,
    kind: Option<FamilyKind>,
    unit: Option<&'a str>,
    has_help: bool,
    group: Option<Group>,
    /// Where its latest line begins: what only a whole family shows is reported there.
    at: usize,
}

/// The samples of one family with the same labels, which stand together.
#[derive(Debug)]
struct Group {
    id: u64,
    timestamp_ns: Option<i64>,
    buckets: Buckets,
}

/// What was seen of one histogram at one time.
#[derive(Debug, Default)]
struct Buckets {
    /// Bound and count of the last bucket.
    last: Option<(f64, f64)>,
    negative_bound: bool,
    count: Option<f64>,
    sum: Option<f64>,
}

impl<'a> Family<'a> {
    fn new(name: Escaped<'a>) -> Self {
        Self {
            name,
            kind: None,
            unit: None,
            has_help: false,
            group: None,
            at: 0,
        }
    }

    fn kind(&self) -> FamilyKind {
        self.kind.unwrap_or_default()
    }
}

impl<'a> Rules<'a> {
    /// Takes a metadata line that begins at byte `at`.
    pub(super) fn metadata(&mut self, item: &Item<'a>, at: usize) -> Result<(), Placed> {
        let (Item::Type { family: name, .. }
        | Item::Help { family: name, .. }
        | Item::Unit { family: name, .. }) = item
        else {
            return Ok(());
        };
        let mut family = match self.family.take() {
            Some(family) if family.name == *name => family,
            before => self.begin(before, *name)?,
        };
        family.at = at;
        if family.group.is_some() {
            let problem = "metadata after samples of its family";
            return Err((fault(problem, "write it before the first sample"), at));
        }
        let repeated = match *item {
            Item::Type { kind, .. } => family.kind.replace(kind).is_some(),
            Item::Unit { unit, .. } => family.unit.replace(unit).is_some(),
            _ => std::mem::replace(&mut family.has_help, true),
        };
        if repeated {
            let help = "write TYPE, HELP and UNIT once for a family";
            return Err((fault("this metadata comes twice", help), at));
        }
        self.family = Some(family);
        Ok(())
    }

    /// Finds the family of a sample on the line at byte `at`, tells the sample, and checks it.
    pub(super) fn sample(&mut self, sample: &mut Sample<'a>, at: usize) -> Result<(), Placed> {
        let role = |family: &Family<'a>| family.kind().role(family.name, sample.series.name);
        let (mut family, role) = match self.family.take().map(|family| (role(&family), family)) {
            Some((Some(role), family)) => (family, role),
            before => (
                self.begin(before.map(|(_, family)| family), sample.series.name)?,
                Role::Value,
            ),
        };
        (sample.family, sample.kind, sample.role) = (family.name, family.kind(), role);
        let here = |fault| (fault, at);
        check_value(sample).map_err(here)?;
        check_exemplar(sample).map_err(here)?;
        let bound = part_of(sample).map_err(here)?;
        let id = group_id(&self.hasher, sample);
        let before = std::mem::replace(&mut family.at, at);
        let mut group = match family.group.take() {
            Some(mut group) if group.id == id => {
                group.go_on(sample).map_err(here)?;
                group
            }
            finished => {
                finished
                    .map_or(Ok(()), |group| group.buckets.check(sample.kind))
                    .map_err(|fault| (fault, before))?;
                if !self.groups.insert(id) {
                    let problem = "samples with these labels stood earlier";
                    return Err((fault(problem, "keep the samples of one metric together"), at));
                }
                Group {
                    id,
                    timestamp_ns: sample.timestamp_ns,
                    buckets: Buckets::default(),
                }
            }
        };
        group.buckets.add(sample, bound).map_err(here)?;
        family.group = Some(group);
        self.family = Some(family);
        Ok(())
    }

    /// Checks the last family.
    pub(super) fn end_of_page(&mut self) -> Result<(), Placed> {
        let last = self.family.take();
        self.finish(last)
    }

    fn begin(&mut self, before: Option<Family<'a>>, name: Escaped<'a>) -> Result<Family<'a>, Placed> {
        self.finish(before)?;
        Ok(Family::new(name))
    }

    /// Checks what only the whole family shows, and takes its names.
    fn finish(&mut self, family: Option<Family<'a>>) -> Result<(), Placed> {
        let Some(family) = family else {
            return Ok(());
        };
        let kind = family.kind();
        let here = |fault| (fault, family.at);
        family
            .group
            .map_or(Ok(()), |group| group.buckets.check(kind))
            .map_err(here)?;
        check_unit(family.name, family.unit.unwrap_or_default(), kind).map_err(here)?;
        self.groups.clear();
        let suffixes = kind
            .suffixes()
            .iter()
            .map(|(suffix, _)| *suffix)
            .filter(|suffix| !suffix.is_empty());
        for suffix in suffixes.chain([""]) {
            if !self.names.insert(format!("{}{suffix}", family.name.0).into()) {
                let problem = "a family whose samples' names belong to an earlier one";
                return Err(here(fault(problem, "rename one of the two families")));
            }
        }
        Ok(())
    }
}

fn check_unit(name: Escaped<'_>, unit: &str, kind: FamilyKind) -> Result<(), Fault> {
    if unit.is_empty() {
        return Ok(());
    }
    if !name.0.strip_suffix(unit).is_some_and(|name| name.ends_with('_')) {
        return Err(fault(
            "a unit that its family's name does not end in",
            "name the family NAME_UNIT",
        ));
    }
    if matches!(kind, FamilyKind::Info | FamilyKind::StateSet) {
        return Err(fault(
            "a unit on an info or a stateset",
            "remove the UNIT line; they have none",
        ));
    }
    Ok(())
}

impl Group {
    /// Another sample of the same labels: later times are other points of the same metric.
    fn go_on(&mut self, sample: &Sample<'_>) -> Result<(), Fault> {
        match (self.timestamp_ns, sample.timestamp_ns) {
            (Some(before), Some(now)) if now < before && sample.kind != FamilyKind::Info => {
                return Err(fault(
                    "time runs backwards within a metric",
                    "write points in the order of their times",
                ));
            }
            (None, Some(_)) | (Some(_), None) => {
                return Err(fault(
                    "some samples of this metric have a time and some have none",
                    "give all a time, or none",
                ));
            }
            _ => {}
        }
        if self.timestamp_ns != sample.timestamp_ns {
            std::mem::take(&mut self.buckets).check(sample.kind)?;
            self.timestamp_ns = sample.timestamp_ns;
        }
        Ok(())
    }
}

impl Buckets {
    fn add(&mut self, sample: &Sample<'_>, bound: Option<f64>) -> Result<(), Fault> {
        match (sample.role, bound) {
            (Role::Bucket, Some(bound)) => {
                let (last_bound, last_count) = self.last.unwrap_or((f64::NEG_INFINITY, 0.0));
                if self.last.is_some() && bound <= last_bound {
                    return Err(fault(
                        "buckets are not in the order of their bounds",
                        "sort them by `le`",
                    ));
                }
                if sample.value < last_count {
                    return Err(fault(
                        "a bucket counts less than the one before it",
                        "buckets are cumulative",
                    ));
                }
                self.negative_bound |= bound < 0.0;
                self.last = Some((bound, sample.value));
            }
            (Role::Count, _) => self.count = Some(sample.value),
            (Role::Sum, _) => self.sum = Some(sample.value),
            _ => {}
        }
        Ok(())
    }

    /// Checks the histogram that was seen; of other kinds there is nothing to check.
    fn check(&self, kind: FamilyKind) -> Result<(), Fault> {
        if !matches!(kind, FamilyKind::Histogram | FamilyKind::GaugeHistogram) {
            return Ok(());
        }
        let Some((_, total)) = self.last.filter(|(bound, _)| *bound == f64::INFINITY) else {
            return Err(fault(
                "a histogram without its last bucket",
                "end its buckets with le=\"+Inf\"",
            ));
        };
        if self.count.is_some_and(|count| count != total) {
            return Err(fault(
                "a histogram's count is not that of its last bucket",
                "write the same number in both",
            ));
        }
        let gauge = kind == FamilyKind::GaugeHistogram;
        match (self.count, self.sum) {
            (None, Some(_)) => Err(fault("a histogram with a sum and no count", "write both or none")),
            (Some(_), None) if gauge || !self.negative_bound => {
                Err(fault("a histogram with a count and no sum", "write both or none"))
            }
            (_, Some(_)) if !gauge && self.negative_bound => Err(fault(
                "a sum beside negative buckets can fall",
                "leave the sum out, or make it a gaugehistogram",
            )),
            (_, Some(sum)) if sum < 0.0 && !self.negative_bound => Err(fault(
                "a negative sum without negative buckets",
                "check the histogram's sum",
            )),
            _ => Ok(()),
        }
    }
}

/// The value against what its type allows.
fn check_value(sample: &Sample<'_>) -> Result<(), Fault> {
    let value = sample.value;
    match (sample.kind, sample.role) {
        (FamilyKind::Info, _) if value != 1.0 => Err(fault("an info whose value is not 1", "write 1")),
        (FamilyKind::StateSet, _) if value != 0.0 && value != 1.0 => Err(fault(
            "a state that is neither 0 nor 1",
            "write 1 for states that hold and 0 for the others",
        )),
        (_, Role::Total | Role::Bucket | Role::Count | Role::Sum) if value.is_nan() => Err(fault(
            "a count or sum that is not a number",
            "counts and sums begin at 0",
        )),
        (FamilyKind::GaugeHistogram, Role::Sum) => Ok(()),
        (_, Role::Total | Role::Bucket | Role::Count | Role::Sum | Role::Quantile) if value < 0.0 => {
            Err(fault(
                "a count, sum or quantile below 0",
                "use a gauge or a gaugehistogram for what can be negative",
            ))
        }
        _ => Ok(()),
    }
}

fn check_exemplar(sample: &Sample<'_>) -> Result<(), Fault> {
    let allowed = matches!(
        (sample.kind, sample.role),
        (FamilyKind::Counter, Role::Total)
            | (FamilyKind::Histogram | FamilyKind::GaugeHistogram, Role::Bucket)
    );
    match sample.exemplar {
        Some(_) if !allowed => Err(fault(
            "an exemplar that cannot be here",
            "only buckets and counters' totals have them",
        )),
        _ => Ok(()),
    }
}

/// The label that makes a sample a part of its metric: a bucket's bound, a quantile, a state.
fn part_of(sample: &Sample<'_>) -> Result<Option<f64>, Fault> {
    let number = |name| {
        sample
            .series
            .labels
            .get(name)
            .and_then(|value| number::float(value.0.as_bytes()))
    };
    match (sample.kind, sample.role) {
        (FamilyKind::StateSet, _) if sample.series.labels.get(sample.family.0).is_none() => Err(fault(
            "a state without its name",
            "name it in a label called as the stateset is",
        )),
        (_, Role::Bucket) => match number("le").filter(|bound| !bound.is_nan()) {
            None => Err(fault(
                "a bucket without a bound",
                "write it as a number in the label `le`",
            )),
            bound => Ok(bound),
        },
        (_, Role::Quantile) => match number("quantile").filter(|quantile| (0.0..=1.0).contains(quantile)) {
            None => Err(fault(
                "a summary's value without a quantile",
                "write one from 0 to 1 in the label `quantile`",
            )),
            quantile => Ok(quantile),
        },
        _ => Ok(None),
    }
}

/// The metric within its family: the hash of its labels without the one that tells parts apart. A sum of the labels'
/// hashes does not depend on their order. An info has no groups.
fn group_id(hasher: &RandomState, sample: &Sample<'_>) -> u64 {
    if sample.kind == FamilyKind::Info {
        return 0;
    }
    let part = match sample.kind {
        FamilyKind::StateSet => Some(sample.family.0),
        kind => kind.part_label(sample.role),
    };
    let labels = sample
        .series
        .labels
        .into_iter()
        .filter(|(name, _)| Some(name.0) != part);
    labels
        .map(|(name, value)| hasher.hash_one((name.0, value.decode())))
        .fold(0, u64::wrapping_add)
}
