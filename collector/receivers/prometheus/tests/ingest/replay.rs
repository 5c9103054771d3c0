//! A replayed page gives what a parsed page gives.

use crate::common::{NOW, lines, on_ingest_thread};
use crate::fixture::{Fixture, LENIENT, OM};
use dichroic_receiver_prometheus::ingest::{Format, PageError};
use proptest::prelude::*;

#[test]
fn a_replay_of_openmetrics_is_as_strict_as_the_parser() {
    let page = |total: &str, buckets: [u64; 3], count: u64, info: &str| {
        format!(
            "# TYPE c counter\nc_total {total}\n# TYPE h histogram\nh_bucket{{le=\"1\"}} {}\nh_bucket{{le=\"2\"}} {}\nh_bucket{{le=\"+Inf\"}} {}\n\
             h_count {count}\nh_sum 1\n# TYPE i info\ni_info{{a=\"b\"}} {info}\n# EOF\n",
            buckets[0], buckets[1], buckets[2]
        )
    };
    let good = page("1", [1, 2, 3], 3, "1");
    let check = |second: &str, problem: &str| {
        let mut fixture = Fixture::new();
        fixture.good(&good, OM);
        match fixture.scrape(second, OM) {
            Err(PageError::Parse(error)) => assert_eq!(error.problem, problem),
            other => panic!("{second}: {other:?}"),
        }
    };
    check(&page("-1", [1, 2, 3], 3, "1"), "negative count, sum or quantile");
    check(&page("NaN", [1, 2, 3], 3, "1"), "NaN as a count or sum");
    check(
        &page("1", [2, 1, 3], 3, "1"),
        "bucket count lower than that of the previous bucket",
    );
    check(
        &page("1", [1, 2, 3], 4, "1"),
        "histogram count differs from the +Inf bucket",
    );
    check(&page("1", [1, 2, 3], 3, "2"), "info value other than 1");
    check(&good.replace("# EOF\n", ""), "incomplete page");
    check(&good.replace("# EOF\n", "# EOF\nx"), "text after `# EOF`");
    check(
        &good.replace("# TYPE i info\n", "\n# TYPE i info\n"),
        "blank line",
    );
    check(
        &good
            .replace("h_count 3\nh_sum 1\n", "h_sum 1\nh_count 3\n")
            .replace("c_total 1", "c_total x"),
        "invalid number",
    );
}

#[test]
fn changed_metadata_is_detected() {
    on_ingest_thread(async {
        let mut fixture = Fixture::new();
        fixture.good("# TYPE a gauge\na 1\n", Format::Text);
        assert!(!fixture.good("# TYPE a counter\na 1\n", Format::Text).replayed);
        assert_eq!(
            lines(&fixture.store).await,
            ["counter a{job=\"j\",instance=\"i\"} 1"]
        );
    });
}

#[test]
fn changed_buckets_are_another_series() {
    on_ingest_thread(async {
        let mut fixture = Fixture::new();
        let page = |bound: &str| {
            format!(
                "# TYPE h histogram\nh_bucket{{le=\"{bound}\"}} 1\nh_bucket{{le=\"+Inf\"}} 2\nh_count 2\nh_sum 3\n"
            )
        };
        fixture.good(&page("1"), Format::Text);
        fixture.good(&page("2"), Format::Text);
        assert_eq!(
            lines(&fixture.store).await,
            ["histogram h{job=\"j\",instance=\"i\"} [2.0] [1, 1] sum Some(3.0)"]
        );
    });
}

