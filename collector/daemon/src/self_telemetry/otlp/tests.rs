use super::queue::SignalCounts;
use super::*;
use opentelemetry_http::HttpClient;
use std::io::Read;
use std::net::TcpListener;
use tracing_subscriber::prelude::*;

fn config(port: u16) -> OtlpExport {
    OtlpExport {
        endpoint: format!("http://127.0.0.1:{port}").parse().unwrap(),
        protocol: crate::config::telemetry::OtlpProtocol::Http,
    }
}

fn emit(export: &Export) {
    let subscriber = tracing_subscriber::registry().with(export.layers(EnvFilter::new("info")));
    tracing::subscriber::with_default(subscriber, || {
        let _span = tracing::info_span!(target: "dichroic::work", "work", size = 3).entered();
        tracing::info!(target: "dichroic::work", "done");
        tracing::debug!(target: "dichroic::work", "not exported");
        tracing::info!(target: "h2::codec", "of another crate");
        tracing::warn!(target: module_path!(), "about the export");
    });
}

fn lost(counts: &SignalCounts) -> u64 {
    counts.dropped().iter().map(|(_, n)| n).sum()
}

#[test]
fn an_unreachable_endpoint_drops_telemetry_and_does_not_delay_the_shutdown() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let export = start(&config(port)).unwrap();
    let counts = export.counts();
    emit(&export);
    let begun = Instant::now();
    export.finish(begun + Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((lost(&counts.traces), lost(&counts.logs)), (1, 1));
    assert_eq!((counts.traces.sent(), counts.logs.sent()), (0, 0));
}

#[tokio::test]
async fn the_cause_of_a_failed_request_is_reported() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let client = Client::new(&config(port));
    let request = hyper::Request::post("http://endpoint/v1/traces").body(bytes::Bytes::new());
    assert!(client.send_bytes(request.unwrap()).await.is_err());
    let failure = client.failure().unwrap();
    assert!(failure.contains("Connection refused"), "{failure}");
}

#[test]
fn an_endpoint_that_does_not_answer_does_not_delay_the_shutdown() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let export = start(&config(silent.local_addr().unwrap().port())).unwrap();
    let counts = export.counts();
    emit(&export);
    silent.set_nonblocking(true).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    let mut stream = loop {
        match silent.accept() {
            Ok((stream, _)) => break stream,
            Err(_) => assert!(Instant::now() < until, "nothing connects"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = [0; 15];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"POST /v1/traces");
    let begun = Instant::now();
    export.finish(begun + Duration::from_millis(200));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(counts.traces.dropped()[2], ("shutdown", 1));
    assert_eq!(counts.logs.dropped()[2], ("shutdown", 1));
}
