//! The query of `/v1/stream`, and the headers of requests for pages.

use dichroic_exporter_prometheus::{accepts_gzip, negotiate};
use dichroic_exporter_stream::{Config, query};
use dichroic_receiver_prometheus::ingest::Format;
use http::{HeaderMap, HeaderValue, header};

/// A line each: the query, `Accept`, `Last-Event-ID`, and a name to match.
pub fn stream_query(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (query, accept, last, name) = (line(), line(), line(), line());
    let Ok(query) = std::str::from_utf8(query) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (header, value) in [
        (header::ACCEPT, accept),
        (header::HeaderName::from_static("last-event-id"), last),
    ] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(header, value);
        }
    }
    if let Ok(accept) = std::str::from_utf8(accept) {
        let _ = (
            negotiate(Some(accept)),
            accepts_gzip(Some(accept)),
            Format::of(Some(accept), None, true),
        );
    }
    let name = String::from_utf8_lossy(name);
    match query::check(query, &headers, &Config::default()) {
        Ok((request, _)) => {
            for pattern in &request.patterns {
                if pattern.matches(&name)
                    && let Some(literal) = pattern.literal()
                {
                    assert_eq!(literal, name);
                }
                assert!(pattern.overlaps(pattern));
            }
        }
        Err(error) => assert!(error.to_string().len() < 10_000, "a short message"),
    }
}
