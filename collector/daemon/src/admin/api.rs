//! The JSON documents of the admin API: sources, ledger, lint and catalog. Commands print the last three.

use crate::attach::status::AttachStatus;
use crate::lint;
use crate::self_telemetry::stage::{Reading, Stages};
use dichroic_model::{Attributes, SourceId};
use dichroic_pipeline::Warnings;
use dichroic_pipeline::budget::{Budget, Part, Shortage};
use dichroic_pipeline::{Busy, Core, Handle, Ledger, Row, SnapshotRequest};
use dichroic_receiver_beam::RelayStatus;
use dichroic_receiver_prometheus::scrape::TargetStatus;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Largest number of label values that the catalog counts.
const CARDINALITY: usize = 10_000;

/// `/api/v1/sources`: all sources that are open or still have series.
pub async fn sources(handle: &Handle) -> Result<Value, Busy> {
    handle
        .call(|core| {
            let list: Vec<Value> = core
                .sources()
                .map(|(source, series, ended)| {
                    let spec = &source.spec;
                    let resource: Map<String, Value> = spec
                        .resource
                        .iter()
                        .map(|(k, v)| (k.to_owned(), Value::from(v.render())))
                        .collect();
                    json!({
                        "name": spec.name,
                        "protocol": spec.protocol.as_str(),
                        "runtime": spec.runtime.as_str(),
                        "job": spec.job,
                        "instance": spec.instance,
                        "series": series,
                        "ended": ended,
                        "resource": resource,
                    })
                })
                .collect();
            json!({ "sources": list })
        })
        .await
}

/// `/api/v1/ledger`: received, applied and dropped points by hop, and latencies of stages.
pub async fn ledger(handle: &Handle, stages: &Stages) -> Result<Value, Busy> {
    let (ledger, warnings, budget) = handle
        .call(|core: &mut Core| (core.ledger().clone(), core.warnings(), core.budget().clone()))
        .await?;
    let mut document = ledger_document(&ledger, warnings);
    document["in_flight"] = in_flight(&budget);
    document["stages"] = stages.read().iter().map(stage).collect();
    Ok(document)
}

fn ledger_document(ledger: &Ledger, warnings: Warnings) -> Value {
    let name = |source| ledger.source_name(source).unwrap_or(("internal", "collector"));
    let ingest: Vec<Value> = ledger
        .accounts()
        .map(|(source, signal, account)| {
            let (protocol, name) = name(source);
            let dropped: Map<String, Value> = account
                .drops()
                .map(|(reason, n)| (reason.as_str().to_owned(), n.into()))
                .collect();
            let hidden: Map<String, Value> = account
                .hides()
                .map(|(reason, n)| (reason.as_str().to_owned(), n.into()))
                .collect();
            json!({
                "source": name, "protocol": protocol, "signal": signal.as_str(), "since": account.since,
                "received": account.received, "applied": account.applied, "staged": account.staged,
                "hidden": hidden, "dropped": dropped, "balances": account.balances(),
            })
        })
        .collect();
    let violations: Vec<Value> = ledger
        .violations()
        .map(|(source, reason, count)| json!({ "source": name(source).1, "reason": reason, "count": count }))
        .collect();
    let exporters: Vec<Value> = ledger
        .hops()
        .map(|(name, hop)| {
            let (offered, sent, dropped, queued) = hop.read();
            json!({
                "exporter": name, "offered": offered, "sent": sent, "dropped": dropped, "queued": queued,
                "balances": offered == sent + dropped + queued,
            })
        })
        .collect();
    let requests: Vec<Value> = ledger
        .requests
        .accounts()
        .map(|(endpoint, account)| {
            let refused: Map<String, Value> = account
                .refused()
                .map(|(reason, n)| (reason.as_str().to_owned(), n.into()))
                .collect();
            json!({
                "transport": endpoint.transport, "signal": endpoint.signal, "received": account.received,
                "accepted": account.accepted, "partial": account.partial, "in_flight": account.in_flight,
                "refused": refused, "balances": account.balances(),
            })
        })
        .collect();
    let relays: Vec<Value> = ledger
        .relays()
        .map(|(source, terms)| {
            let account: Map<String, Value> = terms
                .iter()
                .map(|(term, value)| (term.to_string(), (*value).into()))
                .collect();
            json!({ "source": name(source).1, "account": account })
        })
        .collect();
    let balances = ledger.balances() && exporters.iter().all(|hop| hop["balances"] == true);
    json!({
        "epoch": ledger.epoch,
        "balances": balances,
        "ingest": ingest,
        "requests": requests,
        "exporters": exporters,
        "relays": relays,
        "violations": violations,
        "warnings": warnings_document(warnings),
    })
}

