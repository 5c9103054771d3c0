//! OpenMetrics 1.0: valid pages are accepted, and every violation is rejected with a reason.

use dichroic_receiver_prometheus::parse::{Item, ParseError, openmetrics};

fn read(page: &str) -> Result<Vec<String>, ParseError> {
    let mut parser = openmetrics::Parser::new(page.as_bytes());
    let mut lines = Vec::new();
    while let Some(item) = parser.next_item()? {
        lines.push(match item {
            Item::Type { family, kind } => format!("type {} {kind:?}", family.0),
            Item::Help { family, text } => format!("help {} {:?}", family.0, text.decode()),
            Item::Unit { family, unit } => format!("unit {} {unit}", family.0),
            Item::Sample(sample) => {
                let time = sample
                    .timestamp_ns
                    .map(|time| format!(" @{time}"))
                    .unwrap_or_default();
                let exemplar = sample.exemplar.map(|exemplar| {
                    let trace = exemplar
                        .labels
                        .get("trace_id")
                        .map(|id| id.decode().into_owned())
                        .unwrap_or_default();
                    format!(
                        " # {trace} {} @{}",
                        exemplar.value,
                        exemplar.timestamp_ns.unwrap_or(-1)
                    )
                });
                let raw = String::from_utf8_lossy(sample.series.raw);
                format!(
                    "{}/{:?} {raw} {}{time}{}",
                    sample.family.0,
                    sample.role,
                    sample.value,
                    exemplar.unwrap_or_default()
                )
            }
        });
    }
    Ok(lines)
}

fn good(page: &str, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(read(&format!("{page}# EOF\n")), Ok(expected), "{page:?}");
}

fn bad(page: &str, line: usize, problem: &str) {
    match read(&format!("{page}\n# EOF\n")) {
        Ok(_) => panic!("{page:?} was taken"),
        Err(error) => assert_eq!((error.line, error.problem), (line, problem), "{page:?}: {error}"),
    }
}

#[test]
fn a_valid_page_is_accepted_as_a_whole() {
    good("", &[]);
    good(
        "# TYPE foo_seconds counter\n# UNIT foo_seconds seconds\n# HELP foo_seconds Say \\\"hi\\\".\\n\n\
         foo_seconds_total{a=\"b\"} 17.0 1520879607.789 # {trace_id=\"x\"} 0.67 1520879607\n\
         foo_seconds_created{a=\"b\"} 1520430000.123 1520879607.789\n",
        &[
            "type foo_seconds Counter",
            "unit foo_seconds seconds",
            "help foo_seconds \"Say \\\"hi\\\".\\n\"",
            "foo_seconds/Total foo_seconds_total{a=\"b\"} 17 @1520879607789000000 # x 0.67 @1520879607000000000",
            "foo_seconds/Created foo_seconds_created{a=\"b\"} 1520430000.123 @1520879607789000000",
        ],
    );
    good(
        "# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_count 2\nh_sum 3\nh_created 1\n# TYPE s stateset\n\
         s{s=\"a\"} 1\ns{s=\"b\"} 0\n# TYPE i info\ni_info{version=\"1\"} 1\ni_info{version=\"2\"} 1\nalone 5\n",
        &[
            "type h Histogram",
            "h/Bucket h_bucket{le=\"0.5\"} 1",
            "h/Bucket h_bucket{le=\"+Inf\"} 2",
            "h/Count h_count 2",
            "h/Sum h_sum 3",
            "h/Created h_created 1",
            "type s StateSet",
            "s/Value s{s=\"a\"} 1",
            "s/Value s{s=\"b\"} 0",
            "type i Info",
            "i/Value i_info{version=\"1\"} 1",
            "i/Value i_info{version=\"2\"} 1",
            "alone/Value alone 5",
        ],
    );
    good(
        "# TYPE g gaugehistogram\ng_bucket{le=\"-1\"} 1\ng_bucket{le=\"+Inf\"} 1\ng_gcount 1\ng_gsum -4\n",
        &[
            "type g GaugeHistogram",
            "g/Bucket g_bucket{le=\"-1\"} 1",
            "g/Bucket g_bucket{le=\"+Inf\"} 1",
            "g/Count g_gcount 1",
            "g/Sum g_gsum -4",
        ],
    );
}

#[test]
fn labels_in_another_order_are_the_same_metric() {
    good(
        "# TYPE c counter\nc_total{a=\"1\",b=\"2\"} 1\nc_created{b=\"2\",a=\"1\"} 1\n",
        &[
            "type c Counter",
            "c/Total c_total{a=\"1\",b=\"2\"} 1",
            "c/Created c_created{b=\"2\",a=\"1\"} 1",
        ],
    );
}

