//! OTLP/gRPC: calls, their statuses and trailers.

use crate::common::{Message, body, gauge, int};
use crate::harness::*;
use bytes::{BufMut, Bytes, BytesMut};
use dichroic_receiver_otlp::Limits;
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

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
        let requests = server.requests("grpc", "metrics");
        assert_eq!((requests.accepted, requests.partial), (10, 1));
        assert_eq!(server.requests("grpc", "logs").accepted, 2);
        server.end().await;
    });
}

#[test]
fn invalid_grpc_calls_are_rejected_with_a_reason() {
    run(async {
        let limits = Limits {
            max_request_bytes: 1 << 16,
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
        assert_eq!(
            server.refused("grpc", "metrics"),
            [("malformed", 4), ("corrupt", 1), ("too_large", 2)]
        );
        assert_eq!(server.refused("grpc", "unknown"), [("path", 1)]);
        server.end().await;
    });
}

#[test]
fn a_grpc_message_in_another_compression_than_stated_is_rejected() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let supported = "\"br\"; use gzip, zstd, deflate, snappy";
        for (encoding, message, status, text) in [
            ("br", &b"x"[..], "12", supported),
            ("snappy", b"no snappy, not at all", "3", "Snappy"),
            ("deflate", b"x", "3", "Deflate"),
        ] {
            let headers = [("grpc-encoding", encoding)];
            let (got, message, _) = call(server.grpc, METRICS, &headers, framed(1, message)).await;
            assert_eq!(got, status, "{message}");
            assert!(message.contains(text), "{message}");
        }
        assert_eq!(
            server.refused("grpc", "metrics"),
            [("corrupt", 2), ("encoding", 1)]
        );
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
        assert_eq!(server.refused("grpc", "metrics"), [("busy", 1)]);
        server.end().await;
    });
}
