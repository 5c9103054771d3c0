//! The limits on the time of a response.
//!
//! A peer that does not read its response, or reads a byte at a time, must not keep memory and its place for as long as it likes: a
//! write without progress for [`WriteLimits::stall`], and one later than [`WriteLimits::response`] after its request, fail. The connection
//! is then reset, so that the kernel drops what it had buffered, and so that no client takes a part of a page for all of it.

use crate::admin::responses::{Limit, Responses};
use dichroic_http_guard::{LimitedStream, WriteLimit};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

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

/// The limits of one connection.
pub struct ResponseLimit {
    limits: WriteLimits,
    progress: Progress,
}

/// The socket of a connection with these limits.
pub fn limited(stream: TcpStream, limits: WriteLimits, progress: Progress) -> LimitedStream<ResponseLimit> {
    // Without effect it is only larger.
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER);
    LimitedStream::new(stream, ResponseLimit { limits, progress })
}

impl WriteLimit for ResponseLimit {
    fn deadline(&self) -> Option<Instant> {
        // A stream may pause: the policy of its subscription decides, and its memory is bounded.
        let until = self.progress.0.until.get()?;
        Some(until.min(Instant::now() + self.limits.stall))
    }

    fn exceeded(&mut self, stream: &TcpStream) {
        self.progress.broken();
        let limit = match self.progress.0.until.get() {
            Some(until) if until <= Instant::now() => Limit::Total,
            _ => Limit::Stall,
        };
        self.limits.responses.cut(self.limits.listener, limit);
        tracing::warn!(
            listener = self.limits.listener,
            peer = stream.peer_addr().ok().map(tracing::field::display),
            reason = limit.as_str(),
            limit = limit.key(),
            "response cut off: the peer does not read it in time"
        );
    }

    fn closing(&mut self, stream: &TcpStream) {
        if self.progress.0.broken.get() {
            // Without effect the peer has to find the missing end itself.
            let _ = stream.set_zero_linger();
        }
    }
}
