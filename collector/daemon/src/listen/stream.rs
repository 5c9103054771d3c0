//! A connection of a relay or a subscriber, whichever way it came in: Unix socket or TCP.
//!
//! An enum and not a boxed trait: it is read and written for every frame of every relay, and the branch is all that it costs.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection, bound to the thread whose runtime drives it.
#[derive(Debug)]
pub enum Peer {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// The same on its way from one thread to another.
#[derive(Debug)]
pub enum Parked {
    Unix(std::os::unix::net::UnixStream),
    Tcp(std::net::TcpStream),
}

impl Peer {
    /// Takes it off this thread's runtime.
    pub fn park(self) -> io::Result<Parked> {
        match self {
            Peer::Unix(stream) => stream.into_std().map(Parked::Unix),
            Peer::Tcp(stream) => stream.into_std().map(Parked::Tcp),
        }
    }
}

impl Parked {
    /// Puts it on this thread's runtime.
    pub fn resume(self) -> io::Result<Peer> {
        match self {
            Parked::Unix(stream) => UnixStream::from_std(stream).map(Peer::Unix),
            Parked::Tcp(stream) => TcpStream::from_std(stream).map(Peer::Tcp),
        }
    }
}

macro_rules! either {
    ($peer:expr, $stream:ident => $call:expr) => {
        match $peer.get_mut() {
            Peer::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Peer::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Peer {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Peer::Unix(stream) => stream.is_write_vectored(),
            Peer::Tcp(stream) => stream.is_write_vectored(),
        }
    }
}
