//! Pages that several scrapers share: each gets all of it, slow ones neither stop the others nor keep memory, and what exceeds a limit
//! is refused.

mod common;

use common::{Def, Kit};
use dichroic_exporter_prometheus::pages::Limits;
use dichroic_exporter_prometheus::{Cut, Format, Options, PageKind, Pages, Reader, Refused};
use dichroic_model::{MetricKind, Number, Protocol};
use dichroic_pipeline::budget::{Budget, Part};
use dichroic_pipeline::{inbox, serve};
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

const MIB: usize = 1 << 20;
/// Enough for a page of 6 MiB, more than a window.
const SERIES: usize = 36_000;

fn kind(format: Format, gzip: bool) -> PageKind {
    let options = Options::default();
    PageKind {
        format,
        options,
        gzip,
    }
}

/// A store with a large family, of which the last value is `last`.
fn large(last: f64) -> Kit {
    let mut kit = Kit::default();
    let source = kit.source(Protocol::Otlp, "shop", "1", &[]);
    let def = Def::otel("orders", "", MetricKind::COUNTER);
    let padding = "x".repeat(100);
    for at in 0..SERIES {
        let value = if at + 1 == SERIES {
            Number::float(last)
        } else {
            Number::int(1)
        };
        kit.number(&source, &def, &[("order", &format!("{padding}{at}"))], value);
    }
    kit
}

/// Runs a test beside an ingest loop over the store. The clock advances when all tasks wait.
fn run(kit: Kit, limits: Limits, budget: &Budget, test: impl AsyncFnOnce(Rc<Pages>)) {
    let (handle, inbox) = inbox();
    let store = Rc::new(RefCell::new(kit.store));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    LocalSet::new().block_on(&runtime.unwrap(), async {
        spawn_local(serve(store, inbox));
        test(Rc::new(Pages::new(handle, budget.clone(), limits))).await;
        sleep(Duration::from_millis(1)).await;
    });
    assert_eq!(budget.usage(Part::Pages).used, 0, "all memory is returned");
}

const LIMITS: Limits = Limits {
    renderings: 2,
    page_time: Duration::from_secs(30),
};

async fn open(pages: &Pages, kind: PageKind) -> Result<(Reader, bool), Refused> {
    let opened = pages.open(kind).await?;
    let begun = opened.rendering.is_some();
    opened
        .rendering
        .into_iter()
        .for_each(|rendering| drop(spawn_local(rendering.run())));
    Ok((opened.reader, begun))
}

async fn read(mut reader: Reader) -> Result<Vec<u8>, Cut> {
    let mut page = Vec::new();
    while let Some(piece) = poll_fn(|cx| reader.poll_next(cx)).await {
        page.extend_from_slice(&piece?);
        tokio::task::yield_now().await;
    }
    Ok(page)
}

fn reading(reader: Reader) -> JoinHandle<Result<Vec<u8>, Cut>> {
    spawn_local(read(reader))
}

#[test]
fn scrapers_that_come_together_share_a_rendering_and_each_gets_the_whole_page() {
    for gzip in [false, true] {
        let budget = Budget::new(64 * MIB);
        let expected = large(1.0).page(Format::OpenMetrics);
        run(large(1.0), LIMITS, &budget, async |pages| {
            let mut readers = Vec::new();
            for at in 0..20 {
                let (reader, begun) = open(&pages, kind(Format::OpenMetrics, gzip)).await.unwrap();
                assert_eq!(begun, at == 0);
                readers.push(reading(reader));
            }
            for reader in readers {
                let mut page = reader.await.unwrap().unwrap();
                if gzip {
                    let mut out = vec![0; expected.len()];
                    let size = libdeflater::Decompressor::new().gzip_decompress(&page, &mut out);
                    assert_eq!(size, Ok(expected.len()));
                    page = out;
                }
                assert!(page == expected.as_bytes(), "not the page");
            }
        });
        assert!(budget.usage(Part::Pages).peak < 10 * MIB);
    }
}

#[test]
fn a_reader_that_holds_back_others_is_cut_off_and_the_others_get_their_page() {
    let budget = Budget::new(64 * MIB);
    run(large(1.0), LIMITS, &budget, async |pages| {
        let (mut stalled, _) = open(&pages, kind(Format::Text, false)).await.unwrap();
        let (reader, begun) = open(&pages, kind(Format::Text, false)).await.unwrap();
        assert!(!begun);
        let started = Instant::now();
        assert!(read(reader).await.is_ok());
        assert!(started.elapsed() < Duration::from_secs(5));
        let next = poll_fn(|cx| stalled.poll_next(cx)).await;
        assert_eq!(next, Some(Err(Cut::Slow)));
        assert_eq!(stalled.end(), Some(Err(Cut::Slow)));
    });
}

