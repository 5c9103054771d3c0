//! Answers to typos in a subscription: its patterns that match no known name, with the nearest names, and labels of `where` that no
//! matching event has.
//!
//! Known is what has arrived and what packs define. A pattern without a match is only reported, since its sender may come later.

use crate::filter::IDENTITY_LABELS;
use crate::points::metric_matches;
use crate::request::{BadRequest, Request, bad};
use dichroic_model::{EventKind, EventSchema, KnownNames, Pattern};
use dichroic_pipeline::{Core, Metric};
use dichroic_wire::hello::SubscribeKind;
use dichroic_wire::limits::PATTERN_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Patterns of a subscription that are checked.
const PATTERNS: usize = 8;
/// Names that are compared with a pattern.
const NAMES: usize = 4_096;
/// Nearest names that are reported.
const NEAREST: usize = 3;
/// Edits to a name that are a typo, although a template matches.
const TYPO: usize = 2;
/// Columns that an error lists.
const LISTED: usize = 24;
/// Columns with this name hold the attributes of OTLP records as a map: any label may be in it.
const ATTRIBUTES: &str = "attributes";

/// The names that are known when a subscription opens. Copied on the ingest thread, compared on the main thread.
pub(crate) struct Known {
    names: Arc<KnownNames>,
    schemas: Vec<Arc<EventSchema>>,
    metrics: Vec<Arc<Metric>>,
}

impl Known {
    /// What a store knows of this kind.
    pub fn of(store: &Core, kind: SubscribeKind) -> Self {
        let wanted = match kind {
            SubscribeKind::Event => Some(EventKind::Event),
            SubscribeKind::Log => Some(EventKind::Log),
            SubscribeKind::Metric => None,
        };
        let of_kind = |schema: &&Arc<EventSchema>| Some(schema.kind) == wanted;
        Known {
            names: store.known_names(),
            schemas: store.schemas().filter(of_kind).cloned().collect(),
            metrics: match kind {
                SubscribeKind::Metric => store.metrics().take(NAMES).cloned().collect(),
                _ => Vec::new(),
            },
        }
    }

    /// Checks the labels of `where` against the events that match. Only where every pattern begins with a name that is known: other
    /// events may come with any label.
    ///
    /// # Errors
    /// None of these events has the label.
    pub fn check_where(&self, request: &Request) -> Result<(), BadRequest> {
        let specific = |pattern: &Pattern| {
            let first = pattern.as_str().split('.').next();
            first.is_some_and(|first| !first.contains('*')) && self.matches(pattern, request.kind)
        };
        if request.kind != SubscribeKind::Event || !request.patterns.iter().all(specific) {
            return Ok(());
        }
        let mut columns = BTreeSet::new();
        for schema in &self.schemas {
            if request
                .patterns
                .iter()
                .any(|pattern| pattern.matches(&schema.name))
            {
                columns.extend(schema.metadata.iter().map(String::as_str));
                columns.extend(schema.measurements.iter().map(|(name, _)| name.as_str()));
            }
        }
        for event in &self.names.events {
            // An exact name is known itself: a template that it fits has other events' columns.
            let template = event.pattern.literal().is_none();
            let covers = |pattern: &Pattern| {
                !(template && pattern.literal().is_some()) && pattern.overlaps(&event.pattern)
            };
            if request.patterns.iter().any(covers) {
                columns.extend(event.columns.iter().map(String::as_str));
            }
        }
        if columns.is_empty() || columns.contains(ATTRIBUTES) {
            return Ok(());
        }
        let missing = |label: &&str| !IDENTITY_LABELS.contains(label) && !columns.contains(label);
        match request.filter.labels().find(missing) {
            None => Ok(()),
            Some(label) => {
                let listed: Vec<_> = columns.iter().take(LISTED).copied().collect();
                let more = if columns.len() > LISTED { ", …" } else { "" };
                Err(bad(
                    "where",
                    format!(
                        "no event that matches has {label:?}; they have {}{more}, and their sender {}",
                        listed.join(", "),
                        IDENTITY_LABELS.join(", ")
                    ),
                ))
            }
        }
    }

    /// The patterns that match no known name, each with the nearest ones. Empty while no name is known.
    pub fn unmatched(&self, request: &Request) -> BTreeMap<String, Vec<String>> {
        if self.is_empty(request.kind) {
            return BTreeMap::new();
        }
        let checked = request.patterns.iter().take(PATTERNS);
        checked
            .filter(|pattern| pattern.as_str().len() < PATTERN_BYTES)
            .filter_map(|pattern| Some((pattern.to_string(), self.unknown(pattern, request.kind)?)))
            .collect()
    }

    /// The nearest names of a pattern that matches no known name; `None` if it matches one.
    fn unknown(&self, pattern: &Pattern, kind: SubscribeKind) -> Option<Vec<String>> {
        if self.matches(pattern, kind) {
            return None;
        }
        // A template such as `**.stop` matches typos, too: it counts unless a name is very near.
        let of_template = kind == SubscribeKind::Event
            && (self.names.events.iter()).any(|known| pattern.overlaps(&known.pattern));
        let near = self.nearest(pattern, kind, if of_template { TYPO } else { usize::MAX });
        (!of_template || !near.is_empty()).then_some(near)
    }

