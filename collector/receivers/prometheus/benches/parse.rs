//! Nanoseconds per sample from the bytes of a page to a cell, with the time to count the page's line feeds in the same run:
//! compare the ratio between machines. A plain program without a harness.
//!
//! The page is 10 000 samples of about 94 bytes: counters, histograms of 15 buckets, gauges with escapes.

use std::cell::RefCell;
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use dichroic_model::{Identity, Limits, Protocol, Source, SourceSpec};
use dichroic_pipeline::Core;
use dichroic_receiver_prometheus::ingest::{Exposition, Format, Page, PageLimits, ScrapeTimes};
use dichroic_receiver_prometheus::parse::{Item, openmetrics, text};

const SAMPLES: usize = 10_000;
const ROUNDS: usize = 60;
/// Nanoseconds per sample that `Prometheus text → cell` may take.
const BUDGET: f64 = 110.0;

fn main() {
    let (text_page, om_page) = (page(false, 0), page(true, 0));
    let other_values = (page(false, 1), page(true, 1));
    println!(
        "{SAMPLES} samples, {} bytes each, best and median of {ROUNDS} rounds",
        text_page.len() / SAMPLES
    );
    let floor = measure("count line feeds", None, || {
        black_box(memchr::memchr_iter(b'\n', black_box(text_page.as_bytes())).count());
    });
    measure("text, cut at the last space", Some(floor), || cut(&text_page));
    measure("text, parsed", Some(floor), || parse_text(&text_page));
    measure("OpenMetrics, parsed and checked", Some(floor), || {
        parse_openmetrics(&om_page)
    });
    let om = Format::OpenMetrics {
        quoted_names: false,
        strict: false,
    };
    let mut target = Target::new();
    let mut turn = 0;
    let replayed = measure("text → cell, same series again", Some(floor), || {
        turn += 1;
        target.scrape(
            if turn % 2 == 0 {
                &text_page
            } else {
                &other_values.0
            },
            Format::Text,
        );
    });
    let mut target = Target::new();
    measure("OpenMetrics → cell, same series again", Some(floor), || {
        turn += 1;
        target.scrape(if turn % 2 == 0 { &om_page } else { &other_values.1 }, om);
    });
    let mut target = Target::new();
    measure("text → cell, series known, page not", Some(floor), || {
        target.page = Page::default();
        target.scrape(&text_page, Format::Text);
    });
    measure("text → cell, every series new", Some(floor), || {
        Target::new().scrape(&text_page, Format::Text)
    });
    println!(
        "budget of text → cell: {BUDGET} ns, used {:.0} %",
        replayed / BUDGET * 100.0
    );
}

/// Prints and returns the median, in nanoseconds per sample.
fn measure(what: &str, floor: Option<f64>, mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            run();
            began.elapsed().as_nanos() as f64 / SAMPLES as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[ROUNDS / 2]);
    let ratio = floor
        .map(|floor| format!("  {:6.1} x line feeds", median / floor))
        .unwrap_or_default();
    println!("{what:40} {best:8.1} {median:8.1} ns/sample{ratio}");
    median
}

struct Target {
    store: RefCell<Core>,
    source: Arc<Source>,
    page: Page,
}

impl Target {
    fn new() -> Self {
        let mut store = Core::new(Limits::default(), Arc::new(Identity), 1);
        let spec = SourceSpec {
            name: "bench".into(),
            job: "bench".into(),
            instance: "127.0.0.1:8000".into(),
            ..SourceSpec::new(Protocol::Prometheus, "")
        };
        let source = store.open_source(spec, 1).expect("room for a source");
        Self {
            store: RefCell::new(store),
            source,
            page: Page::default(),
        }
    }

    fn scrape(&mut self, body: &str, format: Format) {
        let times = ScrapeTimes {
            scraped: 2,
            now: 2,
            honor_timestamps: true,
        };
        let exposition = Exposition {
            body: body.as_bytes(),
            format,
            limits: PageLimits::default(),
            times,
        };
        let ingested = self.page.ingest(&self.store, &self.source, &exposition);
        assert_eq!(ingested.expect("a valid page").applied as usize, SAMPLES);
    }
}

fn cut(page: &str) {
    let mut parser = text::Parser::new(page.as_bytes());
    loop {
        match parser.quick() {
            Some(line) => {
                black_box((line.series, line.value()));
                parser.accept(&line);
            }
            None if parser.skip_comment().is_none() => return,
            None => {}
        }
    }
}

fn parse_text(page: &str) {
    let mut parser = text::Parser::new(page.as_bytes());
    let mut samples = 0;
    while let Some(item) = parser.next_item().expect("a valid page") {
        samples += usize::from(matches!(black_box(item), Item::Sample(_)));
    }
    assert_eq!(samples, SAMPLES);
}

fn parse_openmetrics(page: &str) {
    let mut parser = openmetrics::Parser::new(page.as_bytes());
    while let Some(item) = parser.next_item().expect("a valid page") {
        black_box(item);
    }
}

/// A page of counters (30 %), histograms of 15 buckets (51 %) and gauges with escapes; `salt` changes the values.
fn page(openmetrics: bool, salt: u64) -> String {
    let mut page = String::new();
    let (counters, histograms) = (3_000, 300);
    let total = if openmetrics { "" } else { "_total" };
    writeln!(
        page,
        "# HELP http_requests{total} Requests.\n# TYPE http_requests{total} counter"
    )
    .expect("room");
    for i in 0..counters {
        let labels = format!(
            "method=\"GET\",route=\"/api/v1/things/{}\",status=\"200\",pod=\"worker-{}\"",
            i % 97,
            i
        );
        writeln!(
            page,
            "http_requests_total{{{labels}}} {}",
            1_000_000 + i as u64 * 17 + salt
        )
        .expect("room");
    }
    writeln!(
        page,
        "# HELP request_seconds Time.\n# TYPE request_seconds histogram"
    )
    .expect("room");
    for i in 0..histograms {
        let labels = format!(
            "method=\"POST\",route=\"/api/v1/orders/{}\",pod=\"worker-{}\"",
            i % 41,
            i
        );
        for bucket in 1..15u64 {
            let bound = bucket as f64 * 0.05;
            writeln!(
                page,
                "request_seconds_bucket{{{labels},le=\"{bound}\"}} {}",
                bucket * 1000 + salt
            )
            .expect("room");
        }
        writeln!(
            page,
            "request_seconds_bucket{{{labels},le=\"+Inf\"}} {}",
            20_000 + salt
        )
        .expect("room");
        writeln!(page, "request_seconds_sum{{{labels}}} {}.25", 812 + i).expect("room");
        writeln!(page, "request_seconds_count{{{labels}}} {}", 20_000 + salt).expect("room");
    }
    writeln!(page, "# HELP queue_depth Depth.\n# TYPE queue_depth gauge").expect("room");
    for i in 0..SAMPLES - counters - histograms * 17 {
        let labels = format!(
            "queue=\"default \\\"{}\\\"\",path=\"C:\\\\spool\\\\{}\",host=\"node-{}.example\"",
            i,
            i % 13,
            i
        );
        writeln!(
            page,
            "queue_depth{{{labels}}} {:.3}",
            i as f64 * 0.377 + salt as f64
        )
        .expect("room");
    }
    if openmetrics {
        page.push_str("# EOF\n");
    }
    page
}
