//! The part of a page that is in memory: a bounded window of pieces between one writer and its readers.
//!
//! The writer adds pieces, every reader takes all of them in order, and a piece leaves the window when the last reader has taken it.
//! A full window holds the writer back, and with it all readers. So that one slow reader cannot stop the others, the writer waits
//! [`HELD`] in all while others have nothing left to read; then the slowest are cut off.
//!
//! Readers join at the beginning only: a page that is joined later would not be complete. For [`JOIN_TIME`] the first pieces are
//! kept if there is room, so that scrapers that come together share a page.

use bytes::Bytes;
use dichroic_pipeline::budget::Reservation;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Largest size of a window, in bytes.
pub const WINDOW_BYTES: usize = 1 << 20;
/// Time from the start of a page in which readers can join.
const JOIN_TIME: Duration = Duration::from_millis(100);
/// Time in all that the slowest readers may hold others back. Shorter than the usual timeout of a scrape, 10 s.
const HELD: Duration = Duration::from_secs(3);

/// Why a page ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The reader was slower than others of the same page.
    #[error("the reader held back other readers of the page")]
    Slow,
    /// All readers stalled, and another page needed the place.
    #[error("the page stalled and made room for another")]
    Displaced,
    /// The page was not complete in time.
    #[error("the page was not complete in time")]
    Late,
    /// The memory budget has no room for a part of the page that cannot be sent yet.
    #[error("no memory for the page (limits.in_flight)")]
    Memory,
    /// The store has too many readers, or stopped.
    #[error("the collector is busy; retry later")]
    Busy,
    /// All readers have left.
    #[error("all readers have left")]
    Abandoned,
}

impl Cut {
    /// All reasons that a reader sees.
    pub const ALL: [Cut; 5] = [Cut::Slow, Cut::Displaced, Cut::Late, Cut::Memory, Cut::Busy];

    /// The label `result` of the counter of pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Cut::Slow => "slow",
            Cut::Displaced => "displaced",
            Cut::Late => "late",
            Cut::Memory => "memory",
            Cut::Busy => "busy",
            Cut::Abandoned => "abandoned",
        }
    }
}

/// A window; a clone is the same one.
#[derive(Clone)]
pub(crate) struct Window(Arc<Mutex<State>>);

/// A window that is gone when its writer and its readers are.
pub(crate) struct WeakWindow(Weak<Mutex<State>>);

impl WeakWindow {
    pub(crate) fn upgrade(&self) -> Option<Window> {
        self.0.upgrade().map(Window)
    }
}

struct State {
    pieces: VecDeque<Bytes>,
    /// Position of the first of them.
    first: u64,
    bytes: usize,
    started: Instant,
    end: Option<Result<(), Cut>>,
    readers: Vec<Position>,
    next_reader: u64,
    writer: Option<Waker>,
    /// Since when the window is full.
    full_since: Option<Instant>,
    /// Since when, besides, a reader has nothing left to read.
    held_since: Option<Instant>,
    /// Time for which this was so before.
    held: Duration,
    /// Time for which the window was full before.
    full: Duration,
    /// The last time a reader took a piece.
    progress: Instant,
    memory: Reservation,
}

struct Position {
    reader: u64,
    /// The next piece.
    next: u64,
    waker: Option<Waker>,
    cut: Option<Cut>,
}

