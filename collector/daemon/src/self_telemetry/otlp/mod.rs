//! Sends the collector's own traces and logs to the OTLP endpoint of `telemetry.otlp`.
//!
//! Spans and log records of all threads go into two bounded queues ([`queue`]), which a separate thread exports once a second. A full
//! queue, a failed export and the shutdown deadline lose spans and log records, which are counted; they have no other effect. Only spans
//! and events of this program's crates are exported, except those of this module: an export must not cause further exports.

mod client;
mod queue;

use crate::config::telemetry::OtlpExport;
use client::{Client, TIMEOUT};
use dichroic_tasks::{Kind, Panicked, Stopped, restarting};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    LogExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _, SdkLoggerProvider};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanExporter as _};
pub use queue::Counts;
use queue::{Logs, Queue, Record, Span};
use std::cell::Cell;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Interval between two exports.
const INTERVAL: Duration = Duration::from_secs(1);
/// Largest number of spans or log records in a request.
const BATCH: usize = 512;

/// A layer of the subscriber that [`crate::logging`] installs.
pub type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The running export. [`Export::finish`] ends its thread; dropping it does not.
pub struct Export {
    spans: Arc<Queue<Span>>,
    logs: Arc<Queue<Record>>,
    stop: watch::Sender<Option<Instant>>,
    thread: JoinHandle<Result<(), Panicked>>,
}

/// Starts the thread, which connects when there is something to send.
pub fn start(config: &OtlpExport) -> Result<Export, String> {
    let (stop, stopped) = watch::channel(None);
    let (spans, logs) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
    let worker = Worker::new(config, spans.clone(), logs.clone())
        .map_err(|error| format!("telemetry.otlp: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let thread = dichroic_tasks::thread(Kind::TelemetryExport, move || {
        let run = restarting(Kind::TelemetryExport, String::new(), async || {
            worker.run(stopped.clone()).await
        });
        runtime.block_on(run);
        // A pending name lookup must not delay the exit.
        runtime.shutdown_background();
    });
    let thread = thread.map_err(|error| error.to_string())?;
    Ok(Export {
        spans,
        logs,
        stop,
        thread,
    })
}

impl Export {
    /// Layers that fill the queues: with spans up to `INFO`, and with events that `filter` accepts.
    pub fn layers(&self, filter: EnvFilter) -> Vec<BoxedLayer> {
        let tracer = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource())
            .with_span_processor(queue::Spans(self.spans.clone()))
            .build()
            .tracer("dichroic");
        let logger = SdkLoggerProvider::builder()
            .with_resource(resource())
            .with_log_processor(Logs(self.logs.clone()))
            .build();
        let traces = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|meta| {
                meta.is_span() && *meta.level() <= Level::INFO && is_exported(meta)
            }));
        let events = filter.and(filter_fn(|meta| meta.is_event() && is_exported(meta)));
        let logs = OpenTelemetryTracingBridge::new(&logger).with_filter(events);
        vec![traces.boxed(), logs.boxed()]
    }

    /// Counts of sent and dropped spans and log records.
    pub fn counts(&self) -> Counts {
        Counts {
            traces: self.spans.counts.clone(),
            logs: self.logs.counts.clone(),
        }
    }

    /// Exports the queued items within the deadline, and ends the thread.
    pub fn finish(self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
        let _ = self.thread.join();
    }
}

/// Whether it is of this program, and not of the export itself.
fn is_exported(meta: &Metadata<'_>) -> bool {
    meta.target().starts_with("dichroic") && !meta.target().starts_with(module_path!())
}

fn resource() -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "dichroic"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ])
        .build()
}

/// The thread's work.
struct Worker {
    client: Arc<Client>,
    span_exporter: SpanExporter,
    log_exporter: LogExporter,
    spans: Arc<Queue<Span>>,
    logs: Arc<Queue<Record>>,
    /// Whether the last export failed.
    failing: Cell<bool>,
}

impl Worker {
    fn new(
        config: &OtlpExport,
        spans: Arc<Queue<Span>>,
        logs: Arc<Queue<Record>>,
    ) -> Result<Self, opentelemetry_otlp::ExporterBuildError> {
        let client = Arc::new(Client::new(config));
        // The client replaces the host; only the path is used.
        let mut span_exporter = SpanExporter::builder()
            .with_http()
            .with_shared_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint("http://endpoint/v1/traces")
            .with_timeout(TIMEOUT)
            .with_retry_policy(RetryPolicy::recommended())
            .build()?;
        let mut log_exporter = LogExporter::builder()
            .with_http()
            .with_shared_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint("http://endpoint/v1/logs")
            .with_timeout(TIMEOUT)
            .with_retry_policy(RetryPolicy::recommended())
            .build()?;
        span_exporter.set_resource(&resource());
        log_exporter.set_resource(&resource());
        Ok(Worker {
            client,
            span_exporter,
            log_exporter,
            spans,
            logs,
            failing: Cell::new(false),
        })
    }

    async fn run(&self, stop: watch::Receiver<Option<Instant>>) -> Stopped {
        let mut deadline = stop.clone();
        let limit = async {
            let deadline = match deadline.wait_for(Option::is_some).await {
                Ok(deadline) => deadline.unwrap_or_else(Instant::now),
                Err(_) => Instant::now(),
            };
            tokio::time::sleep_until(deadline.into()).await;
        };
        tokio::select! {
            biased;
            () = self.export_until(stop) => {}
            () = limit => {}
        }
        self.spans.abandon();
        self.logs.abandon();
        Stopped
    }

    /// Exports at each interval, and once more after `stop`.
    async fn export_until(&self, mut stop: watch::Receiver<Option<Instant>>) {
        loop {
            let last = tokio::select! {
                () = tokio::time::sleep(INTERVAL) => false,
                _ = stop.changed() => true,
            };
            self.export_spans().await;
            self.export_logs().await;
            if last {
                return;
            }
        }
    }

    /// Exports until the queue is empty or an export fails; the next interval continues.
    async fn export_spans(&self) {
        loop {
            let batch: Vec<_> = self.spans.take(BATCH).into_iter().map(|span| *span).collect();
            if batch.is_empty() {
                return;
            }
            let result = self.span_exporter.export(batch).await;
            self.spans.exported(result.is_ok());
            if !self.report(result.err()) {
                return;
            }
        }
    }

    async fn export_logs(&self) {
        loop {
            let batch = self.logs.take(BATCH);
            if batch.is_empty() {
                return;
            }
            let borrowed: Vec<_> = batch.iter().map(|record| (&record.0, &record.1)).collect();
            let result = self.log_exporter.export(LogBatch::new(&borrowed)).await;
            self.logs.exported(result.is_ok());
            if !self.report(result.err()) {
                return;
            }
        }
    }

    /// Logs when exports begin to fail or succeed again. Returns whether this one succeeded.
    fn report(&self, error: Option<OTelSdkError>) -> bool {
        let failed = error.is_some();
        if self.failing.replace(failed) != failed {
            match &error {
                Some(error) => tracing::warn!(
                    error = self.client.failure().unwrap_or_else(|| error.to_string()),
                    "cannot export the collector's own traces and logs, which are dropped; check telemetry.otlp.endpoint"
                ),
                None => tracing::info!("export of the collector's own traces and logs succeeds again"),
            }
        }
        !failed
    }
}

#[cfg(test)]
mod tests;
