//! Shared by the tests: a store that is easy to fill, copies of it, and a strict parser of pages.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod arbitrary;
pub mod fixtures;
pub mod reader;

use dichroic_exporter_prometheus::{Format, Options, Renderer, Stats};
use dichroic_model::{
    AttributeValue, Attributes, Factor, Fingerprint, Identity, Limits, MetricKind, NameStyle, Number,
    Protocol, Runtime, SECOND, Scope, SeriesDef, Source, SourceSpec, Temporality,
};
use dichroic_pipeline::{
    Core, ExponentialPoint, HistogramPoint, Job, Progress, Row, SeriesRef, Snapshot, SnapshotRequest,
    SummaryPoint, Times,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Waker};

/// The time of the tests.
pub const NOW: u64 = 1_700_000_000 * SECOND;

/// The times of a point with a stated start.
const STARTED: Times = Times {
    start: NOW - 3 * SECOND,
    time: NOW,
    now: NOW,
};

/// A store, with short methods to fill it.
pub struct Kit {
    pub store: Core,
    next: u64,
}

/// A metric to define.
#[derive(Clone)]
pub struct Def<'a> {
    pub name: &'a str,
    pub style: NameStyle,
    pub unit: &'a str,
    pub help: &'a str,
    pub kind: MetricKind,
    pub factor: Factor,
    pub bounds: Option<&'a [f64]>,
}

impl<'a> Def<'a> {
    pub fn otel(name: &'a str, unit: &'a str, kind: MetricKind) -> Self {
        Def {
            name,
            style: NameStyle::OpenTelemetry,
            unit,
            help: "",
            kind,
            factor: Factor::ONE,
            bounds: None,
        }
    }

    pub fn scraped(name: &'a str, kind: MetricKind) -> Self {
        Def {
            style: NameStyle::Scraped,
            ..Def::otel(name, "", kind)
        }
    }

    pub fn help(self, help: &'a str) -> Self {
        Def { help, ..self }
    }

    pub fn bounds(self, bounds: &'a [f64]) -> Self {
        Def {
            bounds: Some(bounds),
            ..self
        }
    }
}

impl Default for Kit {
    fn default() -> Self {
        Kit {
            store: Core::new(Limits::default(), Arc::new(Identity), NOW),
            next: 0,
        }
    }
}

impl Kit {
    pub fn source(
        &mut self,
        protocol: Protocol,
        job: &str,
        instance: &str,
        resource: &[(&str, &str)],
    ) -> Arc<Source> {
        let spec = SourceSpec {
            name: job.into(),
            runtime: match protocol {
                Protocol::Beam => Runtime::Beam,
                _ => Runtime::Python,
            },
            job: job.into(),
            instance: instance.into(),
            resource: Attributes::of(resource),
            ..SourceSpec::new(protocol, format!("{job}/{instance}/{resource:?}").into_bytes())
        };
        self.store.open_source(spec, NOW).unwrap()
    }

    pub fn series(&mut self, source: &Source, def: &Def<'_>, attributes: &[(&str, &str)]) -> SeriesRef {
        self.next += 1;
        let attributes = attributes
            .iter()
            .map(|(k, v)| (Cow::Borrowed(*k), AttributeValue::from(*v)));
        let def = SeriesDef {
            source: source.id,
            scope: &Scope::default(),
            name: def.name,
            style: def.style,
            unit: def.unit,
            help: def.help,
            kind: def.kind,
            temporality: Temporality::Cumulative,
            factor: def.factor,
            attributes: attributes.collect(),
            start: 0,
            bounds: def.bounds.map(Into::into),
        };
        let fp = Fingerprint {
            low: self.next,
            high: !self.next,
        };
        self.store.define(fp, def).unwrap()
    }

    /// A number series with a point with a stated start.
    pub fn number(
        &mut self,
        source: &Source,
        def: &Def<'_>,
        attributes: &[(&str, &str)],
        value: Number,
    ) -> SeriesRef {
        let series = self.series(source, def, attributes);
        self.store.set_number(series, value, STARTED).unwrap();
        series
    }

    pub fn histogram(
        &mut self,
        source: &Source,
        def: &Def<'_>,
        attributes: &[(&str, &str)],
        counts: &[u64],
        sum: Option<Number>,
    ) -> SeriesRef {
        let series = self.series(source, def, attributes);
        let point = HistogramPoint {
            counts,
            sum,
            min_max: None,
        };
        self.store.set_histogram(series, &point, STARTED).unwrap();
        series
    }

    pub fn exponential(&mut self, source: &Source, def: &Def<'_>, point: &ExponentialPoint<'_>) -> SeriesRef {
        let series = self.series(source, def, &[]);
        self.store.set_exponential(series, point, Times::at(NOW)).unwrap();
        series
    }

    pub fn summary(
        &mut self,
        source: &Source,
        def: &Def<'_>,
        quantiles: &[(f64, f64)],
        sum: Number,
    ) -> SeriesRef {
        let series = self.series(source, def, &[]);
        let point = SummaryPoint {
            count: 10,
            sum,
            quantiles,
        };
        self.store.set_summary(series, &point, Times::at(NOW)).unwrap();
        series
    }

    pub fn sources(&self) -> Vec<Arc<Source>> {
        let shown = self.store.sources().filter(|(_, series, _)| *series > 0);
        shown.map(|(source, ..)| source.clone()).collect()
    }

    pub fn chunks(&mut self) -> Vec<Vec<Row>> {
        copy(&mut self.store)
    }

    pub fn page(&mut self, format: Format) -> String {
        self.page_and_stats(format, Options::default()).0
    }

    pub fn page_and_stats(&mut self, format: Format, options: Options) -> (String, Stats) {
        let mut renderer = Renderer::new(format, options);
        self.chunks().iter().for_each(|chunk| renderer.chunk(chunk));
        renderer.finish(&self.sources());
        let stats = renderer.stats();
        (String::from_utf8(renderer.into_buffer()).unwrap(), stats)
    }
}

/// All rows of a store in chunks.
pub fn copy(store: &mut Core) -> Vec<Vec<Row>> {
    let (mut job, chunks) = Snapshot::new(SnapshotRequest::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    loop {
        let progress = job.step(store, &mut cx);
        all.extend(std::iter::from_fn(|| chunks.try_recv()));
        if progress == Progress::Done {
            return all;
        }
    }
}
