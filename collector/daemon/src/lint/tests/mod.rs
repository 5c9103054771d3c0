//! A store with a BEAM node and a Python program, and what lint finds in it.

mod families;
mod relays;

use super::families::DEFAULT_BOUNDS;
use super::seen::MANY;
use super::*;
use crate::attach::status::{AttachStatus, State};
use dichroic_exporter_prometheus::{Format, Options, Renderer};
use dichroic_model::{
    AttributeValue, Attributes, Factor, Fingerprint, Identity, Limits, MetricKind, NameStyle, Number,
    Pattern, Protocol, Runtime, Scope, SeriesDef, Source, SourceSpec, Temporality,
};
use dichroic_packs::{Packs, Selection};
use dichroic_pipeline::{
    Buckets, Core, DropReason, ExponentialPoint, HistogramPoint, Job, Progress, Row, Signal, Snapshot,
    SnapshotRequest, Times,
};
use dichroic_receiver_beam::RelayStatus;
use dichroic_receiver_prometheus::parse::Violation;
use dichroic_receiver_prometheus::scrape::TargetStatus;
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Waker};

const NOW: u64 = 1_700_000_000_000_000_000;

struct World {
    core: Core,
    node: Arc<Source>,
    python: Arc<Source>,
    targets: Vec<TargetStatus>,
    attachments: Vec<AttachStatus>,
    drops: Vec<Drops>,
    next: u64,
}

/// A series: whether a BEAM node sends it, name, unit, kind, labels, style.
struct Line<'a>(
    bool,
    &'a str,
    &'a str,
    MetricKind,
    &'a [(&'a str, &'a str)],
    NameStyle,
);

impl World {
    fn new() -> Self {
        let mut core = Core::new(Limits::default(), Arc::new(Identity), NOW);
        let mut open = |protocol, runtime, name: &str| {
            let spec = SourceSpec {
                runtime,
                job: "shop".into(),
                instance: name.into(),
                resource: Attributes::of(&[("service.name", "shop")]),
                ..SourceSpec::new(protocol, name)
            };
            core.open_source(spec, NOW).unwrap()
        };
        World {
            node: open(Protocol::Beam, Runtime::Beam, "shop@host"),
            python: open(Protocol::Otlp, Runtime::Python, "worker"),
            core,
            targets: Vec::new(),
            attachments: Vec::new(),
            drops: Vec::new(),
            next: 1,
        }
    }

    fn define(&mut self, line: &Line<'_>, bounds: Option<&[f64]>) -> dichroic_pipeline::SeriesRef {
        let Line(beam, name, unit, kind, labels, style) = *line;
        self.next += 1;
        let labels = labels
            .iter()
            .map(|(k, v)| (Cow::Borrowed(*k), AttributeValue::from(*v)));
        let def = SeriesDef {
            source: if beam { self.node.id } else { self.python.id },
            scope: &Scope::default(),
            name,
            style,
            unit,
            help: "",
            kind,
            temporality: Temporality::Cumulative,
            factor: Factor::ONE,
            attributes: labels.collect(),
            start: 0,
            bounds: bounds.map(Into::into),
        };
        self.core
            .define(
                Fingerprint {
                    low: self.next,
                    high: self.next,
                },
                def,
            )
            .unwrap()
    }

    fn number(&mut self, beam: bool, name: &str, unit: &str, labels: &[(&str, &str)]) {
        let line = Line(
            beam,
            name,
            unit,
            MetricKind::COUNTER,
            labels,
            NameStyle::OpenTelemetry,
        );
        self.set(&line);
    }

    fn set(&mut self, line: &Line<'_>) {
        let series = self.define(line, None);
        self.core
            .set_number(
                series,
                Number::int(1),
                Times {
                    start: NOW,
                    time: NOW,
                    now: NOW,
                },
            )
            .unwrap();
    }

    fn histogram(&mut self, name: &str, unit: &str, bounds: &[f64], counts: &[u64], sum: f64) {
        self.histogram_of(false, name, unit, bounds, counts, sum);
    }

