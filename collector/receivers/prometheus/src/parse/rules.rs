//! The rules of OpenMetrics on families: contiguous, with unique names, groups that do not interleave, and values that their type
//! allows.
//!
//! The parser passes every metadata line and every sample in page order. Memory grows with families and groups, not with samples;
//! a group is stored as a 64-bit hash of its labels that does not depend on their order.
//!
//! Source: OpenMetrics 1.0, "Overall Structure", "MetricFamily metadata" and "Metric Types".

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
    /// Every sample name that a finished family can have.
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
    /// Position of its latest line, where errors of the whole family are reported.
    at: usize,
}

/// Contiguous samples of one family with the same labels.
#[derive(Debug)]
struct Group {
    id: u64,
    timestamp_ns: Option<i64>,
    buckets: Buckets,
}

/// Buckets of one histogram at one timestamp, so far.
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
    /// Checks a metadata line that begins at byte `at`.
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
            let problem = "metadata after the samples of its family";
            return Err((fault(problem, "write it before the first sample"), at));
        }
        let repeated = match *item {
            Item::Type { kind, .. } => family.kind.replace(kind).is_some(),
            Item::Unit { unit, .. } => family.unit.replace(unit).is_some(),
            _ => std::mem::replace(&mut family.has_help, true),
        };
        if repeated {
            let help = "write TYPE, HELP and UNIT once for a family";
            return Err((fault("duplicate metadata", help), at));
        }
        self.family = Some(family);
        Ok(())
    }

    /// Finds the family of a sample on the line at byte `at`, sets the sample's family and role, and checks it.
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
                group.extend(sample).map_err(here)?;
                group
            }
            finished => {
                finished
                    .map_or(Ok(()), |group| group.buckets.check(sample.kind))
                    .map_err(|fault| (fault, before))?;
                if !self.groups.insert(id) {
                    let problem = "samples of this metric are not contiguous";
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

    /// Checks the whole family, and reserves its names.
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
                let problem = "a sample name of this family belongs to an earlier family";
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
            "the family's name does not end in its unit",
            "name the family NAME_UNIT",
        ));
    }
    if matches!(kind, FamilyKind::Info | FamilyKind::StateSet) {
        return Err(fault("unit of an info or stateset", "remove the UNIT line"));
    }
    Ok(())
}

impl Group {
    /// Another sample with the same labels. A later timestamp starts another point of the same metric.
    fn extend(&mut self, sample: &Sample<'_>) -> Result<(), Fault> {
        match (self.timestamp_ns, sample.timestamp_ns) {
            (Some(before), Some(now)) if now < before && sample.kind != FamilyKind::Info => {
                return Err(fault(
                    "timestamps of a metric decrease",
                    "write points in the order of their timestamps",
                ));
            }
            (None, Some(_)) | (Some(_), None) => {
                return Err(fault(
                    "only some samples of this metric have a timestamp",
                    "write it on all samples, or on none",
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
                    return Err(fault("buckets are not sorted by bound", "sort them by `le`"));
                }
                if sample.value < last_count {
                    return Err(fault(
                        "bucket count lower than that of the previous bucket",
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

    /// Checks a whole histogram; other types need no check.
    fn check(&self, kind: FamilyKind) -> Result<(), Fault> {
        if !matches!(kind, FamilyKind::Histogram | FamilyKind::GaugeHistogram) {
            return Ok(());
        }
        let Some((_, total)) = self.last.filter(|(bound, _)| *bound == f64::INFINITY) else {
            return Err(fault(
                "histogram without the +Inf bucket",
                "end its buckets with le=\"+Inf\"",
            ));
        };
        if self.count.is_some_and(|count| count != total) {
            return Err(fault(
                "histogram count differs from the +Inf bucket",
                "write the same number in both",
            ));
        }
        let gauge = kind == FamilyKind::GaugeHistogram;
        match (self.count, self.sum) {
            (None, Some(_)) => Err(fault(
                "histogram with a sum but no count",
                "write both or neither",
            )),
            (Some(_), None) if gauge || !self.negative_bound => Err(fault(
                "histogram with a count but no sum",
                "write both or neither",
            )),
            (_, Some(_)) if !gauge && self.negative_bound => Err(fault(
                "histogram with a sum and negative buckets",
                "omit the sum, which could decrease, or use a gaugehistogram",
            )),
            (_, Some(sum)) if sum < 0.0 && !self.negative_bound => Err(fault(
                "negative sum without negative buckets",
                "check the histogram's sum",
            )),
            _ => Ok(()),
        }
    }
}

/// Checks the value against the type.
fn check_value(sample: &Sample<'_>) -> Result<(), Fault> {
    let value = sample.value;
    match (sample.kind, sample.role) {
        (FamilyKind::Info, _) if value != 1.0 => Err(fault("info value other than 1", "write 1")),
        (FamilyKind::StateSet, _) if value != 0.0 && value != 1.0 => Err(fault(
            "state value other than 0 or 1",
            "write 1 for active states and 0 for the others",
        )),
        (_, Role::Total | Role::Bucket | Role::Count | Role::Sum) if value.is_nan() => {
            Err(fault("NaN as a count or sum", "start counts and sums at 0"))
        }
        (FamilyKind::GaugeHistogram, Role::Sum) => Ok(()),
        (_, Role::Total | Role::Bucket | Role::Count | Role::Sum | Role::Quantile) if value < 0.0 => {
            Err(fault(
                "negative count, sum or quantile",
                "use a gauge or a gaugehistogram for values that can be negative",
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
            "misplaced exemplar",
            "write exemplars on buckets and counter totals only",
        )),
        _ => Ok(()),
    }
}

/// The bound of a bucket or the quantile of a summary's value; checks that the label of the part is present.
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
            "state without its label",
            "add a label with the name of the stateset",
        )),
        (_, Role::Bucket) => match number("le").filter(|bound| !bound.is_nan()) {
            None => Err(fault(
                "bucket without a valid bound",
                "write it as a number in the label `le`",
            )),
            bound => Ok(bound),
        },
        (_, Role::Quantile) => match number("quantile").filter(|quantile| (0.0..=1.0).contains(quantile)) {
            None => Err(fault(
                "summary value without a valid quantile",
                "write one from 0 to 1 in the label `quantile`",
            )),
            quantile => Ok(quantile),
        },
        _ => Ok(None),
    }
}

/// Identifies a metric within its family by the hash of its labels, without the label of the part. The sum of the labels' hashes
/// does not depend on their order. An info has no groups.
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
