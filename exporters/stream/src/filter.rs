//! Selects the rows and series for a subscriber by `where` and `sample`.
//!
//! For rows, a label is a column by its name in the pack (metadata first, then measurements; for OTLP records also a key of
//! `attributes`). For series it is an attribute by its dotted or page name. Its value is rendered as text. Every label must match
//! one of its globs; an unknown label or a null matches none.
//!
//! `source`, `runtime`, `service`, `job`, `instance` and `node` also match the sender, alike for events, logs and points: all rows of
//! a sender that matches are selected, and those whose own label of that name does (such as Ecto's `source`, a table).

use dichroic_model::pattern::glob;
use dichroic_model::{AttributeValue, EventSchema, Protocol, Source, SourceSpec, names::label_name};
use dichroic_pipeline::SeriesMeta;
use dichroic_wire::events::{Column, Reference};
use dichroic_wire::{Cell, Events};
use std::collections::{BTreeMap, HashMap};

/// The selected rows of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Selection<'f> {
    /// All rows.
    All,
    /// These rows, ascending; may be empty.
    Some(&'f [u32]),
}

/// A compiled `where` and `sample`, with the columns of each schema seen.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    labels: Vec<Label>,
    /// Rows whose hash is at or above this are excluded; `None` takes all.
    sample: Option<u64>,
    /// By schema id: the column of each label. A stream sees at most as many schemas as the store has.
    columns: HashMap<u32, Vec<Option<LabelColumn>>>,
    rows: Vec<u32>,
    verdicts: Vec<Option<bool>>,
}

/// One label of `where` and its globs.
#[derive(Debug, Clone)]
struct Label {
    name: String,
    globs: Vec<String>,
    identity: Option<Identity>,
}

/// A label that names the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Identity {
    Source,
    Runtime,
    Service,
    Job,
    Instance,
    Node,
}

/// Every label that names the sender.
pub(crate) const IDENTITY_LABELS: [&str; 6] = ["source", "runtime", "service", "job", "instance", "node"];

impl Identity {
    fn of(label: &str) -> Option<Self> {
        use Identity::{Instance, Job, Node, Runtime, Service, Source};
        let all = [Source, Runtime, Service, Job, Instance, Node];
        let at = IDENTITY_LABELS.iter().position(|name| *name == label)?;
        all.get(at).copied()
    }

    /// Whether a sender's value matches; an absent one matches nothing.
    fn matches(self, spec: &SourceSpec, globs: &[String]) -> bool {
        let service = || {
            spec.resource
                .get("service.name")
                .map(AttributeValue::into_rendered)
        };
        match self {
            Identity::Source => any(globs, &spec.name),
            Identity::Runtime => any(globs, spec.runtime.as_str()),
            // A scraped target has no service name: its job is the nearest.
            Identity::Service => any(globs, service().as_deref().unwrap_or(&spec.job)),
            Identity::Job => any(globs, &spec.job),
            Identity::Instance => any(globs, &spec.instance),
            // A relay's source is named after its node.
            Identity::Node => spec.protocol == Protocol::Beam && any(globs, &spec.name),
        }
    }
}

fn any(globs: &[String], value: &str) -> bool {
    !value.is_empty() && globs.iter().any(|pattern| glob(pattern, value))
}

impl Label {
    /// Whether the sender matches, so that its rows need not.
    fn matches_source(&self, source: &Source) -> bool {
        self.identity
            .is_some_and(|identity| identity.matches(&source.spec, &self.globs))
    }
}

/// The location of a label's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LabelColumn {
    Column(usize),
    /// A key of the map in this column.
    Key(usize),
}

impl Filter {
    /// A filter of globs by label. `sample` is a share above 0 and at most 1.
    pub fn new(labels: &BTreeMap<String, Vec<String>>, sample: Option<f64>) -> Self {
        // `as` saturates, so that a share just below 1 cannot wrap.
        let threshold = |share: f64| (share * 18_446_744_073_709_551_616.0) as u64;
        Filter {
            labels: labels
                .iter()
                .map(|(name, globs)| Label {
                    name: name.clone(),
                    globs: globs.clone(),
                    identity: Identity::of(name),
                })
                .collect(),
            sample: sample.filter(|share| *share < 1.0).map(threshold),
            ..Filter::default()
        }
    }

    /// Whether everything passes.
    pub fn is_open(&self) -> bool {
        self.labels.is_empty() && self.sample.is_none()
    }

