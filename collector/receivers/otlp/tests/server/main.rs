//! The two ports from the sender's side: statuses, headers and bodies over HTTP/1.1, calls over gRPC, limits and shutdown.
#![allow(clippy::too_many_lines, reason = "a test reads best in one piece")]

#[path = "../common/mod.rs"]
mod common;

use bytes::{BufMut, Bytes, BytesMut};
use common::*;
use dichroic_model::{Identity, Limits as StoreLimits};
use dichroic_pipeline::Core;
use dichroic_receiver_otlp::{Config, Counters, Limits, Verdict, bind, serve};
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
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
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

struct Server {
    http: SocketAddr,
    grpc: SocketAddr,
    store: Rc<RefCell<Core>>,
    counters: Rc<Counters>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Server {
        let any = Some(([127, 0, 0, 1], 0).into());
        let config = Config {
            grpc: any,
            http: any,
            limits,
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
    async fn end(self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.task)
            .await
            .expect("shutdown in time")
            .expect("no panic");
        assert!(self.store.borrow().ledger().balances());
        assert_eq!((self.counters.connections(), self.counters.in_flight()), (0, 0));
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        exchange(self.http, &head("POST", path, headers, body.len()), body).await
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

struct Reply {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn text(&self) -> String {
        match self.header("content-type") {
            "application/x-protobuf" => Status::decode(&*self.body).expect("a Status").message,
            _ => String::from_utf8(self.body.clone()).expect("text"),
        }
    }
}

fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    )
}

async fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may respond and close before it has read the whole request.
    let _ = stream.write_all(body).await;
    answer(&mut stream).await
}

async fn answer(stream: &mut TcpStream) -> Reply {
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

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");
const SPANS: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]}]}]}"#;

fn metrics() -> Vec<u8> {
    body(vec![gauge("g", vec![int(1)])]).to_vec()
}

/// Path, headers, body, and the body of the response.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], &'a str);

#[test]
fn requests_are_accepted_in_every_encoding() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let json = r#"{"resourceMetrics":[]}"#.as_bytes();
        let zstd = zstd::stream::encode_all(&metrics()[..], 1).unwrap();
        let cases: [Case<'_>; 14] = [
            ("/v1/metrics", &[PROTOBUF], &metrics(), ""),
            ("/v1/metrics/", &[PROTOBUF], &metrics(), ""),
            ("/v1/metrics?x=y", &[PROTOBUF], &metrics(), ""),
            (
                "/v1/metrics",
                &[("content-type", "Application/X-Protobuf; charset=utf-8")],
                &metrics(),
                "",
            ),
            (
                "/v1/metrics",
                &[PROTOBUF, ("content-encoding", "gzip")],
                &gzip(&metrics()),
                "",
            ),
            (
                "/v1/metrics",
                &[PROTOBUF, ("content-encoding", "GZIP")],
                &gzip(&metrics()),
                "",
            ),
            (
                "/v1/metrics",
                &[PROTOBUF, ("content-encoding", "zstd")],
                &zstd,
                "",
            ),
            (
                "/v1/metrics",
                &[PROTOBUF, ("content-encoding", "identity")],
                &metrics(),
                "",
            ),
            ("/v1/metrics", &[PROTOBUF], b"", ""),
            ("/v1/metrics", &[PROTOBUF, ("content-encoding", "gzip")], b"", ""),
            ("/v1/metrics", &[JSON], json, "{}"),
            (
                "/v1/logs",
                &[("content-type", "application/json;charset=UTF-8")],
                b"{}",
                "{}",
            ),
            ("/", &[JSON], json, "{}"),
            ("/", &[PROTOBUF], b"", ""),
        ];
        for (path, headers, body, expected) in cases {
            let reply = server.post(path, headers, body).await;
            assert_eq!(
                (reply.status, &*reply.body),
                (200, expected.as_bytes()),
                "{path} {headers:?}"
            );
        }
        assert_eq!(server.counters.of("http", Verdict::Ok), 14);
        assert_eq!(server.store.borrow().series(), 1);
        server.end().await;
    });
}

