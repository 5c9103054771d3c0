//! Answers to typos in a subscription: its patterns that match no known name, with the nearest names, and labels of `where` that no
//! matching event has.
//!
//! Known is what has arrived and what packs define. A pattern without a match is only reported, since its sender may come later.

use crate::filter::IDENTITY_LABELS;
use crate::points::metric_matches;
use crate::request::{BadRequest, Request, bad};
use dichroic_model::names::label_name;
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
/// Series of a family whose labels are read.
const SERIES: usize = 1_024;
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
    /// Attributes of the metrics that match, if every series of these was read.
    labels: Option<BTreeSet<String>>,
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
            labels: None,
        }
    }

    /// Reads the attributes of the metrics that match, unless they have many series.
    pub fn note_labels(&mut self, store: &Core, patterns: &[Pattern]) {
        let mut labels = BTreeSet::new();
        let matches = |metric: &&Arc<Metric>| patterns.iter().any(|pattern| metric_matches(metric, pattern));
        for metric in self.metrics.iter().filter(matches) {
            match store.attribute_names(metric, SERIES) {
                Some(names) => labels.extend(names),
                None => return,
            }
        }
        self.labels = (!labels.is_empty()).then_some(labels);
    }

    /// Checks the labels of `where` against what matches. For events, only where every pattern begins with a name that is known:
    /// other events may come with any label.
    ///
    /// # Errors
    /// None of these events has the label, or it is nearly one that the series of these metrics have. (Another label may come with
    /// the next series of a metric.)
    pub fn check_where(&self, request: &Request) -> Result<(), BadRequest> {
        match request.kind {
            SubscribeKind::Event => self.check_columns(request),
            SubscribeKind::Metric => self.check_labels(request),
            SubscribeKind::Log => Ok(()),
        }
    }

    fn check_labels(&self, request: &Request) -> Result<(), BadRequest> {
        let Some(labels) = &self.labels else { return Ok(()) };
        let all: BTreeSet<&str> = labels.iter().map(String::as_str).collect();
        // Labels may also be named as on the page.
        let on_page = |label: &str| all.iter().any(|known| label_name(known) == label);
        let labels = request.filter.labels();
        let mut missing = labels.filter(|label| !is_label(label, &all) && !on_page(label));
        match missing.find(|label| !near_labels(label, &all, metric_typo(label)).is_empty()) {
            None => Ok(()),
            Some(label) => Err(no_label("metric", label, &all)),
        }
    }

    fn check_columns(&self, request: &Request) -> Result<(), BadRequest> {
        let specific = |pattern: &Pattern| {
            let first = pattern.as_str().split('.').next();
            first.is_some_and(|first| !first.contains('*')) && self.matches(pattern, request.kind)
        };
        if !request.patterns.iter().all(specific) {
            return Ok(());
        }
        let matches = |name: &str| request.patterns.iter().any(|pattern| pattern.matches(name));
        let mut columns = BTreeSet::new();
        for schema in self.schemas.iter().filter(|schema| matches(&schema.name)) {
            columns.extend(schema.metadata.iter().map(String::as_str));
            columns.extend(schema.measurements.iter().map(|(name, _)| name.as_str()));
        }
        // Columns of templates that may match, such as `**.stop`: accepted, not suggested.
        let mut possible = BTreeSet::new();
        for event in &self.names.events {
            let of_event = event.columns.iter().map(String::as_str);
            match event.pattern.literal() {
                Some(name) if matches(name) => columns.extend(of_event),
                Some(_) => {}
                // An exact name is known itself: a template that it fits has other events' columns.
                None => {
                    let covers =
                        |pattern: &Pattern| pattern.literal().is_none() && pattern.overlaps(&event.pattern);
                    if request.patterns.iter().any(covers) {
                        possible.extend(of_event);
                    }
                }
            }
        }
        if columns.is_empty() || columns.contains(ATTRIBUTES) || possible.contains(ATTRIBUTES) {
            return Ok(());
        }
        let missing = |label: &&str| !is_label(label, &columns) && !possible.contains(label);
        match request.filter.labels().find(missing) {
            None => Ok(()),
            Some(label) => Err(no_label("event", label, &columns)),
        }
    }

    /// The patterns of events that packs define, and that no sender has announced.
    pub fn without_sender(&self, request: &Request) -> Vec<String> {
        if request.kind != SubscribeKind::Event {
            return Vec::new();
        }
        let announced = |pattern: &Pattern| self.schemas.iter().any(|schema| pattern.matches(&schema.name));
        let checked = request.patterns.iter().take(PATTERNS);
        checked
            .filter(|pattern| pattern.as_str().len() < PATTERN_BYTES && !announced(pattern))
            .filter(|pattern| self.defined().any(|name| pattern.matches(name)))
            .map(ToString::to_string)
            .collect()
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

fn is_label(label: &str, all: &BTreeSet<&str>) -> bool {
    IDENTITY_LABELS.contains(&label) || all.contains(label)
}

/// Edits that are a typo: a label of metrics that is only similar may come with the next series.
fn metric_typo(label: &str) -> usize {
    if label.len() < 8 { 1 } else { TYPO }
}

/// Labels at a distance of at most `limit`, nearest first.
fn near_labels<'a>(label: &str, all: &BTreeSet<&'a str>, limit: usize) -> Vec<&'a str> {
    let labels = all.iter().copied().chain(IDENTITY_LABELS);
    let mut near: Vec<_> = labels
        .filter_map(|known| Some((distance(label, known, limit)?, known)))
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, known)| known).take(NEAREST).collect()
}

