//! The rules of OpenMetrics on families: contiguous, with unique names, groups that do not interleave, and values that their type
//! allows. A strict parser refuses a page that violates one; otherwise violations are counted, and the family of a sample is the
//! latest one that can have it, as in Prometheus.
//!
//! The parser passes every metadata line and every sample in page order. Memory grows with families and groups, not with samples;
//! a group is stored as a 64-bit hash of its labels that does not depend on their order.
//!
//! Source: OpenMetrics 1.0, "Overall Structure", "MetricFamily metadata" and "Metric Types".

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::error::{Fault, Placed, fault};
use super::escaped::Escaped;
use super::family::{FamilyKind, Role};
use super::item::{Item, Sample};
use super::number;
use super::violation::{Violation, Violations};

#[derive(Debug, Default)]
pub(super) struct Rules<'a> {
    /// Every sample name of the finished families.
    names: HashSet<Box<str>, RandomState>,
    family: Option<Family<'a>>,
    /// Groups of the current family.
    groups: HashSet<u64, RandomState>,
    hasher: RandomState,
    /// Violations are counted, not refused.
    lenient: bool,
    violations: Box<Violations>,
    /// Types of the families so far, for a lenient parser.
    kinds: HashMap<&'a str, FamilyKind, RandomState>,
}

#[derive(Debug)]
struct Family<'a> {
    name: Escaped<'a>,
    kind: Option<FamilyKind>,
    /// Its type by an earlier line, if the family is continued.
    earlier: Option<FamilyKind>,
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
            earlier: None,
            unit: None,
            has_help: false,
            group: None,
            at: 0,
        }
    }

    fn kind(&self) -> FamilyKind {
        self.kind.or(self.earlier).unwrap_or_default()
    }
}

impl<'a> Rules<'a> {
    /// Counts violations from here on instead of refusing the page.
    pub(super) fn set_lenient(&mut self) {
        self.lenient = true;
    }

    pub(super) fn is_lenient(&self) -> bool {
        self.lenient
    }

    pub(super) fn violations(&self) -> &Violations {
        &self.violations
    }

    /// Refuses the page, or counts the violation.
    pub(super) fn judge(&mut self, violation: Violation, fault: Fault, at: usize) -> Result<(), Placed> {
        if !self.lenient {
            return Err((fault, at));
        }
        self.violations.note(violation, fault, at);
        Ok(())
    }

    /// The value of a check, or `otherwise` where a violation was counted.
    fn judged<T>(
        &mut self,
        violation: Violation,
        checked: Result<T, Fault>,
        otherwise: T,
        at: usize,
    ) -> Result<T, Placed> {
        match checked {
            Ok(value) => Ok(value),
            Err(fault) => self.judge(violation, fault, at).map(|()| otherwise),
        }
    }

    /// Checks a metadata line that begins at byte `at`.
    pub(super) fn metadata(&mut self, item: &Item<'a>, at: usize) -> Result<(), Placed> {
        let (Item::Type { family: name, .. }
        | Item::Help { family: name, .. }
        | Item::Unit { family: name, .. }) = item
        else {
            return Ok(());
        };
        let mut family = match self.family.take() {
            // A lenient parser takes metadata after samples as that of another family; `finish` counts it.
            Some(family) if family.name == *name && !(self.lenient && family.group.is_some()) => family,
            before => self.begin(before, *name)?,
        };
        family.at = at;
        if family.group.is_some() {
            let problem = "metadata after the samples of its family";
            return Err((fault(problem, "write it before the first sample"), at));
        }
        let repeated = match *item {
            Item::Type { kind, .. } => family.kind.replace(kind).is_some(),
            Item::Unit { unit, .. } => {
                if self.lenient {
                    // Prometheus refuses this, whatever the type is.
                    check_unit_suffix(*name, unit).map_err(|fault| (fault, at))?;
                }
                family.unit.replace(unit).is_some()
            }
            _ => std::mem::replace(&mut family.has_help, true),
        };
        if repeated {
            let help = "write TYPE, HELP and UNIT once for a family";
            self.judge(Violation::Metadata, fault("duplicate metadata", help), at)?;
        }
        if let (true, Item::Type { kind, .. }) = (self.lenient, item) {
            self.kinds.insert(name.0, *kind);
        }
        self.family = Some(family);
        Ok(())
    }

    /// Finds the family of a sample on the line at byte `at`, sets the sample's family and role, and checks it.
    pub(super) fn sample(&mut self, sample: &mut Sample<'a>, at: usize) -> Result<(), Placed> {
        let role = |family: &Family<'a>| family.kind().role(family.name, sample.series.name);
        let (mut family, role) = match self.family.take().map(|family| (role(&family), family)) {
            Some((Some(role), family)) => (family, role),
            before => self.other_family(before.map(|(_, family)| family), sample.series.name, at)?,
        };
        (sample.family, sample.kind, sample.role) = (family.name, family.kind(), role);
        self.judged(Violation::Values, check_value(sample), (), at)?;
        self.judged(Violation::Exemplars, check_exemplar(sample), (), at)?;
        let bound = self.judged(Violation::Labels, part_of(sample), None, at)?;
        let id = group_id(&self.hasher, sample);
        let before = std::mem::replace(&mut family.at, at);
        let mut group = match family.group.take() {
            Some(mut group) if group.id == id => {
                let extended = group.extend(sample);
                self.judged(Violation::Timestamps, extended, (), at)?;
                group
            }
            finished => {
                let checked = finished.map_or(Ok(()), |group| group.buckets.check(sample.kind));
                self.judged(Violation::Histogram, checked, (), before)?;
                if !self.groups.insert(id) {
                    let problem = "samples of this metric are not contiguous";
                    let fault = fault(problem, "keep the samples of one metric together");
                    self.judge(Violation::Order, fault, at)?;
                }
                Group {
                    id,
                    timestamp_ns: sample.timestamp_ns,
                    buckets: Buckets::default(),
                }
            }
        };
        let added = group.buckets.add(sample, bound);
        self.judged(Violation::Histogram, added, (), at)?;
        family.group = Some(group);
        self.family = Some(family);
        Ok(())
    }

