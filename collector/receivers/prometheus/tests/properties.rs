//! Properties of every page: no input makes a parser panic, a generated page is parsed to its source, the two formats agree, and a
//! line cut at its last space gives the value that the parser reads.

use std::collections::BTreeMap;

use dichroic_receiver_prometheus::parse::{Escaped, Item, ParseError, Role, Sample, openmetrics, text};
use proptest::prelude::*;

/// One counter, gauge or histogram sample that both formats can represent.
#[derive(Debug, Clone)]
struct Point {
    labels: BTreeMap<String, String>,
    value: f64,
    time_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

type Family = (Kind, String, Vec<Point>);

fn families() -> impl Strategy<Value = Vec<Family>> {
    let labels = prop::collection::btree_map("x[a-z0-9_]{0,5}", any::<String>(), 0..4);
    let value = prop_oneof![
        any::<u32>().prop_map(f64::from),
        (0.0..1e300f64),
        Just(f64::INFINITY),
        (0..1_000_000i64).prop_map(|n| n as f64 / 1000.0)
    ];
    let time = prop::option::of(0..4_000_000_000_000i64);
    let point = (labels, value, time).prop_map(|(labels, value, time_ms)| Point {
        labels,
        value,
        time_ms,
    });
    let kind = prop_oneof![Just(Kind::Counter), Just(Kind::Gauge), Just(Kind::Histogram)];
    let points = prop::collection::vec(point, 1..5).prop_map(|points| {
        let mut seen = std::collections::BTreeSet::new();
        points
            .into_iter()
            .filter(|point| seen.insert(point.labels.clone()))
            .collect()
    });
    prop::collection::vec((kind, any::<String>(), points), 0..6)
}

fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

/// `{a="b",…}` with `extra` as a last label.
fn braces(labels: &BTreeMap<String, String>, extra: &str) -> String {
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value, true)))
        .collect();
    pairs.extend((!extra.is_empty()).then(|| extra.to_owned()));
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

/// The samples of a point: (suffix of the name, extra label, value).
fn parts(kind: Kind, value: f64) -> Vec<(&'static str, &'static str, f64)> {
    match kind {
        Kind::Counter => vec![("_total", "", value)],
        Kind::Gauge => vec![("", "", value)],
        Kind::Histogram => {
            vec![
                ("_bucket", "le=\"0.5\"", 0.0),
                ("_bucket", "le=\"+Inf\"", value),
                ("_count", "", value),
                ("_sum", "", 1.5),
            ]
        }
    }
}

fn page(families: &[Family], openmetrics: bool) -> String {
    let mut page = String::new();
    for (n, (kind, help, points)) in families.iter().enumerate() {
        let suffix = if *kind == Kind::Counter && !openmetrics {
            "_total"
        } else {
            ""
        };
        let word = format!("{kind:?}").to_lowercase();
        page += &format!(
            "# HELP f{n}x{suffix} {}\n# TYPE f{n}x{suffix} {word}\n",
            escape(help, false)
        );
        for point in points {
            for (suffix, extra, value) in parts(*kind, point.value) {
                let time = match point.time_ms {
                    Some(time) if openmetrics => format!(" {}.{:03}", time / 1000, time % 1000),
                    Some(time) => format!(" {time}"),
                    None => String::new(),
                };
                page += &format!("f{n}x{suffix}{} {value}{time}\n", braces(&point.labels, extra));
            }
        }
    }
    page + if openmetrics { "# EOF\n" } else { "" }
}

/// A sample without borrows from the page: name, role, labels, value, time.
type PlainSample = (String, Role, Vec<(String, String)>, u64, Option<i64>);

fn plain(sample: &Sample<'_>) -> PlainSample {
    let pair =
        |(name, value): (Escaped<'_>, Escaped<'_>)| (name.decode().into_owned(), value.decode().into_owned());
    let labels = sample.series.labels.into_iter().map(pair).collect();
    (
        sample.series.name.decode().into_owned(),
        sample.role,
        labels,
        sample.value.to_bits(),
        sample.timestamp_ns,
    )
}

