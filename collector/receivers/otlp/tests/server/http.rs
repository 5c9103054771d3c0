//! OTLP/HTTP: statuses, headers and bodies.

use crate::common::Message;
use crate::harness::*;
use dichroic_receiver_otlp::{Limits, Service, json};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Path, headers, body, and the body of the response.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], &'a str);

#[test]
fn requests_are_accepted_in_every_encoding() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let json = r#"{"resourceMetrics":[]}"#.as_bytes();
        let zstd = zstd::stream::encode_all(&metrics()[..], 1).unwrap();
        let cases: [Case<'_>; 13] = [
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
        ];
        for (path, headers, body, expected) in cases {
            let reply = server.post(path, headers, body).await;
            assert_eq!(
                (reply.status, &*reply.body),
                (200, expected.as_bytes()),
                "{path} {headers:?}"
            );
        }
        let accepted = ["metrics", "logs", "unknown"].map(|signal| server.requests("http", signal).accepted);
        assert_eq!(accepted, [11, 1, 1]);
        assert_eq!(server.store.borrow().series(), 1);
        server.end().await;
    });
}

#[test]
fn a_partial_success_uses_the_encoding_of_the_request() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let text = "2 of 2 spans were rejected; 2: this kind of data is not supported [unsupported], turn off its exporter, such as with OTEL_TRACES_EXPORTER=none, or use another endpoint for it";
        for path in ["/v1/traces", "/"] {
            let reply = server.post(path, &[JSON], SPANS.as_bytes()).await;
            assert_eq!(
                (reply.status, reply.header("content-type")),
                (200, "application/json")
            );
            let expected = format!(r#"{{"partialSuccess":{{"errorMessage":"{text}","rejectedSpans":"2"}}}}"#);
            assert_eq!(reply.text(), expected);
            let spans = json::to_protobuf(Service::Traces, SPANS.as_bytes());
            let reply = server.post("/v1/traces", &[PROTOBUF], &spans.unwrap()).await;
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
        let partial = ["traces", "unknown"].map(|signal| server.requests("http", signal).partial);
        assert_eq!(partial, [3, 1]);
        server.end().await;
    });
}

/// Sends a request and checks the status and message of the error response.
async fn reject(
    server: &Server,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
    (status, message): (u16, &str),
) -> Reply {
    let reply = exchange(server.http, &head(method, path, headers, body.len()), body).await;
    let text = reply.text();
    assert_eq!(reply.status, status, "{method} {path} {headers:?}: {text}");
    assert!(text.contains(message), "{text}");
    reply
}

const METRICS: (&str, &str) = ("POST", "/v1/metrics");

#[test]
fn an_unknown_path_method_or_media_type_is_rejected() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let paths = (404, "/v1/metrics, /v1/logs and /v1/traces");
        reject(&server, ("POST", "/metrics"), &[PROTOBUF], b"", paths).await;
        let reply = reject(&server, ("GET", "/v1/metrics"), &[], b"", (405, "POST")).await;
        assert_eq!(reply.header("allow"), "POST");
        let types = (415, "application/x-protobuf or application/json");
        reject(&server, METRICS, &[], b"", types).await;
        for content_type in ["text/plain", "application/grpc-web+proto"] {
            let header = ("content-type", content_type);
            reject(&server, METRICS, &[header], b"", (415, "Content-Type")).await;
        }
        for (encoding, message) in [
            ("br", "\"br\"; use gzip, zstd, deflate, snappy"),
            ("lz4", "\"lz4\""),
        ] {
            let headers = [PROTOBUF, ("content-encoding", encoding)];
            let reply = reject(&server, METRICS, &headers, b"x", (415, message)).await;
            let accepted = "identity,gzip,zstd,deflate,snappy";
            assert_eq!(reply.header("accept-encoding"), accepted);
        }
        server.end().await;
    });
}

