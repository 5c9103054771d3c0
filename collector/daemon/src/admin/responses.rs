//! Counts of pages and of responses that were cut off. Written by the main thread, read by the ingest thread for the self telemetry.

use dichroic_exporter_prometheus::{Cut, Refused};
use std::sync::atomic::{AtomicU64, Ordering};

/// How a page ended for one scraper, with the label value of `dichroic_pages_total`.
const RESULTS: [&str; 9] = [
    "complete",
    "disconnected",
    "slow",
    "displaced",
    "late",
    "memory",
    "busy",
    "refused_renderings",
    "refused_memory",
];

/// Every pair of listener and reason of `dichroic_responses_cut_total`.
const CUTS: [(&str, Limit); 4] = [
    ("prometheus", Limit::Stall),
    ("prometheus", Limit::Total),
    ("admin", Limit::Stall),
    ("admin", Limit::Total),
];

/// The limit that cut off a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.write_stall`.
    Stall,
    /// `limits.response_time`.
    Total,
}

impl Limit {
    /// The label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Stall => "stalled",
            Limit::Total => "late",
        }
    }

    /// The key of the configuration that raises it.
    pub fn key(self) -> &'static str {
        match self {
            Limit::Stall => "limits.write_stall",
            Limit::Total => "limits.response_time",
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct Responses {
    pages: [AtomicU64; RESULTS.len()],
    cuts: [AtomicU64; CUTS.len()],
}

impl Responses {
    /// Counts a page that was begun. `None`: the scraper disconnected.
    pub fn page(&self, end: Option<Result<(), Cut>>) {
        self.count_page(match end {
            Some(Ok(())) => "complete",
            None | Some(Err(Cut::Abandoned)) => "disconnected",
            Some(Err(cut)) => cut.as_str(),
        });
    }

    /// Counts a page that was refused.
    pub fn refused(&self, refused: Refused) {
        self.count_page(match refused {
            Refused::Renderings => "refused_renderings",
            Refused::Memory => "refused_memory",
        });
    }

    fn count_page(&self, result: &str) {
        // Relaxed, here and below: no other memory is published with a count.
        if let Some(at) = RESULTS.iter().position(|of| *of == result) {
            self.pages[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a response that was cut off.
    pub fn cut(&self, listener: &'static str, limit: Limit) {
        if let Some(at) = CUTS.iter().position(|of| *of == (listener, limit)) {
            self.cuts[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// (result, pages) of every result.
    pub fn pages(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counters = RESULTS.into_iter().zip(&self.pages);
        counters.map(|(result, counter)| (result, counter.load(Ordering::Relaxed)))
    }

    /// (listener, reason, responses) of every pair.
    pub fn cuts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let counters = CUTS.into_iter().zip(&self.cuts);
        counters
            .map(|((listener, limit), counter)| (listener, limit.as_str(), counter.load(Ordering::Relaxed)))
    }
}
