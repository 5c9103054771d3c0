//! A subscriber's account: offered = sent + dropped + queued, for itself and in the total of its hop.

use dichroic_pipeline::Hop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts for one subscriber and for all. Rows still queued at its end are counted as dropped.
#[derive(Debug)]
pub(crate) struct Account {
    own: Arc<Hop>,
    total: Arc<Hop>,
}

impl Account {
    pub fn new(own: Arc<Hop>, total: Arc<Hop>) -> Self {
        Account { own, total }
    }

    fn both(&self, change: impl Fn(&Hop)) {
        change(&self.own);
        change(&self.total);
    }

    /// Rows were queued.
    pub fn offered(&self, rows: u64) {
        self.both(|hop| {
            Hop::add(&hop.offered, rows);
            Hop::add(&hop.queued, rows);
        });
    }

    /// Queued rows were written.
    pub fn sent(&self, rows: u64) {
        self.both(|hop| {
            Hop::add(&hop.sent, rows);
            take(&hop.queued, rows);
        });
    }

    /// Queued rows were lost.
    pub fn dropped(&self, rows: u64) {
        self.both(|hop| {
            Hop::add(&hop.dropped, rows);
            take(&hop.queued, rows);
        });
    }

    /// Rows were lost before they were queued.
    pub fn lost(&self, rows: u64) {
        self.offered(rows);
        self.dropped(rows);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.dropped(self.own.queued.load(Ordering::Relaxed));
    }
}

fn take(counter: &AtomicU64, rows: u64) {
    counter.fetch_sub(rows, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_queued_at_the_end_count_as_dropped() {
        let (own, total) = (Arc::new(Hop::default()), Arc::new(Hop::default()));
        let account = Account::new(own.clone(), total.clone());
        account.offered(10);
        account.sent(4);
        account.dropped(1);
        account.lost(2);
        assert_eq!(own.read(), (12, 4, 3, 5));
        drop(account);
        assert_eq!(own.read(), (12, 4, 8, 0));
        assert_eq!(total.read(), own.read());
    }
}
