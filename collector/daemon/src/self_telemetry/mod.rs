//! The collector's own metrics: source `dichroic`, in the same store as everybody's.
//!
//! Once an interval a reading of the ledger, the store and the process is put through `prometheus-client`'s encoder and received
//! like any scraped page, so one exporter shows all and dashboards need nothing special. Stage latencies come from `hdrhistogram`.

use crate::api;
use dichroic_pipeline::store::Warnings;
use dichroic_pipeline::{Ledger, Store};
use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Upper bounds of stage latencies, in seconds.
const BOUNDS: [f64; 10] = [1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0];

/// Latency of one stage. Recording takes a lock that nobody holds for long: it is called once a page or a tick, never per point.
#[derive(Clone)]
pub struct Stage {
    name: &'static str,
    nanos: Arc<Mutex<Histogram<u64>>>,
}

impl Stage {
    /// A stage under this name.
    pub fn new(name: &'static str) -> Self {
        let histogram =
            Histogram::new_with_bounds(1_000, 100_000_000_000, 2).expect("fixed bounds are valid");
        Stage {
            name,
            nanos: Arc::new(Mutex::new(histogram)),
        }
    }

    /// Notes how long it took.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .saturating_record(nanos);
    }

    /// (sum in seconds, count, (bound, count in the bucket)…)
    fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let nanos = self.nanos.lock().unwrap_or_else(|e| e.into_inner());
        let mut below = 0;
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(BOUNDS.len() + 1);
        for bound in BOUNDS {
            let upto = nanos.count_between(0, (bound * 1e9) as u64).min(nanos.len());
            buckets.push((bound, upto - below));
            below = upto;
        }
        buckets.push((f64::INFINITY, nanos.len() - below));
        (nanos.mean() * nanos.len() as f64 / 1e9, nanos.len(), buckets)
    }
}

/// A reading of everything that is shown.
struct Reading {
    ledger: Ledger,
    warnings: Warnings,
    /// (listener, reason, connections)
    refused: Vec<(&'static str, &'static str, u64)>,
    gauges: Vec<(&'static str, &'static str, f64)>,
    process: Process,
    stages: Vec<Stage>,
}

/// Makes pages of the collector's own metrics.
pub struct Own {
    stages: Vec<Stage>,
    started: f64,
}

impl Own {
    /// Shows these stages.
    pub fn new(stages: Vec<Stage>, started: Duration) -> Self {
        Own {
            stages,
            started: started.as_secs_f64(),
        }
    }

    /// The page, in OpenMetrics text.
    pub fn page(&self, store: &Store, refused: Vec<(&'static str, &'static str, u64)>) -> String {
        let gauge = |name, help, value: usize| (name, help, value as f64);
        let reading = Reading {
            ledger: store.ledger().clone(),
            warnings: store.warnings(),
            refused,
            gauges: vec![
                gauge("dichroic_series", "Live series.", store.series()),
                gauge(
                    "dichroic_series_limit",
                    "Series that may live at once.",
                    store.limits().series,
                ),
                gauge(
                    "dichroic_series_bytes",
                    "Accounted bytes of series, labels and tables.",
                    store.bytes(),
                ),
                gauge(
                    "dichroic_series_bytes_limit",
                    "Accounted bytes that may be used.",
                    store.limits().memory_bytes,
                ),
                gauge(
                    "dichroic_sources",
                    "Sources that are open or linger.",
                    store.sources().count(),
                ),
                gauge(
                    "dichroic_subscribers",
                    "Subscribers of events and logs.",
                    store.subscribers(),
                ),
            ],
            process: Process::read(self.started),
            stages: self.stages.clone(),
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(reading));
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut page, &registry);
        page
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

/// Writes one family from (labels, value) pairs; a family without pairs is left out.
fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: Vec<(L, u64)>,
) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    let kind = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in rows {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.ingest(encoder)?;
        self.exporters(encoder)?;
        self.relays(encoder)?;
        let rows = api::warnings(self.warnings)
            .into_iter()
            .map(|(kind, n)| ([("kind", kind)], n))
            .collect();
        counters(
            encoder,
            "dichroic_warnings",
            "Conditions that lose nothing but deserve a look.",
            rows,
        )?;
        let rows = self
            .refused
            .iter()
            .map(|(listener, reason, n)| ([("listener", *listener), ("reason", *reason)], *n))
            .collect();
        counters(
            encoder,
            "dichroic_connections_refused",
            "Connections of relays and subscribers that were refused, by listener and reason.",
            rows,
        )?;
        for (name, help, value) in &self.gauges {
            gauge(encoder, name, help, *value)?;
        }
        self.latencies(encoder)?;
        self.process.encode(encoder)?;
        let metric = ConstGauge::new(1i64);
        let mut family = encoder.encode_descriptor(
            "dichroic_build_info",
            "The collector's version.",
            None,
            metric.metric_type(),
        )?;
        metric.encode(family.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)
    }
}

