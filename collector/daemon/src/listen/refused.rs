//! Refused connections and HTTP requests, counted by listener and reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The peer's user is not in `security.local_socket.allow_uids`.
    User,
    /// No token, or a wrong one.
    Token,
    /// Too many pending handshakes, or too many relays that wait for the ingest thread.
    Limit,
    /// No HELLO in time.
    Timeout,
    /// Not a HELLO, or one with an invalid role.
    Malformed,
    /// A `Host` that names neither this machine nor an allowed host.
    Host,
    /// A request that a web page of another site makes.
    CrossSite,
}

/// Every pair of listener and reason, with the label value of `dichroic_connections_refused_total`.
const COUNTED: [(&str, Reason, &str); 12] = [
    ("local_socket", Reason::User, "user"),
    ("local_socket", Reason::Limit, "limit"),
    ("local_socket", Reason::Timeout, "timeout"),
    ("local_socket", Reason::Malformed, "malformed"),
    ("local_tcp", Reason::Token, "token"),
    ("local_tcp", Reason::Limit, "limit"),
    ("local_tcp", Reason::Timeout, "timeout"),
    ("local_tcp", Reason::Malformed, "malformed"),
    ("prometheus", Reason::Host, "host"),
    ("prometheus", Reason::CrossSite, "cross_site"),
    ("admin", Reason::Host, "host"),
    ("admin", Reason::CrossSite, "cross_site"),
];

/// The counters. Written by the main thread, read by the ingest thread for the self telemetry.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; COUNTED.len()]);

impl Refusals {
    /// Counts a refused connection.
    pub fn count(&self, listener: &str, reason: Reason) {
        let at = COUNTED
            .iter()
            .position(|row| row.0 == listener && row.1 == reason);
        if let Some(counter) = at.map(|at| &self.0[at]) {
            // Relaxed: no other memory is published with the count.
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// (listener, reason, connections) of every pair.
    pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counters = COUNTED.iter().zip(&self.0);
        counters
            .map(|(row, counter)| (row.0, row.2, counter.load(Ordering::Relaxed)))
            .collect()
    }
}
