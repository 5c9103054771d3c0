//! From the bytes of a page to the cells of the store.
//!
//! [`Page`] is what is remembered of a target's last page: its lines by the fingerprint of their series, and how lines make
//! up points. A page that shows the same series again is *replayed*: each line is cut at its last space, hashed, compared with
//! the line that stood there last time, and its value noted; nothing is allocated and no label is read. Any other page is read
//! by the parser and the memory *rebuilt*. Either way the whole page is read before the store is touched, so that a page with
//! an error anywhere changes nothing.
//!
//! The scraper calls this once per scrape, with a whole page, on the ingest thread.

mod apply;
mod points;
mod rebuild;
mod replay;

use std::fmt;

use dichroic_model::{Source, UnixNanos};
use dichroic_pipeline::{DropReason, Signal, Store};

use crate::parse::ParseError;
use points::Memory;

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
    fn max_samples(&self) -> usize {
        if self.samples == 0 {
            MAX_SAMPLES
        } else {
            self.samples.min(MAX_SAMPLES)
        }
    }
}

/// Why a page was refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(
        "the target answers with {0:?}, which is no exposition; let it serve text/plain or application/openmetrics-text, \
         or correct metrics_path"
    )]
    ContentType(String),
    #[error("the page has more than {limit} samples; raise sample_limit, or let the target expose less")]
    Samples { limit: usize },
    #[error("line {line}: {what} is over its limit of {limit}; raise {key}, or let the target expose less")]
    Labels {
        line: usize,
        what: &'static str,
        limit: usize,
        key: &'static str,
    },
}

impl PageError {
    /// What its samples are counted under.
    fn reason(&self) -> DropReason {
        match self {
            Self::Parse(_) | Self::ContentType(_) => DropReason::Malformed,
            Self::Samples { .. } => DropReason::TooLarge,
            Self::Labels { .. } => DropReason::LabelLimit,
        }
    }
}

/// What came of a page that was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Samples on the page.
    pub samples: u64,
    /// Samples that reached a cell.
    pub applied: u64,
    /// Series that were not there before.
    pub added: u64,
    /// Whether the page was replayed, not parsed.
    pub replayed: bool,
}

/// When a page was scraped, and what its samples may say about that.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// When the scrape began: the time of every sample that has none of its own.
    pub scraped: UnixNanos,
    /// Now, for the store's bookkeeping.
    pub now: UnixNanos,
    /// Whether a sample's own time counts (Prometheus `honor_timestamps`).
    pub honor_timestamps: bool,
}

/// One target's page, remembered between scrapes.
#[derive(Default)]
pub struct Page {
    memory: Memory,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("samples", &self.memory.lines.len())
            .finish()
    }
}

impl Page {
    /// Reads a page and applies it: the series it shows are written, those it no longer shows leave. Samples are accounted
    /// in the store's ledger under `source`.
    pub fn ingest(
        &mut self,
        store: &mut Store,
        source: &Source,
        body: &[u8],
        format: Format,
        limits: &PageLimits,
        moment: Moment,
    ) -> Result<Ingested, PageError> {
        let fingerprints = store.fingerprinter(source.id);
        if replay::replay(&mut self.memory, &fingerprints, body, format) {
            let outcome = apply::apply(&self.memory, store, moment);
            if !outcome.must_rebuild {
                return Ok(outcome.account(store, source.id, 0));
            }
        }
        match rebuild::read(body, format, limits, &fingerprints) {
            Ok(build) => {
                let duplicates = build.duplicates;
                let (memory, added) = build.settle(store, source.id, &self.memory);
                self.memory = memory;
                let mut outcome = apply::apply(&self.memory, store, moment);
                outcome.added = added;
                Ok(Ingested {
                    replayed: false,
                    ..outcome.account(store, source.id, duplicates)
                })
            }
            Err((error, samples)) => {
                let ledger = store.ledger_mut();
                ledger.received(source.id, Signal::Metrics, samples);
                ledger.dropped(source.id, Signal::Metrics, error.reason(), samples);
                Err(error)
            }
        }
    }

    /// The target is down: everything it showed leaves now.
    pub fn clear(&mut self, store: &mut Store) {
        std::mem::take(&mut self.memory)
            .points
            .iter()
            .for_each(|point| point.leave(store));
    }
}
