//! A scraped page with everything that decides how it is read.

use dichroic_model::UnixNanos;

use super::error::PageError;

/// What the body of a scrape is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4, quoted names included.
    Text,
    /// OpenMetrics 1.0; with names in quotes if the content type announced them.
    OpenMetrics { quoted_names: bool },
}

impl Format {
    /// Reads a `Content-Type`. None at all is taken for text, as old exporters mean it; anything else that is not an
    /// exposition is not guessed at.
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

/// Bounds on one page; 0 is no bound of its own but [`MAX_SAMPLES`] and the store's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageLimits {
    /// Samples.
    pub samples: usize,
    /// Labels of a sample, its name included as Prometheus counts it.
    pub labels: usize,
    /// Bytes of a label's name.
    pub label_name_bytes: usize,
    /// Bytes of a label's value.
    pub label_value_bytes: usize,
}

/// Most samples that a page may have whatever its configuration says: a bound on what is remembered of it.
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

/// When a page was scraped, and what its samples may say about that.
#[derive(Debug, Clone, Copy)]
pub struct ScrapeTimes {
    /// When the scrape began: the time of every sample that has none of its own.
    pub scraped: UnixNanos,
    /// Now, for the store's bookkeeping.
    pub now: UnixNanos,
    /// Whether a sample's own time counts (Prometheus `honor_timestamps`).
    pub honor_timestamps: bool,
}

/// One scrape's page, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Exposition<'a> {
    /// The body, inflated.
    pub body: &'a [u8],
    pub format: Format,
    pub limits: PageLimits,
    pub times: ScrapeTimes,
}