#[test]
fn every_timestamp_of_a_histogram_is_checked_separately() {
    let point = |time: u32, count: u32| {
        format!(
            "h_bucket{{le=\"1\"}} {count} {time}\nh_bucket{{le=\"+Inf\"}} {count} {time}\nh_count {count} {time}\nh_sum 1 {time}\n"
        )
    };
    assert!(
        read(&format!(
            "# TYPE h histogram\n{}{}# EOF",
            point(1, 5),
            point(2, 6)
        ))
        .is_ok()
    );
    bad(
        &format!("# TYPE h histogram\n{}h_bucket{{le=\"1\"}} 3 2", point(1, 5)),
        6,
        "histogram without the +Inf bucket",
    );
}

#[test]
fn the_grammar_is_strict() {
    for page in ["a{b=\"c\",} 1", "a{b=\"c\",,d=\"e\"} 1"] {
        let problem = if page.contains(",,") {
            "expected a label name"
        } else {
            "comma after the last label"
        };
        bad(page, 1, problem);
    }
    bad("a  1", 1, "expected one blank and a value");
    bad("a\t1", 1, "expected one blank and a value");
    bad("a {b=\"c\"} 1", 1, "invalid number");
    bad("a{ b=\"c\"} 1", 1, "expected a label name");
    bad("a{b =\"c\"} 1", 1, "expected `=` after the label's name");
    bad("a{b=\"c\nd\"} 1", 1, "line feed in a label value");
    bad("a 1 2 3", 1, "expected the end of the line");
    bad("a 1 ", 1, "expected a timestamp in seconds");
    bad("a 1\r", 1, "invalid number");
    bad("a 1\n\nb 1", 2, "blank line");
    bad(
        "# just a comment",
        1,
        "invalid metadata; OpenMetrics has no comments",
    );
    bad(
        "#TYPE a gauge",
        1,
        "invalid metadata; OpenMetrics has no comments",
    );
    bad(
        "#  TYPE a gauge",
        1,
        "invalid metadata; OpenMetrics has no comments",
    );
    bad(
        "# TYPE  a gauge",
        1,
        "invalid metadata; OpenMetrics has no comments",
    );
    bad("# TYPE a untyped", 1, "unknown metric type");
    bad("# EOF\na 1", 2, "text after `# EOF`");
    bad(
        "{\"a.b\"} 1",
        1,
        "quoted names are not allowed in OpenMetrics 1.0",
    );
    bad("a 1 # {a=\"b\"} 1", 1, "misplaced exemplar");
    bad(
        &format!("# TYPE a counter\na_total 1 # {{a=\"{}\"}} 1", "é".repeat(128)),
        2,
        "the exemplar's labels are too long",
    );
    assert_eq!(
        read("a 1\n# EOF\n\n").expect_err("a line after the end").problem,
        "text after `# EOF`"
    );
    assert_eq!(read("a 1\n").expect_err("cut").problem, "incomplete page");
    assert_eq!(
        read("a 1").expect_err("cut").problem,
        "expected the end of the line"
    );
    assert_eq!(
        read("a 1\n# EO").expect_err("cut").problem,
        "invalid metadata; OpenMetrics has no comments"
    );
}

#[test]
fn quoted_names_are_accepted_when_announced() {
    let page = b"# TYPE \"a.b\" counter\n{\"a.b_total\",\"c.d\"=\"e\"} 1\n# EOF\n";
    let mut parser = openmetrics::Parser::new(page).with_quoted_names();
    assert!(matches!(parser.next_item(), Ok(Some(Item::Type { .. }))));
    let Ok(Some(Item::Sample(sample))) = parser.next_item() else {
        panic!("a sample")
    };
    assert_eq!(
        (
            sample.series.name.0,
            sample.family.0,
            sample.series.labels.get("c.d").map(|v| v.0)
        ),
        ("a.b_total", "a.b", Some("e"))
    );
    assert_eq!(parser.next_item(), Ok(None));
}

