//! Groups: series that may be the same sample, with the same labels of the source, and the labels that distinguish their streams.
//!
//! Two scopes of one program, or two resources of one service, may have equal labels. Where series collide for that reason, all streams
//! of the group get the labels that differ: those of the scope, or attributes of the resource. The labels stay while the group has series.
//!
//! Which labels a group gets does not depend on the order of arrival. It gets some if two of its series have equal labels. Then it shows
//! its scopes if a source has several of them, and of the resource, for every two sources of the service, the first attribute that differs.
//! A source that replaces another one is excepted: see [`is_restart`].

use crate::hash::HashMap;
use crate::series::meta::{GroupKey, SeriesMeta};
use dichroic_model::labels::{Qualifiers, read_escaped, scope_label};
use dichroic_model::{Fingerprint, Protocol, Scope, Source, SourceId};
use std::cmp::Reverse;
use std::sync::Arc;

/// Largest number of resource attributes that a group shows as labels.
const MAX_ATTRIBUTES: usize = 8;

/// Largest number of attribute names that a group shows without a collision.
const MAX_EXACT_NAMES: usize = 16;

/// Scopes of one source that a group remembers. With more, it shows all of each scope.
const MAX_SCOPES: usize = 16;

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
    /// Sources with series, by the labels that they have in common.
    services: HashMap<Fingerprint, Service>,
    /// Those of all other streams.
    usual: Arc<Qualifiers>,
}

#[derive(Default)]
struct Group {
    qualifiers: Arc<Qualifiers>,
    series: usize,
    scopes: HashMap<SourceId, Vec<Arc<Scope>>>,
}

#[derive(Default)]
struct Service {
    sources: Vec<Arc<Source>>,
    /// For every two sources that are not a restart, the first attribute that differs.
    attributes: Vec<String>,
}

