//! Pages into the store: families to points, replay, expiry, and the account.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use common::{NOW, lines, on_ingest_thread, rows, store};
use dichroic_model::{Limits, Protocol, SECOND, Source, SourceSpec};
use dichroic_pipeline::{Core, DropReason, Signal};
use dichroic_receiver_prometheus::ingest::{
    Exposition, Format, Ingested, Page, PageError, PageLimits, ScrapeTimes,
};
use proptest::prelude::*;

const OM: Format = Format::OpenMetrics {
    quoted_names: false,
    strict: true,
};

/// OpenMetrics as Prometheus reads it.
const LENIENT: Format = Format::OpenMetrics {
    quoted_names: false,
    strict: false,
};

/// A target with its page and a store.
struct Fixture {
    store: Rc<RefCell<Core>>,
    source: Arc<Source>,
    page: Page,
    limits: PageLimits,
    honor_timestamps: bool,
    scrapes: u64,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
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
    fn scrape(&mut self, page: &str, format: Format) -> Result<Ingested, PageError> {
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

    fn good(&mut self, page: &str, format: Format) -> Ingested {
        self.scrape(page, format)
            .unwrap_or_else(|error| panic!("{error}: {page}"))
    }

    fn account(&self) -> (u64, u64, Vec<(DropReason, u64)>) {
        let store = self.store.borrow();
        assert!(store.ledger().balances());
        let account = store
            .ledger()
            .account(self.source.id, Signal::Metrics)
            .expect("an account");
        (account.received, account.applied, account.drops().collect())
    }
}

const EVERYTHING: &str = "\
# TYPE c counter\n# HELP c Counts.\nc_total{a=\"1\"} 5\nc_created{a=\"1\"} 1600000000.5\n\
# TYPE g gauge\ng{b=\"x\\\"y\",empty=\"\"} -1.5\n\
# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 6\nh_count 6\nh_sum 7.5\n\
# TYPE s summary\ns{quantile=\"0.5\"} 2\ns{quantile=\"0.9\"} 3\ns_count 4\ns_sum 9\n\
# TYPE i info\ni_info{version=\"1\"} 1\n# TYPE t stateset\nt{t=\"on\"} 1\nt{t=\"off\"} 0\n\
# TYPE gh gaugehistogram\ngh_bucket{le=\"1\"} 2\ngh_bucket{le=\"+Inf\"} 2\ngh_gcount 2\ngh_gsum 1\nfree 7\n# EOF\n";

fn everything() -> Vec<&'static str> {
    vec![
        "counter c_total{job=\"j\",instance=\"i\",a=\"1\"} 5",
        "gauge g{job=\"j\",instance=\"i\",b=\"x\\\"y\"} -1.5",
        "gaugehistogram gh{job=\"j\",instance=\"i\"} [1.0] [2, 0] sum Some(1.0)",
        "histogram h{job=\"j\",instance=\"i\"} [0.5, 1.0] [1, 2, 3] sum Some(7.5)",
        "info i{job=\"j\",instance=\"i\",version=\"1\"} 1",
        "stateset t{job=\"j\",instance=\"i\",t=\"off\"} 0",
        "stateset t{job=\"j\",instance=\"i\",t=\"on\"} 1",
        "summary s{job=\"j\",instance=\"i\"} [(0.5, 2.0), (0.9, 3.0)] count 4 sum 9",
        "unknown free{job=\"j\",instance=\"i\"} 7",
    ]
}

#[test]
fn samples_become_the_points_of_their_families() {
    on_ingest_thread(async {
        let mut fixture = Fixture::new();
        let first = fixture.good(EVERYTHING, OM);
        assert_eq!(
            (first.samples, first.applied, first.added, first.replayed),
            (20, 20, 9, false)
        );
        assert_eq!(lines(&fixture.store).await, everything());
        let again = fixture.good(EVERYTHING, OM);
        assert_eq!(
            (again.samples, again.applied, again.added, again.replayed),
            (20, 20, 0, true)
        );
        assert_eq!(lines(&fixture.store).await, everything());
        assert_eq!(fixture.account(), (40, 40, vec![]));
        let rows = rows(&fixture.store).await;
        let counter = rows
            .iter()
            .find(|row| row.meta.metric.name == "c_total")
            .expect("the counter");
        assert_eq!(
            (counter.start, counter.time),
            (1_600_000_000_500_000_000, NOW + 2 * SECOND)
        );
        assert_eq!(counter.meta.metric.help, "Counts.");
    });
}

