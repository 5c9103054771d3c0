//! The text format: pages that Prometheus accepts are accepted with the same result; others are rejected with a reason.

use dichroic_receiver_prometheus::parse::{FamilyKind, Item, ParseError, Role, text};

/// The page as one line per item.
fn read(page: &[u8]) -> Result<Vec<String>, ParseError> {
    let mut parser = text::Parser::new(page);
    let mut lines = Vec::new();
    while let Some(item) = parser.next_item()? {
        lines.push(match item {
            Item::Type { family, kind } => format!("type {} {kind:?}", family.decode()),
            Item::Help { family, text } => format!("help {} {:?}", family.decode(), text.decode()),
            Item::Unit { .. } => panic!("the text format has no units"),
            Item::Sample(sample) => {
                let labels: Vec<String> = sample
                    .series
                    .labels
                    .into_iter()
                    .map(|(name, value)| format!("{}={:?}", name.decode(), value.decode()))
                    .collect();
                let time = sample
                    .timestamp_ns
                    .map(|time| format!(" @{time}"))
                    .unwrap_or_default();
                format!(
                    "{}[{}] {}{time}",
                    sample.series.name.decode(),
                    labels.join(" "),
                    sample.value
                )
            }
        });
    }
    Ok(lines)
}

fn check(page: &str, expected: &[&str]) {
    assert_eq!(
        read(page.as_bytes()).as_deref(),
        Ok(&expected.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()[..]),
        "{page:?}"
    );
}

#[test]
fn pages_that_prometheus_accepts_are_accepted() {
    check("", &[]);
    check("\n \t\n", &[]);
    check("a 1", &["a[] 1"]);
    check("  a\t1  \n", &["a[] 1"]);
    check("a:b_c9 1 1395066363000\n", &["a:b_c9[] 1 @1395066363000000000"]);
    check("a 1 0\t\n", &["a[] 1 @0"]);
    check("a{} NaN\n", &["a[] NaN"]);
    check("a{}+Inf\n", &["a[] inf"]);
    check("a { b = \"c\" , d=\"e\", } 1\n", &["a[b=\"c\" d=\"e\"] 1"]);
    check("a{b=\"c\"d=\"e\"} 1\n", &["a[b=\"c\" d=\"e\"] 1"]);
    check("a{b=\"x } # 1\"} 1\n", &["a[b=\"x } # 1\"] 1"]);
    check("a{b=\"\"} 1\n", &["a[b=\"\"] 1"]);
    check("a{b=\"two\nlines\"} 1\n", &["a[b=\"two\\nlines\"] 1"]);
    check("a{b=\"nul\0\"} 1\n", &["a[b=\"nul\\0\"] 1"]);
    check("a{b=\"ключ 🔑\"} 1\n", &["a[b=\"ключ 🔑\"] 1"]);
    check(
        "# a comment\n#\n#TYPE a b\n# TYPE\n#HELP\n# TYPEa b\n\t# TYPES\n",
        &[],
    );
    check(
        "# HELP a\n# HELP b \n# HELP c  two  \n",
        &["help a \"\"", "help b \"\"", "help c \" two  \""],
    );
    check("a 1\n\0whatever", &["a[] 1"]);
}

