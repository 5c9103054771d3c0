//! Samples that are dropped, and those that are kept as Prometheus keeps them.

use crate::common::{lines, on_ingest_thread};
use crate::fixture::{Fixture, LENIENT, OM};
use dichroic_pipeline::DropReason;
use dichroic_receiver_prometheus::ingest::Format;

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
