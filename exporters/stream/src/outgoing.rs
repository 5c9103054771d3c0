//! The write buffer of one subscriber, with marks that map written bytes to sent rows.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// At this size encoding pauses until bytes are written. A single entry may exceed it.
const TARGET_BYTES: usize = 64 << 10;
/// An empty buffer above this capacity is freed.
const MAX_IDLE_CAPACITY: usize = 256 << 10;

/// A subscriber that has taken no byte for this time does not read at present.
const UNREAD: Duration = Duration::from_secs(1);

/// Encoded bytes that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Encoders append here.
    pub bytes: Vec<u8>,
    at: usize,
    /// (end in `bytes`, rows that end there)
    marks: VecDeque<(usize, u64)>,
    /// Rows of all marks.
    rows: u64,
    /// Above this many rows nothing is encoded either: rows here are beyond `buffer` and `on_full`. 0: no limit.
    rows_max: u64,
    /// Since when the bytes are offered and none is taken.
    offered: Option<Instant>,
}

impl Outgoing {
    /// For a subscriber whose ring holds `buffer` rows.
    pub fn new(buffer: usize) -> Self {
        Outgoing {
            rows_max: buffer as u64,
            ..Outgoing::default()
        }
    }

    /// The bytes to write next.
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Whether more may be encoded.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.at < TARGET_BYTES && (self.rows_max == 0 || self.rows < self.rows_max)
    }

    /// The last `rows` rows end here.
    pub fn mark(&mut self, rows: u64) {
        if rows > 0 {
            self.marks.push_back((self.bytes.len(), rows));
            self.rows += rows;
        }
    }

    /// Records that the bytes, if there are any, are offered to the subscriber.
    pub fn offer(&mut self, now: Instant) {
        self.offered = (!self.is_empty()).then(|| self.offered.unwrap_or(now));
    }

    /// Whether the subscriber does not read at present.
    pub fn is_unread(&self) -> bool {
        self.offered.is_some_and(|since| since.elapsed() >= UNREAD)
    }

    /// When [`Outgoing::is_unread`] becomes true if nothing is written.
    pub fn unread_at(&self) -> Option<Instant> {
        self.offered.map(|since| since + UNREAD)
    }

    /// Records written bytes; returns the number of rows completed by them.
    pub fn written(&mut self, bytes: usize) -> u64 {
        self.at += bytes;
        self.offered = None;
        let mut rows = 0;
        while let Some((end, marked)) = self.marks.front().copied() {
            if end > self.at {
                break;
            }
            self.marks.pop_front();
            rows += marked;
        }
        self.rows -= rows;
        if self.is_empty() {
            self.at = 0;
            self.bytes.clear();
            if self.bytes.capacity() > MAX_IDLE_CAPACITY {
                self.bytes = Vec::new();
            }
        }
        rows
    }

    /// Removes written bytes, so that a buffer that is never empty does not grow.
    pub fn compact(&mut self) {
        if self.at >= TARGET_BYTES {
            self.bytes.drain(..self.at);
            self.marks.iter_mut().for_each(|(end, _)| *end -= self.at);
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sent_when_their_last_byte_is_written() {
        let mut out = Outgoing::default();
        out.bytes.extend([0; 10]);
        out.mark(3);
        out.bytes.extend([0; 5]);
        out.mark(2);
        assert_eq!(out.written(9), 0);
        assert_eq!(out.written(1), 3);
        assert_eq!(out.pending().len(), 5);
        assert_eq!(out.written(5), 2);
        assert!(out.is_empty());
    }

    #[test]
    fn no_more_rows_wait_here_than_in_the_ring() {
        let mut out = Outgoing::new(5);
        out.bytes.extend([0; 10]);
        out.mark(4);
        assert!(out.has_room());
        out.bytes.extend([0; 10]);
        out.mark(4);
        assert!(!out.has_room());
        assert_eq!(out.written(10), 4);
        assert!(out.has_room());
    }

    #[test]
    fn a_buffer_that_is_never_empty_stays_small() {
        let mut out = Outgoing::default();
        out.bytes.push(0);
        let mut rows = 0;
        for _ in 0..1_000 {
            out.bytes.extend([0; 4_096]);
            out.mark(1);
            rows += out.written(4_096);
            out.compact();
        }
        assert!(
            out.bytes.capacity() < 4 * TARGET_BYTES,
            "{}",
            out.bytes.capacity()
        );
        assert_eq!(rows + out.marks.len() as u64, 1_000);
    }
}
