//! Samples of a page to the points of their families; times, labels and formats.

use crate::common::{NOW, lines, on_ingest_thread, rows};
use crate::fixture::{Fixture, OM};
use dichroic_model::{Protocol, SECOND, SourceSpec};
use dichroic_pipeline::DropReason;
use dichroic_receiver_prometheus::ingest::{Format, PageError};

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
