//! The collector's own metrics: source `dichroic`, written into the same store as everything else, so that one exporter shows all.

pub mod otlp;
mod process;
pub mod stage;
mod writer;

use crate::admin::api;
use dichroic_model::{MetricKind, Number, Source, UnixNanos};
use dichroic_pipeline::{Core, Hop, Ledger};
use process::Process;
pub use stage::{Stage, Stages};
use std::sync::Arc;
use std::time::Duration;
use writer::{Family, Writer};

const fn family(name: &'static str, kind: MetricKind, help: &'static str) -> Family {
    Family {
        prefix: "dichroic_",
        name,
        help,
        kind,
    }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    family(name, MetricKind::COUNTER, help)
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    family(name, MetricKind::Gauge, help)
}

const fn of_process(name: &'static str, kind: MetricKind, help: &'static str) -> Family {
    Family {
        prefix: "process_",
        name,
        help,
        kind,
    }
}

/// A family for each term of the relays' own accounts: `dichroic_relay_rows_sent_total{source,event}` and so on.
const fn relay_term(name: &'static str) -> Family {
    Family {
        prefix: "dichroic_relay_",
        name,
        help: "A term of the relays' own accounts, as they last said.",
        kind: MetricKind::COUNTER,
    }
}

const RECEIVED: Family = counter("ingest_received", "Points, events and logs that came in.");
const APPLIED: Family = counter(
    "ingest_applied",
    "Those that reached a series on the page, or a stream.",
);
const HIDDEN: Family = counter(
    "ingest_hidden",
    "Those that reached a series that no page shows, by reason.",
);
const DROPPED: Family = counter("ingest_dropped", "Those that were dropped, by reason.");
const OFFERED: Family = counter("exporter_offered", "Rows given to an exporter.");
const SENT: Family = counter("exporter_sent", "Rows that left an exporter.");
const LOST: Family = counter("exporter_dropped", "Rows lost in an exporter.");
const WARNINGS: Family = counter("warnings", "Conditions that lose nothing but deserve a look.");
const REFUSED: Family = counter(
    "connections_refused",
    "Connections of relays and subscribers that were refused, by listener and reason.",
);
const EXPORTED: Family = counter(
    "telemetry_sent",
    "Own spans and log records that the OTLP endpoint accepted.",
);
const NOT_EXPORTED: Family = counter(
    "telemetry_dropped",
    "Own spans and log records that were not exported, by reason.",
);
const SERIES: Family = gauge("series", "Live series.");
const SERIES_LIMIT: Family = gauge("series_limit", "Series that may live at once.");
const BYTES: Family = gauge("series_bytes", "Accounted bytes of series, labels and tables.");
const BYTES_LIMIT: Family = gauge("series_bytes_limit", "Accounted bytes that may be used.");
const SOURCES: Family = gauge("sources", "Sources that are open or linger.");
const SUBSCRIBERS: Family = gauge("subscribers", "Subscribers of events and logs.");
const DURATION: Family = family(
    "stage_duration_seconds",
    MetricKind::Histogram,
    "How long a stage took.",
);
const QUANTILES: Family = family(
    "stage_duration_quantile_seconds",
    MetricKind::Summary,
    "Quantiles of how long a stage took, since the start, to two digits.",
);
const BUILD: Family = gauge("build_info", "The collector's version.");
const CPU: Family = of_process(
    "cpu_seconds",
    MetricKind::COUNTER,
    "User and system CPU time of the collector.",
);
const RESIDENT: Family = of_process(
    "resident_memory_bytes",
    MetricKind::Gauge,
    "Resident memory of the collector.",
);
const FDS: Family = of_process(
    "open_fds",
    MetricKind::Gauge,
    "Open file descriptors of the collector.",
);
const START: Family = of_process(
    "start_time_seconds",
    MetricKind::Gauge,
    "When the collector started, since the Unix epoch.",
);

/// (listener, reason, connections)
pub type RefusedConnections = Vec<(&'static str, &'static str, u64)>;

/// Reads what is counted in the collector and writes it into the store.
pub struct SelfTelemetry {
    writer: Writer,
    stages: Stages,
    /// Of the export of own traces and logs, where it is configured.
    exported: Option<otlp::Counts>,
    started: Duration,
}

