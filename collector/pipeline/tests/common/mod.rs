//! A store, with short functions for the operations of the tests.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use dichroic_model::{
    AttributeValue, Attributes, Expiry, Factor, Fingerprint, Identity, Limits, MetricKind, NameStyle, Number,
    PageType, Protocol, Runtime, SECOND, Scope, SeriesDef, Source, SourceSpec, Temporality,
};
use dichroic_pipeline::{
    Core, DropReason, Family, Job, NotAdmitted, Progress, Row, RowValue, SeriesRef, Signal, Snapshot,
    SnapshotRequest, Times, Written,
};
use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Waker};

pub const NOW: u64 = 1_700_000_000 * SECOND;

/// The times of a point received at [`NOW`].
pub fn times(start: u64, time: u64) -> Times {
    Times {
        start,
        time,
        now: NOW,
    }
}

pub fn store(change: impl FnOnce(&mut Limits)) -> Core {
    let mut limits = Limits::default();
    change(&mut limits);
    Core::new(limits, Arc::new(Identity), NOW)
}

pub fn spec(key: &str, expiry: Expiry) -> SourceSpec {
    SourceSpec {
        runtime: Runtime::Python,
        job: "j".into(),
        instance: "i".into(),
        expiry,
        ..SourceSpec::new(Protocol::Otlp, key)
    }
}

pub fn source(store: &mut Core, key: &str) -> Arc<Source> {
    store.open_source(spec(key, Expiry::ByReceiver), NOW).unwrap()
}

#[derive(Clone, Copy)]
pub struct Def<'a> {
    pub name: &'a str,
    pub unit: &'a str,
    pub kind: MetricKind,
    pub style: NameStyle,
    pub temporality: Temporality,
    pub factor: Factor,
    pub bounds: Option<&'a [f64]>,
    pub scope: &'a str,
    pub start: u64,
}

pub const GAUGE: Def<'static> = Def {
    name: "m",
    unit: "",
    kind: MetricKind::Gauge,
    style: NameStyle::OpenTelemetry,
    temporality: Temporality::Cumulative,
    factor: Factor::ONE,
    bounds: None,
    scope: "",
    start: 0,
};

pub const COUNTER: Def<'static> = Def {
    kind: MetricKind::COUNTER,
    ..GAUGE
};

pub const DELTA: Def<'static> = Def {
    temporality: Temporality::Delta,
    ..COUNTER
};

pub const HISTOGRAM: Def<'static> = Def {
    kind: MetricKind::Histogram,
    bounds: Some(&[1.0, 2.0]),
    ..GAUGE
};

pub const EXPONENTIAL: Def<'static> = Def {
    kind: MetricKind::ExponentialHistogram,
    ..GAUGE
};

/// The fingerprint of a raw identity, as a receiver calculates it.
pub fn fp(store: &Core, source: &Source, raw: &str) -> Fingerprint {
    store.fingerprinter(source.id).of(raw.as_bytes())
}

pub fn define_as(
    store: &mut Core,
    source: &Source,
    raw: &str,
    def: Def<'_>,
    attributes: &[(&str, &str)],
) -> Result<SeriesRef, DropReason> {
    let attributes = attributes
        .iter()
        .map(|(k, v)| (Cow::Borrowed(*k), AttributeValue::from(*v)));
    define_pairs(store, source, raw, def, attributes.collect())
}

/// Defines a series with attributes of any type.
pub fn define_typed(
    store: &mut Core,
    source: &Source,
    raw: &str,
    def: Def<'_>,
    attributes: Vec<(Cow<'_, str>, AttributeValue<'_>)>,
) -> SeriesRef {
    define_pairs(store, source, raw, def, attributes).unwrap()
}

fn define_pairs(
    store: &mut Core,
    source: &Source,
    raw: &str,
    def: Def<'_>,
    attributes: Vec<(Cow<'_, str>, AttributeValue<'_>)>,
) -> Result<SeriesRef, DropReason> {
    let scope = Scope {
        name: def.scope.to_owned(),
        ..Scope::default()
    };
    define_pairs_in(store, source, raw, &scope, def, attributes)
}

/// Defines a series of a scope.
pub fn define_in_scope(store: &mut Core, source: &Source, scope: &Scope, def: Def<'_>) -> SeriesRef {
    define_in_scope_with(store, source, scope, def, &[])
}

/// Defines a series of a scope, with these attributes.
pub fn define_in_scope_with(
    store: &mut Core,
    source: &Source,
    scope: &Scope,
    def: Def<'_>,
    attributes: &[(&str, &str)],
) -> SeriesRef {
    let raw = format!("{scope:?}{attributes:?}");
    let pairs = attributes
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    define_pairs_in(store, source, &raw, scope, def, pairs.collect()).unwrap()
}

/// Finds or defines a series of a scope, by its raw identity.
pub fn define_raw(store: &mut Core, source: &Source, raw: &str, scope: &Scope, def: Def<'_>) -> SeriesRef {
    let known = store.find(fp(store, source, raw));
    known.unwrap_or_else(|| define_pairs_in(store, source, raw, scope, def, Vec::new()).unwrap())
}

