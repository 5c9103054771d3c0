//! A scraped page with everything that decides how it is read.

use dichroic_model::UnixNanos;

use super::content_type;
use super::error::PageError;
use crate::protocol::ScrapeProtocol;

/// Format of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, quoted names included.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics {
        /// Names in quotes are announced: the content type has `escaping=allow-utf-8`.
        quoted_names: bool,
        /// Violations refuse the page; otherwise Prometheus's own parser decides.
        strict: bool,
    },
}

impl Format {
    /// The format of a `Content-Type`, as Prometheus 3 decides it: `fallback` is used if the type is missing, invalid or unsupported.
    ///
    /// # Errors
    /// [`PageError::ContentType`] without a fallback.
    pub fn of(
        content_type: Option<&str>,
        fallback: Option<ScrapeProtocol>,
        strict: bool,
    ) -> Result<Self, PageError> {
        let content_type = content_type.unwrap_or_default();
        let parsed = content_type::parse(content_type);
        let parameter = |name: &str| parsed.as_ref().and_then(|parsed| parsed.parameter(name));
        match parsed.as_ref().map(|parsed| parsed.media_type.as_str()) {
            Some("text/plain") => return Ok(Self::Text),
            // Prometheus reads version 2 behind a feature flag only.
            Some("application/openmetrics-text") if parameter("version") != Some("2.0.0") => {
                return Ok(Self::OpenMetrics {
                    quoted_names: parameter("escaping") == Some("allow-utf-8"),
                    strict,
                });
            }
            _ => {}
        }
        match fallback {
            Some(protocol) if protocol.is_openmetrics() => Ok(Self::OpenMetrics {
                quoted_names: false,
                strict,
            }),
            Some(_) => Ok(Self::Text),
            None => Err(PageError::ContentType(content_type.chars().take(100).collect())),
        }
    }
}

/// Limits on one page. With 0 only [`MAX_SAMPLES`] and the store's limits apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageLimits {
    /// Most samples.
    pub samples: usize,
    /// Most labels of a series, its name and the labels of its target included, as Prometheus counts.
    pub labels: usize,
    /// Labels of the target.
    pub target_labels: usize,
    /// Most bytes of a label's name.
    pub label_name_bytes: usize,
    /// Most bytes of a label's value.
    pub label_value_bytes: usize,
}

/// Most samples of a page under any configuration: a bound on the memory per target.
pub const MAX_SAMPLES: usize = 1_000_000;

impl PageLimits {
    pub(super) fn max_samples(&self) -> usize {
        if self.samples == 0 {
            MAX_SAMPLES
        } else {
            self.samples.min(MAX_SAMPLES)
        }
    }
}

/// The time of a scrape, and whether timestamps on the page are used.
#[derive(Debug, Clone, Copy)]
pub struct ScrapeTimes {
    /// Start of the scrape: the time of every sample without a timestamp.
    pub scraped: UnixNanos,
    /// The current time, for the store's expiry.
    pub now: UnixNanos,
    /// Whether timestamps on the page are used (Prometheus `honor_timestamps`).
    pub honor_timestamps: bool,
}

/// The page of one scrape with its settings.
#[derive(Debug, Clone, Copy)]
pub struct Exposition<'a> {
    /// The decompressed body.
    pub body: &'a [u8],
    /// Format of the body.
    pub format: Format,
    /// Limits on the page.
    pub limits: PageLimits,
    /// Times of the scrape.
    pub times: ScrapeTimes,
}
