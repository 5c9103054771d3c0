//! The scraper against real servers on loopback: each invalid response is an error with a reason and `up` 0, and does not
//! disturb another target.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::{lines, on_ingest_thread, store};
use dichroic_model::Limits;
use dichroic_pipeline::Core;
use dichroic_receiver_prometheus::config::{ScrapeConfig, ScrapeTarget, StaticConfig};
use dichroic_receiver_prometheus::scrape::{Health, Scraper, TargetStatus, TargetStatuses};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The response of a server to each request.
#[derive(Clone)]
enum Answer {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the connection closes.
    Close(Vec<u8>),
    /// The first bytes, then the second ones repeatedly.
    Forever(Vec<u8>, Vec<u8>),
    Nothing,
}

fn page(content_type: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn text(body: &str) -> Answer {
    Answer::Bytes(page("text/plain; version=0.0.4; charset=utf-8", body))
}

fn gzip(body: &[u8]) -> Answer {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
    let mut packed = vec![0; compressor.gzip_compress_bound(body.len())];
    let length = compressor.gzip_compress(body, &mut packed).expect("room");
    gzipped(&packed[..length])
}

fn gzipped(packed: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    Answer::Bytes([head.as_bytes(), packed].concat())
}

struct Server {
    address: String,
    answer: Rc<RefCell<Answer>>,
    /// Request heads, and the number of connections.
    requests: Rc<RefCell<Vec<String>>>,
    connections: Rc<RefCell<usize>>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Self {
            address: listener.local_addr().expect("an address").to_string(),
            answer: Rc::new(RefCell::new(answer)),
            requests: Rc::default(),
            connections: Rc::default(),
        };
        let (answer, requests, connections) = (
            server.answer.clone(),
            server.requests.clone(),
            server.connections.clone(),
        );
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.borrow_mut() += 1;
                tokio::task::spawn_local(converse(stream, answer.clone(), requests.clone()));
            }
        });
        server
    }

    fn answers(&self, answer: Answer) {
        *self.answer.borrow_mut() = answer;
    }
}