/// The error of a label that nothing has: labels that are near, and those that there are.
fn no_label(of: &str, label: &str, all: &BTreeSet<&str>) -> BadRequest {
    let near = near_labels(label, all, 1 + label.len() / 4);
    let near: Vec<_> = near.iter().map(|label| format!("{label:?}")).collect();
    let near = match near.is_empty() {
        true => String::new(),
        false => format!("; did you mean {}?", near.join(" or ")),
    };
    let listed: Vec<_> = all.iter().take(LISTED).copied().collect();
    let more = if all.len() > LISTED { ", …" } else { "" };
    let message = format!(
        "no {of} that matches has {label:?}{near}; they have {}{more}, and their sender {}",
        listed.join(", "),
        IDENTITY_LABELS.join(", ")
    );
    bad("where", message)
}

/// The names that are nearest to a pattern that matches none of them, with its wildcards.
pub fn near_names<'a>(pattern: &Pattern, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let found: BTreeSet<_> = names.filter_map(|name| near(pattern.as_str(), name)).collect();
    let mut names: Vec<String> = Vec::new();
    for (_, name) in found {
        if names.len() < NEAREST && !names.contains(&name) {
            names.push(name);
        }
    }
    names
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
    use dichroic_model::KnownEvent;

    #[test]
    fn distances_count_edits_and_swaps() {
        assert_eq!(distance("phoenix", "pheonix", 3), Some(1));
        assert_eq!(distance("stop", "stopp", 3), Some(1));
        assert_eq!(distance("stop", "start", 3), Some(3));
        assert_eq!(distance("abc", "xyz", 2), None);
        assert_eq!(distance("", "", 0), Some(0));
    }

    fn known(events: &[(&str, &[&str])]) -> Known {
        let event = |(name, columns): &(&str, &[&str])| KnownEvent {
            pattern: Pattern::new(name).unwrap(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        };
        Known {
            names: Arc::new(KnownNames {
                events: events.iter().map(event).collect(),
                metrics: Vec::new(),
            }),
            schemas: Vec::new(),
            metrics: Vec::new(),
            labels: None,
        }
    }

    fn request(kind: SubscribeKind, pattern: &str, label: &str) -> Request {
        let globs = std::collections::BTreeMap::from([(label.to_owned(), vec!["*".to_owned()])]);
        let mut subscribe = dichroic_wire::Subscribe::new(kind, vec![pattern.to_owned()]);
        subscribe.where_.extend(globs);
        Request::check(&subscribe, &crate::Config::default()).unwrap()
    }

    #[test]
    fn columns_of_templates_are_accepted_and_not_listed() {
        let known = known(&[
            ("phoenix.endpoint.stop", &["route", "status"]),
            ("**.command.stop", &["command"]),
            ("oban.job.stop", &["queue"]),
        ]);
        let check = |label: &str, expected: Option<&str>| {
            let error = known
                .check_where(&request(SubscribeKind::Event, "phoenix.**", label))
                .err();
            assert_eq!(error.map(|error| error.message).as_deref(), expected, "{label}");
        };
        check("status", None);
        check("command", None);
        check("source", None);
        check(
            "statsu",
            Some(
                "no event that matches has \"statsu\"; did you mean \"status\"?; they have route, status, and their sender source, runtime, service, job, instance, node",
            ),
        );
        check(
            "queue",
            Some(
                "no event that matches has \"queue\"; they have route, status, and their sender source, runtime, service, job, instance, node",
            ),
        );
    }

    #[test]
    fn a_typo_in_a_label_of_metrics_is_refused_and_an_unknown_label_is_not() {
        let known = Known {
            labels: Some(BTreeSet::from(["plan".to_owned(), "http.method".to_owned()])),
            ..known(&[])
        };
        let check = |label: &str, near: Option<&str>| {
            let error = known
                .check_where(&request(SubscribeKind::Metric, "jobs*", label))
                .err();
            let message = error.map(|error| error.message).unwrap_or_default();
            match near {
                None => assert_eq!(message, ""),
                Some(near) => assert!(message.contains(&format!("did you mean {near:?}?")), "{message}"),
            }
        };
        check("plan", None);
        check("plaan", Some("plan"));
        check("http.method", None);
        check("http_method", None);
        check("http.metod", Some("http.method"));
        check("error.type", None);
        check("jobb", Some("job"));
    }

    #[test]
    fn defined_events_that_no_sender_has_announced_are_named() {
        let known = known(&[
            ("phoenix.endpoint.stop", &["status"]),
            ("**.command.stop", &["command"]),
        ]);
        let check = |pattern: &str, named: bool| {
            let found = known.without_sender(&request(SubscribeKind::Event, pattern, "job"));
            assert_eq!(!found.is_empty(), named, "{pattern}");
        };
        check("phoenix.**", true);
        check("phoenix.endpoint.stop", true);
        check("shop.command.stop", false);
        check("shop.**", false);
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
