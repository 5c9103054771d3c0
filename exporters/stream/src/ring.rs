//! The queue of one subscriber: rows in order with the gaps between them, bounded in rows and in bytes.
//!
//! Rows are counted after filtering, so the loss of a slow subscriber is exact. Whole batches are shared with the replay and with
//! other subscribers; a part of a batch is a range, so a full ring drops single rows, not batches.

use crate::rows::Rows;
use dichroic_model::{EventSchema, GapReason, TimeRange};
use dichroic_wire::hello::OnFull;
use std::collections::VecDeque;
use std::sync::Arc;

/// Distinct gaps at one position; beyond this number gaps of the same reason are merged.
const GAPS: usize = 64;

/// A counted loss.
#[derive(Debug, Clone)]
pub struct Gap {
    /// The schema of the rows; `None` for all, or if unknown.
    pub schema: Option<Arc<EventSchema>>,
    /// The reason.
    pub reason: GapReason,
    /// The number of rows; `None` if unknown.
    pub lost: Option<u64>,
    /// Of [`GapReason::NotSubscribed`]: when the rows were not requested.
    pub time: Option<TimeRange>,
}

impl Gap {
    /// Rows of any schema, lost because the subscriber was too slow.
    pub fn slow(lost: u64) -> Self {
        Gap {
            schema: None,
            reason: GapReason::Slow,
            lost: Some(lost),
            time: None,
        }
    }

    fn can_merge(&self, other: &Gap) -> bool {
        let id = |gap: &Gap| gap.schema.as_ref().map(|schema| schema.id);
        let touching = self.time.zip(other.time).is_none_or(|(a, b)| a.touches(b));
        self.reason == other.reason && id(self) == id(other) && touching
    }

    fn merge(&mut self, other: Gap) {
        self.lost = self.lost.zip(other.lost).map(|(a, b)| a.saturating_add(b));
        self.time = self.time.zip(other.time).map(|(a, b)| a.union(b));
    }
}

/// Gaps at one position: bounded, because gaps of one schema and reason are merged.
#[derive(Debug, Default)]
struct Gaps(Vec<Gap>);

impl Gaps {
    fn add(&mut self, mut gap: Gap) {
        if let Some(other) = self.0.iter_mut().find(|other| other.can_merge(&gap)) {
            return other.merge(gap);
        }
        if self.0.len() >= GAPS {
            gap.schema = None;
            let same = |other: &&mut Gap| other.reason == gap.reason && other.schema.is_none();
            if let Some(other) = self.0.iter_mut().find(same) {
                return other.merge(gap);
            }
        }
        self.0.push(gap);
    }
}

#[derive(Debug)]
enum Entry {
    Rows(Rows),
    Gaps(Gaps),
}

/// An item taken from a ring.
#[derive(Debug)]
pub enum RingItem {
    /// Rows.
    Rows(Rows),
    /// A loss before the next rows.
    Gap(Gap),
}

/// Result of a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Queued; this many rows, these or older ones, were dropped.
    Queued {
        /// Number of rows.
        dropped: u64,
    },
    /// The ring is full and its policy is `disconnect`. The ring is unchanged.
    Full,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    entries: VecDeque<Entry>,
    /// Losses before the first entry.
    front: Gaps,
    rows: usize,
    bytes: usize,
    max_rows: usize,
    max_bytes: usize,
    on_full: OnFull,
}

impl Ring {
    /// An empty ring.
    pub fn new(max_rows: usize, max_bytes: usize, on_full: OnFull) -> Self {
        Ring {
            entries: VecDeque::new(),
            front: Gaps::default(),
            rows: 0,
            bytes: 0,
            max_rows,
            max_bytes,
            on_full,
        }
    }

    /// Queued rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Accounted bytes, including shared batches.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes its limit in bytes. It applies from the next push.
    pub fn set_max_bytes(&mut self, bytes: usize) {
        self.max_bytes = bytes;
    }

