//! Chooses format and encoding of a page by the `Accept` and `Accept-Encoding` headers.
//!
//! Called once per request. Every header gives a format: a simple page is more useful to a scraper than an error. Source: RFC 9110, sections 12.4.2 and 12.5.1; Prometheus "Content negotiation".

/// A format of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// A format, and the form of names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The format.
    pub format: Format,
    /// Names with other characters than ASCII are written as they are; otherwise they are escaped. Source: Prometheus "UTF-8 in
    /// Prometheus".
    pub utf8: bool,
}

impl Negotiated {
    /// The `Content-Type` of the page.
    pub fn content_type(self) -> &'static str {
        match (self.format, self.utf8) {
            (Format::Text, false) => "text/plain; version=0.0.4; charset=utf-8",
            (Format::Text, true) => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            (Format::OpenMetrics, false) => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            (Format::OpenMetrics, true) => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
            }
        }
    }
}

/// One element of an `Accept` header: media type, parameters, weight in thousandths.
struct Range<'a> {
    name: &'a str,
    version: Option<&'a str>,
    utf8: bool,
    weight: u32,
}

fn ranges(header: &str) -> impl Iterator<Item = Range<'_>> {
    header.split(',').map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let mut range = Range {
            name: parts.next().unwrap_or_default(),
            version: None,
            utf8: false,
            weight: 1000,
        };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match key.trim() {
                k if k.eq_ignore_ascii_case("version") => range.version = Some(value),
                k if k.eq_ignore_ascii_case("q") => range.weight = weight(value),
                k if k.eq_ignore_ascii_case("escaping") => range.utf8 = value == "allow-utf-8",
                // `charset` is ignored: a page is UTF-8.
                _ => {}
            }
        }
        range
    })
}

fn weight(text: &str) -> u32 {
    match text.parse::<f64>() {
        Ok(q) if (0.0..=1.0).contains(&q) => (q * 1000.0).round() as u32,
        _ => 0,
    }
}

/// The format that the header prefers; of equal weights the first. Text without a header, or without a supported format in it. Escaped
/// names are valid in every escaping scheme, so of these only `allow-utf-8` makes a difference.
pub fn negotiate(accept: Option<&str>) -> Negotiated {
    let text = Negotiated {
        format: Format::Text,
        utf8: false,
    };
    let mut best = (0, text);
    for range in ranges(accept.unwrap_or_default()) {
        let format = match (range.name.to_ascii_lowercase().as_str(), range.version) {
            ("application/openmetrics-text", None | Some("1.0.0")) => Format::OpenMetrics,
            ("text/plain", None | Some("0.0.4" | "1.0.0")) | ("text/*" | "*/*", _) => Format::Text,
            _ => continue,
        };
        if range.weight > best.0 {
            let utf8 = range.utf8 && (format == Format::OpenMetrics || range.version == Some("1.0.0"));
            best = (range.weight, Negotiated { format, utf8 });
        }
    }
    best.1
}

/// Whether the client accepts gzip.
pub fn accepts_gzip(accept_encoding: Option<&str>) -> bool {
    let mut any = false;
    for range in ranges(accept_encoding.unwrap_or_default()) {
        match range.name {
            name if name.eq_ignore_ascii_case("gzip") => return range.weight > 0,
            "*" => any = range.weight > 0,
            _ => {}
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_decides_the_format() {
        use Format::{OpenMetrics, Text};
        let check = |accept, expected| assert_eq!(negotiate(accept).format, expected, "{accept:?}");
        check(None, Text);
        check(Some(""), Text);
        check(Some("*/*"), Text);
        check(Some("text/html,application/xhtml+xml,*/*;q=0.8"), Text);
        check(Some("application/json"), Text);
        check(Some("application/openmetrics-text"), OpenMetrics);
        check(Some("application/openmetrics-text; version=1.0.0"), OpenMetrics);
        check(
            Some("application/openmetrics-text; version=\"1.0.0\""),
            OpenMetrics,
        );
        check(Some("application/openmetrics-text; version=0.0.1"), Text);
        check(Some("application/openmetrics-text; q=0"), Text);
        check(
            Some("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.5"),
            Text,
        );
        check(Some("APPLICATION/OpenMetrics-Text;Version=1.0.0"), OpenMetrics);
        check(Some("application/openmetrics-text;q=nonsense"), Text);
        // The default headers of Prometheus 2.42 and Prometheus 3.
        check(
            Some(
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ),
            OpenMetrics,
        );
        check(
            Some(
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ),
            OpenMetrics,
        );
        check(
            Some(
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3",
            ),
            Text,
        );
    }

    #[test]
    fn names_are_utf8_only_for_a_client_that_asks_for_them() {
        let check = |accept, expected: &str| {
            assert_eq!(negotiate(Some(accept)).content_type(), expected, "{accept:?}");
        };
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        );
        check(
            "text/plain; version=1.0.0; escaping=allow-utf-8",
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        );
        let old = "text/plain; version=0.0.4; charset=utf-8";
        check("text/plain;version=0.0.4;escaping=allow-utf-8", old);
        check("text/plain;version=1.0.0;escaping=underscores", old);
        check("*/*", old);
        check(
            "application/openmetrics-text;version=1.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        );
    }

    #[test]
    fn gzip_is_used_only_when_accepted() {
        let check = |header, expected| assert_eq!(accepts_gzip(header), expected, "{header:?}");
        check(None, false);
        check(Some("gzip"), true);
        check(Some("deflate, GZIP;q=0.5"), true);
        check(Some("gzip;q=0, *"), false);
        check(Some("*"), true);
        check(Some("br"), false);
    }
}