impl SelfTelemetry {
    /// Writes as `source`, with these stages. `started` is the Unix time of the start.
    pub fn new(
        store: &Core,
        source: Arc<Source>,
        stages: Stages,
        exported: Option<otlp::Counts>,
        started: Duration,
    ) -> Self {
        SelfTelemetry {
            writer: Writer::new(store, source),
            stages,
            exported,
            started,
        }
    }

    /// Reads everything once and writes it.
    pub fn record(&mut self, store: &mut Core, refused: &RefusedConnections, now: UnixNanos) {
        self.writer.begin(store);
        self.ingest(store.ledger());
        self.exporters(store.ledger());
        self.relays(store.ledger());
        for (kind, n) in api::warnings(store.warnings()) {
            self.writer.count(&WARNINGS, &[("kind", kind)], n);
        }
        for (listener, reason, n) in refused {
            let labels = [("listener", *listener), ("reason", *reason)];
            self.writer.count(&REFUSED, &labels, *n);
        }
        self.store(store);
        self.latencies();
        self.export();
        self.process();
        self.writer.finish(store, now);
    }

    fn ingest(&mut self, ledger: &Ledger) {
        for (source, signal, account) in ledger.accounts() {
            let (protocol, name) = ledger.source_name(source).unwrap_or(("internal", "collector"));
            let source = ("source", name);
            let protocol = ("protocol", protocol);
            let signal = ("signal", signal.as_str());
            let labels = [source, protocol, signal];
            self.writer.count(&RECEIVED, &labels, account.received);
            self.writer.count(&APPLIED, &labels, account.applied);
            for (reason, n) in account.hides() {
                let labels = [source, protocol, signal, ("reason", reason.as_str())];
                self.writer.count(&HIDDEN, &labels, n);
            }
            for (reason, n) in account.drops() {
                let labels = [source, protocol, signal, ("reason", reason.as_str())];
                self.writer.count(&DROPPED, &labels, n);
            }
        }
    }

    fn exporters(&mut self, ledger: &Ledger) {
        for (name, hop) in ledger.hops() {
            let (offered, sent, dropped, _) = Hop::read(hop);
            let labels = [("exporter", name)];
            self.writer.count(&OFFERED, &labels, offered);
            self.writer.count(&SENT, &labels, sent);
            self.writer.count(&LOST, &labels, dropped);
        }
    }

    fn relays(&mut self, ledger: &Ledger) {
        let mut labels = Vec::new();
        for (source, terms) in ledger.relays() {
            let name = ledger.source_name(source).map_or("", |(_, name)| name);
            for (term, value) in terms {
                labels.clear();
                labels.push(("source", name));
                labels.extend(term.labels.iter().map(|(name, value)| (*name, value.as_str())));
                self.writer.count(&relay_term(term.name), &labels, *value);
            }
        }
    }

    fn store(&mut self, store: &Core) {
        let limits = store.limits();
        for (family, value) in [
            (&SERIES, store.series()),
            (&SERIES_LIMIT, limits.series),
            (&BYTES, store.bytes()),
            (&BYTES_LIMIT, limits.memory_bytes),
            (&SOURCES, store.sources().count()),
            (&SUBSCRIBERS, store.subscribers()),
        ] {
            self.writer.count(family, &[], value as u64);
        }
    }

    fn latencies(&mut self) {
        for reading in self.stages.read() {
            let stage = ("stage", reading.name);
            self.writer.latency(&DURATION, &[stage], &reading);
            if reading.count() > 0 {
                self.writer.quantiles(&QUANTILES, &[stage], &reading);
            }
        }
    }

    fn export(&mut self) {
        let Some(exported) = &self.exported else { return };
        for (signal, counts) in [("traces", &exported.traces), ("logs", &exported.logs)] {
            let signal = ("signal", signal);
            self.writer.count(&EXPORTED, &[signal], counts.sent());
            for (reason, n) in counts.dropped() {
                self.writer.count(&NOT_EXPORTED, &[signal, ("reason", reason)], n);
            }
        }
    }

    fn process(&mut self) {
        let process = Process::read();
        self.writer.number(&CPU, &[], Number::float(process.cpu_seconds));
        self.writer.count(&RESIDENT, &[], process.resident_bytes);
        self.writer.count(&FDS, &[], process.open_fds);
        self.writer
            .number(&START, &[], Number::float(self.started.as_secs_f64()));
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        self.writer.count(&BUILD, &version, 1);
    }
}

#[cfg(test)]
mod tests;
