//! The session of one subscriber, from the HELLO that answers it to its end, over any reader and writer.
//!
//! A single task takes batches or points from the store, writes as fast as the peer reads, and reads the few frames that a
//! subscriber may send. While the peer does not read, rows are queued in its ring.

use crate::config::Config;
use crate::encode::Encoder;
use crate::error::SubscribeError;
use crate::outgoing::Outgoing;
use crate::share::Share;
use crate::source::{RowSource, SourceItem};
use dichroic_wire::limits::{FRAME_TIMEOUT, SUBSCRIBE_WITHIN_MS_MAX, SUBSCRIBER_FRAMES_PER_S};
use dichroic_wire::{CollectorHello, FrameReader, FrameType, Goodbye, GoodbyeCode, Ping, Pong, RawFrame};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Items taken from the store between two attempts to write.
const ITEMS: usize = 32;
/// Time after which a session lets others run: all subscribers, the page and the health check share a thread.
const TURN: Duration = Duration::from_micros(100);

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer sent GOODBYE.
    Goodbye,
    /// The peer disconnected without GOODBYE.
    Disconnected,
    /// The peer read nothing for too long.
    Stalled,
    /// This side sent GOODBYE.
    Refused(GoodbyeCode),
}

/// Assembles frames from the subscriber and limits their rate.
pub(crate) struct ClientFrames {
    frames: FrameReader,
    second: Instant,
    count: u32,
    /// Start of an incomplete frame.
    unfinished: Option<Instant>,
}

/// Largest body of a subscriber's frame after its HELLO: a GOODBYE with a message.
const PEER_BODY: u32 = 2 << 10;

impl ClientFrames {
    /// `read_ahead`: bytes read after its HELLO.
    pub fn new(read_ahead: &[u8]) -> Self {
        let mut frames = FrameReader::new();
        frames.hello_accepted(PEER_BODY);
        frames.push(read_ahead);
        ClientFrames {
            frames,
            second: Instant::now(),
            count: 0,
            unfinished: None,
        }
    }

    /// When an incomplete frame must be complete.
    fn deadline(&self) -> Option<Instant> {
        self.unfinished.map(|since| since + FRAME_TIMEOUT)
    }

    /// Answers complete frames. Returns whether one was a GOODBYE.
    fn answer(&mut self, out: &mut Vec<u8>, now: Instant) -> Result<bool, SubscribeError> {
        loop {
            let frame = match self.frames.next() {
                Ok(Some(frame)) => {
                    self.unfinished = None;
                    frame
                }
                Ok(None) => {
                    let unfinished = self.frames.pending() > 0;
                    self.unfinished = unfinished.then(|| self.unfinished.unwrap_or(now));
                    return Ok(false);
                }
                // Includes frames over the limit.
                Err(error) => return Err(SubscribeError::malformed(error.to_string())),
            };
            if now.duration_since(self.second) >= Duration::from_secs(1) {
                (self.second, self.count) = (now, 0);
            }
            self.count += 1;
            if self.count > SUBSCRIBER_FRAMES_PER_S {
                return Err(SubscribeError::malformed(
                    "more than 10 frames a second from a subscriber",
                ));
            }
            if answer(frame, out)? {
                return Ok(true);
            }
        }
    }
}

fn answer(frame: RawFrame<'_>, out: &mut Vec<u8>) -> Result<bool, SubscribeError> {
    let malformed = |error: dichroic_wire::Error| SubscribeError::malformed(error.to_string());
    match frame.frame_type {
        FrameType::Ping => {
            let Ping(token) = Ping::decode(frame.body).map_err(malformed)?;
            Pong(token).write(out);
            Ok(false)
        }
        FrameType::Pong => Pong::decode(frame.body).map_err(malformed).map(|_| false),
        FrameType::Goodbye => Goodbye::decode(frame.body).map_err(malformed).map(|_| true),
        FrameType::Unknown(_) => Ok(false),
        other => Err(SubscribeError::malformed(format!(
            "{} from a subscriber: after HELLO it may send PING, PONG and GOODBYE",
            other.name()
        ))),
    }
}

/// A session before its start.
pub(crate) struct Session<'c, R, W> {
    pub reader: R,
    pub writer: W,
    /// `None` if the transport is one-way.
    pub peer: Option<ClientFrames>,
    pub source: RowSource,
    pub encoder: Encoder,
    pub out: Outgoing,
    pub config: &'c Config,
    pub stop: watch::Receiver<bool>,
    pub share: Arc<Share>,
}

enum Woken {
    Wrote(std::io::Result<usize>),
    Read(std::io::Result<usize>),
    Item(SourceItem),
    Time,
    Stop,
    Displaced(SubscribeError),
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Session<'_, R, W> {
    /// Serves until one side ends it.
    pub async fn run(mut self, hello: &CollectorHello) -> End {
        self.encoder.hello(&mut self.out.bytes, hello);
        let end = match self.serve().await {
            Ok(end) => end,
            Err(refusal) => {
                let code = refusal.0.code;
                // A shutdown sends the queued rows first; a subscriber that is too slow gets none.
                self.close(refusal.0, code == GoodbyeCode::Shutdown).await;
                End::Refused(code)
            }
        };
        if end == End::Goodbye {
            // A half-close: encoded rows are still written.
            let _ = timeout(self.config.close_timeout, self.flush_and_close()).await;
        }
        end
    }

