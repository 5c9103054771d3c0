//! The memory budget of data in flight: pages, scraped and received bodies, queues of subscribers, replay.
//!
//! Series have their own limit (`limits.memory`); everything that is buffered on its way in or out is reserved here before it is
//! allocated (`limits.in_flight`), so that many parties, each within its own limits, cannot use unbounded memory together. A refused
//! reservation is counted by part and reason; the caller gives its peer a clear answer.
//!
//! No part can use up the budget alone: each but the pages has at most half of it, and leaves a share to parts that are more
//! important, so that a page can always be rendered.
//!
//! Orderings. The counters guard no other memory, so all accesses are relaxed. A reservation adds to its part, then to the total, and
//! takes the first step back when the second fails. For that moment another reservation may see the part fuller than it is and be
//! refused; no order of steps exceeds a limit.

use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};

/// What a reservation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Pages that are rendered.
    Pages,
    /// Bodies of scraped pages.
    ScrapeBodies,
    /// Bodies of OTLP requests.
    OtlpBodies,
    /// Queues of subscribers, and their tables.
    Subscribers,
    /// Raw events that are kept for replay; reserved as a whole at the start.
    Replay,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 5] = [
        Part::Pages,
        Part::ScrapeBodies,
        Part::OtlpBodies,
        Part::Subscribers,
        Part::Replay,
    ];

    /// Its name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Pages => "pages",
            Part::ScrapeBodies => "scrape_bodies",
            Part::OtlpBodies => "otlp_bodies",
            Part::Subscribers => "subscribers",
            Part::Replay => "replay",
        }
    }

    /// The most bytes of a budget that this part can have.
    pub fn largest(self, limit: usize) -> usize {
        match self {
            Part::Pages => limit,
            _ => limit / 2,
        }
    }

    /// The bytes that this part leaves to others.
    fn spared(self, limit: usize) -> usize {
        match self {
            Part::Pages | Part::Replay => 0,
            Part::ScrapeBodies | Part::OtlpBodies => limit / 8,
            Part::Subscribers => limit / 4,
        }
    }
}

/// Why a reservation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The part has its share of the budget.
    Part,
    /// All parts together have used the budget, but for what this part leaves to others.
    Total,
}

impl Shortage {
    /// All reasons.
    pub const ALL: [Shortage; 2] = [Shortage::Part, Shortage::Total];

    /// The label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Shortage::Part => "part",
            Shortage::Total => "total",
        }
    }
}

/// The budget. Cheap to clone; all clones are one budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    limit: usize,
    used: AtomicUsize,
    parts: [Account; Part::ALL.len()],
}

#[derive(Debug)]
struct Account {
    used: AtomicUsize,
    peak: AtomicUsize,
    refused: [AtomicU64; Shortage::ALL.len()],
}

/// The account of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Reserved bytes.
    pub used: usize,
    /// The most bytes that were reserved at a time.
    pub peak: usize,
    /// Refused reservations, in the order of [`Shortage::ALL`].
    pub refused: [u64; Shortage::ALL.len()],
}