/// What distinguishes two series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    /// Name or version of the scope.
    Scope,
    /// Its schema or attributes.
    ScopeDetails,
    Resource(String),
    /// Names of attributes with one valid form, such as `a.b` and `a_b`, as [`Qualifiers::exact`] has them.
    Names(Vec<String>),
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
        let usual = Arc::make_mut(&mut self.usual);
        (usual.scope, usual.scope_details) = (true, true);
    }

    /// Whether the group has more labels than usual.
    pub(crate) fn is_qualified(&self, key: GroupKey) -> bool {
        self.qualified.contains_key(&key)
    }

    /// Adds to the additional labels of a group, which has these series.
    pub(crate) fn qualify<'a>(
        &mut self,
        key: GroupKey,
        difference: Option<&Difference>,
        inherited: &Qualifiers,
        members: impl Iterator<Item = &'a SeriesMeta>,
    ) {
        let service = self.services.get(&key.labels);
        let attributes = service.map_or(&[][..], |service| &service.attributes);
        let group = self.qualified.entry(key).or_insert_with(|| Group {
            qualifiers: self.usual.clone(),
            ..Group::default()
        });
        match difference {
            Some(Difference::Resource(name)) => group.show(std::slice::from_ref(name)),
            Some(Difference::Scope) => group.show_scopes(false),
            Some(Difference::ScopeDetails) => group.show_scopes(true),
            Some(Difference::Names(names)) => group.show_exactly(names),
            None => false,
        };
        let qualifiers = Arc::make_mut(&mut group.qualifiers);
        qualifiers.scope |= inherited.scope;
        qualifiers.scope_details |= inherited.scope_details;
        group.show(&inherited.resource);
        group.show_exactly(&inherited.exact);
        group.series = 0;
        group.scopes.clear();
        for member in members {
            group.series += 1;
            group.add(member, attributes);
        }
    }

    /// Adds a series to its group. Returns whether the series of the group get more labels for it.
    pub(crate) fn add(&mut self, meta: &SeriesMeta) -> bool {
        if self.qualified.is_empty() {
            return false;
        }
        let Some(group) = self.qualified.get_mut(&meta.group) else {
            return false;
        };
        group.series += 1;
        let service = self.services.get(&meta.group.labels);
        group.add(meta, service.map_or(&[], |service| &service.attributes))
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: GroupKey) {
        if !self.qualified.is_empty() {
            self.remove_from(key);
        }
    }

    #[cold]
    fn remove_from(&mut self, key: GroupKey) {
        if let Some(group) = self.qualified.get_mut(&key) {
            group.series = group.series.saturating_sub(1);
            if group.series == 0 {
                self.qualified.remove(&key);
            }
        }
    }

    /// Adds a source with its first series. Returns the groups whose series get more labels for it.
    pub(crate) fn join(&mut self, labels: Fingerprint, source: &Arc<Source>) -> Vec<GroupKey> {
        let service = self.services.entry(labels).or_default();
        let known = service.attributes.len();
        for other in &service.sources {
            let name = best(other.spec.resource.differing(&source.spec.resource));
            if let Some(name) = name
                && !service.attributes.iter().any(|known| known == name)
                && !is_restart(other, source)
            {
                service.attributes.push(name.to_owned());
            }
        }
        service.sources.push(source.clone());
        if service.attributes.len() == known {
            return Vec::new();
        }
        service.attributes.sort_by(|a, b| rank(a).cmp(&rank(b)));
        let mut changed = Vec::new();
        for (key, group) in &mut self.qualified {
            if key.labels == labels && group.scopes.len() > 1 && group.show(&service.attributes) {
                changed.push(*key);
            }
        }
        changed
    }

    /// Removes a source.
    pub(crate) fn leave(&mut self, labels: Fingerprint, source: SourceId) {
        if let Some(service) = self.services.get_mut(&labels) {
            service.sources.retain(|other| other.id != source);
            if service.sources.is_empty() {
                self.services.remove(&labels);
            }
        }
    }

    /// What would distinguish two series with equal labels; `None` if their labels cannot show it.
    pub(crate) fn difference(&self, a: &SeriesMeta, b: &SeriesMeta) -> Option<Difference> {
        let both = [a, b].map(|meta| self.qualifiers(meta.group));
        if a.source.id != b.source.id && both.iter().all(|shown| shown.resource.len() < MAX_ATTRIBUTES) {
            let shown = |name: &&str| both.iter().all(|shown| shown.resource.iter().any(|n| n == name));
            let names = a.source.spec.resource.differing(&b.source.spec.resource);
            if let Some(name) = best(names.filter(|name| !shown(name))) {
                return Some(Difference::Resource(name.to_owned()));
            }
        }
        let scopes = [&a.scope, &b.scope];
        if !same_name(scopes[0], scopes[1]) && !both.iter().all(|shown| shown.scope) {
            return Some(Difference::Scope);
        }
        if !same_details(scopes[0], scopes[1]) && !both.iter().all(|shown| shown.scope_details) {
            return Some(Difference::ScopeDetails);
        }
        let mut names = differing_names(a, b, &both[0]);
        names.retain(|name| !both.iter().all(|shown| shown.exact.contains(name)));
        let free = both.iter().all(|shown| shown.exact.len() < MAX_EXACT_NAMES);
        (free && !names.is_empty()).then_some(Difference::Names(names))
    }

    /// Whether the labels of a group show the difference.
    pub(crate) fn shows(&self, group: GroupKey, difference: &Difference) -> bool {
        self.qualified.get(&group).is_some_and(|group| match difference {
            Difference::Scope => group.qualifiers.scope,
            Difference::ScopeDetails => group.qualifiers.scope_details,
            Difference::Resource(name) => group.qualifiers.resource.contains(name),
            Difference::Names(names) => names.iter().all(|name| group.qualifiers.exact.contains(name)),
        })
    }
}

impl Group {
    /// Notes the source and scope of a series. Returns whether the group gets more labels for it.
    fn add(&mut self, meta: &SeriesMeta, attributes: &[String]) -> bool {
        let scopes = self.scopes.entry(meta.source.id).or_default();
        let known = scopes
            .iter()
            .any(|scope| Arc::ptr_eq(scope, &meta.scope) || *scope == meta.scope);
        if known {
            return false;
        }
        let same_name = |scope: &Arc<Scope>| same_name(scope, &meta.scope);
        let details = scopes.len() >= MAX_SCOPES || scopes.iter().any(same_name);
        let names = scopes.iter().any(|scope| !same_name(scope));
        if scopes.len() < MAX_SCOPES {
            scopes.push(meta.scope.clone());
        }
        let mut changed = self.scopes.len() > 1 && self.show(attributes);
        changed |= names && self.show_scopes(false);
        changed |= details && self.show_scopes(true);
        changed
    }