impl Window {
    pub(crate) fn new(memory: Reservation) -> Self {
        Window(Arc::new(Mutex::new(State {
            pieces: VecDeque::new(),
            first: 0,
            bytes: 0,
            started: Instant::now(),
            end: None,
            readers: Vec::new(),
            next_reader: 0,
            writer: None,
            full_since: None,
            held_since: None,
            held: Duration::ZERO,
            full: Duration::ZERO,
            progress: Instant::now(),
            memory,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader from the beginning; `None` if it is too late. `memory` is for what the reader's connection buffers.
    pub(crate) fn join(&self, memory: Reservation) -> Result<Reader, Reservation> {
        let mut state = self.lock();
        let failed = matches!(state.end, Some(Err(_)));
        if failed || !state.is_joinable() {
            return Err(memory);
        }
        let reader = state.next_reader;
        state.next_reader += 1;
        state.readers.push(Position {
            reader,
            next: 0,
            waker: None,
            cut: None,
        });
        drop(state);
        Ok(Reader {
            window: self.clone(),
            reader,
            end: None,
            _memory: memory,
        })
    }

    /// Does not keep the page in memory when its readers have left.
    pub(crate) fn downgrade(&self) -> WeakWindow {
        WeakWindow(Arc::downgrade(&self.0))
    }

    /// Whether the page has failed; its memory is free then.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.lock().end, Some(Err(_)))
    }

    /// Since when no reader has taken a piece, though there are some. `None` while the writer is at work.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.full_since.is_some() || state.end.is_some()).then_some(state.progress)
    }

    /// Time for which the writer has waited for readers.
    pub(crate) fn waited(&self) -> Duration {
        self.lock().full
    }

    /// Grows or shrinks the memory besides the window.
    pub(crate) fn try_resize(&self, bytes: usize) -> bool {
        self.lock().memory.try_resize(bytes)
    }

    /// Ends the page; its readers see this after the last piece, or at once if it failed.
    pub(crate) fn end(&self, end: Result<(), Cut>) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        if end.is_err() {
            (state.pieces, state.bytes) = (VecDeque::new(), 0);
        }
        let bytes = state.bytes;
        let _ = state.memory.try_resize(bytes);
        state.wake_readers();
        state.writer.take().into_iter().for_each(Waker::wake);
    }

    /// Adds a piece when there is room.
    pub(crate) async fn push(&self, piece: Bytes) -> Result<(), Cut> {
        let mut piece = Some(piece);
        let mut late = pin!(sleep_until(Instant::now()));
        poll_fn(|cx| {
            loop {
                match self.lock().poll_push(&mut piece, cx) {
                    Wait::Done(result) => return Poll::Ready(result),
                    Wait::ForReaders => return Poll::Pending,
                    Wait::Until(at) => {
                        late.as_mut().reset(at);
                        ready!(late.as_mut().poll(cx));
                    }
                }
            }
        })
        .await
    }
}

/// What the writer waits for.
enum Wait {
    Done(Result<(), Cut>),
    /// Until a reader takes a piece.
    ForReaders,
    /// The same, but then the slowest readers are cut off.
    Until(Instant),
}

impl State {
    fn poll_push(&mut self, piece: &mut Option<Bytes>, cx: &Context<'_>) -> Wait {
        let now = Instant::now();
        if let Some(Err(cut)) = self.end {
            return Wait::Done(Err(cut));
        }
        self.cut_off_late_readers(now);
        if !self.has_readers() {
            return Wait::Done(Err(Cut::Abandoned));
        }
        let length = piece.as_ref().map_or(0, Bytes::len);
        self.evict(now, length);
        if self.bytes > 0 && self.bytes + length > WINDOW_BYTES {
            return self.wait_for_room(now, cx);
        }
        self.not_full(now);
        piece.take().into_iter().for_each(|piece| self.add(piece));
        Wait::Done(Ok(()))
    }

    fn is_joinable(&self) -> bool {
        self.first == 0 && self.started.elapsed() < JOIN_TIME
    }

    fn head(&self) -> u64 {
        self.first + self.pieces.len() as u64
    }

    fn has_readers(&self) -> bool {
        self.readers.iter().any(|reader| reader.cut.is_none())
    }

    fn slowest(&self) -> Option<u64> {
        let reading = self.readers.iter().filter(|reader| reader.cut.is_none());
        reading.map(|reader| reader.next).min()
    }

    /// Removes pieces that all readers have taken. While others may join, only as far as a piece of `needed` bytes needs the room.
    fn evict(&mut self, now: Instant, needed: usize) {
        let Some(slowest) = self.slowest() else { return };
        let keep = self.first == 0 && now < self.started + JOIN_TIME;
        while self.first < slowest && !(keep && self.bytes + needed <= WINDOW_BYTES) {
            let Some(piece) = self.pieces.pop_front() else {
                return;
            };
            self.first += 1;
            self.bytes -= piece.len();
        }
    }

    fn add(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
        self.wake_readers();
    }

    fn wake_readers(&mut self) {
        let wakers = self.readers.iter_mut().filter_map(|reader| reader.waker.take());
        wakers.for_each(Waker::wake);
    }

    fn not_full(&mut self, now: Instant) {
        let since = |since: Option<Instant>| since.map_or(Duration::ZERO, |since| now - since);
        self.full += since(self.full_since.take());
        self.held += since(self.held_since.take());
    }

    fn wait_for_room(&mut self, now: Instant, cx: &Context<'_>) -> Wait {
        self.writer = Some(cx.waker().clone());
        self.full_since.get_or_insert(now);
        let head = self.head();
        let waits = |reader: &Position| reader.cut.is_none() && reader.next == head && reader.waker.is_some();
        if self.readers.iter().any(waits) {
            self.held_since.get_or_insert(now);
        }
        match self.held_since {
            Some(since) => Wait::Until(since + HELD.saturating_sub(self.held)),
            None => Wait::ForReaders,
        }
    }

    fn wake_on_change(&mut self, reader: u64, cx: &Context<'_>) {
        let position = self.readers.iter_mut().find(|position| position.reader == reader);
        position
            .into_iter()
            .for_each(|position| position.waker = Some(cx.waker().clone()));
    }

    /// Cuts off the slowest readers when they have held back others for too long.
    fn cut_off_late_readers(&mut self, now: Instant) {
        let late = self
            .held_since
            .is_some_and(|since| now >= since + HELD.saturating_sub(self.held));
        let Some(slowest) = self.slowest().filter(|_| late) else {
            return;
        };
        for reader in self.readers.iter_mut().filter(|reader| reader.next == slowest) {
            reader.cut.get_or_insert(Cut::Slow);
            reader.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

/// A reader of a page. Dropping it lets the others go on.
pub struct Reader {
    window: Window,
    reader: u64,
    end: Option<Result<(), Cut>>,
    _memory: Reservation,
}

impl Reader {
    /// The next piece; `None` after the last piece of a complete page. An error is final: the response must not look complete.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        match self.poll_piece(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(piece))) => Poll::Ready(Some(Ok(piece))),
            Poll::Ready(Ok(None)) => {
                self.end = Some(Ok(()));
                Poll::Ready(None)
            }
            Poll::Ready(Err(cut)) => {
                self.end = Some(Err(cut));
                Poll::Ready(Some(Err(cut)))
            }
        }
    }

    /// Waits for the first piece. An error: there is no page.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ready(&mut self) -> Result<(), Cut> {
        poll_fn(|cx| {
            let mut state = self.window.lock();
            match (state.end, state.pieces.is_empty()) {
                (Some(Err(cut)), _) => Poll::Ready(Err(cut)),
                (None, true) => {
                    state.wake_on_change(self.reader, cx);
                    Poll::Pending
                }
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }

    /// How the page ended for this reader; `None`: it has not.
    pub fn end(&self) -> Option<Result<(), Cut>> {
        self.end
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>> {
        let mut state = self.window.lock();
        if let Some(Err(cut)) = state.end {
            return Poll::Ready(Err(cut));
        }
        let (first, head, ended) = (state.first, state.head(), state.end.is_some());
        let Some(position) = state
            .readers
            .iter_mut()
            .find(|reader| reader.reader == self.reader)
        else {
            return Poll::Ready(Err(Cut::Abandoned));
        };
        if let Some(cut) = position.cut {
            return Poll::Ready(Err(cut));
        }
        if position.next < head {
            let at = (position.next - first) as usize;
            position.next += 1;
            state.progress = Instant::now();
            let piece = state.pieces[at].clone();
            // The last of the slowest readers makes room.
            if at == 0 {
                state.evict(Instant::now(), 0);
                state.writer.take().into_iter().for_each(Waker::wake);
            }
            return Poll::Ready(Ok(Some(piece)));
        }
        if ended {
            return Poll::Ready(Ok(None));
        }
        position.waker = Some(cx.waker().clone());
        if state.held_since.is_none() {
            // The writer notes that a reader waits.
            state.writer.take().into_iter().for_each(Waker::wake);
        }
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.window.lock();
        state.readers.retain(|position| position.reader != self.reader);
        state.evict(Instant::now(), 0);
        state.writer.take().into_iter().for_each(Waker::wake);
    }
}
