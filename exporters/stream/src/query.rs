//! The query of `/v1/stream`, as a subscription.
//!
//! | parameter | is |
//! |---|---|
//! | `match` | a name pattern; repeated, or several with commas between |
//! | `kind` | `event` (default), `log`, `metric` |
//! | `where` | `label:glob`, or `where.label=glob`; repeated: globs of one label are alternatives, labels must all match |
//! | `format` | `frames`, `ndjson` (default) or `sse`; wins over `Accept` |
//! | `every_ms`, `replay_ms`, `cursor` (`epoch,position,rows`), `buffer`, `on_full`, `sample`, `within_ms` | as in HELLO |
//!
//! A browser's `Last-Event-ID` is a cursor. An unknown parameter is an error, because an ignored filter would give wrong numbers.

use crate::config::Config;
use crate::registry::Format;
use crate::request::{BadRequest, Request, bad};
use dichroic_model::text::{InvalidQuery, decode_query};
use dichroic_wire::Subscribe;
use dichroic_wire::hello::{Cursor, OnFull, SubscribeKind};
use http::{HeaderMap, header};
use std::str::FromStr;

/// Parses and checks the query, and the headers `Accept` and `Last-Event-ID`.
///
/// # Errors
/// [`BadRequest`] for the first invalid parameter.
pub fn check(query: &str, headers: &HeaderMap, config: &Config) -> Result<(Request, Format), BadRequest> {
    let (subscribe, format) = parse(query, headers)?;
    Ok((Request::check(&subscribe, config)?, format))
}

fn parse(query: &str, headers: &HeaderMap) -> Result<(Subscribe, Format), BadRequest> {
    let mut subscribe = Subscribe::new(SubscribeKind::Event, Vec::new());
    let mut format = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decoded(key)?, decoded(value)?);
        match key.as_str() {
            "format" => format = Some(named_format(&value)?),
            key => parameter(&mut subscribe, key, value)?,
        }
    }
    if subscribe.patterns.is_empty() {
        return Err(bad("match", "missing; use match=** for all names"));
    }
    if subscribe.cursor.is_none()
        && subscribe.kind != SubscribeKind::Metric
        && let Some(id) = headers.get("last-event-id").and_then(|id| id.to_str().ok())
        && !id.is_empty()
    {
        subscribe.cursor = Some(cursor(id)?);
    }
    let format = match format {
        Some(format) => format,
        None => accepted_format(headers)?,
    };
    Ok((subscribe, format))
}

fn parameter(subscribe: &mut Subscribe, key: &str, value: String) -> Result<(), BadRequest> {
    match key {
        "match" => subscribe.patterns.extend(value.split(',').map(str::to_owned)),
        "kind" => {
            subscribe.kind = match value.as_str() {
                "event" => SubscribeKind::Event,
                "log" => SubscribeKind::Log,
                "metric" => SubscribeKind::Metric,
                _ => {
                    return Err(bad(
                        "kind",
                        format!("invalid value {value:?}; use event, log or metric"),
                    ));
                }
            }
        }
        "where" => match value.split_once(':') {
            Some((label, glob)) if !label.is_empty() => add_glob(subscribe, label, glob),
            _ => {
                return Err(bad(
                    "where",
                    format!("invalid value {value:?}; use where=label:glob"),
                ));
            }
        },
        "every_ms" => subscribe.every_ms = Some(number("every_ms", &value)?),
        "replay_ms" => subscribe.replay_ms = Some(number("replay_ms", &value)?),
        "buffer" => subscribe.buffer = Some(number("buffer", &value)?),
        "sample" => subscribe.sample = Some(number("sample", &value)?),
        "within_ms" => subscribe.within_ms = Some(number("within_ms", &value)?),
        "cursor" => subscribe.cursor = Some(cursor(&value)?),
        "on_full" => {
            subscribe.on_full = Some(match value.as_str() {
                "drop_oldest" => OnFull::DropOldest,
                "drop_newest" => OnFull::DropNewest,
                "disconnect" => OnFull::Disconnect,
                _ => {
                    let message =
                        format!("invalid value {value:?}; use drop_oldest, drop_newest or disconnect");
                    return Err(bad("on_full", message));
                }
            });
        }
        _ => match key.strip_prefix("where.") {
            Some(label) if !label.is_empty() => add_glob(subscribe, label, &value),
            _ => {
                const VALID: &str = "match, kind, where, format, every_ms, replay_ms, cursor, buffer, on_full, sample, within_ms";
                let key = dichroic_model::attributes::cut(key, 80);
                return Err(bad(
                    "query",
                    format!("unknown parameter {key:?}; valid are {VALID}"),
                ));
            }
        },
    }
    Ok(())
}