#[test]
fn escapes_are_decoded_as_in_prometheus() {
    check(r#"a{b="\\ \" \n \t \\n"} 1"#, &[r#"a[b="\\ \" \n \\t \\n"] 1"#]);
    check(
        "# HELP a one\\ntwo \\\\ three\n",
        &[r#"help a "one\ntwo \\ three""#],
    );
}

#[test]
fn quoted_names_are_accepted() {
    check(r#"{"http.server.active"} 1"#, &["http.server.active[] 1"]);
    check(
        r#"{"http.server.active","a.b"="c",d="e"} 1"#,
        &["http.server.active[a.b=\"c\" d=\"e\"] 1"],
    );
    check(r#"{d="e","name"} 1"#, &["name[d=\"e\"] 1"]);
    check(
        "# TYPE \"a.b\" gauge\n{\"a.b\"} 1\n",
        &["type a.b Gauge", "a.b[] 1"],
    );
}

/// Checks the position, the problem and the excerpt of an error.
fn reject(page: &[u8], line: usize, column: usize, problem: &str, found: &str) {
    let shown = String::from_utf8_lossy(page);
    let error = read(page).expect_err(&format!("{shown:?} was accepted"));
    let actual = (error.line, error.column, error.problem, error.found.as_str());
    assert_eq!(actual, (line, column, problem, found), "{shown:?}");
    assert!(!error.help.is_empty());
}

const TIMESTAMP: &str = "expected a timestamp or the end of the line";

#[test]
fn invalid_values_and_timestamps_are_rejected_with_a_position() {
    reject(b"a\n", 1, 2, "expected a value", "");
    reject(b"a{} \n", 1, 5, "expected a value", "");
    reject(b"ok 1\na true\n", 2, 3, "invalid number", "true");
    reject(b"a 0x1p-3\n", 1, 3, "invalid number", "0x1p-3");
    reject(b"a 1_2\n", 1, 3, "invalid number", "1_2");
    reject(b"a 1e999\n", 1, 3, "invalid number", "1e999");
    reject(b"a 1\r\n", 1, 3, "carriage return", "1\r");
    reject(b"a 1 -1\n", 1, 5, TIMESTAMP, "-1");
    reject(b"a 1 1.5\n", 1, 6, TIMESTAMP, ".5");
    reject(b"a 1 2 3\n", 1, 7, TIMESTAMP, "3");
    reject(
        b"a 1 99999999999999999999\n",
        1,
        5,
        "timestamp out of range",
        "99999999999999999999",
    );
    reject(b"a 0 1\0", 1, 6, TIMESTAMP, "\0");
}

#[test]
fn invalid_labels_are_rejected_with_a_position() {
    reject(
        b"a{b='c'} 1\n",
        1,
        5,
        "expected a label value in double quotes",
        "'c'} 1",
    );
    reject(b"a{b=\"c} 1\n", 1, 5, "unterminated label value", "\"c} 1");
    reject(b"a{b=\"c\"\n", 1, 8, "unclosed brace", "");
    reject(b"a{b=\"c\",,} 1\n", 1, 9, "expected a label name", ",} 1");
    reject(b"a{,} 1\n", 1, 3, "expected a label name", ",} 1");
    reject(b"a{b} 1\n", 1, 4, "expected `=` after the label's name", "} 1");
    reject(b"a{=\"c\"} 1\n", 1, 3, "expected a label name", "=\"c\"} 1");
    reject(
        b"a{b:c=\"d\"} 1\n",
        1,
        4,
        "expected `=` after the label's name",
        ":c=\"d\"} 1",
    );
    reject(
        b"a{\xff=\"c\"} 1\n",
        1,
        3,
        "expected a label name",
        "\u{fffd}=\"c\"} 1",
    );
    reject(b"a{b=\"\xff\"} 1\n", 1, 6, "invalid UTF-8", "\u{fffd}\"} 1");
    reject(b"a{b=\"c\",b=\"d\"} 1\n", 1, 9, "duplicate label", "b=\"d\"} 1");
    reject(
        b"a{__name__=\"b\"} 1\n",
        1,
        3,
        "invalid label name",
        "__name__=\"b\"} 1",
    );
}

#[test]
fn invalid_names_and_metadata_are_rejected_with_a_position() {
    reject(b"{b=\"c\"} 1\n", 1, 1, "no metric name", "{b=\"c\"} 1");
    reject(b"a{\"b\"} 1\n", 1, 3, "a second metric name", "\"b\"} 1");
    reject(b"{\"a\",\"b\"} 1\n", 1, 6, "a second metric name", "\"b\"} 1");
    reject(b"a{}{} 1\n", 1, 4, "expected a value", "{} 1");
    reject(b"9a 1\n", 1, 1, "expected a metric name", "9a 1");
    reject(b"a-b 1\n", 1, 2, "invalid number", "-b 1");
    reject(b"a\0{b=\"c\"} 1\n", 1, 2, "invalid number", "\0{b=\"c\"} 1");
    reject(b"# TYPE \n", 1, 8, "expected a metric name", "");
    reject(b"# TYPE a\n", 1, 9, "unknown metric type", "");
    reject(b"# TYPE a info\n", 1, 10, "unknown metric type", "info");
    reject(b"# TYPE a counter \n", 1, 10, "unknown metric type", "counter ");
    reject(b"# TYPE a counter\r\n", 1, 10, "unknown metric type", "counter\r");
    reject(b"# HELP a \xff\n", 1, 10, "invalid UTF-8", "\u{fffd}");
}

#[test]
fn an_error_has_line_column_excerpt_and_advice() {
    let error = read("# TYPE a gauge\na{b=\"é\"} 1,5\n".as_bytes()).expect_err("a decimal comma");
    assert_eq!(
        error.to_string(),
        "line 2, column 10: invalid number, found \"1,5\"; write a decimal number, NaN, +Inf or -Inf"
    );
    let long = format!("a {}\n", "x".repeat(1 << 20));
    assert_eq!(read(long.as_bytes()).expect_err("not a number").found.len(), 40);
}

#[test]
fn samples_belong_to_the_family_of_an_earlier_type_line() {
    use {FamilyKind as K, Role as R};
    let page = "\
# TYPE h histogram\n# TYPE s summary\n# TYPE c_total counter\n# TYPE c_created gauge\n# TYPE d counter\n# TYPE g gauge\n\
h_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\nh_created 5\nh_bucket 1\nh 1\n\
s{quantile=\"0.5\"} 1\ns 1\ns_sum 1\ns_count 1\nc_total 1\nc_created 5\nd 1\nd_total 1\nd_created 5\n\
g 1\ng_sum 1\ng_created 5\nfree 1\n";
    let expected = [
        ("h", K::Histogram, R::Bucket),
        ("h", K::Histogram, R::Sum),
        ("h", K::Histogram, R::Count),
        ("h", K::Histogram, R::Created),
        ("h", K::Histogram, R::Bucket),
        ("h", K::Unknown, R::Value),
        ("s", K::Summary, R::Quantile),
        ("s", K::Summary, R::Quantile),
        ("s", K::Summary, R::Sum),
        ("s", K::Summary, R::Count),
        ("c_total", K::Counter, R::Total),
        ("c_total", K::Counter, R::Created),
        ("d", K::Counter, R::Total),
        ("d", K::Counter, R::Total),
        ("d", K::Counter, R::Created),
        ("g", K::Gauge, R::Value),
        ("g_sum", K::Unknown, R::Value),
        ("g_created", K::Unknown, R::Value),
        ("free", K::Unknown, R::Value),
    ];
    let mut parser = text::Parser::new(page.as_bytes());
    let mut seen = Vec::new();
    while let Some(item) = parser.next_item().expect("a valid page") {
        if let Item::Sample(sample) = item {
            seen.push((sample.family.0, sample.kind, sample.role));
        }
    }
    assert_eq!(seen, expected);
}

#[test]
fn duplicates_among_many_labels_are_detected() {
    let labels = |n: usize| (0..n).map(|i| format!("l{i}=\"v\",")).collect::<String>();
    assert!(read(format!("a{{{}}} 1\n", labels(10_000)).as_bytes()).is_ok());
    let error =
        read(format!("a{{{}l5000=\"again\"}} 1\n", labels(10_000)).as_bytes()).expect_err("l5000 twice");
    assert_eq!(
        (error.problem, &error.found[..13]),
        ("duplicate label", "l5000=\"again\"")
    );
}
