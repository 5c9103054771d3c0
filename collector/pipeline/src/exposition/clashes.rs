//! Clashes: families whose names on a page overlap, and how each format shows them all.
//!
//! A format may not declare one name twice. A *whole* family is written as usual; a *split* one as a family of unknown type for each of
//! its sample names, where families with the same sample name share one. Which families are split depends on their types and names
//! alone, not on their order of arrival:
//!
//! 1. Families that share a sample name are split.
//! 2. Of the others, in the order of [`rank`] and then of names, a family is whole if none of its names is taken.
//! 3. So is none of the names that the others are split into.
//!
//! So a gauge `m` stays whole beside a counter `m`, whose samples are `m_total` of unknown type in OpenMetrics. In the text format their
//! names do not overlap.

use crate::hash::HashMap;
use crate::series::metric::{Family, FamilyId};
use dichroic_model::PageType;
use dichroic_model::names::PageName;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Sample names in the formats that a split family uses.
pub(super) fn sample_names(page: &PageName, kind: PageType) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        PageType::Counter if page.total => &["_total"],
        PageType::Histogram => &["_bucket", "_sum", "_count"],
        PageType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        PageType::Summary => &["", "_sum", "_count"],
        PageType::Info => &["_info"],
        PageType::Counter | PageType::Gauge | PageType::StateSet | PageType::Unknown => &[""],
    };
    suffixes.iter().map(|suffix| page.sample(suffix)).collect()
}

/// Whether the series of such families are one sample each.
pub(super) fn has_one_sample(kind: PageType) -> bool {
    !matches!(
        kind,
        PageType::Histogram | PageType::GaugeHistogram | PageType::Summary
    )
}

/// All names that a whole family has in a text page.
fn text_names(page: &PageName, kind: PageType) -> Vec<String> {
    let mut names = sample_names(page, kind);
    if matches!(kind, PageType::Histogram | PageType::GaugeHistogram) {
        names.push(page.base.clone());
    }
    names.extend(read_as_its_own(page, kind));
    names
}

/// All names that a whole family has in OpenMetrics.
fn openmetrics_names(page: &PageName, kind: PageType) -> Vec<String> {
    let mut names = sample_names(page, kind);
    let created = match kind {
        PageType::Counter => page.total,
        PageType::Histogram | PageType::Summary => true,
        _ => false,
    };
    names.extend(created.then(|| page.sample("_created")));
    names.extend(read_as_its_own(page, kind));
    if !names.contains(&page.base) {
        names.push(page.base.clone());
    }
    names
}

/// Parsers also read samples of these names as part of the family.
fn read_as_its_own(page: &PageName, kind: PageType) -> Vec<String> {
    let suffixes: &[&str] = match kind {
        PageType::GaugeHistogram => &["_sum", "_count"],
        _ => &[],
    };
    suffixes.iter().map(|suffix| page.sample(suffix)).collect()
}

/// All names of a family in any format.
pub(super) fn names(page: &PageName, kind: PageType) -> Vec<String> {
    let mut names = openmetrics_names(page, kind);
    for name in text_names(page, kind) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Families that have one name in the format come first, because splitting them changes nothing.
fn rank(family: &Family, in_text: bool) -> (u8, &str, bool) {
    let rank = match family.kind {
        PageType::Gauge => 0,
        PageType::Unknown => 1,
        PageType::StateSet => 2,
        PageType::Counter if in_text || !family.page.total => 3,
        PageType::Info if in_text => 4,
        PageType::Summary => 5,
        PageType::Histogram => 6,
        PageType::GaugeHistogram => 7,
        PageType::Info => 8,
        PageType::Counter => 9,
    };
    (rank, &family.page.base, family.page.total)
}

/// Sets which of these families are split: all families that overlap with one another.
pub(super) fn resolve(families: &mut [&Family]) {
    for in_text in [true, false] {
        families.sort_by(|a, b| rank(a, in_text).cmp(&rank(b, in_text)));
        let names = if in_text { text_names } else { openmetrics_names };
        let claimed: Vec<Vec<String>> = families.iter().map(|f| names(&f.page, f.kind)).collect();
        let samples: Vec<Vec<String>> = families.iter().map(|f| sample_names(&f.page, f.kind)).collect();
        for (family, split) in families.iter().zip(split(&claimed, &samples)) {
            let flag = if in_text {
                &family.split_in_text
            } else {
                &family.split_in_openmetrics
            };
            flag.store(split, Ordering::Relaxed);
        }
    }
}

/// Which families are split, by the names of each as a whole and by its sample names, in the order of their rank.
fn split(claimed: &[Vec<String>], samples: &[Vec<String>]) -> Vec<bool> {
    let mut families: HashMap<&str, usize> = HashMap::default();
    for name in samples.iter().flatten() {
        *families.entry(name).or_default() += 1;
    }
    let shared = |names: &Vec<String>| names.iter().any(|name| families[name.as_str()] > 1);
    let mut split: Vec<bool> = samples.iter().map(shared).collect();
    loop {
        let of_split = samples.iter().zip(&split).filter(|(_, split)| **split);
        let mut taken: HashSet<&String> = of_split.flat_map(|(names, _)| names).collect();
        let before = split.clone();
        for (names, split) in claimed.iter().zip(&mut split).filter(|(_, split)| !**split) {
            *split = names.iter().any(|name| taken.contains(name));
            if !*split {
                taken.extend(names);
            }
        }
        // The sample names of families split now may be names of families before them.
        if split == before {
            return split;
        }
    }
}

/// Sets of families that share sample names, directly or through others: two of their series may be the same sample.
pub(super) fn shared_samples(families: &[(FamilyId, &Family)]) -> Vec<Vec<FamilyId>> {
    let mut sets: Vec<(HashSet<String>, Vec<FamilyId>)> = Vec::new();
    for (id, family) in families {
        let mut names: HashSet<String> = sample_names(&family.page, family.kind).into_iter().collect();
        let mut ids = vec![*id];
        let (joined, apart) = sets
            .into_iter()
            .partition(|(other, _)| !other.is_disjoint(&names));
        sets = apart;
        let joined: Vec<(HashSet<String>, Vec<FamilyId>)> = joined;
        for (other, others) in joined {
            names.extend(other);
            ids.extend(others);
        }
        sets.push((names, ids));
    }
    sets.into_iter()
        .map(|(_, ids)| ids)
        .filter(|ids| ids.len() > 1)
        .collect()
}