fn define_pairs_in(
    store: &mut Core,
    source: &Source,
    raw: &str,
    scope: &Scope,
    def: Def<'_>,
    attributes: Vec<(Cow<'_, str>, AttributeValue<'_>)>,
) -> Result<SeriesRef, DropReason> {
    let fp = fp(store, source, raw);
    let def = SeriesDef {
        source: source.id,
        scope,
        name: def.name,
        style: def.style,
        unit: def.unit,
        help: "",
        kind: def.kind,
        temporality: def.temporality,
        factor: def.factor,
        attributes,
        start: def.start,
        bounds: def.bounds.map(Into::into),
    };
    store.define(fp, def).map_err(|NotAdmitted(reason)| reason)
}

/// Finds or defines a series, as receivers do.
pub fn define_series(
    store: &mut Core,
    source: &Source,
    def: Def<'_>,
    attributes: &[(&str, &str)],
) -> Result<SeriesRef, DropReason> {
    let raw = format!(
        "{} {} {} {:?} {:?} {:?} {:?} {attributes:?}",
        def.scope, def.name, def.unit, def.kind, def.style, def.temporality, def.bounds
    );
    match store.find(fp(store, source, &raw)) {
        Some(series) => Ok(series),
        None => define_as(store, source, &raw, def, attributes),
    }
}

pub fn set(
    store: &mut Core,
    source: &Source,
    def: Def<'_>,
    attributes: &[(&str, &str)],
    value: i64,
) -> SeriesRef {
    let series = define_series(store, source, def, attributes).unwrap();
    store
        .set_number(series, Number::int(value), Times::at(NOW))
        .unwrap();
    series
}

/// All rows of a copy.
pub fn rows(store: &mut Core) -> Vec<Row> {
    rows_of(store, SnapshotRequest::default())
}

pub fn rows_of(store: &mut Core, request: SnapshotRequest) -> Vec<Row> {
    let (mut job, chunks) = Snapshot::new(request);
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while job.step(store, &mut cx) != Progress::Done {
        all.extend(std::iter::from_fn(|| chunks.try_recv()).flatten());
    }
    assert!(chunks.is_finished());
    all
}

/// Rows as `name{labels} value`; hidden ones start with `-`.
pub fn lines(store: &mut Core) -> Vec<String> {
    rows(store).iter().map(line).collect()
}

pub fn line(row: &Row) -> String {
    let value = match &row.value {
        RowValue::Number(n) => row.scaled(*n).to_f64().to_string(),
        RowValue::Histogram(h) => format!("{:?} {:?}", h.bounds, h.counts),
        RowValue::Exponential(e) => format!("{} {:?}", e.scale, e.positive),
        RowValue::Summary(s) => s.count.to_string(),
    };
    let hidden = if row.hidden.is_some() { "-" } else { "" };
    let labels = row.meta.labels();
    let attributes = labels.trim_start_matches("job=\"j\",instance=\"i\"");
    format!(
        "{hidden}{}{{{}}} {value}",
        row.meta.metric.name,
        attributes.trim_start_matches(',')
    )
}

/// The names of a family's samples.
pub fn sample_names(family: &Family) -> Vec<String> {
    let suffixes: &[&str] = match family.kind {
        PageType::Counter if family.page.total => &["_total"],
        PageType::Histogram => &["_bucket", "_sum", "_count"],
        PageType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        PageType::Summary => &["", "_sum", "_count"],
        PageType::Info => &["_info"],
        _ => &[""],
    };
    let base = &family.page.base;
    suffixes.iter().map(|suffix| format!("{base}{suffix}")).collect()
}

/// Programs of one service on the given hosts, as OTLP sources without an instance id.
pub fn on_host(
    store: &mut Core,
    host: &str,
    more: &[(&str, &str)],
) -> std::sync::Arc<dichroic_model::Source> {
    let resource: Vec<_> = [("host.name", host)]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let spec = SourceSpec {
        resource: Attributes::of(&resource),
        ..spec(
            &format!("{resource:?}"),
            Expiry::AfterIdle(300 * dichroic_model::SECOND),
        )
    };
    store.open_source(spec, NOW).unwrap()
}

/// The counters of a service, in the order of their lines.
pub fn sorted(store: &mut Core) -> Vec<String> {
    let mut all = lines(store);
    all.sort();
    all
}

/// The times of a point: seconds after [`NOW`].
pub fn at(start: u64, time: u64) -> Times {
    let second = dichroic_model::SECOND;
    let [start, time] = [start, time].map(|t| NOW + t * second);
    Times {
        start,
        time,
        now: time,
    }
}

/// Writes a point and accounts for it, as receivers do.
pub fn write(store: &mut Core, source: &Source, def: Def<'_>, times: Times) -> Result<Written, DropReason> {
    let def = Def {
        start: times.start,
        ..def
    };
    let series = define_series(store, source, def, &[]).unwrap();
    let written = store.set_number(series, Number::int(1), times);
    let ledger = store.ledger_mut();
    ledger.received(source.id, Signal::Metrics, 1);
    match written {
        Ok(Written::Applied) => ledger.applied(source.id, Signal::Metrics, 1),
        Ok(Written::Hidden(reason)) => ledger.hidden(source.id, Signal::Metrics, reason, 1),
        Err(reason) => ledger.dropped(source.id, Signal::Metrics, reason, 1),
    }
    assert!(store.ledger().balances());
    written
}
