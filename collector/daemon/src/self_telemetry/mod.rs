//! The collector's own metrics: source `dichroic`, written into the same store as all other metrics and exported with them.

pub mod otlp;
mod process;
pub mod stage;
mod writer;

use crate::admin::api;
use crate::admin::responses::Responses;
use crate::limit_drops::LimitLog;
use crate::logging;
use dichroic_model::{MetricKind, Number, Source, UnixNanos};
use dichroic_pipeline::budget::{Part, Shortage};
use dichroic_pipeline::{Core, Hop, Ledger, RefusedReason};
use process::Process;
pub use stage::{Stage, Stages};
use std::sync::Arc;
use std::time::{Duration, Instant};
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

/// A family for each counter of the relays, such as `dichroic_relay_rows_sent_total{source,event}`.
const fn relay_term(name: &'static str) -> Family {
    Family {
        prefix: "dichroic_relay_",
        name,
        help: "A counter of the relays, as they last reported it.",
        kind: MetricKind::COUNTER,
    }
}

const RECEIVED: Family = counter("ingest_received", "Points, events and log records received.");
const APPLIED: Family = counter(
    "ingest_applied",
    "Points, events and log records applied to a series on the page or published to a stream.",
);
const HIDDEN: Family = counter(
    "ingest_hidden",
    "Points applied to a series that is not on the page, by reason.",
);
const DROPPED: Family = counter(
    "ingest_dropped",
    "Points, events and log records dropped, by reason.",
);
const REQUESTS: Family = counter("requests_received", "Requests that senders pushed.");
const ACCEPTED: Family = counter("requests_accepted", "Requests that were accepted as a whole.");
const PARTIAL: Family = counter(
    "requests_partial",
    "Requests that were accepted, with items that were dropped.",
);
const REFUSED_REQUESTS: Family = counter("requests_refused", "Requests that were refused, by reason.");
const OFFERED: Family = counter("exporter_offered", "Rows offered to an exporter.");
const SENT: Family = counter("exporter_sent", "Rows sent by an exporter.");
const LOST: Family = counter("exporter_dropped", "Rows dropped by an exporter.");
const WARNINGS: Family = counter(
    "warnings",
    "Conditions that lose no data but may need attention, by kind.",
);
const VIOLATIONS: Family = counter(
    "violations",
    "Violations of OpenMetrics on scraped pages that are kept all the same, by reason.",
);
const PAGES: Family = counter("pages", "Pages for scrapers, by result.");
const CUT: Family = counter(
    "responses_cut",
    "HTTP responses that were cut off because the peer did not read them in time, by listener and reason.",
);
const REFUSED: Family = counter(
    "connections_refused",
    "Refused connections of relays and subscribers, and refused requests to the page and the admin API.",
);
const EXPORTED: Family = counter(
    "telemetry_sent",
    "The collector's own spans and log records that the OTLP endpoint accepted.",
);
const NOT_EXPORTED: Family = counter(
    "telemetry_dropped",
    "The collector's own spans and log records that were not exported, by reason.",
);
const LOG_LOST: Family = counter(
    "log_lines_dropped",
    "Lines of the collector's log that were not written, by reason.",
);
const PANICS: Family = counter(
    "task_panics",
    "Tasks and threads of the collector that ended by a panic, by task.",
);
const SERIES: Family = gauge("series", "Live series.");
const SERIES_LIMIT: Family = gauge("series_limit", "Largest number of live series (limits.series).");
const BYTES: Family = gauge(
    "series_bytes",
    "Memory of series, labels and tables, as accounted.",
);
const BYTES_LIMIT: Family = gauge("series_bytes_limit", "Largest accounted memory (limits.memory).");
const IN_FLIGHT: Family = gauge(
    "in_flight_bytes",
    "Memory reserved for data in flight and queued, by part.",
);
const IN_FLIGHT_PEAK: Family = gauge(
    "in_flight_peak_bytes",
    "The most memory that was reserved at a time since the start, by part.",
);
const IN_FLIGHT_LIMIT: Family = gauge(
    "in_flight_bytes_limit",
    "Largest memory of all data in flight and queued (limits.in_flight).",
);
const IN_FLIGHT_REFUSED: Family = counter(
    "in_flight_refused",
    "Reservations of memory that were refused, by part and reason.",
);
const SOURCES: Family = gauge(
    "sources",
    "Open sources, and closed ones whose series have not expired.",
);
const SUBSCRIBERS: Family = gauge("subscribers", "Subscribers of events and logs.");
const DURATION: Family = family(
    "stage_duration_seconds",
    MetricKind::Histogram,
    "Duration of a stage.",
);
const QUANTILES: Family = family(
    "stage_duration_quantile_seconds",
    MetricKind::Summary,
    "Quantiles of the duration of a stage since the start, to two significant digits.",
);
const BUILD: Family = gauge("build_info", "Version of the collector.");
// The texts of Prometheus's client libraries: scraped processes share these families.
const CPU: Family = of_process(
    "cpu_seconds",
    MetricKind::COUNTER,
    "Total user and system CPU time spent in seconds.",
);
const RESIDENT: Family = of_process(
    "resident_memory_bytes",
    MetricKind::Gauge,
    "Resident memory size in bytes.",
);
const FDS: Family = of_process("open_fds", MetricKind::Gauge, "Number of open file descriptors.");
const START: Family = of_process(
    "start_time_seconds",
    MetricKind::Gauge,
    "Start time of the process since unix epoch in seconds.",
);

