//! The three services of OTLP, one per signal.

/// A service of OTLP: one gRPC service, one HTTP path, one request message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// `MetricsService`, `/v1/metrics`.
    Metrics,
    /// `LogsService`, `/v1/logs`.
    Logs,
    /// `TraceService`, `/v1/traces`.
    Traces,
}

impl Service {
    /// Every service.
    pub const ALL: [Service; 3] = [Service::Metrics, Service::Logs, Service::Traces];

    /// The signal, as in "a metrics request".
    pub fn noun(self) -> &'static str {
        match self {
            Service::Metrics => "metrics",
            Service::Logs => "logs",
            Service::Traces => "traces",
        }
    }

    /// The items that its requests hold, in the plural.
    pub fn items(self) -> &'static str {
        match self {
            Service::Metrics => "data points",
            Service::Logs => "log records",
            Service::Traces => "spans",
        }
    }
}
