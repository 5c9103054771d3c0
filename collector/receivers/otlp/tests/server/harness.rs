//! A server with both ports, and an HTTP/1.1 client that shows every byte.

use crate::common::*;
use dichroic_model::{Identity, Limits as StoreLimits};
use dichroic_pipeline::Core;
use dichroic_pipeline::requests::RequestAccount;
use dichroic_receiver_otlp::{Config, Counters, Limits, bind, serve};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

/// Timeout for a slow machine; a passing test never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

pub struct Server {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub store: Rc<RefCell<Core>>,
    pub counters: Rc<Counters>,
    pub stop: watch::Sender<bool>,
    pub task: JoinHandle<dichroic_tasks::Stopped>,
}

impl Server {
    pub async fn start(limits: Limits) -> Server {
        let any = Some(([127, 0, 0, 1], 0).into());
        let config = Config {
            grpc: any,
            http: any,
            limits,
            ..Config::default()
        };
        let bound = bind(config).await.expect("free ports");
        let store = Core::new(StoreLimits::default(), Arc::new(Identity), EPOCH);
        let store = Rc::new(RefCell::new(store));
        let (stop, stopped) = watch::channel(false);
        Server {
            http: bound.http.unwrap(),
            grpc: bound.grpc.unwrap(),
            counters: bound.counters.clone(),
            task: spawn_local(serve(bound, store.clone(), stopped)),
            store,
            stop,
        }
    }

    /// Stops the server and checks that everything was accounted for.
    pub async fn end(self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.task)
            .await
            .expect("shutdown in time")
            .expect("no panic");
        assert!(self.store.borrow().ledger().balances());
        assert_eq!((self.counters.connections(), self.counters.in_flight()), (0, 0));
    }

    /// The account of the requests of an endpoint.
    pub fn requests(&self, transport: &str, signal: &str) -> RequestAccount {
        let store = self.store.borrow();
        let mut accounts = store.ledger().requests.accounts();
        let found =
            accounts.find(|(endpoint, _)| (endpoint.transport, endpoint.signal) == (transport, signal));
        found.map(|(_, account)| account.clone()).unwrap_or_default()
    }

    /// The requests of an endpoint that were refused, by reason.
    pub fn refused(&self, transport: &str, signal: &str) -> Vec<(&'static str, u64)> {
        let account = self.requests(transport, signal);
        account
            .refused()
            .map(|(reason, n)| (reason.as_str(), n))
            .collect()
    }

    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        exchange(self.http, &head("POST", path, headers, body.len()), body).await
    }
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        match self.header("content-type") {
            "application/x-protobuf" => Status::decode(&*self.body).expect("a Status").message,
            _ => String::from_utf8(self.body.clone()).expect("text"),
        }
    }
}

pub fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    )
}

pub async fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may respond and close before it has read the whole request.
    let _ = stream.write_all(body).await;
    answer(&mut stream).await
}

pub async fn answer(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("a response in time");
    let end = memchr::memmem::find(&bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {bytes:?}"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    Reply {
        status,
        headers: headers
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: bytes[end + 4..].to_vec(),
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
pub const JSON: (&str, &str) = ("content-type", "application/json");
pub const SPANS: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]}]}]}"#;

pub fn metrics() -> Vec<u8> {
    body(vec![gauge("g", vec![int(1)])]).to_vec()
}