#[test]
fn both_formats_give_the_same_points() {
    on_ingest_thread(async {
        let text = "\
# HELP c_total Counts.\n# TYPE c_total counter\nc_total{a=\"1\"} 5\n# TYPE c_created gauge\nc_created{a=\"1\"} 1600000000.5\n\
# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 6\nh_count 6\nh_sum 7.5\n\
# TYPE s summary\ns{quantile=\"0.5\"} 2\ns{quantile=\"0.9\"} 3\ns_count 4\ns_sum 9\n";
        let mut fixture = Fixture::new();
        fixture.good(text, Format::Text);
        let expected: Vec<&str> = everything()
            .into_iter()
            .filter(|line| {
                ["counter", "histogram", "summary"]
                    .iter()
                    .any(|kind| line.starts_with(kind))
            })
            .collect();
        assert_eq!(lines(&fixture.store).await, expected);
        let started = rows(&fixture.store).await.iter().map(|row| row.start).min();
        assert_eq!(started, Some(1_600_000_000_500_000_000));
    });
}

#[test]
fn missing_series_expire_at_once_and_new_series_are_added() {
    on_ingest_thread(async {
        let mut fixture = Fixture::new();
        fixture.good("a 1\nb 2\nc 3\n", Format::Text);
        let second = fixture.good("c 4\na 5\nd 6\n", Format::Text);
        assert_eq!((second.added, second.replayed), (1, false));
        let of = |lines: Vec<String>| {
            lines
                .iter()
                .map(|line| line.replace("{job=\"j\",instance=\"i\"}", ""))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(lines(&fixture.store).await),
            ["unknown a 5", "unknown c 4", "unknown d 6"]
        );
        assert!(
            fixture.good("d 1\na 2\nc 3\n", Format::Text).replayed,
            "text in another order is the same page"
        );
        assert_eq!(
            of(lines(&fixture.store).await),
            ["unknown a 2", "unknown c 3", "unknown d 1"]
        );
        fixture.page.clear(&mut fixture.store.borrow_mut());
        assert_eq!(lines(&fixture.store).await, Vec::<String>::new());
        assert_eq!(fixture.good("a 1\n", Format::Text).added, 1);
    });
}

#[test]
fn a_page_with_an_error_anywhere_changes_nothing() {
    on_ingest_thread(async {
        let mut fixture = Fixture::new();
        fixture.good("a 1\nb 2\n", Format::Text);
        let before = lines(&fixture.store).await;
        for bad in ["a 5\nb x\n", "a 5\nnew 1\nb 2 3 4\n", "a 5\nb 6\nc{ 1\n"] {
            let error = fixture.scrape(bad, Format::Text).expect_err("a bad page");
            assert!(matches!(error, PageError::Parse(_)), "{error}");
            assert_eq!(lines(&fixture.store).await, before, "{bad:?}");
        }
        assert_eq!(
            fixture.account(),
            (2 + 2 + 3 + 3, 2, vec![(DropReason::Malformed, 8)])
        );
        assert!(fixture.good("a 7\nb 8\n", Format::Text).replayed);
    });
}

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
fn a_decreasing_counter_is_a_reset() {
    on_ingest_thread(async {
        let mut fixture = Fixture::new();
        let start = async |fixture: &Fixture| rows(&fixture.store).await[0].start;
        fixture.good("# TYPE a_total counter\na_total 5\n", Format::Text);
        assert_eq!(start(&fixture).await, NOW + SECOND);
        fixture.good("# TYPE a_total counter\na_total 6\n", Format::Text);
        assert_eq!(start(&fixture).await, NOW + SECOND);
        fixture.good("# TYPE a_total counter\na_total 1\n", Format::Text);
        assert_eq!(start(&fixture).await, NOW + 3 * SECOND);
    });
}

#[test]
fn timestamps_are_honored_as_configured() {
    on_ingest_thread(async {
        for (honor, expected) in [(true, 1_500_000_000_000_000_000), (false, NOW + SECOND)] {
            let mut fixture = Fixture {
                honor_timestamps: honor,
                ..Fixture::new()
            };
            fixture.good("a 1 1500000000000\n", Format::Text);
            assert_eq!(rows(&fixture.store).await[0].time, expected, "{honor}");
        }
        let mut fixture = Fixture::new();
        fixture.good("a 1 1500000000000\nb 1\n", Format::Text);
        assert!(fixture.good("a 2 1500000001000\nb 2\n", Format::Text).replayed);
        assert_eq!(rows(&fixture.store).await[0].time, 1_500_000_001_000_000_000);
    });
}

