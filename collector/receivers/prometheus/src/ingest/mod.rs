//! Applies the bytes of a page to the cells of the store.
//!
//! [`Page`] stores a target's last page: its lines by the fingerprint of their series, and which lines make up a point. A page
//! with the same series is *replayed*: each line is cut at its last space, hashed, compared with the line at the same position of
//! the last page, and its value noted; nothing is allocated and no label is parsed. Any other page is parsed and the memory
//! *rebuilt*. Both read the whole page before the store changes, so a page with an error changes nothing.
//!
//! The scraper calls this once per scrape, with a whole page, on the ingest thread.

mod account;
mod apply;
mod content_type;
mod draft;
mod error;
mod exposition;
mod parser;
mod points;
mod rebuild;
mod replay;

use std::cell::RefCell;
use std::fmt;
use std::task::{Context, Poll, Waker};

use dichroic_model::{Fingerprinter, Source, SourceId};
use dichroic_pipeline::{Core, Signal};

pub use account::Ingested;
use account::PageAccount;
pub use error::PageError;
pub use exposition::{Exposition, Format, MAX_SAMPLES, PageLimits, ScrapeTimes};
use points::Memory;
pub use points::PageViolation;
use rebuild::{Build, Kept, Reader};
use replay::{Replay, Step};

/// The last page of one target, kept between scrapes.
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

/// Work between two pauses, each well under a millisecond: lines replayed, items parsed, points resolved, points written.
const REPLAY_LINES: usize = 8_192;
const READ_ITEMS: usize = 1_024;
const SETTLE_POINTS: usize = 512;
const APPLY_POINTS: usize = 4_096;

impl Page {
    /// Reads a page and applies it: its series are written, and series that are no longer on it expire. Samples are accounted
    /// in the store's ledger under `source`.
    ///
    /// # Errors
    /// [`PageError`]: the page has changed nothing but the ledger.
    pub fn ingest(
        &mut self,
        store: &RefCell<Core>,
        source: &Source,
        exposition: &Exposition<'_>,
    ) -> Result<Ingested, PageError> {
        let never = || std::future::ready(());
        let ingest = std::pin::pin!(self.ingest_in_steps(store, source, exposition, never));
        match ingest.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => unreachable!("a ready pause never blocks"),
        }
    }

    /// [`Page::ingest`] with a `pause` after every fraction of a millisecond, so that a large page does not block sockets and
    /// exporters. The store is not borrowed during a pause. If the future is dropped early, the memory of the page is lost, and
    /// the caller must end the source.
    ///
    /// # Errors
    /// As [`Page::ingest`].
    pub async fn ingest_in_steps<P: Future<Output = ()>>(
        &mut self,
        store: &RefCell<Core>,
        source: &Source,
        exposition: &Exposition<'_>,
        pause: impl Fn() -> P,
    ) -> Result<Ingested, PageError> {
        let Exposition {
            body,
            format,
            limits,
            times,
        } = *exposition;
        let fingerprints = store.borrow().fingerprinter(source.id);
        let removable = removable(source);
        if self.replay(&fingerprints, body, format, &pause).await {
            let mut account = self.apply(store, times, &pause).await;
            if !account.must_rebuild {
                account.replayed = true;
                return Ok(account.flush_to(&mut store.borrow_mut(), source.id, 0, &self.memory.violations));
            }
        }
        let mut reader = Reader::new(body, format, limits, &fingerprints, &removable);
        loop {
            match reader.step(READ_ITEMS) {
                Ok(true) => pause().await,
                Ok(false) => break,
                Err(error) => {
                    refuse(&mut store.borrow_mut(), source.id, &error, reader.samples);
                    return Err(error);
                }
            }
        }
        let mut build = reader.finish();
        let kept = build.identify();
        let duplicates = build.duplicates;
        let added = self.settle(build, &kept, store, source.id, &pause).await;
        let mut account = self.apply(store, times, &pause).await;
        account.added = added;
        Ok(account.flush_to(
            &mut store.borrow_mut(),
            source.id,
            duplicates,
            &self.memory.violations,
        ))
    }

    async fn replay<P: Future<Output = ()>>(
        &mut self,
        fingerprints: &Fingerprinter,
        body: &[u8],
        format: Format,
        pause: &impl Fn() -> P,
    ) -> bool {
        let Some(mut replay) = Replay::new(&mut self.memory, fingerprints, body, format) else {
            return false;
        };
        loop {
            match replay.step(REPLAY_LINES) {
                Step::More => pause().await,
                step => return step == Step::Same,
            }
        }
    }

    /// Expires series that are no longer on the page, defines new ones, and stores the page. Returns the number of new series.
    async fn settle<P: Future<Output = ()>>(
        &mut self,
        mut build: Build<'_>,
        kept: &Kept,
        store: &RefCell<Core>,
        source: SourceId,
        pause: &impl Fn() -> P,
    ) -> u64 {
        for points in std::mem::take(&mut self.memory).points.chunks(SETTLE_POINTS) {
            let expired = points.iter().filter(|point| !kept.contains(&point.fp));
            expired.for_each(|point| point.expire(&mut store.borrow_mut()));
            pause().await;
        }
        let mut added = 0;
        for from in (0..build.len()).step_by(SETTLE_POINTS) {
            let points = from..build.len().min(from + SETTLE_POINTS);
            added += build.settle(&mut store.borrow_mut(), source, points);
            pause().await;
        }
        self.memory = build.into_memory();
        added
    }

    async fn apply<P: Future<Output = ()>>(
        &self,
        store: &RefCell<Core>,
        times: ScrapeTimes,
        pause: &impl Fn() -> P,
    ) -> PageAccount {
        let (mut account, total) = (PageAccount::default(), self.memory.points.len());
        for from in (0..total).step_by(APPLY_POINTS) {
            let points = from..total.min(from + APPLY_POINTS);
            apply::apply(&self.memory, &mut store.borrow_mut(), times, points, &mut account);
            if from + APPLY_POINTS < total {
                pause().await;
            }
        }
        account
    }

    /// Violations of OpenMetrics on the last page.
    pub fn violations(&self) -> &[PageViolation] {
        &self.memory.violations
    }

    /// Expires all series of the page, for a target that is down.
    pub fn clear(&mut self, store: &mut Core) {
        std::mem::take(&mut self.memory)
            .points
            .iter()
            .for_each(|point| point.expire(store));
    }

    /// [`Page::clear`] with a `pause` after every fraction of a millisecond.
    pub async fn clear_in_steps<P: Future<Output = ()>>(
        &mut self,
        store: &RefCell<Core>,
        pause: impl Fn() -> P,
    ) {
        for points in std::mem::take(&mut self.memory).points.chunks(SETTLE_POINTS) {
            points
                .iter()
                .for_each(|point| point.expire(&mut store.borrow_mut()));
            pause().await;
        }
    }
}

/// Labels of the target that a page with `honor_labels` removes by an empty label, as the Pushgateway and `/federate` do.
fn removable(source: &Source) -> Vec<String> {
    let spec = &source.spec;
    if !spec.honor_labels {
        return Vec::new();
    }
    let own = spec.labels.iter().map(|(name, _)| name);
    own.chain(["job", "instance"]).map(str::to_owned).collect()
}

fn refuse(store: &mut Core, source: SourceId, error: &PageError, samples: u64) {
    let ledger = store.ledger_mut();
    ledger.received(source, Signal::Metrics, samples);
    ledger.dropped(source, Signal::Metrics, error.reason(), samples);
}