#[test]
fn a_partial_success_uses_the_encoding_of_the_request() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let text = "traces are not supported: 2 spans were counted and dropped";
        for path in ["/v1/traces", "/"] {
            let reply = server.post(path, &[JSON], SPANS.as_bytes()).await;
            assert_eq!(
                (reply.status, reply.header("content-type")),
                (200, "application/json")
            );
            let expected = format!(r#"{{"partialSuccess":{{"errorMessage":"{text}","rejectedSpans":"2"}}}}"#);
            assert_eq!(reply.text(), expected);
            let spans = dichroic_receiver_otlp::json::to_protobuf(
                dichroic_receiver_otlp::Service::Traces,
                SPANS.as_bytes(),
            );
            let reply = server.post(path, &[PROTOBUF], &spans.unwrap()).await;
            assert_eq!(reply.header("content-type"), "application/x-protobuf");
            let partial = ExportTraceServiceResponse::decode(&*reply.body)
                .unwrap()
                .partial_success
                .unwrap();
            assert_eq!(
                (partial.rejected_spans, partial.error_message.as_str()),
                (2, text)
            );
        }
        assert_eq!(server.counters.of("http", Verdict::Partial), 4);
        server.end().await;
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of requests")]
fn invalid_requests_are_rejected_with_a_reason() {
    run(async {
        let limits = Limits {
            request_bytes: 1 << 20,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let check = async |method: &str,
                           path: &str,
                           headers: &[(&str, &str)],
                           body: &[u8],
                           status: u16,
                           text: &str| {
            let reply = exchange(server.http, &head(method, path, headers, body.len()), body).await;
            assert_eq!(
                reply.status,
                status,
                "{method} {path} {headers:?}: {}",
                reply.text()
            );
            assert!(reply.text().contains(text), "{}", reply.text());
            reply
        };
        check(
            "POST",
            "/metrics",
            &[PROTOBUF],
            b"",
            404,
            "/v1/metrics, /v1/logs and /v1/traces",
        )
        .await;
        let reply = check("GET", "/v1/metrics", &[], b"", 405, "POST").await;
        assert_eq!(reply.header("allow"), "POST");
        check(
            "POST",
            "/v1/metrics",
            &[],
            b"",
            415,
            "application/x-protobuf or application/json",
        )
        .await;
        check(
            "POST",
            "/v1/metrics",
            &[("content-type", "text/plain")],
            b"",
            415,
            "Content-Type",
        )
        .await;
        let web = ("content-type", "application/grpc-web+proto");
        check("POST", "/v1/metrics", &[web], b"", 415, "Content-Type").await;
        check(
            "POST",
            "/v1/metrics",
            &[PROTOBUF, ("content-encoding", "br")],
            b"x",
            415,
            "gzip, zstd",
        )
        .await;
        check(
            "POST",
            "/v1/metrics",
            &[PROTOBUF],
            &[0x0a, 0x05],
            400,
            "nothing was accepted",
        )
        .await;
        check(
            "POST",
            "/v1/metrics",
            &[PROTOBUF, ("content-encoding", "gzip")],
            b"no",
            400,
            "Gzip",
        )
        .await;
        check(
            "POST",
            "/v1/metrics",
            &[JSON],
            b"{\"resourceMetrics\":7}",
            400,
            "line 1 column",
        )
        .await;
        check(
            "POST",
            "/",
            &[JSON],
            b"{}",
            400,
            "resourceMetrics, resourceLogs or resourceSpans",
        )
        .await;
        let bomb = gzip(&vec![0; 64 << 20]);
        check(
            "POST",
            "/v1/metrics",
            &[PROTOBUF, ("content-encoding", "gzip")],
            &bomb,
            413,
            "receivers.otlp.max_request",
        )
        .await;
        check(
            "POST",
            "/v1/metrics",
            &[PROTOBUF],
            &vec![0; (1 << 20) + 1],
            413,
            "1048576 bytes",
        )
        .await;
        let reply = check("POST", "/v1/metrics", &[PROTOBUF], &[0xff], 400, "").await;
        assert_eq!(Status::decode(&*reply.body).unwrap().code, 3);
        let reply = check("POST", "/v1/metrics", &[JSON], b"[", 400, "").await;
        assert!(
            reply.text().starts_with(r#"{"code":3,"message":"#),
            "{}",
            reply.text()
        );
        assert_eq!(server.store.borrow().series(), 0);
        server.end().await;
    });
}

#[test]
fn a_body_without_a_length_is_rejected_at_the_limit() {
    run(async {
        let limits = Limits {
            request_bytes: 1 << 16,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let head = "POST /v1/metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n";
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
        let reply = exchange(server.http, head, chunk.repeat(32).as_bytes()).await;
        assert_eq!(reply.status, 413);
        server.end().await;
    });
}

#[test]
fn a_sender_over_the_budget_in_flight_gets_503_and_a_retry_delay() {
    run(async {
        let limits = Limits {
            in_flight_bytes: 1 << 16,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        // One sender holds most of the budget with a body that is not finished.
        let mut holder = TcpStream::connect(server.http).await.unwrap();
        let held = vec![0x20; 60_000];
        holder
            .write_all(head("POST", "/v1/metrics", &[JSON], 60_002).as_bytes())
            .await
            .unwrap();
        holder.write_all(&held).await.unwrap();
        let reply = timeout(PATIENCE, async {
            loop {
                let reply = server.post("/v1/metrics", &[JSON], &vec![0x20; 30_000]).await;
                if reply.status == 503 {
                    return reply;
                }
                assert_eq!(reply.status, 200, "the first sender's body is still incomplete");
            }
        })
        .await
        .expect("a rejection in time");
        assert_eq!(reply.header("retry-after"), "1");
        assert!(
            reply.text().contains("receivers.otlp.in_flight"),
            "{}",
            reply.text()
        );
        holder.write_all(b"{}").await.unwrap();
        assert_eq!(
            answer(&mut holder).await.status,
            200,
            "who was there first is served"
        );
        assert_eq!(
            server
                .post("/v1/metrics", &[JSON], &vec![0x20; 30_000])
                .await
                .status,
            200
        );
        assert!(server.counters.of("http", Verdict::Busy) >= 1);
        server.end().await;
    });
}

#[test]
fn a_stalled_sender_is_disconnected() {
    run(async {
        let limits = Limits {
            stall_timeout: Duration::from_millis(50),
            head_timeout: Duration::from_millis(300),
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let mut in_the_body = TcpStream::connect(server.http).await.unwrap();
        in_the_body
            .write_all(head("POST", "/v1/metrics", &[JSON], 10).as_bytes())
            .await
            .unwrap();
        assert_eq!(answer(&mut in_the_body).await.status, 408);
        let answered = head("POST", "/v1/metrics", &[JSON], 0).replace("connection: close\r\n", "");
        for begun in [
            "",
            "P",
            "PRI * HT",
            "POST /v1/metrics HTTP/1.1\r\nhost",
            &answered,
        ] {
            let mut stream = TcpStream::connect(server.http).await.unwrap();
            stream.write_all(begun.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
                .await
                .expect("closed in time");
            assert_eq!(rest.starts_with(b"HTTP/1.1 200"), begun == answered);
        }
        server.end().await;
    });
}

#[test]
fn connections_over_the_limit_are_closed() {
    run(async {
        let limits = Limits {
            connections: 1,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let first = TcpStream::connect(server.http).await.unwrap();
        timeout(PATIENCE, async {
            while server.counters.connections() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the first is accepted");
        let mut second = TcpStream::connect(server.http).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, second.read_to_end(&mut rest))
            .await
            .expect("closed in time");
        assert_eq!((rest.len(), server.counters.rejected_connections()), (0, 1));
        drop(first);
        server.end().await;
    });
}

#[test]
fn a_request_in_flight_finishes_before_shutdown() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        let bytes = metrics();
        stream
            .write_all(head("POST", "/v1/metrics", &[PROTOBUF], bytes.len()).as_bytes())
            .await
            .unwrap();
        stream.write_all(&bytes[..5]).await.unwrap();
        timeout(PATIENCE, async {
            while server.counters.in_flight() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the head is read");
        server.stop.send_replace(true);
        stream.write_all(&bytes[5..]).await.unwrap();
        assert_eq!(answer(&mut stream).await.status, 200);
        assert_eq!(server.store.borrow().series(), 1);
        server.end().await;
    });
}

#[test]
fn the_error_for_a_busy_port_names_the_configuration_key() {
    run(async {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let free = Some(([127, 0, 0, 1], 0).into());
        for (key, grpc, http) in [
            ("receivers.otlp.grpc", Some(address), free),
            ("receivers.otlp.http", free, Some(address)),
        ] {
            let config = Config {
                grpc,
                http,
                ..Config::default()
            };
            let error = bind(config).await.expect_err("a busy port");
            assert_eq!(error.key, key);
            assert!(error.to_string().contains(key) && error.to_string().contains(&address.to_string()));
        }
    });
}

/// One call, as `grpc-status`, `grpc-message` and the message.
async fn call(
    address: SocketAddr,
    method: &str,
    headers: &[(&str, &str)],
    framed: Bytes,
) -> (String, String, Bytes) {
    let stream = TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io)
            .await
            .unwrap();
    let driver = spawn_local(connection);
    let mut request = http::Request::post(format!("http://x/opentelemetry.proto.collector.{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = timeout(
        PATIENCE,
        sender.send_request(request.body(Full::new(framed)).unwrap()),
    )
    .await;
    let response = response.expect("a response in time").expect("a response");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/grpc".parse().unwrap())
    );
    let head = response.headers().clone();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or(head);
    drop(sender);
    let _ = driver.await;
    let text = |name: &str| {
        trailers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    };
    (text("grpc-status"), text("grpc-message"), collected.to_bytes())
}

fn framed(flag: u8, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

const METRICS: &str = "metrics.v1.MetricsService/Export";

#[test]
fn grpc_calls_are_answered() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let zstd = zstd::stream::encode_all(&metrics()[..], 1).unwrap();
        for (method, headers, body) in [
            (METRICS, vec![], framed(0, &metrics())),
            (
                METRICS,
                vec![("grpc-encoding", "gzip")],
                framed(1, &gzip(&metrics())),
            ),
            (METRICS, vec![("grpc-encoding", "zstd")], framed(1, &zstd)),
            (METRICS, vec![("grpc-encoding", "gzip")], framed(0, &metrics())),
            (METRICS, vec![], framed(0, b"")),
            ("logs.v1.LogsService/Export", vec![], framed(0, b"")),
        ] {
            for address in [server.grpc, server.http] {
                let (status, text, message) = call(address, method, &headers, body.clone()).await;
                assert_eq!(
                    (status.as_str(), text.as_str(), &message[..]),
                    ("0", "", &[0, 0, 0, 0, 0][..])
                );
            }
        }
        let bad = body(vec![gauge("", vec![int(1)])]);
        let (status, _, message) = call(server.grpc, METRICS, &[], framed(0, &bad)).await;
        let partial = ExportMetricsServiceResponse::decode(&message[5..])
            .unwrap()
            .partial_success
            .unwrap();
        assert_eq!((status.as_str(), partial.rejected_data_points), ("0", 1));
        assert_eq!(server.counters.of("grpc", Verdict::Ok), 12);
        server.end().await;
    });
}

#[test]
fn invalid_grpc_calls_are_rejected_with_a_reason() {
    run(async {
        let limits = Limits {
            request_bytes: 1 << 16,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let bomb = gzip(&vec![0; 8 << 20]);
        for (method, headers, body, status, text) in [
            (
                METRICS,
                vec![],
                framed(0, &[0x0a, 0x05]),
                "3",
                "nothing was accepted",
            ),
            (METRICS, vec![], Bytes::from_static(b"\0\0"), "3", "one message"),
            (
                METRICS,
                vec![],
                Bytes::from_static(b"\0\0\0\0\x09abc"),
                "3",
                "9 bytes, but the message has 3",
            ),
            (METRICS, vec![], framed(7, b""), "3", "flag"),
            (
                METRICS,
                vec![("grpc-encoding", "gzip")],
                framed(1, b"no gzip, not at all"),
                "3",
                "Gzip",
            ),
            (
                METRICS,
                vec![("grpc-encoding", "gzip")],
                framed(1, &bomb),
                "8",
                "receivers.otlp.max_request",
            ),
            (
                METRICS,
                vec![("grpc-encoding", "snappy")],
                framed(1, b"x"),
                "12",
                "gzip, zstd",
            ),
            (
                METRICS,
                vec![],
                framed(0, &vec![0; 1 << 16]),
                "8",
                "receivers.otlp.max_request",
            ),
            (
                "profiles.v1.ProfilesService/Export",
                vec![],
                framed(0, b""),
                "12",
                "MetricsService, LogsService or TraceService",
            ),
        ] {
            let (got, message, _) = call(server.grpc, method, &headers, body).await;
            assert_eq!(got, status, "{message}");
            assert!(message.contains(text), "{message}");
        }
        server.end().await;
    });
}

#[test]
fn grpc_over_the_budget_gets_a_retry_hint() {
    run(async {
        let limits = Limits {
            in_flight_bytes: 1_000,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let (status, message, _) = call(server.grpc, METRICS, &[], framed(0, &vec![0; 2_000])).await;
        assert_eq!(status, "8", "{message}");
        assert!(message.contains("retry later"), "{message}");
        assert_eq!(server.counters.of("grpc", Verdict::Busy), 1);
        server.end().await;
    });
}