impl Reading {
    fn ingest(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (mut received, mut applied, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        for (source, signal, account) in self.ledger.accounts() {
            let (protocol, name) = self
                .ledger
                .source_name(source)
                .unwrap_or(("internal", "collector"));
            let labels = [
                ("source", name),
                ("protocol", protocol),
                ("signal", signal.as_str()),
            ];
            received.push((labels, account.received));
            applied.push((labels, account.applied));
            for (reason, n) in account.drops() {
                let [source, protocol, signal] = labels;
                dropped.push(([source, protocol, signal, ("reason", reason.as_str())], n));
            }
        }
        // Sources that share a name (a target that came back under another identity) are one series here.
        counters(
            encoder,
            "dichroic_ingest_received",
            "Points, events and logs that came in.",
            merged(received),
        )?;
        counters(
            encoder,
            "dichroic_ingest_applied",
            "Those that reached a cell or a stream.",
            merged(applied),
        )?;
        counters(
            encoder,
            "dichroic_ingest_dropped",
            "Those that were dropped, by reason.",
            merged(dropped),
        )
    }

    fn exporters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let hops: Vec<_> = self
            .ledger
            .hops()
            .map(|(name, hop)| ([("exporter", name)], hop.read()))
            .collect();
        let column =
            |pick: fn(&(u64, u64, u64, u64)) -> u64| hops.iter().map(|(l, hop)| (*l, pick(hop))).collect();
        counters(
            encoder,
            "dichroic_exporter_offered",
            "Rows given to an exporter.",
            column(|hop| hop.0),
        )?;
        counters(
            encoder,
            "dichroic_exporter_sent",
            "Rows that left an exporter.",
            column(|hop| hop.1),
        )?;
        counters(
            encoder,
            "dichroic_exporter_dropped",
            "Rows lost in an exporter.",
            column(|hop| hop.2),
        )
    }

    /// Every term of a relay's own account is a family: `dichroic_relay_rows_sent_total{source,event}` and so on.
    fn relays(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut families: BTreeMap<&str, Vec<(Labels, u64)>> = BTreeMap::new();
        for (source, terms) in self.ledger.relays() {
            let name = self.ledger.source_name(source).map_or("", |(_, name)| name);
            for (term, value) in terms {
                let mut labels = vec![("source", name.to_owned())];
                labels.extend(term.labels.iter().cloned());
                families.entry(term.name).or_default().push((labels, *value));
            }
        }
        for (family, rows) in families {
            let help = "A term of the relays' own accounts, as they last said.";
            counters(encoder, &format!("dichroic_relay_{family}"), help, merged(rows))?;
        }
        Ok(())
    }

