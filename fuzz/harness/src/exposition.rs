//! Scraped pages.

use crate::input::Input;
use crate::world;
use dichroic_model::{Protocol, SECOND, Source, SourceSpec};
use dichroic_pipeline::Core;
use dichroic_receiver_prometheus::ingest::{
    Exposition, Format, Ingested, Page, PageError, PageLimits, ScrapeTimes,
};
use dichroic_receiver_prometheus::parse::{openmetrics, text};
use std::cell::RefCell;
use std::sync::Arc;

/// Separates the pages of one input.
const SEPARATOR: &[u8] = b"\n%%\n";
/// Pages of one input.
const MOST_PAGES: usize = 4;

/// A target, with its store.
struct Target {
    store: RefCell<Core>,
    source: Arc<Source>,
    page: Page,
}

impl Target {
    fn new(is_tight: bool, honor_labels: bool) -> Self {
        let mut store = world::store(is_tight);
        let spec = SourceSpec {
            job: "j".into(),
            instance: "i".into(),
            honor_labels,
            ..SourceSpec::new(Protocol::Prometheus, "t")
        };
        Target {
            source: store.open_source(spec, world::NOW).expect("room for a source"),
            store: RefCell::new(store),
            page: Page::default(),
        }
    }

    fn scrape(&mut self, exposition: &Exposition<'_>) -> Result<Ingested, PageError> {
        self.page.ingest(&self.store, &self.source, exposition)
    }
}

/// Pages of one target, one after the other. A target that remembers its last page accepts the same pages as a new one.
///
/// Options: the format, timestamps, limits, and `honor_labels`.
pub fn exposition(data: &[u8]) {
    let mut input = Input(data);
    let options = input.byte();
    let is_set = |bit: u8| options & 1 << bit != 0;
    let format = if is_set(0) {
        Format::OpenMetrics {
            quoted_names: is_set(1),
            strict: is_set(2),
        }
    } else {
        Format::Text
    };
    let limits = PageLimits {
        samples: if is_set(3) { 3 } else { 0 },
        labels: if is_set(3) { 4 } else { 0 },
        label_name_bytes: if is_set(3) { 8 } else { 0 },
        label_value_bytes: if is_set(3) { 8 } else { 0 },
        ..PageLimits::default()
    };
    let new = || Target::new(is_set(4), is_set(5));
    let mut remembering = new();
    for (at, body) in pages(input.0).enumerate().take(MOST_PAGES) {
        parse(body, format);
        let scraped = world::NOW + (at as u64 + 1) * SECOND;
        let exposition = Exposition {
            body,
            format,
            limits,
            times: ScrapeTimes {
                scraped,
                now: scraped,
                honor_timestamps: is_set(6),
            },
        };
        let (again, first) = (remembering.scrape(&exposition), new().scrape(&exposition));
        let samples = |result: &Result<Ingested, PageError>| {
            result
                .as_ref()
                .map(|ingested| ingested.samples)
                .map_err(ToString::to_string)
        };
        assert_eq!(
            samples(&again),
            samples(&first),
            "{:?}",
            String::from_utf8_lossy(body)
        );
        world::check(&mut remembering.store.borrow_mut());
    }
    remembering.page.clear(&mut remembering.store.borrow_mut());
    world::check(&mut remembering.store.borrow_mut());
}

fn pages(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        match rest
            .windows(SEPARATOR.len())
            .position(|window| window == SEPARATOR)
        {
            Some(at) => {
                // The line feed ends the last line of the page.
                let page = &rest[..=at];
                rest = &rest[at + SEPARATOR.len()..];
                Some(page)
            }
            None => {
                ended = true;
                Some(rest)
            }
        }
    })
}

/// Reads all items, and checks the position of an error.
fn parse(body: &[u8], format: Format) {
    let error = match format {
        Format::Text => {
            let mut parser = text::Parser::new(body);
            loop {
                match parser.next_item() {
                    Ok(None) => return,
                    Ok(Some(_)) => {}
                    Err(error) => break error,
                }
            }
        }
        Format::OpenMetrics { quoted_names, .. } => {
            let parser = openmetrics::Parser::new(body);
            let mut parser = if quoted_names {
                parser.with_quoted_names()
            } else {
                parser
            };
            loop {
                match parser.next_item() {
                    Ok(None) => return,
                    Ok(Some(_)) => {}
                    Err(error) => break error,
                }
            }
        }
    };
    assert!(
        error.line >= 1 && error.column >= 1 && error.found.chars().count() <= 40,
        "{error:?}"
    );
}
