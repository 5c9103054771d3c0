use super::queue::SignalCounts;
use super::*;
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
fn a_dead_endpoint_costs_counted_telemetry_and_no_time_beyond_the_deadline() {
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

#[test]
fn an_endpoint_that_never_answers_does_not_delay_the_shutdown() {
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