    fn histogram_of(&mut self, beam: bool, name: &str, unit: &str, bounds: &[f64], counts: &[u64], sum: f64) {
        let line = Line(
            beam,
            name,
            unit,
            MetricKind::Histogram,
            &[],
            NameStyle::OpenTelemetry,
        );
        let series = self.define(&line, Some(bounds));
        let point = HistogramPoint {
            counts,
            sum: Some(Number::float(sum)),
            min_max: None,
        };
        self.core
            .set_histogram(
                series,
                &point,
                Times {
                    start: NOW,
                    time: NOW,
                    now: NOW,
                },
            )
            .unwrap();
    }

    fn labeled_histogram(&mut self, name: &str, unit: &str, labels: &[(&str, &str)], bounds: &[f64]) {
        let line = Line(
            false,
            name,
            unit,
            MetricKind::Histogram,
            labels,
            NameStyle::OpenTelemetry,
        );
        let series = self.define(&line, Some(bounds));
        let point = HistogramPoint {
            counts: &vec![0; bounds.len() + 1],
            sum: Some(Number::float(0.0)),
            min_max: None,
        };
        self.core.set_histogram(series, &point, Times::at(NOW)).unwrap();
    }

    /// Buckets of scale 0: (first index, counts).
    fn exponential(&mut self, name: &str, unit: &str, (offset, counts): (i32, &[u64])) {
        let line = Line(
            false,
            name,
            unit,
            MetricKind::ExponentialHistogram,
            &[("sort", "exponential")],
            NameStyle::OpenTelemetry,
        );
        let series = self.define(&line, None);
        let point = ExponentialPoint {
            scale: 0,
            zero_count: 0,
            zero_threshold: 0.0,
            positive: Buckets { offset, counts },
            negative: Buckets::default(),
            sum: Some(Number::float(1.0)),
            min_max: None,
        };
        self.core.set_exponential(series, &point, Times::at(NOW)).unwrap();
    }

    /// Renders a page, which chooses the bounds of exponential histograms.
    fn page(&mut self) {
        let mut renderer = Renderer::new(Format::Text, Options::default());
        renderer.chunk(&self.rows());
    }

    fn rows(&mut self) -> Vec<Row> {
        let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut rows = Vec::new();
        while job.step(&mut self.core, &mut cx) != Progress::Done {
            rows.extend(std::iter::from_fn(|| chunks.try_recv()).flatten());
        }
        rows.extend(std::iter::from_fn(|| chunks.try_recv()).flatten());
        rows
    }

    fn relay(&self) -> RelayStatus {
        RelayStatus {
            variables: Default::default(),
            source: Some(self.node.id),
            node: "shop@host".into(),
            os_pid: 1,
            agent: String::new(),
            otp: "25".into(),
            telemetry: "1.4.1".into(),
            attached_mode: false,
            epoch: 1,
            attempt: 1,
            since: NOW,
            ended: None,
            end: String::new(),
            generation: 1,
            attached: 1,
            refused: Vec::new(),
            series: 0,
            rows: 0,
            backwards: 0,
            events: 0,
            flushes: 3,
            unknown_frames: 0,
        }
    }

    fn seen(&mut self) -> Seen {
        let mut seen = Seen::default();
        self.rows().iter().for_each(|row| seen.note(row));
        seen
    }