    fn is_empty(&self, kind: SubscribeKind) -> bool {
        match kind {
            SubscribeKind::Event => self.names.events.is_empty() && self.schemas.is_empty(),
            // The names of logs are not in packs.
            SubscribeKind::Log => self.schemas.is_empty(),
            SubscribeKind::Metric => self.metrics.is_empty(),
        }
    }

    /// Whether a name matches. Templates do not count.
    fn matches(&self, pattern: &Pattern, kind: SubscribeKind) -> bool {
        if kind == SubscribeKind::Metric {
            return self.metrics.iter().any(|metric| metric_matches(metric, pattern))
                || self.names.metrics.iter().any(|name| pattern.matches(name));
        }
        self.schemas.iter().any(|schema| pattern.matches(&schema.name))
            || (kind == SubscribeKind::Event && self.defined().any(|name| pattern.matches(name)))
    }

    /// Names of events that packs define.
    fn defined(&self) -> impl Iterator<Item = &str> {
        self.names
            .events
            .iter()
            .filter_map(|known| known.pattern.literal())
    }

    fn nearest(&self, pattern: &Pattern, kind: SubscribeKind, limit: usize) -> Vec<String> {
        let mut found = BTreeSet::new();
        let mut consider = |name: &str| {
            if let Some((distance, near)) = near(pattern.as_str(), name)
                && distance <= limit
            {
                found.insert((distance, near));
            }
        };
        match kind {
            SubscribeKind::Metric => {
                self.metrics.iter().for_each(|metric| consider(&metric.name));
                self.names.metrics.iter().for_each(|name| consider(name));
            }
            _ => self.schemas.iter().for_each(|schema| consider(&schema.name)),
        }
        if kind == SubscribeKind::Event {
            self.defined().take(NAMES).for_each(consider);
        }
        let useful = |name: &String| Pattern::new(name).is_ok_and(|near| self.matches(&near, kind));
        let nearest = found.into_iter().map(|(_, name)| name);
        nearest.filter(useful).take(NEAREST).collect()
    }
}

/// `pattern` with its text replaced by that of `name`, and the distance between both; `None` when they are too far apart.
fn near(pattern: &str, name: &str) -> Option<(usize, String)> {
    let (head, rest) = match pattern.find('*') {
        None => (pattern, ""),
        // Whole segments only: those with a wildcard are not compared.
        Some(at) => pattern.split_at(pattern[..at].rfind('.')?),
    };
    let segments = head.split('.').count();
    let compared = match rest {
        "" => name,
        _ => match name.match_indices('.').nth(segments - 1) {
            Some((end, _)) => &name[..end],
            None => name,
        },
    };
    let limit = 1 + head.len() / 4;
    // Without its first segments, or with `_` as pages show it.
    let plain = |text: &str| text.replace('_', ".");
    let distance = match compared.strip_suffix(head) {
        Some(before) if before.ends_with('.') => 1,
        _ => distance(&plain(head), &plain(compared), limit)?,
    };
    Some((distance, format!("{compared}{rest}")))
}

/// Insertions, removals, replacements and swaps of neighbors that lead from one text to the other; `None` above `limit`.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut best = last[j] + usize::from(a[i] != b[j]);
            best = best.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        if row.iter().min().is_some_and(|least| *least > limit) {
            return None;
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits_and_swaps() {
        assert_eq!(distance("phoenix", "pheonix", 3), Some(1));
        assert_eq!(distance("stop", "stopp", 3), Some(1));
        assert_eq!(distance("stop", "start", 3), Some(3));
        assert_eq!(distance("abc", "xyz", 2), None);
        assert_eq!(distance("", "", 0), Some(0));
    }

    #[test]
    fn a_pattern_keeps_its_wildcards_in_the_nearest_name() {
        let check = |pattern: &str, name: &str, expected: Option<&str>| {
            let found = near(pattern, name).map(|(_, name)| name);
            assert_eq!(found.as_deref(), expected, "{pattern} {name}");
        };
        check(
            "pheonix.endpoint.stop",
            "phoenix.endpoint.stop",
            Some("phoenix.endpoint.stop"),
        );
        check("pheonix.**", "phoenix.endpoint.stop", Some("phoenix.**"));
        check("pheonix.*.stop", "phoenix.endpoint.stop", Some("phoenix.*.stop"));
        check(
            "endpoint.stop",
            "phoenix.endpoint.stop",
            Some("phoenix.endpoint.stop"),
        );
        check(
            "http_server_duration",
            "http.server.duration",
            Some("http.server.duration"),
        );
        check("oban.job.stop", "phoenix.endpoint.stop", None);
        check("*.stopp", "phoenix.endpoint.stop", None);
    }
}