#[test]
fn an_invalid_body_is_rejected_with_a_reason() {
    run(async {
        let server = Server::start(Limits::default()).await;
        reject(
            &server,
            METRICS,
            &[PROTOBUF],
            &[0x0a, 0x05],
            (400, "nothing was accepted"),
        )
        .await;
        let gzip = [PROTOBUF, ("content-encoding", "gzip")];
        reject(&server, METRICS, &gzip, b"no", (400, "Gzip")).await;
        let number = b"{\"resourceMetrics\":7}";
        reject(&server, METRICS, &[JSON], number, (400, "line 1 column")).await;
        let keys = (400, "resourceMetrics, resourceLogs or resourceSpans");
        reject(&server, ("POST", "/"), &[JSON], b"{}", keys).await;
        let signal = (
            404,
            "protobuf sent to / does not name its signal; use /v1/metrics",
        );
        reject(&server, ("POST", "/"), &[PROTOBUF], &[0x0a, 0x00], signal).await;
        let reply = reject(&server, METRICS, &[PROTOBUF], &[0xff], (400, "")).await;
        assert_eq!(Status::decode(&*reply.body).unwrap().code, 3);
        let reply = reject(&server, METRICS, &[JSON], b"[", (400, "")).await;
        let text = reply.text();
        assert!(text.starts_with(r#"{"code":3,"message":"#), "{text}");
        assert_eq!(
            server.refused("http", "metrics"),
            [("malformed", 4), ("corrupt", 1)]
        );
        assert_eq!(server.refused("http", "unknown"), [("malformed", 1), ("path", 1)]);
        assert_eq!(server.store.borrow().series(), 0);
        server.end().await;
    });
}

#[test]
fn a_body_over_the_size_limit_is_rejected_before_and_after_decompression() {
    run(async {
        let limits = Limits {
            max_request_bytes: 1 << 20,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let bomb = gzip(&vec![0; 64 << 20]);
        let encoded = [PROTOBUF, ("content-encoding", "gzip")];
        reject(
            &server,
            METRICS,
            &encoded,
            &bomb,
            (413, "receivers.otlp.max_request"),
        )
        .await;
        let large = vec![0; (1 << 20) + 1];
        reject(&server, METRICS, &[PROTOBUF], &large, (413, "1048576 bytes")).await;
        assert_eq!(server.refused("http", "metrics"), [("too_large", 2)]);
        assert_eq!(server.store.borrow().series(), 0);
        server.end().await;
    });
}

#[test]
fn a_body_without_a_length_is_rejected_at_the_limit() {
    run(async {
        let limits = Limits {
            max_request_bytes: 1 << 16,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
        let reply = exchange(server.http, CHUNKED, chunk.repeat(32).as_bytes()).await;
        assert_eq!(reply.status, 413);
        server.end().await;
    });
}

#[test]
fn a_zstd_window_over_the_limit_is_rejected_with_the_limit() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(24).unwrap();
        std::io::Write::write_all(&mut encoder, &metrics()).unwrap();
        let body = encoder.finish().unwrap();
        let zstd = [PROTOBUF, ("content-encoding", "zstd")];
        reject(&server, METRICS, &zstd, &body, (415, "larger than 8 MiB")).await;
        assert_eq!(server.refused("http", "metrics"), [("window", 1)]);
        server.end().await;
    });
}

/// The head of a request in chunks.
const CHUNKED: &str = "POST /v1/metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n";

#[test]
fn an_invalid_chunk_is_malformed() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let chunks: [&[u8]; 4] = [
            b"xyz\r\n{}\r\n0\r\n\r\n",
            b"2\r\n{}0\r\n\r\n",
            b"fffffffffffffffff\r\n{}",
            b"2 2\r\n{}\r\n0\r\n\r\n",
        ];
        for body in chunks {
            let reply = exchange(server.http, CHUNKED, body).await;
            assert_eq!(reply.status, 400, "{body:?}");
            assert!(reply.text().contains("invalid chunk"), "{}", reply.text());
        }
        assert_eq!(server.refused("http", "metrics"), [("malformed", 4)]);
        server.end().await;
    });
}

/// Sends a whole body before it reads the response, as most clients do. Fails if the server does not take the body.
async fn upload(server: &Server, head: &str, body: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let sent = timeout(PATIENCE, stream.write_all(body)).await;
    sent.expect("the body is taken").expect("the connection is open");
    answer(&mut stream).await
}

#[test]
fn a_sender_that_writes_all_of_a_refused_body_sees_the_response() {
    run(async {
        let limits = Limits {
            max_request_bytes: 1 << 20,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        // More than the buffers of both sockets hold.
        let body = vec![b' '; 32 << 20];
        let post = |path: &str, headers: &[(&str, &str)]| head("POST", path, headers, body.len());
        let lz4 = [JSON, ("content-encoding", "lz4")];
        for (head, status) in [
            (post("/v1/metrics", &[JSON]), 413),
            (post("/v2/metrics", &[JSON]), 404),
            (post("/v1/metrics", &[("content-type", "text/plain")]), 415),
            (post("/v1/metrics", &lz4), 415),
        ] {
            assert_eq!(upload(&server, &head, &body).await.status, status, "{head}");
        }
        let chunk = [b"100000\r\n", &body[..1 << 20], b"\r\n"].concat();
        let chunked = [&chunk.repeat(32)[..], b"0\r\n\r\n"].concat();
        assert_eq!(upload(&server, CHUNKED, &chunked).await.status, 413);
        server.end().await;
    });
}

#[test]
fn a_sender_that_waits_for_permission_is_refused_at_once() {
    run(async {
        let limits = Limits {
            max_request_bytes: 1 << 20,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let head = head(
            "POST",
            "/v1/metrics",
            &[JSON, ("expect", "100-continue")],
            2 << 20,
        );
        let head = head.replace("connection: close\r\n", "");
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let reply = answer(&mut stream).await;
        assert_eq!((reply.status, reply.header("connection")), (413, "close"));
        server.end().await;
    });
}

#[test]
fn a_connection_serves_on_after_a_refused_body() {
    run(async {
        let limits = Limits {
            max_request_bytes: 1 << 20,
            ..Limits::default()
        };
        let server = Server::start(limits).await;
        let body = vec![b' '; 2 << 20];
        let refused = head("POST", "/v1/metrics", &[JSON], body.len()).replace("connection: close\r\n", "");
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(refused.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let bytes = metrics();
        let accepted = head("POST", "/v1/metrics", &[PROTOBUF], bytes.len());
        stream.write_all(accepted.as_bytes()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(answer(&mut stream).await.status, 413);
        assert_eq!(server.requests("http", "metrics").accepted, 1);
        server.end().await;
    });
}
