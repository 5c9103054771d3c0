//! The socket of a connection, with a limit on the time of writes.
//!
//! Reads are bounded where requests are read. A peer that does not read its response would keep memory and its place for as long as it
//! likes: a write that is not possible before the deadline fails, and hyper closes the connection.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// The limit on the writes of one connection.
pub trait WriteLimit: Unpin {
    /// When a write that begins to wait now fails; `None`: it may wait.
    fn deadline(&self) -> Option<Instant>;

    /// A write was not possible before its deadline.
    fn exceeded(&mut self, _stream: &TcpStream) {}

    /// The socket is about to be closed.
    fn closing(&mut self, _stream: &TcpStream) {}
}

/// The socket.
pub struct LimitedStream<L: WriteLimit> {
    io: TokioIo<TcpStream>,
    limit: L,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<L: WriteLimit> LimitedStream<L> {
    /// Limits the writes of a connection.
    pub fn new(stream: TcpStream, limit: L) -> Self {
        LimitedStream {
            io: TokioIo::new(stream),
            limit,
            waiting: None,
        }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<Result<T>>) -> Poll<Result<T>> {
        if progress.is_ready() {
            self.waiting = None;
            return progress;
        }
        if self.waiting.is_none() {
            let Some(deadline) = self.limit.deadline() else {
                return progress;
            };
            self.waiting = Some(Box::pin(sleep_until(deadline)));
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
        }
        self.limit.exceeded(self.io.inner());
        Poll::Ready(Err(Error::new(
            ErrorKind::TimedOut,
            "write timed out: the peer does not read its response",
        )))
    }
}

impl<L: WriteLimit> Drop for LimitedStream<L> {
    fn drop(&mut self) {
        self.limit.closing(self.io.inner());
    }
}

impl<L: WriteLimit> Read for LimitedStream<L> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<L: WriteLimit> Write for LimitedStream<L> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let progress = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, progress)
    }
}
