//! A server with settable responses, and waiting for a status or a series.

use crate::common::lines;
use dichroic_pipeline::Core;
use dichroic_receiver_prometheus::config::{ScrapeConfig, ScrapeTarget, StaticConfig};
use dichroic_receiver_prometheus::scrape::{TargetStatus, TargetStatuses};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest wait for a condition. Only a failing test waits that long.
const DEADLINE: Duration = Duration::from_secs(120);

/// The response of a server to each request.
#[derive(Clone)]
pub enum Answer {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the connection closes.
    Close(Vec<u8>),
    /// The first bytes, then the second ones repeatedly.
    Forever(Vec<u8>, Vec<u8>),
    Nothing,
}

pub fn page(content_type: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

pub fn text(body: &str) -> Answer {
    Answer::Bytes(page("text/plain; version=0.0.4; charset=utf-8", body))
}

pub fn gzip(body: &[u8]) -> Answer {
    let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
    let mut packed = vec![0; compressor.gzip_compress_bound(body.len())];
    let length = compressor.gzip_compress(body, &mut packed).expect("room");
    gzipped(&packed[..length])
}

pub fn gzipped(packed: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    Answer::Bytes([head.as_bytes(), packed].concat())
}

pub struct Server {
    pub address: String,
    pub answer: Rc<RefCell<Answer>>,
    /// Request heads, and the number of connections.
    pub requests: Rc<RefCell<Vec<String>>>,
    pub connections: Rc<RefCell<usize>>,
}

impl Server {
    pub async fn start(answer: Answer) -> Self {
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

    pub fn answers(&self, answer: Answer) {
        *self.answer.borrow_mut() = answer;
    }
}

pub async fn converse(
    mut stream: TcpStream,
    answer: Rc<RefCell<Answer>>,
    requests: Rc<RefCell<Vec<String>>>,
) {
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

pub async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

pub fn target(server: &Server, change: impl FnOnce(&mut ScrapeConfig)) -> ScrapeTarget {
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
pub async fn until(
    statuses: &TargetStatuses,
    address: &str,
    what: impl Fn(&TargetStatus) -> bool,
) -> TargetStatus {
    let deadline = Instant::now() + DEADLINE;
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

pub async fn scraped(store: &Rc<RefCell<Core>>) -> BTreeMap<String, String> {
    let lines = lines(store).await;
    lines
        .iter()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, value)| (series.to_owned(), value.to_owned()))
        .collect()
}

pub fn of<'a>(series: &'a BTreeMap<String, String>, server: &Server, name: &str) -> Option<&'a str> {
    let labels = format!("job=\"j\",instance=\"{}\"", server.address);
    let found = series
        .iter()
        .find(|(key, _)| key.contains(&format!(" {name}{{")) && key.contains(&labels));
    found.map(|(_, value)| value.as_str())
}

/// Waits until a series has a value: on a loaded machine a scrape may time out in between.
pub async fn until_series(store: &Rc<RefCell<Core>>, server: &Server, name: &str, value: &str) {
    let deadline = Instant::now() + DEADLINE;
    while of(&scraped(store).await, server, name) != Some(value) {
        assert!(Instant::now() < deadline, "{name} never became {value}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
