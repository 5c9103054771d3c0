//! The content of pages.

mod common;

use common::{Def, Kit, NOW, fixtures::everything, reader};
use dichroic_exporter_prometheus::{Format, Options, Renderer};
use dichroic_model::{MetricKind, Number, Protocol};
use std::path::PathBuf;

fn golden(name: &str, page: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("DICHROIC_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let differs = expected.lines().zip(page.lines()).find(|(a, b)| a != b);
    assert_eq!(
        differs, None,
        "{name}: set DICHROIC_UPDATE_GOLDEN=1 to update the file, then check the diff"
    );
    assert_eq!(expected, page, "{name}");
}

#[test]
fn the_text_page_equals_the_golden_file() {
    golden("page.txt", &everything().page(Format::Text));
}

#[test]
fn the_openmetrics_page_equals_the_golden_file() {
    golden("page.openmetrics", &everything().page(Format::OpenMetrics));
}

#[test]
fn both_formats_have_the_same_samples_except_creation_times() {
    let mut kit = everything();
    let text = reader::read(&kit.page(Format::Text), false).unwrap();
    let open = reader::read(&kit.page(Format::OpenMetrics), true).unwrap();
    let only_text: Vec<_> = text.keys().filter(|k| !open.contains_key(k)).collect();
    let only_open = open.keys().filter(|k| !text.contains_key(k));
    assert!(only_text.is_empty(), "{only_text:?}");
    assert!(
        only_open
            .map(|(name, _)| name)
            .all(|name| name.ends_with("_created"))
    );
    for (key, value) in &open {
        assert!(text.get(key).is_none_or(|other| other == value), "{key:?}");
    }
}

#[test]
fn every_row_is_accounted_for() {
    let mut kit = everything();
    let rows: usize = kit.chunks().iter().map(Vec::len).sum();
    for format in [Format::Text, Format::OpenMetrics] {
        let (_, stats) = kit.page_and_stats(format, Options::default());
        assert_eq!(stats.shown + stats.hidden + stats.unfit, rows as u64);
        assert_eq!((stats.hidden, stats.unfit), (0, 0));
    }
}

#[test]
fn created_and_exemplars_can_be_omitted() {
    let mut kit = everything();
    let options = Options {
        created: false,
        exemplars: false,
        utf8: false,
    };
    let (page, _) = kit.page_and_stats(Format::OpenMetrics, options);
    assert!(!page.contains("_created") && !page.contains(" # {"));
    let page = kit.page(Format::OpenMetrics);
    assert!(page.contains("_created") && page.contains(" # {"));
}

#[test]
fn a_series_without_explicit_start_has_no_creation_time() {
    let mut kit = Kit::default();
    let source = kit.source(Protocol::Prometheus, "j", "i", &[]);
    let series = kit.series(&source, &Def::scraped("a_total", MetricKind::COUNTER), &[]);
    kit.store
        .set_number(series, Number::int(5), dichroic_pipeline::Times::at(NOW))
        .unwrap();
    assert!(!kit.page(Format::OpenMetrics).contains("a_created"));
}

#[test]
fn a_family_that_spans_chunks_has_one_header() {
    let mut kit = Kit::default();
    let source = kit.source(Protocol::Otlp, "j", "i", &[]);
    for at in 0..10_000 {
        kit.number(
            &source,
            &Def::otel("a", "", MetricKind::Gauge),
            &[("at", &at.to_string())],
            Number::int(at),
        );
    }
    assert!(kit.chunks().len() > 1);
    let page = kit.page(Format::Text);
    assert_eq!(page.matches("# TYPE a gauge").count(), 1);
    assert_eq!(reader::read(&page, false).unwrap().len(), 10_001);
}

#[test]
fn a_reused_buffer_gives_the_same_page() {
    let mut kit = everything();
    let chunks = kit.chunks();
    let mut renderer = Renderer::new(Format::OpenMetrics, Options::default());
    let mut pages = Vec::new();
    for _ in 0..2 {
        renderer.clear();
        chunks.iter().for_each(|chunk| renderer.chunk(chunk));
        pages.push(renderer.finish(&kit.sources()).to_vec());
    }
    assert_eq!(pages[0], pages[1]);
}

#[test]
fn an_empty_store_gives_an_empty_page() {
    assert_eq!(Kit::default().page(Format::Text), "");
    assert_eq!(Kit::default().page(Format::OpenMetrics), "# EOF\n");
}

#[test]
fn with_a_family_named_target_target_info_is_a_gauge() {
    let mut kit = Kit::default();
    let source = kit.source(Protocol::Otlp, "j", "i", &[]);
    kit.number(
        &source,
        &Def::otel("target", "", MetricKind::Gauge),
        &[],
        Number::int(1),
    );
    let page = kit.page(Format::OpenMetrics);
    assert!(
        page.contains("# TYPE target gauge\n") && page.contains("# TYPE target_info gauge\n"),
        "{page}"
    );
    reader::read(&page, true).unwrap();
}

#[test]
fn target_info_of_a_target_keeps_a_value_other_than_1() {
    for kind in [MetricKind::Gauge, MetricKind::Info] {
        let mut kit = Kit::default();
        let source = kit.source(Protocol::Prometheus, "j", "i", &[]);
        let name = if kind == MetricKind::Info {
            "target"
        } else {
            "target_info"
        };
        kit.number(&source, &Def::scraped(name, kind), &[("x", "1")], Number::int(2));
        let other = kit.source(Protocol::Otlp, "j", "other", &[]);
        kit.number(
            &other,
            &Def::otel("g", "", MetricKind::Gauge),
            &[],
            Number::int(1),
        );
        for (format, openmetrics) in [(Format::Text, false), (Format::OpenMetrics, true)] {
            let page = kit.page(format);
            for line in [
                "# TYPE target_info gauge\n",
                "target_info{job=\"j\",instance=\"i\",x=\"1\",runtime=\"python\"} 2\n",
                "target_info{job=\"j\",instance=\"other\",runtime=\"python\"} 1\n",
            ] {
                assert!(page.contains(line), "{page}");
            }
            reader::read(&page, openmetrics).unwrap();
        }
    }
}

#[test]
fn a_family_of_another_type_named_target_info_does_not_hide_ours() {
    for kind in [MetricKind::COUNTER, MetricKind::Histogram, MetricKind::Summary] {
        let mut kit = Kit::default();
        let source = kit.source(Protocol::Otlp, "j", "i", &[("host.name", "h"), ("empty", "")]);
        let def = Def::otel("target.info", "", kind);
        match kind {
            MetricKind::Histogram => {
                kit.histogram(&source, &def.bounds(&[1.0]), &[], &[1, 0], None);
            }
            MetricKind::Summary => {
                kit.summary(&source, &def, &[(0.5, 1.0)], Number::float(2.0));
            }
            _ => {
                kit.number(&source, &def, &[], Number::int(1));
            }
        }
        for (format, openmetrics) in [(Format::Text, false), (Format::OpenMetrics, true)] {
            let page = kit.page(format);
            let ours = "target_info{job=\"j\",instance=\"i\",runtime=\"python\",host_name=\"h\"} 1\n";
            assert!(page.contains(ours), "{page}");
            let theirs = match kind {
                MetricKind::Histogram => "target_info_bucket{",
                MetricKind::Summary => "target_info{job=\"j\",instance=\"i\",quantile=\"0.5\"} 1",
                _ => "target_info_total{",
            };
            assert!(page.contains(theirs), "{page}");
            reader::read(&page, openmetrics).unwrap();
        }
    }
}

#[test]
fn names_that_look_escaped_and_the_name_total_keep_the_page_valid_for_every_scraper() {
    let mut kit = Kit::default();
    let source = kit.source(Protocol::Otlp, "j", "i", &[]);
    let labels = [
        ("U___22_:", "1"),
        ("U___61_", "2"),
        ("a", "3"),
        ("U______name____", "4"),
    ];
    kit.number(
        &source,
        &Def::otel("g", "", MetricKind::Gauge),
        &labels,
        Number::int(1),
    );
    kit.number(
        &source,
        &Def::otel("_total", "", MetricKind::COUNTER),
        &[],
        Number::int(2),
    );
    for (format, openmetrics) in [(Format::Text, false), (Format::OpenMetrics, true)] {
        reader::read(&kit.page(format), openmetrics).unwrap();
    }
    let options = Options {
        utf8: true,
        ..Options::default()
    };
    let (page, _) = kit.page_and_stats(Format::Text, options);
    let line = r#"g{job="j",instance="i","U___22__"="1","U___61_"="2","U______name____"="4",a="3"} 1"#;
    assert!(page.contains(line), "{page}");
}

#[test]
fn a_gauge_that_is_a_bucket_of_a_histogram_is_left_out_and_counted() {
    let mut kit = Kit::default();
    let source = kit.source(Protocol::Otlp, "j", "i", &[]);
    let histogram = Def::otel("a", "", MetricKind::Histogram).bounds(&[1.0]);
    kit.histogram(&source, &histogram, &[], &[1, 0], Some(Number::int(1)));
    let gauge = Def::otel("a.bucket", "", MetricKind::Gauge);
    kit.number(&source, &gauge, &[("le", "1.0")], Number::int(6));
    kit.number(&source, &gauge, &[("le", "2.0")], Number::int(7));
    let summary = Def::otel("q", "", MetricKind::Summary);
    kit.summary(&source, &summary, &[(0.5, 1.0)], Number::int(1));
    kit.number(
        &source,
        &Def::otel("q", "", MetricKind::Gauge),
        &[("quantile", "0.5")],
        Number::int(8),
    );
    for (format, openmetrics) in [(Format::Text, false), (Format::OpenMetrics, true)] {
        let (page, stats) = kit.page_and_stats(format, Options::default());
        reader::read(&page, openmetrics).unwrap();
        assert!(
            page.contains("le=\"2.0\"} 7") && !page.contains("} 6\n") && !page.contains("} 8\n"),
            "{page}"
        );
        assert_eq!((stats.shown, stats.unfit), (3, 2), "{page}");
    }
}
