//! Limits of pages and of the store, and pauses.

use crate::common::{NOW, on_ingest_thread};
use crate::fixture::Fixture;
use dichroic_model::Limits;
use dichroic_pipeline::DropReason;
use dichroic_receiver_prometheus::ingest::{Exposition, Format, PageLimits, ScrapeTimes};
use std::cell::Cell;

#[test]
fn a_label_explosion_is_bounded_by_the_store_and_counted() {
    let mut fixture = Fixture::with(Limits {
        series: 100,
        ..Limits::default()
    });
    for scrape in 0..5 {
        let page: String = (0..1000)
            .map(|i| format!("a{{id=\"{scrape}-{i}\"}} 1\n"))
            .collect();
        let ingested = fixture.good(&page, Format::Text);
        assert_eq!((ingested.samples, ingested.applied), (1000, 100));
        assert_eq!(fixture.store.borrow().series(), 100);
    }
    assert_eq!(
        fixture.account(),
        (5000, 500, vec![(DropReason::SeriesLimit, 4500)])
    );
}

#[test]
fn a_page_over_a_limit_is_rejected_as_a_whole() {
    let check = |limits: PageLimits, page: &str, expected: &str| {
        let mut fixture = Fixture {
            limits,
            ..Fixture::new()
        };
        match fixture.scrape(page, Format::Text) {
            Ok(_) => assert_eq!(expected, "", "{page}"),
            Err(error) => assert_eq!(error.to_string(), expected, "{page}"),
        }
        assert!(fixture.store.borrow().ledger().balances());
    };
    let none = PageLimits::default();
    // Prometheus counts the labels of the target too.
    let of_target = PageLimits {
        labels: 3,
        target_labels: 2,
        ..none
    };
    check(of_target, "a 1\na{b=\"\"} 1\n", "");
    check(
        of_target,
        "a{b=\"c\"} 1\n",
        "line 1: the number of labels is over its limit of 3; raise label_limit, or reduce the labels",
    );
    check(PageLimits { samples: 2, ..none }, "a 1\nb 1\n", "");
    check(
        PageLimits { samples: 2, ..none },
        "a 1\nb 1\nc 1\n",
        "more than 2 samples; raise sample_limit, or reduce the page",
    );
    check(PageLimits { labels: 2, ..none }, "a{b=\"c\"} 1\n", "");
    check(
        PageLimits { labels: 2, ..none },
        "x 1\na{b=\"c\",d=\"e\"} 1\n",
        "line 2: the number of labels is over its limit of 2; raise label_limit, or reduce the labels",
    );
    check(
        PageLimits {
            label_value_bytes: 3,
            ..none
        },
        "a{b=\"long\"} 1\n",
        "line 1: a label's value is over its limit of 3; raise label_value_length_limit, or reduce the labels",
    );
}

#[test]
fn a_large_page_pauses_often_and_releases_the_store() {
    on_ingest_thread(async {
        let mut fixture = Fixture::new();
        let page: String = (0..50_000).map(|i| format!("a{{id=\"{i}\"}} 1\n")).collect();
        for at_least in [150, 15] {
            let pauses = Cell::new(0);
            let pause = || {
                assert!(fixture.store.try_borrow_mut().is_ok());
                pauses.set(pauses.get() + 1);
                tokio::task::yield_now()
            };
            let times = ScrapeTimes {
                scraped: NOW,
                now: NOW,
                honor_timestamps: true,
            };
            let exposition = Exposition {
                body: page.as_bytes(),
                format: Format::Text,
                limits: fixture.limits,
                times,
            };
            let ingested = fixture
                .page
                .ingest_in_steps(&fixture.store, &fixture.source, &exposition, pause)
                .await;
            assert_eq!(ingested.map(|ingested| ingested.applied), Ok(50_000));
            assert!(pauses.get() >= at_least, "{} pauses", pauses.get());
        }
    });
}
