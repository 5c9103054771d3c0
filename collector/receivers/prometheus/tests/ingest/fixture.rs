//! A target with its page and a store.

use crate::common::{NOW, store};
use dichroic_model::{Limits, Protocol, SECOND, Source, SourceSpec};
use dichroic_pipeline::{Core, DropReason, Signal};
use dichroic_receiver_prometheus::ingest::{
    Exposition, Format, Ingested, Page, PageError, PageLimits, ScrapeTimes,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

pub const OM: Format = Format::OpenMetrics {
    quoted_names: false,
    strict: true,
};

/// OpenMetrics as Prometheus reads it.
pub const LENIENT: Format = Format::OpenMetrics {
    quoted_names: false,
    strict: false,
};

/// A target with its page and a store.
pub struct Fixture {
    pub store: Rc<RefCell<Core>>,
    pub source: Arc<Source>,
    pub page: Page,
    pub limits: PageLimits,
    pub honor_timestamps: bool,
    pub scrapes: u64,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let store = store(limits);
        let spec = SourceSpec {
            job: "j".into(),
            instance: "i".into(),
            ..SourceSpec::new(Protocol::Prometheus, "t")
        };
        let source = store
            .borrow_mut()
            .open_source(spec, NOW)
            .expect("room for a source");
        Self {
            store,
            source,
            page: Page::default(),
            limits: PageLimits::default(),
            honor_timestamps: true,
            scrapes: 0,
        }
    }

    /// Scrapes once; each scrape is a second later.
    pub fn scrape(&mut self, page: &str, format: Format) -> Result<Ingested, PageError> {
        self.scrapes += 1;
        let scraped = NOW + self.scrapes * SECOND;
        let times = ScrapeTimes {
            scraped,
            now: scraped,
            honor_timestamps: self.honor_timestamps,
        };
        let exposition = Exposition {
            body: page.as_bytes(),
            format,
            limits: self.limits,
            times,
        };
        self.page.ingest(&self.store, &self.source, &exposition)
    }

    pub fn good(&mut self, page: &str, format: Format) -> Ingested {
        self.scrape(page, format)
            .unwrap_or_else(|error| panic!("{error}: {page}"))
    }

    pub fn account(&self) -> (u64, u64, Vec<(DropReason, u64)>) {
        let store = self.store.borrow();
        assert!(store.ledger().balances());
        let account = store
            .ledger()
            .account(self.source.id, Signal::Metrics)
            .expect("an account");
        (account.received, account.applied, account.drops().collect())
    }
}
