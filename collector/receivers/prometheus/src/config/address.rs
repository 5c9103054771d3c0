//! Hosts, ports and paths.

use hyper::Uri;
use hyper::http::uri::{Authority, PathAndQuery};

/// A path and query that can be sent as they are.
pub(super) fn is_path(path: &str) -> bool {
    let is_sent = |c: char| c.is_ascii_graphic() && c != '#';
    path.starts_with('/') && path.chars().all(is_sent) && path.parse::<PathAndQuery>().is_ok()
}

/// The error text describes the mistake in the address.
pub(super) fn host_and_port(uri: &Uri) -> Result<(String, u16), &'static str> {
    let host = uri.host().unwrap_or_default();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() {
        return Err("missing host");
    }
    let authority = uri.authority().map_or("", Authority::as_str);
    let address = authority
        .rsplit_once('@')
        .map_or(authority, |(_, address)| address);
    match address.strip_prefix(host).and_then(|rest| rest.strip_prefix(':')) {
        None => Ok((name.to_owned(), 80)),
        Some(port) => match port.parse() {
            Ok(port) => Ok((name.to_owned(), port)),
            Err(_) => Err("the port is not a number up to 65535"),
        },
    }
}

pub(super) fn address_with_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