    async fn serve(&mut self) -> Result<End, SubscribeError> {
        let mut buffer = [0; 1_024];
        let mut progress = Instant::now();
        if self.answer(progress)? {
            return Ok(End::Goodbye);
        }
        loop {
            let now = Instant::now();
            self.source.fill(&mut self.out, &mut self.encoder, now)?;
            if now.elapsed() >= TURN {
                tokio::task::yield_now().await;
            }
            self.out.compact();
            self.out.offer(now);
            let idle = if self.out.is_empty() {
                progress + self.config.ping_after
            } else {
                progress + self.config.stall
            };
            let late = self.peer.as_ref().and_then(ClientFrames::deadline);
            let wake = [self.source.deadline(&self.out), late]
                .into_iter()
                .flatten()
                .fold(idle, Instant::min);
            let woken = tokio::select! {
                wrote = self.writer.write(self.out.pending()), if !self.out.is_empty() => Woken::Wrote(wrote),
                read = self.reader.read(&mut buffer) => Woken::Read(read),
                item = self.source.next() => Woken::Item(item),
                () = sleep_until(wake) => Woken::Time,
                () = dichroic_tasks::stopped(&mut self.stop) => Woken::Stop,
                error = self.share.displaced() => Woken::Displaced(error),
            };
            match woken {
                Woken::Wrote(Ok(bytes)) if bytes > 0 => {
                    progress = Instant::now();
                    self.source.sent(self.out.written(bytes));
                }
                Woken::Wrote(_) | Woken::Read(Ok(0) | Err(_)) => return Ok(End::Disconnected),
                Woken::Read(Ok(bytes)) => {
                    if let Some(peer) = &mut self.peer {
                        peer.frames.push(&buffer[..bytes]);
                        if self.answer(Instant::now())? {
                            return Ok(End::Goodbye);
                        }
                    }
                }
                Woken::Item(item) => self.take(item).await?,
                Woken::Time => {
                    let now = Instant::now();
                    if late.is_some_and(|late| late <= now) {
                        let message = "incomplete frame after 10 s";
                        return Err(SubscribeError::new(GoodbyeCode::Timeout, 0, message));
                    }
                    if now < idle {
                        continue;
                    }
                    if !self.out.is_empty() {
                        return Ok(End::Stalled);
                    }
                    self.encoder.keep_alive(&mut self.out.bytes, 0);
                    progress = now;
                }
                Woken::Displaced(error) => return Err(error),
                Woken::Stop => return Err(SubscribeError::shutting_down()),
            }
        }
    }

    fn answer(&mut self, now: Instant) -> Result<bool, SubscribeError> {
        match &mut self.peer {
            Some(peer) => peer.answer(&mut self.out.bytes, now),
            None => Ok(false),
        }
    }

    async fn take(&mut self, item: SourceItem) -> Result<(), SubscribeError> {
        let started = Instant::now();
        self.source.accept(item, &mut self.out, &mut self.encoder)?;
        for _ in 0..ITEMS {
            if !self.out.has_room() || started.elapsed() >= TURN {
                break;
            }
            let Some(item) = self.source.try_next() else { break };
            self.source.accept(item, &mut self.out, &mut self.encoder)?;
        }
        // The pipeline's channels have no cooperative budget: one busy subscriber would block this thread.
        if started.elapsed() >= TURN {
            tokio::task::yield_now().await;
        } else {
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    /// Sends GOODBYE, after all queued rows if `drain`. Rows that are not written in time are lost and counted.
    async fn close(&mut self, goodbye: Goodbye, drain: bool) {
        let limit = self.config.close_timeout;
        let work = async {
            if drain {
                self.drain().await?;
            }
            self.encoder.goodbye(&mut self.out.bytes, &goodbye);
            self.flush_and_close().await
        };
        let _ = timeout(limit, work).await;
    }

    /// Writes all rows that the store has published so far.
    async fn drain(&mut self) -> std::io::Result<()> {
        loop {
            while self.out.has_room() {
                let Some(item) = self.source.try_next() else { break };
                if self
                    .source
                    .accept(item, &mut self.out, &mut self.encoder)
                    .is_err()
                {
                    return Ok(());
                }
            }
            // Rows that wait for a fuller frame are sent now.
            let later = Instant::now() + Duration::from_millis(SUBSCRIBE_WITHIN_MS_MAX.into());
            if self.source.fill(&mut self.out, &mut self.encoder, later).is_err() {
                return Ok(());
            }
            if !self.out.is_empty() {
                self.write_some().await?;
            } else if self.source.is_drained() {
                return Ok(());
            }
        }
    }

    async fn flush_and_close(&mut self) -> std::io::Result<()> {
        while !self.out.is_empty() {
            self.write_some().await?;
        }
        self.writer.shutdown().await
    }

    async fn write_some(&mut self) -> std::io::Result<()> {
        match self.writer.write(self.out.pending()).await? {
            0 => Err(std::io::ErrorKind::WriteZero.into()),
            bytes => {
                self.source.sent(self.out.written(bytes));
                Ok(())
            }
        }
    }
}
