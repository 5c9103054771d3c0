//! What the tests share: a store with one of everything, copies of it, and our own strict reader of pages.
#![allow(clippy::too_many_lines, reason = "a test reads best in one piece")]
#![allow(dead_code)]

pub mod arbitrary;
pub mod reader;

use dichroic_exporter_prometheus::{Format, Options, Renderer, Stats};
use dichroic_model::{
    AttributeValue, Attributes, Exemplar, Factor, Fingerprint, Identity, Limits, MetricKind, NameStyle,
    Number, Protocol, Runtime, SECOND, Scope, SeriesDef, Source, SourceSpec, Temporality,
};
use dichroic_pipeline::{
    Buckets, Core, ExponentialPoint, HistogramPoint, Job, Progress, Row, SeriesRef, Snapshot,
    SnapshotRequest, SummaryPoint, Times,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Waker};

/// Time of the tests.
pub const NOW: u64 = 1_700_000_000 * SECOND;

/// A store and what is needed to fill it tersely.
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
            style: NameStyle::Verbatim,
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
            bounds: def.bounds.map(Into::into),
        };
        let fp = Fingerprint {
            low: self.next,
            high: !self.next,
        };
        self.store.define(fp, def).unwrap()
    }

    /// A series with a value and an explicit start.
    pub fn number(
        &mut self,
        source: &Source,
        def: &Def<'_>,
        attributes: &[(&str, &str)],
        value: Number,
    ) -> SeriesRef {
        let series = self.series(source, def, attributes);
        self.store
            .set_number(
                series,
                value,
                Times {
                    start: NOW - 3 * SECOND,
                    time: NOW,
                    now: NOW,
                },
            )
            .unwrap();
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
        self.store
            .set_histogram(
                series,
                &point,
                Times {
                    start: NOW - 3 * SECOND,
                    time: NOW,
                    now: NOW,
                },
            )
            .unwrap();
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

/// All rows of a store, as an exporter gets them.
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

/// One of everything: every kind, both runtimes, hard texts, extreme numbers, what a format forbids.
#[expect(clippy::too_many_lines, reason = "a list of series")]
pub fn everything() -> Kit {
    let mut kit = Kit::default();
    let node = [
        ("service.name", "shop"),
        ("host.name", "h\"1\""),
        ("telemetry.sdk.language", "erlang"),
    ];
    let beam = kit.source(Protocol::Beam, "shop", "shop@h1", &node);
    let otlp = kit.source(
        Protocol::Otlp,
        "worker",
        "worker-1",
        &[("service.version", "1.0")],
    );
    let web = kit.source(Protocol::Prometheus, "web", "127.0.0.1:8000", &[]);
    let ns = Factor::new(1, 1_000_000_000).unwrap();
    let duration_bounds = [0.005, 0.1, 1.0, 10.0];

    // Shared by runtimes, in raw nanoseconds and in seconds.
    let mut duration = Def::otel("http.server.request.duration", "s", MetricKind::Histogram)
        .help("Duration of HTTP server requests.")
        .bounds(&duration_bounds);
    let raw = Def {
        factor: ns,
        ..duration.clone()
    };
    let fast = kit.histogram(
        &beam,
        &raw,
        &[("http.route", "/a\\b\"c\"\nd")],
        &[3, 2, 1, 0, 1],
        Some(Number::int(12_345_678_901)),
    );
    duration.help = "another help";
    kit.histogram(
        &otlp,
        &duration,
        &[("http.route", "/")],
        &[0, 0, 0, 0, 0],
        Some(Number::float(0.0)),
    );
    kit.histogram(
        &otlp,
        &Def::otel("sumless", "By", MetricKind::Histogram).bounds(&[1e6, 1e7]),
        &[],
        &[1, 2, 3],
        None,
    );
    kit.histogram(
        &otlp,
        &Def::otel("below.zero", "Cel", MetricKind::Histogram).bounds(&[-10.0, 0.0, 10.0]),
        &[],
        &[1, 2, 3, 4],
        Some(Number::int(-7)),
    );
    kit.histogram(
        &web,
        &Def::scraped("boundless", MetricKind::Histogram).bounds(&[]),
        &[("le", "taken")],
        &[5],
        Some(Number::int(5)),
    );
    kit.histogram(
        &web,
        &Def::scraped("queue", MetricKind::GaugeHistogram)
            .bounds(&[1.0])
            .help("Waiting."),
        &[("q", "a")],
        &[2, 1],
        Some(Number::int(4)),
    );
    kit.histogram(
        &web,
        &Def::scraped("queue", MetricKind::GaugeHistogram).bounds(&[1.0]),
        &[("q", "b")],
        &[0, 1],
        None,
    );

    // Numbers.
    let requests =
        Def::otel("oban.job.count", "{job}", MetricKind::COUNTER).help("Jobs: \"all\", one\\two\nlines");
    let counted = kit.number(&beam, &requests, &[("state", "ok")], Number::int(i64::MAX));
    kit.number(&beam, &requests, &[("state", "жара")], Number::int(7));
    kit.number(&otlp, &requests, &[], Number::float(0.1));
    kit.number(
        &otlp,
        &Def::otel("broken.count", "", MetricKind::COUNTER),
        &[],
        Number::float(f64::NAN),
    );
    kit.number(
        &otlp,
        &Def::otel("load", "1", MetricKind::Gauge),
        &[("cpu", "0")],
        Number::float(0.25),
    );
    for (at, value) in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e300, 5e-324, -0.5]
        .into_iter()
        .enumerate()
    {
        kit.number(
            &otlp,
            &Def::otel("strange", "", MetricKind::Gauge),
            &[("at", &at.to_string())],
            Number::float(value),
        );
    }
    kit.number(
        &beam,
        &Def::otel("vm.memory", "By", MetricKind::Gauge),
        &[("type", "atom")],
        Number::int(1 << 40),
    );
    kit.number(
        &beam,
        &Def::otel("busy.time", "ms", MetricKind::COUNTER),
        &[],
        Number::int(1_500),
    );
    kit.number(
        &otlp,
        &Def::otel("open", "{connection}", MetricKind::Sum { monotonic: false }),
        &[],
        Number::int(-3),
    );
    kit.number(
        &web,
        &Def::scraped("http_requests_total", MetricKind::COUNTER).help("Requests."),
        &[("job", "theirs"), ("code", "200")],
        Number::float(1027.0),
    );
    kit.number(
        &web,
        &Def::scraped("oldcounter", MetricKind::COUNTER),
        &[],
        Number::int(5),
    );
    kit.number(
        &web,
        &Def::scraped("vllm:tokens", MetricKind::Unknown),
        &[],
        Number::float(1e9),
    );
    kit.number(
        &web,
        &Def {
            unit: "seconds",
            ..Def::scraped("process_start_time_seconds", MetricKind::Gauge)
        },
        &[],
        Number::float(1.7e9),
    );
    kit.number(
        &web,
        &Def::scraped("python", MetricKind::Info).help("Python."),
        &[("version", "3.11")],
        Number::int(1),
    );
    for set in ["a", "b"] {
        kit.number(
            &web,
            &Def::scraped("mode", MetricKind::StateSet),
            &[("mode", "on"), ("set", set)],
            Number::int(1),
        );
    }
    for set in ["a", "b"] {
        kit.number(
            &web,
            &Def::scraped("mode", MetricKind::StateSet),
            &[("mode", "off"), ("set", set)],
            Number::int(0),
        );
    }

    // Exponential and summaries.
    let point = ExponentialPoint {
        scale: 0,
        zero_count: 1,
        zero_threshold: 0.0,
        positive: Buckets {
            offset: -3,
            counts: &[4, 0, 2, 1, 0, 0, 1],
        },
        negative: Buckets::default(),
        sum: Some(Number::float(20.5)),
        min_max: None,
    };
    kit.exponential(
        &otlp,
        &Def::otel(
            "db.client.operation.duration",
            "s",
            MetricKind::ExponentialHistogram,
        ),
        &point,
    );
    kit.exponential(
        &otlp,
        &Def::otel("body.size", "By", MetricKind::ExponentialHistogram),
        &point,
    );
    kit.exponential(
        &otlp,
        &Def::otel("items", "{item}", MetricKind::ExponentialHistogram),
        &point,
    );
    kit.summary(
        &web,
        &Def::scraped("gc_seconds", MetricKind::Summary),
        &[(0.0, 0.1), (0.5, 0.2), (1.0, 3.0)],
        Number::float(5.5),
    );
    kit.summary(
        &web,
        &Def::scraped("drift", MetricKind::Summary),
        &[(0.5, -1.0), (0.99, f64::NAN)],
        Number::float(-2.0),
    );

    // A target that shows its own target_info, and a name that is taken by another type.
    let shown = kit.source(Protocol::Prometheus, "own", "127.0.0.1:9", &[]);
    kit.number(
        &shown,
        &Def::scraped("target", MetricKind::Info),
        &[("service_name", "own")],
        Number::int(1),
    );
    kit.number(
        &shown,
        &Def::scraped("oldcounter", MetricKind::Gauge),
        &[("hidden", "yes")],
        Number::int(1),
    );

    let example = |value, trace: &str| Exemplar {
        value,
        time: NOW,
        attributes: Attributes::of(&[("trace_id", trace), ("span_id", "00f067aa0ba902b7")]),
    };
    kit.store
        .set_exemplar(fast, example(50_000_000.0, "4bf92f3577b34da6a3ce929d0e0e4736"));
    kit.store
        .set_exemplar(counted, example(1.0, "a3ce929d0e0e47364bf92f3577b34da6"));
    kit
}