async fn converse(mut stream: TcpStream, answer: Rc<RefCell<Answer>>, requests: Rc<RefCell<Vec<String>>>) {
    while let Some(head) = read_head(&mut stream).await {
        requests.borrow_mut().push(head);
        let answer = answer.borrow().clone();
        match answer {
            Answer::Bytes(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Answer::Close(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Answer::Forever(bytes, again) => {
                let _ = stream.write_all(&bytes).await;
                while stream.write_all(&again).await.is_ok() {}
                return;
            }
            Answer::Nothing => std::future::pending().await,
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn target(server: &Server, change: impl FnOnce(&mut ScrapeConfig)) -> ScrapeTarget {
    let mut config = ScrapeConfig::new("j");
    config.scrape_interval = Duration::from_millis(250);
    config.static_configs = vec![StaticConfig {
        targets: vec![server.address.clone()],
        labels: BTreeMap::new(),
    }];
    change(&mut config);
    config.targets().expect("a valid config").remove(0)
}

/// Waits until a target's status satisfies `what`.
async fn until(
    statuses: &TargetStatuses,
    address: &str,
    what: impl Fn(&TargetStatus) -> bool,
) -> TargetStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = statuses
            .targets()
            .into_iter()
            .find(|status| status.url.contains(address));
        match found {
            Some(status) if what(&status) => return status,
            found => assert!(Instant::now() < deadline, "still {found:?}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn scraped(store: &Rc<RefCell<Core>>) -> BTreeMap<String, String> {
    let lines = lines(store).await;
    lines
        .iter()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, value)| (series.to_owned(), value.to_owned()))
        .collect()
}

fn of<'a>(series: &'a BTreeMap<String, String>, server: &Server, name: &str) -> Option<&'a str> {
    let labels = format!("job=\"j\",instance=\"{}\"", server.address);
    let found = series
        .iter()
        .find(|(key, _)| key.contains(&format!(" {name}{{")) && key.contains(&labels));
    found.map(|(_, value)| value.as_str())
}

/// Waits until a series has a value: on a loaded machine a scrape may time out in between.
async fn until_series(store: &Rc<RefCell<Core>>, server: &Server, name: &str, value: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while of(&scraped(store).await, server, name) != Some(value) {
        assert!(Instant::now() < deadline, "{name} never became {value}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_scrape_adds_the_series_that_describe_it() {
    on_ingest_thread(async {
        let (store, server) = (
            store(Limits::default()),
            Server::start(text("a 1\nb{job=\"own\"} 2\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        let status = until(&scraper.statuses(), &server.address, |status| status.scrapes >= 3).await;
        assert_eq!(
            (status.health, status.samples, status.body_bytes, status.failures),
            (Health::Up, 2, 19, 0)
        );
        let series = scraped(&store).await;
        let check =
            |name: &str, expected: &str| assert_eq!(of(&series, &server, name), Some(expected), "{name}");
        check("a", "1");
        check("up", "1");
        check("scrape_samples_scraped", "2");
        check("scrape_samples_post_metric_relabeling", "2");
        check("scrape_series_added", "0");
        assert!(
            of(&series, &server, "scrape_duration_seconds")
                .is_some_and(|value| value.parse::<f64>().is_ok_and(|v| v > 0.0))
        );
        assert!(
            series.keys().any(|key| key.contains("exported_job=\"own\"")),
            "{series:?}"
        );
        assert!(store.borrow().ledger().balances());
        assert_eq!(*server.connections.borrow(), 1, "the connection is kept");
        let request = server.requests.borrow()[0].to_ascii_lowercase();
        for header in [
            "get /metrics http/1.1",
            "accept: application/openmetrics-text;version=1.0.0",
            "text/plain;version=0.0.4",
            "accept-encoding: gzip",
            "x-prometheus-scrape-timeout-seconds: 0.25",
            "user-agent: dichroic/",
        ] {
            assert!(request.contains(header), "{header} is missing in {request}");
        }
    });
}

#[test]
fn with_honor_labels_the_labels_of_the_page_win() {
    on_ingest_thread(async {
        let (store, server) = (
            store(Limits::default()),
            Server::start(text("b{job=\"own\"} 2\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |config| config.honor_labels = true)]);
        until(&scraper.statuses(), &server.address, |status| {
            status.health == Health::Up
        })
        .await;
        let series = scraped(&store).await;
        assert!(
            series
                .keys()
                .any(|key| key.contains(" b{") && key.contains("job=\"own\"") && !key.contains("exported")),
            "{series:?}"
        );
    });
}

#[test]
fn openmetrics_and_gzip_are_read() {
    on_ingest_thread(async {
        let (store, server) = (store(Limits::default()), Server::start(gzip(b"a 1\n")).await);
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        until(&scraper.statuses(), &server.address, |status| {
            status.health == Health::Up
        })
        .await;
        assert_eq!(of(&scraped(&store).await, &server, "a"), Some("1"));
        let body = "# TYPE c counter\nc_total 5\n# TYPE python info\npython_info{version=\"3\"} 1\n# EOF\n";
        server.answers(Answer::Bytes(page(
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            body,
        )));
        until(&scraper.statuses(), &server.address, |status| status.samples == 2).await;
        assert_eq!(of(&scraped(&store).await, &server, "c_total"), Some("5"));
        let runtimes: Vec<_> = store
            .borrow()
            .sources()
            .map(|(source, _, _)| source.spec.runtime.as_str())
            .collect();
        assert_eq!(runtimes, ["python"]);
    });
}

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
    let change = |config: &mut ScrapeConfig| config.body_size_limit = 1 << 20;
    fails(gzip(&vec![b'#'; 200 << 20]), change, "larger than 1048576 bytes");
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

#[test]
fn a_target_that_closes_idle_connections_is_still_scraped() {
    on_ingest_thread(async {
        let Answer::Bytes(answer) = text("a 1\n") else {
            return;
        };
        let (store, server) = (
            store(Limits::default()),
            Server::start(Answer::Close(answer)).await,
        );
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        let status = until(&scraper.statuses(), &server.address, |status| status.scrapes >= 3).await;
        assert_eq!((status.health, status.failures), (Health::Up, 0), "{status:?}");
    });
}

#[test]
fn a_label_explosion_stops_at_the_limits() {
    on_ingest_thread(async {
        let (store, server) = (
            store(Limits {
                series: 50,
                ..Limits::default()
            }),
            Server::start(text("a 1\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        scraper.set_targets(vec![target(&server, |_| {})]);
        until(&scraper.statuses(), &server.address, |status| {
            status.health == Health::Up
        })
        .await;
        for round in 0..3 {
            let page: String = (0..2000)
                .map(|i| format!("a{{id=\"{round}-{i}\"}} 1\n"))
                .collect();
            server.answers(text(&page));
            let before = until(&scraper.statuses(), &server.address, |_| true)
                .await
                .scrapes;
            until(&scraper.statuses(), &server.address, |status| {
                status.samples == 2000 && status.scrapes > before + 1
            })
            .await;
            assert!(store.borrow().series() <= 50);
        }
        assert!(store.borrow().ledger().balances());
    });
}

#[test]
fn changed_targets_do_not_disturb_the_others() {
    on_ingest_thread(async {
        let (store, a, b) = (
            store(Limits::default()),
            Server::start(text("a 1\n")).await,
            Server::start(text("a 2\n")).await,
        );
        let mut scraper = Scraper::new(store.clone());
        let statuses = scraper.statuses();
        scraper.set_targets(vec![target(&a, |_| {}), target(&b, |_| {})]);
        until(&statuses, &a.address, |status| status.health == Health::Up).await;
        until(&statuses, &b.address, |status| status.health == Health::Up).await;
        scraper.set_targets(vec![target(&b, |_| {})]);
        let series = scraped(&store).await;
        assert_eq!(
            (of(&series, &a, "a"), of(&series, &a, "up"), of(&series, &b, "a")),
            (None, None, Some("2"))
        );
        assert_eq!(statuses.targets().len(), 1);
        let before = until(&statuses, &b.address, |_| true).await.scrapes;
        until(&statuses, &b.address, |status| status.scrapes > before).await;
        assert_eq!(
            *b.connections.borrow(),
            1,
            "an unchanged target goes on undisturbed"
        );
        scraper.stop();
        assert_eq!(
            of(&scraped(&store).await, &b, "a"),
            Some("2"),
            "stopping leaves the series for the last export"
        );
    });
}
