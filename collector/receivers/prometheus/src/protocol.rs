//! The formats of a page, by the names of Prometheus.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A format of pages, as Prometheus names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ScrapeProtocol {
    /// Prometheus text 0.0.4.
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText0_0_4,
    /// Prometheus text 1.0.0, which has quoted names.
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1_0_0,
    /// OpenMetrics 0.0.1.
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0_0_1,
    /// OpenMetrics 1.0.0.
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText1_0_0,
}

impl ScrapeProtocol {
    /// Prometheus's default, in its order.
    pub const DEFAULT: [Self; 4] = [
        Self::OpenMetricsText1_0_0,
        Self::OpenMetricsText0_0_1,
        Self::PrometheusText1_0_0,
        Self::PrometheusText0_0_4,
    ];

    /// Whether it is a version of OpenMetrics.
    pub fn is_openmetrics(self) -> bool {
        matches!(self, Self::OpenMetricsText0_0_1 | Self::OpenMetricsText1_0_0)
    }

    pub(crate) fn media_range(self) -> &'static str {
        match self {
            Self::PrometheusText0_0_4 => "text/plain;version=0.0.4",
            Self::PrometheusText1_0_0 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            Self::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            Self::OpenMetricsText1_0_0 => "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
        }
    }
}