/// Bytes of a budget, returned when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    part: Part,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    ///
    /// ```
    /// use dichroic_pipeline::budget::{Budget, Part};
    /// let budget = Budget::new(1000);
    /// let mut body = budget.try_reserve(Part::OtlpBodies, 300).unwrap();
    /// assert!(!body.try_grow(300), "half of the budget is the most");
    /// assert!(body.try_grow(200));
    /// assert_eq!(budget.used(), 500);
    /// drop(body);
    /// assert_eq!(budget.used(), 0);
    /// ```
    pub fn new(limit: usize) -> Self {
        let account = |_| Account {
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Budget(Arc::new(Counters {
            limit,
            used: AtomicUsize::new(0),
            parts: std::array::from_fn(account),
        }))
    }

    /// Reserves bytes; `None` if there is no room, which is counted.
    pub fn try_reserve(&self, part: Part, bytes: usize) -> Option<Reservation> {
        let mut reservation = self.reserve_nothing(part);
        reservation.try_grow(bytes).then_some(reservation)
    }

    /// A reservation of no bytes, to grow.
    pub fn reserve_nothing(&self, part: Part) -> Reservation {
        Reservation {
            budget: self.clone(),
            part,
            bytes: 0,
        }
    }

    /// The size of the budget.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes reserved by all parts.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The account of a part.
    pub fn usage(&self, part: Part) -> Usage {
        let account = self.account(part);
        Usage {
            used: account.used.load(Ordering::Relaxed),
            peak: account.peak.load(Ordering::Relaxed),
            refused: std::array::from_fn(|at| account.refused[at].load(Ordering::Relaxed)),
        }
    }

    fn account(&self, part: Part) -> &Account {
        &self.0.parts[part as usize]
    }

    fn add(&self, part: Part, bytes: usize) -> Result<(), Shortage> {
        let (limit, account) = (self.0.limit, self.account(part));
        let Some(in_part) = add_within(&account.used, bytes, part.largest(limit)) else {
            return Err(Shortage::Part);
        };
        if add_within(&self.0.used, bytes, limit - part.spared(limit)).is_none() {
            account.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Shortage::Total);
        }
        account.peak.fetch_max(in_part, Ordering::Relaxed);
        Ok(())
    }

    fn subtract(&self, part: Part, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        self.account(part).used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Adds to a counter unless the sum exceeds `most`. Returns the sum.
fn add_within(counter: &AtomicUsize, bytes: usize, most: usize) -> Option<usize> {
    let sum = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= most);
    let before = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    before.ok().map(|before| before + bytes)
}

impl Reservation {
    /// Reserves more bytes. `false`: there is no room, which is counted; the reservation is as before.
    #[must_use]
    pub fn try_grow(&mut self, bytes: usize) -> bool {
        if bytes == 0 {
            return true;
        }
        match self.budget.add(self.part, bytes) {
            Ok(()) => {
                self.bytes += bytes;
                true
            }
            Err(shortage) => {
                let refused = &self.budget.account(self.part).refused[shortage as usize];
                refused.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Returns bytes; all of them if there are fewer.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.subtract(self.part, bytes);
    }

    /// Grows or shrinks to this size. `false`: there is no room to grow.
    #[must_use]
    pub fn try_resize(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            return self.try_grow(bytes - self.bytes);
        }
        self.shrink(self.bytes - bytes);
        true
    }

    /// Reserved bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_its_share_and_leaves_room_for_a_page() {
        let budget = Budget::new(800);
        let otlp = budget.try_reserve(Part::OtlpBodies, 400).unwrap();
        assert!(budget.try_reserve(Part::OtlpBodies, 1).is_none());
        let scrapes = budget.try_reserve(Part::ScrapeBodies, 300).unwrap();
        assert!(budget.try_reserve(Part::ScrapeBodies, 1).is_none());
        assert!(budget.try_reserve(Part::Subscribers, 1).is_none());
        let page = budget.try_reserve(Part::Pages, 100).unwrap();
        assert!(budget.try_reserve(Part::Pages, 1).is_none());
        assert_eq!(budget.usage(Part::OtlpBodies).refused, [1, 0]);
        assert_eq!(budget.usage(Part::ScrapeBodies).refused, [0, 1]);
        assert_eq!(budget.usage(Part::Pages).refused, [0, 1]);
        drop((otlp, scrapes, page));
        assert_eq!(budget.used(), 0);
        assert_eq!(budget.usage(Part::OtlpBodies).peak, 400);
    }

    #[test]
    fn a_reservation_grows_and_shrinks_and_a_refusal_changes_nothing() {
        let budget = Budget::new(100);
        let mut queue = budget.reserve_nothing(Part::Subscribers);
        assert!(queue.try_grow(30) && queue.try_resize(50));
        assert!(!queue.try_grow(1) && !queue.try_grow(usize::MAX));
        assert_eq!((queue.bytes(), budget.used()), (50, 50));
        assert!(queue.try_resize(20));
        queue.shrink(usize::MAX);
        assert_eq!((queue.bytes(), budget.used()), (0, 0));
        assert_eq!(budget.usage(Part::Subscribers).used, 0);
        assert_eq!(budget.usage(Part::Subscribers).peak, 50);
    }
}
