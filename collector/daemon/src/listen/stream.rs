//! A connection of a relay or a subscriber: Unix socket or TCP.
//!
//! An enum and not a boxed trait: it is read and written for every frame of every relay, and a branch costs less than a virtual call.

use rustix::net::sockopt::set_socket_send_buffer_size;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tracing::field::{DisplayValue, display};

/// Bytes of the send buffer for each row of a subscriber's queue: the size of a small row.
const ROW_BYTES: usize = 64;
/// The system's usual send buffer; a larger one is left to it.
const SEND_BUFFER: usize = 128 << 10;

/// A connection, registered with the runtime of one thread.
#[derive(Debug)]
pub enum LocalStream {
    /// The local socket.
    Unix(UnixStream),
    /// `security.local_tcp`.
    Tcp(TcpStream),
}

/// A connection without a runtime, which is passed to another thread.
#[derive(Debug)]
pub enum DetachedStream {
    /// The local socket.
    Unix(std::os::unix::net::UnixStream),
    /// `security.local_tcp`.
    Tcp(std::net::TcpStream),
}

/// The other end of a connection, for the log. Fields that do not apply or cannot be read are `None`.
#[derive(Debug, Default)]
pub struct Peer {
    /// User of a Unix socket's peer.
    pub uid: Option<u32>,
    /// Process of a Unix socket's peer.
    pub pid: Option<i32>,
    /// Address of a TCP peer.
    pub address: Option<DisplayValue<SocketAddr>>,
}

impl LocalStream {
    /// The other end.
    pub fn peer(&self) -> Peer {
        match self {
            LocalStream::Unix(stream) => stream.peer_cred().map_or_else(
                |_| Peer::default(),
                |credentials| Peer {
                    uid: Some(credentials.uid()),
                    pid: credentials.pid(),
                    address: None,
                },
            ),
            LocalStream::Tcp(stream) => Peer {
                address: stream.peer_addr().ok().map(display),
                ..Peer::default()
            },
        }
    }

    /// The name of its listener in the configuration.
    pub fn listener(&self) -> &'static str {
        match self {
            LocalStream::Unix(_) => "local_socket",
            LocalStream::Tcp(_) => "local_tcp",
        }
    }

    /// Deregisters it from this thread's runtime.
    pub fn into_std(self) -> io::Result<DetachedStream> {
        match self {
            LocalStream::Unix(stream) => stream.into_std().map(DetachedStream::Unix),
            LocalStream::Tcp(stream) => stream.into_std().map(DetachedStream::Tcp),
        }
    }

    /// Shrinks the kernel's send buffer for a subscriber with a small queue: rows in it are beyond `buffer` and `on_full`.
    pub fn limit_send_buffer(&self, rows: u32) {
        let bytes = usize::try_from(rows).map_or(usize::MAX, |rows| rows.saturating_mul(ROW_BYTES));
        if bytes < SEND_BUFFER {
            // Without effect it is only larger.
            let _ = match self {
                LocalStream::Unix(stream) => set_socket_send_buffer_size(stream, bytes),
                LocalStream::Tcp(stream) => set_socket_send_buffer_size(stream, bytes),
            };
        }
    }

    /// Registers it with this thread's runtime.
    pub fn from_std(stream: DetachedStream) -> io::Result<Self> {
        match stream {
            DetachedStream::Unix(stream) => UnixStream::from_std(stream).map(LocalStream::Unix),
            DetachedStream::Tcp(stream) => TcpStream::from_std(stream).map(LocalStream::Tcp),
        }
    }
}

macro_rules! either {
    ($either:expr, $stream:ident => $call:expr) => {
        match $either.get_mut() {
            LocalStream::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            LocalStream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for LocalStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for LocalStream {
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
            LocalStream::Unix(stream) => stream.is_write_vectored(),
            LocalStream::Tcp(stream) => stream.is_write_vectored(),
        }
    }
}