#[test]
fn the_page_that_has_stalled_the_longest_makes_room_for_another() {
    let budget = Budget::new(64 * MIB);
    run(large(1.0), LIMITS, &budget, async |pages| {
        let mut stalled = Vec::new();
        for format in [Format::Text, Format::OpenMetrics] {
            stalled.push(open(&pages, kind(format, false)).await.unwrap().0);
            sleep(Duration::from_millis(200)).await;
        }
        let started = Instant::now();
        let (reader, _) = open(&pages, kind(Format::Text, true)).await.unwrap();
        let waited = started.elapsed().as_millis();
        assert!((500..1_500).contains(&waited), "{waited} ms");
        assert!(read(reader).await.is_ok());
        let first = poll_fn(|cx| stalled[0].poll_next(cx)).await;
        assert_eq!(first, Some(Err(Cut::Displaced)));
        let second = poll_fn(|cx| stalled[1].poll_next(cx)).await;
        assert!(second.unwrap().is_ok());
    });
}

#[test]
fn a_page_that_is_read_slowly_does_not_make_room() {
    let budget = Budget::new(64 * MIB);
    let limits = Limits {
        renderings: 1,
        ..LIMITS
    };
    run(large(1.0), limits, &budget, async |pages| {
        let (mut reader, _) = open(&pages, kind(Format::Text, false)).await.unwrap();
        let slow = spawn_local(async move {
            while let Some(piece) = poll_fn(|cx| reader.poll_next(cx)).await {
                piece.unwrap();
                sleep(Duration::from_millis(100)).await;
            }
        });
        sleep(Duration::from_secs(2)).await;
        let other = open(&pages, kind(Format::OpenMetrics, false)).await;
        assert_eq!(other.map(drop), Err(Refused::Renderings));
        slow.await.unwrap();
    });
}

#[test]
fn a_request_waits_for_a_place_that_becomes_free() {
    let budget = Budget::new(64 * MIB);
    let limits = Limits {
        renderings: 1,
        ..LIMITS
    };
    run(large(1.0), limits, &budget, async |pages| {
        let (first, _) = open(&pages, kind(Format::Text, false)).await.unwrap();
        let second = spawn_local({
            let pages = pages.clone();
            async move { read(open(&pages, kind(Format::OpenMetrics, false)).await.unwrap().0).await }
        });
        tokio::task::yield_now().await;
        assert!(read(first).await.is_ok());
        assert!(second.await.unwrap().unwrap().ends_with(b"# EOF\n"));
    });
}

#[test]
fn a_page_that_is_not_complete_in_time_is_cut_off() {
    let budget = Budget::new(64 * MIB);
    run(large(1.0), LIMITS, &budget, async |pages| {
        let (mut stalled, _) = open(&pages, kind(Format::Text, false)).await.unwrap();
        sleep(Duration::from_secs(31)).await;
        let next = poll_fn(|cx| stalled.poll_next(cx)).await;
        assert_eq!(next, Some(Err(Cut::Late)));
    });
}

#[test]
fn a_page_without_memory_is_refused() {
    let budget = Budget::new(64 * MIB);
    run(large(1.0), LIMITS, &budget, async |pages| {
        let taken = budget.try_reserve(Part::Pages, 63 * MIB);
        assert_eq!(
            open(&pages, kind(Format::Text, false)).await.map(drop),
            Err(Refused::Memory)
        );
        drop(taken);
        assert!(open(&pages, kind(Format::Text, false)).await.is_ok());
    });
}

#[test]
fn a_rendering_that_is_not_run_fails_its_readers() {
    let budget = Budget::new(64 * MIB);
    run(large(1.0), LIMITS, &budget, async |pages| {
        let mut opened = pages.open(kind(Format::Text, false)).await.unwrap();
        drop(opened.rendering);
        assert_eq!(opened.reader.ready().await, Err(Cut::Busy));
    });
}

#[test]
fn a_large_family_with_a_forbidden_value_at_its_end_is_split_from_the_next_page_on() {
    let budget = Budget::new(64 * MIB);
    let kit = large(f64::NAN);
    run(kit, LIMITS, &budget, async |pages| {
        let first = read(open(&pages, kind(Format::OpenMetrics, false)).await.unwrap().0)
            .await
            .unwrap();
        let first = String::from_utf8(first).unwrap();
        assert!(first.starts_with("# TYPE orders counter\n"));
        assert_eq!(first.matches("\norders_total{").count(), SERIES - 1);
        let next = read(open(&pages, kind(Format::OpenMetrics, false)).await.unwrap().0)
            .await
            .unwrap();
        let next = String::from_utf8(next).unwrap();
        assert!(next.starts_with("# TYPE orders_total unknown\n"));
        assert_eq!(next.matches("\norders_total{").count(), SERIES);
    });
}
