//! Limits on bytes, connections and time; shutdown; busy ports.

use crate::harness::*;
use dichroic_receiver_otlp::{Config, Limits, bind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

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
            "the first sender is served"
        );
        assert_eq!(
            server
                .post("/v1/metrics", &[JSON], &vec![0x20; 30_000])
                .await
                .status,
            200
        );
        assert!(matches!(server.refused("http", "metrics")[..], [("busy", 1..)]));
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
        assert_eq!(server.refused("http", "metrics"), [("timeout", 1)]);
        let answered = head("POST", "/v1/metrics", &[JSON], 0).replace("connection: close\r\n", "");
        for started in [
            "",
            "P",
            "PRI * HT",
            "POST /v1/metrics HTTP/1.1\r\nhost",
            &answered,
        ] {
            let mut stream = TcpStream::connect(server.http).await.unwrap();
            stream.write_all(started.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            let _ = timeout(PATIENCE, stream.read_to_end(&mut rest))
                .await
                .expect("closed in time");
            assert_eq!(rest.starts_with(b"HTTP/1.1 200"), started == answered);
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
        assert!(rest.is_empty());
        assert_eq!(server.refused("http", "unknown"), [("connections", 1)]);
        drop(first);
        server.end().await;
    });
}

#[test]
fn a_sender_that_disconnects_or_does_not_use_http_is_counted() {
    run(async {
        let server = Server::start(Limits::default()).await;
        let head = head("POST", "/v1/metrics", &[JSON], 10);
        for (bytes, signal, reason) in [
            (head.as_bytes(), "metrics", ("aborted", 1)),
            (b"\x16\x03\x01\x02\x00", "unknown", ("not_http", 1)),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "unknown", ("not_http", 2)),
        ] {
            let mut stream = TcpStream::connect(server.http).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            if signal == "metrics" {
                while server.counters.in_flight() == 0 {
                    tokio::task::yield_now().await;
                }
                drop(stream);
            }
            timeout(PATIENCE, async {
                while server.refused("http", signal) != [reason] {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{reason:?}: {:?}", server.refused("http", signal)));
        }
        // A health check: connects and closes.
        drop(TcpStream::connect(server.http).await.unwrap());
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
