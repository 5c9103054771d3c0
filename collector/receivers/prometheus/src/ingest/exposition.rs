//! A scraped page with everything that decides how it is read.

use dichroic_model::UnixNanos;

use super::error::PageError;

/// Format of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, quoted names included.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics {
        /// Names in quotes are allowed: the content type has `escaping=allow-utf-8`.
        quoted_names: bool,
    },
}

impl Format {
    /// The format of a `Content-Type`. A missing header means text, as old exporters send it.
    ///
    /// # Errors
    /// [`PageError::ContentType`] for any other type.
    pub fn of(content_type: Option<&str>) -> Result<Self, PageError> {
        let Some(content_type) = content_type.map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(Self::Text);
        };
        let mut parts = content_type
            .split(';')
            .map(|part| part.trim().to_ascii_lowercase());
        match parts.next().as_deref() {
            Some("text/plain") => Ok(Self::Text),
            Some("application/openmetrics-text") => {
                let quoted_names = parts.any(|part| part.replace([' ', '"'], "") == "escaping=allow-utf-8");
                Ok(Self::OpenMetrics { quoted_names })
            }
            _ => Err(PageError::ContentType(content_type.chars().take(100).collect())),
        }
    }
}

/// Limits on one page. With 0 only [`MAX_SAMPLES`] and the store's limits apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageLimits {
    /// Most samples.
    pub samples: usize,
    /// Most labels of a sample, its name included, as Prometheus counts.
    pub labels: usize,
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