#[test]
fn a_replay_counts_what_the_page_violates_and_detects_what_is_new() {
    let page = |sum: &str, count: &str| {
        format!("# TYPE h histogram\nh_bucket{{le=\"+Inf\"}} 3\nh_sum {sum}\nh_count {count}\n# EOF\n")
    };
    on_ingest_thread(async {
        let mut fixture = Fixture::new();
        let shown = async |fixture: &Fixture| {
            lines(&fixture.store)
                .await
                .join("; ")
                .replace("{job=\"j\",instance=\"i\"}", "")
        };
        assert_eq!(fixture.good(&page("1", "3"), LENIENT).violations, 0);
        let first = fixture.good(&page("NaN", "3"), LENIENT);
        assert_eq!((first.violations, first.replayed), (1, false));
        let again = fixture.good(&page("NaN", "3"), LENIENT);
        assert_eq!((again.violations, again.replayed), (1, true));
        assert_eq!(shown(&fixture).await, "histogram h [] [3] sum Some(NaN)");
        fixture.good(&page("2", "2.5"), LENIENT);
        assert!(shown(&fixture).await.contains("unknown h_count 2.5"));
        assert_eq!(fixture.good(&page("2", "3"), LENIENT).violations, 0);
        assert_eq!(shown(&fixture).await, "histogram h [] [3] sum Some(2.0)");
        let text = |count: &str| page("2", count).replace("# EOF\n", "");
        let mut fixture = Fixture::new();
        fixture.good(&text("3"), Format::Text);
        assert!(fixture.good(&text("3"), Format::Text).replayed);
        fixture.good(&text("4"), Format::Text);
        assert!(shown(&fixture).await.contains("unknown h_count 4"));
        fixture.good(&text("3"), Format::Text);
        assert_eq!(shown(&fixture).await, "histogram h [] [3] sum Some(2.0)");
        fixture.account();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replayed_page_gives_the_same_store_as_a_parsed_page(
        scrapes in prop::collection::vec(prop::collection::vec((0..6u8, 0..100u32, prop::option::of(0..9i64)), 0..8), 1..6)
    ) {
        on_ingest_thread(async {
            let mut remembering = Fixture::new();
            for (scrape, before) in scrapes.into_iter().zip(0..) {
                let page: String = scrape.iter().map(|(series, value, time)| {
                    // After the last scrape, and before the time of this one.
                    let time = time.map(|time| (NOW / 1_000_000) as i64 + before * 1_000 + 100 * (time + 1));
                    let time = time.map(|time| format!(" {time}")).unwrap_or_default();
                    format!("m{{s=\"{series}\"}} {value}{time}\n")
                }).collect();
                let mut fresh = Fixture::new();
                let (a, b) = (remembering.good(&page, Format::Text), fresh.good(&page, Format::Text));
                assert_eq!((a.samples, a.applied), (b.samples, b.applied));
                assert_eq!(lines(&remembering.store).await, lines(&fresh.store).await);
            }
            remembering.account();
        });
    }

    #[test]
    fn a_replay_of_openmetrics_accepts_the_same_pages_as_the_parser(
        scrapes in prop::collection::vec((prop::collection::vec(0..5usize, 12), any::<bool>()), 2..6)
    ) {
        const VALUES: [&str; 5] = ["1", "0", "2", "-1", "NaN"];
        on_ingest_thread(async {
            let mut remembering = Fixture::new();
            for (picks, usually_one) in scrapes {
                // Mostly valid pages, so that there is something to replay.
                let value = |n: usize| if usually_one && picks[n] < 4 { "1" } else { VALUES[picks[n]] };
                let page = format!(
                    "# TYPE c counter\nc_total {}\n\
                     # TYPE h histogram\nh_bucket{{le=\"1\"}} {}\nh_bucket{{le=\"+Inf\"}} {}\nh_count {}\nh_sum {}\n\
                     # TYPE g gaugehistogram\ng_bucket{{le=\"-1\"}} {}\ng_bucket{{le=\"+Inf\"}} {}\ng_gcount {}\ng_gsum {}\n\
                     # TYPE s summary\ns{{quantile=\"0.5\"}} {}\ns_count {}\n\
                     # TYPE i info\ni_info {}\n# EOF\n",
                    value(0), value(1), value(2), value(3), value(4), value(5), value(6), value(7), value(8), value(9),
                    value(10), value(11)
                );
                let mut fresh = Fixture::new();
                let (again, first) = (remembering.scrape(&page, OM), fresh.scrape(&page, OM));
                assert_eq!(again.map(|a| a.applied), first.clone().map(|a| a.applied), "{page}");
                if first.is_ok() {
                    assert_eq!(lines(&remembering.store).await, lines(&fresh.store).await);
                }
            }
            remembering.account();
        });
    }
}