#[test]
fn duplicates_are_dropped_and_counted() {
    let check = |page: &str, applied: u64, duplicates: u64| {
        for format in [Format::Text, LENIENT] {
            let page = if format == LENIENT {
                format!("{page}# EOF\n")
            } else {
                page.to_owned()
            };
            let mut fixture = Fixture::new();
            for scrape in 1..=2 {
                fixture.good(&page, format);
                let drops = vec![(DropReason::Duplicate, duplicates * scrape)];
                let (received, applied_so_far, dropped) = fixture.account();
                assert_eq!((applied_so_far, dropped), (applied * scrape, drops), "{page}");
                assert_eq!(received, (applied + duplicates) * scrape, "{page}");
            }
        }
    };
    check("a 1\na 2\nb 1\n", 2, 1);
    check("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\n", 1, 1);
    check("a{x=\"\"} 1\na 2\na{} 3\n", 1, 2);
    check(
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 9\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\n",
        4,
        1,
    );
}

/// Every sample of a page, as the store shows it, without the labels of the target.
async fn kept(page: &str, format: Format) -> Vec<String> {
    let mut fixture = Fixture::new();
    let mut before = None;
    for scrape in 1..=2 {
        let ingested = fixture.good(page, format);
        assert_eq!(ingested.samples, ingested.applied, "{page}");
        let (received, applied, drops) = fixture.account();
        assert_eq!(
            (received, applied, drops),
            (ingested.samples * scrape, ingested.samples * scrape, vec![])
        );
        let mut lines: Vec<String> = lines(&fixture.store)
            .await
            .iter()
            .map(|line| {
                line.replace("job=\"j\",instance=\"i\",", "")
                    .replace("{job=\"j\",instance=\"i\"}", "")
            })
            .collect();
        lines.sort();
        assert_eq!(before.get_or_insert(lines.clone()), &lines, "{page}");
    }
    before.unwrap_or_default()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of pages")]
fn samples_that_are_no_whole_histogram_or_summary_are_kept_one_by_one() {
    on_ingest_thread(async {
        let check = async |page: &str, expected: &[&str]| {
            assert_eq!(kept(page, Format::Text).await, expected, "{page}");
            assert_eq!(kept(&format!("{page}# EOF\n"), LENIENT).await, expected, "{page}");
        };
        // Counts that decrease.
        check(
            "# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 4\nh_count 4\nh_sum 1\n",
            &[
                "unknown h_bucket{le=\"+Inf\"} 4",
                "unknown h_bucket{le=\"1.0\"} 5",
                "unknown h_count 4",
                "unknown h_sum 1",
            ],
        )
        .await;
        // Fractions, beside another histogram of the family.
        check(
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 0.5\nh_count 0.5\nh_sum 1\n\
             h_bucket{a=\"b\",le=\"+Inf\"} 2\nh_count{a=\"b\"} 2\nh_sum{a=\"b\"} 3\n",
            &[
                "unknown h_bucket{a=\"b\",le=\"+Inf\"} 2",
                "unknown h_bucket{le=\"+Inf\"} 0.5",
                "unknown h_count 0.5",
                "unknown h_count{a=\"b\"} 2",
                "unknown h_sum 1",
                "unknown h_sum{a=\"b\"} 3",
            ],
        )
        .await;
        // Missing parts: +Inf, the count, the sum, everything but the sum.
        check(
            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_count 1\nh_sum 1\n",
            &[
                "unknown h_bucket{le=\"1.0\"} 1",
                "unknown h_count 1",
                "unknown h_sum 1",
            ],
        )
        .await;
        check(
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\n",
            &["unknown h_bucket{le=\"+Inf\"} 1", "unknown h_sum 1"],
        )
        .await;
        check(
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\n",
            &["unknown h_bucket{le=\"+Inf\"} 1", "unknown h_count 1"],
        )
        .await;
        check("# TYPE h histogram\nh_sum 1\n", &["unknown h_sum 1"]).await;
        // A count that differs from the +Inf bucket.
        check(
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 2\nh_sum 1\n",
            &[
                "unknown h_bucket{le=\"+Inf\"} 1",
                "unknown h_count 2",
                "unknown h_sum 1",
            ],
        )
        .await;
        // A bucket whose bound is no number, one without a bound, and a total with one.
        check(
            "# TYPE h histogram\nh_bucket{le=\"x\"} 1\nh_bucket{le=\"\"} 2\nh_count{le=\"1\"} 3\n",
            &[
                "unknown h_bucket 2",
                "unknown h_bucket{le=\"x\"} 1",
                "unknown h_count{le=\"1.0\"} 3",
            ],
        )
        .await;
        // Summaries without a count, with a fraction, and with a quantile above 1.
        check(
            "# TYPE s summary\ns{quantile=\"0.5\"} 1\ns{quantile=\"2\"} 3\n",
            &["unknown s{quantile=\"0.5\"} 1", "unknown s{quantile=\"2.0\"} 3"],
        )
        .await;
        check(
            "# TYPE s summary\ns_count 1.5\ns_sum 1\n",
            &["unknown s_count 1.5", "unknown s_sum 1"],
        )
        .await;
        // A summary's value without a quantile.
        check(
            "# TYPE s summary\ns 1\ns_sum 2\ns_count 3\n",
            &["unknown s 1", "unknown s_count 3", "unknown s_sum 2"],
        )
        .await;
        // A bucket without a bound, beside a whole histogram.
        check(
            "# TYPE h histogram\nh_bucket 5\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum 1\n",
            &[
                "unknown h_bucket 5",
                "unknown h_bucket{le=\"+Inf\"} 1",
                "unknown h_count 1",
                "unknown h_sum 1",
            ],
        )
        .await;
        // One family, two names.
        check(
            "# TYPE c counter\nc 1\nc_total 2\n",
            &["counter c 1", "unknown c_total 2"],
        )
        .await;
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of pages")]
fn openmetrics_that_prometheus_keeps_is_kept() {
    on_ingest_thread(async {
        let check = async |page: &str, reasons: &[(&str, u64)], expected: &[&str]| {
            let page = format!("{page}# EOF\n");
            assert_eq!(kept(&page, LENIENT).await, expected, "{page}");
            let mut fixture = Fixture::new();
            fixture.good(&page, LENIENT);
            let violations = fixture.page.violations().iter();
            let seen: Vec<_> = violations
                .map(|each| (each.reason.as_str(), each.count))
                .collect();
            assert_eq!(seen, reasons, "{page}");
            let store = fixture.store.borrow();
            let counted: Vec<_> = store
                .ledger()
                .violations()
                .map(|(_, reason, count)| (reason, count))
                .collect();
            let mut sorted = reasons.to_vec();
            sorted.sort_unstable();
            assert_eq!(counted, sorted, "{page}");
            drop(store);
            let refused = Fixture::new().scrape(&page, OM).is_err();
            // OpenMetrics allows an incomplete point; it is only not what a page of the collector can show.
            let forbidden = reasons.iter().any(|(reason, _)| *reason != "incomplete");
            assert_eq!(refused, forbidden, "strict: {page}");
        };
        check(
            "# TYPE nh histogram\nnh_bucket{le=\"+Inf\"} 3\nnh_sum NaN\nnh_count 3\n",
            &[("values", 1)],
            &["histogram nh [] [3] sum Some(NaN)"],
        )
        .await;
        check(
            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum -3\n",
            &[("values", 1), ("histogram", 1)],
            &["histogram h [1.0] [1, 0] sum Some(-3.0)"],
        )
        .await;
        check(
            "# TYPE x counter\nx_total{s=\"a\"} 1\n# TYPE y counter\ny_total 1\n# TYPE x counter\nx_total{s=\"b\"} 2\n",
            &[("families", 1)],
            &["counter x_total{s=\"a\"} 1", "counter x_total{s=\"b\"} 2", "counter y_total 1"],
        )
        .await;
        check(
            "# TYPE x counter\nx_total{s=\"a\"} 1\ny 1\nx_total{s=\"b\"} 2\n",
            &[("families", 1)],
            &[
                "counter x_total{s=\"a\"} 1",
                "counter x_total{s=\"b\"} 2",
                "unknown y 1",
            ],
        )
        .await;
        check(
            "# TYPE x counter\nx_total 1\n# TYPE x gauge\nx 2\n",
            &[("families", 1)],
            &["counter x_total 1", "gauge x 2"],
        )
        .await;
        check(
            "# TYPE x counter\nx_total NaN\n# TYPE y counter\ny_total -1\n# TYPE z counter\nz 1\n",
            &[("suffix", 1), ("values", 2)],
            &["counter x_total NaN", "counter y_total -1", "counter z 1"],
        )
        .await;
        check(
            "# TYPE i info\ni_info{a=\"b\"} 2\n# TYPE t stateset\nt{t=\"on\"} 3\nt{t=\"off\"} 0\nt 1\n",
            &[("values", 2), ("labels", 1), ("incomplete", 3)],
            &[
                "stateset t{t=\"off\"} 0",
                "unknown i_info{a=\"b\"} 2",
                "unknown t 1",
                "unknown t{t=\"on\"} 3",
            ],
        )
        .await;
        check(
            "# TYPE c counter\nc_created 5\n# TYPE d counter\nd_total 1\nd_created -1\n",
            &[("incomplete", 2)],
            &["counter d_total 1", "unknown c_created 5", "unknown d_created -1"],
        )
        .await;
        check(
            "a{b=\"c\",} 1\n{\"d\"} 2\n# TYPE e gauge\n# TYPE e gauge\ne 1 # {t=\"1\"} 1\n",
            &[("syntax", 2), ("metadata", 1), ("exemplars", 1)],
            &["gauge e 1", "unknown a{b=\"c\"} 1", "unknown d 2"],
        )
        .await;
        check(
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1 5\nh_count 1\nh_sum 1\n",
            &[("timestamps", 1)],
            &["histogram h [] [1] sum Some(1.0)"],
        )
        .await;
        check(
            "# TYPE h histogram\nh_bucket{a=\"1\",le=\"+Inf\"} 1\nh_bucket{a=\"2\",le=\"+Inf\"} 2\n\
             h_count{a=\"1\"} 1\nh_sum{a=\"1\"} 3\nh_count{a=\"2\"} 2\nh_sum{a=\"2\"} 4\n",
            &[("order", 2), ("histogram", 2)],
            &[
                "histogram h{a=\"1\"} [] [1] sum Some(3.0)",
                "histogram h{a=\"2\"} [] [2] sum Some(4.0)",
            ],
        )
        .await;
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

#[test]
fn with_honor_labels_an_empty_label_removes_that_of_the_target() {
    on_ingest_thread(async {
        let check = async |honor: bool, page: &str, expected: &str| {
            let mut fixture = Fixture::new();
            let spec = SourceSpec {
                job: "j".into(),
                instance: "i".into(),
                labels: dichroic_model::Attributes::of(&[("env", "dev")]),
                honor_labels: honor,
                ..SourceSpec::new(Protocol::Prometheus, "honoring")
            };
            fixture.source = fixture
                .store
                .borrow_mut()
                .open_source(spec, NOW)
                .expect("room for a source");
            fixture.good(page, Format::Text);
            assert_eq!(lines(&fixture.store).await, [expected], "{page}");
        };
        check(true, "a{instance=\"\"} 1\n", "unknown a{job=\"j\",env=\"dev\"} 1").await;
        check(
            true,
            "a{job=\"\",instance=\"\",env=\"\",other=\"\"} 1\n",
            "unknown a{} 1",
        )
        .await;
        check(
            true,
            "a{instance=\"x\"} 1\n",
            "unknown a{job=\"j\",env=\"dev\",instance=\"x\"} 1",
        )
        .await;
        check(
            false,
            "a{instance=\"\"} 1\n",
            "unknown a{job=\"j\",instance=\"i\",env=\"dev\"} 1",
        )
        .await;
        check(
            false,
            "a{exported_instance=\"1\",instance=\"2\",env=\"3\"} 1\n",
            "unknown a{job=\"j\",instance=\"i\",env=\"dev\",exported_env=\"3\",exported_instance=\"1\",exported_exported_instance=\"2\"} 1",
        )
        .await;
    });
}

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

#[test]
fn the_content_type_selects_the_format() {
    use dichroic_receiver_prometheus::config::ScrapeProtocol;
    let of = |content_type: Option<&str>, fallback| Format::of(content_type, fallback, true).ok();
    let check = |content_type: Option<&str>, expected: Option<Format>| {
        assert_eq!(of(content_type, None), expected, "{content_type:?}");
        let text = of(content_type, Some(ScrapeProtocol::PrometheusText0_0_4));
        assert_eq!(text, expected.or(Some(Format::Text)), "{content_type:?}");
        let openmetrics = of(content_type, Some(ScrapeProtocol::OpenMetricsText1_0_0));
        assert_eq!(openmetrics, expected.or(Some(OM)), "{content_type:?}");
    };
    check(Some("text/plain"), Some(Format::Text));
    check(
        Some("text/plain; version=0.0.4; charset=utf-8"),
        Some(Format::Text),
    );
    check(
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8"),
        Some(OM),
    );
    check(
        Some("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"),
        Some(Format::OpenMetrics {
            quoted_names: true,
            strict: true,
        }),
    );
    check(
        Some("application/openmetrics-text; version=1.0.0; escaping=underscores"),
        Some(OM),
    );
    check(None, None);
    check(Some(""), None);
    check(Some("text/html"), None);
    check(Some("text/plain; version"), None);
    check(Some("application/json"), None);
    check(Some("application/openmetrics-text; version=2.0.0"), None);
    check(
        Some("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily"),
        None,
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

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
