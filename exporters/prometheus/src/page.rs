//! Produces a page: requests a snapshot of the series, renders and compresses its chunks as they arrive, and passes the page on piece
//! by piece, so that it is never in memory as a whole.
//!
//! Runs on any thread but the ingest thread. The account of hop [`HOP`] counts rows, once for a page that several scrapers share:
//! offered = sent + dropped + queued.

use crate::gzip::{Encoder, GZIP_BYTES};
use crate::negotiate::Format;
use crate::render::{Options, Renderer};
use crate::window::{Cut, WINDOW_BYTES};
use bytes::Bytes;
use dichroic_model::Source;
use dichroic_pipeline::{Busy, Handle, Hop, SnapshotRequest};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The name of this exporter in the ledger.
pub const HOP: &str = "prometheus";

/// Size of a piece, in bytes: a fraction of a millisecond of rendering.
const PIECE_BYTES: usize = 64 << 10;
/// Chunks of rows that wait to be rendered.
const CHUNKS: usize = 1;
/// Memory of rows, renderer and encoder, in bytes: chunks of 2048 rows, of which one is rendered and one waits.
const WORK_BYTES: usize = (2 << 20) + GZIP_BYTES;
/// Memory that is reserved for a page while it is rendered.
pub(crate) const PAGE_BYTES: usize = WINDOW_BYTES + WORK_BYTES;

/// What is requested; pages that are equal in this are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageKind {
    /// The format.
    pub format: Format,
    /// Optional parts.
    pub options: Options,
    /// Whether the page is compressed.
    pub gzip: bool,
}

impl From<Busy> for Cut {
    fn from(_: Busy) -> Self {
        Cut::Busy
    }
}

/// The page as a whole, for tests and tools.
///
/// # Errors
/// [`Busy`] if the store has too many readers or aborted the snapshot.
pub async fn page(handle: &Handle, format: Format, gzip: bool) -> Result<Bytes, Busy> {
    let options = Options::default();
    let kind = PageKind {
        format,
        options,
        gzip,
    };
    let mut page = Vec::new();
    let append = async |piece: Bytes| {
        page.extend_from_slice(&piece);
        Ok(())
    };
    match produce(handle, kind, |_| true, append).await {
        Ok(()) => Ok(page.into()),
        Err(_) => Err(Busy),
    }
}

/// Renders a page and passes it on piece by piece. `keep` is called with the bytes that the renderer keeps until the end of the page;
/// `false` ends the page.
pub(crate) async fn produce(
    handle: &Handle,
    kind: PageKind,
    keep: impl Fn(usize) -> bool,
    mut pass_on: impl AsyncFnMut(Bytes) -> Result<(), Cut>,
) -> Result<(), Cut> {
    let hop = handle.call(|store| store.ledger_mut().hop(HOP)).await?;
    let request = SnapshotRequest {
        capacity: CHUNKS,
        ..SnapshotRequest::default()
    };
    let chunks = handle.snapshot(request)?;
    let mut renderer = Renderer::new(kind.format, kind.options);
    let (mut encoder, mut text) = (Encoder::new(kind.gzip), Vec::new());
    let mut account = RowAccount { hop: &hop, queued: 0 };
    while let Some(rows) = chunks.recv().await {
        let before = renderer.stats();
        renderer.cover(&rows);
        let mut rest = &rows[..];
        while !rest.is_empty() {
            rest = &rest[renderer.rows_for_piece(rest, PIECE_BYTES)..];
            if !keep(renderer.kept_bytes()) {
                return Err(Cut::Memory);
            }
            renderer.take_ready(&mut text);
            for part in text.chunks(PIECE_BYTES) {
                pass(&mut encoder, part, &mut pass_on).await?;
                // Compression and rendering of many pieces must not delay other tasks of the thread.
                tokio::task::yield_now().await;
            }
        }
        let after = renderer.stats();
        account.take(after.shown - before.shown, after.unfit - before.unfit);
    }
    if !chunks.is_finished() {
        // The store aborted the snapshot or is shutting down. On an incomplete page, the missing series would look expired.
        return Err(Cut::Busy);
    }
    let sources = handle.call(|store| shown_sources(store.sources())).await?;
    let before = renderer.stats();
    renderer.finish(&sources);
    account.unfit(renderer.stats().unfit - before.unfit);
    for part in renderer.bytes().chunks(PIECE_BYTES) {
        pass(&mut encoder, part, &mut pass_on).await?;
    }
    for part in encoder.finish().chunks(PIECE_BYTES) {
        pass_on(Bytes::copy_from_slice(part)).await?;
    }
    account.send();
    Ok(())
}

/// Encodes a part of the text, and passes on what is ready.
async fn pass(
    encoder: &mut Encoder,
    part: &[u8],
    pass_on: &mut impl AsyncFnMut(Bytes) -> Result<(), Cut>,
) -> Result<(), Cut> {
    let ready = encoder.encode(part, PIECE_BYTES);
    let bytes = ready.len();
    if bytes > 0 {
        pass_on(Bytes::copy_from_slice(ready)).await?;
        encoder.sent(bytes);
    }
    Ok(())
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
