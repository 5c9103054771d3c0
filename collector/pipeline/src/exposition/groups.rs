//! Groups: series of one family with the same labels of the source, and the labels that distinguish their streams.
//!
//! Two scopes of one program, or two resources of one service, may have equal labels. Where series collide for that reason, all streams
//! of the group get the labels that differ: `otel_scope_name` and `otel_scope_version`, or attributes of the resource. The labels stay
//! while the group has series, whatever arrives first.

use crate::hash::HashMap;
use crate::series::meta::{GroupKey, SeriesMeta};
use dichroic_model::Source;
use dichroic_model::labels::{Qualifiers, same_source_labels};
use std::cmp::Reverse;
use std::sync::Arc;

/// Largest number of resource attributes that a group shows as labels.
const MAX_ATTRIBUTES: usize = 8;

/// Attributes preferred for distinguishing resources, the best first.
const PREFERRED: &[&str] = &[
    "host.name",
    "k8s.pod.name",
    "container.id",
    "host.id",
    "process.pid",
];

/// The groups whose streams carry more labels than usual.
#[derive(Default)]
pub(crate) struct Groups {
    qualified: HashMap<GroupKey, Group>,
    /// Those of all other streams.
    usual: Arc<Qualifiers>,
}

struct Group {
    qualifiers: Arc<Qualifiers>,
    series: usize,
}

/// What distinguishes two series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    Scope,
    Resource(String),
}

impl Groups {
    /// The additional labels of the streams of a group.
    pub(crate) fn qualifiers(&self, group: GroupKey) -> Arc<Qualifiers> {
        let qualified = if self.qualified.is_empty() {
            None
        } else {
            self.qualified.get(&group)
        };
        qualified.map_or(&self.usual, |group| &group.qualifiers).clone()
    }

    /// Gives all streams that are defined from now on labels of their scope.
    pub(crate) fn always_show_scopes(&mut self) {
        Arc::make_mut(&mut self.usual).scope = true;
    }

    /// Adds to the additional labels of a group with this number of series.
    pub(crate) fn qualify(&mut self, key: GroupKey, difference: Difference, series: usize) {
        let qualifiers = self.usual.clone();
        let group = self.qualified.entry(key).or_insert(Group { qualifiers, series });
        let qualifiers = Arc::make_mut(&mut group.qualifiers);
        match difference {
            Difference::Scope => qualifiers.scope = true,
            Difference::Resource(name) => {
                qualifiers.resource.push(name);
                qualifiers.resource.sort_unstable();
            }
        }
    }

    pub(crate) fn add(&mut self, key: GroupKey) {
        if self.qualified.is_empty() {
            return;
        }
        if let Some(group) = self.qualified.get_mut(&key) {
            group.series += 1;
        }
    }

    pub(crate) fn remove(&mut self, key: GroupKey) {
        if self.qualified.is_empty() {
            return;
        }
        if let Some(group) = self.qualified.get_mut(&key) {
            group.series -= 1;
            if group.series == 0 {
                self.qualified.remove(&key);
            }
        }
    }

    /// What would distinguish two series with equal labels; `None` if their labels cannot show it.
    pub(crate) fn difference(&self, a: &SeriesMeta, b: &SeriesMeta) -> Option<Difference> {
        let both = [a, b].map(|meta| self.qualifiers(meta.group));
        if a.source.id != b.source.id {
            if !same_source_labels(&a.source, &b.source) {
                return None;
            }
            return differing_attribute(&a.source, &b.source, &both).map(Difference::Resource);
        }
        (a.scope != b.scope && !both.iter().all(|qualifiers| qualifiers.scope)).then_some(Difference::Scope)
    }

    /// Whether the labels of a group show the difference.
    pub(crate) fn shows(&self, group: GroupKey, difference: &Difference) -> bool {
        self.qualified.get(&group).is_some_and(|group| match difference {
            Difference::Scope => group.qualifiers.scope,
            Difference::Resource(name) => group.qualifiers.resource.contains(name),
        })
    }
}

fn differing_attribute(a: &Source, b: &Source, both: &[Arc<Qualifiers>; 2]) -> Option<String> {
    if both
        .iter()
        .any(|qualifiers| qualifiers.resource.len() >= MAX_ATTRIBUTES)
    {
        return None;
    }
    let text = |source: &Source, name: &str| {
        let value = source.spec.resource.get(name);
        value
            .map(|value| value.into_rendered().into_owned())
            .unwrap_or_default()
    };
    let names = a.spec.resource.iter().chain(b.spec.resource.iter());
    let shown = |name: &str| {
        both.iter()
            .all(|qualifiers| qualifiers.resource.iter().any(|n| n == name))
    };
    let differs = |name: &&str| !shown(name) && text(a, name) != text(b, name);
    names
        .map(|(name, _)| name)
        .filter(differs)
        .min_by_key(|name| {
            let preferred = PREFERRED.iter().rev().position(|preferred| preferred == name);
            (Reverse(preferred), name.starts_with("telemetry."), *name)
        })
        .map(str::to_owned)
}
