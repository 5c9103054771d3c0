//! Keeps web pages of other sites from the collector's HTTP listeners. A browser on this machine reaches every listener of it: a page
//! may send requests to them, and read the responses if its name resolves to this machine (DNS rebinding).
//!
//! All listeners check each request of HTTP/1 here, before they read its body. Browsers have no HTTP/2 without TLS.
//!
//! - `Host`: `localhost`, loopback addresses and `allowed_hosts` pass. On an address beyond loopback all addresses pass too, since only a
//!   name can be rebound. A missing `Host` passes, since browsers always send it. A listener that requires a token accepts any name.
//! - `Sec-Fetch-Site: cross-site` is refused, and so is an `Origin` of another host, for browsers that do not send the former. A link that
//!   is followed to a page without side effects passes.
//!
//! [`LimitedStream`] is the socket of their connections: a peer that does not read its responses is disconnected.
#![forbid(unsafe_code)]

mod burst;
mod refused;
mod stream;

use burst::Bursts;
use dichroic_model::text::escape_control;
use http::header::{HOST, HeaderMap, ORIGIN};
use http::{Method, Uri, Version};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub use refused::Refused;
pub use stream::{LimitedStream, WriteLimit};

/// Longest part of a header that is shown, in characters.
const SHOWN: usize = 80;

/// The rules of one listener.
#[derive(Debug)]
pub struct Guard {
    listener: &'static str,
    loopback: bool,
    any_name: bool,
    pages: bool,
    allowed_hosts: Vec<String>,
    bursts: Bursts,
}

/// A listener.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Its name in the log.
    pub listener: &'static str,
    /// Names that pass beside `localhost`.
    pub allowed_hosts: Vec<String>,
    /// Whether it requires a token.
    pub token: bool,
    /// Whether all it serves are pages without side effects.
    pub pages: bool,
}

impl Guard {
    /// The guard of a listener that is bound to `address`.
    pub fn new(address: SocketAddr, rules: Rules) -> Self {
        Guard {
            listener: rules.listener,
            loopback: address.ip().to_canonical().is_loopback(),
            any_name: rules.token,
            pages: rules.pages,
            allowed_hosts: rules.allowed_hosts,
            bursts: Bursts::default(),
        }
    }

    /// Its name in the log.
    pub fn listener(&self) -> &'static str {
        self.listener
    }

    /// [`Guard::judge`]. A refusal is logged once in a burst, with the key that allows the host.
    ///
    /// # Errors
    /// The request must be answered with 403.
    pub fn check(
        &self,
        version: Version,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refused> {
        let checked = self.judge(version, method, uri, headers);
        if let Err(refused) = checked
            && let Some(suppressed) = self.bursts.due(refused, Instant::now())
        {
            let header = |name| {
                let value = headers.get(name)?;
                Some(shown(&String::from_utf8_lossy(value.as_bytes())))
            };
            tracing::warn!(
                listener = self.listener,
                reason = refused.as_str(),
                host = header(HOST.as_str()),
                origin = header(ORIGIN.as_str()),
                suppressed,
                help = refused.message(),
                "request refused"
            );
        }
        checked
    }

    /// Checks the head of a request.
    ///
    /// # Errors
    /// The request must be answered with 403.
    pub fn judge(
        &self,
        version: Version,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Refused> {
        if version >= Version::HTTP_2 {
            return Ok(());
        }
        let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
        let hosts = host
            .into_iter()
            .chain(uri.authority().map(|authority| authority.as_str()));
        if !self.any_name && !hosts.clone().all(|host| self.is_allowed(name_of(host))) {
            return Err(Refused::Host);
        }
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        if header("sec-fetch-site") == Some("cross-site") {
            let followed = method == Method::GET
                && header("sec-fetch-mode") == Some("navigate")
                && header("sec-fetch-dest") == Some("document");
            return match self.pages && followed {
                true => Ok(()),
                false => Err(Refused::CrossSite),
            };
        }
        // The origin of a page is a scheme and a host, or null.
        let same = |origin: &str| {
            let origin = origin.split_once("://").map(|(_, host)| name_of(host));
            origin.is_some_and(|origin| {
                hosts
                    .clone()
                    .any(|host| origin.eq_ignore_ascii_case(name_of(host)))
            })
        };
        match header(ORIGIN.as_str()) {
            Some(origin) if !same(origin) => Err(Refused::CrossSite),
            _ => Ok(()),
        }
    }

    fn is_allowed(&self, name: &str) -> bool {
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        match name.parse::<IpAddr>() {
            Ok(ip) => !self.loopback || ip.to_canonical().is_loopback() || self.is_named(name),
            Err(_) => self.is_named(name),
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.allowed_hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address and the final dot of a name.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            name.strip_suffix('.').unwrap_or(name)
        }
    }
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    escape_control(&cut).into_owned()
}

#[cfg(test)]
mod tests;