/// The memory budget, with the account of each part.
fn in_flight(budget: &Budget) -> Value {
    let parts = Part::ALL.map(|part| {
        let usage = budget.usage(part);
        let refused: Map<String, Value> = Shortage::ALL
            .iter()
            .zip(usage.refused)
            .map(|(reason, n)| (reason.as_str().to_owned(), n.into()))
            .collect();
        json!({ "part": part.as_str(), "bytes": usage.used, "peak_bytes": usage.peak, "refused": refused })
    });
    json!({ "limit_bytes": budget.limit(), "bytes": budget.used(), "parts": parts })
}

/// Quantiles and maximum are `null` without observations.
fn stage(reading: &Reading) -> Value {
    let count = reading.count();
    let seconds = |nanos: u64| (count > 0).then_some(nanos as f64 / 1e9);
    let [p50, p99, p999] = reading.quantiles.map(seconds);
    json!({
        "stage": reading.name, "count": count, "sum_seconds": reading.sum_nanos as f64 / 1e9,
        "p50_seconds": p50, "p99_seconds": p99, "p999_seconds": p999, "max_seconds": seconds(reading.max_nanos),
    })
}

/// The conditions with their names in the self telemetry.
pub fn warnings(warnings: Warnings) -> [(&'static str, u64); 10] {
    [
        ("label_collisions", warnings.label_collisions),
        ("several_writers", warnings.several_writers),
        ("shared_starts", warnings.shared_starts),
        ("delta_gaps", warnings.delta_gaps),
        ("delta_overlaps", warnings.delta_overlaps),
        ("changed_bounds", warnings.changed_bounds),
        ("resets", warnings.resets),
        ("cut_values", warnings.cut_values),
        ("expired_deltas", warnings.expired_deltas),
        ("expired_gauges", warnings.expired_gauges),
    ]
}

fn warnings_document(seen: Warnings) -> Value {
    warnings(seen)
        .into_iter()
        .map(|(name, n)| (name.to_owned(), Value::from(n)))
        .collect::<Map<_, _>>()
        .into()
}

/// `/api/v1/lint`: likely problems.
pub async fn lint(
    handle: &Handle,
    config: &lint::Config,
    relays: Vec<RelayStatus>,
    targets: &[TargetStatus],
    attachments: &[AttachStatus],
) -> Result<Value, Busy> {
    let chunks = handle.snapshot(SnapshotRequest::default())?;
    let mut seen = lint::Seen::default();
    while let Some(chunk) = chunks.recv().await {
        chunk.iter().for_each(|row| seen.note(row));
        tokio::task::yield_now().await;
    }
    let drops = handle.call(|core| drops(core.ledger())).await?;
    let relays = with_services(handle, relays).await?;
    let findings = seen.findings(&lint::Inputs {
        config,
        relays: &relays,
        targets,
        attachments,
        drops: &drops,
    });
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    Ok(json!({
        "warnings": count(lint::Level::Warning),
        "notes": count(lint::Level::Note),
        "findings": findings.iter().map(lint::Finding::document).collect::<Vec<_>>(),
    }))
}

/// Relays, with the service name of each.
async fn with_services(
    handle: &Handle,
    relays: Vec<RelayStatus>,
) -> Result<Vec<(RelayStatus, String)>, Busy> {
    let services = handle
        .call(|core| {
            let service = |resource: &Attributes| {
                resource
                    .get("service.name")
                    .map(|name| name.render().into_owned())
            };
            core.sources()
                .filter_map(|(source, ..)| Some((source.id, service(&source.spec.resource)?)))
                .collect::<BTreeMap<SourceId, String>>()
        })
        .await?;
    let with_service = |relay: RelayStatus| {
        let service = relay.source.and_then(|id| services.get(&id)).cloned();
        (relay, service.unwrap_or_default())
    };
    Ok(relays.into_iter().map(with_service).collect())
}

fn drops(ledger: &Ledger) -> Vec<lint::Drops> {
    let name = |source| ledger.source_name(source).map_or("collector", |(_, name)| name);
    ledger
        .accounts()
        .flat_map(|(source, signal, account)| {
            account.drops().map(move |(reason, count)| lint::Drops {
                source,
                name: name(source).to_owned(),
                signal,
                reason,
                count,
            })
        })
        .collect()
}

#[derive(Default)]
struct Entry {
    facts: Map<String, Value>,
    series: u64,
    hidden: u64,
    sources: BTreeSet<String>,
    runtimes: BTreeSet<&'static str>,
    labels: BTreeMap<String, HashSet<String>>,
    warnings: BTreeSet<String>,
}

/// `/api/v1/catalog`: all metrics with a series, and all event schemas.
pub async fn catalog(
    handle: &Handle,
    config: &lint::Config,
    relays: Vec<RelayStatus>,
) -> Result<Value, Busy> {
    let mut seen = lint::Seen::default();
    let chunks = handle.snapshot(SnapshotRequest::default())?;
    let mut entries: BTreeMap<(String, &'static str), Entry> = BTreeMap::new();
    while let Some(chunk) = chunks.recv().await {
        for row in &chunk {
            note(&mut entries, row);
            seen.note_fired(row);
        }
        tokio::task::yield_now().await;
    }
    let mut events = handle
        .call(|core| core.schemas().map(|s| s.as_ref().clone()).collect::<Vec<_>>())
        .await?;
    events.sort_by(|a, b| (&a.name, a.kind.as_str()).cmp(&(&b.name, b.kind.as_str())));
    let relays = with_services(handle, relays).await?;
    let unused = seen.unused_events(&lint::Inputs {
        config,
        relays: &relays,
        targets: &[],
        attachments: &[],
        drops: &[],
    });
    let metrics: Vec<Value> = entries.into_values().map(Entry::document).collect();
    let events: Vec<Value> = events
        .iter()
        .map(|schema| {
            let measurements: Map<String, Value> = schema
                .measurements
                .iter()
                .map(|(name, unit)| (name.clone(), unit.as_str().into()))
                .collect();
            json!({
                "name": schema.name, "kind": schema.kind.as_str(),
                "measurements": measurements, "metadata": schema.metadata,
                "in_use": !unused.contains(&schema.name),
            })
        })
        .collect();
    Ok(json!({ "metrics": metrics, "events": events }))
}

fn note(entries: &mut BTreeMap<(String, &'static str), Entry>, row: &Row) {
    let metric = &row.meta.metric;
    let entry = entries
        .entry((metric.name.clone(), metric.kind.as_str()))
        .or_default();
    if entry.series == 0 {
        entry.facts.insert("name".into(), metric.name.as_str().into());
        let page = metric.family.page.base.as_str();
        entry.facts.insert("page_name".into(), page.into());
        entry.facts.insert("type".into(), metric.kind.as_str().into());
        entry.facts.insert("unit".into(), metric.unit.as_str().into());
        entry.facts.insert("help".into(), metric.help.as_str().into());
    }
    entry.series += 1;
    entry.hidden += u64::from(row.hidden.is_some());
    entry.sources.insert(row.meta.source.name().to_owned());
    entry.runtimes.insert(row.meta.source.spec.runtime.as_str());
    for (name, value) in row.meta.pairs() {
        let values = entry.labels.entry(name.to_owned()).or_default();
        if values.len() < CARDINALITY {
            values.insert(value.render().into_owned());
        }
    }
    if let Some(reason) = row.hidden {
        let warning = format!(
            "some series are not on the page: {}",
            lint::hidden_because(reason)
        );
        entry.warnings.insert(warning);
    }
    if row.lost_bounds {
        let warning = "bounds of its points changed; only those that all have in common are kept".to_owned();
        entry.warnings.insert(warning);
    }
    if row.share_start {
        entry.warnings.insert("several processes write one series with one start time or none; each point replaces the total of another process".to_owned());
    }
    if row.writers > 1 {
        let warning = "several processes write one series; their totals are added up".to_owned();
        entry.warnings.insert(warning);
    }
}

impl Entry {
    fn document(mut self) -> Value {
        let labels: Map<String, Value> = self
            .labels
            .into_iter()
            .map(|(name, values)| (name, json!({ "values": values.len() })))
            .collect();
        self.facts.insert("series".into(), self.series.into());
        self.facts.insert("labels".into(), labels.into());
        self.facts
            .insert("sources".into(), self.sources.into_iter().collect());
        self.facts
            .insert("runtimes".into(), self.runtimes.into_iter().collect());
        self.facts
            .insert("warnings".into(), self.warnings.into_iter().collect());
        self.facts.into()
    }
}