/// (listener, reason, connections)
pub type RefusedConnections = Vec<(&'static str, &'static str, u64)>;

/// Reads the collector's counters and writes them into the store.
pub struct SelfTelemetry {
    writer: Writer,
    stages: Stages,
    /// Counts of the OTLP export, if it is configured.
    exported: Option<otlp::Counts>,
    log: logging::Output,
    limits: LimitLog,
    responses: Arc<Responses>,
    started: Duration,
}

impl SelfTelemetry {
    /// Writes series of `source`. `started` is the Unix time of the start.
    pub fn new(
        core: &Core,
        source: Arc<Source>,
        stages: Stages,
        exported: Option<otlp::Counts>,
        log: logging::Output,
        started: Duration,
    ) -> Self {
        SelfTelemetry {
            writer: Writer::new(core, source),
            stages,
            exported,
            log,
            limits: LimitLog::default(),
            responses: Arc::default(),
            started,
        }
    }

    /// Counts of pages and responses.
    pub fn with_responses(mut self, responses: Arc<Responses>) -> Self {
        self.responses = responses;
        self
    }

    /// Reads everything once and writes it.
    pub fn record(&mut self, core: &mut Core, refused: &RefusedConnections, now: UnixNanos) {
        self.limits.log(core.ledger(), core.budget(), Instant::now());
        self.writer.begin(core);
        // First: what states that a limit is reached is admitted before the rest.
        self.usage(core);
        self.ingest(core.ledger());
        self.requests(core.ledger());
        self.violations(core.ledger());
        self.exporters(core.ledger());
        self.relays(core.ledger());
        for (kind, n) in api::warnings(core.warnings()) {
            self.writer.count(&WARNINGS, &[("kind", kind)], n);
        }
        for (listener, reason, n) in refused {
            let labels = [("listener", *listener), ("reason", *reason)];
            self.writer.count(&REFUSED, &labels, *n);
        }
        self.responses();
        self.latencies();
        self.export();
        for (reason, n) in self.log.lost() {
            self.writer.count(&LOG_LOST, &[("reason", reason)], n);
        }
        for (task, n) in dichroic_tasks::panics() {
            self.writer.count(&PANICS, &[("task", task.as_str())], n);
        }
        self.process();
        self.writer.finish(core, now);
    }

    fn ingest(&mut self, ledger: &Ledger) {
        for (source, signal, account) in ledger.accounts() {
            let (protocol, name) = ledger.source_name(source).unwrap_or(("internal", "collector"));
            let source = ("source", name);
            let protocol = ("protocol", protocol);
            let signal = ("signal", signal.as_str());
            let labels = [source, protocol, signal];
            self.writer.count(&RECEIVED, &labels, account.received);
            self.writer.count(&APPLIED, &labels, account.applied_peak());
            for (reason, n) in account.hidden_peaks() {
                let labels = [source, protocol, signal, ("reason", reason.as_str())];
                self.writer.count(&HIDDEN, &labels, n);
            }
            for (reason, n) in account.drops() {
                let labels = [source, protocol, signal, ("reason", reason.as_str())];
                self.writer.count(&DROPPED, &labels, n);
            }
        }
    }

    fn requests(&mut self, ledger: &Ledger) {
        for (endpoint, account) in ledger.requests.accounts() {
            let labels = [("transport", endpoint.transport), ("signal", endpoint.signal)];
            self.writer.count(&REQUESTS, &labels, account.received);
            self.writer.count(&ACCEPTED, &labels, account.accepted);
            self.writer.count(&PARTIAL, &labels, account.partial);
            // Zeros too, so that the first refusal is an increase.
            for reason in RefusedReason::ALL {
                let labels = [labels[0], labels[1], ("reason", reason.as_str())];
                self.writer
                    .count(&REFUSED_REQUESTS, &labels, account.refused_for(*reason));
            }
        }
    }

    fn violations(&mut self, ledger: &Ledger) {
        for (source, reason, n) in ledger.violations() {
            let (_, name) = ledger.source_name(source).unwrap_or(("internal", "collector"));
            self.writer
                .count(&VIOLATIONS, &[("source", name), ("reason", reason)], n);
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

    fn usage(&mut self, core: &Core) {
        let limits = core.limits();
        for (family, value) in [
            (&SERIES, core.series()),
            (&SERIES_LIMIT, limits.series),
            (&BYTES, core.bytes()),
            (&BYTES_LIMIT, limits.memory_bytes),
            (&IN_FLIGHT_LIMIT, limits.in_flight_bytes),
            (&SOURCES, core.sources().count()),
            (&SUBSCRIBERS, core.subscribers()),
        ] {
            self.writer.count(family, &[], value as u64);
        }
        for part in Part::ALL {
            let (usage, part) = (core.budget().usage(part), ("part", part.as_str()));
            self.writer.count(&IN_FLIGHT, &[part], usage.used as u64);
            self.writer.count(&IN_FLIGHT_PEAK, &[part], usage.peak as u64);
            // Zeros too, so that the first refusal is an increase.
            for (reason, n) in Shortage::ALL.iter().zip(usage.refused) {
                let labels = [part, ("reason", reason.as_str())];
                self.writer.count(&IN_FLIGHT_REFUSED, &labels, n);
            }
        }
    }

    fn responses(&mut self) {
        for (result, n) in self.responses.pages() {
            self.writer.count(&PAGES, &[("result", result)], n);
        }
        for (listener, reason, n) in self.responses.cuts() {
            let labels = [("listener", listener), ("reason", reason)];
            self.writer.count(&CUT, &labels, n);
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
