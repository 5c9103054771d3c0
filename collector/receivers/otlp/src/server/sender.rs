//! The sender of a request.

use dichroic_model::attributes::cut;
use http::HeaderMap;
use http::header::USER_AGENT;
use std::net::IpAddr;

/// Most bytes of a user agent in the log.
const USER_AGENT_BYTES: usize = 128;

/// The sender of a request, for the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    pub(super) peer: IpAddr,
    /// Empty without one.
    pub(super) user_agent: String,
}

impl Sender {
    pub(super) fn new(peer: IpAddr, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(USER_AGENT).map_or(&[][..], |value| value.as_bytes());
        // A cut inside a character is at the end of what is kept, or after it.
        let start = String::from_utf8_lossy(&user_agent[..user_agent.len().min(2 * USER_AGENT_BYTES)]);
        Sender {
            peer,
            user_agent: cut(&start, USER_AGENT_BYTES).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::net::Ipv4Addr;

    #[test]
    fn a_user_agent_is_cut_and_its_invalid_bytes_are_replaced() {
        let check = |value: &[u8], expected: &str| {
            let value = HeaderValue::from_bytes(value).unwrap();
            let headers = HeaderMap::from_iter([(USER_AGENT, value)]);
            let sender = Sender::new(Ipv4Addr::LOCALHOST.into(), &headers);
            assert_eq!(sender.user_agent, expected);
        };
        check(b"sdk/1.0", "sdk/1.0");
        check(b"sdk\xff/1.0", "sdk\u{fffd}/1.0");
        check("größe".as_bytes(), "größe");
        check(&[b'a'; 5_000], &"a".repeat(USER_AGENT_BYTES));
    }
}