#[test]
fn families_are_contiguous_with_unique_names() {
    bad(
        "# TYPE a counter\na_total 1\nb 1\na_total{c=\"d\"} 1",
        4,
        "a sample name of this family belongs to an earlier family",
    );
    bad(
        "# TYPE a counter\na 1",
        2,
        "a sample name of this family belongs to an earlier family",
    );
    bad(
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\n# TYPE a_count gauge",
        3,
        "a sample name of this family belongs to an earlier family",
    );
    bad("# TYPE a gauge\n# HELP a x\n# HELP a y", 3, "duplicate metadata");
    bad(
        "# TYPE a gauge\na 1\n# HELP a y",
        3,
        "metadata after the samples of its family",
    );
    bad(
        "# TYPE a gauge\n# UNIT a seconds",
        2,
        "the family's name does not end in its unit",
    );
    bad(
        "# TYPE a_seconds info\n# UNIT a_seconds seconds",
        2,
        "unit of an info or stateset",
    );
    bad(
        "# TYPE a gauge\na{b=\"1\"} 1\na{b=\"2\"} 1\na{b=\"1\"} 1",
        4,
        "samples of this metric are not contiguous",
    );
    bad(
        "# TYPE a gauge\na 1 1\na 1",
        3,
        "only some samples of this metric have a timestamp",
    );
    bad(
        "# TYPE a gauge\na 1 2\na 1 1",
        3,
        "timestamps of a metric decrease",
    );
}

#[test]
fn values_must_fit_their_type() {
    bad(
        "# TYPE a counter\na_total -1",
        2,
        "negative count, sum or quantile",
    );
    bad("# TYPE a counter\na_total NaN", 2, "NaN as a count or sum");
    bad("# TYPE a info\na_info 0", 2, "info value other than 1");
    bad(
        "# TYPE a stateset\na{a=\"x\"} 0.5",
        2,
        "state value other than 0 or 1",
    );
    bad("# TYPE a stateset\na{b=\"x\"} 1", 2, "state without its label");
    bad(
        "# TYPE a summary\na{quantile=\"2\"} 1",
        2,
        "summary value without a valid quantile",
    );
    bad(
        "# TYPE a histogram\na_bucket{le=\"x\"} 1",
        2,
        "bucket without a valid bound",
    );
    bad(
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1",
        3,
        "bucket count lower than that of the previous bucket",
    );
    bad(
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"1.0\"} 2",
        3,
        "buckets are not sorted by bound",
    );
    bad(
        "# TYPE a histogram\na_bucket{le=\"1\"} 2\nb 1",
        2,
        "histogram without the +Inf bucket",
    );
    bad(
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_count 3\na_sum 1",
        4,
        "histogram count differs from the +Inf bucket",
    );
    bad(
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_sum 1",
        3,
        "histogram with a sum but no count",
    );
    bad(
        "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_count 2",
        3,
        "histogram with a count but no sum",
    );
}

#[test]
fn infinity_has_one_spelling_in_labels() {
    for spelling in ["Inf", "+inf", "Infinity"] {
        bad(
            &format!("# TYPE a histogram\na_bucket{{le=\"{spelling}\"}} 1"),
            2,
            "infinite bound in another spelling than +Inf",
        );
    }
}

/// The problem of a page for a lenient parser, which is the one of Prometheus.
fn lenient(page: &str) -> Option<&'static str> {
    let mut parser = openmetrics::Parser::new(page.as_bytes()).lenient();
    loop {
        match parser.next_item() {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => return Some(error.problem),
        }
    }
}

#[test]
fn what_prometheus_refuses_is_refused_by_a_lenient_parser_too() {
    let check = |page: &str, problem: &str| {
        assert_eq!(lenient(&format!("{page}\n# EOF\n")), Some(problem), "{page:?}");
    };
    check("a 1\n\nb 1", "blank line");
    check(
        "# just a comment",
        "invalid metadata; OpenMetrics has no comments",
    );
    check("# TYPE a untyped", "unknown metric type");
    check("a  1", "expected one blank and a value");
    check("a {b=\"c\"} 1", "invalid number");
    check("a{b=\"c\",,} 1", "expected a label name");
    check("a{b=\"c\"d=\"e\"} 1", "expected `,` or `}` after the label");
    check("a{b=\"c\nd\"} 1", "line feed in a label value");
    check("a{b=\"c\",b=\"d\"} 1", "duplicate label");
    check("a 0x1p-3", "invalid number");
    check("a 1 NaN", "invalid number");
    check("a 1 # {b=\"c\"", "expected `,` or `}` after the label");
    check("a 1 # {b=\"c\"} x", "invalid number");
    check("# UNIT a seconds", "the family's name does not end in its unit");
    check("# EOF\na 1", "text after `# EOF`");
    assert_eq!(lenient("a 1\n"), Some("incomplete page"));
    for kept in [
        "# UNIT a_seconds seconds\n# TYPE a_seconds info\n# EOF\n",
        "a 1 # {b=\"1\",b=\"2\"} 1\n# EOF",
        "# TYPE a gauge\na 1 5\na{b=\"1\"} 2\na 1 4\n# EOF\n",
        "# TYPE h histogram\nh_bucket{le=\"Inf\"} 1\n# EOF\n",
    ] {
        assert_eq!(lenient(kept), None, "{kept:?}");
    }
}