    /// Shows attributes of the resource, up to a number. Returns whether there is a new one.
    fn show(&mut self, names: &[String]) -> bool {
        let shown = &self.qualifiers.resource;
        let free = MAX_ATTRIBUTES.saturating_sub(shown.len());
        let new = names.iter().filter(|name| !shown.contains(name)).take(free);
        let new: Vec<String> = new.cloned().collect();
        if new.is_empty() {
            return false;
        }
        let qualifiers = Arc::make_mut(&mut self.qualifiers);
        qualifiers.resource.extend(new);
        qualifiers.resource.sort_unstable();
        true
    }

    /// Shows names without a collision, up to a number. Returns whether there is a new one.
    fn show_exactly(&mut self, names: &[String]) -> bool {
        let exact = &self.qualifiers.exact;
        let free = MAX_EXACT_NAMES.saturating_sub(exact.len());
        let new = names.iter().filter(|name| !exact.contains(name)).take(free);
        let new: Vec<String> = new.cloned().collect();
        if new.is_empty() {
            return false;
        }
        Arc::make_mut(&mut self.qualifiers).exact.extend(new);
        true
    }

    fn show_scopes(&mut self, details: bool) -> bool {
        let shown = if details {
            self.qualifiers.scope_details
        } else {
            self.qualifiers.scope
        };
        if shown {
            return false;
        }
        let qualifiers = Arc::make_mut(&mut self.qualifiers);
        if details {
            qualifiers.scope_details = true;
        } else {
            qualifiers.scope = true;
        }
        true
    }
}

/// Whether two resources differ in nothing but what a restart of a program changes. Such sources get distinguishing labels only when both are alive.
pub(crate) fn is_restart(a: &Source, b: &Source) -> bool {
    let of_process = |name: &str| {
        name == "service.version" || name.starts_with("process.") || name.starts_with("telemetry.")
    };
    let mut names = a.spec.resource.differing(&b.spec.resource).peekable();
    names.peek().is_some() && names.all(of_process)
}

/// Whether two sources are the same as far as labels can show it: their resources are equal as text.
pub(crate) fn same_text(a: &Source, b: &Source) -> bool {
    a.id == b.id
        || (a.spec.protocol == b.spec.protocol
            && !(a.spec.resource.is_empty() && b.spec.resource.is_empty())
            && a.spec.resource.differing(&b.spec.resource).next().is_none())
}

/// Whether two scopes are the same as far as labels can show it.
pub(crate) fn same_scope(a: &Scope, b: &Scope) -> bool {
    same_name(a, b) && same_details(a, b)
}

fn same_name(a: &Scope, b: &Scope) -> bool {
    (&a.name, &a.version) == (&b.name, &b.version)
}

fn same_details(a: &Scope, b: &Scope) -> bool {
    a.schema_url == b.schema_url && a.attributes.differing(&b.attributes).next().is_none()
}

/// Names of attributes of which only one of two series has the value, although their labels are equal. A scraped page has names that do
/// not become others.
fn differing_names(a: &SeriesMeta, b: &SeriesMeta, shown: &Qualifiers) -> Vec<String> {
    if [a, b]
        .iter()
        .any(|meta| meta.source.spec.protocol == Protocol::Prometheus)
    {
        return Vec::new();
    }
    let (left, right) = (a.attributes(), b.attributes());
    let is_label = |name: &str| {
        let labels = |meta: &SeriesMeta| read_escaped(&meta.own_labels).any(|(label, _)| label == name);
        labels(a) || labels(b)
    };
    let of_points = left.differing(&right).filter(|name| !is_label(name));
    let mut names: Vec<String> = of_points.map(str::to_owned).collect();
    if shown.scope_details {
        names.extend(a.scope.attributes.differing(&b.scope.attributes).map(scope_label));
    }
    let resource = a.source.spec.resource.differing(&b.source.spec.resource);
    names.extend(
        resource
            .map(str::to_owned)
            .filter(|name| shown.resource.contains(name)),
    );
    names
}

/// The attribute that is preferred for distinguishing resources.
fn best<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.min_by(|a, b| rank(a).cmp(&rank(b)))
}

fn rank(name: &str) -> (Reverse<Option<usize>>, bool, &str) {
    let preferred = PREFERRED.iter().rev().position(|preferred| *preferred == name);
    (Reverse(preferred), name.starts_with("telemetry."), name)
}