    /// `level check subject` of each finding, and all messages.
    fn lint(&mut self, packs: &[&str], definitions: &str, relays: &[RelayStatus]) -> (Vec<String>, String) {
        let names: Vec<_> = packs.iter().map(|name| (*name).to_owned()).collect();
        let config = Config {
            selection: Selection {
                packs: if packs.is_empty() {
                    Packs::of(Vec::new())
                } else {
                    Packs::builtin().choose(&names).unwrap()
                },
                definitions: serde_saphyr::from_str(definitions).unwrap(),
                ..Selection::default()
            },
            chosen: true,
            retain: vec![Pattern::new("shop.**").unwrap(), Pattern::new("vm.**").unwrap()],
        };
        let relays: Vec<_> = relays
            .iter()
            .map(|relay| (relay.clone(), "shop".to_owned()))
            .collect();
        let seen = self.seen();
        let findings = seen.findings(&Inputs {
            config: &config,
            relays: &relays,
            targets: &self.targets,
            attachments: &self.attachments,
            drops: &self.drops,
        });
        let short = |f: &Finding| format!("{:?} {} {}", f.level, f.check, f.subject);
        let messages: Vec<_> = findings.iter().map(|f| f.message.as_str()).collect();
        (findings.iter().map(short).collect(), messages.join("\n"))
    }

    fn check(&mut self, expected: &[&str], parts: &[&str]) {
        let (found, all) = self.lint(&[], "[]", &[]);
        assert_eq!(found, expected, "{all}");
        for part in parts {
            assert!(all.contains(part), "{part:?} not in {all}");
        }
    }
}

#[test]
fn metrics_without_problems_give_no_findings() {
    let mut world = World::new();
    world.number(true, "shop.orders", "{order}", &[("plan", "pro")]);
    world.histogram(
        "http.server.request.duration",
        "s",
        &[0.005, 0.1, 1.0],
        &[50, 3, 1, 0],
        0.9,
    );
    world.histogram("fast.duration", "s", &[0.005, 0.1], &[50, 0, 0], 0.01);
    world.histogram("few.values", "s", &[0.1], &[0, 3], 9.0);
    world.histogram("rpc.duration", "ms", DEFAULT_BOUNDS, &[1; 16], 9.0);
    world.check(&[], &[]);
}

#[test]
fn findings_are_a_line_each_and_a_document() {
    let finding = Finding {
        level: Level::Note,
        check: "unit_in_name",
        subject: "a_ms".into(),
        source: "worker".into(),
        message: "the name ends with the unit ms".into(),
        details: Vec::new(),
    };
    let document = json!({ "warnings": 0, "notes": 1, "findings": [finding.document()] });
    assert_eq!(
        crate::commands::lint::text(&document, false),
        [
            "note: a_ms (worker): the name ends with the unit ms [unit_in_name]",
            "0 warnings, 1 note"
        ]
    );
    let silent = Finding {
        check: "never_fired",
        subject: "oban".into(),
        message: "2 events have not occurred yet".into(),
        details: vec!["oban.a".into(), "oban.b".into()],
        ..finding
    };
    let document = json!({ "warnings": 0, "notes": 1, "findings": [silent.document()] });
    let shown = |verbose| crate::commands::lint::text(&document, verbose);
    assert_eq!(
        shown(false)[0],
        "note: oban (worker): 2 events have not occurred yet; --verbose lists them [never_fired]"
    );
    assert_eq!(shown(true)[1..3], ["  oban.a", "  oban.b"]);
    let none = json!({ "warnings": 0, "notes": 0, "findings": [] });
    assert_eq!(crate::commands::lint::text(&none, false), ["no problems found"]);
}

#[test]
fn a_page_that_violates_openmetrics_is_reported_with_its_first_place() {
    use dichroic_receiver_prometheus::ingest::PageViolation;
    use dichroic_receiver_prometheus::scrape::Health;
    let mut world = World::new();
    world.targets.push(TargetStatus {
        job: "ray".into(),
        instance: "head:8080".into(),
        url: "http://head:8080/metrics".into(),
        health: Health::Up,
        last_error: None,
        last_scrape: NOW,
        last_scrape_duration_seconds: 0.1,
        samples: 2,
        body_bytes: 50,
        scrapes: 1,
        failures: 0,
        violations: vec![PageViolation {
            reason: Violation::Families,
            count: 3,
            first: "line 4, column 1: a sample name of this family belongs to an earlier family".into(),
        }],
    });
    world.check(
        &["Warning openmetrics http://head:8080/metrics"],
        &["families on its page: 3 times, first at line 4", "`strict: true`"],
    );
}