fn add_glob(subscribe: &mut Subscribe, label: &str, glob: &str) {
    subscribe
        .where_
        .entry(label.to_owned())
        .or_default()
        .push(glob.to_owned());
}

fn number<N: FromStr>(parameter: &'static str, text: &str) -> Result<N, BadRequest> {
    text.parse()
        .map_err(|_| bad(parameter, format!("invalid number {text:?}")))
}

fn cursor(text: &str) -> Result<Cursor, BadRequest> {
    let invalid = || {
        bad(
            "cursor",
            format!("invalid value {text:?}; use epoch,position,rows"),
        )
    };
    let parts: Vec<_> = text.split([',', ':']).collect();
    let [epoch, position, rows] = parts[..] else {
        return Err(invalid());
    };
    Ok(Cursor {
        epoch: epoch.parse().map_err(|_| invalid())?,
        position: position.parse().map_err(|_| invalid())?,
        rows: rows.parse().map_err(|_| invalid())?,
    })
}

fn named_format(name: &str) -> Result<Format, BadRequest> {
    match name {
        "frames" => Ok(Format::Frames),
        "ndjson" => Ok(Format::Ndjson),
        "sse" => Ok(Format::Sse),
        _ => Err(bad(
            "format",
            format!("invalid value {name:?}; use frames, ndjson or sse"),
        )),
    }
}

/// The format of the first supported media type; `ndjson` by default.
fn accepted_format(headers: &HeaderMap) -> Result<Format, BadRequest> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or("");
    for media in accept.split(',') {
        let mut parts = media.split(';').map(str::trim);
        match parts.next().unwrap_or("") {
            "application/vnd.dichroic.frames" => {
                return match parts.find_map(|parameter| parameter.strip_prefix("version=")) {
                    None | Some("1") => Ok(Format::Frames),
                    Some(version) => {
                        let message =
                            format!("version {version:?} of frames is not supported; use version=1");
                        Err(bad("Accept", message))
                    }
                };
            }
            "text/event-stream" => return Ok(Format::Sse),
            "application/x-ndjson" | "application/ndjson" => return Ok(Format::Ndjson),
            _ => {}
        }
    }
    Ok(Format::Ndjson)
}

