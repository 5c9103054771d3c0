//! `/v1/stream`: one subscription as lines, as server-sent events and as frames.

mod common;

use common::{Client, EPOCH, World, events, run, run_with, until};
use dichroic_exporter_stream::{Body, Config};
use dichroic_model::{EventKind, GapReason, Limits};
use dichroic_wire::{Cell, EventsBuilder};
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use std::time::Duration;
use tokio::net::UnixStream;

fn get(query: &str) -> Parts {
    Request::get(format!("/v1/stream?{query}"))
        .body(())
        .unwrap()
        .into_parts()
        .0
}

async fn request(world: &World, query: &str) -> Response<Body> {
    world.exporter.http_response(&get(query)).await
}

/// Reads a body until it contains `end` `n` times.
async fn read(body: &mut Body, n: usize, end: &str) -> String {
    let mut text = String::new();
    while text.matches(end).count() < n {
        let frame = body.frame().await.expect("the body ended early").unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    text
}

fn publish_two(world: &World) {
    let schema = world.schema("phoenix.endpoint.stop");
    let source = world.source("shop@a");
    world.publish_rows(
        &schema,
        &source,
        &[
            vec![Cell::Int(-7), Cell::Str("GE\"T\n"), Cell::Int(200)],
            vec![
                Cell::Int(i64::MAX),
                Cell::Float(f64::INFINITY),
                Cell::CutStr {
                    whole_len: 9,
                    kept: "long",
                },
            ],
        ],
    );
    world
        .store
        .borrow_mut()
        .publish_gap(&schema, &source, GapReason::RateLimit, Some(3));
}

#[test]
fn ndjson_has_one_object_per_line() {
    run(|world| async move {
        let mut response = request(&world, "match=phoenix.**").await;
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        publish_two(&world);
        let text = read(response.body_mut(), 4, "\n").await;
        let expected = [
            format!(
                r#"{{"type":"hello","agent":"{}","epoch":{EPOCH},"position":0,"resumed":false}}"#,
                Config::default().agent
            ),
            format!(
                r#"{{"type":"event","name":"phoenix.endpoint.stop","time":{EPOCH},"source":"shop@a","measurements":{{"n":-7}},"metadata":{{"method":"GE\"T\n","status":200}}}}"#
            ),
            format!(
                r#"{{"type":"event","name":"phoenix.endpoint.stop","time":{},"source":"shop@a","measurements":{{"n":9223372036854775807}},"metadata":{{"method":"Infinity","status":"long…"}}}}"#,
                EPOCH + 1
            ),
            r#"{"type":"gap","reason":"rate limit","lost":3,"name":"phoenix.endpoint.stop"}"#.to_owned(),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    });
}

#[test]
fn sse_has_the_same_objects_with_cursors() {
    run(|world| async move {
        let mut response = request(&world, "match=**&format=sse").await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        publish_two(&world);
        let text = read(response.body_mut(), 4, "\n\n").await;
        let blocks: Vec<Vec<&str>> = text
            .split_terminator("\n\n")
            .map(|b| b.lines().collect())
            .collect();
        assert_eq!(blocks[0][0], "event: hello");
        assert_eq!(
            blocks[1][..2],
            ["event: event".to_owned(), format!("id: {EPOCH},0,1")]
        );
        assert!(blocks[1][2].starts_with(r#"data: {"type":"event","name":"phoenix.endpoint.stop""#));
        assert_eq!(blocks[2][1], format!("id: {EPOCH},1,1"));
        assert_eq!(blocks[3][0], "event: gap");
        assert_eq!(blocks[3].len(), 2, "a gap has no id");
    });
}

#[test]
fn last_event_id_resumes_the_stream() {
    run(|world| async move {
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        world.publish(&schema, &source, 0..10);
        let mut parts = get("match=**&where=method:GET&format=sse");
        let id = format!("{EPOCH},4,1");
        parts.headers.insert("last-event-id", id.parse().unwrap());
        let mut response = world.exporter.http_response(&parts).await;
        let text = read(response.body_mut(), 3, "\n\n").await;
        assert!(text.contains(r#""resumed":true"#), "{text}");
        let seen: Vec<_> = text.lines().filter(|l| l.contains("\"n\":")).collect();
        assert!(
            seen[0].contains("\"n\":6") && seen[1].contains("\"n\":8"),
            "{text}"
        );
    });
}

#[test]
fn an_idle_sse_stream_has_a_heartbeat() {
    let config = Config {
        ping_after: Duration::from_millis(10),
        ..Config::default()
    };
    run_with(config, Limits::default(), |world| async move {
        let mut response = request(&world, "match=**&format=sse").await;
        let text = read(response.body_mut(), 3, "\n\n").await;
        assert!(text.ends_with(": heartbeat\n\n: heartbeat\n\n"), "{text}");
    });
}

#[test]
fn frames_over_http_equal_those_of_the_socket() {
    run(|world| async move {
        let mut response = request(&world, "match=**&format=frames").await;
        assert_eq!(
            response.headers()["content-type"],
            "application/vnd.dichroic.frames; version=1"
        );
        let mut socket = world.connect(Some(events(&["**"])));
        socket.handshake().await;
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        world.publish(&schema, &source, 0..700);
        let mut over_http = Client::new(UnixStream::pair().unwrap().0);
        let mut pieces = 0;
        while over_http.event_frames == 0 {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            over_http.take(&frame.into_data().unwrap());
            pieces += 1;
        }
        assert!(pieces >= 1);
        assert_eq!(over_http.rows(700).await, socket.rows(700).await);
    });
}

#[test]
fn logs_have_their_fields_at_the_top_level() {
    run(|world| async move {
        let metadata = ["severity", "body", "trace_id", "span_id", "attributes"];
        let metadata = metadata.map(str::to_owned).to_vec();
        let schema = world
            .store
            .borrow_mut()
            .schema(EventKind::Log, "app", vec![], metadata);
        let (schema, source) = (schema.unwrap(), world.source("worker"));
        let mut response = request(&world, "match=**&kind=log&where=user:7").await;
        for user in [6_i64, 7] {
            // A map, read from the value table of a frame.
            let attributes = dichroic_wire::Value::Map([("user".to_owned(), user.into())].into());
            let mut bytes = Vec::new();
            attributes.encode(&mut bytes).unwrap();
            let mut scratch = dichroic_wire::EventsScratch::default();
            let body = one_value_body(&bytes);
            let events = dichroic_wire::Events::decode(&body, &mut scratch).unwrap();
            let row = vec![
                Cell::Int(17),
                Cell::Str("it broke"),
                Cell::Bytes(&[0xab, 1]),
                Cell::Null,
                events.cell(0, 1),
            ];
            world.publish_rows(&schema, &source, &[row]);
        }
        let text = read(response.body_mut(), 2, "\n").await;
        let expected = format!(
            r#"{{"type":"log","name":"app","time":{},"source":"worker","severity":17,"body":"it broke","trace_id":"ab01","span_id":null,"attributes":{{"user":7}}}}"#,
            EPOCH + 1
        );
        assert_eq!(text.lines().nth(1), Some(&*expected));
    });
}

/// The body of an EVENTS frame of one row whose only cell is this value.
fn one_value_body(value: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut builder = EventsBuilder::new(1, 0, 1, 1 << 20).unwrap();
    builder.push(0, &[Cell::Bool(true)]).unwrap();
    builder.finish(0, &mut frame).unwrap();
    frame.truncate(frame.len() - 1);
    frame.extend_from_slice(value);
    frame.split_off(5)
}

#[test]
fn a_metric_subscription_is_served_as_lines() {
    run(|world| async move {
        let mut response = request(&world, "match=**&kind=metric").await;
        let text = read(response.body_mut(), 1, "\n").await;
        assert!(text.starts_with(r#"{"type":"hello""#), "{text}");
        assert_eq!(world.exporter.subscribers()[0].kind, "metric");
    });
}

#[test]
fn an_invalid_request_gets_a_status_and_a_message() {
    let config = Config {
        subscribers: 1,
        ..Config::default()
    };
    run_with(config, Limits::default(), |world| async move {
        let _open = request(&world, "match=**").await;
        let check = async |query: &str, status: StatusCode, message: &str| {
            let response = request(&world, query).await;
            assert_eq!(response.status(), status, "{query}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(body.contains(message), "{query}: {body}");
        };
        check("match=a..b", StatusCode::BAD_REQUEST, "match: invalid pattern").await;
        check("kind=event", StatusCode::BAD_REQUEST, "match: missing").await;
        check("match=a&buffer=1", StatusCode::BAD_REQUEST, "buffer: 1 rows").await;
        check("match=a&sample=nan", StatusCode::BAD_REQUEST, "sample:").await;
        check("match=a", StatusCode::SERVICE_UNAVAILABLE, "too many subscribers").await;
        let mut post = get("match=a");
        post.method = http::Method::POST;
        let response = world.exporter.http_response(&post).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    });
}

#[test]
fn dropping_the_body_ends_the_subscription() {
    run(|world| async move {
        let mut response = request(&world, "match=**").await;
        read(response.body_mut(), 1, "\n").await;
        assert!(!response.body().is_end_stream());
        drop(response);
        until(|| world.exporter.subscribers().is_empty()).await;
    });
}

#[test]
fn a_slow_http_reader_gets_the_number_of_lost_rows() {
    run(|world| async move {
        let mut response = request(&world, "match=**&buffer=500").await;
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        let mut published = 0;
        while world.hop("stream").2 < 5_000 {
            world.publish(&schema, &source, published..published + 100);
            published += 100;
            until(|| world.hop("stream").0 == published as u64).await;
        }
        let (mut rows, mut lost) = (0, 0);
        let mut rest = String::new();
        while rows + lost < published {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            rest.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
            let whole = rest.rfind('\n').map_or(0, |at| at + 1);
            for line in rest[..whole].lines() {
                let object: serde_json::Value = serde_json::from_str(line).unwrap();
                match object["type"].as_str().unwrap() {
                    "event" => rows += 1,
                    "gap" => lost += object["lost"].as_i64().unwrap(),
                    _ => {}
                }
            }
            rest.drain(..whole);
        }
        assert_eq!(lost as u64, world.hop("stream").2);
    });
}

#[test]
fn a_string_shared_by_all_rows_is_written_for_each() {
    run(|world| async move {
        let schema = world.schema("a.b");
        let source = world.source("shop@a");
        let mut response = request(&world, "match=**&buffer=64").await;
        let long = "x".repeat(60_000);
        let rows: Vec<_> = (0..40)
            .map(|n| vec![Cell::Int(n), Cell::Str(&long), Cell::Int(1)])
            .collect();
        // One frame of 64 KB becomes 2.4 MB of lines.
        world.publish_rows(&schema, &source, &rows);
        let text = read(response.body_mut(), 41, "\n").await;
        for (n, line) in text.lines().skip(1).enumerate() {
            assert!(line.contains(&format!("\"n\":{n}}}")), "row {n}");
        }
        until(|| world.hop("stream") == (40, 40, 0, 0)).await;
    });
}

#[test]
fn a_stream_is_served_over_a_real_http_connection() {
    run(|world| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let exporter = world.exporter.clone();
        tokio::task::spawn_local(async move {
            let (io, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let exporter = exporter.clone();
                async move {
                    let (parts, _) = request.into_parts();
                    Ok::<_, std::convert::Infallible>(exporter.http_response(&parts).await)
                }
            });
            let io = hyper_util::rt::TokioIo::new(io);
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(io, service)
                .await;
        });
        let mut io = tokio::net::TcpStream::connect(address).await.unwrap();
        io.write_all(b"GET /v1/stream?match=a.*&format=ndjson HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        world.subscribed(1).await;
        world.publish(&world.schema("a.b"), &world.source("shop@a"), 0..3);
        let mut text = String::new();
        while text.matches("\"measurements\"").count() < 3 {
            let mut bytes = [0; 4_096];
            let n = io.read(&mut bytes).await.unwrap();
            text.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
        }
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        drop(io);
        until(|| world.exporter.subscribers().is_empty()).await;
    });
}