    /// The family of a sample that the current one cannot have.
    fn other_family(
        &mut self,
        current: Option<Family<'a>>,
        name: Escaped<'a>,
        at: usize,
    ) -> Result<(Family<'a>, Role), Placed> {
        if !self.lenient {
            return Ok((self.begin(current, name)?, Role::Value));
        }
        // Prometheus takes a counter under any name.
        let plain_counter = |kind| kind == FamilyKind::Counter;
        let (family, role) = match current {
            Some(family) if family.name == name && plain_counter(family.kind()) => (family, Role::Total),
            current => match self.known_family(name) {
                Some((known, role)) => (self.begin(current, known)?, role),
                // A type that has no such sample is not its type.
                None => {
                    let mut family = self.begin(current, name)?;
                    family.earlier = None;
                    return Ok((family, Role::Value));
                }
            },
        };
        if family.name == name && plain_counter(family.kind()) {
            let fault = fault("counter without `_total`", "append `_total` to its name");
            self.judge(Violation::Suffix, fault, at)?;
        }
        Ok((family, role))
    }

    /// An earlier family that can have a sample of this name.
    fn known_family(&self, name: Escaped<'a>) -> Option<(Escaped<'a>, Role)> {
        let of = |base: &str| {
            let (&family, &kind) = self.kinds.get_key_value(base)?;
            let role = match kind.role(Escaped(family), name) {
                None if kind == FamilyKind::Counter && family == name.0 => Role::Total,
                role => role?,
            };
            Some((Escaped(family), role))
        };
        of(name.0).or_else(|| of(&name.0[..name.0.rfind('_')?]))
    }

    /// Checks the last family.
    pub(super) fn end_of_page(&mut self) -> Result<(), Placed> {
        let last = self.family.take();
        self.finish(last)
    }

    fn begin(&mut self, before: Option<Family<'a>>, name: Escaped<'a>) -> Result<Family<'a>, Placed> {
        self.finish(before)?;
        Ok(Family {
            earlier: self.kinds.get(name.0).copied(),
            ..Family::new(name)
        })
    }

    /// Checks the whole family, and reserves its names.
    fn finish(&mut self, family: Option<Family<'a>>) -> Result<(), Placed> {
        let Some(family) = family else {
            return Ok(());
        };
        let (kind, at) = (family.kind(), family.at);
        let checked = family.group.map_or(Ok(()), |group| group.buckets.check(kind));
        self.judged(Violation::Histogram, checked, (), at)?;
        let checked = check_unit(family.name, family.unit.unwrap_or_default(), kind);
        self.judged(Violation::Metadata, checked, (), at)?;
        self.groups.clear();
        let suffixes = kind
            .suffixes()
            .iter()
            .map(|(suffix, _)| *suffix)
            .filter(|suffix| !suffix.is_empty());
        let mut shared = false;
        for suffix in suffixes.chain([""]) {
            shared |= !self.names.insert(format!("{}{suffix}", family.name.0).into());
        }
        if shared {
            let problem = "a sample name of this family belongs to an earlier family";
            self.judge(
                Violation::Families,
                fault(problem, "rename one of the two families"),
                at,
            )?;
        }
        Ok(())
    }
}

fn check_unit(name: Escaped<'_>, unit: &str, kind: FamilyKind) -> Result<(), Fault> {
    if unit.is_empty() {
        return Ok(());
    }
    check_unit_suffix(name, unit)?;
    if matches!(kind, FamilyKind::Info | FamilyKind::StateSet) {
        return Err(fault("unit of an info or stateset", "remove the UNIT line"));
    }
    Ok(())
}

fn check_unit_suffix(name: Escaped<'_>, unit: &str) -> Result<(), Fault> {
    if unit.is_empty() || name.0.strip_suffix(unit).is_some_and(|name| name.ends_with('_')) {
        return Ok(());
    }
    Err(fault(
        "the family's name does not end in its unit",
        "name the family NAME_UNIT",
    ))
}

impl Group {
    /// Another sample with the same labels. A later timestamp starts another point of the same metric.
    fn extend(&mut self, sample: &Sample<'_>) -> Result<(), Fault> {
        let before = std::mem::replace(&mut self.timestamp_ns, sample.timestamp_ns);
        match (before, sample.timestamp_ns) {
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
        if before != sample.timestamp_ns {
            std::mem::take(&mut self.buckets).check(sample.kind)?;
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
    // Source: OpenMetrics 1.0, "Canonical Numbers". Other numbers may have any spelling.
    let canonical = |name| {
        let text = sample.series.labels.get(name).map(|value| value.0);
        matches!(text, Some("+Inf" | "-Inf"))
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
            Some(bound) if bound.is_infinite() && !canonical("le") => Err(fault(
                "infinite bound in another spelling than +Inf",
                "write le=\"+Inf\"",
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