/// The minor version of frames that the client reads, from the parameter of their media type.
pub(crate) fn minor(headers: &HeaderMap) -> u8 {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or("");
    let frames = accept
        .split(',')
        .find(|media| media.trim_start().starts_with("application/vnd.dichroic.frames"));
    let minor = frames.and_then(|media| {
        let mut parameters = media.split(';').map(str::trim);
        parameters.find_map(|parameter| parameter.strip_prefix("minor="))
    });
    minor.and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

fn decoded(text: &str) -> Result<String, BadRequest> {
    decode_query(text).map_err(|error| match error {
        InvalidQuery::Escape => bad(
            "query",
            format!("{text:?} has a % that is not followed by two hex digits"),
        ),
        InvalidQuery::Utf8 => bad("query", format!("{text:?} is not UTF-8")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Result<(Subscribe, Format), String> {
        parse(query, &HeaderMap::new()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_query_has_the_parameters_of_a_hello() {
        let (subscribe, format) = parsed(
            "match=a.**,b.*&match=c&kind=log&where=status:5*&where.status=404&where.http%2eroute=/a%20b+c:d\
             &every_ms=250&replay_ms=30000&cursor=7,42,3&buffer=128&on_full=disconnect&sample=0.5&within_ms=20&format=sse",
        )
        .unwrap();
        assert_eq!(subscribe.patterns, ["a.**", "b.*", "c"]);
        assert_eq!(subscribe.kind, SubscribeKind::Log);
        assert_eq!(subscribe.where_["status"], ["5*", "404"]);
        assert_eq!(subscribe.where_["http.route"], ["/a b c:d"]);
        let cursor = Cursor {
            epoch: 7,
            position: 42,
            rows: 3,
        };
        assert_eq!(
            (subscribe.every_ms, subscribe.replay_ms, subscribe.cursor),
            (Some(250), Some(30_000), Some(cursor))
        );
        assert_eq!(
            (
                subscribe.buffer,
                subscribe.on_full,
                subscribe.sample,
                subscribe.within_ms
            ),
            (Some(128), Some(OnFull::Disconnect), Some(0.5), Some(20))
        );
        assert_eq!(format, Format::Sse);
    }

    #[test]
    fn an_invalid_query_is_reported_by_parameter() {
        let check = |query: &str, message: &str| {
            let error = parsed(query).unwrap_err();
            assert!(error.contains(message), "{query}: {error}");
        };
        check("", "match: missing");
        check("kind=event", "match: missing");
        check("match=a&kind=trace", "kind: invalid value \"trace\"");
        check(
            "match=a&where=status",
            "where: invalid value \"status\"; use where=label:glob",
        );
        check("match=a&where=:x", "where:");
        check("match=a&where.=x", "unknown parameter \"where.\"");
        check("match=a&filter=x", "unknown parameter \"filter\"");
        check("match=a&buffer=-1", "buffer: invalid number \"-1\"");
        check("match=a&every_ms=99999999999", "every_ms:");
        check("match=a&within_ms=5ms", "within_ms: invalid number \"5ms\"");
        check(
            "match=a&cursor=1,2",
            "cursor: invalid value \"1,2\"; use epoch,position,rows",
        );
        check("match=a&format=xml", "format: invalid value \"xml\"");
        check("match=a&on_full=wait", "on_full:");
        check("match=%zz", "query:");
        check("match=%e", "query:");
        check("match=%+f", "query:");
        check("match=%ff", "not UTF-8");
    }

    #[test]
    fn accept_chooses_the_format_when_the_query_does_not() {
        let check = |accept: &str, query: &str, expected: Option<Format>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            let format = parse(query, &headers).ok().map(|(_, format)| format);
            assert_eq!(format, expected, "{accept} {query}");
        };
        let frames = "application/vnd.dichroic.frames; version=1";
        check(frames, "match=a", Some(Format::Frames));
        check(frames, "match=a&format=ndjson", Some(Format::Ndjson));
        check("application/vnd.dichroic.frames;version=2", "match=a", None);
        check("text/event-stream", "match=a", Some(Format::Sse));
        check("text/html, text/event-stream", "match=a", Some(Format::Sse));
        check("*/*", "match=a", Some(Format::Ndjson));
    }

    #[test]
    fn accept_names_the_minor_version_of_frames() {
        let check = |accept: &str, expected: u8| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(minor(&headers), expected, "{accept}");
        };
        check("application/vnd.dichroic.frames; version=1; minor=1", 1);
        check(
            "text/html;minor=3, application/vnd.dichroic.frames;minor=1;version=1",
            1,
        );
        check("application/vnd.dichroic.frames; version=1", 0);
        check("application/vnd.dichroic.frames; version=1; minor=x", 0);
        check("*/*; minor=1", 0);
    }
}