    fn latencies(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = prometheus_client::metrics::MetricType::Histogram;
        let help = "How long a stage took.";
        let mut family = encoder.encode_descriptor("dichroic_stage_duration_seconds", help, None, kind)?;
        for stage in &self.stages {
            let (sum, count, buckets) = stage.read();
            family
                .encode_family(&[("stage", stage.name)])?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

type Labels = Vec<(&'static str, String)>;

fn merged<L: Ord>(rows: Vec<(L, u64)>) -> Vec<(L, u64)> {
    let mut sums = BTreeMap::new();
    rows.into_iter()
        .for_each(|(labels, n)| *sums.entry(labels).or_insert(0) += n);
    sums.into_iter().collect()
}

/// What the kernel says of this process.
struct Process {
    cpu_seconds: f64,
    resident_bytes: f64,
    open_fds: f64,
    start_seconds: f64,
}

impl Process {
    fn read(start_seconds: f64) -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The command's name may hold spaces: fields are counted from behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        Process {
            cpu_seconds: (number(11) + number(12)) / ticks,
            resident_bytes: number(21) * rustix::param::page_size() as f64,
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count()) as f64,
            start_seconds,
        }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let cpu = ConstCounter::new(self.cpu_seconds);
        let help = "User and system CPU time of the collector.";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        gauge(
            encoder,
            "process_resident_memory_bytes",
            "Resident memory of the collector.",
            self.resident_bytes,
        )?;
        gauge(
            encoder,
            "process_open_fds",
            "Open file descriptors of the collector.",
            self.open_fds,
        )?;
        let help = "When the collector started, since the Unix epoch.";
        gauge(encoder, "process_start_time_seconds", help, self.start_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dichroic_model::resolve::Identity;
    use dichroic_model::{Limits, SourceId};
    use dichroic_pipeline::{DropReason, RelayTerm, Signal};
    use dichroic_receiver_prometheus::ingest::{Exposition, Format, Moment, Page, PageLimits};

    #[test]
    fn the_page_shows_the_ledger_the_limits_and_the_process() {
        let mut store = Store::new(Limits::default(), Arc::new(Identity), 1);
        store.ledger_mut().received(SourceId(0), Signal::Metrics, 3);
        store
            .ledger_mut()
            .dropped(SourceId(0), Signal::Metrics, DropReason::SeriesLimit, 1);
        let stage = Stage::new("page");
        stage.record(Duration::from_micros(200));
        let page = Own::new(vec![stage], Duration::from_secs(7)).page(&store, Vec::new());
        for line in [
            r#"dichroic_ingest_received_total{source="collector",protocol="internal",signal="metrics"} 3"#,
            r#"reason="series_limit"} 1"#,
            r#"dichroic_stage_duration_seconds_bucket{le="0.0005",stage="page"} 1"#,
            r#"dichroic_stage_duration_seconds_bucket{le="+Inf",stage="page"} 1"#,
            "process_start_time_seconds 7.0",
            "# EOF",
        ] {
            assert!(page.contains(line), "{line} not in\n{page}");
        }
    }

    #[test]
    fn terms_of_relays_become_families_with_labels() {
        let mut store = Store::new(Limits::default(), Arc::new(Identity), 1);
        let source = store.open_source(crate::ingest::own_source(), 1).unwrap().id;
        let labels = [("event", "a \"b\"".to_owned()), ("reason", "overload".to_owned())];
        let ledger = store.ledger_mut();
        ledger.relay(source, RelayTerm::new("rows_dropped", labels), 4);
        ledger.relay(source, "reattached", 2);
        let page = Own::new(Vec::new(), Duration::ZERO).page(&store, Vec::new());
        for line in [
            r#"dichroic_relay_reattached_total{source="dichroic"} 2"#,
            r#"dichroic_relay_rows_dropped_total{source="dichroic",event="a \"b\"",reason="overload"} 4"#,
        ] {
            assert!(page.contains(line), "{line} not in\n{page}");
        }
    }

    #[test]
    fn our_own_receiver_takes_the_page() {
        let store = std::cell::RefCell::new(Store::new(Limits::default(), Arc::new(Identity), 1));
        let source = store
            .borrow_mut()
            .open_source(crate::ingest::own_source(), 2)
            .unwrap();
        let page = Own::new(vec![Stage::new("page"), Stage::new("tick")], Duration::ZERO)
            .page(&store.borrow(), Vec::new());
        let exposition = Exposition {
            body: page.as_bytes(),
            format: Format::OpenMetrics { quoted_names: false },
            limits: PageLimits::default(),
            moment: Moment {
                scraped: 2,
                now: 2,
                honor_timestamps: false,
            },
        };
        let read = Page::default().ingest(&store, &source, &exposition).unwrap();
        assert!(
            read.applied > 10 && read.applied == read.samples,
            "{read:?}\n{page}"
        );
    }
}
