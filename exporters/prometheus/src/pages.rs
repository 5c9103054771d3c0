//! The pages that are rendered now: a request joins one that has just begun, or begins another, within the memory budget and a bound
//! on their number.
//!
//! | limit | answer |
//! |---|---|
//! | pages rendered at one time ([`Limits::renderings`]) | a page whose readers all stalled makes room, else a wait of [`PLACE_TIME`], else 503 |
//! | memory budget | 503 |
//! | time of a page ([`Limits::page_time`]) | its readers are cut off |

use crate::page::{PAGE_BYTES, PageKind, produce};
use crate::window::{Cut, Reader, WeakWindow, Window};
use dichroic_pipeline::Handle;
use dichroic_pipeline::budget::{Budget, Part};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// Memory that is reserved for a reader: what its connection buffers, in bytes.
pub const READER_BYTES: usize = 128 << 10;
/// Time for which a request waits for a place among the renderings.
const PLACE_TIME: Duration = Duration::from_secs(2);
/// Time without progress after which a page makes room for another.
const STALLED: Duration = Duration::from_secs(1);

/// Bounds on pages.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pages that are rendered at one time.
    pub renderings: usize,
    /// Time from the start of a page to its last piece.
    pub page_time: Duration,
}

/// Why there is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bound on pages at one time.
    #[error("too many pages are rendered (exporters.prometheus.max_renderings); retry later")]
    Renderings,
    /// The memory budget.
    #[error("no memory for another page (limits.in_flight); retry later")]
    Memory,
}

/// The pages of one collector.
pub struct Pages {
    core: Handle,
    budget: Budget,
    limits: Limits,
    renderings: Mutex<Vec<(PageKind, WeakWindow)>>,
    /// Notified when a rendering ends.
    place: Arc<Notify>,
}

/// A response in progress.
pub struct Opened {
    /// Its body.
    pub reader: Reader,
    /// The work that produces it, if it is not another's already: spawn it.
    pub rendering: Option<Rendering>,
}

/// A page to be rendered.
pub struct Rendering {
    core: Handle,
    kind: PageKind,
    window: Window,
    until: Instant,
    place: Arc<Notify>,
}

/// A rendered page.
#[derive(Debug, Clone, Copy)]
pub struct Rendered {
    /// How it ended.
    pub end: Result<(), Cut>,
    /// Time for rendering, without waiting for readers.
    pub worked: Duration,
    /// Bytes passed to readers.
    pub bytes: u64,
}

impl Pages {
    /// No page is rendered yet.
    pub fn new(core: Handle, budget: Budget, limits: Limits) -> Self {
        Pages {
            core,
            budget,
            limits,
            renderings: Mutex::default(),
            place: Arc::default(),
        }
    }

    /// A page of this kind that begins now, or has just begun.
    ///
    /// # Errors
    /// [`Refused`]: respond 503.
    pub async fn open(&self, kind: PageKind) -> Result<Opened, Refused> {
        let open = async {
            loop {
                let freed = self.place.notified();
                match self.try_open(kind) {
                    // Without a notice, a page may have stalled long enough by then.
                    Err(Refused::Renderings) => drop(timeout(STALLED / 4, freed).await),
                    result => return result,
                }
            }
        };
        timeout(PLACE_TIME, open)
            .await
            .unwrap_or(Err(Refused::Renderings))
    }

    fn try_open(&self, kind: PageKind) -> Result<Opened, Refused> {
        let mut renderings = self.renderings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = self
            .budget
            .try_reserve(Part::Pages, READER_BYTES)
            .ok_or(Refused::Memory)?;
        let mut open = Vec::new();
        renderings.retain(|(of, weak)| {
            let Some(window) = weak.upgrade() else {
                return false;
            };
            open.push((*of, window));
            true
        });
        for (_, window) in open.iter().filter(|(of, _)| *of == kind) {
            match window.join(memory) {
                Ok(reader) => {
                    let rendering = None;
                    return Ok(Opened { reader, rendering });
                }
                Err(back) => memory = back,
            }
        }
        // Rendered pages that are not read to their end take a place too.
        open.retain(|(_, window)| !window.has_failed());
        if open.len() >= self.limits.renderings {
            let stalled = |window: &Window| window.stalled_since().filter(|since| since.elapsed() >= STALLED);
            let longest = open
                .iter()
                .filter_map(|(_, window)| Some((stalled(window)?, window)));
            let (_, window) = longest
                .min_by_key(|(since, _)| *since)
                .ok_or(Refused::Renderings)?;
            window.end(Err(Cut::Displaced));
        }
        let page = self
            .budget
            .try_reserve(Part::Pages, PAGE_BYTES)
            .ok_or(Refused::Memory)?;
        let window = Window::new(page);
        renderings.push((kind, window.downgrade()));
        let rendering = Rendering {
            core: self.core.clone(),
            kind,
            window: window.clone(),
            until: Instant::now() + self.limits.page_time,
            place: self.place.clone(),
        };
        // Others of its kind that wait for a place join it.
        self.place.notify_waiters();
        let reader = window.join(memory).map_err(|_| Refused::Renderings)?;
        Ok(Opened {
            reader,
            rendering: Some(rendering),
        })
    }
}

impl Rendering {
    /// Renders the page for its readers.
    pub async fn run(self) -> Rendered {
        let started = Instant::now();
        let window = &self.window;
        let mut bytes = 0;
        let keep = |kept: usize| window.try_resize(PAGE_BYTES + kept);
        let push = async |piece: bytes::Bytes| {
            bytes += piece.len() as u64;
            window.push(piece).await
        };
        let page = produce(&self.core, self.kind, keep, push);
        let end = timeout_at(self.until, page).await.unwrap_or(Err(Cut::Late));
        window.end(end);
        Rendered {
            end,
            worked: started.elapsed().saturating_sub(window.waited()),
            bytes,
        }
    }
}

impl Drop for Rendering {
    fn drop(&mut self) {
        self.window.end(Err(Cut::Busy));
        self.place.notify_waiters();
    }
}