    /// The labels of `where`.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| label.name.as_str())
    }

    /// Selects rows of a batch at `position`. A sample depends only on positions, so that a resumed cursor selects the same rows.
    pub fn select(
        &mut self,
        schema: &EventSchema,
        source: &Source,
        position: u64,
        events: &Events<'_>,
    ) -> Selection<'_> {
        if self.is_open() {
            return Selection::All;
        }
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        rows.extend(0..events.rows() as u32);
        if let Some(threshold) = self.sample {
            rows.retain(|row| spread(position + u64::from(*row)) < threshold);
        }
        if !self.labels.is_empty() {
            self.label_columns(schema);
            let label_columns = &self.columns[&schema.id];
            for (label, column) in self.labels.iter().zip(label_columns) {
                if label.matches_source(source) {
                    continue;
                }
                match column {
                    None => rows.clear(),
                    Some(LabelColumn::Column(column)) => {
                        retain_by_column(&mut rows, events, *column, &label.globs, &mut self.verdicts)
                    }
                    Some(LabelColumn::Key(column)) => {
                        retain_by_key(&mut rows, events, *column, &label.name, &label.globs)
                    }
                }
            }
        }
        self.rows = rows;
        if self.rows.len() == events.rows() {
            Selection::All
        } else {
            Selection::Some(&self.rows)
        }
    }

    /// Whether rows of a sender can be selected: its labels match, or rows have these labels themselves. Without a schema they might.
    pub fn may_select(&self, schema: Option<&EventSchema>, source: &Source) -> bool {
        self.labels.iter().all(|label| {
            label.matches_source(source)
                || schema.is_none_or(|schema| label_column(schema, &label.name).is_some())
        })
    }

    fn label_columns(&mut self, schema: &EventSchema) {
        let labels = &self.labels;
        self.columns.entry(schema.id).or_insert_with(|| {
            let column = |label: &Label| label_column(schema, &label.name);
            labels.iter().map(column).collect()
        });
    }

    /// Whether a series matches. `sample` applies only to rows.
    pub fn matches_series(&self, meta: &SeriesMeta) -> bool {
        self.labels.iter().all(|label| {
            label.matches_source(&meta.source)
                || label_of(meta, &label.name)
                    .is_some_and(|value| label.globs.iter().any(|pattern| glob(pattern, &value)))
        })
    }
}

fn label_column(schema: &EventSchema, label: &str) -> Option<LabelColumn> {
    let before = 1 + schema.measurements.len();
    let metadata = |name: &str| schema.metadata.iter().position(|column| column == name);
    metadata(label)
        .map(|at| LabelColumn::Column(before + at))
        .or_else(|| {
            let at = schema.measurements.iter().position(|(name, _)| name == label)?;
            Some(LabelColumn::Column(1 + at))
        })
        .or_else(|| {
            let at = metadata("attributes")?;
            Some(LabelColumn::Key(before + at))
        })
}

fn retain_by_column(
    rows: &mut Vec<u32>,
    events: &Events<'_>,
    column: usize,
    globs: &[String],
    verdicts: &mut Vec<Option<bool>>,
) {
    if column >= events.columns() {
        return rows.clear();
    }
    match events.column(column) {
        Column::Absent => rows.clear(),
        Column::Reference(references) => {
            // Each distinct string is matched once.
            verdicts.clear();
            verdicts.resize(events.strings(), None);
            // Not `retain`: it has two loops, so the closure becomes a call for each row.
            let mut kept = 0;
            for at in 0..rows.len() {
                let row = rows[at];
                let selected = match references.get(row as usize) {
                    Reference::String(at) => {
                        *verdicts[at].get_or_insert_with(|| matches(globs, Cell::Str(events.string(at))))
                    }
                    Reference::Value(at) => matches(globs, events.value(at)),
                };
                rows[kept] = row;
                kept += usize::from(selected);
            }
            rows.truncate(kept);
        }
        _ => rows.retain(|row| matches(globs, events.cell(*row as usize, column))),
    }
}

fn retain_by_key(rows: &mut Vec<u32>, events: &Events<'_>, column: usize, label: &str, globs: &[String]) {
    if column >= events.columns() {
        return rows.clear();
    }
    rows.retain(|row| match events.cell(*row as usize, column) {
        Cell::Map(map) => map.get(label).is_some_and(|cell| matches(globs, cell)),
        _ => false,
    });
}

fn matches(globs: &[String], cell: Cell<'_>) -> bool {
    with_text(cell, |text| globs.iter().any(|pattern| glob(pattern, text)))
}

/// Tests a cell's text, rendered as a label value; `false` for null.
fn with_text(cell: Cell<'_>, test: impl FnOnce(&str) -> bool) -> bool {
    match cell {
        Cell::Null => false,
        Cell::Bool(true) => test("true"),
        Cell::Bool(false) => test("false"),
        Cell::Int(int) => test(itoa::Buffer::new().format(int)),
        Cell::Float(float) => test(&float.to_string()),
        Cell::Str(text) => test(text),
        Cell::CutStr { kept, .. } => test(kept),
        other => {
            let mut out = Vec::new();
            crate::json::value(&mut out, other);
            let text = String::from_utf8_lossy(&out);
            test(text.trim_matches('"'))
        }
    }
}