    /// Whether it has neither rows nor gaps.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.front.0.is_empty()
    }

    /// Adds rows at the back; the policy applies when the ring is full.
    pub fn push(&mut self, rows: Rows) -> Pushed {
        if self.rows + rows.len() <= self.max_rows && self.bytes + rows.bytes() <= self.max_bytes {
            self.append(rows);
            return Pushed::Queued { dropped: 0 };
        }
        match self.on_full {
            OnFull::DropOldest => self.push_dropping_oldest(rows),
            OnFull::DropNewest => self.push_dropping_newest(rows),
            OnFull::Disconnect => Pushed::Full,
        }
    }

    /// Adds a loss at the back.
    pub fn push_gap(&mut self, gap: Gap) {
        match self.entries.back_mut() {
            Some(Entry::Gaps(gaps)) => gaps.add(gap),
            Some(Entry::Rows(_)) => self.entries.push_back(Entry::Gaps(Gaps(vec![gap]))),
            None => self.front.add(gap),
        }
    }

    /// Returns rows from `pop`, or the rest of them, to the front, even beyond the limits.
    pub fn put_back(&mut self, rows: Rows) {
        self.rows += rows.len();
        self.bytes += rows.bytes();
        self.entries.push_front(Entry::Rows(rows));
    }

    /// The policy of a full ring.
    pub fn on_full(&self) -> OnFull {
        self.on_full
    }

    /// Takes the next entry.
    pub fn pop(&mut self) -> Option<RingItem> {
        if !self.front.0.is_empty() {
            return Some(RingItem::Gap(self.front.0.remove(0)));
        }
        match self.entries.pop_front()? {
            Entry::Rows(rows) => {
                self.rows -= rows.len();
                self.bytes -= rows.bytes();
                Some(RingItem::Rows(rows))
            }
            Entry::Gaps(gaps) => {
                self.front = gaps;
                self.pop()
            }
        }
    }

    fn append(&mut self, rows: Rows) {
        self.rows += rows.len();
        self.bytes += rows.bytes();
        self.entries.push_back(Entry::Rows(rows));
    }

    fn push_dropping_oldest(&mut self, mut rows: Rows) -> Pushed {
        let mut dropped = 0;
        while self.bytes + rows.bytes() > self.max_bytes {
            match self.drop_oldest(usize::MAX) {
                0 => break,
                rows => dropped += rows,
            }
        }
        while self.rows > 0 && self.rows + rows.len() > self.max_rows {
            dropped += self.drop_oldest(self.rows + rows.len() - self.max_rows);
        }
        // If these rows alone exceed the ring, the newest of them are kept.
        let beyond = rows.len().saturating_sub(self.max_rows) as u32;
        rows.from += beyond;
        dropped += u64::from(beyond);
        self.front.add(Gap::slow(dropped));
        self.append(rows);
        Pushed::Queued { dropped }
    }

    /// Drops up to `rows` of the oldest entry's rows; the gaps before it move to the front. Returns how many were dropped.
    fn drop_oldest(&mut self, rows: usize) -> u64 {
        loop {
            match self.entries.front_mut() {
                None => return 0,
                Some(Entry::Gaps(gaps)) => {
                    std::mem::take(&mut gaps.0)
                        .into_iter()
                        .for_each(|gap| self.front.add(gap));
                    self.entries.pop_front();
                }
                Some(Entry::Rows(oldest)) => {
                    let dropped = rows.min(oldest.len());
                    self.rows -= dropped;
                    if dropped == oldest.len() {
                        self.bytes -= oldest.bytes();
                        self.entries.pop_front();
                    } else {
                        oldest.from += dropped as u32;
                    }
                    return dropped as u64;
                }
            }
        }
    }

    fn push_dropping_newest(&mut self, mut rows: Rows) -> Pushed {
        let room = if self.bytes + rows.bytes() > self.max_bytes && self.rows > 0 {
            0
        } else {
            self.max_rows.saturating_sub(self.rows)
        };
        let kept = rows.len().min(room);
        let dropped = (rows.len() - kept) as u64;
        rows.to = rows.from + kept as u32;
        if kept > 0 {
            self.append(rows);
        }
        if dropped > 0 {
            self.push_gap(Gap::slow(dropped));
        }
        Pushed::Queued { dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::RowStorage;
    use dichroic_model::{Batch, EventKind, Protocol, Runtime, Source, SourceId, SourceSpec};

    fn source() -> Arc<Source> {
        let spec = SourceSpec {
            name: "shop@a".into(),
            runtime: Runtime::Beam,
            ..SourceSpec::new(Protocol::Beam, "")
        };
        Arc::new(Source {
            id: SourceId(0),
            spec,
        })
    }

    fn schema(id: u32) -> Arc<EventSchema> {
        Arc::new(EventSchema {
            id,
            name: format!("a.{id}"),
            kind: EventKind::Event,
            measurements: Vec::new(),
            metadata: Vec::new(),
        })
    }

    fn rows(position: u64, count: u32) -> Rows {
        let batch = Batch {
            schema: schema(1),
            source: source(),
            position,
            rows: count,
            received: 0,
            body: vec![0; 100].into(),
        };
        Rows {
            storage: RowStorage::Shared(Arc::new(batch)),
            from: 0,
            to: count,
        }
    }

    /// All items of the ring: rows as their positions, gaps as their negated size.
    fn drained(ring: &mut Ring) -> Vec<i64> {
        let mut out = Vec::new();
        while let Some(next) = ring.pop() {
            match next {
                RingItem::Rows(rows) => out.extend((rows.from..rows.to).map(|row| rows.position(row) as i64)),
                RingItem::Gap(gap) => out.push(-(gap.lost.unwrap() as i64)),
            }
        }
        assert_eq!((ring.rows(), ring.bytes(), ring.is_empty()), (0, 0, true));
        out
    }

    fn filled(max_rows: usize, on_full: OnFull, batches: &[u32]) -> (Ring, u64, bool) {
        let mut ring = Ring::new(max_rows, 1 << 20, on_full);
        let (mut position, mut lost, mut full) = (0, 0, false);
        for count in batches {
            match ring.push(rows(position, *count)) {
                Pushed::Queued { dropped } => lost += dropped,
                Pushed::Full => full = true,
            }
            position += u64::from(*count);
        }
        (ring, lost, full)
    }

    #[test]
    fn a_full_ring_drops_no_more_rows_than_necessary() {
        let check = |on_full, batches: &[u32], expected: &[i64]| {
            let (mut ring, lost, _) = filled(4, on_full, batches);
            assert_eq!(drained(&mut ring), expected, "{on_full:?} {batches:?}");
            let reported: i64 = expected.iter().filter(|n| **n < 0).sum();
            assert_eq!(lost as i64, -reported);
        };
        use OnFull::{DropNewest, DropOldest};
        check(DropOldest, &[2, 2], &[0, 1, 2, 3]);
        check(DropOldest, &[3, 3], &[-2, 2, 3, 4, 5]);
        check(DropOldest, &[1, 1, 1, 1, 1], &[-1, 1, 2, 3, 4]);
        check(DropOldest, &[2, 9], &[-7, 7, 8, 9, 10]);
        check(DropOldest, &[9], &[-5, 5, 6, 7, 8]);
        check(DropNewest, &[3, 3], &[0, 1, 2, 3, -2]);
        check(DropNewest, &[9, 1, 1], &[0, 1, 2, 3, -7]);
    }

    #[test]
    fn a_full_ring_under_disconnect_is_unchanged_and_reports_it() {
        let (mut ring, lost, full) = filled(4, OnFull::Disconnect, &[3, 3]);
        assert_eq!((lost, full), (0, true));
        assert_eq!(drained(&mut ring), [0, 1, 2]);
    }

    #[test]
    fn the_ring_is_bounded_in_bytes_too() {
        let mut ring = Ring::new(1_000_000, 4_000, OnFull::DropOldest);
        let mut lost = 0;
        for position in 0..1_000 {
            if let Pushed::Queued { dropped } = ring.push(rows(position, 1)) {
                lost += dropped;
            }
            assert!(ring.bytes() <= 4_000);
        }
        let out = drained(&mut ring);
        assert_eq!(out[0], -(lost as i64));
        assert_eq!(*out.last().unwrap(), 999);
        assert_eq!(out.len() as u64 - 1 + lost, 1_000);
    }

    #[test]
    fn gaps_keep_their_position_when_rows_before_them_are_dropped() {
        let relay = |id, lost| Gap {
            schema: Some(schema(id)),
            reason: GapReason::RelayOverload,
            lost: Some(lost),
            time: None,
        };
        let mut ring = Ring::new(4, 1 << 20, OnFull::DropOldest);
        ring.push(rows(0, 2));
        ring.push_gap(relay(1, 100));
        ring.push_gap(relay(1, 10));
        ring.push(rows(2, 2));
        ring.push(rows(4, 3));
        // Rows 0 to 2 were dropped in two steps around the relay's gap; their gaps are merged.
        let mut items = drained(&mut ring);
        items[..2].sort_unstable();
        assert_eq!(items, [-110, -3, 3, 4, 5, 6]);
    }

    #[test]
    fn many_distinct_gaps_are_merged_and_counted() {
        let mut ring = Ring::new(4, 1 << 20, OnFull::DropNewest);
        ring.push(rows(0, 1));
        for id in 0..10_000 {
            ring.push_gap(Gap {
                schema: Some(schema(id)),
                reason: GapReason::RateLimit,
                lost: Some(1),
                time: None,
            });
        }
        let out = drained(&mut ring);
        assert!(out.len() <= 2 + GAPS, "{}", out.len());
        assert_eq!(out[1..].iter().sum::<i64>(), -10_000);
    }

    #[test]
    fn a_gap_merged_with_one_of_unknown_size_has_unknown_size() {
        let mut ring = Ring::new(4, 1 << 20, OnFull::DropOldest);
        for lost in [Some(1), None, Some(2)] {
            let (schema, reason) = (None, GapReason::RelayBroke);
            let time = None;
            ring.push_gap(Gap {
                schema,
                reason,
                lost,
                time,
            });
        }
        assert!(matches!(ring.pop(), Some(RingItem::Gap(Gap { lost: None, .. }))));
        assert!(ring.pop().is_none());
    }

    #[test]
    fn gaps_in_time_are_merged_where_they_touch_and_beyond_the_limit() {
        let gap = |id, start, end| Gap {
            schema: Some(schema(id)),
            reason: GapReason::NotSubscribed,
            lost: None,
            time: Some(TimeRange { start, end }),
        };
        let times = |ring: &mut Ring| {
            std::iter::from_fn(|| ring.pop())
                .map(|item| match item {
                    RingItem::Gap(Gap { time: Some(time), .. }) => (time.start, time.end),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        let mut ring = Ring::new(4, 1 << 20, OnFull::DropOldest);
        for (id, start, end) in [(1, 0, 10), (1, 20, 30), (2, 5, 7), (1, 10, 15)] {
            ring.push_gap(gap(id, start, end));
        }
        assert_eq!(times(&mut ring), [(0, 15), (20, 30), (5, 7)]);
        for at in 0..1_000 {
            ring.push_gap(gap(1, 2 * at, 2 * at + 1));
        }
        let times = times(&mut ring);
        assert_eq!(times.len(), GAPS + 1);
        assert_eq!(times.last(), Some(&(2 * GAPS as u64, 1_999)));
    }

    #[test]
    fn every_row_is_delivered_or_reported_as_lost() {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |t| t.as_nanos() as u64 | 1);
        println!("seed {seed}");
        let mut random = seed;
        let mut below = |n: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % n
        };
        for round in 0..300 {
            let policy = [OnFull::DropOldest, OnFull::DropNewest][round % 2];
            let mut ring = Ring::new(1 + below(50) as usize, 1_000 + below(5_000) as usize, policy);
            let (mut position, mut next, mut dropped, mut reported) = (0, 0, 0, 0);
            for _ in 0..200 {
                if below(3) > 0 {
                    let count = 1 + below(30);
                    if let Pushed::Queued { dropped: more } = ring.push(rows(position, count as u32)) {
                        dropped += more;
                    }
                    position += count;
                } else {
                    match ring.pop() {
                        Some(RingItem::Rows(rows)) => {
                            assert_eq!(rows.position(rows.from), next, "seed {seed}");
                            next += rows.len() as u64;
                        }
                        Some(RingItem::Gap(gap)) => {
                            reported += gap.lost.unwrap();
                            next += gap.lost.unwrap();
                        }
                        None => assert_eq!(next, position, "seed {seed}"),
                    }
                }
            }
            while let Some(item) = ring.pop() {
                match item {
                    RingItem::Rows(rows) => next += rows.len() as u64,
                    RingItem::Gap(gap) => {
                        (reported, next) = (reported + gap.lost.unwrap(), next + gap.lost.unwrap())
                    }
                }
            }
            assert_eq!((next, reported), (position, dropped), "seed {seed}");
        }
    }
}