fn expected(families: &[Family]) -> Vec<PlainSample> {
    let mut all = Vec::new();
    for (n, (kind, _, points)) in families.iter().enumerate() {
        for point in points {
            for (suffix, extra, value) in parts(*kind, point.value) {
                let mut labels: Vec<_> = point.labels.clone().into_iter().collect();
                if let Some((name, value)) = extra.split_once('=') {
                    labels.push((name.to_owned(), value.trim_matches('"').to_owned()));
                }
                let role = match suffix {
                    "_total" => Role::Total,
                    "_bucket" => Role::Bucket,
                    "_count" => Role::Count,
                    "_sum" => Role::Sum,
                    _ => Role::Value,
                };
                all.push((
                    format!("f{n}x{suffix}"),
                    role,
                    labels,
                    value.to_bits(),
                    point.time_ms.map(|time| time * 1_000_000),
                ));
            }
        }
    }
    all
}

fn read_text(page: &[u8]) -> Result<Vec<PlainSample>, ParseError> {
    let (mut parser, mut all) = (text::Parser::new(page), Vec::new());
    while let Some(item) = parser.next_item()? {
        if let Item::Sample(sample) = item {
            all.push(plain(&sample));
        }
    }
    Ok(all)
}

fn read_openmetrics(page: &[u8]) -> Result<Vec<PlainSample>, ParseError> {
    let (mut parser, mut all) = (openmetrics::Parser::new(page).with_quoted_names(), Vec::new());
    while let Some(item) = parser.next_item()? {
        if let Item::Sample(sample) = item {
            all.push(plain(&sample));
        }
    }
    Ok(all)
}

/// Bytes that look much like a page, so that parsing gets far before it fails.
fn almost_a_page() -> impl Strategy<Value = Vec<u8>> {
    let tokens: [&[u8]; 29] = [
        b"# TYPE ",
        b"# HELP ",
        b"# UNIT ",
        b"# EOF",
        b"a",
        b"a_bucket",
        b"a_total",
        b"a_created",
        b"{",
        b"}",
        b"\"",
        b"\\",
        b"=",
        b",",
        b"le=\"+Inf\"",
        b"le",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\0",
        b"1",
        b"-1.5e3",
        b"NaN",
        b" # {",
        b" counter\n",
        b" histogram\n",
        b"\xff",
        "é".as_bytes(),
    ];
    let token = prop::sample::select(tokens.to_vec());
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(page in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (read_text(&page), read_openmetrics(&page));
    }

    #[test]
    fn almost_valid_pages_never_panic(page in almost_a_page()) {
        for error in [read_text(&page).err(), read_openmetrics(&page).err()].into_iter().flatten() {
            prop_assert!(error.line >= 1 && error.column >= 1 && error.found.chars().count() <= 40);
        }
    }

    #[test]
    fn a_generated_page_parses_to_its_source_in_both_formats(families in families()) {
        let expected = expected(&families);
        prop_assert_eq!(read_text(page(&families, false).as_bytes()), Ok(expected.clone()));
        prop_assert_eq!(read_openmetrics(page(&families, true).as_bytes()), Ok(expected));
    }

    #[test]
    fn a_truncated_page_has_no_sample_that_the_whole_page_lacks(families in families(), cut in any::<prop::sample::Index>()) {
        let page = page(&families, true);
        let kept = cut.index(page.len());
        let complete = page.as_bytes()[..kept].ends_with(b"# EOF");
        prop_assert_eq!(read_openmetrics(&page.as_bytes()[..kept]).is_ok(), complete);
    }

    #[test]
    fn a_line_cut_at_its_last_space_gives_the_parsed_value_if_its_series_was_seen(families in families()) {
        let page = page(&families, false);
        let mut known = std::collections::BTreeMap::new();
        let mut parser = text::Parser::new(page.as_bytes());
        while let Some(item) = parser.next_item().expect("a valid page") {
            if let Item::Sample(sample) = item {
                known.insert(sample.series.raw, (sample.value.to_bits(), sample.timestamp_ns));
            }
        }
        let mut parser = text::Parser::new(page.as_bytes());
        loop {
            if let Some(line) = parser.quick() && let Some((value, time)) = known.get(line.series) {
                prop_assert_eq!((line.value().map(f64::to_bits), *time), (Some(*value), None));
                parser.accept(&line);
                continue;
            }
            match parser.next_item().expect("a valid page") {
                None => break,
                Some(Item::Sample(sample)) => prop_assert!(sample.timestamp_ns.is_some()),
                Some(_) => {}
            }
        }
    }
}