/// The value of a series' label as text.
fn label_of(meta: &SeriesMeta, label: &str) -> Option<String> {
    let shown = |value: AttributeValue<'_>| match value {
        AttributeValue::Null => None,
        value => Some(value.render().into_owned()),
    };
    if let Some((_, value)) = meta.pairs().find(|(name, _)| *name == label) {
        return shown(value);
    }
    if let Some((_, value)) = meta.pairs().find(|(name, _)| label_name(name) == label) {
        return shown(value);
    }
    if let Some(value) = meta.source.spec.labels.get(label) {
        return shown(value);
    }
    let mut distinguishing = meta.distinguishing().into_iter();
    let (_, value) = distinguishing.find(|(name, _)| name == label || label_name(name) == label)?;
    shown(value)
}

/// Spreads positions evenly over all of u64 (the finisher of SplitMix64).
fn spread(position: u64) -> u64 {
    let mut z = position.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_model::{Attributes, EventKind, Runtime, SourceId};
    use dichroic_wire::{EventsBuilder, EventsScratch, limits};

    fn source() -> Source {
        let spec = SourceSpec {
            runtime: Runtime::Beam,
            job: "retail/shop".to_owned(),
            instance: "i-1".to_owned(),
            resource: Attributes::of(&[("service.name", "shop")]),
            ..SourceSpec::new(Protocol::Beam, "shop@host")
        };
        let id = SourceId(1);
        Source { id, spec }
    }

    fn selected(label: &str, globs: &[&str], cells: &[Cell<'_>]) -> Vec<u32> {
        let schema = EventSchema {
            id: 1,
            name: "a.b".into(),
            kind: EventKind::Event,
            measurements: vec![("duration".into(), "s".into())],
            metadata: vec!["status".into()],
        };
        let mut builder = EventsBuilder::new(1, 0, 2, limits::BODY_BYTES_MAX).unwrap();
        for cell in cells {
            builder.push(0, &[Cell::Int(5), *cell]).unwrap();
        }
        let mut frame = Vec::new();
        builder.finish(0, &mut frame).unwrap();
        let mut scratch = EventsScratch::default();
        let events = Events::decode(dichroic_wire::frame::body(&frame), &mut scratch).unwrap();
        let globs = globs.iter().map(|g| (*g).to_owned()).collect();
        let mut filter = Filter::new(&BTreeMap::from([(label.to_owned(), globs)]), None);
        match filter.select(&schema, &source(), 0, &events) {
            Selection::All => (0..cells.len() as u32).collect(),
            Selection::Some(rows) => rows.to_vec(),
        }
    }

    #[test]
    fn globs_match_rendered_values() {
        let cells = [
            Cell::Int(503),
            Cell::Str("503"),
            Cell::Float(1.5),
            Cell::Bool(true),
            Cell::Null,
            Cell::CutStr {
                whole_len: 80,
                kept: "/users",
            },
            Cell::Bytes(&[0xab, 0x01]),
        ];
        let check = |label: &str, globs: &[&str], expected: &[u32]| {
            assert_eq!(selected(label, globs, &cells), expected, "{label} {globs:?}");
        };
        check("status", &["5*"], &[0, 1]);
        check("status", &["1.5", "true"], &[2, 3]);
        check("status", &["*"], &[0, 1, 2, 3, 5, 6]);
        check("status", &["/u*"], &[5]);
        check("status", &["ab01"], &[6]);
        check("duration", &["5"], &[0, 1, 2, 3, 4, 5, 6]);
        check("nosuch", &["*"], &[]);
    }

    #[test]
    fn the_sender_is_named_alike_for_all_kinds() {
        let cells = [Cell::Int(200), Cell::Int(500)];
        let check = |label: &str, glob: &str, expected: &[u32]| {
            assert_eq!(selected(label, &[glob], &cells), expected, "{label} {glob}");
        };
        for (label, value) in [
            ("source", "shop@host"),
            ("runtime", "beam"),
            ("service", "shop"),
            ("job", "retail/shop"),
            ("instance", "i-1"),
            ("node", "shop@*"),
        ] {
            check(label, value, &[0, 1]);
            check(label, "other", &[]);
        }
    }

    #[test]
    fn a_sample_selects_its_share_of_positions() {
        let selected_share = |share: f64| {
            let filter = Filter::new(&BTreeMap::new(), Some(share));
            let threshold = filter.sample.unwrap_or(u64::MAX);
            (0..100_000).filter(|p| spread(*p) < threshold).count() as f64 / 100_000.0
        };
        for share in [0.001, 0.1, 0.5, 0.999, 1.0] {
            let selected = selected_share(share);
            assert!((selected - share).abs() < 0.01, "{share}: {selected}");
        }
    }
}
