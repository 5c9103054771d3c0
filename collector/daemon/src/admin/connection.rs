//! The socket of a connection, with limits on the time of writes.
//!
//! A peer that does not read its response, or reads a byte at a time, must not keep memory and its place for as long as it likes: a
//! write without progress for [`WriteLimits::stall`], and one later than [`WriteLimits::response`] after its request, fail, and hyper
//! closes the connection. It is then reset, so that the kernel drops what it had buffered, and so that no client takes a part of a
//! page for all of it.

use crate::admin::responses::{Limit, Responses};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Send buffer of the kernel, in bytes. Its own choice grows to several MiB for a peer that does not read.
const SEND_BUFFER: usize = 512 << 10;

/// Limits of a listener on the time of responses.
#[derive(Debug, Clone)]
pub struct WriteLimits {
    /// Longest time without progress.
    pub stall: Duration,
    /// Longest time from a request to the end of its response.
    pub response: Duration,
    /// Name of the listener.
    pub listener: &'static str,
    /// Counts what is cut off.
    pub responses: Arc<Responses>,
}

/// The response that a connection writes; shared by the service and the socket.
#[derive(Debug, Clone, Default)]
pub struct Progress(Rc<State>);

#[derive(Debug, Default)]
struct State {
    until: Cell<Option<Instant>>,
    broken: Cell<bool>,
}

impl Progress {
    /// A request has arrived: its response must end by then; `None`: it is a stream, without limits of time.
    pub fn begin(&self, until: Option<Instant>) {
        self.0.until.set(until);
    }

    /// The response has begun and will not be complete.
    pub fn broken(&self) {
        self.0.broken.set(true);
    }
}

/// The socket.
pub struct LimitedStream {
    io: TokioIo<TcpStream>,
    limits: WriteLimits,
    progress: Progress,
    waiting: Option<(Limit, Pin<Box<Sleep>>)>,
}

impl LimitedStream {
    /// Limits the writes of a connection.
    pub fn new(stream: TcpStream, limits: WriteLimits, progress: Progress) -> Self {
        // Without effect it is only larger.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
        LimitedStream {
            io: TokioIo::new(stream),
            limits,
            progress,
            waiting: None,
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        if progress.is_ready() {
            self.waiting = None;
            return progress;
        }
        // A stream may pause: the policy of its subscription decides, and its memory is bounded.
        let Some(until) = self.progress.0.until.get() else {
            return progress;
        };
        let (limit, waiting) = self.waiting.get_or_insert_with(|| {
            let stalled = Instant::now() + self.limits.stall;
            let (limit, at) = if until < stalled {
                (Limit::Total, until)
            } else {
                (Limit::Stall, stalled)
            };
            (limit, Box::pin(sleep_until(at)))
        });
        ready!(waiting.as_mut().poll(cx));
        self.progress.broken();
        self.limits.responses.cut(self.limits.listener, *limit);
        tracing::warn!(
            listener = self.limits.listener,
            peer = self.io.inner().peer_addr().ok().map(tracing::field::display),
            reason = limit.as_str(),
            limit = limit.key(),
            "response cut off: the peer does not read it in time"
        );
        Poll::Ready(Err(Error::new(
            ErrorKind::TimedOut,
            "write timed out: the peer does not read its response",
        )))
    }
}

impl Drop for LimitedStream {
    fn drop(&mut self) {
        if self.progress.0.broken.get() {
            // Without effect the peer has to find the missing end itself.
            let _ = self.io.inner().set_zero_linger();
        }
    }
}

impl Read for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, progress)
    }
}
