//! Invalid responses: each sets `up` to 0 with a reason, and does not disturb another target.

use crate::common::{on_ingest_thread, store};
use crate::harness::*;
use dichroic_model::Limits;
use dichroic_receiver_prometheus::config::ScrapeConfig;
use dichroic_receiver_prometheus::scrape::{Health, Scraper, TargetStatus};
use std::time::Duration;
use tokio::net::TcpListener;

/// A target that was up gives this response; the other target stays up.
fn fails(answer: Answer, change: impl FnOnce(&mut ScrapeConfig) + 'static, problem: &'static str) {
    on_ingest_thread(async move {
        let (store, bad, good) = (
            store(Limits::default()),
            Server::start(text("a 1\n")).await,
            Server::start(text("a 2\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        let generous = |config: &mut ScrapeConfig| {
            config.scrape_interval = Duration::from_millis(100);
            change(config);
        };
        let often = |config: &mut ScrapeConfig| config.scrape_interval = Duration::from_millis(100);
        scraper.set_targets(vec![target(&bad, generous), target(&good, often)]);
        until(&scraper.statuses(), &bad.address, |status| {
            status.health == Health::Up
        })
        .await;
        bad.answers(answer);
        let says = |status: &TargetStatus| {
            status
                .last_error
                .as_deref()
                .is_some_and(|error| error.contains(problem))
        };
        let status = until(&scraper.statuses(), &bad.address, says).await;
        assert_eq!(status.health, Health::Down);
        assert!(status.last_scrape_duration_seconds < 2.0, "{status:?}");
        let series = scraped(&store).await;
        assert_eq!(
            (of(&series, &bad, "a"), of(&series, &bad, "up")),
            (None, Some("0")),
            "{series:?}"
        );
        assert_eq!(of(&series, &bad, "scrape_samples_scraped"), Some("0"));
        let before = until(&scraper.statuses(), &good.address, |status| {
            status.health == Health::Up
        })
        .await;
        until(&scraper.statuses(), &good.address, |status| {
            status.scrapes > before.scrapes + 1
        })
        .await;
        until_series(&store, &good, "a", "2").await;
        assert!(store.borrow().ledger().balances());
        bad.answers(text("a 3\n"));
        until_series(&store, &bad, "a", "3").await;
    });
}

fn unchanged(_: &mut ScrapeConfig) {}

#[test]
fn a_hanging_target_fails_at_its_timeout() {
    fails(
        Answer::Nothing,
        |config| config.scrape_timeout = Some(Duration::from_millis(50)),
        "no complete response within 50 ms",
    );
}

#[test]
fn a_target_that_hangs_within_its_body_fails_too() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\na 1\n".to_vec();
    fails(
        Answer::Bytes(half),
        |config| config.scrape_timeout = Some(Duration::from_millis(50)),
        "no complete response within 50 ms",
    );
}

#[test]
fn a_status_other_than_200_is_an_error() {
    fails(
        Answer::Bytes(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\na 1\n".to_vec()),
        unchanged,
        "HTTP status 500 Internal Server Error",
    );
    fails(
        Answer::Bytes(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_vec()),
        unchanged,
        "HTTP status 302 Found",
    );
}

#[test]
fn an_endless_body_is_rejected_at_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = b"1000\r\n"
        .iter()
        .copied()
        .chain([b'#'; 4096])
        .chain(*b"\r\n")
        .collect();
    fails(
        Answer::Forever(head, chunk),
        |config| config.body_size_limit = 1 << 20,
        "larger than 1048576 bytes",
    );
}

#[test]
fn a_body_beyond_the_memory_budget_is_refused_before_it_is_allocated() {
    fails(
        gzip(&vec![b'#'; 80 << 20]),
        |config| config.body_size_limit = 1 << 30,
        "no memory for",
    );
}

#[test]
fn a_slow_endless_body_fails_at_the_timeout() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let change = |config: &mut ScrapeConfig| config.scrape_timeout = Some(Duration::from_millis(60));
    fails(
        Answer::Forever(head, b"1\r\n#\r\n".to_vec()),
        change,
        "no complete response within 60 ms",
    );
}

#[test]
fn a_false_content_length_is_an_error() {
    let short = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\na 1\n".to_vec();
    fails(Answer::Close(short), unchanged, "invalid HTTP response");
    let huge =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99999999999\r\n\r\na 1\n".to_vec();
    fails(Answer::Close(huge), unchanged, "larger than 67108864 bytes");
    let cut = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\na 1\nb 2\n".to_vec();
    fails(
        Answer::Close(cut[..cut.len() - 6].to_vec()),
        unchanged,
        "invalid HTTP response",
    );
}

#[test]
fn a_response_that_is_not_http_is_an_error() {
    fails(
        Answer::Close(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        unchanged,
        "invalid HTTP response",
    );
    fails(Answer::Close(Vec::new()), unchanged, "invalid HTTP response");
}

#[test]
fn gzip_bombs_and_invalid_gzip_are_rejected() {
    // Two hundred times the limit when inflated, and below the limit as sent: small enough for a slow machine to transfer in time.
    let limit: usize = 64 << 10;
    let bomb = gzip(&vec![b'#'; 200 * limit]);
    assert!(matches!(&bomb, Answer::Bytes(bytes) if bytes.len() < limit));
    fails(
        bomb,
        move |config| config.body_size_limit = limit as u64,
        "larger than 65536 bytes",
    );
    fails(
        gzipped(b"\x1f\x8b\x08\x00garbage"),
        unchanged,
        "invalid gzip data",
    );
    let brotli = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx".to_vec();
    fails(
        Answer::Bytes(brotli),
        unchanged,
        "unsupported Content-Encoding \"br\"",
    );
}

#[test]
fn wrong_content_types_and_invalid_pages_are_rejected() {
    fails(
        Answer::Bytes(page("text/html; charset=utf-8", "<html>")),
        unchanged,
        "unsupported Content-Type \"text/html; charset=utf-8\"",
    );
    fails(
        text("a 1\nb one\n"),
        unchanged,
        "line 2, column 3: invalid number, found \"one\"",
    );
    fails(
        Answer::Bytes(page("application/openmetrics-text; version=1.0.0", "a 1\n")),
        unchanged,
        "line 2, column 1: incomplete page",
    );
    fails(
        text("a 1\nb 1\nc 1\n"),
        |config| config.sample_limit = 2,
        "more than 2 samples; raise sample_limit",
    );
}

#[test]
fn an_unreachable_target_is_down_from_the_first_scrape() {
    on_ingest_thread(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (store, server) = (store(Limits::default()), Server::start(Answer::Nothing).await);
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let server = Server { address, ..server };
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        let status = until(&scraper.statuses(), &server.address, |status| {
            status.health == Health::Down
        })
        .await;
        assert!(
            status
                .last_error
                .as_deref()
                .unwrap_or_default()
                .contains("cannot connect to"),
            "{status:?}"
        );
        assert_eq!(of(&scraped(&store).await, &server, "up"), Some("0"));
    });
}
