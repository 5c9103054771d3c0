//! Produces a page: requests a snapshot of the series, renders its chunks as they arrive, and compresses the page.
//!
//! Called by the HTTP server, on any thread but the ingest thread: rendering 100,000 series takes a few milliseconds, and
//! compressing them about ten. The account of hop [`HOP`] counts rows: offered = sent + dropped + queued.

use crate::negotiate::Format;
use crate::render::{Options, Renderer};
use bytes::Bytes;
use dichroic_model::Source;
use dichroic_pipeline::{Busy, Handle, Hop, SnapshotRequest};
use libdeflater::{CompressionLvl, Compressor};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The name of this exporter in the ledger.
pub const HOP: &str = "prometheus";

/// Largest buffer that is reused for the next page, in bytes.
const REUSED_BYTES: usize = 64 << 20;

thread_local! {
    /// The buffer of the last compressed page of this thread.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The page, compressed if `gzip`.
///
/// # Errors
/// [`Busy`] if the store has too many readers or aborted the snapshot: respond 503, so that the scraper retries.
pub async fn page(handle: &Handle, format: Format, gzip: bool) -> Result<Bytes, Busy> {
    page_with(handle, format, gzip, Options::default()).await
}

/// [`page()`] with options.
///
/// # Errors
/// As [`page()`].
pub async fn page_with(handle: &Handle, format: Format, gzip: bool, options: Options) -> Result<Bytes, Busy> {
    let hop = handle.call(|store| store.ledger_mut().hop(HOP)).await?;
    let chunks = handle.snapshot(SnapshotRequest::default())?;
    let mut renderer = Renderer::with_buffer(format, options, BUFFER.take());
    let mut account = RowAccount { hop: &hop, queued: 0 };
    while let Some(rows) = chunks.recv().await {
        let before = renderer.stats();
        renderer.chunk(&rows);
        let after = renderer.stats();
        account.take(after.shown - before.shown, after.unfit - before.unfit);
    }
    if !chunks.is_finished() {
        // The store aborted the snapshot or is shutting down. On an incomplete page, the missing series would look expired.
        return Err(Busy);
    }
    let sources = handle.call(|store| shown_sources(store.sources())).await?;
    let before = renderer.stats();
    renderer.finish(&sources);
    account.unfit(renderer.stats().unfit - before.unfit);
    account.send();
    let page = renderer.into_buffer();
    if !gzip {
        return Ok(Bytes::from(page));
    }
    let compressed = compress(&page);
    if page.capacity() <= REUSED_BYTES {
        BUFFER.set(page);
    }
    Ok(compressed)
}

/// Sources with series on the page.
fn shown_sources<'a>(
    sources: impl Iterator<Item = (&'a Arc<Source>, usize, Option<dichroic_model::UnixNanos>)>,
) -> Vec<Arc<Source>> {
    sources
        .filter(|(_, series, _)| *series > 0)
        .map(|(source, ..)| source.clone())
        .collect()
}

/// One gzip member at the fastest level: about 1 ns per byte, a tenth of the size.
pub fn compress(page: &[u8]) -> Bytes {
    // Level 0 of this library, its "fastest", does not compress.
    let mut compressor = Compressor::new(CompressionLvl::new(1).expect("level 1 exists"));
    let mut out = vec![0; compressor.gzip_compress_bound(page.len())];
    let size = compressor
        .gzip_compress(page, &mut out)
        .expect("the bound is enough for any input");
    out.truncate(size);
    out.shrink_to_fit();
    Bytes::from(out)
}

/// Rows of one page in the ledger. The rows of an incomplete page count as dropped.
struct RowAccount<'a> {
    hop: &'a Hop,
    queued: u64,
}

impl RowAccount<'_> {
    fn take(&mut self, shown: u64, unfit: u64) {
        Hop::add(&self.hop.offered, shown + unfit);
        Hop::add(&self.hop.dropped, unfit);
        Hop::add(&self.hop.queued, shown);
        self.queued += shown;
    }

    /// Rows that were taken as shown do not fit after all.
    fn unfit(&mut self, rows: u64) {
        self.queued -= rows;
        Hop::add(&self.hop.dropped, rows);
        self.hop.queued.fetch_sub(rows, Ordering::Relaxed);
    }

    fn send(&mut self) {
        Hop::add(&self.hop.sent, self.queued);
        self.settle();
    }

    fn settle(&mut self) {
        self.hop.queued.fetch_sub(self.queued, Ordering::Relaxed);
        self.queued = 0;
    }
}

impl Drop for RowAccount<'_> {
    fn drop(&mut self) {
        Hop::add(&self.hop.dropped, self.queued);
        self.settle();
    }
}
